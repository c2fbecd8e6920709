"""Which nodes a parameter file is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkt_ros.errors import DktError
from dkt_ros.ros.params.files import check_params_file, read_yaml


@pytest.mark.parametrize(
    ("content", "namespace", "applies"),
    [
        ("/**: {ros__parameters: {steps: 3}}", "arm1", True),
        ("dkt_node: {ros__parameters: {steps: 3}}", "", True),
        ("dkt_node: {ros__parameters: {steps: 3}}", "arm1", False),
        ("/arm1/dkt_node: {ros__parameters: {steps: 3}}", "/arm1/", True),
        ("arm1: {dkt_node: {ros__parameters: {steps: 3}}}", "arm1", True),
        ("/*/dkt_node: {ros__parameters: {steps: 3}}", "arm1", True),
        ("/*/dkt_node: {ros__parameters: {steps: 3}}", "cell/arm1", False),
        ("/**/dkt_node: {ros__parameters: {steps: 3}}", "cell/arm1", True),
        ("/**/dkt_node: {ros__parameters: {steps: 3}}", "", True),
        (2 * "dkt_node: {ros__parameters: {steps: 3}}\n", "", True),  # ROS adds them up
        ("dkt: {ros__parameters: {steps: 3}}", "", False),
        ("steps: 3", "", False),
    ],
)
def test_a_parameter_file_has_to_be_for_the_node(
    tmp_path: Path, content: str, namespace: str, applies: bool
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    if applies:
        check_params_file(path, namespace)
        return
    with pytest.raises(DktError, match=r"sets nothing for /((cell/)?arm1/)?dkt_node"):
        check_params_file(path, namespace)


def test_a_planners_file_has_to_name_one_of_the_planners(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("/left/dkt_planner: {ros__parameters: {seed: 2}}")
    check_params_file(path, "right", "left", node="dkt_planner")
    with pytest.raises(DktError, match=r"planner_file .* sets nothing for /right/dkt_planner: "):
        check_params_file(path, "right", node="dkt_planner", argument="planner_file")


def test_a_parameter_file_has_to_exist_and_be_yaml(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="does not exist"):
        check_params_file(tmp_path / "none.yaml", "")
    broken = tmp_path / "broken.yaml"
    for content in (b"a: [1\nb: 2\n", b"# gr\xfcn\na: 1\n", b"a: 2026-99-99\n", b"[" * 999):
        broken.write_bytes(content)
        with pytest.raises(DktError, match="is no YAML file"):
            check_params_file(broken, "")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """As one of another user's; root reads those too."""
    with pytest.raises(DktError, match=rf"^{tmp_path} cannot be read: Is a directory$"):
        read_yaml(tmp_path)
