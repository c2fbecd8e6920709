"""The scripts of make nano and make fusion as TRY=1 runs them: all but rendering is real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fixtures.training_scenes import write_scene

from dkt_ros.fusion.matcher import load_matcher
from dkt_ros.fusion.network import load_refiner
from dkt_ros.model.checkpoint import load_checkpoint

SCRIPTS = Path(__file__).parents[2] / "scripts"
DKT = """#!/usr/bin/env bash
set -eu
[ "$1 $2" = "synth render" ] || exec "$REAL" "$@"
while [ $# -gt 0 ]; do
  case $1 in --output) output=$2 ;; --seed) seed=$2 ;; --scenes) scenes=$2 ;; esac
  shift
done
mkdir -p "$output"
for ((i = 0; i < scenes; i++)); do cp "$TAR" "$output/s0$seed-00000$i.tar"; done
"""


def make(name: str, folder: Path, frames: int) -> str:
    """What TRY=1 of the script prints, of scenes of so many frames."""
    (folder / "commands").mkdir()
    (folder / "commands" / "dkt").write_text(DKT)
    (folder / "commands" / "dkt").chmod(0o755)
    write_scene(folder, "scene", frames=frames, size=(64, 112), raw_depth=True)
    real = shutil.which("dkt")
    assert real is not None
    environment = {
        **os.environ,
        "PATH": f"{folder / 'commands'}:{os.environ['PATH']}",
        "REAL": real,
        "TAR": str(folder / "scene.tar"),
        "TRY": "1",
        "DKT_SHARED": str(folder / "none"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", str(SCRIPTS / f"make_{name}.sh"), str(folder / "made")],
        cwd=SCRIPTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_checkpoint_is_made_and_judged(tmp_path: Path) -> None:
    told = make("nano", tmp_path, frames=5)
    made = tmp_path / "made"
    assert told.endswith(f"made: {made}/run/checkpoint, judged in {made}/eval.json\n")
    network = load_checkpoint(made / "run" / "checkpoint")
    assert network.info.condition == "from_raw_depth"
    assert json.loads((made / "eval.json").read_text())["complete"]


@pytest.mark.long
def test_refiners_and_a_matcher_are_made(tmp_path: Path) -> None:
    make("fusion", tmp_path, frames=1)
    for run in ("run", "colour_run", "light_run", "light_colour_run"):
        _, info = load_refiner(tmp_path / "made" / run / "refiner")
        assert info["steps"] == 4
        assert "calibration" in info
    load_matcher(tmp_path / "made" / "matcher_run" / "matcher")
