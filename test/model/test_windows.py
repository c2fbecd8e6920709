"""The windows that graphs are made for, and a warm-up runs, are those that samplers ask for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dkt_ros.model.live_options import PRESETS, LiveOptions
from dkt_ros.model.live_sampler import LiveSampler
from dkt_ros.model.sampler import sample
from dkt_ros.model.windows import clip_latents, exact_windows, live_windows, windows_until_full

SHAPE = (2, 3, 4)


class Listener:
    """A network that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def velocity(
        self,
        noisy: torch.Tensor,
        rgb_latents: torch.Tensor,
        timestep: torch.Tensor | float,
        keep: int | None = None,
    ) -> torch.Tensor:
        frames = noisy.shape[2]
        self.asked.append((frames, frames if keep is None else keep))
        return noisy[:, :, -self.asked[-1][1] :]


@pytest.mark.parametrize("publish", ["latest", "all"])
@pytest.mark.parametrize(
    ("window", "new"), [*((p.window, p.new) for p in PRESETS.values()), (1, 1), (3, 3), (7, 2)]
)
def test_live(window: int, new: int, publish: str) -> None:
    """The windows that LivePredictor denoises over a long stream, in the order they come up."""
    network = Listener()
    sampler = LiveSampler(
        network, steps=1, shift=5.0, window=window, new=new, warm_start=None, seed=1
    )

    def denoise(count: int) -> torch.Tensor:
        return sampler.denoise(torch.zeros(1, 1, count, 1), SHAPE)

    sampler.commit(denoise(1), torch.zeros(1, 1, 1, 1))
    for _ in range(10):
        if publish == "all":
            for part in range(1, new):
                denoise(part)
        sampler.commit(denoise(new), torch.zeros(1, 1, new, 1))
    options = LiveOptions(window=window, new=new, publish=publish)
    assert live_windows(options) == tuple(dict.fromkeys(network.asked))


@pytest.mark.parametrize("publish", ["latest", "all"])
@pytest.mark.parametrize(
    ("options", "windows"),
    [
        *zip((PRESETS[name] for name in ("quality", "balanced", "fast")), (2, 2, 1), strict=True),
        (LiveOptions(window=1, new=1), 0),
        (LiveOptions(window=3, new=3), 1),
        (LiveOptions(window=7, new=2), 3),
    ],
)
def test_a_stream_is_full_once_its_windows_grow_no_more(
    options: LiveOptions, windows: int, publish: str
) -> None:
    assert windows_until_full(replace(options, publish=publish)) == windows


@pytest.mark.parametrize(
    ("longest", "new", "latents"),
    [(0, 3, None), (1, 3, 4), (2, 1, 2), (4, 3, 4), (6, 3, 4), (7, 3, 7), (21, 4, 21)],
)
def test_a_clip_is_the_first_frame_and_whole_windows(
    longest: int, new: int, latents: int | None
) -> None:
    assert clip_latents(longest, new) == latents


@pytest.mark.parametrize("frames", [[1], [5], [1, 5], [81], [200, 9], [82]])
@pytest.mark.parametrize(("window", "overlap"), [(21, 3), (4, 1), (1, 0)])
def test_exact(frames: list[int], window: int, overlap: int) -> None:
    network = Listener()
    for count in frames:
        latents = torch.zeros(1, 1, 1 + -(-(count - 1) // 4), 1, 1)
        sample(network, latents, latents, steps=1, shift=5.0, window=window, overlap=overlap)
    assert set(exact_windows(frames, window, overlap)) == set(network.asked)


def test_an_overlap_shrinks_to_fit_a_small_window() -> None:
    assert exact_windows([17], 2, 3) == exact_windows([17], 2, 1)
