"""benchmarks/node.py for three seconds: real dkt_node, camera and readers as processes over DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from rclpy.context import Context
from sensor_msgs.msg import Image

pytestmark = pytest.mark.ros


def test_every_depth_that_the_node_counts_has_come(repo_root: Path, tmp_path: Path) -> None:
    result = tmp_path / "node.json"
    size = ["--rate", "10", "--width", "96", "--height", "64"]
    words = ["--minutes", "0.05", *size, "--no-points", "--no-profile"]
    context = Context()
    rclpy.init(context=context)
    other = rclpy.create_node("dkt_node", context=context)  # a robot's, in the same domain
    other.create_publisher(Image, "/color/image", 1)
    try:
        subprocess.run(
            [sys.executable, repo_root / "benchmarks" / "node.py", *words, "--output", result],
            env=os.environ | {"OMP_NUM_THREADS": "1", "ROS_LOG_DIR": str(tmp_path / "log")},
            check=True,
            timeout=480.0,  # the benchmark itself ends what does not start, and says why
        )
    finally:
        other.destroy_node()
        rclpy.shutdown(context=context)
    found = json.loads(result.read_text())
    depths = found["frames"]["depth images"]
    assert 1 <= depths <= found["frames"]["sent by the camera"] <= 31
    reliable = found["readers"]["reliable"]
    assert reliable["published"] == reliable["received"] == depths
    assert found["node"]["threads"]["most"] >= 1
    assert found["cpu (ms a frame)"]["inference thread"] > 0.0
    assert found["end by SIGINT"]["status"] == 0
    logs = [file.read_text() for file in (tmp_path / "log").iterdir()]
    assert any("/color/camera_info" in log for log in logs), "the log's end is written"
