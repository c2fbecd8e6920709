"""`dkt doctor`: what is installed here, and what to do about each lack.

Changes nothing. What has to be asked of ROS itself is asked by dkt_ros.ros.probe.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import dkt_ros
from dkt_ros.arguments import finite, path
from dkt_ros.errors import DktError
from dkt_ros.extras import EXTRAS, install
from dkt_ros.wording import counted, one_line

Level = Literal["ok", "note", "lack", "error"]
"""ok: there. note: there, with a catch. lack: something optional is missing. error: the node cannot
run."""

_OLDEST_PYTHON = (3, 10)
_SMALL_RECEIVE_BUFFER = 2 * 1024**2
"""Bytes; a colour image of 832x480 is 1.2 MB and arrives as one burst of UDP datagrams."""

_LOSS = 0.01
"""Share of images on one machine that may be lost."""

_LARGEST = 8192
"""Pixels a side of images that are sent on trial."""

_MUCH_LEFT_BEHIND = 64.0
"""MiB; one node that was killed leaves 128 with config/fastdds.xml."""

_ROOM = 128
"""MiB that config/fastdds.xml lets one process share."""

_DDS: dict[str, Any] = {"size": "720x1280", "rate": 30.0, "seconds": 5.0}
"""What `--dds` sends by default: HEIGHTxWIDTH, Hz, seconds."""

_BUILD = "run `make` in the checkout, then `source scripts/env.sh`"
_CORE = f"{install()}, or {_BUILD}"
_WITH_ROS = "comes with a ROS installation: source /opt/ros/<distro>/setup.bash, run `make` again"

_LOAD = """
import importlib, importlib.metadata, sys
module = importlib.import_module(sys.argv[1])
print(getattr(module, "__version__", None) or importlib.metadata.version(sys.argv[1]))
"""
"""Loads the module that is named and prints its version."""

MODULES: tuple[tuple[str, str, Level, str], ...] = (
    ("opencv", "cv2", "error", _CORE),
    ("scipy", "scipy", "lack", f"clouds without outliers need it: {install('clouds')}"),
    ("launch", "launch_ros", "lack", f"`ros2 launch` {_WITH_ROS}"),
    (
        "blender",
        "bpy",
        "lack",
        f"`dkt synth` needs it: {install('synth')}, for CPython 3.11 alone",
    ),
)
"""Name in the report, module, level of its absence, what to do about that."""

_WORK = {
    "data": "`dkt data`, `dkt eval` and `dkt bag` need",
    "onnx": "`dkt engine build` needs",
    "train": "`dkt train` needs",
}
"""Extras of which it is enough to know that they are there, and whose they are."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    detail: what is there, or what is wrong. advice: what to do about it; empty where nothing is.
    """

    name: str
    level: Level
    detail: str
    advice: str = ""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `dkt doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what is installed, and what to do about what is missing",
        description="Says what is installed, and what to do about what is missing. Exits with 1 "
        "if the node cannot run.",
    )
    parser.add_argument(
        "--checkpoint",
        type=path,
        metavar="DIR",
        help="checkpoint to look at; default: the one in the package",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--dds",
        action="store_true",
        help="instead, send large images from one process to another, count lost ones, and say "
        "what to set; exits with 1 if more than 1%% are lost",
    )
    parser.add_argument(
        "--size", metavar="HxW", help=f"size of these images; default: {_DDS['size']}"
    )
    for name, unit, what in (
        ("rate", "HZ", "rate of these images"),
        ("seconds", "S", "for how long"),
    ):
        parser.add_argument(
            f"--{name}", type=finite, metavar=unit, help=f"{what}; default: {_DDS[name]:g}"
        )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    findings = []
    given = {name: value for name in _DDS if (value := getattr(args, name)) is not None}
    if args.dds and args.checkpoint:
        raise DktError("--checkpoint and --dds exclude each other: --dds looks at no checkpoint")
    if args.dds:
        examined = examine_dds(**{**_DDS, **given})
    elif given:
        flags = ", ".join(f"--{name}" for name in given)
        raise DktError(f"{flags}: of the images that --dds sends; expected --dds too")
    else:
        examined = examine(args.checkpoint)
    for finding in examined:
        findings.append(finding)
        if not args.json:
            print(_format(finding), flush=True)
    errors = [finding.name for finding in findings if finding.level == "error"]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif errors == ["link"]:
        print("\nImages get lost.")
    elif errors:
        what = "No image was sent" if args.dds else "The node cannot run"
        print(f"\n{what}. Wrong or missing: {', '.join(errors)}.")
    else:
        print("\nImages arrive." if args.dds else "\nThe node can run.")
    return 1 if errors else 0


def _format(finding: Finding) -> str:
    line = f"{finding.level:<7}{finding.name:<12}{finding.detail}"
    return f"{line}\n{'':<19}-> {finding.advice}" if finding.advice else line


def examine(checkpoint: Path | None = None) -> Iterator[Finding]:
    """Runs every check and yields what each found.

    checkpoint: folder to look at instead of the embedded one.
    """
    yield check_python()
    yield check_package()
    yield from check_ros()
    yield from check_network()
    yield _found("torch", "error", check_torch, _CORE)
    yield _found("diffusers", "error", check_diffusers, _CORE)
    for module in MODULES:
        yield check_module(*module)
    yield _found("tensorrt", "lack", check_tensorrt, "first see to what the node needs")
    for extra in _WORK:
        yield check_extra(extra)
    yield _found("checkpoint", "error", lambda: check_checkpoint(checkpoint))


def examine_dds(size: str, rate: float, seconds: float) -> Iterator[Finding]:
    """What large images meet on their way between two processes of this machine."""
    found = list(check_ros())
    yield from (one for one in found if one.name != "messages")
    if any(one.level == "error" for one in found if one.name != "messages"):
        return
    yield from check_network()
    yield check_link(size, rate, seconds)


def check_link(size: str, rate_hz: float, seconds: float) -> Finding:
    """Sends images of HEIGHTxWIDTH and counts them. Raises DktError for numbers that are none."""
    from dkt_ros.arguments import parse_size
    from dkt_ros.ros.link import Load, measure
    from dkt_ros.ros.qos import large_message_advice

    height, width = parse_size(size) or (0, 0)
    sides = 1 <= height <= _LARGEST and 1 <= width <= _LARGEST
    if not sides or not 0 < rate_hz <= 1000 or not 0 < seconds <= 3600:
        raise DktError(
            f"--size {size} --rate {rate_hz:g} --seconds {seconds:g}: expected HEIGHTxWIDTH of up "
            f"to {_LARGEST} pixels a side, up to 1000 Hz and up to 3600 s"
        )
    link = measure(Load(width, height, rate_hz, seconds))
    if not link.found:
        return Finding(
            "link",
            "error",
            "two processes of this machine do not find each other",
            "see discovery above; ROS_DOMAIN_ID and RMW_IMPLEMENTATION have to be the same for all",
        )
    text = (
        f"{link.received} of {link.sent} images of {width}x{height} ({link.lost:.0%} lost), "
        f"{link.sent_hz:.1f} a second, {link.latency_s * 1e3:.0f} ms each"
    )
    if link.lost > _LOSS:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        busy = ""
        if load > 1.5 * cores:
            busy = f"this machine is busy ({load:.0f} processes for {cores} cores): end some; "
        return Finding("link", "error", text, busy + large_message_advice())
    if link.sent_hz < 0.9 * rate_hz:
        return Finding(
            "link", "note", text, f"this machine is too busy to send {rate_hz:g} a second"
        )
    return Finding("link", "ok", text)


def check_python() -> Finding:
    """The interpreter and its age."""
    detail = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        return Finding("python", "error", detail, f"install Python {oldest} or newer")
    return Finding("python", "ok", detail)


def check_package() -> Finding:
    """This package: its version, where it is loaded from, whether its commands are on PATH."""
    folders = ", ".join(dkt_ros.__path__)
    try:
        version = importlib.metadata.version("dkt_ros")
    except importlib.metadata.PackageNotFoundError:
        return Finding("dkt_ros", "note", f"run from its sources in {folders}", _BUILD)
    if shutil.which("dkt_node") is None:
        return Finding("dkt_ros", "note", f"{version}, but dkt_node is not on PATH", _BUILD)
    return Finding("dkt_ros", "ok", f"{version} in {folders}")


def check_ros() -> Iterator[Finding]:
    """rclpy, then what hangs on it: the middleware and this package's generated messages."""
    from dkt_ros.ros import probe

    if deadly := probe.deadly_middleware():
        yield Finding(
            "middleware",
            "error",
            deadly,
            "unset it, for the default one, or install it (apt install ros-$ROS_DISTRO-NAME, with "
            "- for _); the wheels that stand in for a ROS installation have rmw_fastrtps_cpp alone",
        )
        return
    ros = _asked(
        "ros",
        probe.rclpy_version,
        "source /opt/ros/<distro>/setup.bash; without a ROS installation run `make` in the "
        "checkout, then `source scripts/env.sh`",
    )
    yield ros
    if ros.level == "error":
        return
    yield _asked("middleware", probe.middleware, "set RMW_IMPLEMENTATION to an installed one")
    yield _asked("messages", lambda: ", ".join(probe.message_types()), _BUILD)


