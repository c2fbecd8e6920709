"""Intake: what is filed, what is dropped and how it is named; frames that only look odd pass."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from dkt_ros.frames import Frame
from dkt_ros.messages.fields import (
    MessageError,
    camera_info_to_intrinsics,
    has_distortion,
    of_rectified_images,
)
from dkt_ros.messages.intake import Intake
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.remarks import MOST_REMARKS
from dkt_ros.ros.convert.images import depth_to_image, rgb_to_image
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.statistics import Statistics

pytestmark = pytest.mark.ros
HEIGHT, WIDTH = 4, 6
MS = 1_000_000


@dataclass
class Filed:
    """An observation and its frame."""

    frame: Frame
    observation: Observation

    @property
    def epoch(self) -> int:
        return self.observation.epoch


class Desk:
    """An intake and what it filed and reported."""

    def __init__(self, **parameters: Any) -> None:
        self.filed: list[Filed] = []
        self.reports: list[tuple[str, str]] = []
        self.statistics = Statistics()
        self.intake = Intake(
            NodeParameters(**parameters),
            self.statistics,
            self._file,
            lambda cause, text: self.reports.append((cause, text)),
            lambda: self.now_ns,
        )
        self.now_ns = 0

    def _file(self, observation: Observation) -> None:
        """Decodes at once, as the inference thread does when it is free."""
        try:
            self.filed.append(Filed(observation.decode(), observation))
        except Exception as error:  # noqa: BLE001 as the node does
            self.intake.drop(error)

    def calibrate(self, **changes: Any) -> None:
        fields: dict[str, Any] = {"width": WIDTH, "height": HEIGHT}
        fields["k"] = [5.0, 0.0, 2.5, 0.0, 5.0, 1.5, 0.0, 0.0, 1.0]
        fields["p"] = [4.0, 0.0, 2.5, 0.0, 0.0, 4.0, 1.5, 0.0, 0.0, 0.0, 1.0, 0.0]
        self.intake.on_camera_info(CameraInfo(**(fields | changes)))

    def show(
        self, ms: int, color: Image | CompressedImage | None = None, depth: Image | None = None
    ) -> None:
        color, depth = color or rgb(), depth or metres()
        for message in (color, depth):
            message.header.stamp = make_header(ms * MS, "").stamp
        self.intake.on_color(color)
        self.intake.on_depth(depth)

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.statistics.snapshot().drops)


def rgb(frame_id: str = "color_frame", height: int = HEIGHT) -> Image:
    return rgb_to_image(np.full((height, WIDTH, 3), 7, np.uint8), make_header(0, frame_id))


def metres(frame_id: str = "color_frame") -> Image:
    return depth_to_image(np.full((HEIGHT, WIDTH), 0.5, np.float32), make_header(0, frame_id))


def test_a_pair_becomes_one_observation_in_metres() -> None:
    desk = Desk()
    desk.calibrate()
    desk.show(40)
    streams = desk.statistics.snapshot().streams
    assert {name: stream.count for name, stream in streams.items()} == dict.fromkeys(
        ("camera_info", "color", "depth"), 1
    )
    (filed,) = desk.filed
    assert filed.frame.stamp_ns == 40 * MS
    assert filed.frame.frame_id == "color_frame"
    assert filed.frame.intrinsics.fx == 5.0
    assert filed.frame.raw_depth is not None
    assert (filed.frame.raw_depth == 0.5).all()
    assert filed.observation.camera_info.width == WIDTH
    assert (desk.reports, desk.drops) == ([], {})


def test_parameters_of_the_intake_act() -> None:
    desk = Desk(rectified=True, depth_unit_m=0.01)
    desk.calibrate()
    steps = np.full((HEIGHT, WIDTH), 80, np.uint16)
    message = Image(height=HEIGHT, width=WIDTH, encoding="16UC1", step=2 * WIDTH)
    message.data = array("B", steps.tobytes())
    message.header.frame_id = "color_frame"
    desk.show(0, depth=message)
    frame = desk.filed[0].frame
    assert frame.intrinsics.fx == 4.0
    assert frame.raw_depth is not None
    assert frame.raw_depth == pytest.approx(0.8)


def test_slop_acts_at_once() -> None:
    desk = Desk(sync_slop_s=0.0)
    desk.calibrate()

    def pair_off(ms: int) -> None:
        color, depth = rgb(), metres()
        color.header.stamp = make_header(ms * MS, "").stamp
        depth.header.stamp = make_header((ms + 5) * MS, "").stamp
        desk.intake.on_color(color)
        desk.intake.on_depth(depth)

    pair_off(0)
    assert desk.filed == []
    desk.intake.apply(NodeParameters(sync_slop_s=0.01))
    pair_off(33)
    assert len(desk.filed) == 1
    assert desk.drops == {"colour without depth in time": 1, "depth without colour in time": 1}


def test_images_before_their_calibration_are_named() -> None:
    desk = Desk()
    desk.show(0)
    color, depth = rgb(), metres()
    color.header.stamp = depth.header.stamp = make_header(33 * MS, "").stamp
    desk.intake.on_depth(depth)  # ends the wait of the first
    assert desk.drops == {"no camera_info yet": 1}
    assert "color/camera_info" in desk.reports[0][1]
    desk.intake.on_color(color)
    desk.calibrate()
    desk.show(66)
    assert [filed.frame.stamp_ns for filed in desk.filed] == [33 * MS, 66 * MS]


@pytest.mark.parametrize("change", ["size", "focal length"])
def test_calibration_that_comes_behind_its_images_is_theirs(change: str) -> None:
    desk = Desk()
    height = HEIGHT
    for frame in range(6):
        focal = 5.0 if frame < 3 else 7.0
        height = HEIGHT if frame < 3 or change == "focal length" else HEIGHT + 2
        depth = depth_to_image(np.full((height, WIDTH), 0.5, np.float32), make_header(0, ""))
        desk.show(33 * frame, rgb("", height), depth)
        assert len(desk.filed) == frame
        k = [focal, 0.0, 2.5, 0.0, focal, 1.5, 0.0, 0.0, 1.0]
        header = make_header(33 * frame * MS, "")
        desk.calibrate(k=k, height=height, header=header)
    assert [filed.frame.intrinsics.fx for filed in desk.filed] == [5.0] * 3 + [7.0] * 3
    assert desk.filed[-1].frame.intrinsics.height == height
    assert desk.drops == {}
    # Where it stays away, the next image ends the wait, and nothing waits from then on.
    depth = depth_to_image(np.full((height, WIDTH), 0.5, np.float32), make_header(0, ""))
    desk.show(200, rgb("", height), depth)
    desk.show(233, rgb("", height), depth)
    assert [filed.frame.stamp_ns for filed in desk.filed[-2:]] == [200 * MS, 233 * MS]


def test_another_size_of_calibration_is_named() -> None:
    desk = Desk()
    desk.calibrate(width=1280, height=720)
    desk.show(0)
    assert desk.drops == {"camera_info of another size": 1}
    assert "1280x720" in desk.reports[0][1]
    assert "Earlier images" not in desk.reports[0][1]


def test_binning_and_region_are_told_where_they_do_not_fit_the_images() -> None:
    desk = Desk()
    roi = RegionOfInterest(width=4, height=4)
    desk.calibrate(binning_x=2, binning_y=1, roi=roi)
    desk.show(0)
    desk.intake.drop(MessageError("compressed image of another size", "a JPEG."))
    desk.intake.drop(MessageError("truncated image", "cut."))
    told = "This camera_info says 6x4, region of interest 4x4, binning 2x1: width and height are"
    assert [told in text for _, text in desk.reports] == [True, True, False]


def test_a_region_of_interest_counts_as_the_images_size() -> None:
    desk = Desk()
    info = CameraInfo(width=12, height=8, binning_x=2, binning_y=2)
    info.k = [50.0, 0.0, 2.5, 0.0, 50.0, 1.5, 0.0, 0.0, 1.0]
    desk.intake.on_camera_info(info)
    desk.show(0)
    assert desk.filed[0].frame.intrinsics.fx == 25.0


def test_the_calibration_that_goes_on_is_right_for_whoever_reads_k_alone() -> None:
    desk = Desk()
    desk.calibrate(
        width=2 * WIDTH,
        height=2 * HEIGHT,
        binning_x=2,
        binning_y=2,
        k=[10.0, 0.0, 5.5, 0.0, 10.0, 3.5, 0.0, 0.0, 1.0],
    )
    desk.show(10)
    info, camera = desk.filed[0].observation.camera_info, desk.filed[0].frame.intrinsics
    assert (info.width, info.height) == (camera.width, camera.height) == (WIDTH, HEIGHT)
    assert (
        (info.k[0], info.k[2], info.k[5]) == (camera.fx, camera.cx, camera.cy) == (5.0, 2.75, 1.75)
    )


def test_a_slash_before_the_frame_id_is_remarked_on() -> None:
    desk = Desk()
    desk.calibrate()
    desk.show(0, rgb("/color_frame"), metres("/color_frame"))
    assert len(desk.filed) == 1
    ((cause, text),) = desk.reports
    assert cause == "frame_id"
    assert "'/color_frame': expected no slash" in text


@pytest.mark.parametrize("frame", ["color_frame ", "\tcolor_frame", " "])
def test_a_blank_beside_the_frame_id_is_remarked_on(frame: str) -> None:
    desk = Desk()
    desk.calibrate()
    desk.show(0, rgb(frame), metres(frame))
    assert len(desk.filed) == 1
    cause, text = desk.reports[0]
    assert cause == "frame_id"
    assert f"{frame!r}: expected no blank" in text


def test_another_frame_id_of_depth_is_a_warning_not_a_refusal() -> None:
    desk = Desk()
    desk.calibrate()
    for ms in (0, 33, 66):
        desk.show(ms, depth=metres("depth_frame"))
    assert [filed.frame.frame_id for filed in desk.filed] == ["color_frame"] * 3
    ((cause, text),) = desk.reports
    assert cause == "frame_id"
    assert "'depth_frame'" in text
    assert "align_depth.enable:=true" in text


def test_a_missing_frame_id_is_a_warning() -> None:
    desk = Desk()
    desk.calibrate()
    desk.show(0, color=rgb(""))
    assert len(desk.filed) == 1
    assert "no frame_id" in desk.reports[0][1]


@pytest.mark.parametrize(("rectified", "warnings"), [(False, 1), (True, 0)])
def test_distortion_is_a_warning_for_raw_images(rectified: bool, warnings: int) -> None:
    desk = Desk(rectified=rectified)
    desk.calibrate(d=[0.1, 0.0, 0.0, 0.0, 0.0], distortion_model="plumb_bob")
    desk.show(0)
    assert len(desk.filed) == 1
    assert [cause for cause, _ in desk.reports] == ["distortion"] * warnings


def test_distortion_that_is_no_number_is_told_as_that() -> None:
    desk = Desk()
    desk.calibrate(d=[float("nan")] * 5, distortion_model="plumb_bob")
    desk.show(0)
    assert len(desk.filed) == 1
    ((cause, text),) = desk.reports
    assert cause == "distortion"
    assert "numbers in D that are not finite" in text


def test_time_running_back_starts_an_epoch() -> None:
    desk = Desk()
    desk.calibrate()
    for ms in (100, 133, 0, 33, 66):
        desk.show(ms)
    assert [filed.epoch for filed in desk.filed] == [0, 0, 1, 1, 1]
    assert desk.statistics.snapshot().flushes == {"stamps ran backwards": 1}


def test_a_gap_between_arrivals_starts_an_epoch() -> None:
    desk = Desk(max_gap_s=0.1)
    desk.calibrate()
    for ms in (0, 33, 133, 234, 267):
        desk.show(ms)
    assert [filed.epoch for filed in desk.filed] == [0, 0, 0, 1, 1]
    assert desk.statistics.snapshot().flushes == {"gap between frames": 1}
    desk.intake.apply(NodeParameters(max_gap_s=1.0))
    desk.show(1267)
    assert desk.filed[-1].epoch == 1


def test_dropped_frames_do_not_bridge_a_gap() -> None:
    desk = Desk(max_gap_s=0.1)
    desk.calibrate()
    desk.show(0)
    broken = rgb()
    broken.encoding = "8UC3"
    desk.show(80, color=broken)
    desk.show(160)
    assert [filed.epoch for filed in desk.filed] == [0, 1]


def test_time_running_back_is_no_gap_too() -> None:
    desk = Desk(max_gap_s=0.1)
    desk.calibrate()
    for ms in (5000, 33, 66):
        desk.show(ms)
    assert desk.statistics.snapshot().flushes == {"stamps ran backwards": 1}


@pytest.mark.parametrize("whose", ["color", "depth"])
def test_an_encoding_change_starts_an_epoch(whose: str) -> None:
    desk = Desk()
    desk.calibrate()
    desk.show(0)
    bgr, steps = rgb(), mono(500)
    bgr.encoding = "bgr8"
    desk.show(33, **({"color": bgr} if whose == "color" else {"depth": steps}))
    assert [filed.epoch for filed in desk.filed] == [0, 1]
    assert desk.statistics.snapshot().flushes == {"image encoding changed": 1}


def test_compressed_colour_is_filed_and_its_change_of_format_starts_an_epoch() -> None:
    desk = Desk()
    desk.calibrate()
    pixels = np.full((HEIGHT, WIDTH, 3), 7, np.uint8)
    for ms, format_ in ((0, "png"), (33, "png"), (66, "jpeg")):
        data = array("B", cv2.imencode(f".{format_}", pixels)[1].tobytes())
        desk.show(ms, color=CompressedImage(format=format_, data=data))
    assert desk.drops == {}
    assert [filed.epoch for filed in desk.filed] == [0, 0, 1]
    assert (desk.filed[0].frame.rgb == 7).all()


@pytest.mark.parametrize(
    ("whose", "changes", "said"),
    [
        ("color", {"encoding": "8UC3"}, "'8UC3'"),
        ("color", {"step": 1}, "has step 1"),
        ("color", {"width": 0}, "is 0x4"),
        ("depth", {"encoding": "8UC1"}, "'8UC1'"),
        ("depth", {"width": 3, "step": 24}, "align_depth.enable:=true"),
        ("depth", {"width": 3, "step": 24}, "depth image is 3x4"),
        ("depth", {"width": 3, "height": 2}, "2 times as small: a decimation filter"),
        ("depth", {"width": 4, "height": 6, "step": 16}, "turned by a quarter: rotate both"),
        ("info", {"k": [0.0] * 9}, "K[0]=0, and "),
        ("info", {"k": [float("nan")] * 9}, "cy=nan in K"),
        ("info", {"width": 0}, "0x4 pixels"),
        ("info", {"width": 640, "height": 480}, "camera_info is for 640x480 images, color image"),
    ],
)
def test_a_broken_message_is_named_and_the_next_frame_works(
    whose: str, changes: dict[str, Any], said: str
) -> None:
    desk = Desk()
    desk.calibrate(**(changes if whose == "info" else {}))
    pictures = {"color": rgb(), "depth": metres()}
    for field, value in changes.items() if whose != "info" else ():
        setattr(pictures[whose], field, value)
    desk.show(0, **pictures)
    assert desk.filed == []
    assert sum(desk.drops.values()) == 1
    assert said in desk.reports[-1][1]
    desk.calibrate()
    for ms in (33, 66):
        desk.show(ms)
    assert desk.filed[-1].frame.stamp_ns == 66 * MS
    assert sum(desk.drops.values()) == 1


def test_depth_of_another_size_than_compressed_colour_is_told_what_to_do() -> None:
    desk = Desk()
    desk.calibrate()
    data = array("B", cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 7, np.uint8))[1].tobytes())
    half = depth_to_image(np.ones((HEIGHT // 2, WIDTH // 2), np.float32), make_header(0, ""))
    desk.show(0, CompressedImage(format="png", data=data), half)
    assert desk.drops == {"depth of another size": 1}
    assert "2 times as small: a decimation filter" in desk.reports[-1][1]


def test_of_two_pairs_that_one_image_completes_none_is_lost() -> None:
    """Of a camera that sends calibration behind its images, which the last one waits for."""
    desk = Desk()
    for ms in (0, 33):
        desk.show(ms)
        desk.calibrate(header=make_header(ms * MS, ""))
    for ms, message in ((66, metres()), (84, rgb()), (112, rgb()), (120, metres())):
        message.header.stamp = make_header(ms * MS, "").stamp
        (desk.intake.on_color if message.encoding == "rgb8" else desk.intake.on_depth)(message)
    desk.calibrate(header=make_header(112 * MS, ""))
    assert [filed.frame.stamp_ns // MS for filed in desk.filed] == [0, 33, 84, 112]
    assert desk.drops == {}


def test_what_nobody_foresaw_is_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.calibrate()

    def explode(message: Image) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("dkt_ros.messages.intake.check_color", explode)
    desk.show(0)
    assert desk.drops == {"unexpected error": 1}
    assert "ZeroDivisionError: surprise" in desk.reports[0][1]
    monkeypatch.setattr("dkt_ros.messages.intake.check_color", None)
    desk.show(20)
    assert re.search(r"not callable \(messages/intake\.py:\d+\)", desk.reports[-1][1])
    monkeypatch.undo()
    desk.show(33)
    assert len(desk.filed) == 1


def test_clocks_that_differ_are_visible() -> None:
    desk = Desk()
    assert desk.intake.synchronizer.offset_s is None
    color, depth = rgb(), metres()
    color.header.stamp = make_header(5_000 * MS, "").stamp
    desk.intake.on_color(color)
    desk.intake.on_depth(depth)
    assert desk.intake.synchronizer.offset_s == 5.0


def test_pictures_are_not_decoded_before_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.calibrate()
    waiting: list[Observation] = []
    monkeypatch.setattr(desk.intake, "_file", waiting.append)
    decoded = []

    def decode(message: Image, _: Any) -> Any:
        decoded.append(message)
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    monkeypatch.setattr("dkt_ros.messages.pixels.image_to_rgb", decode)
    for ms in (0, 33, 66):
        desk.show(ms)
    assert (len(waiting), decoded) == (3, [])
    assert waiting[-1].decode().stamp_ns == 66 * MS
    assert len(decoded) == 1


def mono(light: int, compressed: bool = False, height: int = HEIGHT) -> Image | CompressedImage:
    """A plain picture of 16 bits."""
    values = np.full((height, WIDTH), light, np.uint16)
    if compressed:
        data = array("B", cv2.imencode(".png", values)[1].tobytes())
        return CompressedImage(header=make_header(0, "c"), format="mono16; png", data=data)
    return Image(
        header=make_header(0, "c"),
        height=height,
        width=WIDTH,
        encoding="mono16",
        step=2 * WIDTH,
        data=array("B", values.tobytes()),
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_a_camera_of_twelve_bits_does_not_flicker_where_light_comes_near_ten(
    compressed: bool,
) -> None:
    desk = Desk()
    desk.calibrate()
    lights = [900, 1100, 1000, *[1020, 1030] * 10, *[1000] * 30]
    for index, light in enumerate(lights):
        desk.show(33 * index, mono(light, compressed))
    seen = [int(filed.frame.rgb[0, 0, 0]) for filed in desk.filed]
    # The first is all that is known until then.
    assert seen == [900 >> 2, *(light >> 4 for light in lights[1:])]


def test_frames_that_are_not_decoded_tell_of_the_bits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.calibrate()
    waiting: list[Observation] = []
    monkeypatch.setattr(desk.intake, "_file", waiting.append)
    for index, light in enumerate([1100, 1100, 900]):
        desk.show(33 * index, mono(light))
    assert waiting[-1].decode().rgb[0, 0, 0] == 900 >> 4


@pytest.mark.parametrize("more", [[], [60_000], [800, 800, 60_000], [9_000, 30_000, 60_000]])
def test_torn_pictures_of_16_bits_do_not_leave_a_stream_black(more: list[int]) -> None:
    desk = Desk()
    desk.calibrate()
    for index, light in enumerate([800, 60_000, 800, *more, *[800] * 12]):
        desk.show(33 * index, mono(light))
    seen = [int(filed.frame.rgb[0, 0, 0]) for filed in desk.filed]
    assert seen[:3] == [800 >> 2, 60_000 >> 8, 800 >> 8]
    assert seen[-1] == 800 >> 2


def test_a_lone_torn_picture_makes_one_dark_and_light_that_comes_again_makes_no_steps() -> None:
    desk = Desk()
    desk.calibrate()
    lone = [800, 800, 60_000, *[800] * 12]
    blinking = [3000, 800, 800] * 8  # of 12 bits, by a lamp
    for index, light in enumerate([*lone, *blinking]):
        desk.show(33 * index, mono(light))
    seen = [int(filed.frame.rgb[0, 0, 0]) for filed in desk.filed]
    assert seen[:2] == [800 >> 2] * 2
    assert seen[2:4] == [60_000 >> 8, 800 >> 8]
    assert seen[4 : len(lone)] == [800 >> 2] * 11
    after_the_second = len(lone) + 3
    assert seen[after_the_second:] == [light >> 4 for light in blinking[3:]]


@pytest.mark.parametrize("lights", [[3000] * 5, [1100, 1900], [3000] * 5 + [20_000]])
def test_what_a_camera_of_twelve_bits_needed_holds_in_the_dark(lights: list[int]) -> None:
    desk = Desk()
    desk.calibrate()
    for index, light in enumerate([*lights, *[800] * 30]):
        desk.show(33 * index, mono(light))
    assert desk.filed[-1].frame.rgb[0, 0, 0] == 800 >> 4


def test_calibration_that_comes_frames_after_another_size_takes_the_newest_of_them() -> None:
    desk = Desk()
    desk.calibrate()
    desk.show(0)
    height = 2 * HEIGHT
    for ms in (33, 66, 99):
        taller = depth_to_image(np.full((height, WIDTH), 0.5, np.float32), make_header(0, "c"))
        desk.show(ms, rgb(height=height), taller)
    assert desk.drops == {"camera_info of another size": 2}
    assert "Earlier images had that size" in desk.reports[-1][1]
    assert "have it sent with each image" in desk.reports[-1][1]
    desk.calibrate(height=height)
    assert [filed.frame.stamp_ns for filed in desk.filed] == [0, 99 * MS]
    assert desk.filed[-1].frame.rgb.shape == (height, WIDTH, 3)
    assert desk.drops == {"camera_info of another size": 2}


@pytest.mark.parametrize(
    ("at", "moved", "told"), [(3, -0.48, True), (7, -0.72, True), (3, 2e-5, False), (3, 0.0, False)]
)
def test_a_stereo_pairs_second_camera_is_remarked_on(at: int, moved: float, told: bool) -> None:
    desk = Desk()
    p = [4.0, 0.0, 2.5, 0.0, 0.0, 6.0, 1.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    p[at] = moved
    desk.calibrate(p=p)
    desk.show(0)
    assert len(desk.filed) == 1
    text = desk.intake.remarks.get("stereo", "")
    assert ("an offset (Tx, Ty) of 0.120 m" in text) == told


@pytest.mark.parametrize("begins", ["a gap", "another size", "another encoding"])
def test_how_many_bits_are_used_is_told_anew_of_another_stream(begins: str) -> None:
    desk = Desk()
    desk.calibrate()
    for ms in (0, 33):
        desk.show(ms, mono(1100))
    now_ms = 10_000 if begins == "a gap" else 66
    if begins == "another encoding":
        desk.show(now_ms)
        now_ms += 33
    height = 2 * HEIGHT if begins == "another size" else HEIGHT
    desk.calibrate(height=height)
    depth = depth_to_image(np.full((height, WIDTH), 0.5, np.float32), make_header(0, "c"))
    desk.show(now_ms, mono(900, height=height), depth)
    assert desk.filed[-1].frame.rgb[0, 0, 0] == 900 >> 2


def test_remarks_stand_as_long_as_the_frames_show_them() -> None:
    desk = Desk()
    desk.calibrate()
    for ms in (0, 33):
        desk.show(ms, depth=metres("depth_frame"))
        assert "'depth_frame'" in desk.intake.remarks["frame_id"]
    assert len(desk.reports) == 1, "logged once"
    desk.show(66)
    assert desk.intake.remarks == {}


@pytest.mark.parametrize("by", ["size", "binning"])
def test_sizes_that_come_by_turns_are_remarked_on(by: str) -> None:
    """Before any frame is chosen: a slow network may take those of one size alone."""
    desk = Desk()
    for number, height in enumerate([HEIGHT] * 3 + [HEIGHT, 2 * HEIGHT] * 2 + [HEIGHT] * 8):
        if by == "size":
            desk.calibrate(height=height)
        else:
            desk.calibrate(height=2 * HEIGHT, binning_y=2 * HEIGHT // height)
        raw = depth_to_image(np.full((height, WIDTH), 0.5, np.float32), make_header(0, "c"))
        desk.show(33 * number, rgb("c", height), raw)
        remark = desk.intake.remarks.get("image size", "")
        assert bool(remark) == (6 <= number < 12), number
        if remark:
            assert f"images of {WIDTH}x{HEIGHT} and {WIDTH}x{2 * HEIGHT} come by turns" in remark


def test_frames_of_two_cameras_that_come_by_turns_are_remarked_on() -> None:
    """Through one publisher perhaps, as of a relay, which diagnostics cannot count."""
    desk = Desk()
    desk.calibrate()
    for number, name in enumerate(["left"] * 3 + ["left", "right"] * 2 + ["left"] * 8):
        desk.show(33 * number, rgb(name), metres(name))
        remark = desk.intake.remarks.get("frame_ids", "")
        assert bool(remark) == (6 <= number < 12), number
        if remark:
            assert "has frame_id 'left' and 'right' by turns" in remark
    assert [filed.epoch for filed in desk.filed] == [0] * 4 + [1, 2, 3] + [4] * 8
    assert desk.statistics.snapshot().flushes == {"frame_id changed": 4}


def test_a_camera_that_invents_names_fills_no_memory_and_no_log() -> None:
    desk = Desk()
    desk.calibrate()
    for number in range(3 * MOST_REMARKS):
        desk.show(33 * number, depth=metres("depth_" + chr(ord("a") + number)))
    assert len(desk.reports) == MOST_REMARKS
    assert "frame_id" in desk.intake.remarks, "it is in diagnostics all the same"


def test_a_camera_that_leaves_its_name_out_at_times_is_no_other_one() -> None:
    desk = Desk()
    desk.calibrate()
    for number, name in enumerate(["", "left", "", "left", "", "right"]):
        desk.show(33 * number, rgb(name), metres(name))
    assert [filed.epoch for filed in desk.filed] == [0] * 5 + [1]


@pytest.mark.parametrize(
    ("k", "said"),
    [
        ([500.0, 0.0, 2.5, 0.0, 500.0, 1.5, 0.0, 0.0, 1.0], "fx=500"),
        ([5.0, 0.0, 20.0, 0.0, 5.0, 1.5, 0.0, 0.0, 1.0], "cx=20"),
        ([5.0, 0.0, 2.5, 0.0, 20.0, 1.5, 0.0, 0.0, 1.0], "fy=20"),
        ([0.5, 0.0, 2.5, 0.0, 0.5, 1.5, 0.0, 0.0, 1.0], "fx=0.5"),
    ],
)
def test_a_calibration_like_no_cameras_is_remarked_on(k: list[float], said: str) -> None:
    desk = Desk()
    desk.calibrate(k=k)
    desk.show(0)
    assert said in desk.intake.remarks["calibration"]
    assert len(desk.filed) == 1


@pytest.mark.parametrize(
    ("scale", "centre", "told"),
    [
        (2.0, (3.0, 2.0), True),
        (1.5, (3.0, 2.0), True),
        (0.5, (2.9, 2.1), True),
        (1.0, (3.0, 2.0), False),
        (1.0, (2.5, 1.5), False),
        (1.0, (3.5, 1.2), False),  # cut out of a larger image
    ],
)
def test_a_calibration_of_images_of_another_size_is_remarked_on(
    scale: float, centre: tuple[float, float], told: bool
) -> None:
    desk = Desk()
    cx, cy = (scale * value for value in centre)
    desk.calibrate(k=[5.0 * scale, 0.0, cx, 0.0, 5.0 * scale, cy, 0.0, 0.0, 1.0])
    desk.show(0)
    assert ("another size" in desk.intake.remarks.get("calibration", "")) == told
    assert len(desk.filed) == 1


@pytest.mark.parametrize(("k", "hint"), [(1.0, True), (500.0, True), (5.0, False)])
def test_a_camera_that_fills_the_other_matrix_is_remarked_on(k: float, hint: bool) -> None:
    desk = Desk()
    cx, cy = (0.0, 0.0) if k == 1.0 else (2.5, 1.5)
    desk.calibrate(k=[k, 0.0, cx, 0.0, k, cy, 0.0, 0.0, 1.0])
    desk.show(0)
    remark = desk.intake.remarks.get("calibration", "")
    assert ("set rectified to true" in remark) == hint


def test_calibration_of_another_camera_is_remarked_on() -> None:
    desk = Desk()
    desk.calibrate(header=make_header(0, "other_camera"))
    desk.show(0)
    assert "'other_camera'" in desk.intake.remarks["camera_info frame_id"]


def test_k_of_rectified_images_is_theirs_too() -> None:
    """Planners read it; a driver sends the raw images' K and distortion with rectified ones."""
    turned = [1.0, 0.0, 0.1, 0.0, 1.0, 0.0, -0.1, 0.0, 1.0]
    sent = {"d": [0.1] * 5, "r": turned, "binning_x": 1, "distortion_model": "plumb_bob"}
    for rectified in (True, False):
        desk = Desk(rectified=rectified)
        desk.calibrate(**sent)
        desk.show(10)
        info = desk.filed[0].observation.camera_info
        assert list(info.p)[:7] == [4.0, 0.0, 2.5, 0.0, 0.0, 4.0, 1.5]
        assert has_distortion(info) != rectified
        assert len(info.d) == 5
        assert list(info.r) == (np.eye(3).ravel().tolist() if rectified else turned)
        by_k = camera_info_to_intrinsics(info, rectified=False)
        assert by_k.fx == (4.0 if rectified else 5.0)
        assert (info.width, info.binning_x, info.distortion_model) == (WIDTH, 1, "plumb_bob")
        assert desk.filed[0].frame.intrinsics == by_k


