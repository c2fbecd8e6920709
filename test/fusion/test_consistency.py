"""What is said of streams whose colour, depth and disparity do not belong together."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.fused_scenes import rendered_frame
from fixtures.glass_scenes import smooth_field
from fixtures.judging import Judge

import dkt_ros
from demo.recorded import RecordedFrame, read_frames
from demo.stamps import header_stamp_ns
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.topics import discover_topics
from dkt_ros.errors import DktError
from dkt_ros.fusion.colours import fine_grey, shrunk
from dkt_ros.fusion.consistency import Consistency, ConsistencyConfig, Verdict
from dkt_ros.fusion.registration import CHANGES, Change, Seen

Frame = tuple[np.ndarray, np.ndarray, np.ndarray]
"""rgb, raw depth, disparity."""

PERIOD_NS = 200_000_000
SECOND = 5  # frames


@pytest.fixture(scope="module")
def recorded() -> list[RecordedFrame]:
    """The demo's recording, its camera moving."""
    with BagReader(Path(dkt_ros.__file__).parent / "assets" / "demo" / "glassware") as bag:
        topics = discover_topics(bag.topics)
        stamps = [header_stamp_ns(message.cdr) for message in bag.messages([topics.color])]
        return list(read_frames(bag, topics, stamps))


@pytest.fixture(scope="module")
def moving(recorded: list[RecordedFrame]) -> list[Frame]:
    """Its first frames with the true disparity smoothly wrong by 4%."""
    result = []
    for index, frame in enumerate(recorded[:9]):
        assert frame.raw_depth is not None
        assert frame.truth is not None
        inverse = 1 / np.nan_to_num(frame.truth, nan=float(np.nanmedian(frame.truth)))
        inverse *= np.exp(0.04 * smooth_field(inverse.shape, np.random.default_rng(index), 5))
        result.append((frame.rgb, frame.raw_depth, inverse.astype(np.float32)))
    return result


def judged(frames: list[Frame], config: ConsistencyConfig | None = None) -> Verdict:
    """The verdict on the last of the frames."""
    judge = Judge(config)
    for index, frame in enumerate(frames):
        verdict = judge.update(*frame, index * PERIOD_NS)
    return verdict


def alone(frames: list[Frame], config: ConsistencyConfig | None = None) -> Verdict:
    """The same by what asks no network: all but registration."""
    consistency = Consistency(config)
    for index, frame in enumerate(frames):
        verdict = consistency.update(*frame, index * PERIOD_NS)
    return verdict


def causes(verdict: Verdict) -> set[str]:
    """Of what is certain."""
    return {one.cause for one in verdict.suspicions if one.certain}


def with_depth(frames: list[Frame], change: Callable[[np.ndarray], np.ndarray]) -> list[Frame]:
    return [(rgb, change(raw), disparity) for rgb, raw, disparity in frames]


def with_colour(frames: list[Frame], change: Callable[[np.ndarray], np.ndarray]) -> list[Frame]:
    return [(change(rgb), raw, disparity) for rgb, raw, disparity in frames]


def moved(factor: float, dx: int, dy: int) -> Callable[[np.ndarray], np.ndarray]:
    """Zooms about the middle, and shifts."""

    def change(raw: np.ndarray) -> np.ndarray:
        height, width = raw.shape
        to = [
            [factor, 0, (1 - factor) * width / 2 + dx],
            [0, factor, (1 - factor) * height / 2 + dy],
        ]
        return cv2.warpAffine(raw, np.array(to), (width, height), flags=cv2.INTER_NEAREST)

    return change


def still(frame: Frame, count: int) -> list[Frame]:
    """The frame again and again, with a camera's noise."""
    rng = np.random.default_rng(3)
    rgb, raw, disparity = frame
    of_colour, of_depth = (rng.standard_normal(one.shape, np.float32) for one in (rgb, raw))

    def noisy(shift: tuple[int, int]) -> Frame:
        coloured = rgb + np.roll(of_colour, shift, (0, 1))
        measured = raw * (1 + np.float32(0.002) * np.roll(of_depth, shift, (0, 1)))
        return np.clip(coloured, 0, 255).astype(np.uint8), measured.astype(np.float32), disparity

    return [noisy((down, right)) for down, right in rng.integers(0, raw.shape, (count, 2))]


def test_what_belongs_together_is_not_suspected(moving: list[Frame]) -> None:
    judge = Judge()
    for index, one in enumerate(moving):
        assert judge.update(*one, index * PERIOD_NS).suspicions == ()
    frame = rendered_frame()
    for own in ((frame.rgb, frame.raw, frame.disparity), moving[0]):
        assert judged(still(own, 2 * SECOND)).suspicions == ()


@pytest.mark.parametrize(
    ("dx", "dy", "words"),
    [
        *((20, 0, "px right"), (-10, 0, "px left"), (0, 20, "px down"), (0, -10, "px up")),
        *((10, 0, "px right"), (0, 10, "px down"), (-40, 0, "px left")),
    ],
)
def test_a_shift_is_measured(moving: list[Frame], dx: int, dy: int, words: str) -> None:
    verdict = judged(with_depth(moving[:SECOND], moved(1.0, dx, dy)))
    assert causes(verdict) == {"shifted"}
    assert words in verdict.suspicions[0].text
    assert verdict.scores["shift_x_px"] == pytest.approx(dx, abs=12)
    assert verdict.scores["shift_y_px"] == pytest.approx(dy, abs=12)


