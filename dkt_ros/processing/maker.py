"""What an output depends on beside its recording, the options and the files that they name.

Knows this package's files, the libraries that compute, and devices. A run that was interrupted is
gone on from by the same alone; what is whole is kept whatever made it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from dkt_ros.files import code_digest, sha256, shown

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


def version() -> str:
    """Of this package."""
    return _version_of("dkt_ros") or "from sources"


@lru_cache(maxsize=1)
def code_state() -> str:
    """Another where code or weights of this package, or a library that computes, are others."""
    digest = hashlib.sha256(state_of_files(_PACKAGE).encode())
    for library in _LIBRARIES:
        digest.update(f"{library} {_version_of(library)}\n".encode())
    return digest.hexdigest()[:16]


def state_of_files(package: Path) -> str:
    """Another where modules of a folder such as the package's compute, or weights are, another."""
    code = [
        file
        for file in shown(package, "**/*.py")
        if file.relative_to(package).parts[0] not in _APART
    ]
    weights = [file for name in _WEIGHTS for file in shown(package, f"assets/{name}/*")]
    digest = hashlib.sha256()
    for file in sorted(file for file in (*code, *weights) if file.is_file()):
        held = code_digest(file) if file.suffix == ".py" else sha256(file)
        digest.update(f"{file.relative_to(package).as_posix()} {held}\n".encode())
    return digest.hexdigest()


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
