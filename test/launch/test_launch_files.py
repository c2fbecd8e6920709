"""The launch files, run for real by launch_testing; each description holds its own assertions."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fixtures.waiting import PATIENCE_S, eventually

FOLDER = Path(__file__).parent
CHOICES_OF_MEMORY = (
    *("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"),
    *("FASTDDS_BUILTIN_TRANSPORTS", "RMW_IMPLEMENTATION"),
)


@pytest.mark.roslaunch
@pytest.mark.ros
@pytest.mark.parametrize("name", ["grasp", "replay", "cameras", "composed"])
def test_launch_file(name: str) -> None:
    """`launch_test` starts the description, runs its assertions and ends what it started."""
    run = subprocess.run(
        [sys.executable, "-m", "launch_testing.launch_test", str(FOLDER / f"describe_{name}.py")],
        capture_output=True,
        text=True,
        timeout=560,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search_path()},
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-8000:]


MISSPELT = "dkt_node:\n  ros__parameters:\n    device: cpu\n"
RUN = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [tuple(word.split(":=", 1)) for word in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service = LaunchService()
service.include_launch_description(IncludeLaunchDescription(source, launch_arguments=arguments))
sys.exit(service.run())
"""


def launched(repo_root: Path, name: str, words: list[str]) -> tuple[int, str]:
    """Launches a file with these arguments; the exit status and all that it printed."""
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(repo_root / "launch" / f"{name}.launch.py"), *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.returncode, run.stdout + run.stderr


@pytest.mark.roslaunch
@pytest.mark.ros
@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("grasp", ["rviz:=true"], "rviz2 is not installed"),
        ("grasp", ["params_file:=/nowhere.yaml"], "params_file /nowhere.yaml does not exist"),
        ("grasp", ["params_file:={file}", "namespace:=arm1"], "sets nothing for /arm1/dkt_node"),
        ("grasp", ["log_level:=verbose"], "log_level is 'verbose', expected one of debug, info"),
        ("grasp", ["rviz:=yes"], "rviz is 'yes', expected true or false"),
        ("grasp", ["rviz:=True"], "rviz2 is not installed"),
        ("replay", ["bag:={demo}", "loop:=often"], "loop is 'often', expected true or false"),
        (
            "grasp",
            ["planner:=antipodal", "planner_params_file:={file}"],
            "planner_params_file {file} sets nothing for /dkt_planner: it has parameters for",
        ),
        ("grasp", ["params_file:=~/nowhere.yaml"], f"params_file {Path.home()}/nowhere.yaml does"),
        (
            "grasp",
            ["planner_params_file:=~/nowhere.yaml"],
            f"planner_params_file {Path.home()}/nowhere.yaml does",
        ),
        ("grasp", ["color_topic:=a b"], "color topic is 'a b'"),
        ("cameras", ["config:=~/nowhere.yaml"], f"config {Path.home()}/nowhere.yaml does not"),
        ("cameras", ["config:={file}"], "has dkt_node: expected any of one_process"),
        ("replay", ["bag:={demo}", "rate:=fast"], "rate is 'fast', expected a number"),
        ("replay", ["bag:={demo}", "rate:=inf"], "rate is inf, expected a positive number"),
        ("replay", ["bag:=~/nowhere"], f"{Path.home()}/nowhere"),
        ("replay", ["bag:={demo}", "camera:=zed"], "/zed/zed_node/rgb/color/rect/image"),
    ],
)
def test_what_cannot_work_starts_nothing(
    name: str, words: list[str], said: str, tmp_path: Path, repo_root: Path
) -> None:
    """A process that runs already when another action fails would be left behind."""
    if words[0].lower() == "rviz:=true" and has_rviz():
        pytest.skip("rviz2 is installed here")
    file = tmp_path / "params.yaml"
    file.write_text(MISSPELT)
    demo = repo_root / "dkt_ros/assets/demo/glassware"
    status, output = launched(
        repo_root, name, [word.format(file=file, demo=demo) for word in words]
    )
    assert status != 0
    assert said.format(file=file) in output
    assert "process started" not in output


TOLD = """#!/bin/sh
echo "$@"
env | grep PROFILES_FILE
for word; do case "$word" in *launch_params_* | *dkt_cameras_*) cat "$word" ;; esac; done
"""
"""In front of a command: how it would be called, with which memory for images and parameters."""


