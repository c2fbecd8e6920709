"""From an expected error to the probability that a pixel's depth is right.

Knows the law of errors and how it is calibrated. Knows nothing of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError

Float32 = NDArray[np.float32]
_BINS = 40
_KNOTS = 16


@dataclass(frozen=True)
class Calibration:
    """Foretold log of the mean relative error -> the one that was measured; both rising, (n,).

    Errors follow an exponential law, so that one mean gives the probability for any tolerance.
    """

    foretold: tuple[float, ...] = (-7.0, 0.0)
    measured: tuple[float, ...] = (-7.0, 0.0)

    def expected_error(self, log_error: Float32 | float) -> NDArray[np.float64]:
        """The mean relative error; any shape."""
        return np.exp(np.interp(log_error, self.foretold, self.measured))

    def probability(self, log_error: Float32, tolerance: float) -> Float32:
        """That the relative error is below the tolerance; any shape."""
        mean = self.expected_error(log_error)
        return (1.0 - np.exp(-tolerance / mean)).astype(np.float32)

    def to_json(self) -> dict[str, list[float]]:
        """For refiner.json."""
        return {name: [round(x, 4) for x in values] for name, values in vars(self).items()}

    @classmethod
    def from_json(cls, content: Any) -> Calibration:
        """The inverse; None is no calibration. DktError where the content does not fit."""
        if content is None:
            return cls()
        try:
            parts = {name: tuple(map(float, content[name])) for name in ("foretold", "measured")}
        except (KeyError, TypeError, ValueError) as error:
            raise DktError(f"calibration of confidence cannot be read: {error!r}") from error
        rising = all(np.all(np.diff(values) >= 0) for values in parts.values())
        if len(parts["foretold"]) != len(parts["measured"]) or len(parts["foretold"]) < 2:
            rising = False
        if not rising:
            raise DktError("calibration of confidence: expected two equally long rising lists")
        return cls(**parts)

    @classmethod
    def fitted(cls, log_error: Float32, right: NDArray[np.bool_], tolerance: float) -> Calibration:
        """From pixels (n,): what was foretold, and whether the depth was within the tolerance.

        Isotonic: the share of right pixels never rises with the error that was foretold.
        """
        order = np.argsort(log_error, kind="stable")
        bins = np.array_split(order, _BINS)
        centres = np.array([float(log_error[part].mean()) for part in bins])
        shares = [float(right[part].mean()) for part in bins]
        falling = np.clip(_pooled(shares), 1e-3, 1 - 1e-3)
        measured = np.log(-tolerance / np.log1p(-falling))
        knots = np.linspace(0, _BINS - 1, _KNOTS).round().astype(int)
        return cls(tuple(centres[knots].tolist()), tuple(measured[knots].tolist()))


def _pooled(shares: list[float]) -> NDArray[np.float64]:
    """Pool adjacent violators: the nearest sequence that does not rise."""
    blocks: list[tuple[float, int]] = []
    for share in shares:
        blocks.append((share, 1))
        while len(blocks) > 1 and blocks[-1][0] > blocks[-2][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    return np.concatenate([np.full(count, share) for share, count in blocks])
