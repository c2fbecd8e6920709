"""One dataclass, and everything that is made from it: declarations, YAML, table, refusals."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dkt_ros.errors import DktError
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.ros.params.docs import parameters_markdown, parameters_yaml
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.spec import Applies, defaults, specs


def test_the_defaults_are_valid() -> None:
    NodeParameters()
    for name, spec in specs(NodeParameters).items():
        assert spec.problem(defaults(NodeParameters)[name]) is None
        assert (spec.minimum is None) == (spec.maximum is None)
        assert all(end is None or spec.problem(end) is None for end in (spec.minimum, spec.maximum))


def test_every_parameter_is_used(repo_root: Path) -> None:
    """None is declared and ignored: by the node, or by what its network is made of."""
    used = ""
    for folder in ("ros", "messages", "predict"):
        for path in (repo_root / "dkt_ros" / folder).glob("*.py"):
            used += path.read_text()
    options = {entry.name for entry in fields(PredictorOptions)}
    unused = [
        name
        for name in specs(NodeParameters)
        if f"parameters.{name}" not in used
        and not (name in options and re.search(rf"(options|self)\.{name}\b", used))
    ]
    assert unused == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"buffer_frames": 6}, ["buffer_frames is 6", "4N+1"]),
        ({"seed": -1}, ["seed is -1", "expected 0 to 2147483647"]),
        ({"steps": 51, "dtype": "int4"}, ["steps is 51", "0 to 50", "dtype is 'int4'", "bfloat16"]),
        ({"min_depth_m": 2.0, "max_depth_m": 1.0}, ["min_depth_m is 2", "max_depth_m 1"]),
        ({"raw_min_depth_m": 20.0}, ["raw_min_depth_m", "raw_max_depth_m"]),
        ({"depth_color_max_m": 0.2}, ["depth_color_min_m", "depth_color_max_m"]),
        ({"expected_min_depth_m": 0.4}, ["expected_min_depth_m", "or both 0"]),
        ({"expected_min_depth_m": 0.4, "expected_max_depth_m": 0.4}, ["be the smaller"]),
        ({"crop_box": "0 1 0 1"}, ["parameter crop_box", "0 1 0 1"]),
        ({"points_voxel_m": 0.01}, ["points_voxel_m", "points_organized"]),
        ({"points_outlier_neighbors": 5}, ["points_outlier_neighbors", "points_organized"]),
        ({"inference_size": "big"}, ["inference_size is 'big'", "480x832"]),
        ({"warm_up_size": "720p"}, ["warm_up_size is '720p'", "720x1280"]),
        ({"backend": "tensorrt"}, ["backend is 'tensorrt'", "engine_dir", "dkt engine build"]),
        (
            {"backend": "onnxruntime", "engine_dir": "e", "inference_size": "native"},
            ["inference_size is 'native'", "onnxruntime", "set it to auto"],
        ),
        ({"backend": "tvm", "engine_dir": "e"}, ["backend is 'tvm'", "onnxruntime"]),
    ],
)
def test_wrong_values_are_all_named(values: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(DktError) as caught:
        NodeParameters(**values)
    for part in named:
        assert part in str(caught.value)


@given(st.integers(10, 9999), st.integers(10, 9999))
def test_inference_sizes_are_read(height: int, width: int) -> None:
    parameters = NodeParameters(inference_size=f"{height}x{width}")
    assert PredictorOptions.taken_from(parameters).size == (height, width)


@pytest.mark.parametrize("text", ["", "480", "480x", "x832", "0x0", "480*832", " 480x832"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(DktError, match="HEIGHTxWIDTH"):
        NodeParameters(inference_size=text)


def test_the_parameter_file_in_config_is_the_generated_one(repo_root: Path) -> None:
    written = (repo_root / "config/dkt_node.yaml").read_text()
    assert written == parameters_yaml(), "run python -m dkt_ros.ros.params.docs yaml"


def test_the_generated_file_reads_back_as_the_defaults() -> None:
    read = yaml.safe_load(parameters_yaml())["/**"]["ros__parameters"]
    assert read == defaults(NodeParameters)
    for name, value in read.items():
        assert type(value) is type(defaults(NodeParameters)[name]), "ROS tells 1 from 1.0"


def test_the_table_has_a_row_for_each_parameter() -> None:
    rows = parameters_markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(specs(NodeParameters))
    for row in rows:
        assert row.count("|") == 6


TOGETHER = ("points_voxel_m", "points_outlier_neighbors")  # with points_organized false
CHANGEABLE = [
    name
    for name, spec in specs(NodeParameters).items()
    if spec.applies is not Applies.AT_START and name not in TOGETHER
]


class TestChanges:
    """The answer to set_parameters, on a node that is or is not configured."""

    @pytest.fixture(autouse=True)
    def _ros(self) -> None:
        pytest.importorskip("rclpy", reason="needs ROS 2")

    def ask(self, configured: bool, **values: Any) -> tuple[Any, NodeParameters, list[Any]]:
        from rclpy.parameter import Parameter

        from dkt_ros.ros.params.declarations import ParameterChanges

        applied: list[Any] = []
        changes = ParameterChanges(NodeParameters(), lambda: configured, applied.append)
        result = changes([Parameter(name, value=value) for name, value in values.items()])
        return result, changes.current, applied

    @pytest.mark.parametrize("name", CHANGEABLE)
    def test_each_is_refused_or_applied(self, name: str) -> None:
        value = other_value(name)
        result, current, applied = self.ask(True, **{name: value})
        if specs(NodeParameters)[name].applies is Applies.ON_CONFIGURE:
            assert not result.successful
            assert name in result.reason
            assert "clean it up first" in result.reason
            assert (current, applied) == (NodeParameters(), [])
        else:
            assert result.successful, result.reason
            assert applied == [current] == [replace(NodeParameters(), **{name: value})]

    def test_before_configuration_everything_goes(self) -> None:
        result, current, _ = self.ask(False, device="cpu", buffer_frames=9)
        assert result.successful
        assert (current.device, current.buffer_frames) == ("cpu", 9)

    def test_setting_what_holds_already_is_no_change(self) -> None:
        result, _, applied = self.ask(True, device="auto", unrelated="x")
        assert result.successful
        assert applied == []

    def test_values_that_fit_together_only_together(self) -> None:
        assert not self.ask(True, points_voxel_m=0.01)[0].successful
        assert self.ask(True, points_voxel_m=0.01, points_organized=False)[0].successful


def other_value(name: str) -> Any:
    """Some valid value besides the default."""
    default, spec = defaults(NodeParameters)[name], specs(NodeParameters)[name]
    if isinstance(default, bool):
        return not default
    if spec.choices:
        return spec.choices[-1]
    if isinstance(default, str):
        return {"inference_size": "native", "crop_box": "0 1 0 1 0 1"}.get(name, "other")
    assert not isinstance(default, tuple)
    return default + 4 if isinstance(default, int) else default * 1.25 + 0.01


def test_every_field_is_a_parameter() -> None:
    assert [entry.name for entry in fields(NodeParameters)] == list(specs(NodeParameters))
