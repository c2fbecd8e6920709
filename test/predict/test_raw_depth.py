"""A network that is shown raw depth: the range it answers in, and when a stream begins anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros.arrays import to_host
from dkt_ros.estimator import DepthEstimator, EstimatorConfig
from dkt_ros.frames import FlushReason, Frame, frames_of
from dkt_ros.geometry import disparity_of
from dkt_ros.model.canvas import Canvas
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.condition import DisparityRange, range_of
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.live_sampler import LiveSampler
from dkt_ros.predict.clip import ClipPredictor, PredictOptions, predict_disparity
from dkt_ros.predict.dkt import raw_pictures
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import Prediction, Predictor
from dkt_ros.predict.stream import LivePredictor, StreamPredictor

SIZE = (64, 96)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> FastNetwork:
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("shown"), condition="raw_depth")
    return FastNetwork(load_checkpoint(folder))


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> FastNetwork:
    """The same weights, never shown any raw depth."""
    return FastNetwork(load_checkpoint(make_tiny_checkpoint(tmp_path_factory.mktemp("blind"))))


def rgb(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, *SIZE, 3), dtype=np.uint8)


def table(scale: float = 1.0) -> np.ndarray:
    rows = np.linspace(1.2, 0.6, SIZE[0], dtype=np.float32) * np.float32(scale)
    depth = np.repeat(rows[:, None], SIZE[1], axis=1)
    depth[20:30, 40:60] = np.nan
    return depth


def stream(count: int, depths: dict[int, np.ndarray | None] | None = None) -> list[Frame]:
    found = depths or {}
    return list(frames_of((one, found.get(i, table())) for i, one in enumerate(rgb(count))))


def test_an_answer_says_whether_it_is_on_the_readings_scale(network: FastNetwork) -> None:
    for depth in (table(), None):
        (frame,) = frames_of([(rgb(1)[0], depth)])
        for predictor in (ClipPredictor(network), StreamPredictor(network)):
            answer = predictor.push(frame)
            assert answer is not None
            assert answer.on_scale == (depth is not None)


def answered(predictor: ClipPredictor, frame: Frame) -> np.ndarray:
    return to_host(predictor.push(frame).disparity)


@pytest.mark.parametrize("kind", [ClipPredictor, StreamPredictor])
def test_a_network_that_is_shown_no_raw_depth_is_not(
    blind: FastNetwork, kind: type[ClipPredictor | StreamPredictor]
) -> None:
    with_depth, without = stream(5), stream(5, dict.fromkeys(range(5)))
    for one, expected in zip(
        told(kind(blind), with_depth), told(kind(blind), without), strict=True
    ):
        assert not one.on_scale
        np.testing.assert_array_equal(to_host(one.disparity), to_host(expected.disparity))


@pytest.mark.parametrize("before", ["frames", "warm-up"])
@pytest.mark.parametrize("kind", [ClipPredictor, StreamPredictor])
def test_what_came_before_a_stream_has_no_part_in_its_answers(
    network: FastNetwork, kind: type[ClipPredictor | StreamPredictor], before: str
) -> None:
    options = PredictorOptions(buffer_frames=5, window=2, overlap=1, live_scene_cut=1.0)
    predictor = kind(network, options)
    if before == "warm-up":
        predictor.warm_up(SIZE)
    else:
        # The range changes at the second frame; images and a latent are left waiting.
        told(predictor, stream(8, dict.fromkeys(range(7), table(2.0)))[::-1])
        predictor.reset()
    expected = told(kind(network, options), stream(5))
    for one, fresh in zip(told(predictor, stream(5)), expected, strict=True):
        assert one.restarted is None
        assert one.frames == fresh.frames
        np.testing.assert_array_equal(to_host(one.disparity), to_host(fresh.disparity))


def told(predictor: Predictor, frames: list[Frame]) -> list[Prediction]:
    """The answers, where there are any."""
    return [one for one in map(predictor.push, frames) if one is not None]


def test_velocity_is_that_of_diffusers_own_layers(tmp_path: Path) -> None:
    folder = make_tiny_checkpoint(tmp_path, condition="raw_depth")
    plain, fast = load_checkpoint(folder, plain=True), FastNetwork(load_checkpoint(folder))
    noisy, shown = torch.randn(1, 16, 2, 8, 12), torch.randn(1, 32, 2, 8, 12)
    with torch.no_grad():
        expected = plain.velocity(noisy, shown, 700.0)
        got = fast.velocity(noisy, fast.embed_rgb(shown), 700.0)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    shown[:, 16:] = 0
    with torch.no_grad():
        torch.testing.assert_close(
            plain.velocity(noisy, shown, 700.0), plain.velocity(noisy, shown[:, :16], 700.0)
        )


def test_without_readings_it_answers_as_a_network_that_is_shown_none(
    network: FastNetwork, blind: FastNetwork
) -> None:
    (frame,) = frames_of([(rgb(1)[0], None)])
    answer, expected = (answered(ClipPredictor(one), frame) for one in (network, blind))
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    few = np.full(SIZE, np.nan, np.float32)
    few[0, :50] = 1.0
    (frame,) = frames_of([(rgb(1)[0], few)])
    np.testing.assert_array_equal(answered(ClipPredictor(network), frame), answer)


def test_a_video_s_frames_are_seen_one_by_one_by_what_does_best_on_one(
    network: FastNetwork, tmp_path: Path
) -> None:
    folder = make_tiny_checkpoint(tmp_path, condition="raw_depth")
    info = json.loads((folder / "dkt.json").read_text())
    (folder / "dkt.json").write_text(json.dumps(info | {"buffer_frames": 1}))
    best_on_one = FastNetwork(load_checkpoint(folder))
    video, shown = rgb(3), [table()] * 3
    told: list[tuple[str, int, int]] = []
    found = predict_disparity(best_on_one, video, None, lambda *at: told.append(at), shown)
    for picture, disparity in zip(video, found, strict=True):
        alone = predict_disparity(network, picture[None], None, raw_depth=shown[:1])
        np.testing.assert_array_equal(disparity, alone[0])
    assert sorted(set(told)) == [("frames", done, 3) for done in range(4)]
    # Neither where a window is asked for nor where nothing but the clip keeps the scale.
    some = [table(), np.full(SIZE, np.nan, np.float32), table()]
    for options, depths in ((PredictOptions(window=3), shown), (None, [None] * 3), (None, some)):
        np.testing.assert_array_equal(
            predict_disparity(best_on_one, video, options, raw_depth=depths),
            predict_disparity(network, video, options, raw_depth=depths),
        )


def test_an_answer_is_in_metric_disparity_within_the_readings_range(network: FastNetwork) -> None:
    for scale in (1.0, 3.0):
        (frame,) = frames_of([(rgb(1)[0], table(scale))])
        disparity = answered(ClipPredictor(network), frame)
        limits = range_of(disparity_of(table(scale)))
        assert limits is not None
        assert disparity.dtype == np.float32
        assert disparity.min() >= limits.low - 1e-4
        assert disparity.max() <= limits.high + 1e-4


def test_where_the_readings_end_another_scale_begins(network: FastNetwork) -> None:
    predictor = ClipPredictor(network, PredictorOptions(buffer_frames=1))
    told = [predictor.push(frame).restarted for frame in stream(4, {2: None, 3: None})]
    assert told == [None, None, FlushReason.RANGE, None]


def seen_left(columns: int) -> np.ndarray:
    """The table, seen in its first columns alone."""
    depth = table()
    depth[:, columns:] = np.nan
    return depth


def test_readings_of_a_small_part_are_shown_to_none_but_a_stream_that_knows_more(
    network: FastNetwork,
) -> None:
    small = seen_left(9)  # two columns of 18 cells
    small[16:] = np.nan  # and a quarter of them
    predictor = ClipPredictor(network, PredictorOptions(buffer_frames=1))
    depths: dict[int, np.ndarray | None] = {0: small, 2: seen_left(4), 3: small}
    told = [predictor.push(frame) for frame in stream(4, depths)]
    assert [answer.on_scale for answer in told] == [False, True, True, False]
    assert [answer.restarted for answer in told] == [
        None,
        FlushReason.RANGE,
        None,
        FlushReason.RANGE,
    ]


def test_a_video_in_one_go_is_shown_what_a_buffer_of_its_length_is(network: FastNetwork) -> None:
    frames = stream(5, {2: table(0.7), 3: None})
    whole = predict_disparity(network, rgb(5), raw_depth=[frame.raw_depth for frame in frames])
    predictor = ClipPredictor(network, PredictorOptions(buffer_frames=5, window=3, overlap=1))
    for frame in frames:
        answer = answered(predictor, frame)
    np.testing.assert_allclose(answer, whole[-1], rtol=1e-4)
    np.testing.assert_allclose(predictor.video(frames)[-1], whole[-1], rtol=1e-4)


def test_raw_depth_changes_the_answer(network: FastNetwork) -> None:
    other = table()
    other[:, 48:] = 0.5
    first, second = (
        answered(ClipPredictor(network), frame)
        for frame in frames_of([(rgb(1)[0], table()), (rgb(1)[0], other)])
    )
    assert np.abs(first - second).max() > 1e-2


def test_portrait_readings_are_turned_with_the_picture(network: FastNetwork) -> None:
    depth = np.ascontiguousarray(np.rot90(table(), k=-1))
    picture = np.ascontiguousarray(np.rot90(rgb(1)[0], k=-1))
    (upright,) = frames_of([(rgb(1)[0], table())])
    (turned,) = frames_of([(picture, depth)])
    expected = answered(ClipPredictor(network), upright)
    got = answered(ClipPredictor(network), turned)
    np.testing.assert_allclose(np.rot90(got), expected, rtol=1e-4)


def live(network: FastNetwork, **options: object) -> LivePredictor:
    return LivePredictor(network, LiveOptions(window=3, new=1, scene_cut=None, **options))  # type: ignore[arg-type]


def test_a_stream_keeps_its_first_range_while_readings_suit_it(network: FastNetwork) -> None:
    predictor = live(network)
    depths = [table(), *[table(1.05)] * 8]
    answers = [predictor.push(*pair) for pair in zip(rgb(9), depths, strict=True)]
    found = [answer for answer in answers if answer is not None]
    assert len(found) == 3
    assert len({answer.limits for answer in found}) == 1
    assert found[0].limits == range_of(disparity_of(table()))
    assert not any(answer.restarted for answer in found)


def test_readings_beyond_the_range_begin_the_stream_anew(network: FastNetwork) -> None:
    predictor = live(network)
    for one in rgb(5):
        predictor.push(one, table())
    answer = predictor.push(rgb(1)[0], table(0.3))
    assert answer is not None
    assert answer.restarted
    assert answer.limits == range_of(disparity_of(table(0.3)))
    assert answer.frames == 1


def test_a_scene_cut_is_seen_though_readings_began_the_stream_anew_just_before(
    network: FastNetwork,
) -> None:
    predictor = LivePredictor(network, LiveOptions(window=3, new=1, scene_cut=0.2))
    dark, light = (np.full((*SIZE, 3), value, np.uint8) for value in (10, 200))
    pairs = [(dark, table()), (dark, table(0.3)), (light, table(0.3))]
    told = [predictor.push(*pair) for pair in pairs]
    restarts = [None, FlushReason.RANGE, FlushReason.SCENE_CUT]
    assert [answer and answer.restarted for answer in told] == restarts


def test_readings_that_come_late_begin_the_stream_anew_and_gaps_do_not(
    network: FastNetwork,
) -> None:
    predictor = live(network)
    first = predictor.push(rgb(1)[0], None)
    assert first is not None
    assert first.limits is None
    second = predictor.push(rgb(1)[0], table())
    assert second is not None
    assert second.restarted
    for _ in range(3):
        assert predictor.push(rgb(1)[0], None) is None
    third = predictor.push(rgb(1)[0], None)
    assert third is not None
    assert not third.restarted
    assert third.limits == second.limits


def test_a_clip_takes_its_range_from_the_frame_it_begins_with(network: FastNetwork) -> None:
    from dataclasses import replace

    network.info = replace(network.info, clip=2)
    try:
        predictor = live(network)
        depths = [table(), *[table(1.1)] * 8]
        answers = [predictor.push(*pair) for pair in zip(rgb(9), depths, strict=True)]
    finally:
        network.info = replace(network.info, clip=0)
    last = answers[-1]
    assert last is not None
    assert last.limits == range_of(disparity_of(table(1.1)))


@pytest.mark.parametrize(("later", "lost"), [(None, True), (seen_left(4), False)])
def test_a_clip_that_begins_without_readings_says_that_its_scale_is_another(
    network: FastNetwork, later: np.ndarray | None, lost: bool
) -> None:
    from dataclasses import replace

    network.info = replace(network.info, clip=2)
    try:
        predictor = live(network)
        depths = [table(), *[later] * 8]
        answers = [predictor.push(*pair) for pair in zip(rgb(9), depths, strict=True)]
    finally:
        network.info = replace(network.info, clip=0)
    found = [answer for answer in answers if answer is not None]
    assert [answer.limits is None for answer in found] == [False, False, lost]
    restarted = FlushReason.RANGE if lost else None
    assert [answer.restarted for answer in found] == [None, None, restarted]


def test_looking_ahead_moves_nothing_on(network: FastNetwork) -> None:
    every, latest = live(network, publish="all"), live(network)
    pairs = [(one, table()) for one in rgb(9)]
    ahead = [every.push(*pair) for pair in pairs]
    whole = [latest.push(*pair) for pair in pairs]
    assert all(answer is not None for answer in ahead)
    for one, other in zip(ahead, whole, strict=True):
        if other is not None:
            np.testing.assert_array_equal(one.disparity, other.disparity)  # type: ignore[union-attr]


@pytest.mark.parametrize("predictor", [ClipPredictor, StreamPredictor])
def test_the_estimator_fits_scale_and_shift_as_a_check(
    network: FastNetwork, predictor: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a decoder that gives back what it was shown, they are 1 and 0."""
    limits = range_of(disparity_of(table()))
    assert limits is not None
    right = (np.nan_to_num(disparity_of(table()), nan=1.0) - limits.low) / (
        limits.high - limits.low
    )
    answer = torch.from_numpy(right.clip(0, 1))[None]
    monkeypatch.setattr(Canvas, "disparity_tensor", lambda self, decoded: answer)
    estimator = DepthEstimator(
        predictor(network, PredictorOptions()), EstimatorConfig(depth="network")
    )
    estimate = estimator.push(stream(1)[0])
    assert estimate is not None
    assert estimate.alignment.scale == pytest.approx(1.0, abs=0.01)
    assert estimate.alignment.shift == pytest.approx(0.0, abs=0.01)


