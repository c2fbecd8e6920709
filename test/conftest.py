"""What every test may rely on: where things lie, which tests this machine can run, and an end.

A test that needs what is not there skips and says why. With DKT_TEST_REQUIRE (names of markers,
separated by commas) such a test fails instead, so that a full environment cannot pass by skipping.

What is broken is told within minutes: a test that hangs fails, a fixture that fails is not set up
for each of its tests, and where the run has failed for good nothing is tried again.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, settings

gc.disable()  # to look for garbage in what is imported takes a third of the time; on again below
_ROOT = Path(__file__).resolve().parents[1]
_domain_locks: list[IO[str]] = []
"""Held as long as the process lives."""


def _own_domain() -> int:
    """A DDS domain that no other run of tests on this machine uses."""
    domains = [1 + (os.getpid() + number) % 100 for number in range(100)]
    for domain in domains:
        path = Path(tempfile.gettempdir()) / f"dkt_ros_test_domain_{domain}.lock"
        with suppress(OSError):  # another run's, or another user's
            lock = path.open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _domain_locks.append(lock)
            return domain
    return domains[0]


def _isolate_ros() -> None:
    """Keeps the tests' DDS traffic on this machine and apart from other tests and robots.

    Without multicast, as in many containers, processes find each other through the static peer
    alone. Child processes inherit all of it.
    """
    os.environ["ROS_DOMAIN_ID"] = str(_own_domain())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_STATIC_PEERS"] = "127.0.0.1"
    os.environ.pop("ROS_LOCALHOST_ONLY", None)
    # Processes that a test ends the hard way leave shared memory and its locks behind.
    os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "UDPv4"


_isolate_ros()
# Humble's messages always look at what they are given, those of later distributions when told to.
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
# How long an example or making one takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def _missing(*modules: str) -> list[str]:
    return [name for name in modules if not _is_importable(name)]


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _why_no_ros() -> str | None:
    if missing := _missing("rclpy", "sensor_msgs", "dkt_ros.msg"):
        return f"not importable: {', '.join(missing)}; run `make build`, `source scripts/env.sh`"
    return None


def _why_no_launch() -> str | None:
    if missing := _missing("launch", "launch_ros", "launch_testing"):
        return f"not importable: {', '.join(missing)}; they come with a ROS installation"
    return None


def _why_no_bpy() -> str | None:
    if _missing("bpy"):
        return "bpy is not installed (its wheels are for CPython 3.11)"
    return None


def _why_no_docs() -> str | None:
    if missing := _missing("sphinx", "myst_parser", "furo"):
        return f"not importable: {', '.join(missing)}; requirements/docs.txt brings them"
    return None


_WHY_NOT: dict[str, Callable[[], str | None]] = {
    "docs": _why_no_docs,
    "ros": _why_no_ros,
    "roslaunch": _why_no_launch,
    "bpy": _why_no_bpy,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    required = set(filter(None, os.environ.get("DKT_TEST_REQUIRE", "").split(",")))
    if unknown := required - _WHY_NOT.keys():
        raise pytest.UsageError(
            f"DKT_TEST_REQUIRE names {', '.join(sorted(unknown))}; known are {', '.join(_WHY_NOT)}"
        )
    for marker, why_not in _WHY_NOT.items():
        reason = why_not()
        if reason is None:
            continue
        if marker in required:
            raise pytest.UsageError(f"DKT_TEST_REQUIRE names {marker}, but: {reason}")
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout's root folder."""
    return _ROOT


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder with reference/ and cleargrasp_d435/; the test skips where it is absent.

    It lies beside the checkout as shared/, or where DKT_SHARED points.
    """
    folder = Path(os.environ.get("DKT_SHARED", _ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set DKT_SHARED to the folder that holds it")
    return folder


PHASE_LIMIT_S = 600.0
"""How long a test's setup, call or teardown may take: many times what any takes on a busy core."""
LATER_LIMIT_S = 120.0
"""And once one has taken longer."""
_GRACE_S = 60.0
"""Code outside Python hears of no signal; this much later the process ends."""


class _Limit:
    """Has a phase of a test that takes too long fail where it stands."""

    def __init__(self) -> None:
        self._seconds = PHASE_LIMIT_S
        self._stderr = 2

    def start(self) -> None:
        """Before capturing: stacks go to the run's own standard error."""
        self._stderr = os.dup(2)
        signal.signal(signal.SIGALRM, self._fail)

    @contextmanager
    def phase(self) -> Iterator[None]:
        faulthandler.dump_traceback_later(self._seconds + _GRACE_S, exit=True, file=self._stderr)
        # Again and again: what it raises may get lost in a finalizer.
        signal.setitimer(signal.ITIMER_REAL, self._seconds, _GRACE_S / 2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            faulthandler.cancel_dump_traceback_later()

    def _fail(self, *_: Any) -> None:
        seconds, self._seconds = self._seconds, LATER_LIMIT_S
        faulthandler.dump_traceback(self._stderr)
        pytest.fail(f"not done within {seconds:g} s; the stacks of all threads are on stderr")


_limit = _Limit()


def pytest_configure() -> None:
    _limit.start()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    with _limit.phase():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    with _limit.phase():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    with _limit.phase():
        return (yield)


_failures: dict[tuple[pytest.FixtureDef[Any], object], list[str]] = {}
"""By fixture and parameter, of those that several tests share."""


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Sets what several tests share up once more after a failure, and then no more.

    pytest-rerunfailures would do so twice for each of its tests.
    """
    if fixturedef.scope == "function":
        return (yield)
    failures = _failures.setdefault((fixturedef, getattr(request, "param_index", 0)), [])
    if len(failures) > 1:
        pytest.fail(f"fixture {fixturedef.argname} has failed twice: {failures[-1]}", pytrace=False)
    try:
        return (yield)
    except (Exception, pytest.fail.Exception) as error:
        failures.append(f"{type(error).__name__}: {error}")
        raise


_has_failed = False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remembers that the run has failed; what is tried again is no failure."""
    global _has_failed
    _has_failed = _has_failed or report.failed


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Trying again saves a run from a busy machine's whims; one that has failed it delays."""
    if _has_failed:
        item.add_marker(pytest.mark.flaky(reruns=0), append=False)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends a process that ran tests once everything is reported, without tearing libraries down.

    Blender and Fast DDS in one process can wait for each other at exit when a failed test's
    traceback has kept a node alive; the run would hang instead of failing. The process that only
    hands tests out ends as any other, and removes the folders of earlier runs.
    """
    hands_out = config.pluginmanager.has_plugin("dsession")
    if _exit_status is not None and not hands_out:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_exit_status)


_exit_status: int | None = None


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remembers the status that the process ends with."""
    global _exit_status
    _exit_status = int(exitstatus)


def pytest_collection_finish() -> None:
    """What is imported stays: no later collection of garbage has to look at it.

    Tests of what is left in memory have a full one made, again and again.
    """
    gc.freeze()
    gc.enable()
