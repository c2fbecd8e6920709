"""What is wrong with what comes in: of many things the one to act on first, and what to do.

Knows the numbers of a node's inputs. Knows nothing of how they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticStatus

from dkt_ros.frames import FlushReason
from dkt_ros.messages.intake import ENCODING_CHANGED, FRAME_ID_CHANGED
from dkt_ros.messages.synchronizer import LONGEST_WAIT_S, DropCause, told_apart, wide_enough
from dkt_ros.ros.node_report import IMAGES, InputTopic, NodeReport, PipelineReport
from dkt_ros.ros.statistics import RATE_WINDOW_S
from dkt_ros.wording import counted

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
_BASE = {"color": "color/image", "depth": "depth/image", "camera_info": "color/camera_info"}
"""What an input is called where it is mapped."""
LOSS_WORTH_A_WARNING = 0.1
_NEARLY = 0.8
"""Of what most images are lost by, at least, what else they may be lost by."""
FEWEST_PAIRS = 10
"""Shares of fewer messages than this say nothing."""
DDS_FORGETS_S = 25.0
"""After which a process that was killed is surely forgotten: 20 s, and some to spare."""
MOST_ELSEWHERE = 4
"""Topics that are named in place of one that nobody publishes."""
PAUSES_WORTH_A_WARNING = 3
"""Among the newest stamps."""
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
    FlushReason.STAMP_BACKWARDS.value: "is a short bag looped, does more than one camera publish, "
    "or does the camera's clock step back (chrony, its driver's time synchronisation)?",
    FlushReason.GAP.value: "raise max_gap_s if the camera is as slow as that",
    FlushReason.SCENE_CUT.value: "raise live_scene_cut if the scene is the same",
    FlushReason.DRIFT.value: DRIFT_REMEDY,
    ENCODING_CHANGED: "does more than one camera publish?",
    FRAME_ID_CHANGED: "does more than one camera publish, or does one change its name?",
}


def input_verdict(report: NodeReport) -> tuple[bytes, str]:
    """The first that applies: nothing comes, nothing pairs, nothing can be used, something is lost.

    Then what looks wrong while depth is made. How many more apply is told behind it.
    """
    streams = report.snapshot.streams
    silent = [
        name
        for name in report.pipeline.inputs
        if report.quiet_s(name) > report.image_timeout_s
        # Calibration may be published once only.
        and not (name == "camera_info" and name in streams)
    ]
    if silent:
        return WARN, _silence(report, silent)
    _, longest_s = report.snapshot.timings_s.get("total", (0.0, 0.0))
    patience_s = max(report.image_timeout_s, 2.0 * longest_s)
    complaints = _complaints(report, patience_s)
    cost_frames = any(cause in report.snapshot.drops for cause in complaints)
    # What else is wrong comes of that, where more than one camera is sure to publish.
    crowds, restarted = _crowds(report)
    recent = [*crowds, *complaints.values()]
    if report.quiet_s("pair") > report.image_timeout_s:
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
        nothing_decoded = report.quiet_s("frame") > patience_s
        level = ERROR if cost_frames and nothing_decoded else WARN
        return level, _first_of([*recent, *lasting])
    rate_hz = report.stream("pair").rate_hz
    return OK, f"{rate_hz:.1f} frames per second" if rate_hz else "waiting for more frames"


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
    came = report.stream("color").recent + report.stream("depth").recent
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
    rate_hz = report.stream("color").rate_hz
    if missed_s is not None and missed_s < 0.5 / max(rate_hz, 1.0):
        return (
            f"no two stamps match: the nearest are {missed_s:.3f} s apart, sync_slop_s is "
            f"{report.sync_slop_s:g}; raise sync_slop_s to {wide_enough(missed_s):g}"
            f"{_if_it_grows(missed_s, rate_hz)}, or have the driver stamp both images alike"
        )
    offset = "" if pipeline.offset_s is None else f", now {pipeline.offset_s:.3f} s apart"
    mostly = f"; most are lost as '{most}'" if most else ""
    return (
        f"color and depth arrive, but no two stamps match within sync_slop_s{offset}{mostly}; "
        "both must come from one clock"
    )


def _if_it_grows(missed_s: float, rate_hz: float) -> str:
    """What is enough where two cameras run freely, each by a clock of its own."""
    enough = wide_enough(0.5 / rate_hz) if rate_hz else 0.0
    if enough <= wide_enough(missed_s):
        return ""
    return f" (if that is too little after some minutes, both run freely: to {enough:g})"


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
    if len(pauses_s := pipeline.pauses_s) >= PAUSES_WORTH_A_WARNING:
        found.append(
            f"neither color nor depth came for up to {max(pauses_s):.1f} s, {len(pauses_s)} times "
            "of late: does the camera pause (look at its cable, a hub, and its driver's log), or "
            "the link to its machine?"
        )
    pairs = report.stream("pair").recent
    expected = min(report.stream("color").recent, report.stream("depth").recent)
    repeated = report.snapshot.recent_drops.get(DropCause.DUPLICATE.value, 0)
    if repeated > LOSS_WORTH_A_WARNING * 2 * expected:
        crowded = any(topic.publishers != 1 for topic in pipeline.inputs.values())
        found.append(
            f"{repeated} images of the last {RATE_WINDOW_S:g} s had the stamp of the one before, "
            "and were left out: does more than one publisher send them"
            + ("?" if crowded else f", or one by whole seconds? Then {_STAMP_THEM}")
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
    frames = min(report.stream("pair").recent, max(report.stream("dkt/depth").recent, number))
    if number < FLUSHES_WORTH_A_WARNING or 10 * number < frames:
        return []
    reason = max(flushes, key=flushes.__getitem__)
    remedy = _FLUSH_REMEDIES.get(reason, "see the values")
    return [
        f"the stream began anew {counted(number, 'time')} in the last {RATE_WINDOW_S:g} s, "
        f"mostly because of '{reason}': {remedy}"
    ]


def _silence(report: NodeReport, silent: list[str]) -> str:
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
        quiet_s = min(report.quiet_s(name) for name in names)
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
