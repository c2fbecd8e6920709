"""What the node says about itself on /diagnostics. Knows its numbers; touches no node.

Four statuses: what comes in, what the network does, how the depth is scaled, what state the node
is in. Each says in its message the one thing that an operator should do something about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.frames import FlushReason
from dkt_ros.fusion.fuser import Shares
from dkt_ros.messages.intake import ENCODING_CHANGED
from dkt_ros.messages.synchronizer import LONGEST_WAIT_S, DropCause, told_apart, wide_enough
from dkt_ros.predict.predictor import PredictorInfo
from dkt_ros.ros.frame_choice import ChoiceStatus
from dkt_ros.ros.statistics import RATE_WINDOW_S, Snapshot, StreamSnapshot
from dkt_ros.ros.worker import WorkerState, WorkerStatus
from dkt_ros.wording import counted

# Never STALE: diagnostic_aggregator takes a group of which a part is stale for an ERROR.
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
MEBIBYTE = 1 << 20


_BASE = {"color": "color/image", "depth": "depth/image", "camera_info": "color/camera_info"}
"""What an input is called where it is mapped."""
IMAGES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
LOSS_WORTH_A_WARNING = 0.1
_NEARLY = 0.8
"""Of what most images are lost by, at least, what else they may be lost by."""
FEWEST_PAIRS = 10
"""Shares of fewer messages than this say nothing."""
RESTING = "publish is on_demand, and nobody asks for depth"
NO_NEW_DEPTH = "no new depth"
"""Why is another status' matter."""
DDS_FORGETS_S = 25.0
"""After which a process that was killed is surely forgotten: 20 s, and some to spare."""
MOST_ELSEWHERE = 4
"""Topics that are named in place of one that nobody publishes."""
FLUSHES_WORTH_A_WARNING = 3
"""In the window of the statistics."""
DRIFT_REMEDY = (
    "set live_preset to fast, mode to exact, or clip in the checkpoint's dkt.json to the latent "
    "frames of the clips it was trained on"
)
_STAMP_THEM = "have the camera's driver stamp each image with its time"
_FLUSH_REMEDIES = {
    FlushReason.INTRINSICS_CHANGED.value: "camera_info differs from image to image; have one "
    "publisher send one calibration",
    FlushReason.SIZE_CHANGED.value: "images of several sizes come on one topic; is it published "
    "by more than one camera?",
    FlushReason.STAMP_BACKWARDS.value: "is a short bag looped, or does more than one camera "
    "publish?",
    FlushReason.GAP.value: "raise max_gap_s if the camera is as slow as that",
    FlushReason.SCENE_CUT.value: "raise live_scene_cut if the scene is the same",
    FlushReason.DRIFT.value: DRIFT_REMEDY,
    ENCODING_CHANGED: "does more than one camera publish?",
}


@dataclass(frozen=True)
class InputTopic:
    """A subscription: its resolved topic, how many publishers it has, and what they publish.

    other_types  types on this topic besides the subscription's own, which it cannot hear
    latched      whether all publishers keep their messages for subscribers that come late
    nodes        full names of the publishers' nodes
    crowded_s    for how long two of them have been there together
    elsewhere    where nobody publishes it, topics of its type that others publish, likest first
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
    """

    inputs: Mapping[str, InputTopic] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    offset_s: float | None = None
    apart_s: float | None = None
    missed_s: float | None = None
    late_s: Mapping[str, float] = field(default_factory=dict)
    lost_share: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeReport:
    """All that diagnostics are made from, at one moment.

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
    users_advice   asked where none pass at all: what to do about nodes of other users, "" if none
    surroundings   what decides which other nodes are found: domain, middleware, limits
    output_error   what is wrong with clouds or pictures, while depth goes out
    hanging        topic -> for how long one of its reliable readers has acknowledged nothing, and
                   the names of its reliable readers
    """

    node_name: str
    lifecycle: str
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
    if report.loading_s is not None:
        text = f"loading the network, for {report.loading_s:.0f} s so far"
        if report.loading_stage:
            text += f": {report.loading_stage}"
        return _Part("lifecycle", WARN, text, values)
    if report.transition_error:
        return _Part("lifecycle", ERROR, report.transition_error, values)
    if report.lifecycle != "active":
        remedy = {
            "unconfigured": f"; configure it (ros2 lifecycle set {report.node_name} configure)",
            "inactive": f"; activate it (ros2 lifecycle set {report.node_name} activate)",
            "finalized": " any more; end this process and restart it",
        }.get(report.lifecycle, "")
        return _Part("lifecycle", WARN, f"{report.lifecycle}: no depth is made{remedy}", values)
    if report.twins:
        return _Part("lifecycle", WARN, report.twins, values)
    if report.rivals:
        text = (
            f"active, and dkt/depth is published by {', '.join(report.rivals)} too: subscribers "
            "get the depth of both; end it, or give the nodes namespaces"
        )
        return _Part("lifecycle", WARN, text, values)
    if report.clock_trouble:
        return _Part("lifecycle", WARN, f"active; {report.clock_trouble}", values)
    return _Part("lifecycle", OK, "active", values)


