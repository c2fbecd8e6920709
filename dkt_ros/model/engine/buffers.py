"""Memory for a graph's caches: written by one call, read by the next, never copied.

Knows shapes and who still holds a set of buffers. Knows nothing of TensorRT, or what is computed.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from dkt_ros.model.engine.manifest import TensorSpec


class CachePool:
    """Sets of buffers of the same shapes. A lent set is free again once nobody holds its tensors.

    In a plain stream two sets take turns: a call reads the one and writes the other. A look ahead
    that will be undone keeps the set it came from, and so has a third one made. Sets are never
    given back, so their addresses recur, which is what a captured graph needs.
    """

    def __init__(self, specs: Sequence[TensorSpec], device: torch.device) -> None:
        """specs: of the tensors of a set, in the order they are lent in."""
        self._specs, self._device = tuple(specs), device
        self._sets: list[tuple[Tensor, ...]] = []
        self._holders: list[list[weakref.ref[Tensor]]] = []

    def lend(self) -> tuple[Tensor, ...]:
        """A set that nobody holds; its contents mean nothing.

        Holding one of the tensors keeps the whole set; holding only a view of one does not.
        """
        for index, holders in enumerate(self._holders):
            if all(holder() is None for holder in holders):
                return self._hand_out(index)
        self._sets.append(
            tuple(
                torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device=self._device)
                for spec in self._specs
            )
        )
        self._holders.append([])
        return self._hand_out(len(self._sets) - 1)

    def __len__(self) -> int:
        """How many sets there are."""
        return len(self._sets)

    def _hand_out(self, index: int) -> tuple[Tensor, ...]:
        # Tensors of their own over the same memory: their lives tell whether the set is held.
        lent = tuple(buffer.detach() for buffer in self._sets[index])
        self._holders[index] = [weakref.ref(tensor) for tensor in lent]
        return lent


def torch_dtype(name: str) -> torch.dtype:
    """torch's type of a TensorSpec's dtype."""
    found: torch.dtype = getattr(torch, name)
    return found


def is_cache(spec: TensorSpec) -> bool:
    """Whether an input or output is one of a stream's caches, see manifest.py."""
    return spec.name.removeprefix("new_").startswith("cache_")


def nbytes(specs: Iterable[TensorSpec]) -> int:
    """Bytes of tensors like these."""
    return sum(math.prod(spec.shape) * torch_dtype(spec.dtype).itemsize for spec in specs)


def addresses(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Where the tensors lie: what tells one captured graph from another."""
    return tuple(tensor.data_ptr() for tensor in tensors)
