"""Which topic is which, by the names that cameras and recorders really use."""

from __future__ import annotations

import pytest

from dkt_ros.bags.reader import BagTopic
from dkt_ros.bags.topics import base_topic, discover_topics
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
    with pytest.raises(DktError, match="no topic /c for color; the bag holds /a"):
        discover_topics(bag, {"color": "/c"})
    with pytest.raises(DktError, match="unknown role"):
        discover_topics(bag, {"colour": "/b"})


def test_what_is_missing_is_said_with_what_is_there() -> None:
    with pytest.raises(DktError, match="no colour image found among /i"):
        discover_topics(topics(**{"/i": INFO}))
    with pytest.raises(DktError, match="no CameraInfo found among /a"):
        discover_topics(topics(**{"/a": IMAGE}))


def test_unreadable_topics_are_passed_over() -> None:
    bag = topics(**{"/rgb": IMAGE, "/other": IMAGE, "/i": INFO})
    bag["/rgb"] = BagTopic("/rgb", IMAGE, 1, False, problem="no definition")
    assert discover_topics(bag).color == "/other"


def test_base_topic() -> None:
    assert base_topic("/a/image_raw/compressed") == "/a/image_raw"
    assert base_topic("/a/image_raw") == "/a/image_raw"
