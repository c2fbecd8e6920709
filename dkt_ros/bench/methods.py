"""Depth of a scene by each method: the sensor's, filled, the network's, fused, others', the truth.

What the evaluation measures as depth is here given to a planner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkt_ros.bench.scenes import TableScene
from dkt_ros.errors import DktError
from dkt_ros.evaluation.models import FROM_FILES, DepthModel
from dkt_ros.evaluation.predictions import PredictedDepth
from dkt_ros.geometry import nearest_fill

METHODS = ("raw", "fill", "network", "fused", "careful", "truth")
NETWORKS = {"network": ("online", 0.0), "fused": ("fused", 0.0), "careful": ("fused", 0.5)}
"""Alignment, and the least confidence at the contacts: of fused depth `fused` takes the best grasp,
`careful` none rather than one whose depth is more likely wrong than right."""


@dataclass(frozen=True, eq=False)
class Told:
    """depth (H, W) metres, NaN = unknown; confidence (H, W) 0 to 1, None where none is told.

    min_confidence: see GraspConfig; the confidence ranks in any case.
    """

    depth: np.ndarray
    confidence: np.ndarray | None = None
    min_confidence: float = 0.0


def depths(
    scene: TableScene, wanted: Sequence[str], models: Sequence[DepthModel]
) -> dict[str, Told]:
    """Depth of the scene's last frame by each of METHODS that is wanted, and of all models.

    Of one network the rows are named as in METHODS, of several they begin with its name.
    Raises DktError where a model fails.
    """
    video = scene.video
    if video.raw is None:
        raise DktError(f"{scene.name}-{scene.material}: has no raw depth")
    found: dict[str, Told] = {}
    if "raw" in wanted:
        found["raw"] = Told(video.raw[-1])
    if "fill" in wanted:
        found["fill"] = Told(nearest_fill(video.raw[-1]))
    rows = [name for name in wanted if name in NETWORKS]
    alignments = sorted({NETWORKS[name][0] for name in rows})
    networks = sum(not isinstance(model, PredictedDepth) for model in models)
    for model in models:
        told = model.depths(video, video.truth, alignments)
        for one in told.values():
            if why := one.problems.get(len(video) - 1):
                raise DktError(f"{scene.name}-{scene.material}: {why}")
        if FROM_FILES in told:
            found[model.name] = Told(told[FROM_FILES].depth[-1])
            continue
        for name in rows:
            alignment, least = NETWORKS[name]
            one = told[alignment]
            confidence = None if one.confidence is None else one.confidence[-1]
            row = name if networks < 2 else f"{model.name} {name}"
            found[row] = Told(one.depth[-1], confidence, least)
    if "truth" in wanted:
        found["truth"] = Told(scene.truth)
    return found
