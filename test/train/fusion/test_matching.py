"""Training of the matcher, at toy size: learning, resuming, and what is made unlike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.glass_table import glass_tables
from fixtures.small_recipes import matcher as tiny

from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.fusion.matcher import load_matcher
from dkt_ros.fusion.network import MATCHER_FILE
from dkt_ros.train.fusion.config import load_matcher_config
from dkt_ros.train.fusion.frames import FrameFolder
from dkt_ros.train.fusion.matching import MatcherTrainer, train_matcher
from dkt_ros.train.fusion.samples import TrainingSample, draw
from dkt_ros.train.fusion.spoiled import spoiled_colours, spoiled_readings
from dkt_ros.train.states import STATE_FILE


@pytest.fixture
def data(tmp_path: Path) -> FrameFolder:
    return glass_tables(tmp_path)


def test_learns(data: FrameFolder) -> None:
    torch.set_num_threads(1)
    config = tiny(200, learning_rate=5e-3, decay_steps=1, fresh=0, batch=8)
    trainer = MatcherTrainer(config, data)
    losses = [trainer.train_step()["belongs"] for _ in range(44)]
    assert np.mean(losses[-16:]) < 0.6 * np.mean(losses[:10])


def test_a_run_begins_with_another_s_weights(data: FrameFolder, tmp_path: Path) -> None:
    train_matcher(tiny(2), lambda: data, tmp_path / "first", report=lambda line: None)
    begun = MatcherTrainer(tiny(), data, tmp_path / "first" / MatcherTrainer.WEIGHTS)
    average = torch.load(tmp_path / "first" / STATE_FILE, weights_only=True)["average"]
    for name, value in begun.model.state_dict().items():
        torch.testing.assert_close(value, average[name].half().to(value.dtype))
    with pytest.raises(DktError, match=rf"none/{MATCHER_FILE} cannot be used"):
        MatcherTrainer(tiny(), data, tmp_path / "none")


def test_the_pool_is_renewed_bit_by_bit(data: FrameFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = MatcherTrainer(tiny(), data)
    drawn, real = [], trainer._sample

    def sample(number: int) -> TrainingSample:
        drawn.append(number)
        return real(number)

    monkeypatch.setattr(trainer, "_sample", sample)
    for _ in range(3):
        trainer.train_step()
    assert drawn == list(range(8 + 2 * 2))


def test_shares_are_of_foreign_pairs_and_of_what_is_spoiled(data: FrameFolder) -> None:
    never, always = (MatcherTrainer(tiny(foreign=share), data) for share in (0.0, 1.0))
    for number in range(8):
        assert never._sample(number).belongs
    one, other = (never._sample(number).scene.rgb for number in range(2))
    assert not np.array_equal(one, other)
    assert not any(always._sample(number).belongs for number in range(8))
    frame = data.frames[0]
    plain, spoiled = (
        draw(frame, np.random.default_rng(3), tiny(), None, share) for share in (0.0, 1.0)
    )
    assert plain is not None
    assert spoiled is not None
    assert np.any(plain.scene.rgb != spoiled.scene.rgb)
    assert np.any(plain.scene.disparity != spoiled.scene.disparity)


@pytest.mark.parametrize(("foreign", "sure"), [(0.0, 0.98), (1.0, 0.02)])
def test_nothing_is_learned_of_who_is_as_sure_as_one_may_be(
    data: FrameFolder, foreign: float, sure: float
) -> None:
    class Sure(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = torch.nn.Parameter(torch.tensor(sure).logit())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.answer.expand(len(x))

    trainer = MatcherTrainer(tiny(foreign=foreign, bfloat16=False), data)
    trainer.model = Sure()  # type: ignore[assignment]
    trainer.average = dict(trainer.model.state_dict())
    assert trainer.train_step()["norm"] < 1e-4


def test_a_single_scene_has_no_foreign_pairs(data: FrameFolder, tmp_path: Path) -> None:
    data.items = data.items[:1]
    with pytest.raises(DktError, match=r"single scene, scene0, and foreign is 0\.5: .*foreign=0"):
        train_matcher(tiny(), lambda: data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train_matcher(tiny(1, foreign=0.0), lambda: data, tmp_path / "run", report=lambda line: None)
    load_matcher(tmp_path / "run" / MatcherTrainer.WEIGHTS)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(40))
def test_what_is_spoiled_is_still_a_picture_and_readings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    disparity = np.tile(np.linspace(0.5, 2, 96, dtype=np.float32), (64, 1))
    disparity[20:30, 20:50] = 0
    before = disparity.copy()
    other = spoiled_colours(rgb, np.random.default_rng(seed))
    assert other.shape == rgb.shape
    assert other.dtype == np.uint8
    found = spoiled_readings(disparity, np.random.default_rng(seed))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert np.count_nonzero(found) >= 100
    assert np.array_equal(disparity, before), "the frame's own stay as they are"
    assert 0.3 < np.median(found[found > 0]) < 3


@pytest.mark.filterwarnings("error")
def test_few_readings_are_left_alone() -> None:
    disparity = np.zeros((64, 96), np.float32)
    disparity[0, :50] = 1
    for seed in range(40):
        found = spoiled_readings(disparity, np.random.default_rng(seed))
        assert found is disparity or np.count_nonzero(found) >= 100


def test_the_recipe_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_matcher_config("matcher")
    assert recipe.total_steps == recipe.steps
    words = [
        "pretrain-matcher",
        "--data",
        str(tmp_path / "none"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    assert "none is not a folder" in capsys.readouterr().err
    with pytest.raises(DktError, match=r"pool is 0, expected at least 1"):
        tiny(pool=0)
