"""What is fused and how, checked, and the flags that say so. Imports no deep learning library."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from dkt_ros.arguments import given
from dkt_ros.checks import check_fields
from dkt_ros.errors import DktError

DEPTHS = ("fused", "network")
"""What an estimator publishes; the first is the default."""
METHODS = ("refiner", "membrane")
SENSORS = ("stereo", "structured-light", "tof")
"""How a depth camera measures, and so how it fails on glass; the first is the default."""


@dataclass(frozen=True)
class FusionConfig:
    """What is fused and how.

    method         "refiner": the learned one; "membrane": without training, the network's disparity
                   bent onto the readings
    sensor         of SENSORS, what the raw depth is of: there are weights for stereo, and for the
                   others
    weights        folder of the refiner's weights; "" are the package's own for that sensor, others
                   for networks that are shown raw depth than for those that are not
    min_raw_depth  m; raw depth outside min .. max is unknown
    max_raw_depth  m
    tolerance      relative: confidence is the probability of an error below it
    min_agreement  share of the readings that must lie near the network's depth (10%), else it is
                   not used
    min_confidence depth that is less sure than this to be within the tolerance becomes NaN
    steadiness     0..1, share of the past in a frame's depth where nothing moves; 0 is none
    """

    method: str = "refiner"
    sensor: str = SENSORS[0]
    weights: str | Path = ""
    min_raw_depth: float = 0.1
    max_raw_depth: float = 10.0
    tolerance: float = 0.02
    min_agreement: float = 0.2
    min_confidence: float = 0.0
    steadiness: float = 0.93

    def __post_init__(self) -> None:
        check_fields(self, nan=True)  # said below
        if self.method not in METHODS:
            raise DktError(f"fusion method is {self.method!r}: expected {' or '.join(METHODS)}")
        if self.sensor not in SENSORS:
            raise DktError(f"fusion sensor is {self.sensor!r}: expected {', '.join(SENSORS)}")
        for entry in fields(self)[3:]:
            value = getattr(self, entry.name)
            if not (np.isfinite(value) and value >= 0):
                raise DktError(f"fusion {entry.name} is {value}: expected a number >= 0")
        if not 0 < self.min_raw_depth < self.max_raw_depth:
            raise DktError(
                f"fusion raw depth range {self.min_raw_depth} .. {self.max_raw_depth} m: "
                "expected 0 < min < max"
            )
        if self.min_confidence > 1:
            raise DktError(
                f"fusion min_confidence is {self.min_confidence}: expected a probability, 0 to 1"
            )
        if not 0 < self.tolerance < 1 or self.min_agreement > 1 or self.steadiness >= 1:
            raise DktError(
                f"fusion tolerance {self.tolerance}, min_agreement {self.min_agreement}, "
                f"steadiness {self.steadiness}: expected 0 < tolerance < 1, min_agreement <= 1 and "
                "steadiness < 1"
            )


def add_fusion_arguments(parser: Any) -> None:
    """The flags of every command that fuses; `config_of` reads them."""
    parser.add_argument(
        "--depth-sensor",
        choices=SENSORS,
        default=SENSORS[0],
        help="kind of sensor that measured the raw depth (%(default)s)",
    )
    parser.add_argument(
        "--refiner",
        type=given,
        metavar="DIR",
        help="folder of `dkt pretrain-fusion` with the weights that fuse depth; default: the "
        "package's own. A matcher.safetensors in it (`dkt pretrain-matcher`) is used too",
    )


def config_of(args: argparse.Namespace, **more: Any) -> FusionConfig:
    """What the flags of `add_fusion_arguments` say."""
    return FusionConfig(sensor=args.depth_sensor, weights=args.refiner or "", **more)
