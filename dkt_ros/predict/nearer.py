"""What stands nearer than a network that is shown raw depth can say: its answer to colour tells.

Knows two answers to one picture, with its readings and without. Knows nothing of how they are made.

With readings the answer lies in their range and a little more (model/condition.py). Where a sensor
sees glass nowhere, or nothing near, glass may stand nearer than that, and the answer ends there. To
colour alone it is relative and has no end: on the scale that both share elsewhere, it goes on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dkt_ros.arrays import Array, median, to_host
from dkt_ros.model.condition import DisparityRange

_BEGINS, _ENDS = 0.8, 0.9
"""Of the range: from the first on colour is heard by degrees, from the second on alone."""
_MANY, _GO_ON = 0.01, 0.005
"""Shares of the picture at the end, from which colour is asked; and once it was, lest what stands
at the limit come and go."""
_SEEN, _TELLING, _FEWEST = 20000, 500, 100
"""Pixels that are looked at, and within the range those that tell the scale."""
_SHARE, _OTHER = 0.1, 0.3
"""Of what is new in the scale, which noise moves and what lies far beyond with it; relative change
of the nearest that is another scene's."""
_ALIKE = 0.7
"""Correlation of both answers within the range: with less one of both has not understood it."""


class Nearer:
    """One stream's pictures, each answered by itself."""

    def __init__(self) -> None:
        self._asked = False
        self._line: tuple[float, float] | None = None  # of colour's answer, 1/m

    def of(self, answer: Array, limits: DisparityRange, colour: Callable[[], Array]) -> Array:
        """The answer (H, W) in [0, 1] of the range, above 1 where colour says that it is nearer.

        colour: asked where needed, for the answer without readings, (H, W) up to scale and shift.
        Both are numpy's, or tensors on one device. Nothing becomes farther.
        """
        share = float((answer >= _ENDS).sum()) / (answer.shape[0] * answer.shape[1])
        self._asked = share >= (_GO_ON if self._asked else _MANY)
        if not self._asked:
            self._line = None
            return answer
        alone = colour()
        line = _line(answer, alone, limits)
        if line is None:
            return answer
        scale, shift = self._line = _mean(self._line, line)
        heard = ((answer - _BEGINS) / (_ENDS - _BEGINS)).clip(0.0, 1.0)
        width = limits.high - limits.low
        beyond = (alone * (scale / width) + (shift - limits.low) / width - answer).clip(0.0)
        return answer + heard * beyond


def _line(answer: Array, colour: Array, limits: DisparityRange) -> tuple[float, float] | None:
    """Scale and shift from colour's answer to 1/m, by what lies within the range; None: not told.

    By Theil (1950) and Sen (1968): readings through glass, which one of both believes, have no say.
    """
    y, x = (to_host(one).ravel()[:: max(1, len(one.ravel()) // _SEEN)] for one in (answer, colour))
    within = np.flatnonzero((y > 1 - _ENDS) & (y < _BEGINS))
    within = within[:: 1 + len(within) // _TELLING]
    x, y = x[within], limits.disparity(y[within])
    if len(within) < _FEWEST or min(x.std(), y.std()) == 0:
        return None
    if np.corrcoef(x, y)[0, 1] < _ALIKE:
        return None
    first, second = np.triu_indices(len(x), 1)
    across = x[first] - x[second]
    some = np.flatnonzero(across)
    scale = median((y[first] - y[second])[some] / across[some])
    return scale, median(y - scale * x)


def _mean(before: tuple[float, float] | None, line: tuple[float, float]) -> tuple[float, float]:
    """Of the lines of a stream, up to another scene's."""
    if before is None:
        return line
    old, new = sum(before), sum(line)  # where colour's answer is nearest, at 1
    if abs(new - old) > _OTHER * old:
        return line
    return (
        before[0] + _SHARE * (line[0] - before[0]),
        before[1] + _SHARE * (line[1] - before[1]),
    )
