"""What every network looks like from above: frames in, relative disparity or metric depth out.

A new network is one file with one subclass of `Predictor`, which load.py finds by name. Imports no
deep learning library.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import Array, described, float32, invert, is_array, to_host
from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason, Frame, frames_of
from dkt_ros.progress import Progress, no_progress


class InferenceCancelledError(Exception):
    """Raised inside an inference that was told to stop, see Predictor.cancel."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one frame: one of `disparity` and `depth`, or `normals` alone.

    rgb         (H, W, 3) uint8, the frame's colours, in the memory that the answer lies in
    disparity   (H, W) float32 in [0, 1], larger is nearer, up to one unknown scale and shift; of a
                network that was shown raw depth in 1/m
    depth       (H, W) float32 metres along the optical axis, NaN where the network gives none
    confidence  (H, W) float32 in [0, 1], where the network has an opinion of its own
    normals     (H, W, 3) float32 unit vectors, x right, y down, z forward, 0 where unknown, on the
                host; of a network for normals
    frames      how many frames it was made from
    on_scale    whether disparity is in 1/m, of a network that was shown raw depth
    restarted   why the network began its stream anew, so that scale and shift may be others; None
                where it did not

    Arrays are numpy's, or tensors on any device.
    """

    rgb: Array
    disparity: Array | None = None
    depth: Array | None = None
    confidence: Array | None = None
    frames: int = 1
    on_scale: bool = False
    restarted: FlushReason | None = None
    normals: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        kinds = (self.disparity is not None) + (self.depth is not None)
        if kinds != 1 and (kinds or self.normals is None):
            raise DktError(
                "a prediction holds both or neither of disparity and depth: expected one"
            )

    def as_disparity(self) -> Array:
        """Disparity (H, W) as float32; of a metric network 1/depth.

        The latter is NaN where its depth is none, be that NaN, 0, negative or infinite.
        A copy, lest what is made of it change with the network's own memory.
        """
        if self.depth is None:
            return float32(self.disparity, copy=True)
        disparity = float32(self.depth, copy=True)
        with np.errstate(divide="ignore"):
            invert(disparity)
        # Whatever a network says of what it does not know is no far surface.
        disparity[~((disparity > 0) & (disparity < np.inf))] = np.nan
        return disparity


@dataclass(frozen=True)
class PredictorInfo:
    """What a user is told of a loaded network.

    note: what is other than asked for; "" if nothing.
    """

    name: str
    path: str = ""
    origin: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    steps: int = 0
    mode: str = ""
    backend: str = "torch"
    note: str = ""


class Predictor:
    """One camera's stream through one network. A subclass must have `push`, the rest if it differs.

    proof_frames    frames of a new stream until each costs what every later one does
    answers_every   frames that one answer is for; those between them have none
    sees_video      whether `video` sees more at once than `push` has seen of a stream
    normals_wanted  whether anybody asks for normals beside depth; any thread may set it
    LASTING         attributes that stay from load to end: no part of a stream that is saved
    """

    LASTING = ("info", "network", "options", "_stop")
    proof_frames = 1
    answers_every = 1
    sees_video = False
    normals_wanted = True

    def __init__(self, info: PredictorInfo) -> None:
        self.info = info
        self._stop = _Stop()

    def push(self, frame: Frame) -> Prediction | None:
        """Takes the next frame of the stream; None where it has no answer for this one."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forgets the stream."""

    def beside(self) -> Predictor:
        """One for another camera's stream, by the same network; not at once with this one.

        Raises DktError where this kind of network knows one stream only.
        """
        raise DktError(
            f"network {self.info.name} cannot be shared, its predictor has no beside(): expected "
            "one that has, or a dkt_node for each camera"
        )

    def video(
        self, frames: Sequence[Frame], on_progress: Progress = no_progress
    ) -> NDArray[np.float32]:
        """Relative disparity (T, H, W) of a recorded stream, NaN where there is none.

        A metric network's is 1/depth. The stream so far is forgotten before and after.
        """
        disparity = np.full((len(frames), *frames[0].rgb.shape[:2]), np.nan, np.float32)
        self.reset()
        try:
            for index, frame in enumerate(frames):
                on_progress("frame", index, len(frames))
                if (answer := checked_answer(self.push(frame), frame)) is None:
                    continue
                disparity[index] = to_host(answer.as_disparity())
        finally:
            self.reset()
        on_progress("frame", len(frames), len(frames))
        return disparity

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the network computes for a camera of this size."""
        return height, width

    @property
    def natural_size(self) -> tuple[int, int]:
        """(height, width) of a camera that suits the network."""
        return 480, 640

    def warm_up(self, size: tuple[int, int], report: Progress = no_progress) -> None:
        """Computes black frames of a camera's (height, width), so that the first one is not late.

        The stream is forgotten.
        """
        report("warm-up", 0, 1)
        self.push(black_frame(size))
        self.reset()
        report("warm-up", 1, 1)

    def cancel(self) -> None:
        """Has a running and every later push raise InferenceCancelledError, until allow()."""
        self._stop.asked.set()

    def allow(self) -> None:
        """Lets pushes run again."""
        self._stop.asked.clear()


def checked_answer(answer: object, frame: Frame) -> Prediction | None:
    """What `push` returned for the frame; DktError where it is no answer of a network for depth."""
    if answer is None:
        return None
    if not isinstance(answer, Prediction):
        raise DktError(f"the network returned {described(answer)}: expected a Prediction or None")
    kind = "disparity" if answer.depth is None else "depth"
    values, size = getattr(answer, kind), tuple(frame.rgb.shape[:2])
    if not is_array(values) or tuple(values.shape) != size:
        raise DktError(
            f"the network returned {kind} of {described(values)}: expected an array of shape "
            f"{size}, one value for each pixel"
        )
    return answer


class _Stop:
    """What a network asks between parts of its work; apart, lest it hold who holds it."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def check(self, stage: str, done: int, total: int) -> None:
        if self.asked.is_set():
            raise InferenceCancelledError(f"{stage} {done}/{total}")


def black_frame(size: tuple[int, int]) -> Frame:
    """A frame of (height, width) in which nothing is to be seen."""
    return next(frames_of([(np.zeros((*size, 3), np.uint8), None)]))
