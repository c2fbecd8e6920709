"""`dkt train` from a folder of tars to a network that predicts: trained, resumed, exported."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from accelerate import Accelerator
from fixtures import dataset_trees as trees
from fixtures.commands import run
from fixtures.training_scenes import write_scene

import dkt_ros.train.run as run_module
from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import read_sequence, write_sequence
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.merge import merge_into_checkpoint
from dkt_ros.predict.clip import predict_disparity
from dkt_ros.train.commands import add_commands
from dkt_ros.train.data.sources import Mixture
from dkt_ros.train.log import read_lines
from dkt_ros.train.materials import Materials
from dkt_ros.train.memory import Memory
from dkt_ros.train.recipe import parse_recipe


def dkt(*words: str) -> int:
    return run(words, add_commands)


@pytest.fixture
def config(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """Two short videos of a square of glass, and a recipe for them."""
    for index in range(2):
        write_scene(tmp_path / "scenes", f"scene{index}", frames=5, size=(32, 48), raw_depth=True)
    content = {
        "checkpoint": str(tiny_checkpoint),
        "data": [{"path": str(tmp_path / "scenes")}],
        "size": [32, 48],
        "augmentation": {"variants": 1},
        "steps": 2,
        "batch": 2,
        "latent_frames": [1, 2],
        "lora": {"rank": 2},
        "optimizer": {"learning_rate": 1e-3, "warmup": 0},
        "save": {"every": 2},
        "preview": {"every": 2, "clips": 1, "frames": 5},
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run does not count its memory: most of its time, and test_memory.py's matter."""
    monkeypatch.setattr("dkt_ros.train.materials.count", lambda *_: Memory(*[1] * 7))


def test_from_tars_to_a_network_that_predicts(
    config: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["train", f"--config={config}", f"--output={run}"]
    assert dkt(*words) == 0
    said = capsys.readouterr().err
    assert re.search(r"tiny-random: [\d,]+ weights learn, step 0 of 2", said)
    assert re.search(r"\d samples? encoded; nothing skipped", said)
    assert re.search(r"previews show training clips: no held-out split found: .*scenes", said)
    assert list((run / "latents").rglob("*.safetensors"))
    assert dkt(*words, "--resume", "--set", "steps=4", "--set", "objective.levels=1000") == 0
    assert "steps was 2, is now 4" in capsys.readouterr().err
    lines = read_lines(run)
    assert [line["step"] for line in lines if line["group"] == "train"] == [1, 2, 3, 4]
    previews = [line for line in lines if line["group"] == "preview"]
    assert [line["step"] for line in previews] == [0, 2, 4]
    assert all(line["rel"] > 0 and 0 <= line["delta_125"] <= 1 for line in previews)

    network = load_checkpoint(run / "checkpoint")
    assert (network.info.name, network.info.height, network.info.width) == ("run", 32, 48)
    rgb = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)
    trained = predict_disparity(FastNetwork(network), rgb)
    assert not np.array_equal(
        trained, predict_disparity(FastNetwork(load_checkpoint(tiny_checkpoint)), rgb)
    )
    merge_into_checkpoint(tiny_checkpoint, run / "adapter", tmp_path / "merged")
    merged = predict_disparity(FastNetwork(load_checkpoint(tmp_path / "merged")), rgb)
    np.testing.assert_array_equal(trained, merged)

    with pytest.raises(DktError, match=r"lora\.rank was .*the recipe says"):
        dkt(*words, "--export", "--set", "lora.rank=4")
    (run / "checkpoint" / "dkt.json").unlink()
    assert dkt(*words, "--export") == 0
    assert load_checkpoint(run / "checkpoint").info == network.info


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run"]
    assert dkt(*words, "--set", "precision=float32") == 0
    lines = capsys.readouterr().err.splitlines()
    assert re.match(r"1 process on \w+, float32; a step learns from 2 samples = 1 x 2 x", lines[0])
    assert "lora, flow: 2 steps at 32x48, clips of 1, 5 frames, into" in lines[1]
    assert (
        lines[2] == f"{tmp_path / 'scenes'}: transphy3d, 2 clips of 10 frames, 100% of the samples"
    )
    assert lines[3].startswith("about 0.00")
    assert " GiB a process without VAE and scratch space (weights " in lines[3]
    assert "weights learn" in lines[3]
    assert "previews show training clips" in lines[4]
    assert not (tmp_path / "run").exists()
    assert dkt(*words, "--set", "condition=raw_depth", "--set", "ema=0.9") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[3] == "raw depth is shown in 80% of the samples whose clip has it"
    assert "average" in lines[4]
    with pytest.raises(DktError, match="latent_frames of 2 at most"):
        dkt(*words, "--set", "latent_frames=[3]")


