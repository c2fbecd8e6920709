"""Saved states of a run: each a folder that is whole or absent, the last few of them kept.

Knows folders, renaming and what a full disk does. Knows nothing of what is in a state.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from dkt_ros.errors import DktError
from dkt_ros.files import whole_folder

STATE_FILE = "state.pt"
_STATE = {"done": int, "weights": dict, "optimizer": dict, "recipe": dict, "base": str}
_NAME = re.compile(r"^step-(\d{8})$")


class States:
    """The states in one folder, `step-00000500` and so on."""

    def __init__(self, folder: Path, keep: int, resumed: States | None = None) -> None:
        """keep: how many stay, that which was saved last and the newest of the others.

        resumed: the states that --resume goes on from; by default these.
        """
        self.folder = folder
        self.keep = keep
        self._resumed = resumed or self

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
            raise DktError(
                f"the state of step {step} cannot be written to {self.folder} "
                f"({write_failure(error)}); "
                f"{self.described()}"
            ) from error
        others = [state for state in self.all() if state != target]
        for old in others[: max(0, len(others) + 1 - self.keep)]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def discard(self) -> None:
        """Forgets all of them."""
        for state in self.all():
            shutil.rmtree(state, ignore_errors=True)

    def described(self) -> str:
        """What is there to go on from, in words."""
        latest = self._resumed.latest()
        if latest is None:
            return "no state was saved before"
        return f"the last good state is {latest}, continue from it with --resume"


def write_failure(error: Exception) -> str:
    """Why a file could not be written, in words; torch says that by its place in the file."""
    text = " ".join(str(error).split()) or repr(error)
    return "the file was cut short: is the disk full?" if "inline_container" in text else text


def read_state(state: Path) -> dict[str, Any]:
    """The tensors and plain values of a state; no code in it is run.

    Raises DktError naming the file where it is missing, damaged or lacks what _STATE lists.
    """
    advice = f"delete the folder {state.name} to go on from the state before it"
    content = read_tensors(state / STATE_FILE, advice)
    for name, kind in _STATE.items():
        if not isinstance(content.get(name), kind):
            found = type(content[name]).__name__ if name in content else "missing"
            raise DktError(
                f"{state / STATE_FILE}: {name} is {found}, expected {kind.__name__}; {advice}"
            )
    return content


def read_tensors(file: Path, advice: str) -> dict[str, Any]:
    """What torch.save wrote of a run, tensors and plain values by name; no code in it is run.

    Raises DktError naming the file, with the advice, where it is missing or damaged.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    # A file of anything else is taken for a pickle, whose reader raises what it happens to.
    except Exception as error:
        reason = (str(error).splitlines() or [repr(error)])[0].partition(". ")[0]
        raise DktError(f"{file} cannot be read ({reason}); {advice}") from error
    if not isinstance(content, dict):
        raise DktError(f"{file} holds a {type(content).__name__}, expected the state of a run")
    return content


@contextmanager
def of_a_run(file: Path) -> Iterator[None]:
    """Makes one line of what is raised where a state's content is not that of such a run."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join((str(error) or repr(error)).split())[:200]
        raise DktError(
            f"{file} holds no state of such a run ({type(error).__name__}: {reason}); put the "
            "run's own file back, or begin anew in another folder"
        ) from error
