"""Depth cameras by name. Knows which there are, and which suits a view."""

from __future__ import annotations

import numpy as np

from dkt_ros.synth.active import StructuredLight, TimeOfFlight
from dkt_ros.synth.sensor import StereoSensor

DepthSensor = StereoSensor | StructuredLight | TimeOfFlight
SENSORS: dict[str, DepthSensor] = {
    "d435": StereoSensor(),
    # No projector: it matches what the room's light shows. Ideal range 7 to 50 cm (data sheet).
    "d405": StereoSensor(baseline=0.018, focal=447.0, nearest=0.07, farthest=1.5, projector=False),
    "structured-light": StructuredLight(),
    "tof": TimeOfFlight(),
}
MIXED = "mixed"
_NEAR = 0.45
_WEIGHTS = {True: (0.25, 0.4, 0.12, 0.23), False: (0.42, 0.04, 0.24, 0.3)}


def sensor_of(name: str, seed: int, index: int, distance: float) -> str:
    """The name of a scene's sensor; for MIXED, one that suits the distance in metres."""
    if name != MIXED:
        return name
    random = np.random.default_rng([seed, index, 5])
    return str(random.choice(list(SENSORS), p=_WEIGHTS[distance < _NEAR]))
