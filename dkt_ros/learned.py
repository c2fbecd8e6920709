"""Whether weights can have been learned: finite, and not of one value throughout.

Knows tensors by name. Knows nothing of files or networks. A file that was set aside before its
content came, or came in part, is as long as it should be and holds zeros.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dkt_ros.errors import DktError
from dkt_ros.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

_SOME = 64
_SOME_BLANK, _MOST_BLANK = 0.05, 0.5
"""Of all weights. Single layers begin at zero and may be left there; of most nothing can be."""


def check_finite(origin: object, key: str, tensor: Tensor) -> None:
    """Raises DktError where a weight holds NaN or infinity."""
    import torch

    # A sum passes on what is not finite; in float32 that of finite weights is finite.
    if not tensor.sum(dtype=torch.float32).isfinite():
        raise DktError(f"{origin}: {key} holds values that are not finite; fetch the file again")


def check_learned(origin: object, tensors: Mapping[str, Tensor]) -> None:
    """Raises DktError for what no network can have learned; see Inspection."""
    inspection = Inspection(origin)
    for key, tensor in tensors.items():
        inspection.see(key, tensor)
    inspection.judge()


class Inspection:
    """The weights of one network, seen one by one."""

    def __init__(self, origin: object) -> None:
        """origin: where they come from, for messages."""
        self._origin = origin
        self._seen = 0
        self._blank = 0
        self._names: list[str] = []

    def see(self, key: str, tensor: Tensor) -> None:
        """Raises DktError as check_finite."""
        if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
            return
        check_finite(self._origin, key, tensor)
        self._seen += tensor.numel()
        if _is_blank(tensor):
            self._blank += tensor.numel()
            self._names.append(f"{key} ({float(tensor.flatten()[0]):g})")

    def judge(self) -> None:
        """After the last one: raises DktError where most are of one value, warns of many."""
        if self._blank <= _SOME_BLANK * self._seen:
            return
        found = (
            f"{self._origin}: {counted(len(self._names), 'layer')} of one value throughout, the "
            f"first is {self._names[0]}"
        )
        if self._blank > _MOST_BLANK * self._seen:
            raise DktError(
                f"{found}: {self._blank / self._seen:.0%} of all weights, so nothing was learned "
                "or the file did not come whole; fetch or make it again"
            )
        _log.warning("%s; did the file come whole?", found)


def _is_blank(tensor: Tensor) -> bool:
    """Whether a matrix has one value; biases and gains may, of layers that are left alone."""
    if sum(side > 1 for side in tensor.shape) < 2:
        return False
    flat = tensor.flatten()
    some = flat[:: max(1, flat.numel() // _SOME)]
    return bool((some == flat[0]).all()) and bool((flat == flat[0]).all())
