"""scripts/make_fusion.sh, with a `dkt` and a `python` that only note how they are called."""

from __future__ import annotations

import os
import runpy
import subprocess
import time
from pathlib import Path

import pytest

from dkt_ros.errors import DktError

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_fusion.sh"
COMMAND = """#!/usr/bin/env bash
echo "${0##*/} $*" >> "$CALLS"
[[ "$*" == *" ${FAILS:-none} "* ]] || exit 0
exit "$STATUS"
"""


def make(folder: Path, **variables: str) -> tuple[int, list[str]]:
    """The script's status and what it called."""
    commands = folder / "commands"
    commands.mkdir(exist_ok=True)
    for name in ("dkt", "python"):
        (commands / name).write_text(COMMAND)
        (commands / name).chmod(0o755)
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    path = f"{commands}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CALLS": str(calls), **variables}
    arguments = ["bash", str(SCRIPT), str(folder / "run")]
    done = subprocess.run(arguments, env=environment, capture_output=True, timeout=60, check=False)
    return done.returncode, calls.read_text().splitlines()


@pytest.mark.parametrize("begun", [False, True])
def test_it_renders_trains_and_evaluates(tmp_path: Path, begun: bool) -> None:
    rendered = ("train/s0400-000001.tar", "light/s0440-000001.tar")
    for tar in rendered:
        (tmp_path / "run" / tar).parent.mkdir(parents=True)
        (tmp_path / "run" / tar).touch()
    if begun:
        for run in ("run", "colour_run", "matcher_run", "light_run", "light_colour_run"):
            (tmp_path / "run" / run).mkdir(parents=True)
            (tmp_path / "run" / run / "state.pt").touch()
    status, calls = make(tmp_path, SCENES="3")
    assert status == 0
    assert [" ".join(call.split()[:3]) for call in calls] == [
        *["dkt synth render"] * 5,
        *["dkt pretrain-fusion --data", "python benchmarks/fusion.py --heldout"],
        "dkt synth render",
        *["dkt pretrain-fusion --data", "python benchmarks/fusion.py --heldout"],
        *["dkt synth render"] * 4,
        *["dkt pretrain-fusion --data", "python benchmarks/fusion.py --heldout"] * 2,
        "dkt pretrain-matcher --data",
    ]
    assert all("--raw-depth" in call for call in calls[:5])
    assert "--seed 400 --version 2 --pool train --frames 2 --scenes 3" in calls[0]
    assert calls[5].endswith("--resume") == calls[8].endswith("--resume") == begun
    assert calls[7].startswith(f"dkt synth render --output {tmp_path}/run/train --seed 952")
    assert "--shares packaging=0.5" in calls[7]
    assert f"--config fusion-colour --output {tmp_path}/run/colour_run" in calls[8]
    assert f"--start {tmp_path}/run/run/refiner" in calls[8]
    assert calls[6].endswith("--calibrate")
    assert calls[9].endswith("--calibrate --colour")
    assert all("--raw-depth" in call for call in calls[10:14])
    assert [call.split("--sensor ")[1].split()[0] for call in calls[10:14]] == [
        *("structured-light", "tof", "tof", "structured-light"),
    ]
    assert f"--data {tmp_path}/run/light --config fusion-light --output" in calls[14]
    assert f"--start {tmp_path}/run/run/refiner" in calls[14]
    assert calls[14].endswith("--resume") == calls[16].endswith("--resume") == begun
    assert f"--config fusion-light-colour --output {tmp_path}/run/light_colour_run" in calls[16]
    assert f"--start {tmp_path}/run/light_run/refiner" in calls[16]
    assert f"--heldout {tmp_path}/run/light_heldout" in calls[15]
    assert calls[17].endswith("--calibrate --colour")
    assert f"--config matcher --output {tmp_path}/run/matcher_run" in calls[18]
    assert f"--data {tmp_path}/run/all" in calls[18]
    assert calls[18].endswith("--resume") == begun
    for tar in rendered:
        assert (tmp_path / "run/all" / Path(tar).name).samefile(tmp_path / "run" / tar)


def test_what_is_judged_is_not_judged_again(tmp_path: Path) -> None:
    def judged(**variables: str) -> list[str]:
        _, calls = make(tmp_path, **variables)
        return [Path(c.split("--weights ")[1]).parts[-2] for c in calls if c[:6] == "python"]

    runs = ["run", "colour_run", "light_run", "light_colour_run"]
    assert judged(FAILS=f"{tmp_path}/run/colour_run/refiner", STATUS="1") == runs[:2]
    assert judged() == runs[1:]
    assert judged() == []
    later = time.time() + 60
    for path in ("light_run/state.pt", "heldout/s0420-000009.tar"):
        (tmp_path / "run" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / path).touch()
        os.utime(tmp_path / "run" / path, (later, later))
    assert judged() == runs[:3]


@pytest.mark.parametrize("status", ["1", "2", "130"])
def test_a_failure_without_scenes_stops_it(tmp_path: Path, status: str) -> None:
    found, calls = make(tmp_path, FAILS="401", STATUS=status)
    assert found == int(status)
    assert len(calls) == 2


def test_what_cannot_be_calibrated_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(SCRIPT.parents[1] / "benchmarks" / "fusion.py"))["main"]
    with pytest.raises(SystemExit):
        main(["--calibrate", "--heldout", str(tmp_path)])  # the package's own weights, in place
    with pytest.raises(SystemExit):
        main(["--calibrate", "--weights", str(tmp_path)])
    assert capsys.readouterr().err.count("writes to --weights: name both") == 2
    with pytest.raises(DktError, match=r"none/refiner\.json cannot be used"):
        main(["--heldout", str(tmp_path), "--weights", str(tmp_path / "none"), "--calibrate"])
