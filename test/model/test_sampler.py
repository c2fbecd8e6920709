"""Schedule, windows and blending on networks whose answers are known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dkt_ros.model.sampler import (
    Embed,
    as_they_are,
    blend_weights,
    blended_velocity,
    initial_noise,
    sample,
    sigmas,
    timesteps,
)
from dkt_ros.model.windows import window_spans

LENGTHS = st.integers(1, 80)
WINDOWS = st.integers(1, 30).flatmap(lambda w: st.tuples(st.just(w), st.integers(0, w - 1)))


class Towards:
    """A network whose flow ends at `data`: v = (x - data) / sigma, exact for straight paths."""

    def __init__(self, data: torch.Tensor) -> None:
        self.data = data
        self.lengths: list[int] = []

    def velocity(
        self, noisy: torch.Tensor, rgb_latents: torch.Tensor, timestep: torch.Tensor | float
    ) -> torch.Tensor:
        self.lengths.append(noisy.shape[2])
        return (noisy - rgb_latents * self.data) / (torch.as_tensor(timestep) / 1000.0)


def test_published_sigmas_of_five_steps() -> None:
    assert sigmas(5, 5.0).tolist() == pytest.approx([1, 0.9524, 0.8824, 0.7692, 0.5556], abs=1e-4)
    assert timesteps(sigmas(1, 5.0)).tolist() == [1000.0]
    assert sigmas(4, 1.0).tolist() == pytest.approx([1, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        sigmas(steps, 5.0)


def test_noise_is_one_draw_of_its_seed() -> None:
    shape = (1, 16, 2, 4, 6)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(initial_noise(shape, 3), torch.randn(shape, generator=generator))
    assert not torch.equal(initial_noise(shape, 3), initial_noise(shape, 4))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [(0, 1)]),
        (21, [(0, 21)]),
        (22, [(0, 21), (18, 22)]),
        (39, [(0, 21), (18, 39)]),
        (40, [(0, 21), (18, 39), (36, 40)]),
    ],
)
def test_windows_of_21_with_3_shared(length: int, expected: list[tuple[int, int]]) -> None:
    assert window_spans(length, 21, 3) == expected


@settings(deadline=None)
@given(LENGTHS, WINDOWS)
def test_windows_cover_the_clip_and_share_the_overlap(length: int, sizes: tuple[int, int]) -> None:
    window, overlap = sizes
    spans = window_spans(length, window, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    for (start, stop), (after, end) in pairwise(spans):
        assert stop - start == window
        assert stop - after == overlap
        assert end - after > overlap


@settings(deadline=None)
@given(LENGTHS, WINDOWS)
def test_every_frame_has_weight(length: int, sizes: tuple[int, int]) -> None:
    total = torch.zeros(length)
    for start, stop in window_spans(length, *sizes):
        weights = blend_weights(start, stop, length, sizes[1])
        assert len(weights) == stop - start
        assert weights.min() > 0
        assert weights.max() <= 1
        total[start:stop] += weights
    assert total.min() > 0


def test_ramps_are_linear_and_only_between_windows() -> None:
    sixths = [1 / 6, 3 / 6, 5 / 6]
    middle = blend_weights(18, 39, 60, 3).tolist()
    assert middle[:3] == pytest.approx(sixths)
    assert middle[-3:] == pytest.approx(sixths[::-1])
    assert set(middle[3:-3]) == {1.0}
    assert blend_weights(0, 21, 60, 3).tolist()[:3] == [1, 1, 1]
    assert blend_weights(39, 60, 60, 3).tolist()[-3:] == [1, 1, 1]


@pytest.mark.parametrize(("window", "overlap"), [(0, 0), (3, 3), (3, -1)])
def test_windows_that_cannot_advance_are_refused(window: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        window_spans(10, window, overlap)


@settings(deadline=None)
@given(LENGTHS, WINDOWS, st.integers(1, 6))
def test_sampling_ends_at_the_data_with_any_windows(
    length: int, sizes: tuple[int, int], steps: int
) -> None:
    """Where all windows agree, blending must not show, and Euler along straight paths is exact."""
    data = torch.tensor(0.3)
    seen = []
    model = Towards(data)
    noise = initial_noise((1, 2, length, 1, 1), 1)
    result = sample(
        model,
        torch.ones_like(noise),
        noise,
        steps=steps,
        shift=5.0,
        window=sizes[0],
        overlap=sizes[1],
        on_progress=lambda done, total: seen.append((done, total)),
    )
    torch.testing.assert_close(result, torch.full_like(noise, 0.3), atol=1e-5, rtol=0)
    evaluations = steps * len(window_spans(length, *sizes))
    assert seen == [(n + 1, evaluations) for n in range(evaluations)]
    assert max(model.lengths) <= sizes[0]


def test_windows_that_differ_are_blended_by_their_weights() -> None:
    class Counter:
        calls = 0

        def velocity(
            self, noisy: torch.Tensor, rgb_latents: torch.Tensor, timestep: torch.Tensor | float
        ) -> torch.Tensor:
            self.calls += 1
            return torch.full_like(noisy, float(self.calls))

    x = torch.zeros(1, 1, 5, 1, 1)
    v = blended_velocity(Counter(), x, x, 1000.0, window=3, overlap=1)
    assert v.flatten().tolist() == pytest.approx([1, 1, 1.5, 2, 2])
    v = blended_velocity(Counter(), x, x, 1000.0, window=4, overlap=2)
    # Two shared frames: weights 3/4, 1/4 and 1/4, 3/4.
    assert v.flatten().tolist() == pytest.approx([1, 1, 1.25, 1.75, 2])


@settings(deadline=None)
@given(LENGTHS, WINDOWS, st.integers(1, 3))
def test_windows_are_embedded_one_at_a_time_and_a_lone_one_once(
    length: int, sizes: tuple[int, int], steps: int
) -> None:
    embedded: list[int] = []

    def embed(rgb_latents: torch.Tensor) -> torch.Tensor:
        embedded.append(rgb_latents.shape[2])
        return 2 * rgb_latents

    def run(rgb_latents: torch.Tensor, embed: Embed = as_they_are) -> torch.Tensor:
        return sample(
            Towards(torch.tensor(0.3)),
            rgb_latents,
            initial_noise((1, 2, length, 1, 1), 1),
            steps=steps,
            shift=5.0,
            window=sizes[0],
            overlap=sizes[1],
            embed=embed,
        )

    rgb_latents = initial_noise((1, 2, length, 1, 1), 2)
    assert torch.equal(run(rgb_latents, embed), run(2 * rgb_latents))
    lengths = [stop - start for start, stop in window_spans(length, *sizes)]
    assert embedded == lengths * (1 if len(lengths) == 1 else steps)
