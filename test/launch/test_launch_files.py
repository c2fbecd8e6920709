"""The launch files, run for real by launch_testing; each description holds its own assertions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.mark.roslaunch
@pytest.mark.ros
@pytest.mark.parametrize("description", ["describe_grasp.py", "describe_replay.py"])
def test_launch_file(description: str) -> None:
    """`launch_test` starts the description, runs its assertions and ends what it started."""
    run = subprocess.run(
        [sys.executable, "-m", "launch_testing.launch_test", str(FOLDER / description)],
        capture_output=True,
        text=True,
        timeout=560,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": search_path()},
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-8000:]


def search_path() -> str:
    """For the descriptions: this folder's parent, for the fixtures, before everything else."""
    return os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))
