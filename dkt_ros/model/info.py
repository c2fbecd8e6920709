"""What `dkt.json` says about a checkpoint. Knows nothing of weights and loads no network."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkt_ros.checks import check, shown
from dkt_ros.errors import DktError
from dkt_ros.wording import NAME, is_name

FORMAT_VERSION = 1
INFO_FILE = "dkt.json"
TASKS = ("depth", "normal")
CONDITIONS = ("none", "raw_depth", "from_raw_depth")
_LARGEST = 2**31 - 1
SIZE_MULTIPLE = 16
"""Image sides the network takes are multiples of this: 8 in the VAE times 2 in the patches."""
PROMPT_TOKENS = 512
"""Of Wan's prompts, which are padded to as many."""


@dataclass(frozen=True)
class CheckpointInfo:
    """The contents of `dkt.json`.

    name: what the checkpoint is called in reports. task: "depth" (relative disparity) or "normal".
    steps, sigma_shift, window, overlap: the sampler's defaults; window and overlap count latent
    frames. height, width: training resolution in pixels. text_tokens: length to which the stored
    prompt embedding is padded with zeros. buffer_frames: 4N+1, how many of the newest frames the
    exact sampler does best to look at where frames arrive one by one. clip: latent frames of the
    longest clip that the live sampler makes of a stream before it begins another; 0: it never
    begins another (benchmarks/live_drift.py shows which hold). condition: what the network is shown
    beside RGB: "raw_depth" (condition.py), with which its disparity is in 1/m; "from_raw_depth":
    the same, and the flow begins at its latents instead of noise, so that the network has only to
    say what changes; or "none". origin: one sentence saying where the weights come from.
    sources: name of each source file -> its SHA-256.

    Raises DktError naming the field that is wrong.
    """

    name: str
    task: str = "depth"
    steps: int = 5
    sigma_shift: float = 5.0
    window: int = 21
    overlap: int = 3
    height: int = 480
    width: int = 832
    text_tokens: int = PROMPT_TOKENS
    buffer_frames: int = 5
    clip: int = 0
    condition: str = "none"
    origin: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        version = _integer("format_version", self.format_version)
        if version != FORMAT_VERSION:
            raise DktError(
                f"format_version is {version}, this dkt_ros reads {FORMAT_VERSION}; "
                "convert the checkpoint again or install the matching dkt_ros"
            )
        check("name", self.name, NAME, is_name(self.name))
        check("task", self.task, f"one of {', '.join(TASKS)}", self.task in TASKS)
        for name in ("steps", "window", "text_tokens"):
            check(name, getattr(self, name), "at least 1", _integer(name, getattr(self, name)) > 0)
        overlap = _integer("overlap", self.overlap)
        check(
            "overlap", overlap, f"0 to window - 1 = {self.window - 1}", 0 <= overlap < self.window
        )
        for name in ("height", "width"):
            side = _integer(name, getattr(self, name))
            expected = f"a positive multiple of {SIZE_MULTIPLE} pixels"
            check(name, side, expected, side > 0 and side % SIZE_MULTIPLE == 0)
        frames = _integer("buffer_frames", self.buffer_frames)
        check("buffer_frames", frames, "4N+1: 1, 5, 9, ...", frames > 0 and frames % 4 == 1)
        check("clip", self.clip, "0 or more", _integer("clip", self.clip) >= 0)
        expected = f"one of {', '.join(CONDITIONS)}"
        check("condition", self.condition, expected, self.condition in CONDITIONS)
        shift = self.sigma_shift
        is_number = isinstance(shift, (int, float)) and not isinstance(shift, bool)
        valid_shift = is_number and 0 < shift <= sys.float_info.max
        check("sigma_shift", shift, "a finite number above 0", valid_shift)
        check("origin", self.origin, "a string", isinstance(self.origin, str))
        hashes = isinstance(self.sources, Mapping) and all(
            isinstance(key, str) and isinstance(value, str) for key, value in self.sources.items()
        )
        check("sources", self.sources, "a mapping of file name to SHA-256", hashes)

    @property
    def sees_depth(self) -> bool:
        """Whether the network is shown raw depth beside RGB."""
        return self.condition != "none"

    @property
    def begins_at_raw_depth(self) -> bool:
        """Whether the flow of a clip with raw depth begins there instead of at noise."""
        return self.condition == "from_raw_depth"

    def one_by_one(self, window: int | None) -> bool:
        """Whether each frame of a video with raw depth is answered by itself, as is best here.

        window: latent frames that were asked for, if any.
        """
        return self.sees_depth and self.buffer_frames == 1 and window is None

    @classmethod
    def read(cls, path: Path) -> CheckpointInfo:
        """Reads a checkpoint folder's `dkt.json`; raises DktError naming the file and the field."""
        file = path / INFO_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            instead = found_instead(path) or "is no dkt checkpoint; make one with `dkt convert`"
            raise DktError(f"{file} is missing, so {path} {instead}") from None
        # Of numbers with too many digits Python's json raises a plain ValueError.
        except (OSError, ValueError, RecursionError) as error:
            raise DktError(f"{file} cannot be read as JSON: {error}") from error
        try:
            return cls.from_dict(content)
        except DktError as error:
            raise DktError(f"{file}: {error}") from error

    @classmethod
    def from_dict(cls, content: Any) -> CheckpointInfo:
        """Builds the info from parsed JSON; unknown or missing fields are errors by name."""
        if not isinstance(content, dict):
            raise DktError(f"expected a JSON object, found {type(content).__name__}")
        # The version comes first: fields of another version would only confuse.
        if "format_version" not in content:
            raise DktError(f"format_version is missing, expected {FORMAT_VERSION}")
        if content["format_version"] != FORMAT_VERSION:
            cls(name="unread", format_version=content["format_version"])
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise DktError(f"unknown fields {unknown}; known are {sorted(known)}")
        if "name" not in content:
            raise DktError("name is missing")
        return cls(**content)

    def write(self, path: Path) -> None:
        """Writes `dkt.json` into the checkpoint folder `path`."""
        content = dataclasses.asdict(self)
        (path / INFO_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def found_instead(folder: Path) -> str:
    """What a folder without dkt.json is taken for by mistake, in words; empty: nothing known."""
    # Hidden is what was being written.
    if below := sorted(str(file.parent) for file in folder.glob(f"[!.]*/{INFO_FILE}")):
        return f"is no checkpoint, but holds one: name {' or '.join(below[:3])}"
    if (folder.parent / INFO_FILE).is_file():
        return f"is a part of one: name {folder.parent}"
    if (folder / "adapter_config.json").is_file():
        return "is a LoRA, to be merged with `dkt convert --checkpoint BASE --lora`"
    if any(next(folder.glob(f"{below}state.pt"), None) for below in ("", "step-*/", "states/*/")):
        return "is of a run: `dkt train --export` with its recipe writes a checkpoint"
    return ""


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise DktError(f"{name} is {shown(value)}, expected an integer")
    check(name, value, f"an integer of at most {_LARGEST}", abs(value) <= _LARGEST)
    return value