@pytest.mark.roslaunch
@pytest.mark.ros
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux's setpriv")
@pytest.mark.parametrize("one", [False, True])
def test_each_camera_of_a_cell_has_its_topics(
    one: bool, tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CHOICES_OF_MEMORY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tell, cell = tmp_path / "tell", tmp_path / "cell.yaml"
    tell.write_text(TOLD)
    tell.chmod(0o755)
    cameras = "{left: {camera: zed, planner: antipodal}, right: {camera: realsense}}"
    cell.write_text(f"one_process: {str(one).lower()}\ncameras: {cameras}\n")
    words = [f"config:={cell}", f"launch-prefix:={tell}", "log_level:=warn", "use_sim_time:=1"]
    _, output = launched(repo_root, "cameras", words)
    called = [line for line in output.splitlines() if "--ros-args" in line]
    assert len(called) == (2 if one else 3), output
    assert all("--log-level warn" in line for line in called)
    assert output.count("PROFILES_FILE=") == len(called)
    assert output.count("use_sim_time: true") == 3, "of two nodes and a planner"
    assert output.count("rectified: true") == 2, "of the ZED's node and its planner"
    for name, topic in (
        ("left", "/zed/zed_node/rgb/color/rect/image"),
        ("right", "/camera/camera/color/image_raw"),
    ):
        own = f"-r /{name}/color/image:={topic}" if one else f"-r color/image:={topic}"
        (line,) = [line for line in called if own in line]
        assert ("dkt_cameras left right --ros-args" if one else f"-r __ns:=/{name} ") in line
    assert not list(tmp_path.glob("dkt_cameras_*")), "what the process read is left behind"


@pytest.mark.roslaunch
@pytest.mark.ros
def test_a_misspelt_argument_is_named(repo_root: Path) -> None:
    """Launch takes every name; the node, which lacks its engine, ends at once."""
    words = ["colour_topic:=/a", "backend:=tensorrt", "something_else:=1"]
    _, output = launched(repo_root, "grasp", words)
    assert "argument colour_topic is not known and ignored: is color_topic meant?" in output
    assert output.count("is not known") == 1


@pytest.mark.roslaunch
@pytest.mark.ros
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs util-linux's setpriv")
@pytest.mark.parametrize(
    ("number", "prefix"),
    [(signal.SIGTERM, []), (signal.SIGKILL, []), (signal.SIGTERM, ["launch-prefix:=nice -n 1"])],
)
def test_processes_end_with_launch_however_it_ends(
    number: int, prefix: list[str], tmp_path: Path, repo_root: Path
) -> None:
    """By itself launch leaves them behind where SIGTERM ends it; --launch-prefix is obeyed."""
    parameters, log = tmp_path / "params.yaml", tmp_path / "log"
    parameters.write_text("/**:\n  ros__parameters:\n    autostart: false\n")
    files = [f"params_file:={parameters}", f"planner_params_file:={parameters}"]
    words = ["planner:=antipodal", "namespace:=ended", *files, *prefix]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(repo_root / "launch" / "grasp.launch.py"), *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    started = re.compile(r"\[(\w+)-\d\]: process started with pid \[(\d+)\]")
    pids: list[str] = []
    try:
        eventually(lambda: len(started.findall(log.read_text())) == 2, told=log.read_text)
        names, pids = map(list, zip(*started.findall(log.read_text()), strict=True))
        niceness = os.nice(0) + len(prefix)
        eventually(
            lambda: {os.getpriority(os.PRIO_PROCESS, int(pid)) for pid in pids} == {niceness},
            told=log.read_text,
        )
        assert names == ["dkt_node", "dkt_planner"]
        process.send_signal(number)
        process.wait(PATIENCE_S)
        eventually(lambda: not any(map(is_alive, pids)), told=log.read_text)
    finally:
        process.kill()
        for pid in filter(is_alive, pids):
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.roslaunch
@pytest.mark.ros
def test_launch_ends_with_the_node_that_a_bag_is_played_to(repo_root: Path, tmp_path: Path) -> None:
    """The player would wait for its subscriptions for ten minutes."""
    parameters = tmp_path / "params.yaml"
    parameters.write_text("/**:\n  ros__parameters:\n    steps: 99\n")
    demo = repo_root / "dkt_ros/assets/demo/glassware"
    words = [f"bag:={demo}", f"params_file:={parameters}", "namespace:=wrong"]
    _, output = launched(repo_root, "replay", words)
    assert "parameter steps is 99, expected 0 to 50" in output
    assert output.count("ended with status") == 1
    assert "dkt_node ended with status 2, see above: everything is ended" in output
    assert "the node goes on" not in output


@pytest.mark.roslaunch
@pytest.mark.ros
def test_rviz_shows_all_in_the_frame_of_the_bag_s_camera(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is no frame of tf or of the data shows nothing. The node ends at once, and all."""
    rviz, words = tmp_path / "lib/rviz2/rviz2", tmp_path / "words"
    index = tmp_path / "share/ament_index/resource_index/packages/rviz2"
    for file, content in ((rviz, f"#!/bin/sh\nexec > {words}\n{TOLD}"), (index, "")):
        file.parent.mkdir(parents=True)
        file.write_text(content)
    rviz.chmod(0o755)
    for name in CHOICES_OF_MEMORY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}:{os.environ['AMENT_PREFIX_PATH']}")
    parameters = tmp_path / "params.yaml"
    parameters.write_text("/**:\n  ros__parameters:\n    steps: 99\n")
    demo = repo_root / "dkt_ros/assets/demo/glassware"
    given = [f"bag:={demo}", f"params_file:={parameters}", "rviz:=True", "namespace:=left"]
    launched(repo_root, "replay", given)
    assert "-f camera_color_optical_frame" in words.read_text()
    assert "-r /dkt/depth:=/left/dkt/depth" in words.read_text()
    assert "use_sim_time: true" in words.read_text()
    assert "PROFILES_FILE=" in words.read_text()


def is_alive(pid: str) -> bool:
    """Whether this process runs; one that nobody has waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.roslaunch
@pytest.mark.ros
def test_the_launch_files_give_fast_dds_memory_for_images_unless_somebody_has_chosen(
    monkeypatch: pytest.MonkeyPatch, repo_root: Path
) -> None:
    grasp = runpy.run_path(str(repo_root / "launch" / "grasp.launch.py"))
    names = CHOICES_OF_MEMORY[:2]
    for name in CHOICES_OF_MEMORY:
        monkeypatch.delenv(name, raising=False)
    assert grasp["FAST_DDS"].is_file()
    (variable,) = grasp["large_messages"]()
    (name,) = variable.name
    old = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    assert name.text == names[old]
    for choice, value in (
        (names[0], "/mine.xml"),
        ("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA"),
        ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp"),
    ):
        monkeypatch.setenv(choice, value)
        assert grasp["large_messages"]() == []
        monkeypatch.delenv(choice)


@pytest.mark.roslaunch
@pytest.mark.ros
@pytest.mark.parametrize(
    ("status", "ends_already", "said"),
    [
        (0, False, "the node goes on"),
        (2, False, "ended with status 2"),
        (0, True, ""),
        (2, True, ""),
    ],
)
def test_the_node_stays_after_a_bag_and_not_after_a_player_that_failed(
    status: int, ends_already: bool, said: str, repo_root: Path
) -> None:
    from launch.actions import LogInfo, Shutdown

    replay = runpy.run_path(str(repo_root / "launch" / "replay.launch.py"))
    event, context = SimpleNamespace(returncode=status), SimpleNamespace(is_shutdown=ends_already)
    actions = replay["after_replay"](event, context)
    words = [part.text for one in actions if isinstance(one, LogInfo) for part in one.msg]
    assert said in "".join(words)
    assert bool(words) == (not ends_already)
    assert any(isinstance(one, Shutdown) for one in actions) == (status == 2 and not ends_already)


@pytest.mark.roslaunch
@pytest.mark.ros
def test_a_namespace_and_a_prefix_are_taken_as_launch_takes_them(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grasp = runpy.run_path(str(repo_root / "launch" / "grasp.launch.py"))
    pushed = SimpleNamespace(launch_configurations={"ros_namespace": "/cell"})
    alone = SimpleNamespace(launch_configurations={})
    for given, within, without in (
        ("arm", "/cell/arm", "arm"),
        ("/arm", "/arm", "/arm"),
        ("", "/cell", ""),
    ):
        assert grasp["whole"](pushed, given) == within
        assert grasp["whole"](alone, given) == without
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    chosen = {"launch-prefix": "nice", "launch-prefix-filter": "dkt_n"}
    some = SimpleNamespace(launch_configurations=chosen)
    for name, prefix in (("dkt_node", "nice"), ("dkt_planner", "")):
        found = grasp["executable"](name, some)
        assert found["prefix"] == f"setpriv --pdeathsig TERM -- {prefix}"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert grasp["executable"]("dkt_node", some) == {"executable": "dkt_node"}


def has_rviz() -> bool:
    from ament_index_python.packages import get_packages_with_prefixes

    return "rviz2" in get_packages_with_prefixes()


def search_path() -> str:
    """For the descriptions: this folder's parent, for the fixtures, before everything else."""
    return os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))
