"""Training of the refiner, at toy size: learning, resuming, what it draws and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.glass_table import Network, glass_tables, write_scene
from fixtures.small_recipes import refiner as tiny
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from safetensors.torch import load_file

from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import SequenceFrame, write_sequence
from dkt_ros.fusion.network import WEIGHTS_FILE, Refined
from dkt_ros.train.fields import plain
from dkt_ros.train.fusion import frames, samples
from dkt_ros.train.fusion.config import (
    LossConfig,
    SamplesConfig,
    load_config,
    load_matcher_config,
)
from dkt_ros.train.fusion.frames import FrameFolder, TrainingFrame
from dkt_ros.train.fusion.loop import (
    RefinerTrainer,
    rate_factor,
    train,
)
from dkt_ros.train.fusion.losses import Target, losses
from dkt_ros.train.fusion.samples import degraded, draw
from dkt_ros.train.states import STATE_FILE


@pytest.fixture
def data(tmp_path: Path) -> FrameFolder:
    return glass_tables(tmp_path)


def test_learns(data: FrameFolder) -> None:
    """On one picture, again and again, it learns that the sensor saw through the glass."""
    torch.set_num_threads(1)
    trainer = RefinerTrainer(tiny(200, learning_rate=5e-3, decay_steps=1), data)
    fused = [trainer.train_step()["fused"] for _ in range(80)]
    assert np.mean(fused[-30:]) < 0.6 * np.mean(fused[:10])


def test_a_run_begins_with_another_s_weights(data: FrameFolder, tmp_path: Path) -> None:
    first = tmp_path / "first"
    train(tiny(3), lambda: data, first, report=lambda line: None)
    weights = first / RefinerTrainer.WEIGHTS
    begun = RefinerTrainer(tiny(3, on_scale=False), data, weights)
    kept = load_file(weights / WEIGHTS_FILE)
    for name, value in begun.model.state_dict().items():
        torch.testing.assert_close(value, kept[name].to(value.dtype))
    with pytest.raises(DktError, match=r"channels \[4, 8, 8, 8\].*\[8, 8, 8, 8\]"):
        RefinerTrainer(tiny(3, channels=[8, 8, 8, 8]), data, weights)
    with pytest.raises(DktError, match=r"none/refiner\.json cannot be used"):
        RefinerTrainer(tiny(3), data, tmp_path / "none")


def test_what_is_saved_keeps_a_share_of_the_weights_it_began_with(
    data: FrameFolder, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train(tiny(3), lambda: data, first, report=lambda line: None)
    start = first / RefinerTrainer.WEIGHTS
    config = tiny(4, kept_of_start=0.75, save_every=2, learning_rate=0.05)
    begun = RefinerTrainer(config, data, start)
    for _ in range(2):
        begun.train_step()
    begun.save(second)
    train(config, lambda: data, second, resume=True, report=lambda line: None)
    average = torch.load(second / STATE_FILE, weights_only=True)["average"]
    kept, saved = (
        load_file(folder / WEIGHTS_FILE) for folder in (start, second / RefinerTrainer.WEIGHTS)
    )
    name = "head.bias"
    assert not torch.allclose(average[name], kept[name].float(), rtol=0.1)
    expected = 0.75 * kept[name].float() + 0.25 * average[name]
    torch.testing.assert_close(saved[name].float(), expected, rtol=2e-3, atol=1e-4)
    with pytest.raises(DktError, match=r"kept_of_start is 0\.75.*expected --start DIR"):
        train(config, lambda: pytest.fail("data was read"), tmp_path / "third")


def test_an_output_that_cannot_be_is_named_before_any_disparity_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DktError, match=r"file/run\.lock: cannot be written"):
        train(tiny(1), lambda: pytest.fail("data was read"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_pictures_too_small_for_crops_are_left_out(data: FrameFolder, tmp_path: Path) -> None:
    frame = SequenceFrame(
        rgb=np.zeros((4, 4, 3), np.uint8),
        depth=1 + np.eye(4, dtype=np.float32),
        camera_matrix=np.eye(3),
        world_to_camera=np.eye(4),
        raw_depth=np.ones((4, 4), np.float32),
    )
    write_sequence(tmp_path / "scenes/small.tar", "small", [frame])
    lines: list[str] = []
    folder = FrameFolder(tmp_path / "scenes", Network(), tmp_path / "disparity", lines.append)
    assert len(folder.frames) == len(data.frames)
    assert re.fullmatch(r"left out: .*small\.tar: pictures of 4x4, expected 16 or more", lines[0])


def test_frames_of_several_sizes_are_left_out(tmp_path: Path) -> None:
    write_scene(tmp_path / "scenes", "good")
    made = [
        SequenceFrame(
            rgb=np.zeros((side, side, 3), np.uint8),
            depth=1 + np.eye(side, dtype=np.float32),
            camera_matrix=np.eye(3),
            world_to_camera=np.eye(4),
            raw_depth=np.ones((side, side), np.float32),
            index=index,
        )
        for index, side in enumerate((32, 48))
    ]
    write_sequence(tmp_path / "scenes/bad.tar", "bad", made)
    lines: list[str] = []
    folder = FrameFolder(tmp_path / "scenes", Network(), tmp_path / "kept", lines.append)
    assert [frame.name for frame in folder.frames] == ["good"]
    assert re.fullmatch(r"left out: .*bad\.tar: frames of several sizes 32x32, 48x48.*", lines[0])


def test_frames_without_readings_end_the_run_instead_of_none_being_drawn_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_DRAWS", 5)
    write_scene(tmp_path / "scenes", "empty", readings=False)
    folder = FrameFolder(tmp_path / "scenes", Network(), tmp_path / "kept")
    trainer = RefinerTrainer(tiny(better_sensor=0.0), folder)
    with pytest.raises(DktError, match="5 draws from 1 frame gave no sample: expected 100"):
        trainer.train_step()


def test_it_goes_on_with_the_same_kind_of_network_alone(data: FrameFolder, tmp_path: Path) -> None:
    train(tiny(1), lambda: data, tmp_path, report=lambda line: None)
    with pytest.raises(DktError, match="on_scale was True"):
        train(tiny(1, on_scale=False), lambda: data, tmp_path, resume=True)


def test_disparity_is_made_once(data: FrameFolder, tmp_path: Path) -> None:
    network = Network()
    for damage in (b"", b"PK\x03\x04 no zip"):  # of a disk that was full, and worse
        (tmp_path / "disparity" / "scene0.npy").write_bytes(damage)
        FrameFolder(tmp_path / "scenes", Network(), tmp_path / "disparity")
    again = FrameFolder(tmp_path / "scenes", network, tmp_path / "disparity")
    assert network.asked == 0
    assert np.isfinite(again.frames[0].scale)
    np.testing.assert_array_equal(again.frames[0].relative, data.frames[0].relative)
    write_scene(tmp_path / "scenes", "scene2")
    assert again.rescan() == 1
    assert network.asked == 1


def test_a_network_that_is_shown_readings_is_asked_again_without_wrong_ones(
    tmp_path: Path,
) -> None:
    write_scene(tmp_path / "scenes", "scene")

    def follow(rgb: np.ndarray, raw_depth: np.ndarray) -> np.ndarray:
        return np.where(raw_depth > 0, 1 / np.maximum(raw_depth, 1e-3), 0.5).astype(np.float32)

    def frames() -> list[TrainingFrame]:
        kept = tmp_path / "kept"
        return FrameFolder(tmp_path / "scenes", follow, kept, failings=3).frames

    made, read = frames(), frames()
    around = np.ones((3, 3), np.uint8)
    beside = [one.beside for one in made if one.beside is not None]
    without = FrameFolder(tmp_path / "scenes", Network(), tmp_path / "other").frames
    assert len(beside) == len(made) == 6 * len(without)
    for index, (one, again, readings) in enumerate(zip(made, read, beside, strict=True)):
        assert again.beside is not None
        np.testing.assert_array_equal(readings, again.beside)
        seen = readings > 0
        unlike = np.abs(one.relative[seen] / readings[seen] - 1) > 2e-3
        if index % 2 == 0:  # it was shown all that its answer is seen beside
            assert not unlike.any()
        else:
            np.testing.assert_array_equal(readings, beside[index - 1])
            truth = one.truth[seen]
            wrong = (truth > 0) & (readings[seen] < 0.97 * truth)
            near = cv2.dilate(
                ((readings > 0) & (readings < 0.97 * one.truth)).astype(np.uint8), around
            )
            assert not (unlike & (near[seen] == 0)).any()
            assert unlike.sum() <= near[seen].sum()
            if index == 1:
                assert wrong.any()
                assert unlike[wrong].mean() > 0.5
    np.testing.assert_array_equal(beside[0], made[0].disparity)
    assert any(
        not np.array_equal(one.disparity, found) for one, found in zip(made, beside, strict=True)
    )
    config = tiny(prediction={"embedded": 1.0, "made_up": 0.0})
    sample = draw(made[3], np.random.default_rng(0), config)
    assert sample is not None
    assert set(np.unique(sample.scene.disparity)) <= {0.0, *np.unique(beside[3])}


def test_names_scenes_without_raw_depth(tmp_path: Path) -> None:
    write_scene(tmp_path / "scenes", "good")
    write_scene(tmp_path / "scenes", "bad", raw=False)
    (tmp_path / "scenes" / "._bad.tar").write_bytes(b"macOS's")
    lines: list[str] = []
    folder = FrameFolder(tmp_path / "scenes", Network(), tmp_path / "kept", lines.append)
    assert len(folder.frames) == 1
    assert len(lines) == 1
    assert "bad.tar: has no raw depth" in lines[0]
    with pytest.raises(DktError, match="is not a folder"):
        FrameFolder(tmp_path / "nowhere", Network(), tmp_path / "kept")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DktError, match="render some with `dkt synth render --raw-depth` first"):
        FrameFolder(tmp_path / "empty", Network(), tmp_path / "kept")


def test_samples_depend_on_their_generator_alone(data: FrameFolder) -> None:
    config = tiny()
    frame = data.frames[0]
    for seed in range(40):
        first, second = (draw(frame, np.random.default_rng(seed), config) for _ in range(2))
        if first is None or second is None:
            assert first is second
            continue
        np.testing.assert_array_equal(first.scene.disparity, second.scene.disparity)
        assert first.truth.shape == first.scene.rgb.shape[:2] == (32, 48)
        for part in (first.scene.filled, first.scene.predicted):
            assert part is None or (np.isfinite(part).all() and part.min() > 0)


def test_a_made_up_network_errs_as_told(data: FrameFolder) -> None:
    frame, config = data.frames[0], tiny().prediction
    errors = []
    for seed in range(30):
        made = degraded(frame, np.random.default_rng(seed), config)
        errors.append(np.abs(made / frame.truth - 1)[frame.classes == 0].mean())
    assert 0.005 < np.mean(errors) < 0.1
    assert max(errors) < 0.3


def made_losses(trust: float, log_error: float = -3.0) -> dict[str, float]:
    """Of a scene whose one reading sees through, and whose correction is right."""
    ones = torch.ones(1, 1, 4, 4)
    logit = (trust - 0.5) * 10
    refined = Refined(2 * ones, trust * ones, logit * ones, log_error * ones)
    target = Target(1.5 * ones, 2 * ones, ones)
    return {name: float(value) for name, value in losses(refined, target, LossConfig()).items()}


def test_losses_want_a_wrong_reading_distrusted() -> None:
    kept, dropped = made_losses(1.0), made_losses(0.0)
    assert dropped["fused"] < 0.01
    assert kept["fused"] > 0.2
    assert dropped["trust"] < kept["trust"]


def test_losses_by_hand() -> None:
    """Glass, table, a pixel without a reading that is far off, and one without truth."""

    def maps(*values: float) -> torch.Tensor:
        return torch.tensor(values).view(1, 1, 2, 2)

    truth, objects = (2.0, 2.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0)
    readings, corrected = (2.03, 2.03, 0.0, 3.0), (2.2, 2.1, 2.0, 9.0)
    trust, logit = (1.0, 0.0, 1.0, 1.0), (1.0, 2.0, 3.0, 0.5)
    log_error = (-3.0, -2.0, -1.0, 5.0)
    config = LossConfig(fused=2.0, corrected=3.0, trust=5.0, edges=7.0, error=11.0, objects=4.0)
    found = losses(
        Refined(maps(*corrected), maps(*trust), maps(*logit), maps(*log_error)),
        Target(maps(*readings), maps(*truth), maps(*objects)),
        config,
    )

    def mean(*errors: float) -> float:
        return (4 * errors[0] + errors[1] + errors[2]) / 6

    far = 0.5 * (1 + np.log(1.0 / 0.5))  # an error of 1, capped
    heard = [1 / (1 + np.exp(-one)) for one in logit]
    fused = [heard[i] * readings[i] + (1 - heard[i]) * corrected[i] for i in range(2)]
    published = (0.015, 0.05, 0.5)
    foretold = [published[i] * np.exp(-log_error[i]) + log_error[i] for i in range(3)]
    wrong = -np.log(1 - heard[0])  # 1.5% off is too much on glass,
    right = -np.log(heard[1])  # and good enough beside it
    across, down = abs(np.log(2.1 / 2.2)), 0.5  # of the steps from the glass, capped
    expected = {
        "fused": 2 * mean(fused[0] / 2 - 1, fused[1] / 2 - 1, far),
        "corrected": 3 * mean(0.1, 0.05, far),
        "trust": 5 * (4 * wrong + right) / 5,
        "edges": 7 * (across + down),
        "error": 11 * np.mean(foretold),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


def test_the_error_that_is_foretold_teaches_nothing_else() -> None:
    parts = [torch.full((1, 1, 4, 4), value, requires_grad=True) for value in (2.1, 0.2, 0.0, -3.0)]
    ones = torch.ones(1, 1, 4, 4)
    losses(Refined(*parts), Target(1.9 * ones, 2 * ones, ones), LossConfig())["error"].backward()
    taught = [part.grad is not None and bool(part.grad.any()) for part in parts]
    assert taught == [False, False, False, True]


def test_foreign_readings_have_no_truth(data: FrameFolder) -> None:
    config, frame = tiny(), data.frames[0]
    other = replace(frame, name="other", disparity=frame.disparity * 3)
    own = foreign = 0
    for seed in range(20):
        sample = draw(frame, np.random.default_rng(seed), config, other)
        if sample is None:
            continue
        assert not sample.belongs
        assert not sample.truth.any()
        far = float(np.median(sample.scene.disparity[sample.scene.measured]))
        near = np.median(frame.disparity[frame.disparity > 0])
        foreign += far > 2 * near
        own += far < 2 * near
    assert min(own, foreign) > 2
    alone = draw(frame, np.random.default_rng(0), config)
    assert alone is not None
    assert alone.belongs


def test_a_skewed_scene_keeps_what_is_in_front_in_front(data: FrameFolder) -> None:
    frame, config = data.frames[0], tiny(skewed=1.0)
    spread = []
    for seed in range(20):
        sample = draw(frame, np.random.default_rng(seed), config)
        assert sample is not None
        known = (sample.truth > 0) & (sample.classes == 0)
        rows = [sample.truth[row][known[row]].mean() for row in (1, -2) if known[row].any()]
        spread.append(rows[0] / rows[-1])
        assert sample.truth[sample.truth > 0].min() > 0
        objects = sample.classes > 0
        if objects.any() and known.any():
            assert np.median(sample.truth[objects]) > sample.truth[known].min()
    assert min(spread) < 0.9
    assert max(spread) > 1.1


def test_losses_want_the_error_foretold() -> None:
    right, *wrong = (made_losses(1.0, np.log(mean))["error"] for mean in (0.25, 0.02, 0.9))
    assert right < min(wrong)


def test_rate_rises_holds_and_falls() -> None:
    config = tiny(10, warmup_steps=2, decay_steps=4)
    rates = [rate_factor(step, config) for step in range(10)]
    assert rates[0] == 0.5
    assert rates[1:7] == [1.0] * 6
    assert rates[7] > rates[8] > rates[9] > 0


def test_the_recipe_reads(repo_root: Path) -> None:
    config = load_config("fusion")
    assert config.channels == (16, 32, 64, 112)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps: 0", "steps"),
        ("steps: 1\nheight: 30", "height"),
        ("steps: 1\nchannels: [4, 8, 8, 9]", "channels"),
        (
            "steps: 1\nprediction: {embedded: 0.8, made_up: 0.5}",
            r"yaml: prediction\.made_up is 1\.3",
        ),
        ("steps: 1\nloss: {fused: -1}", r"yaml: loss\.fused is -1"),
        ("steps: 1\nspeed: 3", "speed is unknown"),
    ],
)
def test_names_the_field_that_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "fusion.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DktError, match=expected) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_disparity_is_kept_apart_for_every_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (0, 1):
        make_tiny_checkpoint(tmp_path / f"seed{seed}", seed=seed)
    shutil.copytree(tmp_path / "seed0", tmp_path / "copy")
    (tmp_path / "copy" / "._dkt.json").write_bytes(b"macOS's")
    kept: list[Path] = []

    def noted(data: Path, predict: object, folder: Path, *_: object, **__: object) -> None:
        kept.append(folder)
        raise DktError("enough")

    monkeypatch.setattr(frames, "FrameFolder", noted)
    shared = ["--data", str(tmp_path), "--disparity", str(tmp_path / "shared")]
    shared += ["--config", "fusion-colour"]
    for name in ("seed0", "copy", "seed1"):
        words = [*shared, "--output", str(tmp_path / "run"), "--checkpoint", str(tmp_path / name)]
        assert main(["pretrain-fusion", *words]) == 2
    assert kept[0] == kept[1] != kept[2]
    assert {folder.parent for folder in kept} == {tmp_path / "shared"}


@pytest.mark.parametrize(
    ("on_scale", "embedded", "condition", "refused"),
    [
        (True, 0.4, "none", True),
        (True, 0.0, "none", False),  # whose disparity no sample has
        (True, 0.4, "raw_depth", False),
        (False, 0.4, "none", False),
        (False, 0.4, "raw_depth", False),  # asked without raw depth, it sees colour alone
    ],
)
def test_a_network_of_another_kind_than_the_recipe_s_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    on_scale: bool,
    embedded: float,
    condition: str,
    refused: bool,
) -> None:
    write_scene(tmp_path / "scenes", "scene")
    checkpoint = make_tiny_checkpoint(tmp_path / "network", condition=condition)
    recipe = tmp_path / "mine.yaml"
    values = plain(tiny(1, on_scale=on_scale, prediction={"embedded": embedded}))
    recipe.write_text(json.dumps(values), encoding="utf-8")
    words = ["--data", str(tmp_path / "scenes"), "--output", str(tmp_path / "run")]
    words += ["--config", str(recipe), "--checkpoint", str(checkpoint)]
    assert main(["pretrain-fusion", *words]) == (2 if refused else 0)
    error = capsys.readouterr().err
    assert ("take --config fusion-colour" in error and str(checkpoint) in error) == refused
    assert (tmp_path / "run").exists() != refused


@pytest.mark.parametrize("load", [load_config, load_matcher_config])
def test_a_recipe_s_fields_are_put_over(load: Callable[..., SamplesConfig]) -> None:
    name = "fusion" if load is load_config else "matcher"
    config = load(name, ["steps=3", "prediction.made_up=0.1"])
    assert (config.steps, config.prediction.made_up) == (3, 0.1)
    assert config.prediction.embedded == load(name).prediction.embedded
    with pytest.raises(DktError, match=r"steps is 0, expected at least 1"):
        load(name, ["steps=0"])


@pytest.mark.parametrize("command", ["pretrain-fusion", "pretrain-matcher"])
def test_the_commands_take_such_fields(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(tmp_path), "--output", str(tmp_path / "run"), "--set", "batch=0"]
    assert main([command, *words]) == 2
    assert "batch is 0, expected at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pretrain", "pretrain-fusion"])
def test_fewer_threads_than_none_are_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--data", "scenes", "--output", "run", "--threads", "-1"])
    assert "'-1' is no integer of at least 0" in capsys.readouterr().err