def _input(report: NodeReport) -> _Part:
    streams = report.snapshot.streams
    values: list[tuple[str, str]] = []
    pipeline = report.pipeline
    for name, topic in pipeline.inputs.items():
        stream = streams.get(name, StreamSnapshot())
        values += [
            (f"{name} topic", topic.topic),
            (f"{name} publishers", str(topic.publishers)),
            (f"{name} rate (Hz)", f"{stream.rate_hz:.1f}"),
            (f"{name} messages", str(stream.count)),
        ]
    if pipeline.offset_s is not None:
        values.append(("color stamp - depth stamp (s)", f"{pipeline.offset_s:.3f}"))
    if pipeline.apart_s is not None:
        values.append(("depth stamp - its colour's (s)", f"{pipeline.apart_s:.3f}"))
    values += [
        (f"{name} lost on the way (%)", f"{100 * share:.0f}")
        for name, share in pipeline.lost_share.items()
    ]
    values.append(("frames accepted", str(_stream(report, "pair").count)))
    values += [(f"dropped: {cause}", str(n)) for cause, n in sorted(report.snapshot.drops.items())]
    values += [(f"remark: {cause}", text) for cause, text in pipeline.remarks.items()]
    for cause, (text, age_s) in sorted(report.complaints.items()):
        values.append((f"last {cause}", f"{text} ({age_s:.0f} s ago)"))
    if report.active_s is None:
        return _Part("input", OK, "not active, no topic is subscribed", values)
    level, message = _input_verdict(report, report.active_s)
    return _Part("input", level, message, values)


def _input_verdict(report: NodeReport, active_s: float) -> tuple[bytes, str]:
    """The first that applies: nothing comes, nothing pairs, nothing can be used, something is lost.

    Then what looks wrong while depth is made. How many more apply is told behind it.
    """
    streams = report.snapshot.streams
    silent = [
        name
        for name in report.pipeline.inputs
        if _quiet_s(streams.get(name), active_s) > report.image_timeout_s
        # Calibration may be published once only.
        and not (name == "camera_info" and name in streams)
    ]
    if silent:
        return WARN, _silence(report, silent, active_s)
    _, longest_s = report.snapshot.timings_s.get("total", (0.0, 0.0))
    patience_s = max(report.image_timeout_s, 2.0 * longest_s)
    complaints = _complaints(report, patience_s)
    cost_frames = any(cause in report.snapshot.drops for cause in complaints)
    # What else is wrong comes of that, where more than one camera is sure to publish.
    crowds, restarted = _crowds(report)
    recent = [*crowds, *complaints.values()]
    if _quiet_s(streams.get("pair"), active_s) > report.image_timeout_s:
        if cost_frames:
            return ERROR, _first_of(recent)
        return WARN, _first_of([*crowds, _unpaired(report), *complaints.values(), *restarted])
    lasting = [
        *restarted,
        *_losses(report, is_told=cost_frames),
        *_flushes(report),
        *filter(None, [told_apart(report.pipeline.apart_s)]),
        *report.pipeline.remarks.values(),
    ]
    if recent or lasting:
        nothing_decoded = _quiet_s(streams.get("frame"), active_s) > patience_s
        level = ERROR if cost_frames and nothing_decoded else WARN
        return level, _first_of([*recent, *lasting])
    rate_hz = _stream(report, "pair").rate_hz
    return OK, f"{rate_hz:.1f} frames per second" if rate_hz else "waiting for more frames"


def _stream(report: NodeReport, name: str) -> StreamSnapshot:
    return report.snapshot.streams.get(name, StreamSnapshot())


