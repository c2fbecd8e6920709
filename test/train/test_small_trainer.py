"""Steps, states and averages that trainers of small networks share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from dkt_ros.errors import DktError
from dkt_ros.train.small_trainer import (
    Means,
    load_state,
    parameter_groups,
    restore_optimizer,
    run_folder,
    run_steps,
    save_state,
    update_average,
)
from dkt_ros.train.states import STATE_FILE


class Counter:
    """Counts steps, is told to stop at one of them, and notes when it is saved."""

    def __init__(self, step: int = 0, stop_at: int = -1) -> None:
        self.step, self.stop_at = step, stop_at
        self.saved: list[int] = []

    def advance(self) -> None:
        self.step += 1
        if self.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def save(self, folder: Path) -> None:
        self.saved.append(self.step)


@pytest.mark.parametrize(
    ("begin", "stop_at", "saved", "number"),
    [
        (0, -1, [3, 6, 7], None),
        (6, -1, [7], None),
        (7, -1, [], None),
        (0, 4, [3, 4], signal.SIGINT),
        (0, 3, [3], signal.SIGINT),
    ],
)
def test_steps_are_saved_now_and_then_and_at_the_end(
    begin: int, stop_at: int, saved: list[int], number: int | None, tmp_path: Path
) -> None:
    counter = Counter(begin, stop_at)
    assert run_steps(counter, counter.advance, 7, 3, tmp_path) == number
    assert counter.saved == saved


def test_more_steps_than_are_asked_for_are_refused(tmp_path: Path) -> None:
    counter = Counter(8)
    with pytest.raises(DktError, match="has done 8 steps, the recipe asks for 7"):
        run_steps(counter, counter.advance, 7, 3, tmp_path)
    assert counter.saved == []


def test_a_folder_is_one_run_s_and_goes_if_nothing_comes_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(DktError, match="holds no run to resume"), run_folder(folder, resume=True):
        pass
    busy = pytest.raises(DktError, match="another run works")
    with run_folder(folder, resume=False), busy, run_folder(folder, resume=False):
        pass
    assert not folder.exists()
    with run_folder(folder, resume=False):
        (folder / STATE_FILE).write_bytes(b"state")
    with pytest.raises(DktError, match="holds a run already"), run_folder(folder, resume=False):
        pass
    with run_folder(folder, resume=True):
        pass
    assert (folder / STATE_FILE).read_bytes() == b"state"


def test_what_is_fixed_is_compared_and_what_has_changed_is_told(tmp_path: Path) -> None:
    config = {"width": 8, "rate": 0.1, "data": [{"weight": 1.0, "path": "a"}], "sides": [1]}
    save_state(tmp_path, {"step": 5, "config": config}, "weights", lambda folder: None)
    told: list[str] = []
    restored: list[int] = []
    data = [{"weight": 2.0, "path": "a"}]
    now = {"width": 8, "rate": 0.2, "newer": 1, "data": data, "sides": [1, 2]}
    load_state(
        tmp_path,
        now,
        ("width", "newer"),
        lambda state: restored.append(state["step"]),
        told.append,
    )
    assert restored == [5]
    assert told == [
        "data.0.weight was 1.0, is now 2.0",
        "rate was 0.1, is now 0.2",
        "sides was [1], is now [1, 2]",
    ]
    with pytest.raises(DktError, match="width was 8, the configuration says 9"):
        load_state(tmp_path, {"width": 9}, ("width",), lambda state: restored.append(0))
    assert restored == [5]


def test_matrices_decay_and_nothing_else_does() -> None:
    network = nn.Linear(3, 4)
    table = nn.Parameter(torch.zeros(1, 6, 2))
    matrices, others = parameter_groups([*network.parameters(), table], 0.1)
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [one.shape for one in matrices["params"]] == [(4, 3)]
    assert [one.shape for one in others["params"]] == [(4,), (1, 6, 2)]


def test_a_restored_optimizer_has_the_moments_of_before_and_the_settings_of_now() -> None:
    weight = nn.Parameter(torch.ones(2))
    before = torch.optim.AdamW([weight], weight_decay=0.5)
    weight.grad = torch.ones(2)
    before.step()
    now = torch.optim.AdamW([weight], weight_decay=0.25)
    restore_optimizer(now, before.state_dict())
    assert now.param_groups[0]["weight_decay"] == 0.25
    torch.testing.assert_close(now.state[weight]["exp_avg"], before.state[weight]["exp_avg"])


def test_the_average_is_short_at_first_and_copies_what_is_no_weight() -> None:
    network = nn.BatchNorm1d(2)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        network.weight.fill_(11.0)
        network.running_mean.fill_(3.0)  # type: ignore[union-attr]
    update_average(average, network, 0.9, done=0)  # a tenth of the past
    assert average["weight"].tolist() == pytest.approx([10.0, 10.0])
    assert average["running_mean"].tolist() == [3.0, 3.0]
    update_average(average, network, 0.9, done=10_000)
    assert average["weight"].tolist() == pytest.approx([10.1, 10.1])


def test_means_begin_anew_when_they_are_told() -> None:
    means = Means()
    for loss in (1.0, 2.0):
        means.add({"loss": loss, "other": 3.0})
    assert means.told()[0] == "loss 1.5000  other 3.0000"
    means.add({"loss": 5.0})
    assert means.told()[0] == "loss 5.0000"
