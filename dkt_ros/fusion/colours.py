"""Faults of a colour picture: it shows nothing, was cut short, or is registered to depth.

Knows one frame's picture, and where depth has readings. Knows nothing of streams. Each fault is
told in a sentence, "" where there is none; scores gets the numbers behind it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import quantiles
from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

_ROWS = 60  # that are looked at
_BROKEN_OFF, _ALIKE_ELSEWHERE = 0.1, 0.1  # share of them that are alike, below and above that
_SHOWS = 17, 249  # of 255, between black of video and white that burnt out
_ROWS_ABOVE, _BROKEN = 17, 0.5  # beyond a JPEG's blocks, and the share of columns that end
_BLACK, _NOTHING = 12, 2  # of 255, what is left of nothing in a JPEG, near its edges and within
_BLACK_THERE, _BLACK_ELSEWHERE = 0.8, 0.02  # shares of the pixels without and with a reading
_NOTHING_THERE = 0.5  # of those without; black things, which have no reading either, have noise
_UNREAD = 0.01, 0.9  # share of the pixels that have none, where that tells anything


def nothing_seen(rgb: NDArray[np.uint8], grey: Float32, scores: dict[str, float]) -> str:
    """Whether a picture is without information; grey (h, w): the same, small."""
    low, middle, high = quantiles(grey[::3, ::3], 0.02, 0.5, 0.98)
    spread = high - low
    rows = rgb[:: max(1, rgb.shape[0] // 20), :, 1].astype(np.float32)
    rows = rows - rows.mean()
    smooth = 1.0  # of one column, in which no pixel has a neighbour
    if rows.shape[1] > 1:
        smooth = float(
            (rows[:, 1:] * rows[:, :-1]).mean() / max(float(np.square(rows).mean()), 1e-6)
        )
    burnt = np.count_nonzero(grey > 250) / grey.size
    scores |= {"colour_spread": spread, "colour_smooth": smooth, "colour_burnt": burnt}
    text = ""
    if spread < 10:
        what = "black" if middle < 16 else "white" if middle > 239 else "of one grey"
        text = f"the colour image is {what} (its grey levels spread by {spread:.0f} of 255)"
    elif burnt > 0.8:
        text = f"{burnt:.0%} of the colour image are saturated"
    elif smooth < 0.3:
        text = f"the colour image is noise (neighbouring pixels correlate by {smooth:.2f})"
    return text and f"{text}: is the camera well?"


def broken_off(rgb: NDArray[np.uint8], raw: Float32 | None, scores: dict[str, float]) -> str:
    """Whether the lower rows are all alike to the bit, as of a JPEG that was cut short.

    Decoders go on with grey, green or the last row; a camera's noise makes no row twice the same.
    Nor has a bar that was put below a picture; where it was put below depth (H, W) too, or is above
    as well, that is all it is.
    """
    scores["rows_alike"] = 0.0
    if (rgb[-1] != rgb[-2:][0]).any():
        return ""
    rows = np.arange(1, rgb.shape[0])[:: -max(1, rgb.shape[0] // _ROWS)]
    shows = (rgb[rows] >= _SHOWS[0]) & (rgb[rows] <= _SHOWS[1])
    alike = (rgb[rows] == rgb[rows - 1]).all((1, 2)) & shows.any((1, 2))
    count = int(np.argmin(alike)) if not alike.all() else 0
    share = count / len(rows) if count else 0.0
    scores["rows_alike"] = share
    # What was drawn or enlarged has such rows elsewhere too.
    if share < _BROKEN_OFF or alike[count:].mean() > _ALIKE_ELSEWHERE:
        return ""
    # What a simulator draws plain ends in some columns first, at what stands before it.
    above = rgb[max(0, rows[count] - _ROWS_ABOVE)]
    if (above != rgb[-1]).any(1).mean() < _BROKEN:
        return ""
    barred = None if raw is None else raw[rows[count - 1] :: max(1, len(raw) // _ROWS)]
    if (rgb[:2] == rgb[-1]).all() or (barred is not None and not is_reading(barred).any()):
        return ""
    return (
        f"the colour image's lowest {share:.0%} are the same row to the bit: was it cut short "
        "before it was decoded, or is a bar put below it?"
    )


def registered_to_depth(rgb: NDArray[np.uint8], raw: Float32, scores: dict[str, float]) -> str:
    """Whether colour is black just where depth (H, W) has no reading."""
    stride = max(1, min(raw.shape) // _ROWS)
    some = rgb[::stride, ::stride]
    known = is_reading(raw[::stride, ::stride])
    unread = 1.0 - np.count_nonzero(known) / known.size
    if not _UNREAD[0] <= unread <= _UNREAD[1]:
        return ""
    unseen = some[~known]
    scores["black_there"] = there = _share(unseen, _BLACK)
    if there < _BLACK_THERE or _share(unseen, _NOTHING) < _NOTHING_THERE:
        return ""
    scores["black_elsewhere"] = elsewhere = _share(some[known], _BLACK)
    if elsewhere > _BLACK_ELSEWHERE:
        return ""
    return (
        "the colour image is black where the raw depth has no reading, and there alone: it seems "
        "to be registered to the depth"
    )


def _share(colours: NDArray[np.uint8], black: int) -> float:
    """Of pixels (n, 3) that are as black as that."""
    return float((colours <= black).all(-1).mean())
