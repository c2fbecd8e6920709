"""Saved states of a run: each a folder that is whole or absent, the last few of them kept.

Knows folders, renaming and what a full disk does. Knows nothing of what is in a state.
"""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from dkt_ros.errors import DktError
from dkt_ros.files import whole_folder

STATE_FILE = "state.pt"
_NAME = re.compile(r"^step-(\d{8})$")


class States:
    """The states in one folder, `step-00000500` and so on."""

    def __init__(self, folder: Path, keep: int) -> None:
        """keep: how many of the newest stay."""
        self.folder = folder
        self.keep = keep

    def all(self) -> list[Path]:
        """Whole states, the oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.match(path.name))

    def latest(self) -> Path | None:
        """The newest whole state."""
        found = self.all()
        return found[-1] if found else None

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Makes the state of `step` (steps done), whose files `write` puts into a given folder.

        The folder gets its name once all of it is on the disk; then older states go. Raises
        DktError where that fails, the states before untouched.
        """
        target = self.folder / f"step-{step:08d}"
        if target.exists():
            return target
        try:
            with whole_folder(target) as partial:
                write(partial)
        # torch reports a failed write as RuntimeError, safetensors as its own error.
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split()) or repr(error)
            raise DktError(
                f"the state of step {step} cannot be written to {self.folder} ({reason}); "
                f"{self.described()}"
            ) from error
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def discard_after(self, step: int) -> None:
        """Forgets states of later steps, which a resumed run makes again."""
        for state in self.all():
            if int(state.name.removeprefix("step-")) > step:
                shutil.rmtree(state, ignore_errors=True)

    def described(self) -> str:
        """What is there to go on from, in words."""
        latest = self.latest()
        if latest is None:
            return "no state was saved before"
        return f"the last good state is {latest}, continue from it with --resume"


def read_state(state: Path) -> dict[str, Any]:
    """The tensors and plain values of a state; no code in it is run.

    Raises DktError naming the file where it is missing or damaged.
    """
    file = state / STATE_FILE
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise DktError(
            f"{file} cannot be read ({reason}); delete the folder {state.name} to go on from the "
            "state before it"
        ) from error
    if not isinstance(content, dict):
        raise DktError(f"{file} holds a {type(content).__name__}, expected the state of a run")
    return content
