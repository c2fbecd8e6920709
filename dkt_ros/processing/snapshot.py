"""What an estimator remembers of its stream, as bytes: a later process goes on to the same bit.

Networks are not part of it: they are found again in an estimator that was loaded the same way.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from torch import nn

from dkt_ros.estimator import DepthEstimator


def save(estimator: DepthEstimator) -> bytes | None:
    """The stream's state; None where the network keeps what cannot be saved."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, _fixed(estimator))
    try:
        pickler.dump({k: v for k, v in vars(estimator).items() if k != "predictor"})
        pickler.dump(vars(estimator.predictor))
    except (pickle.PicklingError, TypeError, AttributeError):
        return None
    return stream.getvalue()


def load(estimator: DepthEstimator, state: bytes) -> None:
    """Goes on where `save` was called; the estimator was loaded with the same options."""
    unpickler = _Unpickler(io.BytesIO(state), _fixed(estimator))
    vars(estimator).update(unpickler.load())
    vars(estimator.predictor).update(unpickler.load())


def _fixed(estimator: DepthEstimator) -> dict[str, Any]:
    """What is the same in every process that loaded the estimator the same way, by name."""
    found: dict[str, Any] = {"predictor": estimator.predictor}
    for owner_name, owner in (("", estimator.predictor), ("fuser", estimator._fuser)):
        for name, value in vars(owner).items() if owner is not None else ():
            if isinstance(value, nn.Module) or name in ("network", "_stop", "options", "info"):
                found[f"{owner_name}.{name}"] = value
    return found


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, fixed: dict[str, Any]) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self._names = {id(value): name for name, value in fixed.items()}

    def persistent_id(self, obj: Any) -> str | None:
        return self._names.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, fixed: dict[str, Any]) -> None:
        super().__init__(stream)
        self._fixed = fixed

    def persistent_load(self, pid: Any) -> Any:
        return self._fixed[pid]
