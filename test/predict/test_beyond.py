"""Glass nearer than the readings' range, a wall farther: the answer to colour alone goes on."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.tiny_checkpoint import make_tiny_checkpoint

import dkt_ros.predict.beyond as beyond
from dkt_ros.arrays import to_host
from dkt_ros.frames import Frame, frames_of
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.condition import DisparityRange, range_of
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.beyond import Beyond
from dkt_ros.predict.clip import ClipPredictor, PredictOptions, predict_disparity
from dkt_ros.predict.options import PredictorOptions

LIMITS = DisparityRange(0.5, 2.5)
SIZE = (90, 160)
GLASS = slice(30, 60), slice(50, 100)


def truth(glass: float = 4.0) -> np.ndarray:
    """1/m: a table, and glass before it."""
    table = np.linspace(0.7, 1.8, SIZE[0], dtype=np.float32)[:, None].repeat(SIZE[1], 1)
    table[GLASS] = glass
    return table


def shown(disparity: np.ndarray) -> np.ndarray:
    """The answer to readings: within their range."""
    low, high = LIMITS.low, LIMITS.high
    return np.clip((disparity - low) / (high - low), 0, 1).astype(np.float32)


def of_colour(
    disparity: np.ndarray, seed: int = 0, scale: float = 5.0, noise: float = 0.01
) -> np.ndarray:
    """The answer to colour alone: relative, and less exact."""
    off = np.random.default_rng(seed).normal(0, noise, SIZE)
    return ((disparity - 0.4) / scale + off).astype(np.float32)


def found(near: Beyond, disparity: np.ndarray, colour: np.ndarray | None) -> np.ndarray:
    """1/m; colour: None where it must not be asked."""

    def ask() -> np.ndarray:
        assert colour is not None
        return colour

    return to_host(LIMITS.disparity(near.of(shown(disparity), LIMITS, ask)))


def test_glass_nearer_than_the_range_is_where_colour_says() -> None:
    answer = found(Beyond(), truth(), of_colour(truth()))
    assert np.median(answer[GLASS]) == pytest.approx(4.0, rel=0.05)
    outside = np.ones(SIZE, bool)
    outside[GLASS] = False
    np.testing.assert_array_equal(answer[outside], LIMITS.disparity(shown(truth()))[outside])


def test_readings_seen_through_glass_leave_the_scale_alone() -> None:
    seen_through, colour = truth(), of_colour(truth())
    seen_through[45:80, 105:150] = 0.8  # so the network says, which believes them
    answer = found(Beyond(), seen_through, colour)
    assert np.median(answer[GLASS]) == pytest.approx(4.0, rel=0.1)


def test_glass_becomes_no_farther() -> None:
    answer = found(Beyond(), truth(), of_colour(truth(2.0)))
    assert (answer >= LIMITS.disparity(shown(truth())) - 1e-6).all()


WALL = slice(0, 25)


def room(wall: float, rows: slice = WALL) -> np.ndarray:
    """1/m: the table before a wall, which no sensor reaches."""
    disparity = truth(1.6)
    disparity[rows] = wall
    return disparity


def test_a_wall_beyond_the_range_is_where_colour_says() -> None:
    answer = found(Beyond(), room(0.3), of_colour(room(0.3), noise=0.002))
    assert np.median(answer[WALL]) == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(answer[30:], LIMITS.disparity(shown(room(0.3)))[30:])


def test_a_wall_becomes_no_nearer_and_at_most_twice_as_far() -> None:
    answer = found(Beyond(), room(0.3), of_colour(room(0.6)))
    np.testing.assert_array_equal(answer, LIMITS.disparity(shown(room(0.3))))
    answer = found(Beyond(), room(0.3), of_colour(room(-3.0)))
    assert answer.min() == pytest.approx(0.25)


def test_what_may_be_the_line_s_error_is_no_distance() -> None:
    colour = of_colour(room(0.45))
    colour += np.random.default_rng(3).normal(0, 0.02, SIZE).astype(np.float32)  # 0.1 1/m
    answer = found(Beyond(), room(0.45), colour)
    assert np.median(answer[WALL]) == pytest.approx(0.5, abs=0.01)


def test_colour_that_bends_away_near_the_far_end_moves_no_wall() -> None:
    disparity = room(0.5)
    disparity[25:] = np.linspace(0.55, 1.8, SIZE[0] - 25, dtype=np.float32)[:, None]
    colour = of_colour(disparity, noise=0.002)
    straight = found(Beyond(), disparity, colour - np.where(disparity < 0.52, 0.06, 0))
    assert np.median(straight[WALL]) < 0.4
    bent = np.clip((0.9 - disparity) / 0.4, 0, 1) * 0.06  # farther and farther, before the wall too
    np.testing.assert_allclose(found(Beyond(), disparity, colour - bent)[WALL], 0.5, atol=0.03)


def test_a_little_far_away_is_worth_no_second_look() -> None:
    found(Beyond(), room(0.3, slice(0, 4)), None)


def test_a_wall_of_which_less_is_seen_does_not_jump_back() -> None:
    both, less = Beyond(), slice(0, 2)
    found(both, room(0.3), of_colour(room(0.3), noise=0.002))
    answer = found(both, room(0.3, less), of_colour(room(0.3, less), noise=0.002))
    assert np.median(answer[less]) == pytest.approx(0.3, abs=0.05)


def test_a_saved_stream_keeps_its_scale() -> None:
    first = Beyond()
    found(first, truth(), of_colour(truth()))
    second, colour = pickle.loads(pickle.dumps(first)), of_colour(truth(), 1, 5.5)
    answers = [found(one, truth(), colour) for one in (first, second, Beyond())]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


@pytest.mark.parametrize("glass", [1.9, 2.29])
def test_colour_is_not_asked_where_the_range_is_enough(glass: float) -> None:
    found(Beyond(), truth(glass), None)


def test_a_few_pixels_at_the_end_are_none() -> None:
    disparity = truth(1.9)
    disparity[:2, :40] = 4.0  # half a percent
    near = Beyond()
    found(near, disparity, None)
    found(near, truth(), of_colour(truth()))
    answer = found(near, disparity, of_colour(disparity))  # once asked it goes on
    assert np.median(answer[:2, :40]) == pytest.approx(4.0, rel=0.05)
    found(near, truth(1.9), None)
    found(near, disparity, None)


def test_colour_that_does_not_see_the_same_scene_is_not_heard() -> None:
    chance = np.random.default_rng(1).random(SIZE).astype(np.float32)
    for colour in (chance, np.full(SIZE, 0.5, np.float32), 1 - of_colour(truth())):
        answer = found(Beyond(), truth(), colour)
        np.testing.assert_array_equal(answer, LIMITS.disparity(shown(truth())))


def test_a_colour_answer_that_is_no_number_spoils_neither_its_picture_nor_the_next() -> None:
    both, plain = Beyond(), LIMITS.disparity(shown(truth()))
    for bad in (np.nan, np.inf):
        answer = found(both, truth(), np.full(SIZE, bad, np.float32))
        np.testing.assert_array_equal(answer, plain)
        answer = found(both, truth(), of_colour(truth()))
        assert np.median(answer[GLASS]) == pytest.approx(4.0, rel=0.05)


def test_colour_that_is_barely_alike_does_not_come_and_go() -> None:
    barely = of_colour(truth())
    barely[5:20, 20:150] += 0.15  # of things there that readings go through
    first, heard = Beyond(), Beyond()
    found(heard, truth(), of_colour(truth()))
    assert np.median(found(first, truth(), barely)[GLASS]) == pytest.approx(2.5)
    for _ in range(3):
        assert np.median(found(heard, truth(), barely)[GLASS]) > 3.0


def test_colour_that_is_in_vain_is_asked_ever_more_seldom_until_it_is_alike() -> None:
    both, plain = Beyond(), shown(truth())
    asked: list[int] = []
    unlike = np.random.default_rng(1).random(SIZE).astype(np.float32)

    def answer(frame: int, colour: np.ndarray) -> np.ndarray:
        def ask() -> np.ndarray:
            asked.append(frame)
            return colour

        return to_host(both.of(plain, LIMITS, ask))

    for frame in range(45):
        np.testing.assert_array_equal(answer(frame, unlike), plain)
    assert asked == [0, 1, 3, 7, 15, 31]
    depths = [np.median(answer(frame, of_colour(truth()))[GLASS]) for frame in range(45, 60)]
    assert asked[6:] == list(range(47, 60))  # heard, and then at every frame
    assert depths[1] == 1.0
    assert min(depths[2:]) > 1.5
    answer(60, unlike)
    answer(61, of_colour(truth()))  # unlike but once
    assert asked[-2:] == [60, 61]


def test_glass_that_comes_anew_owes_nothing_to_what_was_before() -> None:
    both, unlike = Beyond(), np.random.default_rng(1).random(SIZE).astype(np.float32)
    expected = found(Beyond(), truth(), of_colour(truth()))
    for before in (of_colour(truth(), 1, 5.5), unlike):  # another scale, and a pause after it
        for _ in range(2):
            found(both, truth(), before)
        found(both, truth(1.9), None)
        np.testing.assert_array_equal(found(both, truth(), of_colour(truth())), expected)


def test_noise_in_the_scale_does_not_make_glass_flicker() -> None:
    near, depths = Beyond(), []
    for seed in range(12):
        scale = 5.0 * (1 + 0.05 * (-1) ** seed)
        answer = found(near, truth(), of_colour(truth(), 0, scale) * scale / 5.0)
        depths.append(1 / np.median(answer[GLASS]))
    alone = [1 / np.median(found(Beyond(), truth(), of_colour(truth(), s))[GLASS]) for s in (0, 1)]
    assert np.ptp(depths) / np.mean(depths) < 0.02
    assert np.mean(depths) == pytest.approx(alone[0], rel=0.03)


def test_another_scene_has_its_own_scale() -> None:
    near = Beyond()
    for _ in range(5):
        found(near, truth(), of_colour(truth()))
    answer = found(near, truth(8.0), of_colour(truth(8.0), scale=10.0))
    assert np.median(answer[GLASS]) == pytest.approx(8.0, rel=0.1)


def test_tensors_are_answered_alike() -> None:
    disparity, colour = truth(), of_colour(truth())
    expected = Beyond().of(shown(disparity), LIMITS, lambda: colour)
    first, second = (torch.from_numpy(one) for one in (shown(disparity), colour))
    answer = Beyond().of(first, LIMITS, lambda: second)
    assert isinstance(answer, torch.Tensor)
    np.testing.assert_allclose(answer.numpy(), expected, atol=1e-6)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> FastNetwork:
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("alone"), condition="from_raw_depth")
    told = json.loads((folder / "dkt.json").read_text())
    (folder / "dkt.json").write_text(json.dumps(told | {"buffer_frames": 1}))
    return FastNetwork(load_checkpoint(folder))


def frames(count: int) -> list[Frame]:
    size = (64, 96)
    rgb = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    depth = np.linspace(1.2, 0.6, size[0], dtype=np.float32)[:, None].repeat(size[1], 1)
    return list(frames_of((one, depth) for one in rgb))


def test_a_stream_and_a_video_ask_the_network_for_colour(
    network: FastNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[np.ndarray] = []
    streams: list[Beyond] = []

    def of(self: Beyond, answer: Any, limits: DisparityRange, colour: Any) -> Any:
        assert limits == range_of(1 / frames(1)[0].raw_depth[None])  # type: ignore[index]
        streams.append(self)
        heard.append(to_host(colour()))
        return answer + 1.0

    some, predictor = frames(3), ClipPredictor(network)
    plain = [to_host(predictor.push(one).disparity) for one in some]
    predictor.reset()
    alone = [to_host(predictor.push(replace(one, raw_depth=None)).disparity) for one in some]
    predictor.reset()
    monkeypatch.setattr(Beyond, "of", of)
    answers = [to_host(predictor.push(one).disparity) for one in some]
    video = predict_disparity(
        network, np.stack([one.rgb for one in some]), raw_depth=[one.raw_depth for one in some]
    )
    predictor.reset()
    predictor.push(some[0])
    pushed, filmed, anew = streams[:3], streams[3:6], streams[6:]
    assert [len(set(of_one)) for of_one in (pushed, filmed, anew)] == [1, 1, 1]
    assert len(set(streams)) == 3, "a stream's scale is its own"
    for one, expected in zip(heard, [*alone, *alone, alone[0]], strict=True):
        np.testing.assert_array_equal(one, expected)
    limits = range_of(1 / some[0].raw_depth[None])  # type: ignore[index]
    assert limits is not None
    for one, before in zip([*answers, *video], [*plain, *plain], strict=True):
        np.testing.assert_allclose(one, before + (limits.high - limits.low), rtol=1e-5)


def test_clips_of_several_frames_are_left_as_they_are(
    network: FastNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beyond, "_ASKED", (-1.0, -1.0))
    monkeypatch.setattr(Beyond, "of", lambda *_: pytest.fail("asked"))
    predictor = ClipPredictor(network, PredictorOptions(buffer_frames=5))
    for frame in frames(2):
        predictor.push(frame)
    some = frames(2)
    predict_disparity(
        network,
        np.stack([one.rgb for one in some]),
        PredictOptions(window=2, overlap=1),
        raw_depth=[one.raw_depth for one in some],
    )


def test_a_video_tells_how_far_it_is_once_for_each_frame(network: FastNetwork) -> None:
    some, told = frames(3), list[tuple[str, int, int]]()
    predict_disparity(
        network,
        np.stack([one.rgb for one in some]),
        on_progress=lambda *words: told.append(words),
        raw_depth=[one.raw_depth for one in some],
    )
    assert {stage for stage, _, _ in told} == {"frames"}
    done = [at for _, at, _ in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][2] == 3