def changing_nothing(folder: Path) -> FastNetwork:
    """A network whose flow begins at the raw depth, and leads nowhere."""
    network = load_checkpoint(make_tiny_checkpoint(folder, condition="from_raw_depth"))
    torch.nn.init.zeros_(network.transformer.proj_out.weight)
    torch.nn.init.zeros_(network.transformer.proj_out.bias)
    return FastNetwork(network)


def as_the_vae_sees_it(network: FastNetwork, depths: list[np.ndarray]) -> np.ndarray:
    """Disparity (F, H, W) in 1/m of readings that only pass through the VAE."""
    readings = np.stack([disparity_of(depth) for depth in depths])
    limits = range_of(readings[:1])
    assert limits is not None
    encoder, decoder = network.encoder_stream(), network.decoder_stream()
    canvas, found = Canvas(SIZE, None, network.size_multiple), []
    for start, stop in [(0, 1), *((i, i + 4) for i in range(1, len(depths), 4))]:
        shown = raw_pictures(readings[start:stop], limits, network.device)
        found.append(canvas.disparity(decoder.advance(encoder.advance(shown))))
    return limits.disparity(np.concatenate(found))


@pytest.mark.parametrize("steps", [1, 3])
def test_a_flow_that_begins_at_the_raw_depth_and_leads_nowhere_gives_the_raw_depth(
    tmp_path: Path, steps: int
) -> None:
    network = changing_nothing(tmp_path)
    (expected,) = as_the_vae_sees_it(network, [table()])
    (frame,) = frames_of([(rgb(1)[0], table())])
    for kind in (ClipPredictor, StreamPredictor):
        answer = kind(network, PredictorOptions(steps=steps)).push(frame)
        assert answer is not None
        np.testing.assert_allclose(to_host(answer.disparity), expected, rtol=1e-4)
    depths = [table(1 + 0.01 * i) for i in range(9)]
    expected = as_the_vae_sees_it(network, depths)
    predictor = live(network, steps=steps)
    answers = [predictor.push(*pair) for pair in zip(rgb(9), depths, strict=True)]
    for index in (0, 4, 8):  # the last frame of each latent, under the first one's range
        one = answers[index]
        assert one is not None
        got = limits_of(one.limits).disparity(to_host(one.disparity))
        np.testing.assert_allclose(got, expected[index], rtol=1e-4)


