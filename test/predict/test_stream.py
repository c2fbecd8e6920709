"""The live sampler's windows, noise and state, and what a stream of frames gets when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.fused_scenes import rendered_frame
from torch import Tensor

from dkt_ros.arrays import to_host
from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason, Frame
from dkt_ros.model.canvas import Canvas
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.live_options import PRESETS, PUBLISH, LiveOptions
from dkt_ros.model.live_sampler import LiveSampler, frame_noise
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import sigmas
from dkt_ros.model.streaming_vae import Stream
from dkt_ros.predict.load import load_predictor
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import black_frame
from dkt_ros.predict.stream import LiveDisparity, LivePredictor, StreamPredictor

SHAPE = (2, 1, 1)


class Recorder:
    """A network whose flow ends at its conditions; it keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, float, int]] = []

    def velocity(
        self, noisy: Tensor, rgb_latents: Tensor, timestep: Tensor | float, keep: int | None = None
    ) -> Tensor:
        assert keep is not None
        assert noisy.shape[2] == rgb_latents.shape[2]
        self.calls.append((noisy, float(timestep) / 1000, keep))
        target = rgb_latents[:, :1, -keep:]
        return (noisy[:, :, -keep:] - target) / (float(timestep) / 1000)


def sampler(model: Recorder, **changes: Any) -> LiveSampler:
    options: dict[str, Any] = {
        "steps": 5,
        "shift": 5.0,
        "window": 4,
        "new": 2,
        "warm_start": None,
        "seed": 1,
    }
    return LiveSampler(model, **(options | changes))


def conditions(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def noise_of(index: int, **changes: Any) -> Tensor:
    """What a sampler starts latent `index` from."""
    model = Recorder()
    fresh = sampler(model, **changes)
    fresh.index = index
    fresh.denoise(conditions(0.0), SHAPE)
    return model.calls[0][0]


def test_windows_grow_and_then_slide() -> None:
    model = Recorder()
    live = sampler(model)
    lengths = []
    for group in ([0.1], [0.2, 0.3], [0.4, 0.5], [0.6, 0.7]):
        z = live.denoise(conditions(*group), SHAPE)
        torch.testing.assert_close(z[0, 0].flatten(), torch.tensor(group), atol=1e-5, rtol=0)
        live.commit(z, conditions(*group))
        lengths.append((model.calls[-1][0].shape[2], model.calls[-1][2]))
    assert lengths == [(1, 1), (3, 2), (4, 2), (4, 2)]
    assert live.index == 7


def test_context_is_put_on_its_own_path_at_every_step() -> None:
    model = Recorder()
    live = sampler(model)
    first = live.denoise(conditions(0.5), SHAPE)
    live.commit(first, conditions(0.5))
    model.calls.clear()
    live.denoise(conditions(0.1, 0.2), SHAPE)
    assert [level for _, level, _ in model.calls] == pytest.approx(sigmas(5, 5.0).tolist())
    for noisy, level, _ in model.calls:
        expected = (1 - level) * first + level * noise_of(0)
        torch.testing.assert_close(noisy[:, :, :1], expected, atol=1e-6, rtol=0)


def test_noise_belongs_to_absolute_time_and_seed() -> None:
    model = Recorder()
    live = sampler(model)
    for group in (conditions(0.5), conditions(0.1, 0.2)):
        live.commit(live.denoise(group, SHAPE), group)
    model.calls.clear()
    live.denoise(conditions(0.3), SHAPE)
    assert torch.equal(model.calls[0][0][:, :, -1:], noise_of(3))
    assert not torch.equal(noise_of(3), noise_of(2))
    assert not torch.equal(noise_of(3), noise_of(3, seed=2))


@pytest.mark.parametrize(
    ("warm_start", "levels"),
    [(None, 5), (1.0, 5), (0.9, 3), (0.8, 2), (0.1, 1)],
)
def test_warm_start_leaves_out_the_first_steps(warm_start: float | None, levels: int) -> None:
    model = Recorder()
    live = sampler(model, warm_start=warm_start)
    z = live.denoise(conditions(0.5, 0.6), SHAPE)
    assert len(model.calls) == 5, "nothing to start from yet"
    live.commit(z, conditions(0.5, 0.6))
    model.calls.clear()
    live.denoise(conditions(0.1), SHAPE)
    schedule = sigmas(5, 5.0).tolist()[-levels:]
    assert [level for _, level, _ in model.calls] == pytest.approx(schedule)
    started = model.calls[0][0][:, :, -1:]
    expected = (1 - schedule[0]) * z[:, :, -1:] + schedule[0] * noise_of(2)
    torch.testing.assert_close(started, expected, atol=1e-6, rtol=0)


def test_a_stream_begins_where_the_warm_start_says(tiny_fast: FastNetwork) -> None:
    asked = []
    for warm_start in (None, 0.8):
        steps: list[tuple[str, int, int]] = []
        options = LiveOptions(1, 1, steps=5, warm_start=warm_start, scene_cut=None)
        live = LivePredictor(tiny_fast, options, lambda *step, to=steps: to.append(step))
        results(live, video(5))
        asked.append(sum(stage == "denoise" for stage, _, _ in steps))
    assert asked == [5 + 5, 5 + 2]


def test_state_is_bounded_and_reset_forgets_it() -> None:
    live = sampler(Recorder())
    sizes = []
    for _ in range(6):
        group = conditions(0.1, 0.2)
        live.commit(live.denoise(group, SHAPE), group)
        sizes.append(live.nbytes())
    assert len(set(sizes)) == 1
    live.reset()
    assert (live.index, live.context, live.nbytes()) == (0, 0, 0)


def video(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 48, 3), np.uint8)


