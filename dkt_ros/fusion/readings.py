"""Raw depth without what it holds that is no reading: what drivers and filters put in its place.

Knows one frame's raw depth, and what is said of each fault. How each is found is in fill.py,
ramps.py and speckles.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dkt_ros.fusion.fill import LEAST_BETWEEN_M, without_fill, without_runs
from dkt_ros.fusion.ramps import without_ramps
from dkt_ros.fusion.speckles import without_speckles
from dkt_ros.fusion.suspicion import Suspicion

_MANY_SPECKLES = 0.02  # of the pixels


def readings_alone(
    raw: NDArray[np.float32], range_m: float
) -> tuple[NDArray[np.float32], tuple[Suspicion, ...]]:
    """Raw depth (H, W) with NaN in place of such numbers, and what tells of them.

    range_m: as far as readings are looked at. Where there are none `raw` itself is returned.
    """
    told = []
    raw, value = without_fill(raw, range_m)
    if value is not None:
        is_far, is_near = value >= np.float32(range_m), value < LEAST_BETWEEN_M
        end = "as far" if is_far else "as near" if is_near else "beside that"
        clipped = not (is_far or is_near or (raw > value).any())
        text = (
            f"many readings of the raw depth are {value:.6g} m to the bit and nothing else is "
            f"{end}: holes that the driver has filled"
            f"{', or depth that was clipped' if clipped else ''}, taken for unknown"
        )
        told.append(Suspicion("fill", text, False))
    raw, share = without_runs(raw)
    if share:
        text = (
            f"{share:.1%} of the raw depth goes on what is beside it to the bit, up to a jump: a "
            "filter has filled holes. What is known for that is taken for unknown, the rest has "
            "the depth of what lies beside or behind"
        )
        told.append(Suspicion("filter", text, False))
    raw, width = without_ramps(raw)
    if width:
        text = (
            f"around its holes the raw depth falls towards the camera within {width} px: it was "
            "resized, rectified or smoothed together with its holes, and what is mixed is taken "
            "for unknown"
        )
        told.append(Suspicion("ramps", text, False))
    raw, share = without_speckles(raw)
    if share > _MANY_SPECKLES:
        text = (
            f"{share:.1%} of the raw depth agrees with no reading beside it: flying pixels or "
            "noise, taken for unknown"
        )
        told.append(Suspicion("speckles", text, False))
    return raw, tuple(told)
