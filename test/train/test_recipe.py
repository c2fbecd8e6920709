"""Recipes: the shipped files, what may stand in one, and what is named as wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import default_checkpoint
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.train.data.config import DataConfig, SourceConfig
from dkt_ros.train.fields import RECIPES, plain
from dkt_ros.train.recipe import Recipe, load_recipe, parse_recipe

DATA = [{"path": "somewhere"}]


def test_lora_yaml_states_every_field_and_its_default() -> None:
    recipe = load_recipe("lora")
    info = CheckpointInfo.read(default_checkpoint())
    data = DataConfig((SourceConfig("data/train"),), (info.height, info.width))
    assert recipe == Recipe(data)
    content = yaml.safe_load((RECIPES / "lora.yaml").read_text())
    expected = plain(recipe)
    expected |= expected.pop("data")

    def fields(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fields(item) for key, item in value.items()}
        return [fields(item) for item in value] if isinstance(value, list) else None

    assert fields(content | {"size": expected["size"]}) == fields(expected)


def test_the_other_shipped_recipes() -> None:
    assert load_recipe("full").method == "full"
    one_step = load_recipe("one_step")
    assert (one_step.method, one_step.objective.kind) == ("lora", "one_step")
    assert one_step.objective.gradient > 0


def test_a_folder_called_as_a_recipe_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lora").mkdir()  # such as a run's
    changes = ["data.0.path=somewhere"]
    assert load_recipe("lora", changes) == load_recipe(RECIPES / "lora.yaml", changes)
    with pytest.raises(DktError, match=f"{tmp_path} is no file"):
        load_recipe(tmp_path)


def test_the_size_is_the_checkpoints_unless_it_is_given() -> None:
    info = CheckpointInfo.read(default_checkpoint())
    assert parse_recipe({"data": DATA}).data.size == (info.height, info.width)
    assert parse_recipe({"data": DATA, "size": [64, 96]}).data.size == (64, 96)
    with pytest.raises(DktError, match=r"nowhere/dkt\.json is missing"):
        parse_recipe({"data": DATA, "checkpoint": "nowhere"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rank": 3}, r"^rank is unknown; known are augmentation, batch"),
        ({"name": "a\nb"}, r"^name is 'a\\nb', expected a name: some text in one line"),
        ({"lora": {"alpha": 3}}, r"^lora\.alpha is unknown; known are rank, targets"),
        ({"lora": {"rank": 0}}, r"^lora\.rank is 0, expected at least 1"),
        ({"lora": {"targets": ["q"]}}, r"^lora\.targets is \['q'\], expected some of self_attn\.q"),
        ({"lora": {"targets": []}}, r"^lora\.targets is \[\]"),
        ({"lora": {"targets": ["ffn.0", "ffn.0"]}}, r"^lora\.targets is \['ffn\.0', 'ffn\.0'\]"),
        ({"checkpoint": ["x"]}, r"^checkpoint is \['x'\]"),
        ({"method": "dora"}, r"^method is 'dora', expected one of lora, full"),
        ({"objective": {"kind": "x"}}, r"^objective\.kind is 'x'"),
        ({"objective": {"weighting": "x"}}, r"^objective\.weighting is 'x'"),
        ({"objective": {"levels": 0}}, r"^objective\.levels is 0"),
        ({"objective": {"gradient": -1}}, r"^objective\.gradient is -1\.0"),
        ({"optimizer": {"learning_rate": 0}}, r"^optimizer\.learning_rate is 0\.0, .*above 0"),
        ({"optimizer": {"learning_rate": "fast"}}, r"^optimizer\.learning_rate is 'fast'"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"^optimizer\.betas is \[0\.9, 1\.0\]"),
        ({"optimizer": {"final": 2}}, r"^optimizer\.final is 2\.0"),
        ({"optimizer": {"warmup": -1}}, r"^optimizer\.warmup is -1"),
        ({"optimizer": {"weight_decay": -1}}, r"^optimizer\.weight_decay is -1"),
        ({"optimizer": {"input_rate": 0}}, r"^optimizer\.input_rate is 0\.0, .*above 0"),
        ({"optimizer": {"clip": 0}}, r"^optimizer\.clip is 0\.0, .*above 0"),
        ({"latent_frames": []}, r"^latent_frames is \[\]"),
        ({"latent_frames": [0]}, r"^latent_frames is \[0\]"),
        ({"latent_frames": 3}, r"^latent_frames is 3, expected a list"),
        ({"ema": 1.0}, r"^ema is 1\.0, expected in \[0, 1\)"),
        ({"seed": -1}, r"^seed is -1"),
        ({"steps": 0}, r"^steps is 0, expected at least 1"),
        ({"batch": 0}, r"^batch is 0, expected at least 1"),
        ({"micro_batch": 0}, r"^micro_batch is 0, expected at least 1"),
        ({"batch": 1.5}, r"^batch is 1\.5, expected an integer"),
        ({"precision": "float16"}, r"^precision is 'float16', expected one of auto, float32"),
        ({"save": {"every": 0}}, r"^save\.every is 0"),
        ({"save": {"keep": 0}}, r"^save\.keep is 0"),
        ({"preview": {"every": -1}}, r"^preview\.every is -1"),
        ({"preview": {"clips": 0}}, r"^preview\.clips is 0"),
        ({"preview": {"seed": -1}}, r"^preview\.seed is -1"),
        ({"preview": {"frames": 0}}, r"^preview\.frames is 0"),
        ({"preview": {"steps": 0}}, r"^preview\.steps is 0"),
        ({"size": [60, 96]}, r"size is"),
        ({"data": []}, r"^data is"),
        ({"data": None}, r"^data is"),
        ({"data": [{"path": "x", "kind": "nothing"}]}, r"^data\[0\]\.kind is 'nothing'"),
        ({"data": [DATA[0], {"path": "x", "weight": 0}]}, r"^data\[1\]\.weight is 0\.0"),
        ({"data": [{"path": "x", "depth_range": [2, 1]}]}, r"^data\[0\]\.depth_range is \(2"),
        ({"augmentation": {"crop": 0}}, r"^augmentation\.crop is 0"),
        ({"disparity": {"low_percentile": 98}}, r"^disparity\.high_percentile is 98"),
        ({"validation": [{"path": "b", "split": "vall"}]}, r"^validation\[0\]\.split is 'vall'"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(DktError, match=named):
        parse_recipe({"data": DATA, **change})


def test_a_list_is_no_recipe() -> None:
    with pytest.raises(DktError, match="the file holds a list, expected fields"):
        parse_recipe([DATA])


def test_changes_from_the_command_line(repo_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("data: [{path: here}]\nlora: {rank: 8}\n")
    changes = ["lora.rank=16", "data.0.path=there", "optimizer.learning_rate=1e-4", "name=x=y"]
    recipe = load_recipe(file, changes)
    assert recipe.lora.rank == 16
    assert recipe.data.data[0].path == "there"
    assert recipe.optimizer.learning_rate == 1e-4
    assert recipe.name == "x=y"
    assert replace(recipe, name=None).lora == recipe.lora
    for wrong, named in [
        ("lora.rank", "expected field=value"),
        ("data.1.path=x", "there is no 1"),
        ("data.9=x", "there is no 9"),
        ("lora.rank.x=1", "there is no x"),
        ("steps=[", "is no YAML value"),
        ("steps=many", r"recipe\.yaml: steps is 'many'"),
    ]:
        with pytest.raises(DktError, match=named):
            load_recipe(file, [wrong])
