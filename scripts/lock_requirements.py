"""Writes the versions that are installed as constraints: `make lock` > requirements/lock.txt.

Only what pip installed counts: the ROS wheels register their Python modules a second time under
names that no index knows. Local version labels (torch's +cpu) are left out, so that the same lock
serves a machine with a GPU. Of the extras that are not installed the earlier pins stay.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

_FILES = Path(__file__).resolve().parents[1] / "requirements"

_HEADER = """\
# The exact versions that the environment is built and tested with, transitive ones included.
# CPython {python}. Written by `make lock`; what is asked for stands in the files beside it."""


def main() -> int:
    """Prints the lock of the running interpreter's environment."""
    pins = {
        f"{name.lower()}=={distribution.version.partition('+')[0]}"
        for distribution in distributions()
        if (name := distribution.metadata["Name"]) != "pip"
        and (distribution.read_text("INSTALLER") or "").strip() == "pip"
    }
    asked = {
        re.split(r"[^\w.-]", line, maxsplit=1)[0].lower()
        for file in _FILES.glob("*.txt")
        if file.name != "lock.txt"
        for line in file.read_text(encoding="utf-8").splitlines()
    }
    installed = {pin.partition("==")[0] for pin in pins}
    for pin in (_FILES / "lock.txt").read_text(encoding="utf-8").split("\n"):
        if (name := pin.partition("==")[0]) and name in asked - installed:
            pins.add(pin)
    print(_HEADER.format(python=".".join(map(str, sys.version_info[:2]))))
    print(*sorted(pins), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
