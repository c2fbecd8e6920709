"""Surface normals by a network of their own, beside the one for depth, of the same frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dkt_ros.frames import Frame
from dkt_ros.predict.predictor import Prediction, Predictor
from dkt_ros.progress import Progress, no_progress


class WithNormals(Predictor):
    """A depth network's answers, with a normals network's on them while they are wanted."""

    def __init__(self, depth: Predictor, normals: Predictor) -> None:
        """normals: its predictions hold `normals`; it takes the frames that `depth` takes."""
        name = f"{depth.info.mode}; normals by {normals.info.name}"
        super().__init__(replace(depth.info, mode=name))
        self._depth, self._normals = depth, normals
        self.proof_frames = depth.proof_frames
        self.answers_every = depth.answers_every
        self.sees_video = depth.sees_video

    def push(self, frame: Frame) -> Prediction | None:
        """The depth network's answer; `normals` is None where nobody wants any."""
        answer = self._depth.push(frame)
        if not self.normals_wanted:
            self._normals.reset()
            return answer
        told = self._normals.push(frame)
        if answer is None:
            return None
        if told is None:
            # Their windows do not end together: a stream's first frame is answered at once, and
            # the next windows then do.
            self._normals.reset()
            told = self._normals.push(frame)
        return replace(answer, normals=told.normals if told is not None else None)

    def reset(self) -> None:
        """Forgets the stream."""
        self._depth.reset()
        self._normals.reset()

    def beside(self) -> WithNormals:
        """See Predictor.beside."""
        return WithNormals(self._depth.beside(), self._normals.beside())

    def video(
        self, frames: Sequence[Frame], on_progress: Progress = no_progress
    ) -> NDArray[np.float32]:
        """The depth network's."""
        return self._depth.video(frames, on_progress)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Of the depth network."""
        return self._depth.network_size(height, width)

    @property
    def natural_size(self) -> tuple[int, int]:
        """Of the depth network."""
        return self._depth.natural_size

    def warm_up(self, size: tuple[int, int], report: Progress = no_progress) -> None:
        """Both."""
        self._depth.warm_up(size, report)
        self._normals.warm_up(size, report)

    def cancel(self) -> None:
        """Both."""
        self._depth.cancel()
        self._normals.cancel()

    def allow(self) -> None:
        """Both."""
        self._depth.allow()
        self._normals.allow()
