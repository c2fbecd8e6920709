"""The files of an engine's folder against the hashes that engine.json has of them.

Knows the manifest and hashes; of plans, which hold programs, plans.py knows more. Knows nothing of
what is in a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.model.engine.manifest import Manifest
from dkt_ros.model.weights import sha256


def file_hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """File name -> SHA-256, of files that are there. Reads them whole."""
    return {name: sha256(folder / name) for name in names}


def changed_files(
    folder: Path, manifest: Manifest, names: Iterable[str] | None = None
) -> list[str]:
    """What is wrong with these files, in words; None: all but the plans. Reads them whole."""
    found = []
    for name in manifest.files if names is None else names:
        expected, file = manifest.files.get(name), folder / name
        if not file.is_file():
            found.append(f"{name} is missing")
        elif expected is None:
            found.append(f"{name} is none of the files that engine.json names")
        elif (digest := sha256(file)) != expected:
            found.append(
                f"{name} has SHA-256 {digest[:12]}..., engine.json says {expected[:12]}..."
            )
    return found


def require_unchanged(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Raises DktError unless these files are those that were written with engine.json."""
    found = changed_files(folder, manifest, names)
    if found:
        raise DktError(
            f"engine {folder} is not whole: {'; '.join(found)}; build it again with "
            "`dkt engine build`"
        )
