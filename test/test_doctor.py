"""dkt doctor: what it says, what it advises, and when it fails."""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from fixtures.interrupts import heed_interrupts
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros import doctor
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.extras import install
from dkt_ros.ros import probe

pytest.importorskip("rclpy", reason="needs ROS 2")
from dkt_ros.ros.link import Link
from dkt_ros.ros.probe import PROFILE_VARIABLES

PutModule = Callable[[str, str], None]
PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds.xml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("doctor") / "tiny")


@pytest.fixture
def put_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PutModule:
    """Puts a module of some name and content before the real one, for child processes."""

    def put(name: str, content: str) -> None:
        (tmp_path / f"{name}.py").write_text(content, encoding="utf-8")

    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return put


@pytest.fixture
def without_modules(put_module: PutModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module that the report tries to load does load, but torch."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for module in ("tensorrt", "tensorrt_rtx", *(module for _, module, _, _ in doctor.MODULES)):
        put_module(module, "raise OSError('libodd.so.1: cannot open shared object file')")


@pytest.mark.ros
def test_a_complete_environment_has_all_that_the_node_needs(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["doctor", "--checkpoint", str(checkpoint), "--json"])
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    for name in ("python", "ros", "middleware", "messages", "diffusers", "opencv", "checkpoint"):
        assert findings[name]["level"] == "ok", findings[name]
    assert status == 0
    looked = ["python", "dkt_ros", "ros", "middleware", "messages", "discovery", "torch"]
    looked += ["diffusers", *(name for name, *_ in doctor.MODULES)]
    looked += ["tensorrt", "data", "onnx", "train", "checkpoint"]
    assert [name for name in findings if name in looked] == looked
    assert findings["messages"]["detail"] == "GraspCandidates, ScaleAlignment, StageTiming"
    assert findings["middleware"]["detail"].startswith("rmw_")


@pytest.mark.usefixtures("without_modules")
def test_what_does_not_load_is_named_with_the_reason_and_advice(checkpoint: Path) -> None:
    findings = {finding.name: finding for finding in doctor.examine(checkpoint)}
    for name, _, level, _ in doctor.MODULES:
        assert findings[name].level == level
        assert findings[name].detail == "OSError: libodd.so.1: cannot open shared object file"
        assert findings[name].advice
    assert findings["diffusers"].detail.startswith("ModuleNotFoundError: import of diffusers")
    assert findings["diffusers"].advice == findings["opencv"].advice
    errors = {name for name, finding in findings.items() if finding.level == "error"}
    assert errors - {"ros", "middleware", "messages"} == {"diffusers", "opencv", "checkpoint"}


@pytest.mark.usefixtures("without_modules")
def test_text_names_what_keeps_the_node_from_running(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert main(["doctor", "--checkpoint", str(checkpoint)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The node cannot run. Wrong or missing: ros, diffusers, opencv, checkpoint."
    at = next(i for i, line in enumerate(lines) if line.startswith("lack   scipy"))
    assert install("clouds") in lines[at + 1]


@pytest.mark.parametrize(
    ("level", "status", "last", "with_dds"),
    [
        ("lack", 0, "The node can run.", "Images arrive."),
        (
            *("error", 1, "The node cannot run. Wrong or missing: odd."),
            "No image was sent. Wrong or missing: odd.",
        ),
    ],
)
def test_the_last_line_and_the_status_say_what_it_comes_to(
    level: doctor.Level,
    status: int,
    last: str,
    with_dds: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = doctor.Finding("odd", level, "it is odd", "make it even")
    monkeypatch.setattr(doctor, "examine", lambda checkpoint: [found])
    monkeypatch.setattr(doctor, "examine_dds", lambda **load: [found])
    for words, said in ([], last), (["--dds"], with_dds):
        assert main(["doctor", *words]) == status
        lines = capsys.readouterr().out.splitlines()
        assert lines == [f"{level:<7}odd         it is odd", f"{'':19}-> make it even", "", said]
        assert main(["doctor", "--json", *words]) == status
        assert json.loads(capsys.readouterr().out) == [vars(found)]
    link = doctor.Finding("link", level, "")
    monkeypatch.setattr(doctor, "examine_dds", lambda **load: [link])
    assert main(["doctor", "--dds"]) == status
    assert capsys.readouterr().out.endswith("lost.\n" if status else "Images arrive.\n")


WITHOUT_TORCH = """
import sys
from dkt_ros import doctor
from dkt_ros.cli import main
sys.modules["torch"] = None
for name in "MODULES", "_WORK":
    setattr(doctor, name, ())
sys.exit(main(["doctor", "--json"]))
"""


@pytest.mark.ros
def test_without_torch_and_a_middleware_the_rest_is_looked_at_all_the_same() -> None:
    """As of an RMW_IMPLEMENTATION from a shell's profile that is not installed here.

    It ends every process that asks for it.
    """
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        env=os.environ | {"RMW_IMPLEMENTATION": "rmw_nowhere_cpp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    findings = {finding["name"]: finding for finding in json.loads(run.stdout)}
    levels = {"python": "ok", "torch": "error", "tensorrt": "lack", "checkpoint": "error"}
    assert {name: findings[name]["level"] for name in levels} == levels
    assert findings["discovery"]["level"] in ("ok", "lack")
    assert findings["middleware"]["level"] == "error"
    assert "RMW_IMPLEMENTATION is rmw_nowhere_cpp" in findings["middleware"]["detail"]
    assert "unset it" in findings["middleware"]["advice"]


class OddError(Exception):
    """As rosidl's, of no other kind."""


@pytest.mark.parametrize("error", [OddError("no library"), RuntimeError("no library")])
def test_whatever_an_incomplete_ros_raises_is_told(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "rclpy_version", lambda: "any")
    for question in ("middleware", "message_types"):
        monkeypatch.setattr(probe, question, Mock(side_effect=error))
    found = {finding.name: finding for finding in (*doctor.check_ros(), *doctor.check_network())}
    for name in ("middleware", "messages"):
        assert found[name].level == "error"
        assert found[name].detail == f"{type(error).__name__}: no library"
    assert "images" not in found, "nothing is known of what carries them"


@pytest.mark.parametrize(
    ("broken", "names"),
    [("", ["ros", "middleware", "discovery", "link"]), ("middleware", ["ros", "middleware"])],
)
def test_images_are_sent_where_ros_runs_with_these_messages_or_without(
    broken: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ros = [
        doctor.Finding(name, "error" if name in (broken, "messages") else "ok", "")
        for name in ("ros", "middleware", "messages")
    ]
    network, link = (doctor.Finding(name, "ok", "") for name in ("discovery", "link"))
    monkeypatch.setattr(doctor, "check_ros", lambda: ros)
    monkeypatch.setattr(doctor, "check_network", lambda: [network])
    monkeypatch.setattr(doctor, "check_link", lambda *load: link)
    assert [finding.name for finding in doctor.examine_dds("48x64", 30.0, 1.0)] == names


def test_what_python_and_the_package_are_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python().level == "ok"
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    python = doctor.check_python()
    assert (python.level, python.advice) == ("error", "install Python 3.10 or newer")
    monkeypatch.setattr(shutil, "which", {"dkt_node": "/bin/dkt_node"}.get)
    monkeypatch.setattr(importlib.metadata, "version", {"dkt_ros": "1.2"}.__getitem__)
    package = doctor.check_package()
    assert package.level == "ok"
    assert package.detail.startswith("1.2 in /")
    monkeypatch.setattr(shutil, "which", {}.get)
    assert doctor.check_package().detail == "1.2, but dkt_node is not on PATH"
    absent = Mock(side_effect=importlib.metadata.PackageNotFoundError)
    monkeypatch.setattr(importlib.metadata, "version", absent)
    package = doctor.check_package()
    assert package.detail.startswith("run from its sources in /")
    assert (package.level, "make" in package.advice) == ("note", True)


@pytest.mark.parametrize(
    ("plain", "rtx", "level", "says"),
    [
        ("11.0.0", "1.7.1.116", "ok", "TensorRT 11.0.0"),
        (None, "1.7.1.116", "ok", "TensorRT for RTX 1.7.1.116, which builds plans"),
        ("10.3.0", None, "lack", "TensorRT 10.3.0"),
        (None, None, "lack", "ImportError: not here; ImportError: not here"),
    ],
)
def test_which_tensorrt_is_taken_is_told(
    put_module: PutModule, plain: str | None, rtx: str | None, level: str, says: str
) -> None:
    for name, version in (("tensorrt", plain), ("tensorrt_rtx", rtx)):
        absent = "raise ImportError('not here')"
        put_module(name, absent if version is None else f"__version__ = {version!r}")
    finding = doctor.check_tensorrt()
    assert (finding.name, finding.level) == ("tensorrt", level)
    assert finding.detail.startswith(says)
    assert bool(finding.advice) == (level == "lack")


def test_a_module_that_is_absent_is_named() -> None:
    finding = doctor.check_module("odd", "no_such_module", "lack", "install it")
    assert finding == doctor.Finding(
        "odd", "lack", "No module named 'no_such_module'", "install it"
    )


def test_an_extra_is_there_or_its_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"data": ("json", "no_such_module")})
    finding = doctor.check_extra("data")
    assert (finding.level, finding.detail) == ("lack", "no_such_module not installed")
    assert install("data") in finding.advice
    monkeypatch.setattr(doctor, "EXTRAS", {"data": ("json",)})
    assert doctor.check_extra("data") == doctor.Finding("data", "ok", "json")


def test_a_module_that_kills_its_process_does_not_kill_the_doctor(put_module: PutModule) -> None:
    put_module("killer", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    finding = doctor.check_module("killer", "killer", "lack", "")
    assert finding.level == "lack"
    assert "Segmentation fault" in finding.detail


def test_ros_that_is_missing_is_one_error_not_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    (finding,) = doctor.check_ros()
    assert (finding.name, finding.level) == ("ros", "error")
    assert "setup.bash" in finding.advice


@pytest.mark.parametrize(
    ("status", "stderr", "said"),
    [
        (0, "", ""),
        (1, "ModuleNotFoundError: rclpy", ""),  # told of ROS itself
        (255, "[1.2] [rcl]: no librmw_odd.so, exiting with 1", "no librmw_odd.so"),
        (-11, "", "it ends with status -11"),
    ],
)
def test_why_a_middleware_does_not_load_is_told(
    status: int, stderr: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = SimpleNamespace(returncode=status, stderr=stderr)
    monkeypatch.setattr(subprocess, "run", Mock(return_value=ended))
    found = probe._refused.__wrapped__("rmw_odd_cpp")
    told = f"RMW_IMPLEMENTATION is rmw_odd_cpp, and ROS cannot load that: {said}"
    assert found == (told if said else "")


def test_a_profile_is_found_by_either_name_where_fast_dds_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "deadly_middleware", lambda: "")
    for middleware, none in (("rmw_fastrtps_cpp", ""), ("rmw_cyclonedds_cpp", None)):
        monkeypatch.setattr(probe, "middleware", lambda one=middleware: one)
        for name in PROFILE_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        assert probe.fast_dds_profile() == none
        for name in PROFILE_VARIABLES:
            monkeypatch.setenv(name, "/mine.xml")
            assert probe.fast_dds_profile() == (none if none is None else "/mine.xml")
            monkeypatch.delenv(name)
    for distribution, name in (("jazzy", "FASTRTPS"), ("kilted", "FASTDDS")):
        monkeypatch.setenv("ROS_DISTRO", distribution)
        assert probe.profile_variable() == f"{name}_DEFAULT_PROFILES_FILE"


def test_messages_that_were_not_generated_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "rclpy_version", lambda: "any")
    monkeypatch.setattr(probe, "middleware", lambda: "any")
    monkeypatch.setitem(sys.modules, "dkt_ros.msg", None)
    *_, finding = doctor.check_ros()
    assert (finding.name, finding.level) == ("messages", "error")
    assert "make" in finding.advice


@pytest.mark.parametrize(
    ("distribution", "instead", "other"),
    [
        ("humble", "ROS_DISCOVERY_SERVER", "ROS_STATIC_PEERS"),
        ("jazzy", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"),
    ],
)
@pytest.mark.parametrize(
    ("multicast", "peers", "level"),
    [(True, "", "ok"), (False, "127.0.0.1", "ok"), (False, "", "lack")],
)
def test_discovery_needs_multicast_or_what_the_distribution_has_instead(
    multicast: bool,
    peers: str,
    level: str,
    distribution: str,
    instead: str,
    other: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "multicast_returns", lambda: multicast)
    monkeypatch.setenv("ROS_DISTRO", distribution)
    monkeypatch.setenv(instead, peers)
    monkeypatch.setenv(other, "127.0.0.1")
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE", raising=False)
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    finding = next(doctor.check_network())
    assert (finding.name, finding.level) == ("discovery", level)
    told = f"ROS_DOMAIN_ID=7, ROS_LOCALHOST_ONLY=1{f', {instead}={peers}' * bool(peers)}"
    assert finding.detail.endswith(f"; {told}") == (level == "ok")
    port = ":11811" * (distribution == "humble")
    assert finding.advice.startswith(f"export {instead}=127.0.0.1{port}") == (level == "lack")


def test_a_domain_that_there_is_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "233")
    [finding] = doctor.check_network()
    assert (finding.name, finding.level) == ("discovery", "error")
    assert "ROS_DOMAIN_ID is '233', expected a whole number from 0 to 232" in finding.detail


@pytest.mark.parametrize(("limit", "noted"), [(212_992, "208 KiB"), (8_388_608, ""), (None, "")])
def test_small_receive_buffers_are_noted(
    limit: int | None, noted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "receive_buffer_limit", lambda: limit)
    found = {finding.name: finding for finding in doctor.check_network()}
    assert ("buffers" in found) == bool(noted)
    assert not noted or f"at most {noted}: " in found["buffers"].detail


@pytest.mark.parametrize(
    ("profile", "level"),
    [(None, None), ("", "note"), (str(PROFILE), "ok"), ("nowhere/fastdds.xml", "lack")],
)
def test_memory_that_holds_no_image_is_noted(
    profile: str | None, level: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "fast_dds_profile", lambda: profile)
    found = {finding.name: finding for finding in doctor.check_network()}
    assert (found["images"].level if "images" in found else None) == level
    if level in ("note", "lack"):
        assert f"{probe.profile_variable()}={PROFILE}" in found["images"].advice


@pytest.mark.parametrize(
    ("profile", "free_mib", "noted"),
    [(str(PROFILE), 64, True), (str(PROFILE), 128, False), ("", 64, False), (None, 64, False)],
)
def test_a_profile_that_asks_for_more_memory_than_is_free_is_noted(
    profile: str | None, free_mib: int, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, which gets 64 MiB."""
    monkeypatch.setattr(probe, "fast_dds_profile", lambda: profile)
    monkeypatch.setattr(probe, "left_behind_bytes", lambda: 0)
    room = SimpleNamespace(f_bavail=free_mib * 256, f_frsize=4096, f_blocks=10**9)
    monkeypatch.setattr(os, "statvfs", {probe.SHARED_MEMORY: room}.__getitem__)
    found = {finding.name: finding for finding in doctor.check_network()}
    assert ("memory" in found) == noted
    assert not noted or found["memory"].detail.startswith("/dev/shm has 64 MiB free")


def test_running_nodes_of_other_users_are_told_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fastdds_dead", "fastrtps_alive"):
        (tmp_path / f"{name}_el").touch()
    with (tmp_path / "fastrtps_alive_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert probe.other_users(tmp_path) == ()
        me = pwd.getpwuid(os.geteuid()).pw_name
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        assert probe.other_users(tmp_path) == (me,)
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
        assert probe.other_users(tmp_path) == (str((tmp_path / "fastdds_dead_el").stat().st_uid),)
    assert probe.other_users(tmp_path) == ()
    assert probe.other_users(tmp_path / "none") == ()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        assert probe.other_users(tmp_path) == (), "nobody is told of, and nothing fails"
    for profile, others, noted in (("", ("a",), True), ("", (), False), (None, ("a",), False)):
        monkeypatch.setattr(probe, "fast_dds_profile", lambda found=profile: found)
        monkeypatch.setattr(probe, "other_users", lambda found=others: found)
        found = {finding.name: finding for finding in doctor.check_network()}
        assert ("users" in found) == noted


CUT_OFF = """
import os, rclpy
from dkt_ros.ros import probe, qos
rclpy.init()
node = rclpy.create_node("cut_off")
print(probe.is_cut_off(), repr(qos.cut_off_advice()))
for one in os.scandir("/proc/self/fd"):
    path = os.readlink(one.path) if os.path.islink(one.path) else ""
    if probe._SEGMENT.search(path):
        os.unlink(path)
        os.unlink(path.removesuffix("_el"))
print(probe.is_cut_off(), "RemoveIPC=no" in qos.cut_off_advice())
os._exit(0)
"""


@pytest.mark.ros
def test_shared_memory_that_was_taken_away_is_noticed() -> None:
    """As of a node whose user has logged out; the files are removed as logind does."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    environment = {key: value for key, value in os.environ.items() if "BUILTIN" not in key}
    found = subprocess.run(
        [sys.executable, "-c", CUT_OFF], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-2:] == ["False ''", "True True"]


def test_shared_memory_of_killed_nodes_is_told_apart_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fastdds_dead", "fastrtps_old", "fastdds_alive", "fastdds_port7411"):
        (tmp_path / name).write_bytes(bytes(1024**2))
        (tmp_path / f"{name}_el").touch()
    (tmp_path / "other").write_bytes(bytes(1024**2))
    alive = [(tmp_path / f"fastdds_{name}_el").open() for name in ("alive", "port7411")]
    for lock in alive:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert probe.left_behind_bytes(tmp_path) == 2 * 1024**2
    for lock in alive:
        lock.close()
    assert probe.left_behind_bytes(tmp_path) == 4 * 1024**2
    assert probe.left_behind_bytes(tmp_path / "none") == 0
    for mebibytes, noted in ((134, True), (64, False)):
        monkeypatch.setattr(probe, "left_behind_bytes", lambda n=mebibytes: n * 1024**2)
        found = {finding.name: finding for finding in doctor.check_network()}
        assert ("memory" in found) == noted
        if noted:
            assert found["memory"].detail.startswith("134 MiB")
            assert "fastdds shm clean" in found["memory"].advice


@pytest.mark.parametrize(
    ("gpus", "driver", "level", "said"),
    [
        (2, True, "ok", ", A1 with 16 GiB, A1 with 16 GiB"),
        (0, True, "note", ", no GPU, 3 CPU threads, though an NVIDIA driver is loaded"),
        (0, False, "note", ", no GPU, 3 CPU threads: enough for dkt-nano, not for the large"),
    ],
)
def test_what_torch_computes_on_is_told(
    gpus: int, driver: bool, level: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    card = SimpleNamespace(name="A1", total_memory=16 * 1024**3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.cuda.get_device_properties", [card, card].__getitem__)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    monkeypatch.setattr(Path, "exists", lambda path: driver and path == Path("/dev/nvidiactl"))
    finding = doctor.check_torch()
    assert (finding.name, finding.level) == ("torch", level)
    assert f"{torch.__version__}{said}" in finding.detail
    assert ("fits the driver" in finding.advice) == (driver and not gpus)


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=str(tmp_path / "none")):
        doctor.check_checkpoint(tmp_path / "none")


def test_the_checkpoint_is_described(checkpoint: Path) -> None:
    finding = doctor.check_checkpoint(checkpoint)
    assert finding.level == "ok"
    assert finding.detail == f"tiny-random: depth, 0.1 M parameters, in {checkpoint}"


@pytest.mark.ros
@pytest.mark.parametrize(
    ("link", "level", "said", "advised"),
    [
        (Link(False), "error", "do not find each other", "see discovery above; ROS_DOMAIN"),
        (Link(True, 150, 150, 30.0, 0.004), "ok", "150 of 150 images of 640x480 (0% lost)", ""),
        (
            Link(True, 150, 120, 30.0, 0.004),
            "error",
            "20% lost), 30.0 a second, 4 ms each",
            "by default Fast DDS",
        ),
        (Link(True, 200, 199, 30.0, 0.004), "ok", "199 of 200", ""),
        (Link(True, 200, 196, 30.0, 0.004), "error", "196 of 200", "by default Fast DDS"),
        (
            Link(True, 150, 150, 11.0, 0.004),
            "note",
            "11.0 a second",
            "this machine is too busy to send 30",
        ),
    ],
)
def test_lost_images_are_counted_and_what_to_set_is_said(
    link: Link, level: str, said: str, advised: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dkt_ros.ros.link.measure", lambda load: link)
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for load in (3.0, 4.0):  # 1.5 for each core, and more
        monkeypatch.setattr(os, "getloadavg", lambda one=load: (one, 0.0, 0.0))
        found = doctor.check_link("480x640", 30.0, 5.0)
        assert (found.name, found.level) == ("link", level)
        assert said in found.detail
        is_busy = load == 4.0 and "by default" in advised
        busy = "this machine is busy (4 processes for 2 cores): end some; " * is_busy
        assert found.advice.startswith(f"{busy}{advised}")


@pytest.mark.ros
def test_two_processes_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(
        main(["doctor", "--dds", "--json", "--size", "48x64", "--rate", "20", "--seconds", "0.5"]),
        int,
    )
    [link] = [one for one in json.loads(capsys.readouterr().out) if one["name"] == "link"]
    assert "of 10 images of 64x48" in link["detail"]


@pytest.mark.ros
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_measurement_says_nothing_more(number: signal.Signals) -> None:
    code = (
        "import rclpy.node, sys; from dkt_ros.cli import main\n"
        "make = rclpy.node.Node.create_subscription\n"
        "def told(*args, **more):\n"
        "    node, kind, topic, hear, *rest = args\n"
        "    def tell(message):\n"
        "        print('hears', file=sys.stderr, flush=True); hear(message)\n"
        "    return make(node, kind, topic, tell, *rest, **more)\n"
        "rclpy.node.Node.create_subscription = told\n"
        "sys.exit(main(['doctor', '--dds', '--size', '48x64', '--rate', '500', '--seconds', '60']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "hears\n"
    os.killpg(process.pid, number)  # as a terminal does
    _, said = process.communicate(timeout=120)  # the sender has this pipe too
    assert set(said.split()) <= {"hears"}
    assert process.returncode == (130 if number == signal.SIGINT else -number)


@pytest.mark.ros
def test_images_of_no_size_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, value in (("--rate", "0"), ("--size", "99999x99999"), ("--size", "0x10")):
        assert main(["doctor", "--dds", flag, value]) == 2
        assert f"{flag} {value}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "480x640"], "--size: of the images that --dds sends; expected --dds too"),
        (["--rate", "60", "--seconds", "2"], "--rate, --seconds: of the images that --dds sends"),
        (["--dds", "--checkpoint", "x"], "--checkpoint and --dds exclude each other"),
    ],
)
def test_flags_that_would_have_no_effect_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) != 0
    assert said in capsys.readouterr().err


def test_the_room_that_is_asked_for_is_the_profiles() -> None:
    profile = PROFILE.read_text()
    assert f"<segment_size>{doctor._ROOM * 1024**2}</segment_size>" in profile
