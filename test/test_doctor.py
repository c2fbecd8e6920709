"""dkt doctor: what it says, what it advises, and when it fails."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from fixtures.interrupts import heed_interrupts
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros import doctor
from dkt_ros.cli import main
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
def without_modules(put_module: PutModule) -> None:
    """No module that the report tries to load does load."""
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
    assert findings["messages"]["detail"] == "GraspCandidates, ScaleAlignment, StageTiming"
    assert findings["middleware"]["detail"].startswith("rmw_")


@pytest.mark.usefixtures("without_modules")
def test_what_does_not_load_is_named_with_the_reason_and_advice(checkpoint: Path) -> None:
    findings = {finding.name: finding for finding in doctor.examine(checkpoint)}
    for name, _, level, _ in doctor.MODULES:
        assert findings[name].level == level
        assert findings[name].detail == "OSError: libodd.so.1: cannot open shared object file"
        assert findings[name].advice
    errors = {name for name, _, level, _ in doctor.MODULES if level == "error"}
    assert errors == {"diffusers", "opencv"}


@pytest.mark.usefixtures("without_modules")
def test_text_names_what_keeps_the_node_from_running(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert main(["doctor", "--checkpoint", str(checkpoint)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "The node cannot run. Wrong or missing: ros, diffusers, opencv."
    at = next(i for i, line in enumerate(lines) if line.startswith("lack   scipy"))
    assert install("clouds") in lines[at + 1]


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


@pytest.mark.ros
def test_a_middleware_that_ends_every_process_is_named(checkpoint: Path) -> None:
    """As an RMW_IMPLEMENTATION from a shell's profile that is not installed here."""
    words = ["doctor", "--json", "--checkpoint", str(checkpoint)]
    run = subprocess.run(
        [sys.executable, "-c", f"from dkt_ros.cli import main; exit(main({words}))"],
        env=os.environ | {"RMW_IMPLEMENTATION": "rmw_nowhere_cpp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    findings = {finding["name"]: finding for finding in json.loads(run.stdout)}
    assert findings["middleware"]["level"] == "error"
    assert "RMW_IMPLEMENTATION is rmw_nowhere_cpp" in findings["middleware"]["detail"]
    assert "unset it" in findings["middleware"]["advice"]
    assert findings["checkpoint"]["level"] == "ok", "the rest is looked at all the same"


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
    finding = next(doctor.check_network())
    assert (finding.name, finding.level) == ("discovery", level)
    assert (f"export {instead}=" in finding.advice) == (level == "lack")


@pytest.mark.parametrize(("limit", "noted"), [(212_992, True), (8_388_608, False), (None, False)])
def test_small_receive_buffers_are_noted(
    limit: int | None, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "receive_buffer_limit", lambda: limit)
    assert ("buffers" in {finding.name for finding in doctor.check_network()}) == noted


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
    for mebibytes, noted in ((134, True), (10, False)):
        monkeypatch.setattr(probe, "left_behind_bytes", lambda n=mebibytes: n * 1024**2)
        found = {finding.name: finding for finding in doctor.check_network()}
        assert ("memory" in found) == noted
        if noted:
            assert found["memory"].detail.startswith("134 MiB")
            assert "fastdds shm clean" in found["memory"].advice


def test_torch_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.check_torch().level == "error"


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    finding = doctor.check_checkpoint(tmp_path / "none")
    assert finding.level == "error"
    assert str(tmp_path / "none") in finding.detail


def test_the_checkpoint_is_described(checkpoint: Path) -> None:
    finding = doctor.check_checkpoint(checkpoint)
    assert finding.level == "ok"
    assert "depth" in finding.detail
    assert str(checkpoint) in finding.detail


@pytest.mark.ros
@pytest.mark.parametrize(
    ("link", "level", "said", "advised"),
    [
        (Link(False), "error", "do not find each other", "ROS_DOMAIN_ID"),
        (Link(True, 150, 150, 30.0, 0.004), "ok", "150 of 150 images of 640x480 (0% lost)", ""),
        (Link(True, 150, 120, 30.0, 0.004), "error", "20% lost", "fastdds.xml"),
        (Link(True, 150, 150, 11.0, 0.004), "note", "11.0 a second", "too busy to send 30"),
    ],
)
def test_lost_images_are_counted_and_what_to_set_is_said(
    link: Link, level: str, said: str, advised: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dkt_ros.ros.link.measure", lambda load: link)
    for variable in PROFILE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    found = doctor.check_link("480x640", 30.0, 5.0)
    assert (found.name, found.level) == ("link", level)
    assert said in found.detail
    assert advised in found.advice


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
