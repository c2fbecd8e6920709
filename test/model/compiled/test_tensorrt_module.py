"""Which TensorRT is taken, and what its plans are bound to."""

from __future__ import annotations

import enum
import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.manifest import System
from dkt_ros.model.compiled.tensorrt_module import (
    RTX,
    capabilities,
    check_version,
    import_tensorrt,
    make_logger,
    target_system,
    version_of,
)


class Severities:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Capability(enum.Enum):
    NONE, CURRENT, SM86, SM89, SM120 = range(5)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes modules importable, or not, by their versions."""

    def install(**versions: str | None) -> None:
        for name, version in versions.items():
            module = SimpleNamespace(
                __name__=name, __version__=version, ComputeCapability=Capability
            )
            monkeypatch.setitem(sys.modules, name, None if version is None else module)

    return install


def test_tensorrt_comes_first_and_the_one_for_rtx_builds_ahead(installed: Any) -> None:
    installed(tensorrt="10.8.0.43", tensorrt_rtx="1.7.1.116")
    assert version_of(import_tensorrt()) == "10.8.0.43"
    assert version_of(import_tensorrt(ahead=True)) == "RTX 1.7.1.116"
    installed(tensorrt=None)
    assert version_of(import_tensorrt()) == "RTX 1.7.1.116"


def test_without_any_the_way_to_one_is_named(installed: Any) -> None:
    installed(tensorrt=None, tensorrt_rtx=None)
    way = r"cannot be loaded.*tensorrt_rtx.*(dkt_ros\[tensorrt\]|requirements.tensorrt\.txt)"
    for ahead in (False, True):
        with pytest.raises(DktError, match=way):
            import_tensorrt(ahead)


def test_one_whose_libraries_are_missing_or_that_is_too_old_is_told(
    installed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    installed(tensorrt_rtx=None)
    with pytest.raises(DktError, match=r"cannot be loaded \(libnvinfer\.so\.10: no such file;"):
        import_tensorrt()
    installed(tensorrt_rtx="1.7.1.116")
    assert version_of(import_tensorrt()) == "RTX 1.7.1.116"
    installed(tensorrt="8.6.1")
    with pytest.raises(DktError, match=r"TensorRT is 8\.6\.1, expected 10\.8 to 11"):
        import_tensorrt()


def test_targets_are_compute_capabilities(installed: Any) -> None:
    installed(tensorrt_rtx="1.7.1.116")
    assert capabilities(["sm89", "sm120", "sm89"]) == [Capability.SM89, Capability.SM120]
    assert target_system(["sm89", "sm120"]) == System("", "12.0 8.9", "RTX 1.7.1.116")
    assert target_system(["sm120", "sm89"]) == target_system(["sm89", "sm120"])


@pytest.mark.parametrize("target", ["sm90", "8.9", "current", "none", "SM89 "])
def test_other_targets_are_refused(installed: Any, target: str) -> None:
    installed(tensorrt_rtx="1.7.1.116")
    with pytest.raises(DktError, match=f"--target {target}: .* builds for sm86, sm89, sm120"):
        target_system([target])


@pytest.mark.parametrize("version", ["10.8.0.43", "10.16.1", "11.0.0", "11.4.1.7"])
def test_versions_this_was_written_for(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize(
    ("version", "name", "says"),
    [
        ("8.6.1", "tensorrt", "TensorRT is 8.6.1, expected 10.8 to 11"),
        ("10.7.0", "tensorrt", "TensorRT is 10.7.0, expected 10.8 to 11"),
        ("12.0.0", "tensorrt", "TensorRT is 12.0.0, expected 10.8 to 11"),
        ("1.6.0", RTX, "TensorRT for RTX is 1.6.0, expected 1.7 to 1"),
    ],
)
def test_other_versions_are_refused(version: str, name: str, says: str) -> None:
    with pytest.raises(DktError, match=says):
        check_version(version, name)


class Module:
    ILogger = Severities


def test_messages_are_logged_and_the_last_error_is_known_until_the_next_logger_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trt = Module()
    logger = make_logger(trt)
    caplog.set_level(logging.DEBUG)
    for severity in (0, 1, 2, 3, 4):
        logger.log(severity, f"{severity} was said\n")
    assert [record.levelname for record in caplog.records] == [
        *("ERROR", "ERROR", "WARNING", "DEBUG", "DEBUG")
    ]
    assert logger.last() == "1 was said"
    logger.log(Severities.ERROR, "of an earlier plan")
    assert make_logger(trt) is logger, "TensorRT takes no other"
    assert logger.last() == "TensorRT gave no reason"
