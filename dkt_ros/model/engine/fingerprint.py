"""Hashes of what an engine is made from: a checkpoint folder, a clip for calibration."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dkt_ros.errors import DktError
from dkt_ros.model.info import INFO_FILE
from dkt_ros.model.weights import sha256


def checkpoint_fingerprint(folder: Path) -> str:
    """SHA-256 over names and contents of the checkpoint's .json and .safetensors files.

    Reads everything: seconds for a checkpoint of some gigabytes. Raises DktError where there is
    none.
    """
    if not (folder / INFO_FILE).is_file():
        raise DktError(f"{folder} is no dkt checkpoint: it has no {INFO_FILE}")
    files = (file for kind in ("*.json", "*.safetensors") for file in folder.rglob(kind))
    digest = hashlib.sha256()
    try:
        for file in sorted(files):
            digest.update(f"{file.relative_to(folder).as_posix()} {sha256(file)}\n".encode())
    except OSError as error:
        raise DktError(f"checkpoint {folder} cannot be read: {error}") from error
    return digest.hexdigest()


def clip_fingerprint(rgb: npt.NDArray[np.uint8]) -> str:
    """SHA-256 over shape and pixels of a clip (T, H, W, 3), wherever it was read from."""
    digest = hashlib.sha256(str(rgb.shape).encode())
    digest.update(np.ascontiguousarray(rgb).tobytes())
    return digest.hexdigest()
