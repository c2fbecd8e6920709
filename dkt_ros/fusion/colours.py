"""Faults of a colour picture: it is dark, shows nothing, was cut short, is registered to depth.

Knows one frame's picture, and where depth has readings. Knows nothing of streams. Darkness is
mended; each other fault is told in a sentence, "" where there is none; scores gets the numbers
behind it.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, quantiles
from dkt_ros.fusion.registration import EDGE_SIZE
from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

SMALL = 80, 144  # (h, w) that pictures are compared at
_ROWS = 60  # that are looked at
_LIGHT = 110  # of 255, which some of a picture that is light enough is beyond
_PLAIN = 10  # grey levels between dark and light parts, of which less show nothing
_READABLE, _NOISE = 0.5, 0.3  # correlation of neighbours, of dark pictures and of any
_BURNT = 0.8  # share of the pixels
_CLEARLY = 1.2  # times as far, at which a picture is beyond these limits whatever its noise
_BY_DEGREES = 0.2  # of correlation, within which of the former a picture is brightened by degrees
_BROKEN_OFF, _ALIKE_ELSEWHERE = 0.1, 0.1  # share of them that are alike, below and above that
_SHOWS = 17, 249  # of 255, between black of video and white that burnt out
_ROWS_ABOVE, _BROKEN = 17, 0.5  # beyond a JPEG's blocks, and the share of columns that end
_BLACK, _NOTHING = 12, 2  # of 255, what is left of nothing in a JPEG, near its edges and within
_BLACK_THERE, _BLACK_ELSEWHERE = 0.8, 0.02  # shares of the pixels without and with a reading
_NOTHING_THERE = 0.5  # of those without; black things, which have no reading either, have noise
_UNREAD = 0.01, 0.9  # share of the pixels that have none, where that tells anything


def brightened(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A dark picture as networks know them by day; the same where it is light, or shows nothing.

    At a tenth of the light depth in holes was off by twice as much without it, and with it by no
    more than by day. No noise near a limit makes brightness step, which depth would follow.
    """
    stride = max(1, min(rgb.shape[:2]) // _ROWS)
    (lit,) = quantiles(rgb[::stride, ::stride, 1], 0.98)
    if lit >= _LIGHT:
        return rgb
    low, _, high = _levels(shrunk(fine_grey(rgb)))
    share = min((_smooth(rgb) - _READABLE) / (2 * _BY_DEGREES) + 0.5, 1.0)
    brightest = max(lit, high)
    if brightest >= _LIGHT or high - low < _PLAIN or share <= 0:
        return rgb
    return np.asarray(cv2.convertScaleAbs(rgb, alpha=(_LIGHT / brightest) ** share), np.uint8)


def fine_grey(rgb: NDArray[np.uint8]) -> Float32:
    """At EDGE_SIZE, 0..255; few pixels of a large picture are looked at."""
    fine = cv2.resize(rgb, EDGE_SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY), np.float32)


def shrunk(picture: Float32) -> Float32:
    """Means of a fine picture at the small size."""
    return np.asarray(cv2.resize(picture, SMALL[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _levels(grey: Float32) -> list[float]:
    """Of dark, middle and light parts."""
    return quantiles(grey[::3, ::3], 0.02, 0.5, 0.98)


def _smooth(rgb: NDArray[np.uint8]) -> float:
    """Correlation of a pixel with its neighbour."""
    rows = rgb[:: max(1, rgb.shape[0] // 20), :, 1].astype(np.float32)
    rows = rows - rows.mean()
    if rows.shape[1] < 2:
        return 1.0  # of one column, in which no pixel has a neighbour
    product, square = (rows[:, 1:] * rows[:, :-1]).mean(), np.square(rows).mean()
    return float(product / max(float(square), 1e-6))


def nothing_seen(
    rgb: NDArray[np.uint8], grey: Float32, scores: dict[str, float]
) -> tuple[str, str]:
    """Whether a picture is without information, and whether nearly; grey (h, w): the same, small.

    The second is told where the first is, too.
    """
    low, middle, high = _levels(grey)
    spread, smooth = high - low, _smooth(rgb)
    burnt = count_of(grey > 250) / grey.size
    scores |= {"colour_spread": spread, "colour_smooth": smooth, "colour_burnt": burnt}

    def told(clearly: float) -> str:
        if spread < _PLAIN * clearly:
            what = "black" if middle < 16 else "white" if middle > 239 else "of one grey"
            text = f"the colour image is {what} (its grey levels spread by {spread:.0f} of 255)"
        elif burnt > _BURNT / clearly:
            text = f"{burnt:.0%} of the colour image are saturated"
        elif smooth < _NOISE * clearly:
            text = f"the colour image is noise (neighbouring pixels correlate by {smooth:.2f})"
        else:
            return ""
        return f"{text}: is the camera well?"

    return told(1.0), told(_CLEARLY)


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
    # Beneath each other, not within the blocks of a JPEG that few bits are left for.
    last = (rgb[rows] == rgb[-1]).all((1, 2)) & alike
    count = int(np.argmin(last)) if not last.all() else 0
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
    """Whether colour is black just where depth (H, W) has no reading.

    Margins, of whole rows or columns, were put around both.
    """
    stride = max(1, min(raw.shape) // _ROWS)
    some, known = rgb[::stride, ::stride], is_reading(raw[::stride, ::stride])
    rows, columns = known.any(1), known.any(0)
    if rows.any():
        inside = _from_first_to_last(rows), _from_first_to_last(columns)
        some, known = some[inside], known[inside]
    unread = 1.0 - count_of(known) / known.size
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


def _from_first_to_last(any_: NDArray[np.bool_]) -> slice:
    return slice(int(any_.argmax()), len(any_) - int(any_[::-1].argmax()))


def _share(colours: NDArray[np.uint8], black: int) -> float:
    """Of pixels (n, 3) that are as black as that."""
    return float((colours <= black).all(-1).mean())
