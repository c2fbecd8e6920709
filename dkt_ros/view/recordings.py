"""Recordings, and what `dkt process` or a robot made of them, as moments to show."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.topics import recorded_camera
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator
from dkt_ros.messages.alignment import alignment_fields
from dkt_ros.messages.moments import SERIES, Moment, moment_of, told_state
from dkt_ros.processing.api import process
from dkt_ros.processing.find_sources import MANIFEST, SUMMARY, Recording, find_recordings
from dkt_ros.processing.messages import typestore
from dkt_ros.processing.one import BAG
from dkt_ros.processing.outputs import Output, read_outputs
from dkt_ros.processing.source import Pending, SourceOptions
from dkt_ros.processing.written_depth import written_depth

_log = logging.getLogger(__name__)
_DEPTH_TOPIC = "dkt/depth"


def moments(
    path: str | Path, source: SourceOptions, load: Callable[[], DepthEstimator]
) -> Iterator[Moment]:
    """What can be shown of `path`, in the order of its stamps.

    path: an output of `dkt process`; a bag with the topics of dkt_node; any other recording, whose
    depth is estimated by what `load` gives. Raises DktError where it is none of these.
    """
    folder = Path(path)
    if (folder / SUMMARY).is_file() or (folder / MANIFEST).is_file():
        return _of_output(_only_output(folder))
    recordings = find_recordings([path], source)
    if len(recordings) > 1:
        names = ", ".join(str(recording.path) for recording in recordings[:5])
        raise DktError(f"{path}: holds {len(recordings)} recordings ({names} …); view one of them")
    roles = _dkt_topics(recordings[0].path)
    if roles:
        return _of_bag(recordings[0].path, roles, source)
    recordings[0].open(source)  # before a network is loaded for nothing
    return map(_of_estimate, process(path, source=source, estimator=load()))


def _of_estimate(estimate: DepthEstimate) -> Moment:
    frame = estimate.frame
    fields = alignment_fields(estimate.alignment, estimate.window, estimate.shares)
    fields["latency"] = estimate.timings_s["total"]
    return Moment(
        frame.stamp_ns,
        color=frame.rgb,
        raw=frame.raw_depth,
        depth=estimate.depth,
        confidence=estimate.confidence,
        intrinsics=frame.intrinsics,
        series={name: float(fields[name]) for name in SERIES},
        state=told_state(estimate.alignment.state.name, estimate.alignment.reason),
    )


def _only_output(folder: Path) -> Output:
    found = read_outputs([folder]).outputs
    if len(found) != 1:
        names = ", ".join(str(output.folder) for output in found[:5]) or "none that succeeded"
        raise DktError(f"{folder}: holds {len(found)} outputs ({names}); view one of them")
    return found[0]


def _dkt_topics(path: Path) -> dict[str, str]:
    """Topic -> role of what dkt_node published into a bag; {} for any other recording."""
    try:
        with BagReader(path) as bag:
            names = {name for name, topic in bag.topics.items() if not topic.problem}
    except DktError:
        return {}
    for depth in sorted(names):
        if not f"/{depth}".endswith(f"/{_DEPTH_TOPIC}"):
            continue
        prefix = depth.removesuffix("depth")
        roles = {
            prefix + role: role for role in ("camera_info", "depth", "alignment", "confidence")
        }
        roles |= {f"{prefix}color": "color", f"{prefix}color/compressed": "color"}
        return {name: role for name, role in roles.items() if name in names}
    return {}


def _of_bag(path: Path, dkt: Mapping[str, str], source: SourceOptions) -> Iterator[Moment]:
    roles = dict(dkt)
    with BagReader(path) as bag:
        try:
            camera, apart = recorded_camera(bag, source.topics, needs_info=False)
        except DktError:  # an output has no camera's topics
            camera, apart = None, ""
        if camera is not None and camera.depth and not apart:
            roles[camera.depth] = "raw"
        if camera is not None and "color" not in dkt.values():
            roles[camera.color] = "color"
        for message in bag.messages(roles):
            role = roles[message.topic]
            value = typestore().deserialize_cdr(message.cdr, message.msgtype)
            try:
                yield moment_of(role, value, source.rectified)
            except DktError as error:
                _log.warning("%s: a message of %s left out: %s", path, message.topic, error)


def _of_output(output: Output) -> Iterator[Moment]:
    options = _source_options(output)
    recording = _recording_of(output, options)
    read = int(output.summary["frames"])  # --max-frames may have ended it before the recording
    streams: list[Iterator[Moment]] = []
    bag = output.folder / BAG
    if bag.is_dir():
        roles = _dkt_topics(bag)
        streams.append(_of_bag(bag, roles, options))
        if recording is not None:
            streams.append(_of_recording(recording, options, read, only_raw=True))
    elif recording is not None:
        depths = written_depth(output.folder)
        streams += [
            (Moment(stamp_ns, depth=depth) for stamp_ns, depth in depths),
            (_of_figures(figures) for figures in output.frames),
            _of_recording(recording, options, read, only_raw=False),
        ]
    else:
        raise DktError(
            f"{output.folder}: has files without colours, and its recording "
            f"{output.summary['recording']} is gone; process with --format bag"
        )
    return heapq.merge(*streams, key=lambda moment: moment.stamp_ns)


def _source_options(output: Output) -> SourceOptions:
    """As the recording was read."""
    known: dict[str, Any] = dict(output.summary["options"]["source"])
    known["pinhole"] = tuple(known["pinhole"]) if known["pinhole"] else None
    return SourceOptions(**{**known, "pass_through": False})


def _recording_of(output: Output, options: SourceOptions) -> Recording | None:
    """None: it is gone, or lies elsewhere now."""
    origin = str(output.summary["origin"])
    path = Path(origin)
    while not path.exists() and path != path.parent:  # of a data set: FOLDER: CLIP
        folder, colon, _ = str(path).rpartition(": ")
        path = Path(folder) if colon else path.parent
    try:
        found = [one for one in find_recordings([path], options) if one.origin == origin]
    except DktError:
        found = []
    if not found:
        _log.warning("%s is gone; its raw depth is not shown", origin)
    return found[0] if found else None


def _of_recording(
    recording: Recording, options: SourceOptions, most: int, only_raw: bool
) -> Iterator[Moment]:
    """Its first `most` frames, those that cannot be read included."""
    frames = (item for item in recording.open(options).items() if isinstance(item, Pending))
    for item in islice(frames, most):
        try:
            frame = item.decode().frame
        except DktError as error:
            _log.warning("%s: frame left out: %s", recording.path, error)
            continue
        moment = Moment(frame.stamp_ns, raw=frame.raw_depth)
        if not only_raw:
            moment = replace(moment, color=frame.rgb, intrinsics=frame.intrinsics)
        yield moment


def _of_figures(figures: Mapping[str, Any]) -> Moment:
    values = {
        **figures,
        "residual": figures["residual_m"],
        "latency": figures["timings_s"]["total"],
    }
    series = {name: math.nan if values[name] is None else float(values[name]) for name in SERIES}
    state = told_state(figures["state"], figures["reason"])
    return Moment(figures["stamp_ns"], series=series, state=state)