def results(live: LivePredictor, frames: np.ndarray) -> list[LiveDisparity | None]:
    return [live.push(frame) for frame in frames]


@pytest.mark.parametrize(("window", "new"), [(1, 1), (3, 1), (3, 2), (2, 2)])
def test_latest_comes_with_the_first_frame_and_every_full_window(
    tiny_fast: FastNetwork, window: int, new: int
) -> None:
    live = LivePredictor(tiny_fast, LiveOptions(window, new, scene_cut=None))
    given = [i for i, result in enumerate(results(live, video(18))) if result is not None]
    assert given == list(range(0, 18, 4 * new))


@torch.inference_mode()
@pytest.mark.parametrize(
    ("window", "new", "publish"), [(2, 1, "latest"), (3, 2, "latest"), (2, 1, "all")]
)
def test_a_stream_is_the_plain_network_over_windows_with_context(
    tiny_fast: FastNetwork,
    plain_network: DktNetwork,
    monkeypatch: pytest.MonkeyPatch,
    window: int,
    new: int,
    publish: str,
) -> None:
    frames = video(1 + 4 * 4)
    if publish == "all":  # a latent's frames all alike: as a look ahead takes them to be
        frames[1:] = frames[4::4].repeat(4, axis=0)
    monkeypatch.setattr(tiny_fast, "info", replace(tiny_fast.info, sigma_shift=3.0))
    live = LivePredictor(
        tiny_fast,
        LiveOptions(window, new, steps=3, seed=7, scene_cut=None, publish=publish),
    )
    ours = [result.disparity for result in results(live, frames) if result is not None]

    canvas = Canvas((32, 48), None, 16)
    rgb = plain_network.encode_rgb(canvas.paint(frames))
    noise = torch.cat([frame_noise(7, index, (16, 4, 6)) for index in range(5)], dim=2)
    levels = [*sigmas(3, 3.0).tolist(), 0.0]
    known = torch.zeros_like(noise[:, :, :0])
    while (count := known.shape[2]) < 5:
        stop = count + (new if count else 1)
        start = max(0, stop - window)
        x = noise[:, :, count:stop]
        for level, after in pairwise(levels):
            context = (1 - level) * known[:, :, start:] + level * noise[:, :, start:count]
            noisy = torch.cat([context, x], dim=2)
            v = plain_network.velocity(noisy, rgb[:, :, start:stop], 1000 * level)
            x = x + (after - level) * v[:, :, count - start :]
        known = torch.cat([known, x], dim=2)
    every = 4 * new if publish == "latest" else 1
    expected = canvas.disparity(plain_network.decode(known))[::every]
    assert np.abs(np.stack(ours) - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("publish", "clip", "window", "new", "latents"),
    [
        *(("latest", *of) for of in [(3, 3, 2, 3), (5, 2, 1, 5), (6, 3, 2, 5), (2, 1, 1, 2)]),
        *(("all", *of) for of in [(3, 3, 2, 3), (2, 1, 1, 2)]),
    ],
)
def test_a_stream_of_short_clips_begins_each_with_the_last_frame_of_the_one_before(
    tiny_fast: FastNetwork,
    monkeypatch: pytest.MonkeyPatch,
    publish: str,
    clip: int,
    window: int,
    new: int,
    latents: int,
) -> None:
    options = LiveOptions(window, new, publish=publish, scene_cut=None)
    stride = 4 * (latents - 1)
    frames = video(1 + 2 * stride)
    expected = results(LivePredictor(tiny_fast, options), frames[: stride + 1])
    expected += results(LivePredictor(tiny_fast, options), frames[stride:])[1:]
    monkeypatch.setattr(tiny_fast, "info", replace(tiny_fast.info, clip=clip))
    for ours, theirs in zip(
        results(LivePredictor(tiny_fast, options), frames), expected, strict=True
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            np.testing.assert_array_equal(ours.disparity, theirs.disparity)
            assert (ours.frames, ours.restarted) == (theirs.frames, None)


@pytest.mark.parametrize("preset", PRESETS)
def test_dkt_nano_goes_on_saying_what_it_says_at_first(preset: str) -> None:
    """One picture, 33 times."""
    predictor, frame = nano_stream(live_preset=preset)
    assert predictor.answers_every == 4
    answers = [answer for _ in range(33) if (answer := predictor.push(frame)) is not None]
    first, *later = [to_host(answer.disparity).ravel() for answer in answers]
    assert len(later) == 8, "windows fit into the checkpoint's clips of 5 frames"
    assert min(np.corrcoef(first, disparity)[0, 1] for disparity in later) > 0.95
    assert min(disparity.std() for disparity in later) > 0.6 * first.std()
    assert not any(answer.restarted for answer in answers)


def nano_stream(clip: int | None = None, **options: Any) -> tuple[StreamPredictor, Frame]:
    """dkt-nano at work on a rendered picture, its streams cut into other clips if asked for."""
    predictor = load_predictor(
        PredictorOptions(mode="live", inference_size="64x112", device="cpu", **options)
    )
    assert isinstance(predictor, StreamPredictor)
    if clip is not None:
        network = predictor.network
        network.info = replace(network.info, clip=clip)  # type: ignore[misc]
        predictor = StreamPredictor(network, predictor.options)
    picture = rendered_frame().rgb
    height, width = picture.shape[:2]
    return predictor, replace(black_frame((height, width)), rgb=picture)


def spoil_later_latents(predictor: StreamPredictor) -> None:
    """All but a stream's first come with their channels the other way round."""
    network = predictor.network
    assert isinstance(network, FastNetwork)
    for name, module in network.encoder.named_modules():
        if name.endswith("time_conv"):
            with torch.no_grad():
                module.weight.copy_(module.weight.flip(0))


@pytest.mark.parametrize("publish", PUBLISH)
def test_a_stream_that_drifts_begins_anew_and_says_so(publish: str) -> None:
    predictor, frame = nano_stream(clip=0, live_publish=publish)
    spoil_later_latents(predictor)
    answers = {i: answer for i in range(29) if (answer := predictor.push(frame)) is not None}
    restarts = [i for i, answer in answers.items() if answer.restarted is FlushReason.DRIFT]
    assert restarts
    first = to_host(answers[0].disparity)
    for i in restarts:
        np.testing.assert_allclose(to_host(answers[i].disparity), first, atol=1e-5)
        assert answers[i].frames == 1
    # From there on it is the stream that a first frame begins, to the last bit.
    at = restarts[0]
    assert at <= 24
    for i in range(29 - at):
        assert (i in answers) == (at + i in answers)
        if i in answers:
            again = to_host(answers[at + i].disparity)
            np.testing.assert_allclose(again, to_host(answers[i].disparity), atol=1e-5)


def test_a_stream_that_is_not_watched_drifts_on() -> None:
    unwatched, frame = nano_stream(clip=0, live_min_agreement=0)
    spoil_later_latents(unwatched)
    assert not any(a.restarted for _ in range(33) if (a := unwatched.push(frame)) is not None)


def test_an_old_stream_is_looked_at_too() -> None:
    predictor, frame = nano_stream(clip=0, live_preset="fast")
    every = predictor.answers_every
    answers = [predictor.push(frame) for _ in range(1 + 5 * every)]
    assert not any(answer.restarted for answer in answers if answer)
    spoil_later_latents(predictor)
    later = [predictor.push(frame) for _ in range(7 * every)]  # windows 6 to 8, and 1 to 4 anew
    told = [a.restarted for a in later if a]
    assert told[:3] == [None, None, FlushReason.DRIFT]
    assert FlushReason.DRIFT in told[3:], "begun anew it is young again"


@pytest.mark.parametrize(
    ("light", "relief", "told"), [(1, 1.0, FlushReason.DRIFT), (0, 1.0, None), (1, 0.0, None)]
)
def test_where_nothing_is_seen_and_of_a_wall_there_is_no_telling(
    tiny_fast: FastNetwork,
    monkeypatch: pytest.MonkeyPatch,
    light: int,
    relief: float,
    told: FlushReason | None,
) -> None:
    """A window's answers have nothing in common with that to its newest frame alone."""
    first, later = (relief * (2 * torch.rand(1, 3, n, 32, 48) - 1) for n in (1, 4))

    def decoded(latent: Tensor, caches: Any = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        return first if caches is None else later, ()

    monkeypatch.setattr(tiny_fast, "decoder_stream", lambda: Stream(decoded, decoded))
    live = LivePredictor(tiny_fast, LiveOptions(2, 1, scene_cut=None, min_agreement=0.5))
    answers = [answer for answer in results(live, light * video(5)) if answer]
    assert [answer.restarted for answer in answers] == [None, told]


def test_a_moving_camera_is_no_drift() -> None:
    """Of a stream that dkt-nano is right on, compared with its newest frame after every window."""
    predictor, frame = nano_stream(clip=6, live_preset="fast")
    wide = np.pad(frame.rgb, ((0, 0), (0, 65), (0, 0)), mode="symmetric")
    height, width = frame.rgb.shape[:2]
    for i in range(65):
        moved = np.ascontiguousarray(wide[:height, i : i + width])
        answer = predictor.push(replace(frame, rgb=moved))
        assert answer is None or answer.restarted is None


def test_looking_for_drift_changes_nothing_of_a_stream_that_has_none(
    tiny_fast: FastNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def agrees(*images: Tensor) -> float:
        looks.append(len(images))
        return 1.0

    monkeypatch.setattr("dkt_ros.predict.stream._agreement", agrees)
    watched, plain = (
        results(
            LivePredictor(tiny_fast, LiveOptions(2, 1, scene_cut=None, min_agreement=least)),
            video(65),
        )
        for least in (0.5, None)
    )
    assert len(looks) == 5, "after windows 1, 2, 4, 8 and 16"
    for one, other in zip(watched, plain, strict=True):
        if one is not None and other is not None:
            np.testing.assert_array_equal(one.disparity, other.disparity)


def test_windows_fit_into_clips() -> None:
    quality = LiveOptions.preset("quality")
    assert quality.within(0) is quality
    assert quality.within(5) is quality
    assert (quality.within(4).window, quality.within(4).new) == (4, 3)
    for name in PRESETS:
        fitted = LiveOptions.preset(name, publish="all").within(2)
        assert (fitted.window, fitted.new, fitted.publish) == (2, 1, "all")
    assert quality.within(1).new == 1


def test_all_gives_every_frame_its_own_depth_and_ends_where_latest_does(
    tiny_fast: FastNetwork,
) -> None:
    frames = video(13)
    options: dict[str, Any] = {"window": 3, "new": 2, "scene_cut": None}
    assert StreamPredictor(tiny_fast, PredictorOptions(live_publish="all")).answers_every == 1
    latest = results(LivePredictor(tiny_fast, LiveOptions(**options)), frames)
    every = results(LivePredictor(tiny_fast, LiveOptions(publish="all", **options)), frames)
    assert [r.frames for r in every if r is not None] == [*range(1, 10), *range(5, 9)]
    for one, other in zip(latest, every, strict=True):
        assert other is not None
        if one is not None:  # looking ahead has changed nothing
            np.testing.assert_array_equal(one.disparity, other.disparity)


def test_a_look_ahead_sees_the_newest_frame(tiny_fast: FastNetwork) -> None:
    still = np.repeat(video(1), 5, axis=0)
    moved = still.copy()
    moved[2] = video(1, seed=5)[0]
    options = LiveOptions(2, 1, publish="all", scene_cut=None)
    first, second = (results(LivePredictor(tiny_fast, options), f) for f in (still, moved))
    difference = [
        np.abs(a.disparity - b.disparity).max()
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None
    ]
    assert difference[:2] == [0.0, 0.0]
    assert difference[2] > 0


def test_memory_does_not_grow_with_the_stream(tiny_fast: FastNetwork) -> None:
    live = LivePredictor(tiny_fast, LiveOptions(3, 1, scene_cut=None))
    sizes = []
    for i, frame in enumerate(video(25)):
        live.push(frame)
        if i % 4 == 0:
            sizes.append(live.nbytes())
    assert len(set(sizes[2:])) == 1
    live.reset()
    assert live.nbytes() == 0


@pytest.mark.parametrize(("clip", "before"), [(0, 7), (2, 5)])
def test_a_reset_stream_is_a_new_one(
    tiny_fast: FastNetwork, monkeypatch: pytest.MonkeyPatch, clip: int, before: int
) -> None:
    """Though images or a clip's last frame wait to be used."""
    monkeypatch.setattr(tiny_fast, "info", replace(tiny_fast.info, clip=clip))
    options = LiveOptions(3, 1, scene_cut=None)
    expected = results(LivePredictor(tiny_fast, options), video(5))
    live = LivePredictor(tiny_fast, options)
    results(live, video(before, seed=3))
    live.reset()
    for ours, theirs in zip(results(live, video(5)), expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            np.testing.assert_array_equal(ours.disparity, theirs.disparity)


@pytest.mark.parametrize("resized", [False, True])
def test_a_scene_cut_and_another_size_start_anew(tiny_fast: FastNetwork, resized: bool) -> None:
    dark, light = (np.full((3, 32, 48, 3), value, np.uint8) for value in (10, 200))
    if resized:
        light = light[:, :16]
    live = LivePredictor(tiny_fast, LiveOptions(2, 1, scene_cut=0.2))
    given = results(live, dark)
    assert [r is not None for r in given] == [True, False, False]
    given = results(live, light)
    assert [r is not None for r in given] == [True, False, False]
    assert given[0] is not None
    assert given[0].restarted is FlushReason.SCENE_CUT
    assert given[0].disparity.shape == light.shape[1:3]
    fresh = LivePredictor(tiny_fast).push(light[0])
    assert fresh is not None
    np.testing.assert_array_equal(given[0].disparity, fresh.disparity)


def test_small_changes_are_no_cut(tiny_fast: FastNetwork) -> None:
    live = LivePredictor(tiny_fast, LiveOptions(2, 1, scene_cut=0.2))
    frames = np.stack([np.full((32, 48, 3), 10 + 40 * i, np.uint8) for i in range(5)])
    assert [r is not None for r in results(live, frames)] == [True, False, False, False, True]


def test_light_is_no_cut_and_another_scene_in_that_light_is(tiny_fast: FastNetwork) -> None:
    live = LivePredictor(tiny_fast, LiveOptions(2, 1, publish="all"))
    rng = np.random.default_rng(0)
    cells = rng.integers(20, 180, (2, 8, 12, 1)).repeat(4, 1).repeat(4, 2).repeat(3, 3)
    gains = (1.4, 0.6, 1.4, 0.4, 0.0, 0.0, 0.4)  # and out, and on again
    lit = np.stack([cells[0] * gain for gain in gains]).astype(np.uint8)
    assert [r.restarted for r in results(live, lit) if r is not None] == [None] * 7
    other = (cells[1] * 1.2).astype(np.uint8)
    answer = live.push(other)
    assert answer is not None
    assert answer.restarted is FlushReason.SCENE_CUT


def test_a_failure_resets_and_the_stream_goes_on(tiny_fast: FastNetwork) -> None:
    failing = False

    def check(stage: str, done: int, total: int) -> None:
        if failing and stage == "denoise":
            raise InterruptedError

    live = LivePredictor(tiny_fast, LiveOptions(2, 1, scene_cut=None), check)
    frames = video(5)
    results(live, frames[:4])
    failing = True
    with pytest.raises(InterruptedError):
        live.push(frames[4])
    failing = False
    assert live.nbytes() == 0
    assert live.push(frames[4]) is not None


def test_portrait_frames(tiny_fast: FastNetwork) -> None:
    landscape = video(1)[0]
    wide, tall = (
        LivePredictor(tiny_fast).push(np.ascontiguousarray(frame))
        for frame in (landscape, np.rot90(landscape, k=-1))
    )
    assert wide is not None
    assert tall is not None
    np.testing.assert_array_equal(np.rot90(wide.disparity, k=-1), tall.disparity)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"window": 0}, "window"),
        ({"new": 0}, "new"),
        ({"window": 3, "new": 4}, "new is 4"),
        ({"steps": 0}, "steps"),
        ({"warm_start": 0.0}, "warm_start"),
        ({"warm_start": 1.1}, "warm_start"),
        ({"publish": "some"}, "publish"),
        ({"seed": -1}, "seed"),
        ({"size": (0, 10)}, "size"),
        ({"scene_cut": 0.0}, "scene_cut"),
        ({"min_agreement": 1.0}, "min_agreement"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(values: dict, named: str) -> None:
    with pytest.raises(DktError, match=named):
        LiveOptions(**values)


def test_presets() -> None:
    assert set(PRESETS) == {"quality", "balanced", "fast"}
    changed = LiveOptions.preset("fast", publish="all")
    assert (changed.window, changed.publish) == (PRESETS["fast"].window, "all")
    with pytest.raises(DktError, match="quality, balanced, fast"):
        LiveOptions.preset("best")


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((1, 8, 8, 3)),
    ],
)
def test_other_frames_are_refused(tiny_fast: FastNetwork, frame: np.ndarray) -> None:
    with pytest.raises(DktError, match="expected uint8"):
        LivePredictor(tiny_fast).push(frame)
