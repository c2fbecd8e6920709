"""A run's log: TensorBoard events, and the same numbers as lines of JSON.

Knows files and how a resumed run takes back what it is about to repeat. Knows nothing of training.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from dkt_ros.errors import DktError
from dkt_ros.files import write_whole

LINES_FILE = "log.jsonl"
EVENTS_DIR = "tensorboard"
WANDB_FILE = "wandb-id.txt"


class RunLog:
    """Numbers and pictures by step; `step` counts finished steps."""

    def __init__(self, folder: Path, done: int, project: str | None) -> None:
        """done: steps of the run so far; what was logged after them is taken back.

        project: of wandb, to which all is logged too. Raises DktError where that is missing or does
        not begin.
        """
        self._wandb = None if project is None else _wandb_run(folder, done, project)
        self._file = folder / LINES_FILE
        _take_back(self._file, done)
        self._lines = self._file.open("a", encoding="utf-8")
        self._thread_ended = threading.excepthook
        threading.excepthook = self._told_later
        self._events: Any = SummaryWriter(str(folder / EVENTS_DIR), purge_step=done + 1)

    def numbers(self, step: int, values: Mapping[str, float], group: str = "train") -> None:
        """Logs numbers; group: the TensorBoard tab."""
        for name, value in values.items():
            self._events.add_scalar(f"{group}/{name}", value, step)
        if self._wandb is not None:
            named = {f"{group}/{n}": value for n, value in values.items()}
            self._wandb.log({**named, "step": step})
        self._lines.write(json.dumps({"step": step, "group": group, **values}) + "\n")
        self._lines.flush()

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Logs a picture, uint8 (H, W, 3), to TensorBoard."""
        self._events.add_image(name, image, step, dataformats="HWC")

    def text(self, name: str, text: str) -> None:
        """Logs a text to TensorBoard."""
        self._events.add_text(name, text)

    def flush(self) -> None:
        """Brings everything to the disk."""
        self._events.flush()
        self._lines.flush()
        os.fsync(self._lines.fileno())

    def close(self) -> None:
        """Ends the log."""
        try:
            self._events.close()
        finally:
            threading.excepthook = self._thread_ended
            self._lines.close()
            if self._wandb is not None:
                self._wandb.finish()

    def _told_later(self, ended: threading.ExceptHookArgs) -> None:
        """What ends TensorBoard's thread it raises at the next call: no traceback beside that."""
        ours = type(ended.thread).__module__.startswith("tensorboard.")
        if not (ours and isinstance(ended.exc_value, OSError)):
            self._thread_ended(ended)


def wandb_module(project: str) -> Any:
    """The library; DktError where the recipe names a project and it is not there."""
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise DktError(
            f"wandb is {project!r}, but wandb is not installed ({error}); pip install wandb, or "
            "--set wandb=null"
        ) from error


def _wandb_run(folder: Path, done: int, project: str) -> Any:
    wandb, name = wandb_module(project), folder.resolve().name
    # Of its own, lest a run be taken for another one whose folder has the same name.
    kept = folder / WANDB_FILE
    if done == 0:
        write_whole(kept, secrets.token_hex(8))
    identity = kept.read_text(encoding="utf-8") if kept.is_file() else name
    try:
        run = wandb.init(project=project, name=name, id=identity, dir=str(folder), resume="allow")
    except Exception as error:  # whatever it raises, it is about wandb alone
        raise DktError(
            f"wandb does not begin ({str(error) or repr(error)}); `wandb login`, or set "
            "WANDB_MODE=offline, or --set wandb=null"
        ) from error
    # wandb's own steps only rise, and it drops those that a resumed run does again.
    run.define_metric("*", step_metric="step")
    return run


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """What `numbers` logged, in order; a line that a kill cut short is left out."""
    file = folder / LINES_FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _take_back(file: Path, done: int) -> None:
    # A run that begins anew repeats what was logged before its first step as well.
    kept = [line for line in read_lines(file.parent) if line["step"] <= done and done > 0]
    write_whole(file, "".join(json.dumps(line) + "\n" for line in kept))
