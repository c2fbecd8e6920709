"""What the trainers of dkt-nano, refiner and matcher do alike, at toy size."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from fixtures import small_recipes
from fixtures.glass_table import glass_tables
from fixtures.training_scenes import write_scene

from dkt_ros.errors import DktError
from dkt_ros.train.fields import RECIPES
from dkt_ros.train.fusion.config import load_config, load_matcher_config
from dkt_ros.train.fusion.loop import RefinerTrainer
from dkt_ros.train.fusion.loop import train as train_refiner
from dkt_ros.train.fusion.matching import MatcherTrainer, train_matcher
from dkt_ros.train.nano.config import load_config as load_nano_config
from dkt_ros.train.nano.dataset import SequenceFolder
from dkt_ros.train.nano.loop import NanoTrainer
from dkt_ros.train.nano.loop import train as train_nano
from dkt_ros.train.small import SmallConfig
from dkt_ros.train.small_trainer import LOCK_FILE, SmallTrainer, highest_rate
from dkt_ros.train.states import STATE_FILE


@dataclass(frozen=True)
class Small:
    """A recipe of so many steps, a trainer of it, and its whole run: (recipe, output, ...)."""

    recipe: Callable[..., SmallConfig]
    trainer: Callable[..., SmallTrainer]
    train: Callable[..., int | None]


@pytest.fixture(params=["nano", "refiner", "matcher"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Small:
    if request.param == "nano":
        for index in range(3):
            write_scene(tmp_path / "scenes", f"scene{index}", frames=5, size=(32, 48))
        clips = SequenceFolder(tmp_path / "scenes")
        return Small(
            small_recipes.nano,
            lambda recipe: NanoTrainer(recipe, clips),
            lambda recipe, *rest, **words: train_nano(recipe, tmp_path / "scenes", *rest, **words),
        )
    data = glass_tables(tmp_path)
    if request.param == "refiner":
        return Small(
            small_recipes.refiner,
            lambda recipe: RefinerTrainer(recipe, data),
            lambda recipe, *rest, **words: train_refiner(recipe, lambda: data, *rest, **words),
        )
    return Small(
        small_recipes.matcher,
        lambda recipe: MatcherTrainer(recipe, data),
        lambda recipe, *rest, **words: train_matcher(recipe, lambda: data, *rest, **words),
    )


def silent(line: str) -> None:
    """No report."""


def test_resumed_it_ends_as_uninterrupted(small: Small, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    recipe = small.recipe(9)
    small.train(recipe, whole, report=silent)
    trainer = small.trainer(recipe)
    for _ in range(4):  # of dkt-nano's while its encoder follows a teacher
        trainer.train_step()
    trainer.save(parts)
    small.train(recipe, parts, resume=True, report=silent)
    states = [torch.load(folder / STATE_FILE, weights_only=True) for folder in (whole, parts)]
    for part in ("model", "average"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), name


def test_a_resumed_run_has_the_recipe_s_decay_and_never_fewer_steps(
    small: Small, tmp_path: Path
) -> None:
    told: list[str] = []
    trainer = small.trainer(small.recipe(9))
    trainer.step = 9
    trainer.save(tmp_path / "run")
    small.trainer(small.recipe(9)).load(tmp_path / "run", told.append)
    assert told == []
    resumed = small.trainer(small.recipe(9, weight_decay=0.4))
    resumed.load(tmp_path / "run", told.append)
    assert told == [f"weight_decay was {trainer.config.weight_decay}, is now 0.4"]
    assert [group["weight_decay"] for group in resumed.optimizer.param_groups] == [0.4, 0.0]
    with pytest.raises(DktError, match="has done 9 steps, the recipe asks for 7; ask for more"):
        small.train(small.recipe(7), tmp_path / "run", resume=True, report=silent)


def test_told_to_stop_it_saves_and_goes_on(small: Small, tmp_path: Path) -> None:
    run, lines = tmp_path / "run", list[str]()

    def stops(line: str) -> None:
        lines.append(line)
        if line.startswith("step 2"):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert small.train(small.recipe(7), run, report=stops, report_every=1) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert lines[-1] == "stopped at step 2; go on with --resume"
    assert torch.load(run / STATE_FILE, weights_only=True)["step"] == 2
    assert not (run / LOCK_FILE).exists()
    assert small.train(small.recipe(7), run, resume=True, report=lines.append) is None
    assert "step 2 of 7" in lines[-1]


@pytest.mark.parametrize(("warmup", "told"), [(4, 0), (7, 1)])
def test_a_rate_that_is_never_reached_is_told(
    small: Small, tmp_path: Path, warmup: int, told: int
) -> None:
    """Before the first step. Highest in the fifth: 5/7 of the rise, 0.857 of a cosine's fall."""
    lines = list[str]()

    def ends_the_run(line: str) -> None:
        lines.append(line)
        if line.endswith("step 0 of 7"):
            raise InterruptedError

    recipe = small.recipe(7, warmup_steps=warmup, decay_steps=4)
    with pytest.raises(InterruptedError):
        small.train(recipe, tmp_path / "run", report=ends_the_run)
    said = "rises for 7 steps and falls over the last 4, and the run has 7, so it comes to 61.2% of"
    assert sum(said in line for line in lines) == told
    assert told or not any("note: the learning rate" in line for line in lines)


@pytest.mark.parametrize("kind", ["pretrain", "pretrain-fusion", "pretrain-matcher"])
def test_shipped_recipes_come_to_their_learning_rate(kind: str) -> None:
    load = {
        "pretrain": load_nano_config,
        "pretrain-fusion": load_config,
        "pretrain-matcher": load_matcher_config,
    }[kind]
    recipes = sorted((RECIPES / kind).glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        assert highest_rate(load(recipe)) > 0.99, recipe


def test_runs_are_not_mixed(small: Small, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", small.recipe(7)
    with pytest.raises(DktError, match="no run to resume"):
        small.train(recipe, run, resume=True)
    small.trainer(recipe).save(run)
    with pytest.raises(DktError, match="holds a run already; add --resume"):
        small.train(recipe, run)
    with pytest.raises(DktError, match="seed was 1"):
        small.train(small.recipe(7, seed=2), run, resume=True, report=silent)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DktError, match=r"file/run\.lock: cannot be written"):
        small.train(recipe, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_every_step_learns_from_something_else(small: Small) -> None:
    """Though the weights stay where they are."""
    trainer = small.trainer(small.recipe(9, learning_rate=1e-30))
    told = [tuple(trainer.train_step().values()) for _ in range(3)]
    assert len(set(told)) == 3


def test_a_gradient_that_is_not_finite_changes_no_weight(small: Small) -> None:
    trainer = small.trainer(small.recipe(9))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    for weight in trainer.model.parameters():
        weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(DktError, match="norm of the gradient became nan at step 0; lower"):
        trainer.train_step()
    assert trainer.step == 0
    learned = {name for name, _ in trainer.model.named_parameters()}
    for name, value in trainer.model.state_dict().items():
        assert name not in learned or torch.equal(value, before[name]), name
