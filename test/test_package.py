"""The package as a whole: versions, commands, requirements, what is installed, what is shipped."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.interrupts import heed_interrupts

import dkt_ros
from dkt_ros import programs
from dkt_ros.extras import EXTRAS, ROS
from dkt_ros.programs import MODULES
from dkt_ros.ros.probe import PROFILE_VARIABLES, profile_variable

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11 to read pyproject.toml")


_INSIDE_BLENDER = {"mathutils"}
_ABSENT_FROM_WHEELS = {"tf2_ros", "bondpy"}  # the first is of the ROS package tf2_ros_py
_NEWER_PYTHON = {"compression"}  # of CPython 3.14
_ROS_MODULES = {
    "ament_index_python",
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "launch_testing",
    "launch_testing_ros",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "visualization_msgs",
}
_NAMED_OTHERWISE = {"rerun": "rerun-sdk"}
"""Distributions of modules that the environment of the tests does without."""
_KNOWN_MODULES = _ROS_MODULES | _INSIDE_BLENDER | _ABSENT_FROM_WHEELS | _NEWER_PYTHON
_HEAVY = {
    "accelerate",
    "bpy",
    "cv2",
    "diffusers",
    "matplotlib",
    "peft",
    "rclpy",
    "rosbags",
    "scipy",
    "torch",
    "transformers",
}


@pytest.fixture(scope="module")
def project(repo_root: Path) -> dict[str, Any]:
    with (repo_root / "pyproject.toml").open("rb") as file:
        content: dict[str, Any] = tomllib.load(file)
    return content


@pytest.fixture(scope="module")
def manifest(repo_root: Path) -> ElementTree.Element:
    return ElementTree.parse(repo_root / "package.xml").getroot()


def _tracked(root: Path, *paths: str) -> list[Path]:
    """The files that git tracks or would track; the test skips outside a checkout."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths],
            cwd=root,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    names = filter(None, listed.stdout.decode().split("\0"))
    return [file for name in sorted(set(names)) if (file := root / name).is_file()]


def _imports(files: list[Path]) -> dict[str, Path]:
    """Top-level modules that the files import, wherever in the file, with one importer each."""
    found = {name: file for file in reversed(files) for name in _imported_by(file)}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names}


@cache
def _imported_by(file: Path) -> set[str]:
    names = set()
    below: list[Any] = [ast.parse(file.read_text(encoding="utf-8"))]
    for node in below:  # statements alone, of which all are that import
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
        elif not isinstance(node, ast.expr):
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                below += getattr(node, part, [])
    return {name.partition(".")[0] for name in names}


