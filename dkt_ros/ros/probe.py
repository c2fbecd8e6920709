"""What `dkt doctor` has to ask ROS and the network. Says what is; judges nothing."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import pwd
import re
import socket
import struct
import subprocess
import sys
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Since Kilted, and before."""
SHARED_MEMORY = Path("/dev/shm")
_LOCK = "_el"
"""Ends the name of the file that Fast DDS locks as long as a segment's owner lives."""
_SEGMENT = re.compile(rf"/fast(dds|rtps)_[0-9a-f]{{16}}{_LOCK}$")
"""A process's own among its open files: of others' it opens the ports' alone."""
_DELETED = " (deleted)"
_DDS_MULTICAST_GROUP = "239.255.0.1"
"""Where DDS participants announce themselves (RTPS 2.5, 9.6.2.4)."""
_MULTICAST_TIMEOUT_S = 0.5
_HIGHEST_DOMAIN = 232
"""Whose ports are within 65535 (RTPS 2.5, 9.6.2.3)."""


def profile_variable() -> str:
    """The one under which this distribution's Fast DDS is given a profile.

    Kilted's loads what both name, and complains that everything in it exists already.
    """
    return PROFILE_VARIABLES[os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")]


def discovery_variable() -> str:
    """The one that stands in for multicast on this distribution; Humble knows no static peers."""
    names = ("ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER")
    return names[os.environ.get("ROS_DISTRO") == "humble"]


def discovery_settings() -> str:
    """What limits whom processes find, as set in this one's environment: NAME=value, ..."""
    names = ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", discovery_variable())
    return ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name))


def domain_trouble() -> str:
    """What is said of a ROS_DOMAIN_ID that is none; "" where it is one, or unset.

    Fast DDS ends the process for one that is too high, and -1 stands for the default.
    """
    text = os.environ.get("ROS_DOMAIN_ID", "").strip()
    if not text or (text.isdecimal() and int(text) <= _HIGHEST_DOMAIN):
        return ""
    return (
        f"ROS_DOMAIN_ID is {text!r}, expected a whole number from 0 to {_HIGHEST_DOMAIN}, the same "
        "for all that are to talk; unset it for 0"
    )


def deadly_middleware() -> str:
    """What ROS says of an RMW_IMPLEMENTATION that it cannot load, "" where it can or none is set.

    It ends the process that asks for it, with a status of its own; so another process asks.
    """
    name = os.environ.get("RMW_IMPLEMENTATION")
    return _refused(name) if name else ""


@lru_cache(maxsize=1)  # asked for by several who look, and each time a process
def _refused(name: str) -> str:
    asking = [sys.executable, "-c", "import rclpy; rclpy.get_rmw_implementation_identifier()"]
    asked = subprocess.run(
        asking,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if asked.returncode in (0, 1):  # 1: what this process can be told as well
        return ""
    said = re.search(r"\[rcl\]: (.*?)(?:, exiting with|$)", asked.stderr)
    why = said[1] if said else f"it ends with status {asked.returncode}"
    return f"RMW_IMPLEMENTATION is {name}, and ROS cannot load that: {why}"


def rclpy_version() -> str:
    """ROS distribution and rclpy's version, e.g. "kilted, rclpy 9.1.2".

    Raises ImportError or OSError where rclpy does not load.
    """
    import rclpy

    distro = os.environ.get("ROS_DISTRO", "distribution unknown")
    try:
        version = importlib.metadata.version("rclpy")
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    return f"{distro}, rclpy {version} in {Path(rclpy.__file__).parent}"


def middleware() -> str:
    """Name of the RMW implementation that loads, e.g. "rmw_fastrtps_cpp"."""
    import rclpy

    return str(rclpy.get_rmw_implementation_identifier())


def message_types() -> list[str]:
    """Names of this package's messages, each with its type support loaded.

    Raises ImportError where they were not generated, and what rosidl raises where their libraries
    do not load.
    """
    import dkt_ros.msg as messages

    types = {
        name: value
        for name, value in vars(messages).items()
        if hasattr(value, "get_fields_and_field_types")
    }
    for message in types.values():
        type(message).__import_type_support__()
    return sorted(types)


def multicast_returns() -> bool:
    """Whether a multicast datagram sent by this machine comes back to it, as discovery needs.

    Uses DDS's group with a port of its own, so no participant sees it.
    """
    token = uuid.uuid4().bytes
    membership = struct.pack("4sl", socket.inet_aton(_DDS_MULTICAST_GROUP), socket.INADDR_ANY)
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            receiver.bind(("", 0))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            receiver.settimeout(_MULTICAST_TIMEOUT_S)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            sender.sendto(token, (_DDS_MULTICAST_GROUP, receiver.getsockname()[1]))
            return receiver.recv(64) == token
    except OSError:  # no route, not permitted, or nothing came in time
        return False


def fast_dds_profile() -> str | None:
    """The file that Fast DDS takes its settings from, "" for none; None where it is not in use."""
    try:
        if deadly_middleware() or "fastrtps" not in middleware():
            return None
    except Exception:  # noqa: BLE001 incomplete installations raise anything
        return None
    return next((os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)), "")


def own_profile() -> str:
    """The whole path of the package's config/fastdds.xml; that alone where it is not installed."""
    name = Path("config", "fastdds.xml")
    folders = [Path(__file__).resolve().parents[2]]
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.append(Path(get_package_share_directory("dkt_ros")))
    except (ImportError, LookupError):
        pass
    return str(next((one / name for one in folders if (one / name).is_file()), name))


def shared_memory_bytes() -> int:
    """How much may still be shared between processes; a container gets 64 MiB unless told."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def left_behind_bytes(folder: Path = SHARED_MEMORY) -> int:
    """Shared memory that Fast DDS holds for processes that were killed and freed nothing."""
    found = 0
    for lock in folder.glob(f"fast[dr]*{_LOCK}"):
        with suppress(OSError):  # it has gone in between
            if not _is_held(lock):
                found += lock.with_name(lock.name.removesuffix(_LOCK)).stat().st_blocks * 512
    return found


def other_users(folder: Path = SHARED_MEMORY) -> tuple[str, ...]:
    """Users besides this process's own whose running nodes share memory by Fast DDS.

    Neither can write into the other's, and no message passes (Fast DDS, Shared Memory Transport).
    """
    found: set[int] = set()
    with suppress(OSError):  # a process that has no file descriptor left cannot list a folder
        for lock in folder.glob(f"fast[dr]*{_LOCK}"):
            with suppress(OSError):
                user = lock.stat().st_uid
                if user not in {os.geteuid(), *found} and _is_held(lock):
                    found.add(user)
    return tuple(sorted(_name(user) for user in found))


def is_cut_off() -> bool:
    """Whether the shared memory by which Fast DDS reaches this process has been taken away.

    Who has opened it before goes on; who starts from then on is heard no more, and hears nothing,
    though the graph shows it. systemd-logind removes it when the last session of its user ends.
    """
    with suppress(OSError):  # a process that has no file descriptor left cannot list a folder
        for one in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # it has been closed in between
                found = os.readlink(one).removesuffix(_DELETED)
                if _SEGMENT.search(found) and not os.path.exists(found):
                    return True
    return False


def _is_held(lock: Path) -> bool:
    """Whether the owner of a segment lives. Raises OSError where there is no such file."""
    try:
        with lock.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    return False


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # one of a container's
        return str(user)


def receive_buffer_limit() -> int | None:
    """The largest socket receive buffer in bytes that a process may ask for; None if unknown."""
    try:
        return int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
