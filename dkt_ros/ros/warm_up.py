"""Runs the network on black frames before the first real one, for every shape that will come.

Knows how clips and windows grow. Knows nothing of how frames are computed. On a GPU the first call
with a shape compiles, and the second is recorded (see cuda_graphs.py): both are had here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dkt_ros.model.live_options import LiveOptions
    from dkt_ros.ros.predictors import NetworkPredictor, StreamPredictor

Report = Callable[[int, int], None]
"""report(parts done, parts in all)."""


def warm_up(
    predictor: NetworkPredictor, size: tuple[int, int], frames: int, whole: bool, report: Report
) -> None:
    """Clips of (height, width) as a buffer of `frames` frames gives them.

    whole: every length, and each as often as a GPU needs; else the shortest and the longest once.
    """
    lengths = range(1, frames + 1, 4) if whole else sorted({1, frames})
    clips = [count for count in lengths for _ in range(2 if whole else 1)]
    for done, count in enumerate(clips):
        report(done, len(clips))
        predictor(np.zeros((count, *size, 3), dtype=np.uint8))
    report(len(clips), len(clips))


def warm_up_live(
    predictor: StreamPredictor, size: tuple[int, int], whole: bool, report: Report
) -> None:
    """A stream of (height, width), forgotten afterwards.

    whole: until windows grow no more, as often as a GPU needs; else the first frame and one window.
    """
    options, black = predictor.options, np.zeros((*size, 3), dtype=np.uint8)
    windows = windows_until_full(options) if whole else 1
    streams = 2 if whole else 1
    total, done = streams * (1 + windows), 0
    for _ in range(streams):
        for window in range(1 + windows):
            report(done, total)
            for _ in range(4 * options.new if window else 1):
                predictor.push(black)
            done += 1
        predictor.reset()
    report(done, total)


def windows_until_full(options: LiveOptions) -> int:
    """After how many windows, the first frame's not counted, a stream's windows grow no more."""
    return -(-options.window // options.new) + 1
