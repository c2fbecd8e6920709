"""Several cameras by one network: each one's depth its own, to the bit; memory held once."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
import torch
from fixtures.camera_process import FOCAL_PX
from fixtures.red_network import load as load_red
from fixtures.three_processes import (
    START_PATIENCE_S,
    CameraProcess,
    NodeProcess,
    Planner,
    closing,
)
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator
from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.ros.cameras import make_nodes
from dkt_ros.ros.engine import Engine, SharedNetwork
from dkt_ros.ros.params.parameters import NodeParameters

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]

SIZE = HEIGHT, WIDTH = 64, 96
CAMERA = Intrinsics(FOCAL_PX, FOCAL_PX, (WIDTH - 1) / 2, (HEIGHT - 1) / 2, WIDTH, HEIGHT)
NAMES = ("left", "right")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def normals_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("normals"), seed=1, task="normal")


def parameters(checkpoint: Path, **changes: Any) -> NodeParameters:
    given: dict[str, Any] = {"checkpoint": str(checkpoint), "device": "cpu", "cpu_threads": 1}
    return NodeParameters(**given | {"depth": "network", "warm_up_size": "32x32"} | changes)


def picture(name: str, number: int) -> npt.NDArray[np.uint8]:
    """Frame `number` of a camera; no two are alike."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    side = NAMES.index(name)
    channels = [40 + 2 * x, 200 - 2 * y, 90 + x + y] if side else [200 - y, 30 + x, 250 - 2 * x]
    rgb = np.roll(np.stack(channels, axis=-1), 3 * number, axis=side).clip(0, 255)
    return rgb.astype(np.uint8)


@pytest.fixture(scope="module")
def raw_depths(checkpoint: Path) -> dict[str, list[npt.NDArray[np.float32]]]:
    """What a sensor sees of each camera's frames, so that the network's answer is right."""
    predictor = SharedNetwork().build(parameters(checkpoint)).predictor
    found: dict[str, list[npt.NDArray[np.float32]]] = {}
    for name in NAMES:
        predictor.reset()
        answers = [predictor.push(Frame(picture(name, i), None, CAMERA, i, name)) for i in range(9)]
        disparities = [np.asarray(answer.disparity) for answer in answers if answer]
        found[name] = [np.float32(1.0) / (4 * one + np.float32(0.5)) for one in disparities]
    return found


def pushed(
    estimator: DepthEstimator, name: str, number: int, raw: npt.NDArray[np.float32], stamp_ns: int
) -> DepthEstimate | None:
    return estimator.push(Frame(picture(name, number), raw, CAMERA, stamp_ns, name))


def test_live_streams_that_take_turns_are_as_each_alone(
    checkpoint: Path, raw_depths: dict[str, list[npt.NDArray[np.float32]]]
) -> None:
    """More often the right one's turn; of exact ones the cell tells the same."""
    given, count = parameters(checkpoint, mode="live", live_publish="all"), 7
    shared = SharedNetwork()
    engines = {name: shared.build(given) for name in NAMES}
    found: dict[str, list[Any]] = {name: [] for name in NAMES}
    numbers = dict.fromkeys(NAMES, 0)
    for name in ["left", "right", "right"] * count:
        number = numbers[name]
        if number < count:
            raw = raw_depths[name][number]
            found[name].append(pushed(engines[name].estimator, name, number, raw, number))
            numbers[name] += 1
    for name in NAMES:
        alone = SharedNetwork().build(given).estimator
        for number, together in enumerate(found[name]):
            expected = pushed(alone, name, number, raw_depths[name][number], number)
            assert expected is not None
            np.testing.assert_array_equal(together.disparity, expected.disparity)
            np.testing.assert_array_equal(together.depth, expected.depth)


def storages() -> set[int]:
    """Where the weights of all networks in memory lie."""
    gc.unfreeze()
    gc.collect()  # other tests' networks, which would be gone at the next look
    found = (x for x in gc.get_objects() if isinstance(x, torch.nn.Module))
    return {tensor.untyped_storage().data_ptr() for one in found for tensor in one.parameters()}


