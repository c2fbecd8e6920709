"""The scripts behind `make`: the environment they make, and what they say when they cannot."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CLOSED_PORT = "http://127.0.0.1:9/simple"
"""An address at which nothing answers (the discard port)."""


def _script(repo_root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, repo_root / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def checkout(repo_root: Path, tmp_path: Path) -> Path:
    """A checkout with nothing but what sets the environment up."""
    for folder in ("scripts", "requirements"):
        shutil.copytree(repo_root / folder, tmp_path / folder)
    return tmp_path


@pytest.fixture
def bare_environment() -> dict[str, str]:
    """The variables of a shell in which nothing was sourced; pip reads no configuration."""
    return {"PATH": os.defpath, "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull}


HAS_PIP = """#!/bin/bash
case "$*" in
  "-m venv "*)
    "{python}" -m venv --without-pip "$3" && ln -s "{pip}" "$3/lib/python3.11/site-packages" ;;
  *) exec "{python}" "$@" ;;
esac
"""
"""Makes an environment with this one's pip: to unpack one takes longer than all the rest."""


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="sets up with this interpreter, 3.11")
def test_a_package_that_cannot_be_had_is_named(
    checkout: Path, bare_environment: dict[str, str]
) -> None:
    pip = importlib.util.find_spec("pip")
    assert pip is not None
    assert pip.submodule_search_locations is not None
    python = checkout / "python"
    python.write_text(HAS_PIP.format(python=sys.executable, pip=pip.submodule_search_locations[0]))
    python.chmod(0o755)
    setup = _bash(
        f"'{checkout}/scripts/setup.sh'",
        **bare_environment,
        PYTHON=str(python),
        PIP_INDEX_URL=CLOSED_PORT,
        PIP_RETRIES="0",
    )
    if "system packages" in setup.stderr:
        pytest.skip(setup.stderr)
    assert setup.returncode == 1
    assert "pip could not install ros-rclpy[fastrtps]==9.1.2" in setup.stderr
    assert "Check the network" in setup.stderr
    assert not (checkout / ".venv/.dkt-complete").exists()


def test_extras_are_chosen_and_remembered(checkout: Path, bare_environment: dict[str, str]) -> None:
    setup = f"'{checkout}/scripts/setup.sh'"
    chosen = _bash(setup, **bare_environment, PYTHON="/no/python3.11", EXTRAS="clouds")
    assert "does not run" in chosen.stderr
    assert (checkout / ".setup/extras").read_text() == "clouds\n"
    wrong = _bash(setup, **bare_environment, PYTHON="/no/python3.11", EXTRAS="clouds cloud")
    assert "EXTRAS names cloud" in wrong.stderr
    assert "core data demo" in wrong.stderr.replace("clouds ", "")
    assert (checkout / ".setup/extras").read_text() == "clouds\n", "the last that can be had"


INTERPRETER = """#!/bin/bash
case "$*" in
  *version_info*) echo "$VERSION" ;;
  "-m venv "*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    echo "executable = $0" >"$3/pyvenv.cfg"
    echo "$3" >"$3/bin/activate" ;;
esac
"""


def test_an_interpreter_is_named_once(checkout: Path, bare_environment: dict[str, str]) -> None:
    """One that is not on PATH; it only says what it would be asked, and so does its pip."""
    python = checkout / "named"
    python.write_text(INTERPRETER)
    python.chmod(0o755)

    def setup(version: str = "3.11", **more: str) -> subprocess.CompletedProcess[str]:
        path = f"{bare_environment['PATH']}:/usr/sbin:/sbin"
        pip = {"PIP_INDEX_URL": CLOSED_PORT, "PIP_RETRIES": "0"}
        script = f"'{checkout}/scripts/setup.sh'"
        return _bash(script, **bare_environment | pip | more | {"PATH": path, "VERSION": version})

    done = setup(PYTHON=str(python))
    if "system packages" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert "making a virtual environment" in done.stdout
    assert setup().stdout == "", "complete"
    assert "does not run" in setup(PYTHON="/no/python3.11").stderr
    assert setup().stdout == "", "still complete"
    more = setup(EXTRAS="clouds")
    assert (more.returncode, more.stderr) == (0, "")
    assert "environment complete" in more.stdout
    assert "making" not in more.stdout
    assert f"executable = {python}\n" == (checkout / ".venv/pyvenv.cfg").read_text()
    assert "not CPython 3.11" in setup("3.12", PYTHON=str(python)).stdout, "another one"


