"""numpy arrays and torch tensors through one code path, and the way from a device to the host.

Knows where the two libraries differ and what crosses from a device: only `to_host`, `download` and
`write_to` bring pixels back, only `constant` takes something there. Knows nothing of what arrays
mean. Never imports torch: who has a tensor has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""A numpy array or a torch tensor on any device; the two have no type in common."""


def is_tensor(array: Array) -> bool:
    """Whether it is torch's."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def is_array(value: object) -> bool:
    """Whether it is numpy's or torch's."""
    return isinstance(value, np.ndarray) or is_tensor(value)


def described(value: Any) -> str:
    """For messages: an array's shape and type, the type of anything else."""
    if is_array(value):
        return f"{tuple(value.shape)} {value.dtype}"
    return "None" if value is None else f"type {type(value).__name__}"


def namespace(array: Array) -> Any:
    """numpy or torch: the module whose functions take this array."""
    return sys.modules["torch"] if is_tensor(array) else np


def device_of(array: Array) -> Hashable:
    """The tensor's device, None for a numpy array: what constants are cached by."""
    return array.device if is_tensor(array) else None


def is_floating(array: Array) -> bool:
    """Whether its numbers are floats."""
    if is_tensor(array):
        return bool(array.is_floating_point())
    return bool(np.issubdtype(array.dtype, np.floating))


def count_of(mask: NDArray[Any]) -> int:
    """How many are true, or not 0.

    As Python's int: newer NumPy gives one of its own, a share of which makes an array of float32
    one of float64.
    """
    return int(np.count_nonzero(mask))  # noqa: TID251


def float32(array: Array, copy: bool = False) -> Array:
    """In single precision, where it is; the array itself if it is that already and copy is not.

    A tensor's gradients are left behind.
    """
    if is_tensor(array):
        return array.detach().to(sys.modules["torch"].float32, copy=copy)
    return array.astype(np.float32, copy=copy)


def empty(shape: tuple[int, ...], like: Array) -> Array:
    """Uninitialised float32 of that shape, beside `like`."""
    if is_tensor(like):
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=torch.float32, device=like.device)
    return np.empty(shape, np.float32)


def constant(values: NDArray[Any], device: Hashable) -> Array:
    """numpy values on a device (see `device_of`): an upload, worth caching."""
    if device is None:
        return values
    return sys.modules["torch"].tensor(values, device=device)


def invert(array: Array) -> None:
    """Takes each number's reciprocal, in place."""
    if is_tensor(array):
        array.reciprocal_()
    else:
        np.divide(1, array, out=array)


def quantiles(values: NDArray[Any], *shares: float) -> list[float]:
    """numpy's of all values, at least one, for shares 0 to 1; of few values at a third of the time.

    NaN where a value is NaN.
    """
    flat = values.ravel()
    places = np.multiply(shares, len(flat) - 1.0)
    below = np.floor(places).astype(np.intp)
    above = np.minimum(below + 1, len(flat) - 1)
    # The last one too: it is where NaN goes.
    ordered = np.partition(flat, [*below, *above, len(flat) - 1])
    if np.isnan(ordered[-1]):
        return [float("nan")] * len(shares)
    parts = (places - below) * (ordered[above] - ordered[below].astype(np.float64))
    return [float(value) for value in ordered[below] + parts]


def median(values: NDArray[Any]) -> float:
    """numpy's of all values, at least one, NaN where one is; at a third of the time for few."""
    flat = values.ravel()
    half, last = len(flat) // 2, len(flat) - 1
    below = half if len(flat) % 2 else half - 1
    # The last one too: it is where NaN goes.
    ordered = np.partition(flat, (below, half, last))
    if np.isnan(ordered[last]):
        return float("nan")
    return (float(ordered[below]) + float(ordered[half])) / 2


def some_where(mask: NDArray[np.bool_], values: NDArray[Any], every: int = 1) -> NDArray[Any]:
    """Every so many of the values at which a mask of the same shape is true, (n,).

    By indices: picking by a mask of booleans is several times slower.
    """
    return values.ravel()[np.flatnonzero(mask)[::every]]


def rows_where(mask: Array, *arrays: Array) -> tuple[Array, ...]:
    """The rows of arrays (N, ...) at which mask (N,) is true.

    On a device their number has to be known first, so that it waits for everything before.
    """
    if is_tensor(mask):
        found = mask.nonzero()[:, 0]
        return tuple(array.index_select(0, found) for array in arrays)
    # Indices, since picking rows by a mask of booleans is several times slower.
    found = np.flatnonzero(mask)
    return tuple(array.take(found, axis=0) for array in arrays)


def unmasked(array: Array) -> Array:
    """A masked array of floats with NaN where numpy's functions would take what lies under it."""
    return array.filled(np.nan) if isinstance(array, np.ma.MaskedArray) else array


def to_host(array: Array) -> NDArray[Any]:
    """As numpy: a numpy array itself, a tensor's memory on a CPU, one download from a device.

    bfloat16, which numpy has not, becomes float32; what gradients need stays behind.
    """
    if not is_tensor(array):
        return np.asarray(array)
    array = array.detach()
    if array.dtype is sys.modules["torch"].bfloat16:
        array = array.float()
    if array.is_cuda:
        # Page-locked memory, which torch keeps and reuses: several times faster to write to.
        host = sys.modules["torch"].empty_like(array, device="cpu", pin_memory=True)
        return np.asarray(host.copy_(array).numpy())
    return np.asarray(array.cpu().numpy())


def download(*arrays: Array) -> tuple[NDArray[Any], ...]:
    """All of them as numpy, in one download; wider types first, so that they stay aligned."""
    if not any(is_tensor(array) for array in arrays):
        return tuple(np.asarray(array) for array in arrays)
    torch = sys.modules["torch"]
    flat = [array.contiguous().view(-1).view(torch.uint8) for array in arrays]
    content = to_host(torch.cat(flat))
    ends = np.cumsum([len(part) for part in flat])
    return tuple(
        content[end - len(part) : end].view(_numpy_type(array)).reshape(tuple(array.shape))
        for array, part, end in zip(arrays, flat, ends, strict=True)
    )


def write_to(host: NDArray[Any], array: Array) -> None:
    """Fills a numpy array of the same shape; from a device in one download."""
    if is_tensor(array):
        sys.modules["torch"].from_numpy(host).copy_(array)
    else:
        host[...] = array


def _numpy_type(tensor: Array) -> np.dtype[Any]:
    return np.dtype(str(tensor.dtype).removeprefix("torch."))
