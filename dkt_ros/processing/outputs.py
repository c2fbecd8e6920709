"""Outputs of `dkt process`, found and read back. Knows their files, and what readers count on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.processing.find_sources import MANIFEST, SUMMARY
from dkt_ros.processing.many import read_manifest
from dkt_ros.processing.one import FRAMES

Figures = dict[str, Any]
"""What figures.py tells of one frame."""
_NUMBER = (int, float)


@dataclass(frozen=True)
class _Each:
    """A mapping of whatever names to values of one kind."""

    kind: Any


_SUMMARY = {
    **dict.fromkeys(("name", "kind", "recording", "origin", "version", "fingerprint"), str),
    **dict.fromkeys(("frames", "answered", "between_answers"), int),
    **dict.fromkeys(("elapsed_s", "inference_s", "frames_per_s", "peak_memory_mb"), _NUMBER),
    **dict.fromkeys(("states", "restarts", "unpaired"), _Each(int)),
    "network": dict.fromkeys(("name", "mode", "device"), str),
    "options": dict,
    **dict.fromkeys(("lost", "notes"), list),
    "times_real_time": (*_NUMBER, type(None)),
}
_FIGURES = {
    **dict.fromkeys(("index", "stamp_ns"), int),
    **dict.fromkeys(("state", "reason"), str),
    **dict.fromkeys(("errors", "raw_errors"), _Each({"rel": (*_NUMBER, type(None))})),
    "timings_s": _Each((*_NUMBER, type(None))),
    **dict.fromkeys(
        (
            *("coverage", "raw_coverage", "share_network", "scale", "shift", "inlier_ratio"),
            *("residual_m", "uncertainty", "confidence", "network_rel"),
        ),
        (*_NUMBER, type(None)),
    ),
}
"""What is read of files that another version may have written, or a fault of the disk changed."""


@dataclass(frozen=True)
class Output:
    """One recording's output. frames: the figures of each answered frame."""

    folder: Path
    summary: dict[str, Any]
    frames: list[Figures]

    @property
    def name(self) -> str:
        """The recording's."""
        return str(self.summary["name"])


@dataclass
class Outputs:
    """What was found below the folders. failed: name -> outcome and reason, of the manifests."""

    outputs: list[Output] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def read_output(folder: Path) -> Output:
    """An output folder of one recording. Raises DktError where it is none, or not whole."""
    try:
        summary = dict(json.loads((folder / SUMMARY).read_text(encoding="utf-8")))
        if "fingerprint" not in summary:
            raise ValueError(f"{SUMMARY} is of something else")
        _check(summary, _SUMMARY, SUMMARY)
        lines = (folder / FRAMES).read_text(encoding="utf-8").splitlines()
        frames = [dict(json.loads(line)) for line in lines]
        for number, frame in enumerate(frames, start=1):
            _check(frame, _FIGURES, f"{FRAMES} line {number}")
        return Output(folder, summary, frames)
    except (OSError, ValueError, TypeError) as error:
        raise DktError(
            f"{folder}: no whole output of `dkt process` ({error}); run that first"
        ) from error


def _check(told: dict[str, Any], kinds: Mapping[str, Any], source: str) -> None:
    wrong = [name for name, kind in kinds.items() if not _fits(told, {name: kind})]
    if wrong:
        raise ValueError(
            f"{source} has no usable {', '.join(wrong)}: damaged, or another version's"
        )


def _fits(value: Any, kind: Any) -> bool:
    """kind: as isinstance takes it, the kinds of named values, or _Each."""
    if isinstance(kind, _Each):
        return isinstance(value, dict) and all(_fits(one, kind.kind) for one in value.values())
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(
            name in value and _fits(value[name], one) for name, one in kind.items()
        )
    return isinstance(value, kind)


def read_outputs(folders: Sequence[Path]) -> Outputs:
    """Outputs of single recordings, and all below folders with a manifest, each once.

    Raises DktError.
    """
    found = Outputs()
    seen: set[Path] = set()

    def add(folder: Path) -> None:
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            found.outputs.append(read_output(folder))

    for folder in folders:
        if not (folder / MANIFEST).is_file():
            add(folder)
            continue
        for name, entry in read_manifest(folder / MANIFEST)["recordings"].items():
            if "error" in entry:
                found.failed[name] = f"{entry.get('outcome', 'failed')}: {entry['error']}"
            elif (folder / name / SUMMARY).is_file():
                add(folder / name)
            else:
                found.failed[name] = f"{folder / name} is gone; process it again"
    if not found.outputs and not found.failed:
        names = ", ".join(map(str, folders))
        raise DktError(f"{names}: no output of `dkt process` there; run that first")
    return found
