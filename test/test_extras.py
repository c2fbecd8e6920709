"""What a robot installs is enough for the node; what needs more says which extra brings it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from email.message import Message
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from fixtures.original_files import write_original_files

from dkt_ros.extras import CORE, EXTRAS, WITH_DATA, advice, install
from dkt_ros.programs import MODULES

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")

_ASSETS = shutil.ignore_patterns("assets", "__pycache__")

_BEGIN = """
import sys
from fixtures.without_modules import hide
from dkt_ros.extras import EXTRAS
from itertools import chain
hide(chain({"matplotlib", "pytest", "hypothesis"}, *EXTRAS.values()))
"""

_NODE = """
import time
import cv2
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
import dkt_ros.ros.params.presets  # of the launch files
from dkt_ros.ros.node import DktNode

rclpy.init(args=["--ros-args", "-p", "device:=cpu", "-p", "color_transport:=compressed"])
node, camera = DktNode(), Node("camera")
for transition in (node.trigger_configure, node.trigger_activate):
    transition()
color = camera.create_publisher(CompressedImage, "/color/image/compressed", 1)
info = camera.create_publisher(CameraInfo, "/color/camera_info", 1)
depth = camera.create_publisher(Image, "/depth/image", 1)
received = []
camera.create_subscription(Image, "/dkt/depth", received.append, 1)
executor = SingleThreadedExecutor()
executor.add_node(node)
executor.add_node(camera)
height, width = 96, 160
ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)
jpeg = cv2.imencode(".jpg", ramp)[1].tobytes()
metres = np.linspace(0.5, 2.0, height * width).astype(np.float32).tobytes()
until = time.monotonic() + 120
while not received and time.monotonic() < until:
    seen = CompressedImage(format="bgr8; jpeg compressed bgr8", data=jpeg)
    raw = Image(height=height, width=width, encoding="32FC1", step=4 * width, data=metres)
    lens = CameraInfo(height=height, width=width)
    lens.k = [150.0, 0.0, 80.0, 0.0, 150.0, 48.0, 0.0, 0.0, 1.0]
    for message in (seen, raw, lens):
        message.header.stamp = camera.get_clock().now().to_msg()
        message.header.frame_id = "camera"
    for message in (raw, lens):
        message.header.stamp = seen.header.stamp
    info.publish(lens), depth.publish(raw), color.publish(seen)
    ends = time.monotonic() + 0.5
    while not received and time.monotonic() < ends:
        executor.spin_once(timeout_sec=0.1)
node.close()
print("received", len(received), received and (received[0].height, received[0].width))
rclpy.try_shutdown()
"""

_COMMANDS = """
import json
from dkt_ros.programs import run
for sys.argv in json.loads(sys.argv[1]):
    assert run(sys.argv[0]) == 2, sys.argv
"""


def _python(script: str, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'test')!r}]\n"
    return subprocess.run(
        [sys.executable, "-c", path + _BEGIN + script, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.ros
def test_the_node_makes_depth_of_compressed_images_without_any_extra(repo_root: Path) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    ran = _python(_NODE, repo_root)
    assert "received 1 (96, 160)" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.ros
def test_each_command_names_the_extra_that_it_lacks(repo_root: Path, tmp_path: Path) -> None:
    """And so do the package's own names."""
    original = write_original_files(tmp_path / "original")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"checkpoint": "dkt-nano", "data": [{"path": "scenes"}]}))
    (tmp_path / "tokenizer").mkdir()
    output = ["--output", str(tmp_path / "output")]
    convert = ["--transformer", original["transformer"], "--vae", original["vae"], "--num-heads=2"]
    convert += ["--text-encoder", original["vae"], "--tokenizer", tmp_path / "tokenizer"]
    lines = {
        ("dkt", "bag", "info", "recorded.bag"): "rosbags is not installed; {data} brings it",
        ("dkt_replay", "recorded.bag"): "rosbags is not installed; {data} brings it",
        ("dkt", "data", "check", "."): "simplejpeg is not installed; {data} brings it",
        ("dkt", "eval", "--data", "."): "simplejpeg is not installed; {data} brings it",
        (
            "dkt",
            "train",
            "--config",
            recipe,
            *output,
        ): "peft is not installed; {train}",
        ("dkt", "convert", *convert, *output): "transformers is not installed; {train} brings it",
        ("dkt", "view", "x", "--save", "x.rrd"): "rerun is not installed; {view} brings it",
        ("dkt", "synth", "render", "--scenes=1", *output): "'bpy'): {synth} brings it",
    }
    commands = [list(map(str, words)) for words in lines]
    ran = _python(f"{_COMMANDS}\nfrom dkt_ros import process", repo_root, json.dumps(commands))
    assert ran.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: rosbags is not installed; {install('data')} brings it"
    )
    said = [line for line in ran.stderr.splitlines() if line.startswith("dkt")]
    for words, line, found in zip(lines, lines.values(), said, strict=True):
        begin = "dkt_replay" if words[0] == "dkt_replay" else f"dkt {words[1]}"
        assert found.startswith(f"{begin}: "), found
        advised = {extra: install(extra) for extra in EXTRAS}
        assert line.format_map(advised) in found, found


