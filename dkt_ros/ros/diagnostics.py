"""What the node says about itself on /diagnostics. Knows its numbers; touches no node.

Four statuses: what comes in, what the network does, how the depth is scaled, what state the node
is in. Each says in its message the one thing that an operator should do something about.
"""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from dkt_ros.alignment.aligner import AlignmentState
from dkt_ros.ros.frame_choice import ChoiceStatus
from dkt_ros.ros.input_verdict import input_verdict
from dkt_ros.ros.node_report import NodeReport
from dkt_ros.ros.statistics import StreamSnapshot
from dkt_ros.ros.worker import WorkerState

# Never STALE: diagnostic_aggregator takes a group of which a part is stale for an ERROR.
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
MEBIBYTE = 1 << 20
RESTING = "publish is on_demand, and nobody asks for depth"
NO_NEW_DEPTH = "no new depth"
"""Why is another status' matter."""
STUCK_TIMES, FIRST_S = 10.0, 30.0
"""Times the longest frame of late, or seconds of the first, from which one that goes on is told."""


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
    values = [("state", report.lifecycle), ("dkt_ros", report.version)]
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
    if report.cut_off:
        return _Part("lifecycle", ERROR, f"active; {report.cut_off}", values)
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
    values: list[tuple[str, str]] = []
    pipeline = report.pipeline
    for name, topic in pipeline.inputs.items():
        stream = report.stream(name)
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
    values.append(("frames accepted", str(report.stream("pair").count)))
    values += [(f"dropped: {cause}", str(n)) for cause, n in sorted(report.snapshot.drops.items())]
    values += [(f"remark: {cause}", text) for cause, text in pipeline.remarks.items()]
    for cause, (text, age_s) in sorted(report.complaints.items()):
        values.append((f"last {cause}", f"{text} ({age_s:.0f} s ago)"))
    if report.active_s is None:
        return _Part("input", OK, "not active, no topic is subscribed", values)
    level, message = input_verdict(report)
    return _Part("input", level, message, values)


def _inference(report: NodeReport) -> _Part:
    snapshot, worker = report.snapshot, report.worker
    output = report.stream("dkt/depth")
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
    if stuck := _stuck(report):
        return WARN, stuck
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


def _stuck(report: NodeReport) -> str:
    """What to do about a frame that takes far longer than those before it; "" where none does."""
    _, longest_s = report.snapshot.timings_s.get("total", (0.0, 0.0))
    patience_s = max(report.image_timeout_s, STUCK_TIMES * longest_s) if longest_s else FIRST_S
    if (busy_s := report.worker.busy_s) <= patience_s:
        return ""
    before = f", and of late none more than {longest_s:.1f} s" if longest_s else ""
    return (
        f"one frame has taken {busy_s:.0f} s so far{before}: does the device hang (nvidia-smi, "
        "dmesg), is the machine out of memory, or does the network compile for another picture "
        "size? If it does not end, end this process and restart it"
    )


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
    quiet_s = report.quiet_s("dkt/depth")
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
        if alignment.inliers == 0:
            return _Part("alignment", OK, alignment.reason, values)
        text = f"residual {alignment.residual_m * 1e3:.1f} mm"
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