def test_memory_holds_the_network_and_the_refiner_once_until_the_last_camera_is_gone(
    checkpoint: Path,
) -> None:
    shared = SharedNetwork()
    first = shared.build(parameters(checkpoint))
    before = storages()
    assert len(before) > 50
    others: list[Engine] = [
        shared.build(parameters(checkpoint, max_depth_m=3.0 + i)) for i in range(2)
    ]
    assert storages() == before
    networks = {id(engine.predictor.network) for engine in (first, *others)}  # type: ignore[attr-defined]
    assert len(networks) == 1
    assert others[1].estimator.depth_range == (0.1, 4.0), "what is each camera's own"
    alive = weakref.ref(first.predictor.network)  # type: ignore[attr-defined]
    first.close()
    assert alive() is not None
    again = shared.build(parameters(checkpoint))
    assert again.predictor.network is alive()  # type: ignore[attr-defined]
    for engine in (again, *others):
        engine.close()
    assert alive() is None
    shared.build(parameters(checkpoint, buffer_frames=1)).close()


def test_another_network_beside_the_loaded_one_is_refused(checkpoint: Path) -> None:
    shared = SharedNetwork()
    first = shared.build(parameters(checkpoint))
    with pytest.raises(DktError, match=r"mode is 'live', expected 'exact'\. Set these alike"):
        shared.build(parameters(checkpoint, mode="live"))
    first.close()
    with pytest.raises(DktError, match=r"network red cannot be shared.*a dkt_node for each camera"):
        load_red().beside()


@pytest.mark.parametrize(
    ("names", "words", "said"),
    [
        (["left", "9"], [], "camera '9' is no namespace"),
        (["left", "/left"], [], "more than one camera is in namespace /left"),
        (["left", "right"], ["-r", "__ns:=/cell"], "in namespace /cell: expected each name once"),
        (["left"], ["-r", "__ns:=/cell"], "camera left is in namespace /cell: expected no __ns"),
    ],
)
def test_names_that_do_not_tell_cameras_apart_are_refused(
    names: list[str], words: list[str], said: str
) -> None:
    rclpy.init(args=["--ros-args", *words])
    try:
        with pytest.raises(DktError, match=said):
            make_nodes(names)
    finally:
        rclpy.shutdown()


def test_a_camera_tells_how_far_loading_the_shared_network_is(checkpoint: Path) -> None:
    rclpy.init(args=["--ros-args", "-p", f"checkpoint:={checkpoint}", "-p", "warm_up_size:=48x32"])
    try:
        (node,) = make_nodes(["left"])
        node.prepare().close()
        assert node._stage.startswith("warm-up")
        node.close()
    finally:
        rclpy.shutdown()


class Cell:
    """Two cameras, one process of nodes, and who listens to each."""

    def __init__(
        self, node: NodeProcess, folder: Path, raw: dict[str, list[npt.NDArray[np.float32]]]
    ) -> None:
        self.node, self.raw = node, raw
        self.planners = {name: Planner(f"/{name}") for name in NAMES}
        topics = ("color/image", "depth/image", "color/camera_info")
        self.cameras = {
            name: CameraProcess(folder, *(f"/{name}/{topic}" for topic in topics)) for name in NAMES
        }
        self.now_ns = 1_700_000_000 * 10**9

    def show(self, name: str, number: int, stamp_ns: int | None = None) -> int:
        """One frame, under the next stamp unless one is given."""
        self.now_ns += 20_000_000
        stamp = stamp_ns or self.now_ns
        rgb, raw = picture(name, number), self.raw[name][number]
        self.cameras[name].show(stamp, rgb, raw, frame_id=name)
        return stamp

    def close(self) -> None:
        for camera in self.cameras.values():
            camera.close()
        for planner in self.planners.values():
            planner.close()