def test_modules_by_extra_are_what_its_requirements_bring(repo_root: Path) -> None:
    with (repo_root / "pyproject.toml").open("rb") as file:
        dynamic = tomllib.load(file)["tool"]["setuptools"]["dynamic"]
    files = dynamic["optional-dependencies"]
    assert set(files) == {*EXTRAS, "docs", "test"}
    distributions = packages_distributions()
    for extra, modules in EXTRAS.items():
        named = set()
        brought = [extra, *(["data"] if extra in WITH_DATA else [])]
        assert files[extra]["file"] == [f"requirements/{name}.txt" for name in brought]
        for name in files[extra]["file"]:
            text = (repo_root / name).read_text(encoding="utf-8")
            named |= {_normalised(line) for line in re.findall(r"^[\w.-]+", text, re.MULTILINE)}
        for module in modules:
            brought_by = {_normalised(n) for n in distributions.get(module, [module])}
            # A wheel for one CUDA version carries it in its name; rerun's is rerun-sdk.
            named |= {re.sub(r"-(cu\d+|sdk)$", "", name) for name in named}
            assert named & brought_by, f"{module}: not among {files[extra]}"
    core = (repo_root / "requirements/core.txt").read_text(encoding="utf-8").lower()
    by_core = {_normalised(name) for name in re.findall(r"^[\w.-]+", core, re.MULTILINE)}
    each = [{_normalised(name) for name in distributions.get(module, [])} for module in CORE]
    assert all(names & by_core for names in each)
    assert set.union(*each) >= by_core
    for module in (module for modules in EXTRAS.values() for module in modules):
        assert not re.search(rf"^{module.lower()}\b", core, re.MULTILINE), module


def _advice(module: str, command: str = "") -> str:
    return str(advice(ModuleNotFoundError("", name=module), command))


def test_extras_are_named_to_pip_where_pip_installed_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = Message()
    installed["Provides-Extra"] = "data"
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: installed)
    assert _advice("rosbags.rosbag2") == (
        "rosbags is not installed; pip install 'dkt_ros[data]' brings it"
    )
    assert "dkt_ros[clouds]" in _advice("scipy.spatial")
    assert "dkt_ros[data]" in _advice("scipy.spatial", "eval")
    assert "dkt_ros[grasp]" in _advice("rosbags", "grasp")
    assert _advice("torch").endswith("; pip install dkt_ros brings it")
    assert sys.executable in _advice("torch")
    older = _advice("diffusers.models.of_newer_ones")
    assert older.startswith("diffusers.models.of_newer_ones is not installed for ")


@pytest.mark.parametrize("place", ["", "lib/python3.11/site-packages"])
def test_a_package_that_colcon_built_names_its_requirement_files(
    place: str, repo_root: Path, tmp_path: Path
) -> None:
    """pip finds it installed, and says of extras that it has none: nothing would be installed."""
    prefix = tmp_path / "a b"
    shutil.copytree(repo_root / "dkt_ros", prefix / place / "dkt_ros", ignore=_ASSETS)
    folder = prefix / ("share/dkt_ros/requirements" if place else "requirements")
    shutil.copytree(repo_root / "requirements", folder)
    info = prefix / place / "dkt_ros-0.1.0-py3.11.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: dkt_ros\nVersion: 0.1.0\n")
    script = "from dkt_ros.extras import install; print(install()); print(install('grasp'))"
    said = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(prefix / place)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    core, grasp = map(shlex.split, said.stdout.splitlines())
    assert core == ["pip", "install", "-r", f"{folder}/core.txt"]
    assert grasp == ["pip", "install", "-r", f"{folder}/grasp.txt", "-r", f"{folder}/data.txt"]


def test_what_ros_lacks_is_told_by_what_is_sourced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert "source a ROS installation" in _advice("rclpy")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    spec = importlib.util.spec_from_loader("rclpy", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert "apt install ros-jazzy-lifecycle-msgs" in _advice("lifecycle_msgs")
    assert "is built for another Python" in _advice("rclpy._rclpy_pybind11")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for module in ("rclpy", "geometry_msgs"):
        assert f"{module} is not there; ROS jazzy is built for another Python" in _advice(module)
    assert "dkt_ros.srv is not there: build the package" in _advice("dkt_ros.srv")


def test_a_module_of_nobody_has_no_advice() -> None:
    assert advice(ModuleNotFoundError("", name="of_nobody")) is None
    assert advice(ModuleNotFoundError("", name="dkt_ros.of_nobody")) is None
    assert advice(ImportError("")) is None


@pytest.mark.ros
@pytest.mark.parametrize("lacking", ["numpy", "torch", "rclpy"])
def test_every_program_says_in_one_line_what_it_lacks(lacking: str, repo_root: Path) -> None:
    """From the very first: what is missing is mostly missed while the program is imported."""
    needless = {("dkt", "rclpy"), ("dkt_planner", "torch")}
    programs = [name for name in MODULES if (name, lacking) not in needless]
    words = {"dkt": ["predict", "--input=x", "--output=y"], "dkt_cameras": ["left", "right"]}
    lines = [[name, *words.get(name, ())] for name in programs]
    ran = _python(f"hide([{lacking!r}])\n{_COMMANDS}", repo_root, json.dumps(lines))
    assert ran.returncode == 0, ran.stderr
    for program, said in zip(programs, ran.stderr.splitlines(), strict=True):
        assert re.match(rf"{program}\b.*: ({lacking}|rosbags) is not ", said), said


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
