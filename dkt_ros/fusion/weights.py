"""Which weights fusion uses, one copy of each in memory for all fusers.

Knows where they lie, the package's and a named folder's, and that files may be replaced. Knows
nothing of the networks' layers, nor of what is done with their answers.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dkt_ros.files import sha256
from dkt_ros.fusion.config import SENSORS, FusionConfig
from dkt_ros.fusion.matcher import Matcher, load_matcher, read_matcher
from dkt_ros.fusion.network import (
    INFO_FILE,
    MATCHER_FILE,
    WEIGHTS_FILE,
    Refiner,
    load_refiner,
    read_refiner,
)

_FILES = INFO_FILE, WEIGHTS_FILE, MATCHER_FILE
_ASSETS = Path(__file__).resolve().parents[1] / "assets"


def default_weights(on_scale: bool = True, sensor: str = SENSORS[0]) -> Path:
    """The refiner in the package for networks that are shown raw depth, or for all others.

    sensor: of SENSORS.
    """
    name = "fusion" if sensor == SENSORS[0] else "fusion-light"
    name += "" if on_scale else "-colour"
    return _ASSETS / name


def refiner_of(
    config: FusionConfig, on_scale: bool, device: torch.device
) -> tuple[Refiner, dict[str, Any]]:
    """The named refiner or the package's, only to be read, and its refiner.json.

    Raises DktError where it cannot be used.
    """
    folder = Path(config.weights or default_weights(on_scale, config.sensor)).expanduser()
    return _shared_refiner(folder, device, _written(folder))


def matcher_of(config: FusionConfig, device: torch.device) -> Matcher:
    """The one that lies beside the named refiner, or the package's; as `refiner_of`."""
    folder = Path(config.weights).expanduser()
    if not config.weights or not (folder / MATCHER_FILE).exists():
        folder = _ASSETS / "matcher"
    return _shared_matcher(folder, device, _written(folder))


def check_weights(folder: str | Path) -> None:
    """Raises DktError where a named refiner, or a matcher beside it, cannot be used; "" is none."""
    if folder:
        named = Path(folder).expanduser()
        read_refiner(named)
        if (named / MATCHER_FILE).exists():
            read_matcher(named)


def refiner_state(folder: str | Path) -> str | None:
    """Another where the folder's files hold something else; None of the package's own ("").

    None as well where they cannot be read: whoever loads them says what is wrong.
    """
    if not folder:
        return None
    info, weights, matcher = (Path(folder).expanduser() / name for name in _FILES)
    try:
        files = [info, weights, *([matcher] if matcher.exists() else [])]
        return " ".join(sha256(file)[:16] for file in files)
    except OSError:
        return None


@lru_cache(maxsize=4)
def _shared_refiner(
    folder: Path, device: torch.device, written_ns: tuple[int, ...]
) -> tuple[Refiner, dict[str, Any]]:
    return load_refiner(folder, device)


@lru_cache(maxsize=2)
def _shared_matcher(folder: Path, device: torch.device, written_ns: tuple[int, ...]) -> Matcher:
    return load_matcher(folder, device)


def _written(folder: Path) -> tuple[int, ...]:
    """When each of its files was, in ns; one may be replaced by an older one."""
    files = [folder / name for name in _FILES]
    return tuple(file.stat().st_mtime_ns if os.path.exists(file) else 0 for file in files)
