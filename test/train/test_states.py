"""States on disk: whole or absent, whatever the disk does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.folders import contents, disk_full

from dkt_ros.errors import DktError
from dkt_ros.train.states import STATE_FILE, States, read_state

PARTS = ["done", "weights", "optimizer", "recipe", "base"]


def write(folder: Path, value: float = 1.0) -> None:
    state = {"done": 1, "weights": {"w": torch.full((50_000,), value)}}
    with (folder / STATE_FILE).open("wb") as file:
        torch.save({**state, "optimizer": {}, "recipe": {}, "base": ""}, file)


def test_the_newest_few_stay(tmp_path: Path) -> None:
    states = States(tmp_path / "states", keep=2)
    assert states.latest() is None
    for step in (5, 10, 99_999):
        states.save(step, write)
    assert [path.name for path in states.all()] == ["step-00000010", "step-00099999"]
    assert states.latest() == tmp_path / "states" / "step-00099999"
    assert read_state(states.all()[0])["done"] == 1
    before = contents(states.folder)
    states.save(10, lambda folder: write(folder, 2.0))  # is there already
    assert contents(states.folder) == before


def test_what_was_saved_last_stays_though_another_is_of_a_later_step(tmp_path: Path) -> None:
    states = States(tmp_path, keep=1)
    for step in (5, 11, 10):
        states.save(step, write)
    assert [path.name for path in states.all()] == ["step-00000010"]
    states.discard()
    assert states.latest() is None


def test_a_full_disk_leaves_the_last_good_state(tmp_path: Path) -> None:
    states = States(tmp_path / "states", keep=1)
    states.save(1, write)
    before = contents(states.folder)

    def fails(folder: Path) -> None:
        (folder / STATE_FILE).write_bytes(b"half of it")
        disk_full()

    with pytest.raises(DktError, match=r"step 2 .*No space left.*last good state is .*step-0+1,"):
        states.save(2, fails)
    assert contents(states.folder) == before
    with pytest.raises(DktError, match=r"No space left.*no state was saved before"):
        States(tmp_path / "empty", keep=1).save(2, fails)


def test_a_write_that_the_system_cuts_short(
    tmp_path: Path, limit_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    """A limit on file sizes makes torch's own writing fail midway, as a full disk would."""
    states = States(tmp_path / "states", keep=1)
    states.save(1, write)
    before = contents(states.folder)
    with limit_files(100_000), pytest.raises(DktError, match=r"step 2 .*is the disk full"):
        states.save(2, write)
    assert contents(states.folder) == before


def test_what_a_run_goes_on_from_is_named_where_the_best_cannot_be_saved(tmp_path: Path) -> None:
    states = States(tmp_path / "states", keep=2)
    best = States(tmp_path / "best", keep=1, resumed=states)
    states.save(9, lambda folder: None)
    best.save(4, lambda folder: None)
    with pytest.raises(DktError, match=r"to .*best .*last good state is .*states/step-0+9,"):
        best.save(10, disk_full)


def test_what_a_kill_left_behind_is_no_state(tmp_path: Path) -> None:
    states = States(tmp_path, keep=2)
    states.save(1, write)
    left = tmp_path / ".partial-step-00000002"
    left.mkdir()
    (left / STATE_FILE).write_bytes(b"half")
    assert states.latest() == tmp_path / "step-00000001"
    states.save(2, write)
    assert read_state(tmp_path / "step-00000002")["done"] == 1


@pytest.mark.parametrize("damage", ["missing", "truncated", "code", "list", "text", *PARTS])
def test_damaged_states_are_named(tmp_path: Path, damage: str) -> None:
    state = States(tmp_path, keep=2).save(7, write)
    file = state / STATE_FILE
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-2000])
    elif damage == "code":
        torch.save({"done": Runs(tmp_path / "ran")}, file)
    elif damage in PARTS:
        torch.save({**read_state(state), damage: None}, file)
    elif damage == "text":
        file.write_bytes(b"hello")
    else:
        torch.save([1, 2], file)
    what = f": {damage} is" if damage in PARTS else ""
    with pytest.raises(DktError, match=rf"step-00000007/state\.pt{what}"):
        read_state(state)
    assert not (tmp_path / "ran").exists()


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)
