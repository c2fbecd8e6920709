"""What lies beyond the range that a network shown raw depth answers in: its answer to colour tells.

Knows two answers to one picture, with its readings and without. Knows nothing of how they are made.

With readings the answer lies in their range and a little more (model/condition.py). Glass that no
sensor sees may stand nearer than that, a wall may stand farther than the sensor reaches; the answer
ends there. To colour alone it is relative and has no end: on the scale that both answers share
within the range, it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np

from dkt_ros.arrays import Array, median, namespace, to_host
from dkt_ros.model.condition import DisparityRange

_NEAR, _FAR = (0.8, 0.9), (0.1, 0.05)
"""Of the range: from the first on colour is heard by degrees, from the second on alone."""
_ASKED, _GO_ON = (0.01, 0.05), (0.005, 0.02)
"""Shares of the picture at the near end and at the far one from which colour is asked; and once it
was, lest what stands at the limit come and go. A little far away is worth no second look."""
_SURE, _BENT, _FARTHEST = 2.0, 8.0, 0.5
"""A wall has to be farther by so many times what both differ by, and what colour is too far by near
the far end, where it bends away: a small error of its disparity is a large one of its depth. To
what share of the disparity at most."""
_NEAR_FAR_END, _SOME = (0.05, 0.25), 50
"""Of the range, and pixels that tell it there."""
_SEEN, _TELLING, _FEWEST = 20000, 500, 100
"""Pixels that are looked at, and within the range those that tell the scale."""
_ALIKE = 0.7, 0.6
"""Correlation of both answers within the range: with less one of both has not understood it. To
begin with, and while it is heard."""
_MOST_VAIN = 4
"""Times that colour was asked in vain, one after the other, which count: each doubles the frames in
which it is not asked, 0, 1, 3, 7, 15."""
_SHARE, _OTHER = 0.1, 0.3
"""Of what is new in the scale, which noise moves and what lies far beyond with it; relative change
of the nearest that is another scene's."""


@dataclass(frozen=True)
class _Line:
    """From colour's answer to 1/m, and by how much a wall has to be farther, 1/m."""

    scale: float
    shift: float
    margin: float


class Beyond:
    """One stream's pictures, each answered by itself."""

    def __init__(self) -> None:
        self._asked = False, False
        self._line: _Line | None = None
        self._heard = False
        self._vain = self._pause = 0

    def of(self, answer: Array, limits: DisparityRange, colour: Callable[[], Array]) -> Array:
        """The answer (H, W) in [0, 1] of the range, above or below where colour says so.

        colour: asked where needed, for the answer without readings, (H, W) up to scale and shift.
        Both are numpy's, or tensors on one device. What is near becomes no farther, what is far no
        nearer.
        """
        near, far = self._asked = self._ends(answer)
        if not (near or far):
            self._line, self._heard, self._vain, self._pause = None, False, 0, 0
            return answer
        if self._pause:
            self._pause -= 1
            return answer
        alone = colour()
        line = _line(answer, alone, limits, _ALIKE[self._heard])
        self._heard = line is not None
        if line is None:
            self._pause = 2**self._vain - 1
            self._vain = min(self._vain + 1, _MOST_VAIN)
            return answer
        self._vain = 0
        self._line = line = _mean(self._line, line)
        width, low = limits.high - limits.low, limits.low
        on_scale = alone * (line.scale / width) + (line.shift - low) / width
        found = answer
        if near:
            found = found + _heard(answer, *_NEAR) * (on_scale - answer).clip(0.0)
        if far:
            gone = (answer - on_scale - line.margin / width).clip(0.0)
            most = (answer + low / width) * (1.0 - _FARTHEST)
            found = found - _heard(answer, *_FAR) * namespace(answer).minimum(gone, most)
        return found

    def _ends(self, answer: Array) -> tuple[bool, bool]:
        """Whether so much lies at the near end, and at the far one."""
        at_end = answer >= _NEAR[1], answer <= _FAR[1]
        count = answer.shape[0] * answer.shape[1]
        near, far = (
            float(one.sum()) / count >= (go_on if asked else least)
            for one, asked, least, go_on in zip(at_end, self._asked, _ASKED, _GO_ON, strict=True)
        )
        return near, far


def _heard(answer: Array, begins: float, ends: float) -> Array:
    return ((answer - begins) / (ends - begins)).clip(0.0, 1.0)


def _line(answer: Array, colour: Array, limits: DisparityRange, alike: float) -> _Line | None:
    """By what lies within the range; None where that does not tell it.

    alike: the least correlation.
    By Theil (1950) and Sen (1968): readings through glass, which one of both believes, have no say.
    """
    every = max(1, answer.shape[0] * answer.shape[1] // _SEEN)
    answers, colours = (to_host(one.ravel()[::every]) for one in (answer, colour))
    within = np.flatnonzero((answers > _FAR[0]) & (answers < _NEAR[0]))
    within = within[:: 1 + len(within) // _TELLING]
    x, y = colours[within], limits.disparity(answers[within])
    if len(within) < _FEWEST or not np.isfinite(x).all() or min(x.std(), y.std()) == 0:
        return None
    if np.corrcoef(x, y)[0, 1] < alike:
        return None
    first, second = np.triu_indices(len(x), 1)
    across = x[first] - x[second]
    some = np.flatnonzero(across)
    scale = median((y[first] - y[second])[some] / across[some])
    if scale <= 0:
        return None
    off = y - scale * x
    shift = median(off)
    low, high = _NEAR_FAR_END
    there = np.flatnonzero((answers > low) & (answers < high))
    bent = 0.0
    if len(there) >= _SOME:
        found = scale * colours[there] + shift
        bent = max(0.0, -median(found - limits.disparity(answers[there])))
    spread = 1.4826 * median(np.abs(off - shift))
    return _Line(scale, shift, _SURE * spread + _BENT * bent)


def _mean(before: _Line | None, line: _Line) -> _Line:
    """Of the lines of a stream, up to another scene's."""
    if before is None:
        return line
    old, new = before.scale + before.shift, line.scale + line.shift  # at 1, where it is nearest
    if abs(new - old) > _OTHER * old:
        return line
    return _Line(
        *(
            then + _SHARE * (now - then)
            for then, now in zip(astuple(before), astuple(line), strict=True)
        )
    )