def _complaints(report: NodeReport, patience_s: float) -> dict[str, str]:
    """Cause -> text of what was reported of late: what costs the most frames first, then newest."""
    drops, recent_drops = report.snapshot.drops, report.snapshot.recent_drops
    ages_s = {cause: age_s for cause, (_, age_s) in report.complaints.items()}
    ordered = sorted(
        (cause for cause, age_s in ages_s.items() if age_s <= patience_s),
        key=lambda cause: (cause not in drops, -recent_drops.get(cause, 0), ages_s[cause]),
    )
    return {cause: report.complaints[cause][0] for cause in ordered}


def _first_of(troubles: Sequence[str]) -> str:
    """One trouble, and how many others there are; a remark may have been reported as well."""
    others = len(set(troubles)) - 1
    return troubles[0] + (f" (and {others} more, see the values)" if others else "")


def _unpaired(report: NodeReport) -> str:
    """Why colour and depth arrive and find no partners, and what to do."""
    drops, pipeline = report.snapshot.recent_drops, report.pipeline
    came = _stream(report, "color").recent + _stream(report, "depth").recent
    lost = {cause.value: drops[cause.value] for cause in DropCause if cause.value in drops}
    most = max(lost, key=lost.__getitem__, default="")
    repeated, unstamped = (
        lost.get(cause.value, 0) for cause in (DropCause.DUPLICATE, DropCause.NO_STAMP)
    )
    # One stream's alone leave as many of the other's without a partner.
    enough = max(1.0, _NEARLY * lost.get(most, 0))
    if repeated >= enough:
        remedy = report.clock_trouble or _STAMP_THEM
        return (
            f"stamps stand still: {repeated} of {came} images of the last {RATE_WINDOW_S:g} s had "
            f"the stamp of the one before; {remedy}"
        )
    if unstamped >= enough:
        return _unstamped(unstamped)
    if late := _late(pipeline):
        return late
    missed_s = pipeline.missed_s
    rate_hz = _stream(report, "color").rate_hz
    if missed_s is not None and missed_s < 0.5 / max(rate_hz, 1.0):
        return (
            f"no two stamps match: the nearest are {missed_s:.3f} s apart, sync_slop_s is "
            f"{report.sync_slop_s:g}; raise sync_slop_s to {wide_enough(missed_s):g}, or have the "
            "driver stamp both images alike"
        )
    offset = "" if pipeline.offset_s is None else f", now {pipeline.offset_s:.3f} s apart"
    mostly = f"; most are lost as '{most}'" if most else ""
    return (
        f"color and depth arrive, but no two stamps match within sync_slop_s{offset}{mostly}; "
        "both must come from one clock"
    )


def _unstamped(images: int) -> str:
    """That they have no stamp, and what to do."""
    return (
        f"{counted(images, 'image')} of the last {RATE_WINDOW_S:g} s were stamped 0 or less, which "
        f"is no time, and were left out; {_STAMP_THEM}"
    )


def _late(pipeline: PipelineReport) -> str:
    """Which image comes when the other one is waited with no more, and what to do; "" if none."""
    for name, seconds in pipeline.late_s.items():
        topic = pipeline.inputs[name].topic
        other = pipeline.inputs["depth" if name == "color" else "color"].topic
        return (
            f"{topic} comes {seconds:.2f} s after {other} of its stamp, which waits for "
            f"{LONGEST_WAIT_S:g} s: make what lies between camera and node faster (registration, "
            f"compression, network; ros2 topic delay {topic}), or have the camera send smaller "
            "images"
        )
    return ""


def _crowds(report: NodeReport) -> tuple[list[str], list[str]]:
    """Inputs that more than one publisher sends, whose pictures get mixed.

    Those that surely do, and those of one name that may have been killed and started anew.
    """
    sure: list[str] = []
    restarted: list[str] = []
    for topic in report.pipeline.inputs.values():
        if topic.publishers < 2 or topic.other_types:
            continue
        unnamed = max(topic.publishers - len(topic.nodes), 0)
        nodes = [*topic.nodes, *["one whose name is not known yet"] * unnamed]
        may_be_one = unnamed == 0 and len(set(nodes)) == 1 and topic.crowded_s <= DDS_FORGETS_S
        why = (
            f"was {nodes[0]} killed and started anew? DDS forgets the one before within 20 "
            "s. Where more than one runs, pictures of all are mixed in one stream: end all but one"
            if may_be_one
            else "pictures of all are mixed in one stream; end all but one, or give each camera a "
            "namespace"
        )
        text = f"{topic.topic} has {topic.publishers} publishers ({', '.join(nodes)}): {why}"
        (restarted if may_be_one else sure).append(text)
    return sure, restarted


