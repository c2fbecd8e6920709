"""Which of the camera's frames inference is given when it is slower than the camera.

`newest` leaves it to the mailbox, where each frame replaces the one that nobody has taken yet:
least latency, but time between the frames that the network sees is what chance makes of it. `even`
takes every k-th frame, so that the network sees a video of even pace, and finds k from the time
that inference takes and the camera's period. Where one long inference is for several frames, the
time is their mean, and they wait for it. Knows stamps and seconds; nothing of pixels or ROS.
"""

from __future__ import annotations

import bisect
import math
import statistics
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

NEWEST, EVEN = "newest", "even"
POLICIES = (NEWEST, EVEN)

CAMERA_FRAMES = 32
"""Frames that the camera's period is the median of: a second or two."""
INFERENCES, MEMORY_S = 48, 60.0
"""Inferences remembered: three of mode live's longest windows, and none that is this long ago."""
FEWEST_REMEMBERED = 4
"""However long ago they are."""
SLACK_RAISED = 1.1
SLACK_LOWERED = 1.3
"""A new stride leaves this much time to spare; the gap between the two keeps it from swinging."""
SHARE_FRAMES = 300
"""Frames over which the share that is used is told."""


@dataclass(frozen=True)
class ChoiceStatus:
    """What diagnostics tell of the choice.

    stride  one frame in so many is taken; None where the policy knows no stride
    share   of the newest frames, how many inference got, in [0, 1]; None before the first
    """

    policy: str
    stride: int | None = None
    share: float | None = None


class FrameChoice:
    """Asked by the executor's thread for each frame, told by the inference thread how long it took.

    At most `together` chosen frames wait for inference at any time; `let_go` tells of some that
    waited in vain.
    """

    def __init__(self, policy: str, together: int = 1) -> None:
        """`policy` is one of POLICIES; one inference in `together` is long, for all of them."""
        if policy not in POLICIES:
            raise ValueError(f"policy is {policy!r}, expected one of {', '.join(POLICIES)}")
        if not 1 <= together <= INFERENCES // 2:
            raise ValueError(f"together is {together}, expected 1 to {INFERENCES // 2}")
        self.policy = policy
        self._together = together
        self._lock = threading.Lock()
        self._camera = _CameraPace()
        self._inferences: deque[tuple[float, float]] = deque(maxlen=INFERENCES)
        self._stride = 1
        self._chosen_ns: int | None = None
        self._used: deque[bool] = deque(maxlen=SHARE_FRAMES)

    @property
    def status(self) -> ChoiceStatus:
        """The choice at this moment."""
        with self._lock:
            share = sum(self._used) / len(self._used) if self._used else None
            return ChoiceStatus(self.policy, self._stride if self.policy == EVEN else None, share)

    def wants(self, stamp_ns: int, arrived_s: float) -> bool:
        """Whether inference shall have the frame of this stamp, which came at `arrived_s`."""
        with self._lock:
            wanted = self.policy == NEWEST or self._is_due(stamp_ns, arrived_s)
            self._used.append(wanted)
            return wanted

    def let_go(self, count: int) -> None:
        """So many frames that were wanted gave way before inference could take them."""
        with self._lock:
            # Perhaps not the newest ones, but only their number counts.
            for number in range(len(self._used) - 1, -1, -1):
                if count == 0:
                    return
                if self._used[number]:
                    self._used[number] = False
                    count -= 1

    def took(self, seconds: float, ended_s: float) -> None:
        """Inference and publishing were busy with a frame for so long, until `ended_s`."""
        with self._lock:
            inferences = self._inferences
            inferences.append((ended_s, seconds))
            fewest = max(FEWEST_REMEMBERED, 2 * self._together)
            while len(inferences) > fewest and ended_s - inferences[0][0] > MEMORY_S:
                inferences.popleft()
            period_s = self._camera.period_s
            busy_s = means([seconds for _, seconds in inferences], self._together)
            if period_s is None or len(busy_s) < 2:
                return
            is_settled = (
                len(inferences) == INFERENCES or ended_s - inferences[0][0] > 0.8 * MEMORY_S
            )
            self._stride = next_stride(self._stride, period_s, busy_s, is_settled)

    def _is_due(self, stamp_ns: int, arrived_s: float) -> bool:
        self._camera.add(stamp_ns, arrived_s)  # which forgets its pace where stamps run backwards
        period_ns = self._camera.period_ns
        if self._stride == 1 or self._chosen_ns is None or period_ns is None:
            is_due = True
        else:
            # Half a period early is in time. Told by stamps, not by counting frames, lest each
            # that the camera loses make a step longer.
            is_due = stamp_ns - self._chosen_ns >= (self._stride - 0.5) * period_ns
        if is_due:
            self._chosen_ns = stamp_ns
        return is_due