@pytest.mark.parametrize("name", ["a b", "bücher", "a:b"])
def test_a_place_where_ros_cannot_build_is_refused(
    name: str, checkout: Path, bare_environment: dict[str, str]
) -> None:
    """Before anything is downloaded; what is built in a path with spaces does not run."""
    moved = checkout / name
    moved.mkdir()
    for folder in ("scripts", "requirements"):
        (checkout / folder).rename(moved / folder)
    for locale in ("C", "C.UTF-8"):
        script = f"'{moved}/scripts/setup.sh'"
        setup = _bash(script, **bare_environment, LC_ALL=locale, PYTHON="/no/python3.11")
        assert setup.returncode == 1
        assert f"'{moved}': ROS cannot build there" in setup.stderr
        assert "move the checkout" in setup.stderr


def test_an_interpreter_that_does_not_run_is_named(
    checkout: Path, bare_environment: dict[str, str]
) -> None:
    setup = _bash(f"'{checkout}/scripts/setup.sh'", **bare_environment, PYTHON="/no/python3.11")
    assert setup.returncode == 1
    assert "PYTHON=/no/python3.11 does not run" in setup.stderr


@pytest.mark.parametrize("virtual", [True, False])
def test_a_ros_installation_is_no_virtual_environment(
    virtual: bool, checkout: Path, bare_environment: dict[str, str]
) -> None:
    prefix = checkout / "prefix"
    (prefix / "share/rclpy").mkdir(parents=True)
    if virtual:
        (prefix / "pyvenv.cfg").touch()
    asked = _bash(
        f". '{checkout}/scripts/common.sh'; ros_installation",
        **bare_environment,
        AMENT_PREFIX_PATH=f"/no/such:{prefix}",
    )
    assert asked.returncode == 0
    assert asked.stdout.strip() == ("" if virtual else str(prefix))


@pytest.mark.ros
def test_the_tests_do_without_the_plugins_of_a_ros_installation(
    repo_root: Path, tmp_path: Path
) -> None:
    """launch_testing's lets a file that skips as a whole end the collection of all others."""
    names = ("launch_testing", "launch_ros", "launch_pytest")
    info = tmp_path / "ros-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ros\nVersion: 1\n")
    points = "".join(f"{name} = of_ros\n" for name in names)
    (info / "entry_points.txt").write_text(f"[pytest11]\n{points}")
    (tmp_path / "of_ros.py").write_text("raise RuntimeError('a plugin of ROS is loaded')\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    words = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "test/test_files.py"]
    run = subprocess.run(
        [sys.executable, *words],
        cwd=repo_root,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_sourcing_the_environment_twice_changes_nothing(
    repo_root: Path, bare_environment: dict[str, str]
) -> None:
    source = f". '{repo_root}/scripts/env.sh'"
    once = _bash(f"set -u; {source}; env", **bare_environment)
    twice = _bash(f"{source}; {source}; env", **bare_environment)
    assert once.returncode == 0, once.stderr
    assert once.stdout == twice.stdout


@pytest.mark.ros
def test_the_environment_finds_messages_and_commands(
    repo_root: Path, bare_environment: dict[str, str]
) -> None:
    found = _bash(
        f". '{repo_root}/scripts/env.sh'; cd /; command -v dkt_node && "
        "python -c 'from dkt_ros.msg import ScaleAlignment; print(ScaleAlignment().state)'",
        **bare_environment,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "0"


def test_pruning_drops_missing_include_folders_alone(repo_root: Path, tmp_path: Path) -> None:
    prune = _script(repo_root, "prune_cmake_includes").prune
    there = tmp_path / "include"
    there.mkdir()

    def targets(*folders: str) -> str:
        joined = ";".join(folders)
        return f'set_target_properties(a PROPERTIES\n  INTERFACE_INCLUDE_DIRECTORIES "{joined}")'

    computed = "${_IMPORT_PREFIX}/include/a"
    mixed = targets(computed, "/no/such/include", str(there), "$<INSTALL_INTERFACE:include>")
    kept = targets(computed, str(there), "$<INSTALL_INTERFACE:include>")
    assert prune(mixed) == kept
    assert prune(kept) == kept
    assert prune('set(PATHS "/no/such/include")') == 'set(PATHS "/no/such/include")'


def test_pruning_reports_the_files_it_changed(repo_root: Path, tmp_path: Path) -> None:
    prune_prefix = _script(repo_root, "prune_cmake_includes").prune_prefix
    broken = tmp_path / "share/a/cmake/aExport.cmake"
    broken.parent.mkdir(parents=True)
    broken.write_text('INTERFACE_INCLUDE_DIRECTORIES "/no/such"', encoding="utf-8")
    (broken.parent / "other.cmake").write_text("project(a)", encoding="utf-8")
    assert prune_prefix(tmp_path) == [broken]
    assert broken.read_text(encoding="utf-8") == 'INTERFACE_INCLUDE_DIRECTORIES ""'
    assert prune_prefix(tmp_path) == []
