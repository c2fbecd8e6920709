"""Progress on stderr: tqdm's bar on a terminal, now and then a line of its own elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

Progress = Callable[[str, int, int], None]
"""on_progress(stage, parts done, parts in all)."""
Report = Callable[[str], None]
"""report(line), which tells what is done or was noticed."""

_LINE_S = 30.0


def no_progress(stage: str, done: int, total: int) -> None:
    """Tells nobody."""


def no_report(line: str) -> None:
    """Tells nobody."""


def progress_bar(total: int | None, unit: str, **options: Any) -> tqdm:
    """A tqdm bar. Lines that shall stay are printed by its `write`; options: as of tqdm.

    Where stderr is no terminal, a line is written every 30 s (mininterval), and `str` of the bar is
    such a line.
    """
    options = {"leave": False, "miniters": 1, "dynamic_ncols": True, **options}
    if not sys.stderr.isatty():
        options["mininterval"] = options["delay"] = options.pop("mininterval", _LINE_S)
        options["bar_format"] = (
            "{desc}{n_fmt}/{total_fmt} {unit}s, {elapsed} spent, {remaining} left, "
            "{rate_fmt}{postfix}"
        )
        options["file"] = _Lines()
    else:
        options.pop("mininterval", None)
    return tqdm(total=total, unit=unit, **options)


class StageProgress:
    """Called with (stage, done, total): a bar for each stage, elsewhere a line at its end."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of the stage."""
        if self._bar is None or stage != self._stage:
            self.end()
            self._stage = stage
            self._bar = progress_bar(total, "step", desc=f"{stage}: ", leave=True)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        """A line that stays."""
        tqdm.write(line, file=sys.stderr)

    def end(self) -> None:
        """Leaves the last stage's line behind."""
        if self._bar is not None:
            if not sys.stderr.isatty():
                print(self._bar, file=sys.stderr, flush=True)
            self._bar.close()
            self._bar = None


class _Lines:
    """What tqdm writes to, where a line cannot be rewritten."""

    encoding = "ascii"

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass
