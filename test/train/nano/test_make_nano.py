"""scripts/make_nano.sh, with a `dkt` that only notes how it is called."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_nano.sh"
# Renders one scene, but none of the seed that is to have nothing; ends as it is told to.
DKT = """#!/usr/bin/env bash
set -eu
echo "$*" >> "$CALLS"
[ "$1 $2" = "synth render" ] || exit 0
while [ $# -gt 0 ]; do
  case $1 in --output) output=$2 ;; --seed) seed=$2 ;; esac
  shift
done
mkdir -p "$output"
[ "$seed" = "${NOTHING_OF:-}" ] || touch "$output/s0$seed-000000.tar"
[ "$seed" != "${FAILS:-}" ] || exit "$STATUS"
"""


def make(folder: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The ended script and how it called dkt."""
    commands = folder / "commands"
    commands.mkdir()
    (commands / "dkt").write_text(DKT)
    (commands / "dkt").chmod(0o755)
    calls = folder / "calls"
    path = f"{commands}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CALLS": str(calls), **variables}
    done = subprocess.run(
        ["bash", str(SCRIPT), str(folder / "nano")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, calls.read_text().splitlines()


def test_it_renders_trains_and_evaluates(tmp_path: Path) -> None:
    done, calls = make(tmp_path, SINGLES="3", SCENES="2", MOVING="4")
    assert (done.returncode, done.stderr) == (0, "")
    assert [" ".join(call.split()[:2]) for call in calls] == [
        *["synth render"] * 2,
        "pretrain --data",
        *["synth render"] * 6,
        "pretrain --data",
        "eval --data",
    ]
    assert "--seed 100 --pool train --frames 1 --scenes 3" in calls[0]
    assert all("--raw-depth" in call for call in calls[3:9])
    assert "--seed 433 --pool train --frames 21 --scenes 4" in calls[8]
    assert f"--set start={tmp_path}/nano/colour_run/checkpoint" in calls[9]
    assert "--config dkt-nano-depth" in calls[9]
    assert not any("--resume" in call for call in calls)


@pytest.mark.parametrize(("run", "at"), [("colour_run", 2), ("run", 9)])
def test_it_goes_on_with_the_run_that_is_there(tmp_path: Path, run: str, at: int) -> None:
    state = tmp_path / "nano" / run / "state.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    _, calls = make(tmp_path)
    assert [index for index, call in enumerate(calls) if call.endswith(" --resume")] == [at]


@pytest.mark.parametrize(("after_s", "judged"), [(60, False), (-60, True)])
def test_what_is_judged_is_not_judged_again(tmp_path: Path, after_s: int, judged: bool) -> None:
    for name in ("run/state.pt", "eval.json"):
        (tmp_path / "nano" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "nano" / name).touch()
    os.utime(tmp_path / "nano" / "eval.json", (time.time() + after_s,) * 2)
    _, calls = make(tmp_path)
    assert any(call.startswith("eval") for call in calls) is judged


@pytest.mark.parametrize("seed", ["100", "101", "420"])
def test_a_scene_that_fails_is_done_without(tmp_path: Path, seed: str) -> None:
    done, calls = make(tmp_path, FAILS=seed, STATUS="1")
    assert done.returncode == 0
    assert f"scenes of seed {seed} failed" in done.stderr
    assert len(calls) == 11


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({"STATUS": "2"}, 2),  # refused, or the disk is full
        ({"STATUS": "130"}, 130),  # interrupted
        ({"STATUS": "1", "NOTHING_OF": "101"}, 1),  # tars of another seed do not count
    ],
)
def test_any_other_failure_stops_it(tmp_path: Path, variables: dict[str, str], status: int) -> None:
    done, calls = make(tmp_path, FAILS="101", **variables)
    assert done.returncode == status
    assert f"rendering seed 101 into {tmp_path}/nano/colour failed" in done.stderr
    assert len(calls) == 2