@pytest.mark.parametrize("factor", [1.3, 0.75])
def test_another_field_of_view_is_named(moving: list[Frame], factor: float) -> None:
    verdict = judged(with_depth(moving[:SECOND], moved(factor, 0, 0)))
    assert causes(verdict) == {"zoomed"}
    assert f"{factor:g}" in verdict.suspicions[0].text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw[:, ::-1].copy(), "mirrored left to right"),
        (lambda raw: raw[::-1].copy(), "upside down"),
        (lambda raw: raw[::-1, ::-1].copy(), "turned by half a turn"),
    ],
)
def test_mirrored(
    moving: list[Frame], change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    verdict = judged(with_depth(moving[:SECOND], change))
    assert causes(verdict) == {"mirrored"}
    assert words in verdict.suspicions[0].text


def test_a_fault_is_not_told_in_the_words_of_an_earlier_one(moving: list[Frame]) -> None:
    second = moving[:SECOND]
    judge = Judge()
    for index, frame in enumerate([*with_depth(second, moved(1.0, 0, 40)), *second, *second]):
        judge.update(*frame, index)
    for number, frame in enumerate(with_depth(second, moved(1.0, 0, -40)), start=index + 1):
        verdict = judge.update(*frame, number)
        for suspicion in verdict.suspicions:
            assert "down" not in suspicion.text
    assert "up" in verdict.suspicions[0].text


def test_a_fault_in_mid_stream(moving: list[Frame]) -> None:
    frames = still(moving[0], 3 * SECOND)
    begun = Judge()
    for index, frame in enumerate(frames[: 2 * SECOND]):
        assert begun.update(*frame, index * PERIOD_NS).suspicions == ()
    for cause, change in (
        ("shifted", moved(1.0, 40, 0)),
        ("zoomed", moved(1.3, 0, 0)),
        ("mirrored", lambda raw: raw[:, ::-1].copy()),
    ):
        judge = copy.deepcopy(begun)
        for number, frame in enumerate(with_depth(frames[2 * SECOND :], change), start=index + 1):
            verdict = judge.update(*frame, number * PERIOD_NS)
        assert causes(verdict) == {cause}


def test_depth_whose_readings_lie_apart(moving: list[Frame]) -> None:
    """As a sensor's that is registered to a picture of three times its size."""

    def apart(raw: np.ndarray) -> np.ndarray:
        few = np.full_like(raw, np.nan)
        few[1::3, 1::3] = raw[1::3, 1::3]
        return few

    frames = still(moving[0], SECOND)
    assert not causes(judged(with_depth(frames, apart)))
    mirrored = with_depth(frames, lambda raw: apart(raw[:, ::-1]))
    assert causes(judged(mirrored)) & {"mirrored", "foreign"}


def test_what_was_no_depth_for_a_while_is_no_jump(moving: list[Frame]) -> None:
    second = moving[:SECOND]
    frames = [*second, *with_depth(second, lambda raw: 1000 * raw), *second]
    judge = Judge()
    told = [
        {one.cause for one in judge.update(*frame, index * PERIOD_NS).suspicions}
        for index, frame in enumerate(frames)
    ]
    assert all("depth range" in one for one in told[SECOND : 2 * SECOND])
    assert not any(told[2 * SECOND :])


def test_colour_that_is_registered_to_depth_is_told(moving: list[Frame]) -> None:
    def masked(frame: Frame, of: np.ndarray) -> Frame:
        rgb = np.where(np.isfinite(of)[..., None], frame[0], 0)
        return rgb.astype(np.uint8), frame[1], frame[2]

    def sent(rgb: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", rgb)[1], cv2.IMREAD_COLOR))

    registered = [masked(frame, frame[1]) for frame in moving[:SECOND]]
    for frames in (registered, with_colour(registered, sent)):
        (told,) = judged(frames).suspicions
        assert (told.cause, told.certain, told.denies_depth) == ("colour by depth", False, False)
    # Black things are elsewhere too, and holes at things that are not black.
    dark = [masked(frame, frame[1][:, ::-1]) for frame in moving[:SECOND]]
    assert "colour by depth" not in {one.cause for one in alone(dark).suspicions}
    # Pictures that were given black margins together.
    whole = [(rgb, np.nan_to_num(raw, nan=1.0), one) for rgb, raw, one in moving[:SECOND]]
    boxed = [(rgb.copy(), raw.copy(), one) for rgb, raw, one in whole]
    for rgb, raw, _ in boxed:
        rgb[:40], raw[:40], rgb[:, -60:], raw[:, -60:] = 0, 0, 0, 0
        raw[100:120, 100:120] = 0
    assert "colour by depth" not in {one.cause for one in alone(boxed).suspicions}
    # As time of flight sees black things: there is no light to measure.
    noise = np.random.default_rng(0).integers(3, 11, moving[0][0].shape, np.uint8)
    black = with_colour(registered, lambda rgb: np.maximum(rgb, noise))
    assert "colour by depth" not in {one.cause for one in alone(black).suspicions}


@pytest.mark.parametrize("rest", ["grey", "green", "the last row"])
def test_a_picture_that_was_decoded_in_part_is_told(moving: list[Frame], rest: str) -> None:
    def broken(rgb: np.ndarray) -> np.ndarray:
        begin = rgb.shape[0] * 7 // 10
        values = {"grey": 128, "green": [0, 135, 0], "the last row": rgb[begin - 1]}
        return np.concatenate([rgb[:begin], np.broadcast_to(values[rest], rgb[begin:].shape)])

    def as_bytes(rgb: np.ndarray) -> np.ndarray:
        return broken(rgb).astype(np.uint8)

    (told,) = judged(with_colour(moving[:2], as_bytes)).suspicions
    assert (told.cause, told.certain, told.denies_depth) == ("broken colour", False, False)
    assert re.search("lowest 3[01]%", told.text)


@pytest.mark.parametrize("first", [0, 1])
def test_depth_that_is_mirrored_by_turns_while_the_camera_moves(
    moving: list[Frame], first: int
) -> None:
    """Of which no three frames in a row show the same."""
    frames = [
        (rgb, raw[:, ::-1].copy() if index % 2 == first else raw, disparity)
        for index, (rgb, raw, disparity) in enumerate(moving)
    ]
    assert "by turns" in causes(judged(frames))


def test_drawn_enlarged_and_letterboxed_pictures_are_not_broken(moving: list[Frame]) -> None:
    def enlarged(rgb: np.ndarray) -> np.ndarray:
        return rgb[::2].repeat(2, 0)

    def letterboxed(rgb: np.ndarray) -> np.ndarray:
        boxed = rgb.copy()
        boxed[:40] = boxed[-40:] = 0
        return boxed

    def at_night(rgb: np.ndarray) -> np.ndarray:
        dark = rgb // 3
        dark[-80:] = 0
        return np.maximum(dark, 16)

    def burnt_out(rgb: np.ndarray) -> np.ndarray:
        return np.concatenate([rgb[:-80], np.full_like(rgb[-80:], 252)])

    def drawn(rgb: np.ndarray) -> np.ndarray:
        """A plain table before a wall that is not, and three things on it."""
        height, width = rgb.shape[:2]
        picture = rgb.copy()
        picture[height // 2 :] = 150, 120, 90
        for k in (1, 2, 3):
            cv2.circle(
                picture, (k * width // 4, height * 6 // 10), height // 8, (20, 60 * k, 9), -1
            )
        return picture

    def unevenly(rgb: np.ndarray) -> np.ndarray:
        boxed = rgb.copy()
        boxed[:9] = boxed[-60:] = 128
        return boxed

    def in_blocks(rgb: np.ndarray) -> np.ndarray:
        """As a JPEG that few bits are left for shows a table."""
        picture = rgb.copy()
        picture[-80:] = rgb[-80::8].repeat(8, 0)
        return picture

    changes = (enlarged, letterboxed, unevenly, at_night, burnt_out, drawn, in_blocks)
    for change in (*changes, lambda rgb: rgb):
        verdict = alone(with_colour(moving[:2], change))
        assert "broken colour" not in {one.cause for one in verdict.suspicions}


def test_a_bar_below_colour_and_depth_alike_is_no_broken_picture(moving: list[Frame]) -> None:
    def barred(rgb: np.ndarray) -> np.ndarray:
        return np.concatenate([rgb[:-60], np.full_like(rgb[-60:], 128)])

    def without(raw: np.ndarray) -> np.ndarray:
        return np.concatenate([raw[:-60], np.full_like(raw[-60:], np.nan)])

    over_depth = with_colour(moving[:2], barred)
    (told,) = judged(over_depth).suspicions
    assert told.text.endswith("cut short before it was decoded, or is a bar put below it?")
    assert judged(with_depth(over_depth, without)).suspicions == ()


def test_pictures_of_few_pixels_are_not_judged(moving: list[Frame]) -> None:
    def reduced(frame: Frame) -> Frame:
        rgb, raw, disparity = frame
        return (
            cv2.resize(rgb, (48, 48), interpolation=cv2.INTER_AREA),
            cv2.resize(raw, (48, 48), interpolation=cv2.INTER_NEAREST),
            cv2.resize(disparity, (48, 48), interpolation=cv2.INTER_AREA),
        )

    second = moving[:SECOND]
    mirrored = with_depth(second, lambda raw: raw[:, ::-1].copy())
    (told,) = judged([reduced(frame) for frame in mirrored]).suspicions
    assert (told.cause, told.certain) == ("small", False)
    assert "48x48" in told.text
    assert not causes(judged([reduced(frame) for frame in second]))


def test_depth_that_was_rounded_is_told_though_its_speckles_are_taken_from_it(
    moving: list[Frame],
) -> None:
    consistency = Consistency()
    rgb, raw, disparity = moving[0]
    for index in range(3):
        verdict = consistency.update(rgb, raw, disparity, index, sent=np.rint(2.5 * raw))
    assert causes(verdict) == {"rounded"}


def test_depth_of_a_narrower_view(moving: list[Frame]) -> None:
    """The shift of depth that covers three quarters of the picture is in pixels of the picture."""

    def narrow(raw: np.ndarray) -> np.ndarray:
        height, width = raw.shape
        seen = np.full_like(raw, np.nan)
        seen[height // 8 : -height // 8, width // 8 : -width // 8] = raw[
            height // 8 : -height // 8, width // 8 : -width // 8
        ]
        return seen

    frames = with_depth(moving[:SECOND], narrow)
    assert not causes(judged(frames))
    verdict = judged(with_depth(frames, moved(1.0, 40, 0)))
    assert causes(verdict) == {"shifted"}
    assert verdict.scores["shift_x_px"] == pytest.approx(40, abs=8)
    mirrored = with_depth(frames, lambda raw: raw[:, ::-1])
    assert causes(judged(mirrored)) & {"mirrored", "foreign"}


def test_depth_of_another_scene(moving: list[Frame]) -> None:
    frame = rendered_frame()
    height, width = frame.raw.shape
    other = cv2.resize(moving[0][1], (width, height), interpolation=cv2.INTER_NEAREST)
    verdict = judged(still((frame.rgb, other, frame.disparity), SECOND))
    assert causes(verdict) & {"foreign", "shifted", "zoomed", "mirrored"}


def test_a_wrong_network_is_no_foreign_depth(moving: list[Frame]) -> None:
    rgb, raw, disparity = moving[0]
    nonsense = smooth_field(disparity.shape, np.random.default_rng(0), 8).astype(np.float32)
    assert judged(still((rgb, raw, nonsense), SECOND)).suspicions == ()


def test_edges_on_steps_speak_against_the_refiner(moving: list[Frame]) -> None:
    """A picture that no training has seen, its edges on the depth's."""
    _, raw, disparity = moving[0]
    edges = np.where(np.nan_to_num(raw, nan=9.0) < np.nanmedian(raw), 220, 30).astype(np.uint8)
    consistency = Consistency()
    never = Seen(lambda: -3.0, lambda changes: [-3.0] * len(changes))
    for index, frame in enumerate(still((np.repeat(edges[..., None], 3, 2), raw, disparity), 5)):
        verdict = consistency.update(*frame, index * PERIOD_NS, None, never)
    assert verdict.suspicions == ()
    assert verdict.scores["edges"] > consistency.config.edges


def test_one_stream_frozen_while_the_other_moves(moving: list[Frame]) -> None:
    rgb, raw, disparity = moving[0]
    frozen_depth = [(frame[0], raw, frame[2]) for frame in moving[:SECOND]]
    assert "frozen depth" in causes(alone(frozen_depth))
    frozen_colour = [(rgb, frame[1], disparity) for frame in moving[:SECOND]]
    assert "frozen colour" in causes(alone(frozen_colour))


@pytest.mark.parametrize("rows", [slice(200, None), slice(None, 90)])
def test_a_part_of_an_earlier_image_is_told_in_that_frame_alone(
    moving: list[Frame], rows: slice
) -> None:
    judge, told = Consistency(), []
    for index, (rgb, raw, _) in enumerate(moving):
        torn = raw.copy()
        if index in (4, 7):
            torn[rows] = moving[2][1][rows]
        told.append(judge.update(rgb, torn, None, index * PERIOD_NS))
    assert [causes(one) for one in told] == [{"torn"} if i in (4, 7) else set() for i in range(9)]
    assert "an earlier image's to the bit" in told[7].suspicions[0].text
    assert told[7].suspicions[0].denies_depth


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.04])
@pytest.mark.parametrize("arm", [False, True])
def test_noisy_depth_does_not_move(moving: list[Frame], noise: float, arm: bool) -> None:
    """Of a picture that a video codec leaves as it is where nothing moves; far readings are so."""
    (rgb, raw, _), judge, rng = moving[0], Consistency(), np.random.default_rng(0)
    for index in range(8):
        picture = rgb.copy()
        if arm:
            picture[:100, 40 * index : 40 * index + 60] = 30
        patches = cv2.GaussianBlur(rng.standard_normal(raw.shape).astype(np.float32), (0, 0), 3)
        noisy = raw * (1 + np.float32(noise / patches.std()) * patches)
        verdict = judge.update(picture, noisy, None, index * PERIOD_NS)
        assert not {"frozen colour", "torn colour"} & {one.cause for one in verdict.suspicions}


@pytest.mark.parametrize("rows", [slice(200, None), slice(None, 90)])
def test_a_part_of_an_earlier_picture_is_told_where_depth_has_moved(
    moving: list[Frame], rows: slice
) -> None:
    """As where half of a frame is lost on the way, and the buffer holds another's."""
    judge, told = Consistency(), []
    for index, (rgb, raw, _) in enumerate(moving):
        torn = rgb.copy()
        if index in (6, 8):
            torn[rows] = moving[0][0][rows]
        told.append(judge.update(torn, raw, None, index * PERIOD_NS))
    assert [causes(one) for one in told] == [
        {"torn colour"} if i in (6, 8) else set() for i in range(9)
    ]
    assert "the colour image's rows" in told[8].suspicions[0].text
    assert not told[8].suspicions[0].denies_depth


def test_a_plain_part_of_a_picture_is_not_torn(moving: list[Frame]) -> None:
    """A bar below it, or what burnt out."""

    def barred(rgb: np.ndarray) -> np.ndarray:
        rgb = rgb.copy()
        rgb[200:] = 255
        return rgb

    judge = Consistency()
    for index, (rgb, raw, _) in enumerate(with_colour(moving, barred)):
        assert "torn colour" not in causes(judge.update(rgb, raw, None, index * PERIOD_NS))


@pytest.mark.parametrize("clock", [False, True])
def test_a_bar_that_is_drawn_into_pictures_is_not_torn(moving: list[Frame], clock: bool) -> None:
    """With a name, a logo or the time on it: it never was a sensor's, unlike what is lost."""
    texture = np.random.default_rng(0).integers(0, 255, (60, 480, 3), np.uint8)
    judge, told = Consistency(), []
    for index, (rgb, raw, _) in enumerate(moving):
        barred = rgb.copy()
        barred[-60:] = texture
        if clock:
            barred[-40:-20, 230:260] = np.random.default_rng(index // 3).integers(0, 255, 3)
        if index == 8:
            barred[:90] = moving[0][0][:90]
        told.append(judge.update(barred, raw, None, index * PERIOD_NS))
    assert [causes(one) for one in told] == [
        {"torn colour"} if index == 8 else set() for index in range(9)
    ]


@pytest.mark.parametrize("of_depth", [True, False])
def test_a_part_that_stood_still_before_anybody_looked_is_torn(
    moving: list[Frame], of_depth: bool
) -> None:
    """As where the node is started after the camera has failed, or the stream begins anew."""
    judge, told = Consistency(), set()
    for index, (rgb, raw, _) in enumerate(moving):
        picture, depth = rgb.copy(), raw.copy()
        torn = depth if of_depth else picture
        torn[150:] = moving[0][1 if of_depth else 0][150:]
        told |= causes(judge.update(picture, depth, None, index * PERIOD_NS))
    assert told == {"torn" if of_depth else "torn colour"}


def test_what_stands_still_or_has_no_noise_is_not_torn(moving: list[Frame]) -> None:
    """An arm moves in the lower half of a simulator's still picture; a shadow passes."""
    (rgb, raw, _), judge = moving[0], Consistency()
    rendered = np.linspace(1.0, 0.6, raw.shape[0]).round(3)[:, None].repeat(raw.shape[1], axis=1)
    rendered = rendered.astype(np.float32)
    for index in range(6):
        picture, depth = rgb.copy(), rendered.copy()
        picture[:100, : 60 * index] //= 2
        picture[200:, 60 * index : 60 * index + 60] = 30
        depth[200:, 60 * index : 60 * index + 60] = 0.5
        assert causes(judge.update(picture, depth, None, index * PERIOD_NS)) == set()
    judge.reset()
    for index in range(6):  # above and below it all is as it was
        picture, depth = rgb.copy(), rendered.copy()
        arm = np.s_[80:200, 60 * index : 60 * index + 150]
        picture[arm], depth[arm] = 30, 0.5
        told = causes(judge.update(picture, depth, None, index * PERIOD_NS))
        assert not told & {"torn", "torn colour"}
    judge.reset()
    for index, (picture, depth, _) in enumerate(still(moving[0], 6)):
        torn = np.concatenate([depth[:150], raw[150:]])
        assert causes(judge.update(picture, torn, None, index * PERIOD_NS)) == set()


@pytest.mark.parametrize("which", ["colour", "depth"])
def test_images_that_are_sent_again_are_told(recorded: list[RecordedFrame], which: str) -> None:
    """Of a driver that has one of the two half as often, and fills its place with the last."""
    judge = Consistency()
    for index, frame in enumerate(recorded[:16]):
        before = recorded[index - index % 2]
        rgb, depth = (before, frame) if which == "colour" else (frame, before)
        assert depth.raw_depth is not None
        verdict = judge.update(rgb.rgb, depth.raw_depth, None, index * PERIOD_NS)
    (told,) = (one for one in verdict.suspicions if one.cause == "sent again")
    assert f"8 of the newest 16 {which} images" in told.text
    assert f"{which} is up to 1 frame older" in told.text
    assert not told.certain


def test_a_simulation_that_goes_on_by_steps_sends_nothing_again(
    recorded: list[RecordedFrame],
) -> None:
    """Its depth has no noise, its colour has; a lamp blinks."""
    judge, rng = Consistency(), np.random.default_rng(0)
    for index in range(24):
        frame, light = recorded[index // 3], 0.6 + 0.4 * (index // 5 % 2)
        noisy = frame.rgb * light + rng.normal(0, 2, frame.rgb.shape)
        rgb = np.clip(noisy, 0, 255).astype(np.uint8)
        verdict = judge.update(rgb, frame.truth, None, index * PERIOD_NS)
    assert verdict.suspicions == ()


def test_depth_without_any_reading_is_not_frozen(moving: list[Frame]) -> None:
    empty = np.full_like(moving[0][1], np.nan)
    assert "frozen depth" not in causes(alone([(f[0], empty, f[2]) for f in moving[:SECOND]]))


@pytest.mark.parametrize("kept", [np.s_[1::2], np.s_[1::3], np.s_[:, 1::2], np.s_[2::4, 3::4]])
def test_depth_with_gaps_in_every_row_is_not_frozen(
    moving: list[Frame], kept: tuple[slice, ...]
) -> None:
    """As what was registered to a picture of more pixels; where it is frozen it is told too."""

    def thinned(raw: np.ndarray) -> np.ndarray:
        thin = np.full_like(raw, np.nan)
        thin[kept] = raw[kept]
        return thin

    thin = with_depth(moving[:SECOND], thinned)
    assert "frozen depth" not in causes(alone(thin))
    assert "frozen depth" in causes(alone([(f[0], thin[0][1], f[2]) for f in thin]))


def test_depth_that_is_met_nowhere_is_not_frozen(moving: list[Frame]) -> None:
    """All that is looked at to the bit are holes, the same each time."""

    def thinned(raw: np.ndarray) -> np.ndarray:
        thin = np.full_like(raw, np.nan)
        thin[:, 1::3] = raw[:, 1::3]
        return thin

    assert "frozen depth" not in causes(alone(with_depth(moving[:SECOND], thinned)))


def test_a_picture_that_stands_still_is_stale_not_frozen(moving: list[Frame]) -> None:
    verdict = alone([moving[0]] * 30)
    assert [one.cause for one in verdict.suspicions] == ["stale colour"]
    assert not verdict.certain


def test_of_a_lens_cap_only_that_is_told(moving: list[Frame]) -> None:
    """What else holds of it, as that it stands still, would hide it."""
    for frames in (moving[:SECOND], [moving[0]] * 30):
        verdict = alone(with_colour(frames, np.zeros_like))
        assert [one.cause for one in verdict.suspicions] == ["colour"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("black", "is black"),
        ("grey", "is of one grey"),
        ("white", "is white"),
        ("dark", "is black"),
        ("noise", "is noise"),
        ("burnt", "% of the colour image are saturated"),
    ],
)
def test_colour_without_information(moving: list[Frame], kind: str, words: str) -> None:
    rng = np.random.default_rng(0)
    change: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "black": np.zeros_like,
        "grey": lambda rgb: np.full_like(rgb, 128),
        "white": lambda rgb: np.full_like(rgb, 255),
        "dark": lambda rgb: (rgb * 0.05).astype(np.uint8),
        "noise": lambda rgb: rng.integers(0, 256, rgb.shape).astype(np.uint8),
        "burnt": lambda rgb: np.where(
            np.arange(rgb.shape[1])[:, None] > rgb.shape[1] / 8, 255, rgb
        ),
    }
    verdict = judged(with_colour(moving[:1], change[kind]))
    assert causes(verdict) == {"colour"}
    assert words in verdict.suspicions[0].text


def test_units(moving: list[Frame]) -> None:
    assert "depth range" in causes(judged(with_depth(moving[:1], lambda raw: raw * 100)))
    columns = np.arange(moving[0][1].shape[1])
    some = with_depth(
        moving[:1], lambda raw: np.where(columns < 0.65 * len(columns), raw * 100, raw)
    )
    (told,) = (one for one in judged(some).suspicions if one.cause == "depth range")
    assert not told.certain
    assert 0.55 < float(told.text.split("%")[0]) / 100 < 0.75
    bounds = ConsistencyConfig(expected_depth_m=(0.3, 2.0))
    assert judged(moving[:1], bounds).suspicions == ()
    tenfold = judged(with_depth(moving[:1], lambda raw: raw * 10), bounds)
    assert "expected depth" in causes(tenfold)


def test_a_jump_of_scale_and_its_way_back(moving: list[Frame]) -> None:
    rgb, raw, disparity = moving[0]
    four = (rgb, raw * 4, disparity)
    jumped = [*still(moving[0], 2), *still(four, 3)]
    verdict = alone(jumped)
    assert "jump" in causes(verdict)
    assert "4 times" in next(one.text for one in verdict.suspicions if one.cause == "jump")
    assert "jump" not in causes(judged([*jumped, *still(moving[0], 1)]))


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_smaller_jump_is_one_before_a_camera_at_rest(moving: list[Frame], factor: float) -> None:
    *before, after = still(moving[0], 4)
    jumped = with_depth([after], lambda raw: raw * np.float32(factor))
    assert "jump" in causes(alone([*before, *jumped]))
    dim = with_colour([*before, *jumped], lambda rgb: rgb // 2)
    assert "jump" in causes(alone(dim)), "at dusk"
    assert "jump" not in causes(judged([*before, after]))
    nearer = moved(1.25, 0, 0)
    come = with_colour(
        with_depth([after], lambda raw: nearer(raw) * np.float32(0.8)),
        lambda rgb: cv2.merge([nearer(one) for one in cv2.split(rgb)]),
    )
    assert "jump" not in causes(judged([*before, *come]))


def test_what_comes_nearer_before_a_picture_that_does_not_show_it_is_no_jump() -> None:
    """A bare table, and an object that is lifted where nothing else has readings."""
    rng, (height, width) = np.random.default_rng(0), (144, 240)
    y, x = (np.mgrid[:height, :width] - np.reshape([height, width], (2, 1, 1)) / 2) / width
    bare = 180 * (1 - 0.8 * (x**2 + y**2))
    plain = 125 + 60 * smooth_field((height, width), rng, 12)

    def seen(at_m: float, lifted: bool) -> Frame:
        there = np.maximum(np.abs(x), np.abs(y)) < 0.12 / at_m
        grey = np.where(there, 120, plain) if lifted else bare
        rgb = (np.repeat(grey[..., None], 3, 2) + rng.normal(0, 1, (height, width, 3))).clip(0, 255)
        raw = np.where(there | (not lifted), at_m, np.nan)
        return rgb.astype(np.uint8), raw.astype(np.float32), np.ones((height, width), np.float32)

    for lifted in (False, True):
        frames = [seen(1.0, lifted), seen(1.0, lifted), seen(0.84, lifted)]
        consistency = Consistency()
        told = [consistency.update(*frame, t * PERIOD_NS) for t, frame in enumerate(frames)]
        assert told[2].scores["jump"] == pytest.approx(0.84, abs=0.01)
        assert "jump" not in causes(told[2])


def test_a_scale_that_was_one_frames_alone_is_not_known_to_be_right_when_it_is_back(
    moving: list[Frame],
) -> None:
    """Of a stream that begins with what comes by turns."""
    right = still(moving[0], 4)
    half = with_depth(right, lambda raw: raw * np.float32(0.5))
    assert "jump" in causes(judged([half[0], right[1], half[2]]))
    assert "jump" not in causes(judged([*right[:2], half[2], right[3]]))


def test_a_jump_of_the_line(moving: list[Frame]) -> None:
    consistency = Consistency()
    rgb, _, disparity = moving[0]
    for index, scale in enumerate((1.0, 0.25)):
        verdict = consistency.update(rgb, None, disparity, index * PERIOD_NS, (scale, 0.0))
    assert causes(verdict) == {"jump"}


def dim(rgb: np.ndarray) -> np.ndarray:
    """What a camera sees with a quarter of the light: all pictures are alike by their levels."""
    return (rgb * 0.25).astype(np.uint8)


def come_near(part: np.ndarray) -> np.ndarray:
    """The middle of it, enlarged by 1.7."""
    height, width = part.shape[:2]
    to = np.array([[1.7, 0, -0.35 * width], [0, 1.7, -0.35 * height]])
    return np.asarray(cv2.warpAffine(part, to, (width, height), flags=cv2.INTER_NEAREST))


def another_scene(before: Frame) -> Frame:
    other = rendered_frame()
    size = before[1].shape[::-1]
    rgb = np.asarray(cv2.resize(other.rgb, size), np.uint8)
    raw, disparity = (
        cv2.resize(part.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        for part in (other.raw, other.disparity)
    )
    factor = 0.4 * np.nanmedian(before[1]) / np.nanmedian(raw)
    return rgb, raw * np.float32(factor), disparity / np.float32(factor)


def with_an_arm_near(before: Frame) -> Frame:
    rgb, raw, disparity = (part.copy() for part in before)
    width = raw.shape[1]
    part = np.s_[:, : round(0.65 * width)]
    rgb[part] = 0.9 * rgb[part]
    raw[part], disparity[part] = 0.25, 4.0
    return rgb, raw, disparity


def nearer(before: Frame) -> Frame:
    rgb, raw, disparity = (come_near(part) for part in before)
    return rgb, raw / np.float32(1.7), disparity * np.float32(1.7)


@pytest.mark.parametrize("change", [another_scene, with_an_arm_near, nearer])
def test_depth_that_another_view_brings_is_no_jump(
    moving: list[Frame], change: Callable[[Frame], Frame]
) -> None:
    stream = with_colour([*still(moving[0], 3), *still(change(moving[0]), 3)], dim)
    judge = Judge()
    for index, frame in enumerate(stream):
        verdict = judge.update(*frame, index * PERIOD_NS)
        assert "jump" not in causes(verdict)


@pytest.mark.parametrize("gain", [1.0, 0.6])
def test_a_jump_is_seen_while_the_camera_moves_and_the_light_changes(
    moving: list[Frame], gain: float
) -> None:
    after = with_colour(moving[3:5], lambda rgb: (gain * rgb).astype(np.uint8))
    after = [(rgb, raw * np.float32(1.8), disparity / 1.8) for rgb, raw, disparity in after]
    assert "jump" in causes(alone([*moving[:3], *after]))


@pytest.mark.parametrize("every", [2, 4])
def test_lights_that_blink_say_nothing_of_what_is_registered(
    moving: list[Frame], every: int
) -> None:
    judge = Judge()
    for t, (rgb, raw, disparity) in enumerate(still(moving[0], 14)):
        is_off = t % every == every - 1
        shown = np.zeros_like(rgb) if is_off else rgb
        verdict = judge.update(shown, raw, disparity, t * PERIOD_NS)
        assert causes(verdict) == ({"colour"} if is_off else set())


def says(odds: float) -> Seen:
    return Seen(lambda: odds, lambda changes: [odds] * len(changes))


@pytest.mark.parametrize("left", [0.25, 1.0])
def test_an_emitter_that_blinks_says_nothing_of_what_is_registered(
    moving: list[Frame], left: float
) -> None:
    """What the matcher says of the few readings that are left is not held against the others."""
    consistency, rng = Consistency(), np.random.default_rng(0)
    height, width = moving[0][1].shape
    told = set[str]()
    for t, (rgb, raw, disparity) in enumerate(still(moving[0], 14)):
        lost = (rng.random((height // 8, width // 8)) >= left).astype(np.uint8) * (t % 2)
        raw = np.where(cv2.resize(lost, (width, height), interpolation=0) > 0, np.nan, raw)
        seen = says(5.0 if t % 2 else -2.0) if t else None  # of the frame before
        told |= causes(
            consistency.update(rgb, raw.astype(np.float32), disparity, t * PERIOD_NS, seen=seen)
        )
    assert told == (set() if left < 1 else {"by turns"})


@pytest.mark.parametrize("blinks", ["lights", "emitter"])
def test_depth_beside_its_colour_is_told_all_the_time_whatever_blinks(
    moving: list[Frame], blinks: str
) -> None:
    """Not in every second frame alone, by whose depth the network would be used by turns."""
    judge, rng, told = Judge(), np.random.default_rng(0), list[bool]()
    for t, (rgb, raw, disparity) in enumerate(still(moving[0], 24)):
        raw = moved(1, 20 if t >= 6 else 0, 0)(raw)
        if t % 2 and blinks == "lights":
            rgb = np.zeros_like(rgb)
        elif t % 2:
            lost = (rng.random((raw.shape[0] // 8, raw.shape[1] // 8)) < 0.75).astype(np.uint8)
            raw = np.where(cv2.resize(lost, raw.shape[::-1], interpolation=0) > 0, np.nan, raw)
        told.append(bool(causes(judge.update(rgb, raw, disparity, t * PERIOD_NS)) - {"colour"}))
    assert not any(told[:6])
    assert all(told[16::2])
    assert blinks == "lights" or all(told[16:])


def test_a_picture_near_a_limit_is_not_used_by_turns(moving: list[Frame]) -> None:
    rgb, raw, disparity = moving[0]
    low, high = np.quantile(shrunk(fine_grey(rgb)), [0.02, 0.98])

    def spread(levels: float) -> np.ndarray:
        return np.rint(40 + (rgb - low) * levels / (high - low)).clip(0, 255).astype(np.uint8)

    def told(levels: list[float]) -> str:
        consistency = Consistency()
        verdicts = [
            consistency.update(spread(level), raw, disparity, t * PERIOD_NS)
            for t, level in enumerate(levels)
        ]
        return "".join("C" if "colour" in causes(verdict) else "." for verdict in verdicts)

    assert told([11, 8, 11, 8, 11, 11, 8, 11]) == ".CCCCCCC"
    assert told([8, 14, 14]) == "C..", "at once where it is clear"
    assert told([8, *[11] * 12]) == "C" * 11 + "..", "and where it lasts"


def test_flickering_lights_tell_nothing_of_depth_without_noise(moving: list[Frame]) -> None:
    """As a simulation gives it, to the bit, of a scene that stands still."""
    rgb, raw, disparity = moving[0]
    lit = [((rgb * gain).astype(np.uint8), raw, disparity) for gain in (0.9, 0.6) * 4]
    assert "frozen depth" not in causes(alone(lit))
    dark = [((one * 0.6).astype(np.uint8), raw, disparity) for one, _, _ in moving]
    assert "frozen depth" in causes(alone(dark))


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        (Change(zoom=1.3), [0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 0]),
        (Change(zoom=0.75), [3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11]),  # OpenCV 5 makes it 5, 5, 6
        (Change(x=0.125), [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]),
    ],
)
def test_a_change_is_undone_alike_by_every_opencv(change: Change, moved: list[int]) -> None:
    """OpenCV 5 rounds halves otherwise; on small pictures that told other states."""
    row = np.arange(1, 13, dtype=np.float32)
    for turned in (False, True):
        readings = np.ascontiguousarray(row[None].repeat(12, 0))
        if turned:
            readings = np.ascontiguousarray(readings.T)
            change = Change(y=change.x, zoom=change.zoom)
        undone = change.undone(readings)
        assert undone.dtype == np.float32
        assert (undone.T if turned else undone)[5].tolist() == moved


def test_where_nothing_helps_less_is_tried_until_something_changes(moving: list[Frame]) -> None:
    rgb, raw, disparity = moving[0]
    consistency, asked = Consistency(), []

    def seen(log_odds: float, shifted: float) -> Seen:
        def ask(changes: Sequence[Change]) -> list[float]:
            asked.append(len(changes))
            return [log_odds, *(shifted if one.x > 0.04 else -3.0 for one in changes[1:])]

        return Seen(lambda: log_odds, ask)

    frames = still((rgb, raw, disparity), 60)
    for index, frame in enumerate(frames[:40]):
        told = seen(3.5, -3.0)
        assert consistency.update(*frame, index * PERIOD_NS, None, told).suspicions == ()
    assert len(CHANGES) < sum(asked) < 3 * len(CHANGES)
    assert asked[-1] == 3  # as it is, one change, and by the edges
    for index, frame in enumerate(frames[40 : 40 + 2 * SECOND], start=40):
        verdict = consistency.update(*frame, index * PERIOD_NS, None, seen(1.0, 4.0))
    assert causes(verdict) == {"shifted"}


@pytest.mark.parametrize(
    ("period_ns", "least", "most"), [(33_000_000, 4, 5), (200_000_000, 12, 13)]
)
def test_while_all_is_well_a_fast_camera_is_not_judged_each_time(
    moving: list[Frame], period_ns: int, least: int, most: int
) -> None:
    consistency = Consistency()
    told: list[float] = []

    def seen(log_odds: float) -> Seen:
        def tell() -> float:
            told.append(log_odds)
            return log_odds

        return Seen(tell, lambda changes: [0.0] * len(changes))

    frames = still(moving[0], 24 + 12)
    for index, frame in enumerate(frames):
        log_odds = 5.0 if index < 24 else -5.0
        verdict = consistency.update(*frame, index * period_ns, None, seen(log_odds))
    assert least <= told.count(5.0) <= most
    assert causes(verdict) == {"foreign"}


def test_reset_forgets(moving: list[Frame]) -> None:
    judge = Judge()
    for index, frame in enumerate(with_depth(moving[:SECOND], lambda raw: raw[:, ::-1].copy())):
        verdict = judge.update(*frame, index)
    assert causes(verdict) == {"mirrored"}
    judge.consistency.reset()
    assert judge.consistency.update(*moving[0], 0).suspicions == ()


def test_without_depth_or_disparity(moving: list[Frame]) -> None:
    consistency = Consistency()
    rgb, raw, disparity = moving[0]
    assert consistency.update(rgb, None, disparity, 0).suspicions == ()
    assert consistency.update(rgb, raw, None, 1).suspicions == ()
    nothing = np.full_like(raw, np.nan)
    assert consistency.update(rgb, nothing, disparity, 2).suspicions == ()


def test_limits_that_cannot_be() -> None:
    with pytest.raises(DktError, match="0 < min < max"):
        ConsistencyConfig(min_raw_depth=2.0, max_raw_depth=1.0)
    with pytest.raises(DktError, match="low < high"):
        ConsistencyConfig(expected_depth_m=(2.0, 1.0))
    with pytest.raises(DktError, match="none to be below the one before"):
        ConsistencyConfig(refused=1.0, doubted=0.0)


def of_moments(
    recorded: list[RecordedFrame], late: int, still: int = 0, seen: Seen | None = None
) -> Verdict:
    """The verdict after colour whose depth is so many frames old, 100 ms each, and after a rest."""
    consistency = Consistency()
    numbers = [*range(6, len(recorded)), *[len(recorded) - 1] * still]
    for index, number in enumerate(numbers):
        raw = recorded[number - late].raw_depth
        noise = np.random.default_rng(index).normal(0, 1, (*recorded[number].rgb.shape[:2], 1))
        rgb = np.clip(recorded[number].rgb + noise, 0, 255).astype(np.uint8)
        verdict = consistency.update(rgb, raw, None, index * 100_000_000, seen=seen)
    return verdict


@pytest.mark.parametrize("start", [3, 30, 57])
def test_a_healthy_camera_that_goes_there_and_back_is_not_late(
    recorded: list[RecordedFrame], start: int
) -> None:
    consistency, period = Consistency(), 2 * len(recorded) - 2
    for index in range(40):
        place = (start + index) % period
        frame = recorded[min(place, period - place)]
        assert frame.raw_depth is not None
        rgb = cv2.resize(frame.rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        raw = frame.raw_depth[::2, ::2].copy()
        verdict = consistency.update(np.asarray(rgb, np.uint8), raw, None, index * 66_000_000)
        assert not any(one.cause == "late" and one.certain for one in verdict.suspicions), index


def test_late_depth_is_named(recorded: list[RecordedFrame]) -> None:
    verdict = of_moments(recorded, 3, seen=says(-3.0))
    assert causes(verdict) == {"late"}, "it lies beside its colour too, for that reason"
    (suspicion,) = verdict.suspicions
    assert verdict.scores["lag_frames"] == pytest.approx(3, abs=1)
    assert re.search(r"the depth seems about [234] frames \([234]00 ms\) older", suspicion.text)
    assert "stamp each image when it was taken" in suspicion.advice
    assert suspicion.denies_depth
    assert of_moments(recorded, 0).suspicions == ()


def test_late_depth_of_what_stands_still_is_that_of_its_colour(
    recorded: list[RecordedFrame],
) -> None:
    verdict = of_moments(recorded, 3, still=12)
    assert causes(verdict) == set()
    assert [one.cause for one in verdict.suspicions] == ["late"]


def test_no_jump_stays_behind_what_was_no_depth(recorded: list[RecordedFrame]) -> None:
    """Some frames of what is none may not show it, the last ones among them."""
    consistency, told = Consistency(), list[Verdict]()

    def jumps(verdict: Verdict) -> list[bool]:
        return [one.certain for one in verdict.suspicions if one.cause == "jump"]

    for index in range(120):
        frame = recorded[index % 20]
        assert frame.raw_depth is not None
        raw = frame.raw_depth.copy()
        if 6 <= index < 12 or 80 <= index < 85:
            raw *= 300  # beyond all range, which denies it
        elif index == 12:
            raw *= 8
        told.append(consistency.update(frame.rgb, raw, None, index * 160_000_000))
    assert all(any(one.denies_depth for one in verdict.suspicions) for verdict in told[6:12])
    assert jumps(told[13]) == [True]
    end = next(index for index in range(13, 80) if not jumps(told[index]))
    assert end * 0.16 < 13 * 0.16 + consistency.config.jump_s + 0.2
    assert not any(map(jumps, told[end:]))
    frame = recorded[19]  # any other one is told for as long as it lasts
    assert frame.raw_depth is not None
    for index in range(120, 220):
        verdict = consistency.update(frame.rgb, frame.raw_depth * 4, None, index * 160_000_000)
    assert jumps(verdict) == [False]


def test_a_jump_to_what_is_no_depth_is_told_no_longer(recorded: list[RecordedFrame]) -> None:
    """It may come some frames before it is seen to be none; the way back shows another view."""
    consistency = Consistency()

    def causes_of(number: int, factor: float, turned: bool = False) -> list[str]:
        frame = recorded[5]
        assert frame.raw_depth is not None
        rgb, raw = frame.rgb, frame.raw_depth * np.float32(factor)
        if turned:
            rgb, raw = (np.ascontiguousarray(one[:, ::-1]) for one in (rgb, raw))
        verdict = consistency.update(rgb, raw, None, number * 160_000_000)
        return [one.cause for one in verdict.suspicions]

    factors = [1.0] * 6 + [8.0] * 3 + [300.0] * 6
    told = [causes_of(number, factor) for number, factor in enumerate(factors)]
    assert [number for number, one in enumerate(told) if "jump" in one] == [6, 7, 8]
    told = [causes_of(number, 1.0, True) for number in range(15, 120)]
    assert "jump" in told[0]
    assert "jump" not in told[-1]
