"""All that diagnostics are made from, at one moment. Knows numbers and names; judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dkt_ros.alignment.aligner import Alignment
from dkt_ros.fusion.fused import Shares
from dkt_ros.predict.predictor import PredictorInfo
from dkt_ros.ros.frame_choice import ChoiceStatus
from dkt_ros.ros.statistics import Snapshot, StreamSnapshot
from dkt_ros.ros.worker import WorkerStatus

IMAGES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}


@dataclass(frozen=True)
class InputTopic:
    """A subscription: its resolved topic, how many publishers it has, and what they publish.

    other_types  types on this topic besides the subscription's own, which it cannot hear
    latched      whether all publishers keep their messages for subscribers that come late
    nodes        full names of the publishers' nodes
    crowded_s    for how long two of them have been there together
    elsewhere    where nobody else publishes it, topics of its type, likest first
    """

    topic: str
    publishers: int
    type: str = ""
    other_types: tuple[str, ...] = ()
    latched: bool = False
    nodes: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    crowded_s: float = 0.0


@dataclass(frozen=True)
class PipelineReport:
    """The inputs of an active node.

    inputs      "color", "depth", "camera_info" -> topic
    remarks     cause -> what is likely wrong with the frames that come now
    offset_s    newest colour stamp less newest depth stamp
    apart_s     how long after its colour depth is stamped, where that is the same in all pairs
    missed_s    how far the nearest depth is from colour that finds none near enough
    late_s      "color", "depth" -> how far it comes behind the other, which does not wait as long
    lost_share  "color", "depth" -> share of the messages that did not arrive, by their stamps
    pauses_s    how long colour and depth stood still together, each time of late
    """

    inputs: Mapping[str, InputTopic] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    offset_s: float | None = None
    apart_s: float | None = None
    missed_s: float | None = None
    late_s: Mapping[str, float] = field(default_factory=dict)
    lost_share: Mapping[str, float] = field(default_factory=dict)
    pauses_s: Sequence[float] = ()


@dataclass(frozen=True)
class NodeReport:
    """All that diagnostics are made from, at one moment.

    version        of this package
    lifecycle      the lifecycle state's label; transition_error the last failed transition's text
    loading_s      seconds since the network began to load, None while it does not
    loading_stage  the last part of it that is done, e.g. "warm-up 2/6 after 3.1 s"
    twins          what to do where other nodes go by this name
    rivals         names of other nodes that publish dkt/depth
    clock_trouble  what to do where use_sim_time is set and /clock is silent, still or sent by two
    active_s       seconds since activation, None while not active
    resting        whether depth is made on demand, and nobody asks
    pipeline       what comes in; empty while not active
    complaints     cause -> what was reported last, and its age in seconds
    dds_advice     what to do about messages that get lost on the way
    cut_off        what to do where others that start from now on cannot reach this process
    users_advice   asked where none pass at all: what to do about nodes of other users, "" if none
    surroundings   what decides which other nodes are found: domain, middleware, limits
    output_error   what is wrong with clouds or pictures, while depth goes out
    hanging        topic -> for how long one of its reliable readers has acknowledged nothing, and
                   the names of its reliable readers
    """

    node_name: str
    lifecycle: str
    version: str = ""
    transition_error: str = ""
    loading_s: float | None = None
    loading_stage: str = ""
    twins: str = ""
    rivals: tuple[str, ...] = ()
    clock_trouble: str = ""
    active_s: float | None = None
    resting: bool = False
    image_timeout_s: float = 2.0
    sync_slop_s: float = 0.02
    align_max_uncertainty: float = 0.05
    pipeline: PipelineReport = field(default_factory=PipelineReport)
    snapshot: Snapshot = field(default_factory=Snapshot)
    complaints: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    dds_advice: str = ""
    cut_off: str = ""
    users_advice: Callable[[], str] = lambda: ""
    surroundings: str = ""
    worker: WorkerStatus = field(default_factory=WorkerStatus)
    output_error: str = ""
    hanging: Mapping[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    choice: ChoiceStatus | None = None
    engine: PredictorInfo | None = None
    alignment: Alignment | None = None
    shares: Shares | None = None
    memory: Mapping[str, int] = field(default_factory=dict)

    def stream(self, name: str) -> StreamSnapshot:
        """One of the snapshot's; none of its messages where there was none."""
        return self.snapshot.streams.get(name, StreamSnapshot())

    def quiet_s(self, name: str) -> float:
        """Seconds without a message of that stream while the node was listening."""
        age_s, active_s = self.stream(name).age_s, self.active_s or 0.0
        return active_s if age_s is None else min(age_s, active_s)