class _CameraPace:
    """The newest frames' stamps and arrivals, and the time between two of them."""

    def __init__(self) -> None:
        self._stamps_ns: deque[int] = deque(maxlen=CAMERA_FRAMES + 1)
        self._arrivals_s: deque[float] = deque(maxlen=CAMERA_FRAMES + 1)

    def add(self, stamp_ns: int, arrived_s: float) -> None:
        """Takes the next frame; where its stamp runs backwards it forgets the others."""
        if self._stamps_ns and stamp_ns <= self._stamps_ns[-1]:
            self._stamps_ns.clear()
            self._arrivals_s.clear()
        self._stamps_ns.append(stamp_ns)
        self._arrivals_s.append(arrived_s)

    @property
    def period_ns(self) -> float | None:
        """Between two stamps, whatever frames were lost; None until there are some."""
        stamps = self._stamps_ns
        if len(stamps) < 5:
            return None
        return statistics.median(b - a for a, b in zip(stamps, list(stamps)[1:], strict=False))

    @property
    def period_s(self) -> float | None:
        """Between two arrivals, where a bag is played slower or faster than it was recorded."""
        period_ns = self.period_ns
        elapsed_s = self._arrivals_s[-1] - self._arrivals_s[0] if self._arrivals_s else 0.0
        if period_ns is None or elapsed_s <= 0.0:
            return None
        # Not the median of their differences: frames may come in bunches.
        return period_ns * elapsed_s / (self._stamps_ns[-1] - self._stamps_ns[0])


def means(inferences_s: Sequence[float], together: int) -> list[float]:
    """Means of so many inferences that follow each other; the oldest few may be left over.

    Wherever they begin, each is of one long inference and all that come with it.
    """
    begin = len(inferences_s) % together
    return [
        math.fsum(inferences_s[start : start + together]) / together
        for start in range(begin, len(inferences_s), together)
    ]


def next_stride(
    stride: int, period_s: float, inferences_s: Sequence[float], is_settled: bool
) -> int:
    """The stride from now on; at least two inferences, oldest first, in seconds.

    It rises when inference cannot keep up with it. It falls when inference could have kept up with
    a smaller one all along, if they are enough to tell (`is_settled`). One that took longer than
    all others is a hiccup and changes nothing.
    """
    usual_s = sorted(inferences_s)[-2]
    busy_s = [min(seconds, usual_s) for seconds in inferences_s]
    if not keeps_up(stride * period_s, busy_s):
        return _smallest_stride(period_s, [SLACK_RAISED * seconds for seconds in busy_s])
    if not is_settled:
        return stride
    return min(stride, _smallest_stride(period_s, [SLACK_LOWERED * s for s in busy_s]))


def keeps_up(spacing_s: float, busy_s: Sequence[float]) -> bool:
    """Whether inferences that take this long, over and over, lose no frame of this spacing.

    A frame may wait for the inference before, but not until the frame after it comes.
    """
    if sum(busy_s) > spacing_s * len(busy_s):
        return False
    waited_s = 0.0
    for seconds in (*busy_s, *busy_s):
        waited_s = max(0.0, waited_s + seconds - spacing_s)
        if waited_s > spacing_s:
            return False
    return True


def _smallest_stride(period_s: float, busy_s: Sequence[float]) -> int:
    enough = max(1, math.ceil(max(busy_s) / period_s))
    return 1 + bisect.bisect_left(
        range(1, enough), True, key=lambda stride: keeps_up(stride * period_s, busy_s)
    )