def _losses(report: NodeReport, is_told: bool) -> list[str]:
    """Messages that were sent and did not come; messages that came and found no partner.

    is_told: a complaint says already why frames are lost.
    """
    found = []
    pipeline = report.pipeline
    for name, share in pipeline.lost_share.items():
        if share > LOSS_WORTH_A_WARNING and name in pipeline.inputs:
            found.append(
                f"{100 * share:.0f}% of the messages of {pipeline.inputs[name].topic} do not "
                f"arrive, judging by their stamps: {report.dds_advice}"
            )
    pairs = _stream(report, "pair").recent
    expected = min(_stream(report, "color").recent, _stream(report, "depth").recent)
    repeated = report.snapshot.recent_drops.get(DropCause.DUPLICATE.value, 0)
    if repeated > LOSS_WORTH_A_WARNING * 2 * expected:
        found.append(
            f"{repeated} images of the last {RATE_WINDOW_S:g} s had the stamp of the one before, "
            "and were left out: does more than one publisher send them?"
        )
    unstamped = report.snapshot.recent_drops.get(DropCause.NO_STAMP.value, 0)
    if unstamped > LOSS_WORTH_A_WARNING * 2 * expected:
        found.append(_unstamped(unstamped))
    expected -= (repeated + unstamped) // 2  # of either stream
    is_told = is_told or bool(found)
    if not is_told and expected >= FEWEST_PAIRS and pairs < (1 - LOSS_WORTH_A_WARNING) * expected:
        drops = report.snapshot.recent_drops
        cause = max(drops, key=drops.__getitem__, default="")
        why = f", mostly as '{cause}'" if cause else ""
        remedy = ""
        if late := _late(pipeline):
            remedy = f": {late}"
        elif pipeline.missed_s is not None:
            remedy = f"; raise sync_slop_s to {wide_enough(pipeline.missed_s):g}"
        found.append(
            f"{expected - pairs} of {expected} frames of the last {RATE_WINDOW_S:g} s were lost"
            f"{why}{remedy}"
        )
    return found


def _flushes(report: NodeReport) -> list[str]:
    """A stream that begins anew all the time never shows the network more than a frame."""
    flushes = report.snapshot.recent_flushes
    number = sum(flushes.values())
    # Of the frames that the network was given: many more may have come.
    frames = min(_stream(report, "pair").recent, max(_stream(report, "dkt/depth").recent, number))
    if number < FLUSHES_WORTH_A_WARNING or 10 * number < frames:
        return []
    reason = max(flushes, key=flushes.__getitem__)
    remedy = _FLUSH_REMEDIES.get(reason, "see the values")
    return [
        f"the stream began anew {counted(number, 'time')} in the last {RATE_WINDOW_S:g} s, "
        f"mostly because of '{reason}': {remedy}"
    ]


def _quiet_s(stream: StreamSnapshot | None, active_s: float) -> float:
    """Seconds without a message while the node was listening."""
    age_s = None if stream is None else stream.age_s
    return active_s if age_s is None else min(age_s, active_s)


def _silence(report: NodeReport, silent: list[str], active_s: float) -> str:
    """Which inputs are silent: those that nobody publishes, of another type, then the others."""
    inputs = report.pipeline.inputs
    guesses: dict[str, list[str]] = {}
    for name in silent:
        topic = inputs[name]
        if topic.other_types:
            guess = (
                f"it is published as {', '.join(topic.other_types)}, expected {topic.type}: "
                f"{_other_type(topic)}"
            )
        elif set(topic.nodes) == {report.node_name}:
            guess = (
                f"this node alone publishes it, as its own output: map {_BASE[name]} to the "
                "camera's topic"
            )
        elif topic.latched and name not in report.snapshot.streams:
            override = f"qos_overrides.{topic.topic}.subscription"
            guess = (
                "its publisher may have sent it once, before this node came: to get that, set "
                f"{override}.durability to transient_local and {override}.reliability to reliable"
            )
        elif topic.publishers and name in report.snapshot.streams:
            guess = (
                "it has a publisher, and came before: has the camera stopped (look at its cable "
                "and its driver's log), or what plays or relays it, or the network?"
            )
        elif topic.publishers:
            guess = report.users_advice()
            guess = guess or "it has a publisher; is the camera streaming, does QoS match?"
        else:
            guess = "no publisher; is the camera running, is the topic right?"
        guesses.setdefault(guess, []).append(name)
    sentences = []
    for guess, names in sorted(guesses.items(), key=lambda item: inputs[item[1][0]].publishers):
        topics = ", ".join(inputs[name].topic for name in names)
        quiet_s = min(_quiet_s(report.snapshot.streams.get(name), active_s) for name in names)
        found = dict.fromkeys(t for name in names for t in inputs[name].elsewhere[:MOST_ELSEWHERE])
        there = f" Published are {', '.join(found)}." if found else ""
        sentences.append(f"no message on {topics} for {quiet_s:.1f} s: {guess}{there}")
    if not any(topic.publishers or topic.elsewhere for topic in inputs.values()):
        sentences.append(
            f"No camera at all is seen from here, by {report.surroundings}: expected the same for "
            "its driver."
        )
    return " ".join(sentences)