def test_the_camera_s_own_message_is_left_as_it_is() -> None:
    sent = CameraInfo(k=[5.0] * 9, p=[4.0] * 12, d=[0.1])
    of_rectified_images(sent)
    assert (sent.k[0], list(sent.d), sent.r[1]) == (5.0, [0.1], 0.0)


def test_a_projection_matrix_that_others_cannot_use_is_remarked_on() -> None:
    """RViz and depth_image_proc read P; drivers have sent NaN in it, and another size's."""
    desk, nan = Desk(), float("nan")
    good = [5.0, 0.0, 2.0, 0.0, 0.0, 5.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for number, (p, said) in enumerate(
        (
            ([0.0] * 12, "P[0]=0 "),
            ([nan, 0.0, nan, 0.0, 0.0, nan, nan, *good[7:]], "P[0]=nan "),
            ([5.0, *[0.0] * 11], "P[5]=0"),
            ([10.0, 0.0, 5.5, 0.0, 0.0, 10.0, 3.5, *good[7:]], "cy=3.5 in P, which are no"),
            (good, ""),
        )
    ):
        desk.calibrate(p=p)
        desk.show(10 * (number + 1))
        remark = desk.intake.remarks.get("projection", "")
        assert said in remark
        assert bool(remark) == bool(said)


@pytest.mark.parametrize(
    ("now_s", "said"),
    [
        (100.0, None),
        (105.0, "5 s before the node's clock"),
        (95.0, "5 s after the node's clock"),
        (1e9, "is stamped in 1970"),  # a camera that counts from its start
        (0.0, None),  # simulated time that has not begun
    ],
)
def test_stamps_far_from_the_clock_are_remarked_on(now_s: float, said: str | None) -> None:
    desk = Desk()
    desk.calibrate()
    desk.now_ns = round(now_s * 1e9)
    desk.show(100_000)
    assert "clock" not in desk.intake.remarks, "a looped bag's image may come before its clock"
    desk.show(100_033)
    remark = desk.intake.remarks.get("clock")
    assert remark is None if said is None else said in str(remark)


def test_a_clock_that_drifts_is_told_once_and_leaves_room_for_others() -> None:
    """As of a bag that is played slowly: each second has another number."""
    desk = Desk()
    desk.calibrate()
    for second in range(30):
        desk.now_ns = (1_000_000_000 + 2 * second) * 1000 * MS
        desk.show((1_000_000_000 - 10 + second) * 1000)
    assert [cause for cause, _ in desk.reports].count("clock") == 1
    desk.show((1_000_000_000 + 20) * 1000 + 33, rgb(""))
    assert desk.reports[-1][0] == "frame_id"


def test_stamps_of_a_bag_without_its_clock_are_not_remarked_on() -> None:
    desk = Desk()
    desk.calibrate()
    desk.now_ns = 1_800_000_000 * 10**9
    for ms in (1_700_000_000_000, 1_700_000_000_033):
        desk.show(ms)
    assert "clock" not in desk.intake.remarks
    assert len(desk.filed) == 2


def test_stamps_that_count_from_a_start_are_told_once() -> None:
    desk = Desk()
    desk.calibrate()
    desk.now_ns = 1_800_000_000 * 10**9
    for ms in range(50_000_000, 50_060_000, 1000):
        desk.show(ms)
    assert [cause for cause, _ in desk.reports].count("clock") == 1


def test_stamps_of_the_future_are_no_recording_however_far_they_are() -> None:
    """A robot's clock that begins anew at 1970, or simulated time beside a real camera."""
    desk = Desk()
    desk.calibrate()
    desk.now_ns = 10**9
    for ms in (90_000_000, 90_000_033):
        desk.show(ms)
    assert "89999 s after the node's clock" in desk.intake.remarks["clock"]
