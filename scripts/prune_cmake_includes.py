"""Drops include directories that do not exist from the CMake targets of the installed wheels.

The ROS wheels' exported targets name the Python and NumPy include folders of the machine that
built the wheels; CMake stops at each ("Imported target includes non-existent path"). Headers are
found without them, so the missing ones are taken out, in the environment only.

Usage: python prune_cmake_includes.py PREFIX   (the environment's root)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_INCLUDES = re.compile(r'(?P<head>INTERFACE_INCLUDE_DIRECTORIES\s+")(?P<paths>[^"]*)(?P<tail>")')


def prune(text: str) -> str:
    """The CMake file `text` without absolute include directories that do not exist.

    Paths that CMake computes (${...}, $<...>) are kept as they are.
    """

    def keep_existing(match: re.Match[str]) -> str:
        paths = match["paths"].split(";")
        kept = [path for path in paths if not path.startswith("/") or Path(path).is_dir()]
        return match["head"] + ";".join(kept) + match["tail"]

    return _INCLUDES.sub(keep_existing, text)


def prune_prefix(prefix: Path) -> list[Path]:
    """Prunes every CMake file under `prefix`/share; returns the files that changed."""
    changed = []
    for path in sorted((prefix / "share").rglob("*.cmake")):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        pruned = prune(text)
        if pruned != text:
            path.write_text(pruned, encoding="utf-8", errors="surrogateescape")
            changed.append(path)
    return changed


def main() -> int:
    """Command line: prunes the environment named by the only argument."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    changed = prune_prefix(Path(sys.argv[1]))
    print(f"CMake targets without their missing include directories: {len(changed)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
