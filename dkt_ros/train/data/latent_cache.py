"""Encoded samples on disk, one safetensors file each, named by a hash of all that made them.

Knows files. Knows nothing of what the tensors mean. Many processes may share a folder: an entry
appears whole or not at all, and whoever writes one writes what the others would have written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.files import PARTIAL, BusyError, shown, write_whole, writing
from dkt_ros.model.weights import file_bytes

_log = logging.getLogger(__name__)
_ADVICE = (
    "make room, name another folder as cache, or lower augmentation.variants, then go on with "
    "--resume"
)
_ABANDONED_S = 3600.0


class LatentCache:
    """A folder of entries.

    remade: each damaged entry that was found and deleted, with what was wrong with it.
    """

    def __init__(self, folder: Path) -> None:
        """Creates the folder; DktError where that is not possible."""
        self.folder = folder
        self.remade: dict[str, str] = {}
        with writing(folder, _ADVICE):
            folder.mkdir(parents=True, exist_ok=True)
            for partial in folder.glob(f"*/*{PARTIAL}"):
                # Left by a process that was killed; a younger one may be being written.
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - partial.stat().st_mtime > _ABANDONED_S:
                        partial.unlink()

    def path(self, key: str) -> Path:
        """Where the entry of that key lies; folders of 256 keep listings short."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The entry's tensors, or None where there is none or a damaged one, which is deleted.

        Raises DktError where the file cannot be read for another reason.
        """
        path = self.path(key)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise DktError(f"{path}: cannot be read ({error.strerror or error})") from error
        except (SafetensorError, OSError, ValueError) as error:
            self._remove(path, str(error))
            return None
        if metadata.get("key") != key or metadata.get("crc32") != _checksum(tensors):
            self._remove(path, "its contents do not match its checksum")
            return None
        return tensors

    def store(self, key: str, tensors: Mapping[str, Tensor], note: str) -> None:
        """Writes an entry; note: says to a human what it is.

        Raises DktError where the disk is full or refuses; no half entry stays behind.
        """
        path = self.path(key)
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"key": key, "crc32": _checksum(whole), "note": note}
        # Another process that writes the entry writes the same.
        with contextlib.suppress(BusyError):
            write_whole(path, file_bytes(whole, metadata), _ADVICE)

    def _remove(self, path: Path, why: str) -> None:
        self.remade[str(path)] = why
        _log.warning("%s: damaged cache entry (%s); deleted, it is made again", path, why)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DktError(f"{path}: damaged, and cannot be deleted ({error})") from error


def content_key(description: Mapping[str, Any]) -> str:
    """A hex digest of plain values; floats count to the last bit."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def files_digest(path: Path) -> str:
    """Hex digest of the identity of a file, or of all files below a folder.

    Their paths, sizes and times of change, not their contents, which would have to be read each
    time; a data set that moved to another path is another one. DktError where it cannot be listed.
    """
    try:
        root = path.resolve()
        files = sorted(file for file in shown(root, "**/*") if file.is_file()) or [root]
        digest = hashlib.sha256()
        for file in files:
            status = file.stat()
            told = f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(os.fsencode(told))
    except OSError as error:
        raise DktError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def module_digest(module: torch.nn.Module, config: Mapping[str, Any]) -> str:
    """Hex digest of a network: configuration, kinds of layers, types and values of all weights."""
    digest = hashlib.sha256(repr(sorted((k, repr(v)) for k, v in config.items())).encode())
    digest.update(repr(sorted({type(part).__name__ for part in module.modules()})).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(_bytes(tensor.detach().cpu()))
    return digest.hexdigest()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(_bytes(tensors[name]), zlib.crc32(name.encode(), value))
    return f"{value:08x}"


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
