"""Which topic is which, by the names that cameras and recorders really use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.recorded_frames import recorded

from dkt_ros.bags.reader import BagReader, BagTopic
from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.bags.topics import (
    CameraTopics,
    Look,
    NoTopicError,
    base_topic,
    camera_topics,
    discover_topics,
    recorded_topic,
    unread_videos,
)
from dkt_ros.errors import DktError

IMAGE, COMPRESSED, INFO = (
    f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo")
)


def topics(**named: str) -> dict[str, BagTopic]:
    return {name: BagTopic(name, msgtype, 1, False) for name, msgtype in named.items()}


def test_realsense_with_everything_recorded() -> None:
    found = discover_topics(
        topics(
            **{
                "/camera/color/image_raw": IMAGE,
                "/camera/color/image_raw/compressed": COMPRESSED,
                "/camera/color/image_raw/compressedDepth": COMPRESSED,
                "/camera/color/camera_info": INFO,
                "/camera/depth/image_rect_raw": IMAGE,
                "/camera/depth/camera_info": INFO,
                "/camera/aligned_depth_to_color/image_raw": IMAGE,
                "/camera/aligned_depth_to_color/camera_info": INFO,
                "/camera/infra1/image_rect_raw": IMAGE,
                "/dkt/depth": IMAGE,
                "/dkt/depth_color": IMAGE,
                "/dkt/camera_info": INFO,
            }
        )
    )
    assert found.color == "/camera/color/image_raw"
    assert found.camera_info == "/camera/color/camera_info"
    assert found.depth == "/camera/aligned_depth_to_color/image_raw"
    assert (found.truth, found.mask) == (None, None)


def test_other_cameras_and_compressed_alone() -> None:
    found = discover_topics(
        topics(
            **{
                "/rgb/image_raw/compressed": COMPRESSED,
                "/rgb/camera_info": INFO,
                "/depth_to_rgb/image_raw/compressed": COMPRESSED,
                "/depth_to_rgb/image_raw/compressedDepth": COMPRESSED,
                "/depth_to_rgb/camera_info": INFO,
            }
        )
    )
    assert found.color == "/rgb/image_raw/compressed"
    assert found.camera_info == "/rgb/camera_info"
    assert found.depth == "/depth_to_rgb/image_raw/compressedDepth"


def test_overrides_win_and_must_exist() -> None:
    bag = topics(**{"/a": IMAGE, "/b": IMAGE, "/i": INFO, "/broken": IMAGE})
    assert discover_topics(bag, {"color": "/b"}).color == "/b"
    images = ["/color", "/depth", "/truth/depth", "/truth/mask"]
    more = topics(**dict.fromkeys(images, IMAGE), **{"/camera_info": INFO})
    named = CameraTopics("/my/color", "/my/depth", "/camera_info", "/my/truth", "/my/mask")
    types = {**dict.fromkeys(vars(named).values(), IMAGE), "/camera_info": INFO, "/my/info": INFO}
    for info in ("/camera_info", "/my/info"):
        wanted = replace(named, camera_info=info)
        assert discover_topics(more | topics(**types), vars(wanted)) == wanted
    with pytest.raises(DktError, match="no topic /c for color; the bag holds /a"):
        discover_topics(bag, {"color": "/c"})
    with pytest.raises(DktError, match="unknown role"):
        discover_topics(bag, {"colour": "/b"})


def test_a_topic_may_be_named_without_its_transport() -> None:
    """Of depth both forms may be there; JPEG has spoilt one."""
    both = {f"/left/depth/image/{form}": COMPRESSED for form in ("compressed", "compressedDepth")}
    held = {**both, "/left/rgb/image/compressed": COMPRESSED, "/left/rgb/camera_info": INFO}
    empty = {"/left/rgb/image": IMAGE, "/left/rgb/image/compressedDepth": COMPRESSED}
    found = discover_topics(
        {
            **topics(**held),
            **{name: replace(one, count=0) for name, one in topics(**empty).items()},
        },
        {"color": "/left/rgb/image", "depth": "/left/depth/image"},
    )
    assert found.color == "/left/rgb/image/compressed"
    assert found.depth == "/left/depth/image/compressedDepth"


@pytest.mark.parametrize("recorded", ["/left/rgb", "left/rgb"])
@pytest.mark.parametrize("form", ["", "/compressed"])
def test_a_topic_may_be_named_without_its_first_slash_and_recorded_so(
    recorded: str, form: str
) -> None:
    for name in ("/left/rgb", "left/rgb"):
        assert recorded_topic([f"{recorded}{form}", "/left/depth"], name) == f"{recorded}{form}"
    assert recorded_topic(["/left/depth"], "left/rgb") == "left/rgb"
    assert recorded_topic(["/left/rgb", "left/rgb"], recorded) == recorded


def test_what_is_missing_is_said_with_what_is_there() -> None:
    with pytest.raises(DktError, match="no colour image found among /i"):
        discover_topics(topics(**{"/i": INFO}))
    with pytest.raises(DktError, match="no CameraInfo found among /a"):
        discover_topics(topics(**{"/a": IMAGE}))


VIDEO = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"color": "/i"}, "/i for color is .*CameraInfo, expected .*Image or .*CompressedImage"),
        ({"camera_info": "/a"}, "/a for camera_info is .*Image, expected .*CameraInfo"),
        ({"color": "/video"}, "/video for color is .*Packet, .*republish makes images"),
        ({"depth": "/cloud"}, "/cloud for depth is .*PointCloud2, .*pointcloud_to_depthimage"),
        ({"truth": "/json"}, "/json for truth cannot be read: its messages are json"),
        ({"mask": "/empty"}, "/empty for mask has no messages"),
        ({"color": "/a", "depth": "/a"}, "/a is taken for color and depth"),
        ({"depth": "/depth", "truth": "/depth"}, "/depth is taken for depth and truth"),
    ],
)
def test_what_is_named_must_be_what_it_is_named_for(named: dict[str, str], words: str) -> None:
    bag = topics(**{"/a": IMAGE, "/depth": IMAGE, "/i": INFO, "/video": VIDEO})
    bag |= topics(**{"/cloud": "sensor_msgs/msg/PointCloud2"})
    bag["/json"] = BagTopic("/json", IMAGE, 3, False, "its messages are json")
    bag["/empty"] = BagTopic("/empty", IMAGE, 0, False)
    with pytest.raises(NoTopicError, match=words):
        discover_topics(bag, named)


def test_video_of_which_there_are_pictures_is_not_missed() -> None:
    bag = topics(
        **{"/a": IMAGE, "/a/ffmpeg": VIDEO, "/b/ffmpeg": VIDEO, "/b/compressed": COMPRESSED}
    )
    assert unread_videos(bag) == []
    (line,) = unread_videos(topics(**{"/a": IMAGE, "/c/ffmpeg": VIDEO}))
    assert line.startswith("/c/ffmpeg (FFMPEGPacket) is video, which is not read: image_transport")


def test_video_alone_is_told_with_what_makes_images_of_it() -> None:
    with pytest.raises(NoTopicError, match="republish makes images"):
        discover_topics(topics(**{"/i": INFO, "/video": VIDEO}))


def test_topics_that_cannot_be_read_say_why() -> None:
    json = BagTopic("/rgb", IMAGE, 3, False, "its messages are serialized as 'json'")
    with pytest.raises(DktError, match=r"/rgb \(.*Image, unusable: .*serialized as 'json'\)"):
        discover_topics({"/rgb": json})


def test_unreadable_and_empty_topics_are_passed_over() -> None:
    bag = topics(**{"/rgb": IMAGE, "/other": IMAGE, "/i": INFO})
    bag["/rgb"] = BagTopic("/rgb", IMAGE, 1, False, problem="no definition")
    assert discover_topics(bag).color == "/other"
    bag["/rgb"] = BagTopic("/rgb", IMAGE, 0, False)
    assert discover_topics(bag).color == "/other"


REALSENSE = "/camera/camera"
CAMERAS = {
    "azure_kinect": (
        [
            *("/rgb/image_raw", "/depth/image_raw", "/depth_to_rgb/image_raw"),
            *("/rgb_to_depth/image_raw", "/ir/image_raw"),
        ],
        ["/rgb/camera_info", "/depth/camera_info", "/depth_to_rgb/camera_info"],
        ("/rgb/image_raw", "/depth_to_rgb/image_raw", "/rgb/camera_info"),
    ),
    "aligned to infra": (
        [
            *(f"{REALSENSE}/color/image_raw", f"{REALSENSE}/depth/image_rect_raw"),
            f"{REALSENSE}/aligned_depth_to_infra1/image_raw",
        ],
        [f"{REALSENSE}/color/camera_info", f"{REALSENSE}/depth/camera_info"],
        (
            *(f"{REALSENSE}/color/image_raw", f"{REALSENSE}/depth/image_rect_raw"),
            f"{REALSENSE}/color/camera_info",
        ),
    ),
    "orbbec with overlay": (
        ["/camera/color/image_raw", "/camera/depth/image_raw", "/camera/depth_to_color/image_raw"],
        ["/camera/color/camera_info", "/camera/depth/camera_info"],
        ("/camera/color/image_raw", "/camera/depth/image_raw", "/camera/color/camera_info"),
    ),
    "RealSense Viewer": (
        ["/device_0/sensor_0/Depth_0/image/data", "/device_0/sensor_1/Color_0/image/data"],
        [
            "/device_0/sensor_0/Depth_0/info/camera_info",
            "/device_0/sensor_1/Color_0/info/camera_info",
        ],
        (
            *("/device_0/sensor_1/Color_0/image/data", "/device_0/sensor_0/Depth_0/image/data"),
            "/device_0/sensor_1/Color_0/info/camera_info",
        ),
    ),
    "oak": (
        ["/oak/rgb/image_raw", "/oak/stereo/image_raw", "/oak/left/image_raw"],
        ["/oak/left/camera_info", "/oak/rgb/camera_info", "/oak/stereo/camera_info"],
        ("/oak/rgb/image_raw", "/oak/stereo/image_raw", "/oak/rgb/camera_info"),
    ),
    "two cameras, one registered": (
        [
            *("/cam_a/color/image_raw", "/cam_a/depth/image_rect_raw"),
            *("/cam_b/color/image_raw", "/cam_b/aligned_depth_to_color/image_raw"),
        ],
        ["/cam_a/color/camera_info", "/cam_b/color/camera_info"],
        (
            *("/cam_b/color/image_raw", "/cam_b/aligned_depth_to_color/image_raw"),
            "/cam_b/color/camera_info",
        ),
    ),
    "depth of another camera alone": (
        ["/left/color/image_raw", "/right/aligned_depth_to_color/image_raw"],
        ["/left/color/camera_info", "/right/color/camera_info"],
        ("/left/color/image_raw", None, "/left/color/camera_info"),
    ),
    "intrinsics of one of two": (
        ["/camera1/color/image_raw", "/camera2/color/image_raw", "/camera1/depth/image_raw"],
        ["/camera2/color/camera_info", "/camera3/color/camera_info"],
        ("/camera2/color/image_raw", None, "/camera2/color/camera_info"),
    ),
    "two cameras, one with depth": (
        ["/cam_a/rgb/image_raw", "/cam_b/rgb/image_raw", "/cam_b/depth/image_raw"],
        ["/cam_a/rgb/camera_info", "/cam_b/rgb/camera_info"],
        ("/cam_b/rgb/image_raw", "/cam_b/depth/image_raw", "/cam_b/rgb/camera_info"),
    ),
    "a stereo pair beside colour": (
        ["/cam/left/image", "/cam/main/image", "/cam/right/image", "/cam/depth/image"],
        ["/cam/left/camera_info", "/cam/main/camera_info", "/cam/right/camera_info"],
        ("/cam/main/image", "/cam/depth/image", "/cam/main/camera_info"),
    ),
    "registered depth farther away": (
        ["/robot/cam/color", "/robot/cam/depth", "/robot/aligned_depth_to_color/image"],
        ["/robot/cam/camera_info"],
        ("/robot/cam/color", "/robot/aligned_depth_to_color/image", "/robot/cam/camera_info"),
    ),
    "depth in both forms": (
        ["/cam/rgb/image_raw", "/cam/depth/image/compressedDepth", "/cam/depth/image_raw"],
        ["/cam/rgb/camera_info"],
        ("/cam/rgb/image_raw", "/cam/depth/image_raw", "/cam/rgb/camera_info"),
    ),
    "intrinsics beside colour and below": (
        ["/cam/rgb/image"],
        ["/cam/rgb/camera_info", "/cam/rgb/aux/camera_info"],
        ("/cam/rgb/image", None, "/cam/rgb/camera_info"),
    ),
    "intrinsics of depth, and of it is not said what": (
        ["/cam/image"],
        ["/cam/depth/camera_info", "/cam/lens/camera_info"],
        ("/cam/image", None, "/cam/lens/camera_info"),
    ),
    "intrinsics of another name alone": (["/a/image"], ["/b/info"], ("/a/image", None, "/b/info")),
    "what the node made of it": (
        ["/image", "/dkt/depth"],
        ["/dkt/camera_info", "/lens/camera_info"],
        ("/image", None, "/lens/camera_info"),
    ),
    "depth registered to another camera": (
        ["/cam/rgb/image", "/cam/depth_to_left/image"],
        ["/cam/rgb/camera_info"],
        ("/cam/rgb/image", None, "/cam/rgb/camera_info"),
    ),
    "spot: stream before camera": (
        [
            *("/camera/frontright/image", "/depth_registered/frontleft/image"),
            *("/depth_registered/frontright/image", "/depth/frontright/image"),
        ],
        ["/camera/frontleft/camera_info", "/camera/frontright/camera_info"],
        (
            *("/camera/frontright/image", "/depth_registered/frontright/image"),
            "/camera/frontright/camera_info",
        ),
    ),
    "no folders, depth of another camera alone": (
        ["/rear_rgb", "/front_depth"],
        ["/front_camera_info", "/rear_camera_info"],
        ("/rear_rgb", None, "/rear_camera_info"),
    ),
    "no folders": (
        ["/rear_rgb", "/front_depth", "/rear_depth"],
        ["/front_camera_info", "/rear_camera_info"],
        ("/rear_rgb", "/rear_depth", "/rear_camera_info"),
    ),
    "numbered streams": (
        ["/robot/rgb1/image_raw", "/robot/depth0/image_raw", "/robot/depth1/image_raw"],
        ["/robot/rgb0/camera_info", "/robot/rgb1/camera_info"],
        ("/robot/rgb1/image_raw", "/robot/depth1/image_raw", "/robot/rgb1/camera_info"),
    ),
    "words of streams alone at the ends": (
        ["/mech/color_image", "/mech/depth_map"],
        ["/mech/camera_info", "/other/camera_info"],
        ("/mech/color_image", "/mech/depth_map", "/mech/camera_info"),
    ),
    "zed: rectified beside raw": (
        [
            *("/zed/rgb/color/raw/image", "/zed/rgb/color/rect/image/compressed"),
            *("/zed/left/color/rect/image", "/zed/depth/depth_registered"),
        ],
        [
            *("/zed/rgb/color/raw/camera_info", "/zed/rgb/color/rect/camera_info"),
            *("/zed/left/color/rect/camera_info", "/zed/depth/camera_info"),
        ],
        (
            *("/zed/rgb/color/rect/image/compressed", "/zed/depth/depth_registered"),
            "/zed/rgb/color/rect/camera_info",
        ),
    ),
    "a picture that somebody drew into": (
        [
            *("/camera/color/image_annotated", "/camera/color/image_raw"),
            "/camera/aligned_depth_to_color/image_raw",
        ],
        ["/camera/color/camera_info"],
        (
            *("/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw"),
            "/camera/color/camera_info",
        ),
    ),
    "zed": (
        [
            *("/zed/left/image_rect_color", "/zed/depth/depth_registered"),
            *("/zed/right/image_rect_color", "/zed/confidence/confidence_map"),
        ],
        ["/zed/left/camera_info", "/zed/right/camera_info", "/zed/depth/camera_info"],
        ("/zed/left/image_rect_color", "/zed/depth/depth_registered", "/zed/left/camera_info"),
    ),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_the_topics_of_one_camera_are_chosen(name: str) -> None:
    images, infos, expected = CAMERAS[name]
    forms = ("/compressed", "/compressedDepth")
    types = {name: COMPRESSED if name.endswith(forms) else IMAGE for name in images}
    found = discover_topics(topics(**types, **dict.fromkeys(infos, INFO)))
    assert (found.color, found.depth, found.camera_info) == expected


def test_intrinsics_of_other_cameras_are_not_taken() -> None:
    bag = topics(**{"/a/color/image_raw": IMAGE, "/b/camera_info": INFO, "/c/camera_info": INFO})
    with pytest.raises(DktError, match="that belongs to /a/color/image_raw"):
        discover_topics(bag)


def test_intrinsics_are_those_that_fit_the_picture() -> None:
    infos = ("/cam/a/camera_info", "/cam/b/camera_info")
    bag = topics(**{"/cam/image": IMAGE}, **dict.fromkeys(infos, INFO))
    for fitting, other in (infos, infos[::-1]):
        for look in (Look("eye", (1280, 720)), Look("ear", (640, 480))):
            looks = dict.fromkeys(("/cam/image", fitting), Look("eye", (640, 480)))
            assert discover_topics(bag, looks={**looks, other: look}).camera_info == fitting


def test_depth_that_a_driver_calls_stereo_is_no_colour() -> None:
    bag = topics(**{"/oak/stereo/image_raw": IMAGE, "/oak/stereo/camera_info": INFO})
    with pytest.raises(DktError, match="no colour image found among /oak/stereo"):
        discover_topics(bag)


def test_what_pictures_hold_says_more_than_their_names(
    tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    with BagReader(recorded(tmp_path / "a", frames, "/camera/camera/range")) as bag:
        assert discover_topics(bag.topics).depth is None
        assert camera_topics(bag).depth == "/camera/camera/range"


@pytest.mark.parametrize(("size", "frame_id"), [(2, ""), (1, "depth_frame")])
def test_unregistered_depth_is_refused_unless_it_is_named(
    tmp_path: Path, frames: list[LabelledFrame], size: int, frame_id: str
) -> None:
    depth = "/camera/camera/depth/image_rect_raw"
    with BagReader(recorded(tmp_path / "a", frames, depth, size, frame_id)) as bag:
        with pytest.raises(DktError, match=r"^depth /.* is not registered to colour .*align_depth"):
            camera_topics(bag)
        assert camera_topics(bag, {"depth": depth}).depth == depth


def test_a_compressed_form_stands_for_its_topic() -> None:
    names = ["/a/compressed", "/d/compressedDepth", "/b", "/b/compressed"]
    asked = ["/a", "/d", "/b", "/c"]
    assert [recorded_topic(names, name) for name in asked] == [*names[:3], "/c"]


def test_base_topic() -> None:
    assert base_topic("/a/image_raw/compressed") == "/a/image_raw"
    assert base_topic("/a/image_raw") == "/a/image_raw"
