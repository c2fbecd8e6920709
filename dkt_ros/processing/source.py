"""What every kind of recording looks like from above: frames that are decoded when wanted."""

from __future__ import annotations

import abc
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dkt_ros.bags.from_images import distortion_remarks
from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.checks import check_fields
from dkt_ros.errors import DktError
from dkt_ros.formats.intrinsics import checked_intrinsics, read_intrinsics
from dkt_ros.geometry import Intrinsics

DEFAULT_GAP_S = 3.0
"""A longer gap between two frames starts a new stream, as in the node."""
GIVE_CAMERA = "give the calibration (--intrinsics FILE, --pinhole FX FY CX CY)"


@dataclass(frozen=True, eq=False)
class Pending:
    """A frame that is not decoded yet. epoch: rises where the stream broke before this frame.

    decode raises DktError where the frame turns out to be unusable. leads: whether those after it
    are decoded by what it was like.
    """

    decode: Callable[[], LabelledFrame]
    epoch: int = 0
    leads: bool = False

    def pass_by(self) -> None:
        """What whoever has no need of it does in place of decode, before the next one."""
        if self.leads:
            with suppress(DktError):
                self.decode()


@dataclass(frozen=True)
class PassedMessage:
    """A recorded message of another topic, to be written as it is.

    kept: how many of the topic a late subscriber is due, as of tf_static; 0: it is not latched.
    definition: of a type that ROS does not have.
    """

    topic: str
    msgtype: str
    time_ns: int
    cdr: bytes
    kept: int = 0
    definition: str = ""


@dataclass(frozen=True)
class SourceOptions:
    """How recordings are read; what does not concern a kind of recording is not looked at.

    topics         role (color, depth, camera_info, truth, mask) -> topic of a bag, else found
    intrinsics     calibration file in place of (or for want of) what the recording says
    pinhole        fx, fy, cx, cy in pixels, the same
    color, depth, truth, mask
                   patterns of a folder's pictures, as of bags/from_images.py; for a video all but
                   `color` name a folder or pattern of pictures, .npy or .npz
    depth_unit_m   what one step of integer depth means; where it is a millimetre, what the
                   recording states holds, unless override_unit
    rectified      whether P of camera_info holds instead of K
    sync_slop_s    how far apart the stamps of colour and depth of one frame may be
    rate_hz        of what has no stamps
    kind, split    of a data set; None: found, all
    pass_through   whether a bag's other topics are handed on
    """

    topics: dict[str, str] = field(default_factory=dict)
    intrinsics: str | None = None
    pinhole: tuple[float, float, float, float] | None = None
    color: str | None = None
    depth: str | None = None
    truth: str | None = None
    mask: str | None = None
    depth_unit_m: float = 0.001
    override_unit: bool = False
    rectified: bool = False
    sync_slop_s: float = 0.02
    max_gap_s: float = DEFAULT_GAP_S
    rate_hz: float = 10.0
    kind: str | None = None
    split: str | None = None
    pass_through: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        for name, fits, expected in (
            ("depth_unit_m", 0 < self.depth_unit_m < math.inf, "metres above 0"),
            ("rate_hz", 0 < self.rate_hz < math.inf, "frames a second above 0"),
            ("sync_slop_s", 0 <= self.sync_slop_s < math.inf, "seconds, 0 or more"),
            ("max_gap_s", self.max_gap_s > 0, "seconds above 0"),
        ):
            if not fits:
                raise DktError(f"{name} is {getattr(self, name):g}, expected {expected}")

    @property
    def has_camera(self) -> bool:
        """Whether a calibration is given."""
        return self.pinhole is not None or self.intrinsics is not None

    def camera(self, width: int, height: int) -> Intrinsics:
        """The calibration that is given, for pictures of this size. Raises DktError."""
        if self.pinhole is not None:
            return checked_intrinsics(*self.pinhole, width, height, source="--pinhole")
        assert self.intrinsics is not None  # has_camera
        return read_intrinsics(Path(self.intrinsics), width, height)


class Source(abc.ABC):
    """One recording.

    path, name   where it is, what its output is called
    total        frames that it is likely to give
    duration_s   of the recording; 0 where it has no times
    remarks      what of it cannot be read or is odd; reading adds to it
    notes        what looks wrong and costs nothing
    dropped      messages or frames that cannot be used, by cause; reading adds to it
    reasons      the first text of each cause
    flushed      how often the stream began anew, by reason
    truth_from   how a recording of this kind brings true depth, in words
    """

    truth_from = "expected it as --truth PATTERN"

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.total = 0
        self.duration_s = 0.0
        self.remarks: list[str] = []
        self.notes: list[str] = []
        self.dropped: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.flushed: Counter[str] = Counter()

    def camera_given(self, options: SourceOptions, width: int, height: int) -> Intrinsics:
        """options.camera(); that its file tells of distortion is noted."""
        camera = options.camera(width, height)
        if options.pinhole is None:
            said = distortion_remarks(Path(options.intrinsics or ""), camera)
            self.notes += [line for line in said if line not in self.notes]
        return camera

    @property
    @abc.abstractmethod
    def kind(self) -> str:
        """What kind of recording it is."""

    @abc.abstractmethod
    def items(self) -> Iterator[Pending | PassedMessage]:
        """All of it, in order. Raises ProcessingError where nothing can come of it."""

    @property
    def lost(self) -> list[str]:
        """What of it could not be used, one line each; [] where all could."""
        return [*self.remarks, *(f"{n} x {why}" for why, n in sorted(self.dropped.items()))]

    @property
    def has_truth(self) -> bool:
        """Whether true depth comes with its frames, or with some of them."""
        return False

    def drop(self, cause: str, text: str, number: int = 1) -> None:
        """Counts what cannot be used."""
        self.dropped[cause] += number
        self.reasons.setdefault(cause, text)
