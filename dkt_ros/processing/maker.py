"""What an output depends on beside its recording, the options and the files that they name.

Knows this package's files, the libraries that compute, and devices. A run that was interrupted is
gone on from by the same alone; what is whole is kept whatever made it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.files import code_digest, sha256, shown, user_cache, write_whole
from dkt_ros.versions import version_of

_PACKAGE = Path(__file__).resolve().parents[1]
_APART = ("bench", "ros", "synth", "train", "view")
"""Parts of the package that nothing here imports, by a contract of import-linter's."""
_WEIGHTS = ("fusion*", "matcher")
"""Of assets/; a checkpoint is named by the options."""
_LIBRARIES = (
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "opencv-python",
    "tensorrt",
    "torch",
)


@lru_cache(maxsize=1)
def code_state() -> str:
    """Another where code or weights of this package, or a library that computes, are others."""
    digest = hashlib.sha256(kept_state(_PACKAGE).encode())
    for library in _LIBRARIES:
        digest.update(f"{library} {version_of(library)}\n".encode())
    return digest.hexdigest()[:16]


def kept_state(package: Path) -> str:
    """state_of_files, which takes a second, from the user's cache while no byte is another."""
    # Of one code Pythons have syntax trees of their own.
    written = _digest(package, sha256) + f" {sys.version}".replace("\n", " ")
    try:
        kept = user_cache() / "code" / hashlib.sha256(os.fsencode(package)).hexdigest()[:16]
    except RuntimeError:  # a service without a home
        return state_of_files(package)
    with suppress(OSError, ValueError):
        before, state = kept.read_text(encoding="utf-8").splitlines()
        if before == written:
            return state
    state = state_of_files(package)
    with suppress(DktError):
        write_whole(kept, f"{written}\n{state}\n")
    return state


def state_of_files(package: Path) -> str:
    """Another where modules of a folder such as the package's compute, or weights are, another."""
    return _digest(package, lambda file: (code_digest if file.suffix == ".py" else sha256)(file))


def _digest(package: Path, held: Callable[[Path], str]) -> str:
    """Of what `held` tells of each file."""
    code = [
        file
        for file in shown(package, "**/*.py")
        if file.relative_to(package).parts[0] not in _APART
    ]
    weights = [file for name in _WEIGHTS for file in shown(package, f"assets/{name}/*")]
    digest = hashlib.sha256()
    for file in sorted(file for file in (*code, *weights) if file.is_file()):
        digest.update(f"{file.relative_to(package).as_posix()} {held(file)}\n".encode())
    return digest.hexdigest()
