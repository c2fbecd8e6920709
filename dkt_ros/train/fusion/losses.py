"""What the refiner is trained for.

Knows the losses. Knows nothing of data or optimisers. All errors are relative ones of disparity,
which are those of depth where they are small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dkt_ros.fusion.network import Refined
from dkt_ros.train.fusion.config import LossConfig

_CAP = 0.5
_RIGHT = 0.02  # a reading so near the truth is one to keep
_RIGHT_ON_OBJECTS = 0.01


@dataclass(frozen=True)
class Target:
    """(B, 1, H, W) each: readings and truth in 1/m, 0 where there is none; objects 0 or 1."""

    disparity: Tensor
    truth: Tensor
    objects: Tensor


def fused_disparity(corrected: Tensor, disparity: Tensor, trust: Tensor) -> Tensor:
    """Readings where they are trusted, the correction elsewhere; 1/m."""
    return torch.lerp(corrected, disparity, trust * (disparity > 0))


def losses(refined: Refined, target: Target, config: LossConfig) -> dict[str, Tensor]:
    """Weighted losses: of the fused disparity, the correction alone, trust, edges, error.

    error: the negative log likelihood of the published disparity's error under an exponential law
    of the mean that was foretold; it changes nothing but that foretelling.
    """
    known = (target.truth > 0).float()
    truth = target.truth.clamp(min=1e-3)
    weight = known * (1 + (config.objects - 1) * target.objects)
    total = weight.sum().clamp(min=1.0)

    def mean(value: Tensor) -> Tensor:
        return (value * weight).sum() / total

    # Of the trust that is not saturated yet, which always has a slope.
    fused = fused_disparity(refined.corrected, target.disparity, refined.logit.sigmoid())
    error = (fused - truth).abs() / truth
    published = fused_disparity(refined.corrected, target.disparity, refined.trust)
    own = (refined.corrected - truth).abs() / truth
    measured = (target.disparity > 0).float()
    off = (target.disparity - truth).abs() / truth
    limit = _RIGHT + (_RIGHT_ON_OBJECTS - _RIGHT) * target.objects
    right = (off < limit).float()
    doubt = binary_cross_entropy_with_logits(refined.logit, right, reduction="none")
    doubt = (doubt * measured * weight).sum() / (measured * weight).sum().clamp(min=1.0)
    capped = ((published - truth).abs() / truth).detach().clamp(1e-4, _CAP)
    foretold = capped * torch.exp(-refined.log_error) + refined.log_error
    return {
        "fused": config.fused * mean(_capped(error)),
        "corrected": config.corrected * mean(_capped(own)),
        "trust": config.trust * doubt,
        "edges": config.edges * _edges(refined.corrected, truth, weight),
        "error": config.error * (foretold * known).sum() / known.sum().clamp(min=1.0),
    }


def _capped(error: Tensor) -> Tensor:
    """Rises like the error, and ever more slowly beyond the cap."""
    return torch.where(error < _CAP, error, _CAP * (1 + torch.log(error.clamp(min=_CAP) / _CAP)))


def _edges(disparity: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Error of the relative steps from pixel to pixel."""
    log, true = disparity.clamp(min=1e-3).log(), truth.log()
    total = weight.new_zeros(())
    for dim in (2, 3):
        n = log.shape[dim] - 1
        step, wanted = (x.narrow(dim, 1, n) - x.narrow(dim, 0, n) for x in (log, true))
        both = torch.minimum(weight.narrow(dim, 0, n), weight.narrow(dim, 1, n))
        wrong = (step - wanted).abs().clamp(max=_CAP)
        total = total + (wrong * both).sum() / both.sum().clamp(min=1.0)
    return total
