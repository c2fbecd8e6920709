"""Words of a command line to values. Knows argparse; imports no deep learning library."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from pathlib import Path
from typing import Any

DTYPES = ("float32", "bfloat16", "float16")
"""torch's types that networks are stored and computed in."""


def at_home(word: str) -> str:
    """~ at the beginning of a path becomes the home folder, which shells leave in --output=~/x."""
    return re.sub(r"^((?:[^~/=]*=)*)~(?=/|$)", lambda m: m[1] + os.path.expanduser("~"), word)


def given(text: str) -> str:
    """The name of a file or folder; of none, a shell's unset variable makes the current folder."""
    if not text:
        raise argparse.ArgumentTypeError(
            "found an empty name, expected a path; is a variable unset?"
        )
    return text


def path(text: str) -> Path:
    """A path that is given."""
    return Path(given(text))


def positive(text: str) -> int:
    """An integer of at least 1."""
    return _at_least(text, 1)


def finite(text: str) -> float:
    """A number, neither NaN nor infinite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value


def natural(text: str) -> int:
    """An integer of at least 0."""
    return _at_least(text, 0)


def shard(text: str) -> tuple[int, int]:
    """(I, N) of I/N with 0 <= I < N: every N-th, from I."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no I/N with 0 <= I < N, as in 0/4")
    return int(match[1]), int(match[2])


def size(text: str) -> tuple[int, int]:
    """(height, width) of HxW."""
    found = parse_size(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no HxW, such as 480x832")
    return found


def parse_size(text: str) -> tuple[int, int] | None:
    """(height, width) of HxW, both above 0; None for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    return None if 0 in found else found


def as_json(args: argparse.Namespace) -> dict[str, Any]:
    """A command line as JSON holds it, paths as text."""
    words = {name: value for name, value in vars(args).items() if name not in ("run", "command")}
    return dict(json.loads(json.dumps(words, default=str)))


def _at_least(text: str, least: int) -> int:
    value = int(text) if re.fullmatch(r"[+-]?\d+", text.strip()) else None
    if value is None or value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer of at least {least}")
    return value
