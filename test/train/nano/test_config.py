"""The training file: what is accepted, and that errors name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkt_ros.errors import DktError
from dkt_ros.train.fields import build
from dkt_ros.train.nano.config import NanoConfig, load_config

STAGE = {"steps": 400, "height": 32, "width": 48, "batch": 2}


def settings(**values: object) -> dict[str, object]:
    return {"stages": [STAGE], "decay_steps": 10, **values}


def test_defaults_and_stages() -> None:
    config = build(NanoConfig, settings(stages=[STAGE, {**STAGE, "height": 64}]))
    assert config.total_steps == 800
    assert config.stage_at(399).height == 32
    assert config.stage_at(400).height == 64
    assert config.network.layers == 7


def test_shipped_file_is_valid() -> None:
    assert load_config("dkt-nano").name == "dkt-nano"
    changed = load_config("dkt-nano", ["network.layers=3", "stages.0.batch=1"])
    assert (changed.network.layers, changed.stages[0].batch) == (3, 1)
    with pytest.raises(DktError, match=r"lora is a recipe of dkt train, and none of .*dkt-nano"):
        load_config("lora")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (settings(learning_rte=1.0), "learning_rte is unknown"),
        (settings(learning_rate=0), "learning_rate is 0"),
        (settings(learning_rate="fast"), "learning_rate is 'fast'"),
        (settings(ema=1.0), "ema is 1.0"),
        (settings(network={"heads": 0}), "network.heads is 0"),
        (settings(network={"head_dim": 7}), "network.head_dim is 7"),
        (settings(loss={"sigma_one_share": 1.5}), "loss.sigma_one_share is 1.5"),
        (settings(stages=[{**STAGE, "height": 40}]), r"stages\[0\]\.height is 40"),
        (settings(stages=[{"steps": 1}]), r"stages\[0\]\.height is missing"),
        (settings(stages=[]), "stages is "),
        (settings(stages=3), "stages is 3"),
        (settings(name="a\nb"), r"^name is 'a\\nb', expected a name"),
        (settings(buffer_frames=7), "^buffer_frames is 7, expected 4N"),
        (settings(decay_steps=400), "stages is 400, expected more than 400"),
        ([1], r"the file holds \[1\]"),
    ],
)
def test_errors_name_the_field(content: object, named: str) -> None:
    with pytest.raises(DktError, match=named):
        build(NanoConfig, content)


@pytest.mark.parametrize("none", ["", None])
def test_no_start_may_be_said(none: str | None) -> None:
    assert build(NanoConfig, settings(start=none)).start == ""


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("stages: [")
    with pytest.raises(DktError, match=r"broken\.yaml"):
        load_config(path)
    with pytest.raises(DktError, match=r"absent\.yaml"):
        load_config(tmp_path / "absent.yaml")