def test_a_dry_run_refuses_what_the_run_would(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    words = ["train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run"]
    with pytest.raises(DktError, match="batch is 3, expected a multiple of 2"):
        dkt(*words, "--set=batch=3", "--set=micro_batch=2")
    with pytest.raises(DktError, match="wandb is not installed"):
        dkt(*words, "--set=wandb=glass")
    base = Path(yaml.safe_load(config.read_text())["checkpoint"])
    normals = shutil.copytree(base, tmp_path / "normals")
    replace(CheckpointInfo.read(base), task="normal").write(normals)
    with pytest.raises(DktError, match="predicts normals"):
        dkt(*words, f"--set=checkpoint={normals}")


@pytest.mark.usefixtures("uncounted")
def test_what_a_network_is_shown_no_longer_is_said(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Path(yaml.safe_load(config.read_text())["checkpoint"])
    shown = shutil.copytree(base, tmp_path / "shown")
    replace(CheckpointInfo.read(base), condition="from_raw_depth").write(shown)
    words = ["train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run"]
    for checkpoint, expected in ((base, False), (shown, True)):
        assert dkt(*words, f"--set=checkpoint={checkpoint}") == 0
        said = "--set condition=from_raw_depth" in capsys.readouterr().err
        assert said is expected


def test_one_of_several_processes_says_what_a_dry_run_would_do(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Accelerator, "is_main_process", property(lambda self: False))
    assert dkt("train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("uncounted")
def test_a_data_set_that_looks_wrong_is_told_before_it_is_learned(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for tar in (tmp_path / "scenes").glob("*.tar"):
        frames = [
            replace(frame, raw_depth=np.float32(10) * frame.depth) for frame in read_sequence(tar)
        ]
        write_sequence(tar, tar.stem, frames)
    assert dkt("train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run") == 0
    said = capsys.readouterr().err
    assert said.count("raw depth is 10 times the true one in the median") == 1


@pytest.mark.usefixtures("uncounted")
def test_a_rate_that_is_never_reached_and_a_set_named_twice_are_told(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run"]
    scenes = f"{{path: {tmp_path / 'scenes'}}}"
    for more, rate, twice in (
        (["--set=optimizer.warmup=2"], 0, 0),
        (["--set=optimizer.warmup=8", f"--set=data=[{scenes}, {scenes}]"], 1, 1),
    ):
        assert dkt(*words, *more) == 0
        said = capsys.readouterr().err
        assert said.count("rises for 8 steps and the run has 2, so it comes to 25.0% of") == rate
        assert said.count("note: data.0 and data.1 have 2 clips in common") == twice


def test_what_the_previews_show_is_said(config: Path, tmp_path: Path) -> None:
    def said(**fields: Any) -> list[str]:
        content = yaml.safe_load(config.read_text()) | fields
        lines = list[str]()
        with Materials(parse_recipe(content), tmp_path / "run", lines.append) as materials:
            materials.previews()
        return lines

    write_scene(tmp_path / "other", "scene", frames=5, size=(32, 48))
    scenes, other = tmp_path / "scenes", tmp_path / "other"
    (line,) = said(validation=[{"path": str(other)}])
    assert line.startswith(f"previews show held-out clips: {other}")
    frame = trees.sequence_frame(0)
    wrong = replace(frame, raw_depth=10 * frame.depth)
    write_sequence(tmp_path / "tenfold" / "a.tar", "a", [wrong])
    note, line = said(validation=[{"path": str(tmp_path / "tenfold")}])
    assert note.startswith(f"note: {tmp_path / 'tenfold'}")
    assert "raw depth is 10 times the true one" in note
    (line,) = said(validation=[{"path": str(scenes)}])
    assert line.startswith(f"previews show training clips: validation names them: {scenes}")
    wanted = {"every": 2, "clips": 2, "frames": 5}
    held_out, trained = said(
        validation=[{"path": str(path)} for path in (scenes, other)], preview=wanted
    )
    assert "held-out" in held_out
    assert str(other) in held_out
    assert "training clips" in trained
    assert str(scenes) in trained


def test_bad_checkpoints_and_data_are_named(config: Path, tmp_path: Path) -> None:
    words = ["train", f"--config={config}", f"--output={tmp_path / 'run'}"]
    with pytest.raises(DktError, match="nowhere does not exist"):
        dkt(*words, "--set", "checkpoint=nowhere")
    normals = shutil.copytree(yaml.safe_load(config.read_text())["checkpoint"], tmp_path / "other")
    info = json.loads((normals / "dkt.json").read_text())
    (normals / "dkt.json").write_text(json.dumps(info | {"task": "normal"}))
    with pytest.raises(DktError, match="predicts normals; train a depth one"):
        dkt(*words, "--set", f"checkpoint={normals}")
    (normals / "dkt.json").write_text(json.dumps(info))
    weights = normals / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DktError, match=r"diffusion_pytorch_model\.safetensors is no readable"):
        dkt(*words, "--set", f"checkpoint={normals}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DktError, match="empty"):
        dkt(*words, "--set", f"data.0.path={tmp_path / 'empty'}")
    with pytest.raises(DktError, match="frames of a video"):
        dkt(*words, "--set", "latent_frames=[6]")
    with pytest.raises(DktError, match=r"recipe\.yaml: lora\.rank is 0"):
        dkt(*words, "--set", "lora.rank=0")
    write_scene(tmp_path / "colour", "scene", frames=5, size=(32, 48))
    with pytest.raises(DktError, match="condition is raw_depth, and no clip has raw depth"):
        dkt(*words, "--set", f"data.0.path={tmp_path / 'colour'}", "--set", "condition=raw_depth")
    assert not (tmp_path / "run" / "states").exists()


def test_validation_data_are_looked_at_before_the_network_is_loaded(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "load_network", lambda *_: pytest.fail("it was loaded"))
    words = ["train", f"--config={config}", f"--output={tmp_path / 'run'}"]
    with pytest.raises(DktError, match="nowhere"):
        dkt(*words, "--set", "validation=[{path: nowhere}]")
    monkeypatch.setattr(Mixture, "require", lambda *_: pytest.fail("clips were listed"))
    scenes = tmp_path / "scenes"
    for wanted, found in (("test", "no clip of split 'test'"), ("val", "no clip of split 'val'")):
        named = f"validation=[{{path: {scenes}}}, {{path: {scenes}, split: {wanted}}}]"
        for every in (0, 2):
            with pytest.raises(DktError, match=rf"^validation\[1\]: {scenes}: {found}"):
                dkt(*words, "--set", named, "--set", f"preview.every={every}")


@pytest.mark.usefixtures("uncounted")
def test_validation_that_nothing_looks_at_is_told(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run"]
    named = f"--set=validation=[{{path: {tmp_path / 'scenes'}}}]"
    for every, expected in ((0, True), (2, False)):
        assert dkt(*words, named, f"--set=preview.every={every}") == 0
        assert ("validation is not looked at" in capsys.readouterr().err) is expected


@pytest.mark.usefixtures("uncounted")
def test_a_clip_that_is_cut_short_is_left_out(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = tmp_path / "scenes" / "scene0.tar"
    tar.write_bytes(tar.read_bytes()[:-30_000])
    assert dkt("train", f"--config={config}", f"--output={tmp_path / 'run'}", "--dry-run") == 0
    said = capsys.readouterr().err
    assert "transphy3d, 2 clips of 5 frames" in said