@pytest.fixture(scope="module")
def cell(
    checkpoint: Path,
    normals_checkpoint: Path,
    raw_depths: dict[str, list[npt.NDArray[np.float32]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cell]:
    folder = tmp_path_factory.mktemp("cell")
    file = folder / "cell.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n"
        f"    checkpoint: {checkpoint}\n    device: cpu\n    cpu_threads: 1\n    depth: network\n"
        "    diagnostics_period_s: 0.5\n    max_gap_s: 5.0\n"
        f"    normals_checkpoint: {normals_checkpoint}\n"
        "/right/dkt_node:\n  ros__parameters:\n    max_depth_m: 0.9\n"
    )
    node = NodeProcess(
        folder / "node.log", "--params-file", str(file), module="cameras", words=NAMES
    )
    with closing(node), closing(Cell(node, folder, raw_depths)) as cell:
        for name, planner in cell.planners.items():

            def heard(name: str = name, planner: Planner = planner) -> bool:
                assert node.process.poll() is None, node.output()
                cell.show(name, 0)
                planner.spin_for(0.1)
                return bool(planner.depth)

            planner.wait_until(heard, f"depth of {name}", START_PATIENCE_S)
        yield cell


def depth_of(message: Any) -> npt.NDArray[np.float32]:
    return np.frombuffer(message.data, np.float32).reshape(SIZE)


def test_each_camera_gets_its_own_depth_and_normals_to_the_bit(
    cell: Cell, checkpoint: Path, normals_checkpoint: Path
) -> None:
    """As a node's engine alone makes it of the same frames; the right one shows thrice as many."""
    cell.now_ns += 60 * 10**9  # a gap: both streams begin anew
    stamps: dict[str, list[int]] = {name: [] for name in NAMES}
    for name in ["left", "right", "right", "right"] * 3:
        number, planner = len(stamps[name]), cell.planners[name]
        stamp = cell.show(name, number)
        stamps[name].append(stamp)

        def again(name: str = name, number: int = number, stamp: int = stamp) -> None:
            cell.show(name, number, stamp)

        def answered(stamp: int = stamp, planner: Planner = planner) -> bool:
            return stamp in planner.depth and stamp in planner.normals

        planner.wait_until(answered, "depth and normals", again=again)
    for name, limits in (("left", {}), ("right", {"max_depth_m": 0.9})):
        more = {"normals_checkpoint": str(normals_checkpoint), **limits}
        estimator = SharedNetwork().build(parameters(checkpoint, **more)).estimator
        for number, stamp in enumerate(stamps[name]):
            alone = pushed(estimator, name, number, cell.raw[name][number], stamp)
            message = cell.planners[name].depth[stamp]
            assert message.header.frame_id == name
            assert alone is not None
            np.testing.assert_array_equal(depth_of(message), alone.depth)
            assert np.isfinite(alone.depth).mean() > 0.1
            told = np.frombuffer(cell.planners[name].normals[stamp].data, np.float32)
            assert alone.normals is not None
            np.testing.assert_array_equal(np.nan_to_num(told), alone.normals.ravel())
            assert alone.normals.any()
    both = [set(cell.planners[name].depth) for name in NAMES]
    assert not both[0] & both[1], "no stamp came out of the other camera's node"


def test_a_camera_that_never_rests_does_not_starve_the_other(cell: Cell) -> None:
    """Six pictures of the left for each of the right, none waited for."""
    counts = {name: cell.planners[name].counts["depth"] for name in NAMES}
    wanted, shown_ = 3, 0

    def answered() -> bool:
        nonlocal shown_
        for turn in range(7):
            cell.show("right" if turn == 3 else "left", shown_ % 9)
        shown_ += 1
        for planner in cell.planners.values():
            planner.spin_for(0.1)
        return cell.planners["right"].counts["depth"] - counts["right"] >= wanted

    cell.planners["right"].wait_until(answered, "depth of the right camera")
    cell.planners["left"].wait_until(
        lambda: cell.planners["left"].counts["depth"] > counts["left"], "depth of the left camera"
    )


def test_each_camera_has_diagnostics_of_its_own_and_one_may_pause(cell: Cell) -> None:
    """The last one: it ends the process."""
    planner = cell.planners["left"]
    planner.wait_until(
        lambda: {f"/{name}/dkt_node: inference" for name in NAMES} <= planner.statuses.keys(),
        "both nodes' diagnostics",
    )
    assert cell.node.interrupt() == 0
    assert "Traceback" not in cell.node.output()
    warmed = re.findall(r"\[(\w+)\.dkt_node\]: warm-up 1/2", cell.node.output())
    assert len(warmed) == 2, "depth and normals"
    assert len(set(warmed)) == 1, "both by whoever came first"


@pytest.mark.parametrize("program", ["camera", "cameras"])
def test_what_takes_seconds_is_imported_after_the_words_are_looked_at(program: str) -> None:
    code = f"import sys, dkt_ros.ros.{program}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
