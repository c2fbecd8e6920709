"""One hash of a checkpoint folder, to tell whether an engine was made from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

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