def _asked(name: str, question: Callable[[], str], advice: str) -> Finding:
    return _found(name, "error", lambda: Finding(name, "ok", question()), advice)


def _found(name: str, level: Level, look: Callable[[], Finding], advice: str = "") -> Finding:
    """What `look` finds; `level` and `advice` hold for when it raises."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 incomplete installations raise anything
        return Finding(name, level, _told(error), advice)


def check_network() -> Iterator[Finding]:
    """Whether processes can find each other, and whether an image survives the way."""
    from dkt_ros.ros import probe

    if trouble := probe.domain_trouble():
        yield Finding("discovery", "error", trouble)
        return
    instead = probe.discovery_variable()
    domain = (
        f"ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}" if os.environ.get("ROS_DOMAIN_ID") else ""
    )
    settings = ", ".join(filter(None, [domain, probe.discovery_settings()]))
    if probe.multicast_returns():
        yield Finding("discovery", "ok", f"multicast works; {settings or 'default settings'}")
    elif os.environ.get(instead):
        yield Finding("discovery", "ok", f"no multicast, {instead} instead; {settings}")
    else:
        peers = "127.0.0.1 (other machines: their addresses, with ; between)"
        server = "127.0.0.1:11811, where `fastdds discovery --server-id 0` runs"
        yield Finding(
            "discovery",
            "lack",
            "no multicast on this machine: processes do not find each other",
            f"export {instead}={peers if instead == 'ROS_STATIC_PEERS' else server}",
        )
    profile = probe.fast_dds_profile()
    if profile == "":
        yield Finding(
            "images",
            "note",
            "Fast DDS shares 512 KB between processes, less than an image: many get lost",
            f"export {probe.profile_variable()}={probe.own_profile()} for the camera's driver, the "
            "node and the planner",
        )
    elif profile is not None and not Path(profile).is_file():
        yield Finding(
            "images",
            "lack",
            f"the profile that Fast DDS is told to read, {profile}, is no file here, so it shares "
            "512 KB between processes, less than an image: many get lost",
            f"export {probe.profile_variable()}={probe.own_profile()}, an absolute path",
        )
    elif profile is not None:
        yield Finding("images", "ok", f"Fast DDS as {profile} says")
    room = probe.shared_memory_bytes() / 1024**2
    if profile and room < _ROOM:
        yield Finding(
            "memory",
            "note",
            f"/dev/shm has {room:.0f} MiB free, and each process may need {_ROOM}",
            "start containers with --shm-size=1g or --ipc=host",
        )
    left_behind = probe.left_behind_bytes() / 1024**2
    if left_behind > _MUCH_LEFT_BEHIND:
        yield Finding(
            "memory",
            "note",
            f"{left_behind:.0f} MiB of shared memory belong to nodes that were killed",
            "`fastdds shm clean` frees them",
        )
    if profile is not None and (others := probe.other_users()):
        yield Finding(
            "users",
            "note",
            f"nodes of another user ({', '.join(others)}) run here: Fast DDS passes nothing "
            "between users by shared memory",
            "run camera, node and readers as one user",
        )
    limit = probe.receive_buffer_limit()
    if limit is not None and limit < _SMALL_RECEIVE_BUFFER:
        yield Finding(
            "buffers",
            "note",
            f"UDP receive buffers of at most {limit // 1024} KiB: best-effort images get lost",
            "sysctl -w net.core.rmem_max=8388608",
        )


def check_module(name: str, module: str, level: Level, advice: str) -> Finding:
    """Whether a module loads; `level` and `advice` hold for when it does not.

    A process of its own loads it: libraries that do not fit can end the process that loads them.
    """
    loaded = subprocess.run(
        [sys.executable, "-c", _LOAD, module],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if loaded.returncode == 0:
        return Finding(name, "ok", loaded.stdout.splitlines()[-1])
    if loaded.returncode < 0:
        why = f"loading {module} ends the process: {signal.strsignal(-loaded.returncode)}"
    else:
        why = (loaded.stderr.strip().splitlines() or [f"{module} does not load"])[-1]
    return Finding(name, level, why.removeprefix("ModuleNotFoundError: "), advice)


def check_tensorrt() -> Finding:
    """Which TensorRT backend tensorrt takes here, and whether it is one that is known."""
    from dkt_ros.model.compiled.tensorrt_module import NAMES, RTX, check_version

    missing = []
    for module, name in NAMES.items():
        found = check_module(
            "tensorrt",
            module,
            "lack",
            f"optional, for GPUs: {install('tensorrt')} brings TensorRT for RTX; NVIDIA's own "
            "packages bring TensorRT, which data-centre GPUs need",
        )
        if found.level != "ok":
            missing.append(found)
            continue
        detail = f"{name} {found.detail}"
        try:
            check_version(found.detail, module)
        except DktError as error:
            return Finding("tensorrt", "lack", detail, str(error))
        if module == RTX:
            detail += ", which builds plans on any machine and runs them on RTX cards"
        return Finding("tensorrt", "ok", detail)
    return replace(missing[0], detail="; ".join(finding.detail for finding in missing))


def check_extra(extra: str) -> Finding:
    """Whether the modules of an extra are installed; they are not loaded."""
    missing = [module for module in EXTRAS[extra] if importlib.util.find_spec(module) is None]
    if missing:
        detail = f"{', '.join(missing)} not installed"
        return Finding(extra, "lack", detail, f"{_WORK[extra]} it: {install(extra)}")
    return Finding(extra, "ok", ", ".join(EXTRAS[extra]))


def check_torch() -> Finding:
    """torch and the devices it can use."""
    import torch

    if torch.cuda.is_available():
        gpus = ", ".join(
            f"{properties.name} with {properties.total_memory / 1024**3:.0f} GiB"
            for properties in map(
                torch.cuda.get_device_properties, range(torch.cuda.device_count())
            )
        )
        return Finding("torch", "ok", f"{torch.__version__}, {gpus}")
    detail = f"{torch.__version__}, no GPU, {counted(torch.get_num_threads(), 'CPU thread')}"
    if Path("/dev/nvidiactl").exists():
        return Finding(
            "torch",
            "note",
            f"{detail}, though an NVIDIA driver is loaded",
            f"this torch was built for CUDA {torch.version.cuda or '(none)'}: install a build that "
            "fits the driver",
        )
    return Finding("torch", "note", f"{detail}: enough for dkt-nano, not for the large checkpoints")


def check_diffusers() -> Finding:
    """diffusers, loaded here: the checkpoint needs it and torch, which take seconds."""
    import diffusers

    return Finding("diffusers", "ok", diffusers.__version__)


def check_checkpoint(folder: Path | None) -> Finding:
    """A checkpoint folder, the embedded one for None: loaded whole, on the CPU."""
    from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint

    folder = folder or default_checkpoint()
    network = load_checkpoint(folder)
    info = network.info
    parts = (network.transformer, network.vae)
    millions = sum(weights.numel() for part in parts for weights in part.parameters()) / 1e6
    return Finding(
        "checkpoint", "ok", f"{info.name}: {info.task}, {millions:.1f} M parameters, in {folder}"
    )


def _told(error: BaseException) -> str:
    known = isinstance(error, DktError)
    return str(error) if known else one_line(f"{type(error).__name__}: {error}")