def limits_of(limits: DisparityRange | None) -> DisparityRange:
    assert limits is not None
    return limits


def test_without_readings_such_a_flow_begins_at_noise(tmp_path: Path) -> None:
    network = changing_nothing(tmp_path)
    (frame,) = frames_of([(rgb(1)[0], None)])
    first, second = (
        answered(ClipPredictor(network, PredictorOptions(seed=seed)), frame) for seed in (1, 2)
    )
    assert np.abs(first - second).max() > 1e-2


def test_a_window_shows_the_past_as_its_flow_would_have_it(tmp_path: Path) -> None:
    """Context by replacement between what was answered and what those latents began at."""
    network = changing_nothing(tmp_path)
    seen: list[torch.Tensor] = []
    sampler = LiveSampler(network, steps=2, shift=1.0, window=3, new=1, warm_start=None, seed=1)

    def velocity(
        noisy: torch.Tensor, shown: torch.Tensor, timestep: float, keep: int | None = None
    ) -> torch.Tensor:
        seen.append(noisy)
        return torch.zeros_like(noisy[:, :, -(keep or 0) :])

    network.velocity = velocity  # type: ignore[assignment]
    shape = (16, 8, 12)
    begins, answers = (torch.randn(3, 1, 16, 1, 8, 12).unbind() for _ in range(2))
    for begin, answer in zip(begins, answers, strict=True):
        shown = torch.zeros(1, 32, 1, 8, 12)
        sampler.denoise(shown, shape, begin)
        sampler.commit(answer, shown, begin)
    first, half = seen[-2:]
    torch.testing.assert_close(first, torch.cat(begins, dim=2))
    past = [(answer + begin) / 2 for answer, begin in zip(answers[:2], begins[:2], strict=True)]
    torch.testing.assert_close(half, torch.cat([*past, begins[2]], dim=2))