def _other_type(topic: InputTopic) -> str:
    """What to do about a topic of another type."""
    if "stereo_msgs/msg/DisparityImage" in topic.other_types:
        return (
            "disparity is no depth; map it to what a node makes of it, registered to colour "
            "(isaac_ros_stereo_image_proc: DisparityToDepthNode)"
        )
    if topic.type in IMAGES and not IMAGES.isdisjoint(topic.other_types):
        return "map it to another topic, or set color_transport and depth_transport"
    return "map it to another topic"


def _inference(report: NodeReport) -> _Part:
    snapshot, worker = report.snapshot, report.worker
    output = snapshot.streams.get("dkt/depth", StreamSnapshot())
    values = [
        ("state", worker.state.value),
        ("rate (Hz)", f"{output.rate_hz:.2f}"),
        ("depth images", str(output.count)),
    ]
    values += [
        (f"{topic} messages", str(stream.count))
        for topic, stream in snapshot.streams.items()
        if topic.startswith("dkt/") and topic != "dkt/depth"
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
    if report.hanging:
        return WARN, _hanging(report)
    if worker.state is WorkerState.STOPPED:
        return OK, "stopped"
    if report.resting:
        return OK, RESTING
    if output.count == 0:
        return OK, f"{worker.state.value}, no depth yet"
    mean, _ = report.snapshot.timings_s.get("total", (0.0, 0.0))
    rate = f"{output.rate_hz:.2f} depth images per second, " if output.rate_hz else ""
    text = f"{rate}{mean * 1e3:.0f} ms each"
    choice = report.choice
    if choice is not None and choice.share is not None and choice.share < 0.995:
        text += f", from {100 * choice.share:.0f}% of the frames ({_choice(choice)})"
    return OK, text


def _hanging(report: NodeReport) -> str:
    """Whose reader stands still. DDS tells that one does, and not which of several."""
    topics = report.hanging
    seconds = max(seconds for seconds, _ in topics.values())
    readers = sorted({name for _, names in topics.values() for name in names})
    who = f" ({' or '.join(readers)})" if readers else ""
    text = (
        f"a reader of {', '.join(sorted(topics))}{who} has acknowledged nothing for {seconds:.0f} "
        "s: its process stands still or its machine is gone; restart it. Depth goes on for all "
        "others; clouds and pictures that it reads go out once a second until it answers, or DDS "
        "forgets it"
    )
    return ". ".join(filter(None, [text, report.users_advice()]))


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
    if report.resting:
        return _Part("alignment", OK, RESTING, values)
    if report.active_s is None:
        return _Part("alignment", OK, "not active, no depth is made", values)
    if quiet_s > max(report.image_timeout_s, 2.0 * longest_s):
        return _Part("alignment", WARN, NO_NEW_DEPTH, values)
    if report.shares is not None:
        shares = vars(report.shares).items()
        values += [(f"share of {source}", f"{share:.2f}") for source, share in shares]
    if alignment.state is AlignmentState.OK:
        text = f"residual {alignment.residual_m * 1e3:.1f} mm"
        if alignment.inliers == 0:
            return _Part("alignment", OK, alignment.reason, values)
        if alignment.uncertainty <= report.align_max_uncertainty:
            return _Part("alignment", OK, text, values)
        text += (
            f"; but the depth is expected to be off by {alignment.uncertainty:.0%} or more in half "
            "of the picture: have the sensor see more of the scene, and take what dkt/confidence "
            "is sure of (min_confidence)"
        )
        return _Part("alignment", WARN, text, values)
    level = ERROR if alignment.state is AlignmentState.UNALIGNED else WARN
    return _Part("alignment", level, f"{alignment.state.name}: {alignment.reason}", values)
