"""What the node says about itself on /diagnostics. Knows its numbers; touches no node.

Four statuses: what comes in, what the network does, how the depth is scaled, what state the node
is in. Each says in its message the one thing that an operator should do something about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.predict.predictor import PredictorInfo
from dkt_ros.ros.frame_choice import ChoiceStatus
from dkt_ros.ros.statistics import Snapshot, StreamSnapshot
from dkt_ros.ros.synchronizer import DropCause
from dkt_ros.ros.worker import WorkerState, WorkerStatus

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
INPUTS = ("color", "depth", "camera_info")
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class InputTopic:
    """A subscription: its resolved topic and how many publishers it has."""

    topic: str
    publishers: int


@dataclass(frozen=True)
class NodeReport:
    """All that diagnostics are made from, at one moment.

    lifecycle      the lifecycle state's label; transition_error the last failed transition's text
    active_s       seconds since activation, None while not active
    inputs         "color", "depth", "camera_info" -> topic
    complaints     cause -> what was reported last, and its age in seconds
    offset_s       newest colour stamp less newest depth stamp
    output_error   what is wrong with clouds or pictures, while depth goes out
    """

    node_name: str
    lifecycle: str
    transition_error: str = ""
    active_s: float | None = None
    image_timeout_s: float = 2.0
    inputs: Mapping[str, InputTopic] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    complaints: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    offset_s: float | None = None
    worker: WorkerStatus = field(default_factory=WorkerStatus)
    output_error: str = ""
    choice: ChoiceStatus | None = None
    engine: PredictorInfo | None = None
    alignment: Alignment | None = None
    memory: Mapping[str, int] = field(default_factory=dict)


def diagnostic_array(report: NodeReport, header: Header) -> DiagnosticArray:
    """The message for /diagnostics."""
    parts = (_lifecycle(report), _input(report), _inference(report), _alignment(report))
    hardware = report.engine.device if report.engine else ""
    return DiagnosticArray(
        header=header,
        status=[
            DiagnosticStatus(
                level=part.level,
                name=f"{report.node_name}: {part.name}",
                message=part.message,
                hardware_id=hardware,
                values=[KeyValue(key=key, value=value) for key, value in part.values],
            )
            for part in parts
        ],
    )


@dataclass(frozen=True)
class _Part:
    name: str
    level: bytes
    message: str
    values: list[tuple[str, str]]


def _lifecycle(report: NodeReport) -> _Part:
    values = [("state", report.lifecycle)]
    if report.transition_error:
        return _Part("lifecycle", ERROR, report.transition_error, values)
    if report.lifecycle != "active":
        return _Part("lifecycle", WARN, f"{report.lifecycle}: no depth is made", values)
    return _Part("lifecycle", OK, "active", values)


def _input(report: NodeReport) -> _Part:
    streams = report.snapshot.streams
    values: list[tuple[str, str]] = []
    for name, topic in report.inputs.items():
        stream = streams.get(name, StreamSnapshot())
        values += [
            (f"{name} topic", topic.topic),
            (f"{name} publishers", str(topic.publishers)),
            (f"{name} rate (Hz)", f"{stream.rate_hz:.1f}"),
            (f"{name} messages", str(stream.count)),
        ]
    if report.offset_s is not None:
        values.append(("color stamp - depth stamp (s)", f"{report.offset_s:.3f}"))
    values.append(("frames accepted", str(streams.get("frame", StreamSnapshot()).count)))
    values += [(f"dropped: {cause}", str(n)) for cause, n in sorted(report.snapshot.drops.items())]
    for cause, (text, age_s) in sorted(report.complaints.items()):
        values.append((f"last {cause}", f"{text} ({age_s:.0f} s ago)"))
    if report.active_s is None:
        return _Part("input", OK, "not active, no topic is subscribed", values)
    level, message = _input_verdict(report, report.active_s)
    return _Part("input", level, message, values)


def _input_verdict(report: NodeReport, active_s: float) -> tuple[bytes, str]:
    streams = report.snapshot.streams
    silent = [
        name
        for name in report.inputs
        if _quiet_s(streams.get(name), active_s) > report.image_timeout_s
        # Calibration may be published once only.
        and not (name == "camera_info" and name in streams)
    ]
    if silent:
        return WARN, _silence(report, silent, active_s)
    quiet_s = _quiet_s(streams.get("frame"), active_s)
    recent = [
        (age_s, text)
        for text, age_s in report.complaints.values()
        if age_s <= report.image_timeout_s
    ]
    if quiet_s > report.image_timeout_s:
        if recent:
            return ERROR, min(recent)[1]
        offset = "" if report.offset_s is None else f", now {report.offset_s:.3f} s apart"
        unpaired = {cause.value for cause in DropCause}
        drops = {cause: n for cause, n in report.snapshot.drops.items() if cause in unpaired}
        mostly = f"; most were lost as '{max(drops, key=drops.__getitem__)}'" if drops else ""
        return WARN, (
            f"color and depth arrive, but no two stamps match within sync_slop_s{offset}{mostly}; "
            "both must come from one clock"
        )
    if recent:
        return WARN, min(recent)[1]
    rate = streams.get("frame", StreamSnapshot()).rate_hz
    return OK, f"{rate:.1f} frames per second"


def _quiet_s(stream: StreamSnapshot | None, active_s: float) -> float:
    """Seconds without a message while the node was listening."""
    age_s = None if stream is None else stream.age_s
    return active_s if age_s is None else min(age_s, active_s)


def _silence(report: NodeReport, silent: list[str], active_s: float) -> str:
    """Which inputs are silent: those that nobody publishes, then the others."""
    sentences = []
    for has_publisher, guess in (
        (False, "no publisher; is the camera running, is the topic right?"),
        (True, "it has a publisher; is the camera streaming, does QoS match?"),
    ):
        names = [name for name in silent if bool(report.inputs[name].publishers) == has_publisher]
        if names:
            topics = ", ".join(report.inputs[name].topic for name in names)
            quiet_s = min(_quiet_s(report.snapshot.streams.get(name), active_s) for name in names)
            sentences.append(f"no message on {topics} for {quiet_s:.1f} s: {guess}")
    return " ".join(sentences)


def _inference(report: NodeReport) -> _Part:
    snapshot, worker = report.snapshot, report.worker
    output = snapshot.streams.get("dkt/depth", StreamSnapshot())
    values = [
        ("state", worker.state.value),
        ("rate (Hz)", f"{output.rate_hz:.2f}"),
        ("depth images", str(output.count)),
    ]
    if report.choice is not None:
        values += [("frame choice", _choice(report.choice))]
        if report.choice.share is not None:
            values.append(("frames used (%)", f"{100 * report.choice.share:.0f}"))
    values.append(("frames skipped by choice", str(snapshot.skipped)))
    for stage, (mean, longest) in snapshot.timings_s.items():
        values.append((f"{stage} (ms, mean and max)", f"{mean * 1e3:.1f}, {longest * 1e3:.1f}"))
    values += [(f"flushed: {reason}", str(n)) for reason, n in sorted(snapshot.flushes.items())]
    if report.engine is not None:
        engine = report.engine
        values += [
            ("checkpoint", engine.name),
            ("checkpoint path", engine.path),
            ("checkpoint origin", engine.origin),
            ("device", engine.device),
            ("dtype", engine.dtype),
            ("backend", engine.backend),
            ("mode", engine.mode),
            ("steps", str(engine.steps)),
        ]
    values += [(f"{k} memory (MiB)", str(v // MEBIBYTE)) for k, v in report.memory.items()]
    if worker.error:
        values.append(("last error", worker.error))
    level, message = _inference_verdict(report, output)
    if level == OK and report.engine is not None and report.engine.note:
        level, message = WARN, f"{message}; {report.engine.note}"
    return _Part("inference", level, message, values)


def _inference_verdict(report: NodeReport, output: StreamSnapshot) -> tuple[bytes, str]:
    worker = report.worker
    if worker.state is WorkerState.DEGRADED:
        return ERROR, (
            f"degraded after {worker.failures} failure(s), trying again every "
            f"{worker.retry_s:g} s: {worker.error}"
        )
    if worker.error or report.output_error:
        return WARN, worker.error or report.output_error
    if worker.state is WorkerState.STOPPED:
        return OK, "stopped"
    if output.count == 0:
        return OK, f"{worker.state.value}, no depth yet"
    mean, _ = report.snapshot.timings_s.get("total", (0.0, 0.0))
    text = f"{output.rate_hz:.2f} depth images per second, {mean * 1e3:.0f} ms each"
    choice = report.choice
    if choice is not None and choice.share is not None and choice.share < 0.995:
        text += f", from {100 * choice.share:.0f}% of the frames ({_choice(choice)})"
    return OK, text


def _choice(choice: ChoiceStatus) -> str:
    if choice.stride is None:
        return choice.policy
    return f"{choice.policy}, 1 in {choice.stride}"


def _alignment(report: NodeReport) -> _Part:
    alignment = report.alignment
    if alignment is None:
        return _Part("alignment", OK, "no depth yet", [])
    values = [
        ("state", alignment.state.name),
        ("scale (1/m)", f"{alignment.scale:.4f}"),
        ("shift (1/m)", f"{alignment.shift:.4f}"),
        ("inliers", str(alignment.inliers)),
        ("inlier ratio", f"{alignment.inlier_ratio:.2f}"),
        ("residual (m)", f"{alignment.residual_m:.4f}"),
        ("relative uncertainty", f"{alignment.uncertainty:.4f}"),
    ]
    quiet_s = _quiet_s(report.snapshot.streams.get("dkt/depth"), report.active_s or 0.0)
    _, longest_s = report.snapshot.timings_s.get("total", (0.0, 0.0))
    if report.active_s is None or quiet_s > max(report.image_timeout_s, 2.0 * longest_s):
        return _Part("alignment", STALE, "no new depth", values)
    if alignment.state is AlignmentState.OK:
        return _Part("alignment", OK, f"residual {alignment.residual_m * 1e3:.1f} mm", values)
    level = WARN if alignment.state is AlignmentState.HELD else ERROR
    return _Part("alignment", level, f"{alignment.state.name}: {alignment.reason}", values)