def _requirements(*files: Path) -> set[str]:
    """Names of distributions in requirement files, normalised."""
    names = set()
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"[A-Za-z0-9._-]+", line):
                names.add(_normalised(match[0]))
    return names


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_packages_own_names_are_shown_and_given(repo_root: Path) -> None:
    tree = ast.parse((repo_root / "dkt_ros" / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dkt_ros.")
        for alias in node.names
    }
    assert typed == set(dkt_ros.__all__)
    assert typed <= set(dir(dkt_ros))
    given: dict[str, Any] = {}
    exec("from dkt_ros import *", given)
    assert typed == given.keys() - {"__builtins__"}
    assert given["frames_of"] is dkt_ros.frames.frames_of


def test_version_is_one_in_the_manifest_and_the_changelog(
    repo_root: Path, manifest: ElementTree.Element
) -> None:
    version = manifest.findtext("version")
    changelog = (repo_root / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_commands_are_the_same_for_pip_and_for_ros(
    repo_root: Path, project: dict[str, Any]
) -> None:
    for_pip = project["project"]["scripts"]
    cmake = (repo_root / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = re.search(r"foreach\(command ([^)]+)\)", cmake)
    assert listed is not None
    assert set(listed[1].split()) == for_pip.keys() == MODULES.keys()
    assert for_pip == {command: f"dkt_ros.programs:{command}" for command in MODULES}
    for command in MODULES:
        assert getattr(programs, command).args == (command,)


def test_a_program_that_lacks_what_nobody_knows_shows_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a shell's &, so that no interrupt of what is before it ends it either."""
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setitem(MODULES, "dkt", "of_nobody")
    try:
        with pytest.raises(ModuleNotFoundError, match="of_nobody"):
            programs.dkt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, heeded)


@pytest.mark.ros
def test_commands_lead_to_functions(project: dict[str, Any]) -> None:
    for target in project["project"]["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
    for module in MODULES.values():
        assert callable(importlib.import_module(module).main)


@pytest.mark.ros
def test_commands_are_on_the_path(project: dict[str, Any]) -> None:
    for command in project["project"]["scripts"]:
        assert shutil.which(command) is not None, f"{command} is missing: run `make build`"


@pytest.mark.ros
def test_who_sources_the_workspace_has_the_commands(
    repo_root: Path, project: dict[str, Any]
) -> None:
    """On a robot colcon alone builds, and nothing is written into the environment."""
    install = repo_root / "install"
    if not (install / "local_setup.bash").is_file():
        pytest.skip("not built in this checkout: make build")
    for command in project["project"]["scripts"]:
        found = subprocess.run(
            ["bash", "-c", f". ./local_setup.bash && command -v {command}"],
            cwd=install,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout.strip() == str(install / f"dkt_ros/bin/{command}"), found.stderr


@pytest.mark.ros
@pytest.mark.parametrize("command", ["dkt", "dkt_replay"])
def test_commands_run(command: str) -> None:
    shown = subprocess.run(
        [command, "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "usage:" in shown.stdout


_DEAF = """
import sys, time
print("importing", flush=True)
while len(sys.argv) > 1:
    try:
        time.sleep(600.0)
    except KeyboardInterrupt:  # as C libraries are that load themselves
        pass

def main():
    try:
        print("running", flush=True)
        time.sleep(600.0)
    except KeyboardInterrupt:
        return 7
"""


@pytest.mark.parametrize(
    ("words", "when", "status"), [(["deaf"], "importing", -signal.SIGINT), ([], "running", 7)]
)
def test_an_interrupt_ends_a_command_that_still_imports(
    words: list[str], when: str, status: int, repo_root: Path, tmp_path: Path
) -> None:
    """And is the command's own matter from then on."""
    (tmp_path / "deaf.py").write_text(_DEAF)
    template = (repo_root / "scripts" / "entry_point.py.in").read_text()
    known = "import dkt_ros.programs\ndkt_ros.programs.MODULES['dkt'] = 'deaf'\n"
    (tmp_path / "command.py").write_text(known + template.replace("@command@", "dkt"))
    process = subprocess.Popen(
        [sys.executable, tmp_path / "command.py", *words],
        env=os.environ | {"PYTHONPATH": str(repo_root)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        assert process.stdout is not None
        while when not in (line := process.stdout.readline()):
            assert line, "it ended by itself"
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == status
    finally:
        process.kill()


@pytest.mark.ros
def test_a_folder_that_was_removed_under_the_shell_is_told(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", _IN_NO_FOLDER, str(place)], capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ran.stderr == "dkt: the current folder was removed; go to one that is there\n"


_IN_NO_FOLDER = """
import os, sys
from dkt_ros.programs import run
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
sys.exit(run("dkt"))
"""


def test_all_files_are_installed_as_they_are_here(repo_root: Path) -> None:
    prefixes = [Path(prefix) for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)]
    prefix = next(path for path in prefixes if (path / "share" / "dkt_ros").is_dir())
    (messages,) = prefix.glob("**/dkt_ros/msg/__init__.py")
    for folder, installed in (
        ("dkt_ros", messages.parent.parent),
        ("launch", prefix / "share/dkt_ros/launch"),
        ("config", prefix / "share/dkt_ros/config"),
        ("requirements", prefix / "share/dkt_ros/requirements"),
    ):
        for file in _tracked(repo_root, folder):
            copy = installed / file.relative_to(repo_root / folder)
            assert copy.is_file(), f"{copy} is missing: run `make build`"
            assert copy.read_bytes() == file.read_bytes(), f"{copy} is old: run `make build`"


_ENOUGH = 200_000
"""Bytes, of which code has fewer. Weights are packed for seconds, and it is names that are read."""


@pytest.fixture
def source(repo_root: Path, tmp_path: Path) -> Path:
    """A checkout without what the builds write into one, and the beginnings of what is large."""
    source = tmp_path / "source"
    for file in _tracked(repo_root):
        copy = source / file.relative_to(repo_root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as content:
            copy.write_bytes(content.read(_ENOUGH))
    return source


def test_the_source_distribution_is_what_colcon_and_pip_build_from(
    repo_root: Path, source: Path, tmp_path: Path
) -> None:
    script = "import setuptools.build_meta as b; b.build_sdist('..')"
    built = subprocess.run(
        [sys.executable, "-c", script],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "project.license" not in built.stdout + built.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path / "content")
    (content,) = (tmp_path / "content").iterdir()
    folders = ("action", "config", "dkt_ros", "launch", "msg", "requirements", "srv")
    files = ("CMakeLists.txt", "package.xml", "pyproject.toml", "setup.py", "README.md", "LICENSE")
    for file in _tracked(repo_root, *folders, *files, "scripts/entry_point.py.in"):
        assert (content / file.relative_to(repo_root)).is_file(), f"{file} is left out"
    assert not (content / "test").exists(), "some of the tests, without what they share"
    cmake = (content / "CMakeLists.txt").read_text()
    for name in re.findall(r"\b(?:action|msg|srv|scripts)/[\w.]+", cmake):
        assert (content / name).is_file()


def test_wheel_holds_the_modules_the_assets_and_the_commands(
    repo_root: Path, source: Path, tmp_path: Path, manifest: ElementTree.Element
) -> None:
    pip = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run(
        [sys.executable, "-m", *pip, "-w", str(tmp_path), str(source)],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"dkt_ros-{manifest.findtext('version')}-")
    content = tmp_path / "content"
    shutil.unpack_archive(wheel, content, "zip")
    for file in _tracked(repo_root, "dkt_ros"):
        assert (content / file.relative_to(repo_root)).is_file(), f"{file} is not in the wheel"
    (metadata,) = content.glob("*.dist-info")
    assert "dkt_node = dkt_ros.programs:dkt_node" in (metadata / "entry_points.txt").read_text()
    text = (metadata / "METADATA").read_text()
    assert "Requires-Dist: torch" in text
    assert re.search("^License.*: Apache-2.0$", text, re.MULTILINE)


def test_every_import_is_required(repo_root: Path) -> None:
    files = [file for file in _tracked(repo_root, "dkt_ros") if file.suffix == ".py"]
    groups = ("core", *EXTRAS)
    required = _requirements(*(repo_root / "requirements" / f"{name}.txt" for name in groups))
    distributions = packages_distributions()
    for module, file in _imports(files).items():
        if module == "dkt_ros" or module in _KNOWN_MODULES:
            continue
        known = distributions.get(module, [_NAMED_OTHERWISE.get(module, module)])
        names = {_normalised(name) for name in known}
        assert names & required, f"{file} imports {module}, which no file in requirements/ names"


def test_manifest_names_the_ros_packages_that_are_imported(
    repo_root: Path, manifest: ElementTree.Element
) -> None:
    def declared(*tags: str) -> set[str]:
        return {element.text or "" for tag in tags for element in manifest.iter(tag)}

    def imported(*folders: str) -> set[str]:
        files = [file for file in _tracked(repo_root, *folders) if file.suffix == ".py"]
        return _ROS_MODULES & _imports(files).keys()

    running = declared("depend", "exec_depend")
    assert imported("dkt_ros", "launch") <= running
    assert imported("dkt_ros") == set(ROS)
    assert imported("test") <= running | declared("test_depend")
    used = imported("dkt_ros", "launch", "test") | {"std_msgs"}  # std_msgs: in msg/
    assert (running | declared("test_depend")) & _ROS_MODULES <= used


def test_lock_pins_every_requirement_and_no_build_of_one(repo_root: Path) -> None:
    lock = (repo_root / "requirements/lock.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lock if line and not line.startswith("#")]
    assert pins == sorted(pins)
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9._-]+==[A-Za-z0-9.!]+", pin), pin
    locked = {_normalised(pin.partition("==")[0]) for pin in pins}
    files = [*(repo_root / "requirements").glob("*.txt")]
    assert _requirements(*files) <= locked
    assert "torch==2.13.0" in pins


def _parse(file: Path) -> object:
    text = file.read_text(encoding="utf-8")
    match file.suffix:
        case ".yaml" | ".yml" | ".rviz":
            return yaml.safe_load(text)
        case ".json":
            return json.loads(text)
        case ".xml":
            return ElementTree.fromstring(text)
        case ".toml":
            return tomllib.loads(text)
    raise AssertionError(f"no reader for {file}: name its format here")


def test_every_configuration_file_parses(repo_root: Path) -> None:
    files = _tracked(repo_root, "config")
    assert files
    for file in files:
        assert _parse(file) is not None, f"{file} is empty"


@pytest.mark.parametrize("distribution", ["humble", "jazzy", "kilted", "rolling"])
def test_the_container_names_fast_dds_s_profile_once_and_as_its_distribution_reads_it(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch, distribution: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    service = yaml.safe_load((repo_root / "docker/compose.yaml").read_text())["services"]["dkt"]
    lines = (repo_root / "docker/entrypoint.sh").read_text().splitlines()
    script = "\n".join(line for line in lines if not line.startswith("source "))
    entered = subprocess.run(
        ["bash", "-c", script, "entrypoint", "env"],
        env={"ROS_DISTRO": distribution, "PATH": os.environ["PATH"], **service["environment"]},
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line.partition("=")[0] for line in entered.stdout.splitlines()]
    assert [name for name in names if name in PROFILE_VARIABLES] == [profile_variable()]


def test_command_line_loads_no_network_ros_or_renderer() -> None:
    script = (
        "import sys; from dkt_ros.cli import build_parser; build_parser(); "
        f"print(*sorted({_HEAVY!r} & sys.modules.keys()))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def _texts(root: Path) -> Iterator[tuple[Path, str]]:
    for file in _tracked(root):
        content = file.read_bytes()
        if b"\0" not in content:
            yield file, content.decode("utf-8")


def test_no_file_names_a_place_on_one_machine(repo_root: Path) -> None:
    places = re.compile(r"(?<![\w.$~}/-])/(?:root|work|home/\w+|Users/\w+)/[\w.]+")
    for file, text in _texts(repo_root):
        if match := places.search(text):
            raise AssertionError(f"{file} names {match[0]}")
        assert str(repo_root) not in text, f"{file} names the checkout's place"
