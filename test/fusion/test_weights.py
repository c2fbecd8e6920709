"""Which weights are used, and when files that were replaced are read again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.network import MATCHER_FILE, WEIGHTS_FILE
from dkt_ros.fusion.weights import (
    check_weights,
    default_weights,
    matcher_of,
    refiner_of,
    refiner_state,
)

CPU = torch.device("cpu")


def nan_at_end(tensor: Tensor) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = float("nan")
    return changed


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """The package's refiner with the package's matcher beside it."""
    own = default_weights()
    shutil.copytree(own, tmp_path, dirs_exist_ok=True)
    shutil.copy(own.parent / "matcher" / MATCHER_FILE, tmp_path)
    return tmp_path


@pytest.mark.parametrize("replaced", [WEIGHTS_FILE, MATCHER_FILE])
def test_files_are_read_once_and_again_when_one_is_replaced_even_by_an_older(
    named: Path, replaced: str
) -> None:
    config = FusionConfig(weights=named)
    before = refiner_of(config, True, CPU)[0], matcher_of(config, CPU)
    assert refiner_of(config, True, CPU)[0] is before[0]
    assert matcher_of(config, CPU) is before[1]
    os.utime(named / replaced, (1, 1))
    assert refiner_of(config, True, CPU)[0] is not before[0]
    assert matcher_of(config, CPU) is not before[1]


@pytest.mark.parametrize(
    ("spoilt", "says"), [(torch.zeros_like, "of one value"), (nan_at_end, "finite")]
)
@pytest.mark.parametrize("name", [WEIGHTS_FILE, MATCHER_FILE])
def test_what_nothing_can_have_learned_is_refused(
    named: Path, name: str, spoilt: Callable[[Tensor], Tensor], says: str
) -> None:
    tensors = load_file(named / name)
    floats = {key: spoilt(value) for key, value in tensors.items() if value.is_floating_point()}
    save_file({**tensors, **floats}, named / name)
    with pytest.raises(DktError, match=f"{name}: .*{says}"):
        check_weights(named)


def test_a_matcher_that_is_not_beside_the_named_refiner_is_the_packages(named: Path) -> None:
    own = matcher_of(FusionConfig(), CPU)
    config, state = FusionConfig(weights=named), refiner_state(named)
    assert matcher_of(config, CPU) is not own
    (named / MATCHER_FILE).unlink()
    assert matcher_of(config, CPU) is own
    assert refiner_state(named) not in (None, state)


def test_what_else_lies_in_the_folder_is_of_no_concern(named: Path) -> None:
    config = FusionConfig(weights=named)
    before = refiner_of(config, True, CPU)[0]
    (named / ".#refiner.json").symlink_to("an.editors@lock")
    (named / "notes.txt").write_text("mine")
    assert refiner_of(config, True, CPU)[0] is before
