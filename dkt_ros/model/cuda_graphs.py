"""Functions of tensors, recorded once per shape and replayed with a single launch.

Knows CUDA graphs and when they pay. Knows nothing of what is computed. Recorded by hand rather than
by torch.compile's mode reduce-overhead, which keeps its graphs per thread and takes an output back
at the next run: here a stream's caches outlive the run that made them, and one thread warms up what
another then runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)
RECORD_LIMIT_BYTES = 256 << 20
"""What takes and gives more than this computes for long enough to hide its launches.

Recording needs memory of its own for all of it; a full-size VAE's caches alone are gigabytes.
"""
KEPT, KEPT_BYTES = 64, 1 << 30
"""Of one function: the signatures that are known, and what their recordings take and give in all.

A stream has some ten signatures, each picture size its own.
"""


class Recording(Protocol):
    """A recorded call, ready to be made again with other values of the same shapes."""

    def __call__(self, tensors: list[Tensor], /) -> Any:
        """The function's result for these in place of the tensors it was recorded with."""


Record = Callable[[Callable[..., Any], tuple[Any, ...]], Recording]
"""Records a call of the function with these arguments; RuntimeError where that cannot be."""


class RecordedFunction:
    """The function, replayed from its third call with the same shapes on.

    The first call compiles, fills caches and shows how much memory the results take; the second
    is recorded, unless that is too much. What cannot be recorded is called as it is from then on,
    and the log says so once. Of many signatures the least lately called are forgotten, see KEPT;
    called again they are new. The function is pure: to be recorded it runs more than once.
    Arguments are tensors, tuples of them, and numbers; the result is a tensor or tuples of tensors.
    Without gradients, and not for two threads at once.
    """

    def __init__(self, function: Callable[..., Any], record: Record) -> None:
        self._function, self._record = function, record
        self._known: dict[Hashable, _Known] = {}  # the least lately called first
        self._told = False

    @property
    def recordings(self) -> int:
        """How many signatures are replayed."""
        return sum(known.recording is not None for known in self._known.values())

    @torch.inference_mode()
    def __call__(self, *arguments: Any) -> Any:
        """As the function; what it returns is the caller's."""
        key = signature(arguments)
        known = self._known.pop(key, None)
        if known is None:
            result = self._function(*arguments)
            moved = sum(tensor.nbytes for tensor in tensors_in((arguments, result)))
            self._known[key] = _Known(moved, is_decided=not worth_recording(moved))
            self._forget_oldest()
            return result
        self._known[key] = known
        if not known.is_decided:
            known.recording, known.is_decided = self._recorded(arguments), True
            self._forget_oldest()
        if known.recording is None:
            return self._function(*arguments)
        return known.recording(list(tensors_in(arguments)))

    def _forget_oldest(self) -> None:
        """Else pictures of ever other sizes would fill the device."""
        held = sum(known.moved for known in self._known.values() if known.recording is not None)
        while len(self._known) > KEPT or (held > KEPT_BYTES and len(self._known) > 1):
            oldest = self._known.pop(next(iter(self._known)))
            held -= oldest.moved if oldest.recording is not None else 0

    def _recorded(self, arguments: tuple[Any, ...]) -> Recording | None:
        try:
            return self._record(self._function, arguments)
        except RuntimeError as error:  # what CUDA, its memory and the compiler raise
            if not self._told:
                name = getattr(self._function, "__qualname__", repr(self._function))
                why = str(error).partition("\n")[0]
                _LOG.warning("%s runs without a CUDA graph, for recording failed: %s", name, why)
            self._told = True
            return None


@dataclass
class _Known:
    """A signature that was called: bytes that it takes and gives, and what became of recording."""

    moved: int
    is_decided: bool
    recording: Recording | None = None


class CudaRecording:
    """A CUDA graph of one call, its inputs and its results in places of their own."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        inputs = [tensor.clone() for tensor in tensors_in(arguments)]
        self._inputs = inputs
        placed = with_tensors(arguments, iter(inputs))
        device = inputs[0].device
        self._pool = pool_of(device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            caller, aside = torch.cuda.current_stream(), self._pool.aside
            aside.wait_stream(caller)
            # Around the capture too: one that fails does not leave its own stream.
            with torch.cuda.stream(aside):
                # Clones may have other strides than all calls before: compiled now or, too late,
                # in the capture, where nothing can be.
                function(*placed)
                with torch.cuda.graph(
                    self._graph,
                    pool=self._pool.handle,
                    stream=self._pool.capture,
                    capture_error_mode="thread_local",
                ):
                    self._result = function(*placed)
            caller.wait_stream(aside)

    def __call__(self, tensors: list[Tensor]) -> Any:
        """See Recording."""
        for place, value in zip(self._inputs, tensors, strict=True):
            place.copy_(value)
        self._graph.replay()
        copies = (tensor.clone() for tensor in tensors_in(self._result))
        return with_tensors(self._result, copies)


class Pool:
    """Memory that recordings share, for they never run at the same time.

    capture: the stream of them all; torch hands memory of the pool to the stream that had it
    before, and to no other. aside: the stream of what runs before a capture.
    """

    def __init__(self, device: torch.device) -> None:
        self.handle = torch.cuda.graph_pool_handle()
        self.capture, self.aside = torch.cuda.Stream(device), torch.cuda.Stream(device)


_pools: WeakValueDictionary[torch.device, Pool] = WeakValueDictionary()


def pool_of(device: torch.device) -> Pool:
    """The device's, alive as long as somebody holds it.

    A new one when nobody does: torch takes no handle again once all graphs recorded with it are
    gone.
    """
    pool = _pools.get(device)
    if pool is None:
        pool = _pools[device] = Pool(device)
    return pool


def worth_recording(nbytes: int) -> bool:
    """Whether a call that takes and gives this much is small enough to be bound by its launches."""
    return nbytes <= RECORD_LIMIT_BYTES


def signature(value: Any) -> Hashable:
    """What must be the same for a recording to serve again: shapes, types, devices, numbers.

    Not the strides: values are copied into the recording's own places.
    """
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.dtype, value.device)
    if isinstance(value, tuple):
        return tuple(signature(part) for part in value)
    return (type(value), value)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from tensors_in(part)


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same nested tuples with other tensors in their places."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, tuple):
        return tuple(with_tensors(part, tensors) for part in value)
    return value
