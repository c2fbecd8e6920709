"""`dkt process`: flags, progress and the summary line. Imports no network until run."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.arguments import finite, given, natural, path, positive
from dkt_ros.fusion.config import add_fusion_arguments, config_of
from dkt_ros.predict.options import add_arguments, options_of
from dkt_ros.processing.formats import COLORS, FILE_FORMATS
from dkt_ros.wording import one_line

if TYPE_CHECKING:
    from dkt_ros.processing.many import Result, Runner
    from dkt_ros.processing.options import ProcessOptions
    from dkt_ros.processing.source import SourceOptions

_DESCRIPTION = """Runs bags, folders of colour and depth pictures, data sets, videos with depth and
folders of these through the node's own estimator. Each recording gets a folder below the
output. Existing output is kept: the same command resumes where an earlier one stopped."""

_CODES = """exit status: 0 all done; 1 of several recordings some failed (the manifest says why);
2 wrong arguments; 3 done, but part of a recording could not be used; of a single recording:
4 no camera_info, 5 no raw depth, 6 no colour, 7 several cameras, 8 empty, 9 not a recording,
10 no frame could be used, 11 inference failed, 12 output cannot be written, 13 output exists,
14 worker process died; 15 all is written, but no frame has depth at any pixel;
130 interrupted, the same command resumes.
The last line on stdout is JSON."""

WRONG = 2
"""Exit status for wrong arguments."""


def add_commands(subparsers: Any) -> None:
    """Adds `dkt process`."""
    parser = subparsers.add_parser(
        "process",
        help="recordings -> metric depth: a bag or files, as fast as the machine allows",
        description=_DESCRIPTION,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recordings(parser)
    add = parser.add_argument_group("output").add_argument
    add(
        "--format",
        nargs="+",
        default=["bag"],
        choices=("bag", *FILE_FORMATS),
        help="what to write: bag (mcap), 16-bit PNG in millimetres, EXR, npz, PLY, "
        "contact_graspnet's npz (bag)",
    )
    add("--points", action="store_true", help="also write /dkt/points into the bag")
    add(
        "--color-encoding",
        choices=COLORS,
        default=COLORS[0],
        help="encoding of colour in the bag (raw)",
    )
    add("--pass-through", action="store_true", help="also copy the recorded topics into the bag")
    add("--overwrite", action="store_true", help="replace existing outputs of these recordings")
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="recordings processed in parallel (number of cores)",
    )
    add(
        "--retries",
        type=natural,
        default=1,
        metavar="N",
        help="retries of a recording whose process died (1)",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, local",
    )
    add(
        "--ray-gpus",
        type=finite,
        default=0.0,
        metavar="X",
        help="GPUs for each recording, with --ray; 0: CPU only (0)",
    )
    add(
        "--max-frames",
        type=positive,
        metavar="N",
        help="process at most N frames of each recording",
    )
    add(
        "--part-frames",
        type=positive,
        default=300,
        metavar="N",
        help="frames between two points from which a killed run resumes, five minutes at most "
        "(%(default)s)",
    )
    add_source_arguments(parser)
    add = parser.add_argument_group("depth").add_argument
    add(
        "--depth",
        choices=("fused", "network"),
        default="fused",
        help="what to output, as the node's parameter depth (fused)",
    )
    for name, default, text in (
        ("min_depth", 0.1, "nearer depth becomes NaN"),
        ("max_depth", 10.0, "farther depth becomes NaN"),
        ("raw_min_depth", 0.1, "nearer raw depth counts as unknown"),
        ("raw_max_depth", 10.0, "farther raw depth counts as unknown"),
        ("min_confidence", 0.0, "depth with less confidence becomes NaN"),
    ):
        flag = f"--{name.replace('_', '-')}"
        add(flag, type=finite, default=default, metavar="X", help=f"{text} ({default:g})")
    network = parser.add_argument_group("network")
    add_arguments(network)
    add_fusion_arguments(network)
    parser.set_defaults(run=run_process)


def add_recordings(parser: argparse.ArgumentParser) -> None:
    """Which recordings, and where what is made of them goes; see check_output."""
    parser.add_argument(
        "inputs", nargs="+", metavar="IN", help="recording, glob, or folder of recordings"
    )
    parser.add_argument("--output", type=path, required=True, metavar="OUT", help="output folder")


def check_output(output: Path) -> None:
    """Raises DktError where no folder can be."""
    from dkt_ros.errors import DktError

    if output.exists() and not output.is_dir():
        raise DktError(f"{output} is no folder; choose another --output")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say how a recording is read."""
    group = parser.add_argument_group("recording")
    add = group.add_argument
    for role, what in (
        ("color", "colour"),
        ("depth", "raw depth"),
        ("camera-info", "colour's calibration"),
        ("truth", "true depth"),
        ("mask", "masks"),
    ):
        add(
            f"--{role}-topic",
            metavar="TOPIC",
            help=f"topic of {what} in a bag; default: found by type and name",
        )
    camera = group.add_mutually_exclusive_group()
    camera.add_argument(
        "--intrinsics",
        type=given,
        metavar="FILE",
        help="calibration file (ROS YAML, OpenCV, Kalibr, 3x3 …)",
    )
    camera.add_argument(
        "--pinhole",
        type=finite,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="intrinsics in pixels, instead of a file",
    )
    add("--color", metavar="GLOB", help="colour images of a folder, such as 'color/*'")
    add("--depth-images", metavar="GLOB", help="depth images or arrays of a folder or video")
    add("--truth", metavar="GLOB", help="true depth of a folder or video, as depth is")
    add(
        "--mask",
        metavar="GLOB",
        help="masks of a folder or video: 0 other, 1 or 255 transparent, 2 reflective",
    )
    add(
        "--depth-unit",
        type=finite,
        metavar="M",
        help="metres per unit of integer depth (what the recording states, else 0.001)",
    )
    add(
        "--rectified",
        action="store_true",
        help="images are rectified: use P of camera_info instead of K",
    )
    add(
        "--sync-slop",
        type=finite,
        default=0.02,
        metavar="S",
        help="largest time between colour and depth of a frame (0.02)",
    )
    add(
        "--max-gap",
        type=float,
        default=3.0,
        metavar="S",
        help="longer gaps between frames restart the stream (3)",
    )
    add(
        "--rate",
        type=finite,
        default=10.0,
        metavar="HZ",
        help="frame rate of pictures without stamps (10)",
    )
    add("--data-set", metavar="KIND", help="kind of data set; default: detected")
    add("--split", metavar="NAME", help="split of a data set")


def source_options(args: argparse.Namespace) -> SourceOptions:
    """What the flags of add_source_arguments say. Raises DktError."""
    from dkt_ros.errors import DktError
    from dkt_ros.geometry import METRES_PER_MILLIMETRE
    from dkt_ros.processing.source import GIVE_CAMERA, SourceOptions

    camera = args.intrinsics
    if camera is not None and "*" not in camera and not Path(camera).is_file():
        raise DktError(f"--intrinsics {camera}: no such file; {GIVE_CAMERA}")
    roles = ("color", "depth", "camera_info", "truth", "mask")
    topics = {role: getattr(args, f"{role}_topic") for role in roles}
    return SourceOptions(
        topics={role: topic for role, topic in topics.items() if topic},
        intrinsics=args.intrinsics,
        pinhole=tuple(args.pinhole) if args.pinhole else None,
        color=args.color,
        depth=args.depth_images,
        truth=args.truth,
        mask=args.mask,
        depth_unit_m=METRES_PER_MILLIMETRE if args.depth_unit is None else args.depth_unit,
        override_unit=args.depth_unit is not None,
        rectified=args.rectified,
        sync_slop_s=args.sync_slop,
        max_gap_s=args.max_gap,
        rate_hz=args.rate,
        kind=args.data_set,
        split=args.split,
    )


def process_options(args: argparse.Namespace) -> ProcessOptions:
    """What the flags say. Raises DktError for what does not fit together."""
    import math

    from dkt_ros.alignment.aligner import AlignmentConfig
    from dkt_ros.errors import DktError
    from dkt_ros.estimator import EstimatorConfig
    from dkt_ros.fusion.consistency import ConsistencyConfig
    from dkt_ros.processing.options import ProcessOptions

    if "bag" not in args.format and (args.points or args.pass_through):
        raise DktError("--points and --pass-through: only with --format bag, which they add to")
    if args.depth == "network" and (args.min_confidence or args.refiner):
        raise DktError("--min-confidence and --refiner: only with --depth fused")
    raw = {"min_raw_depth": args.raw_min_depth, "max_raw_depth": args.raw_max_depth}
    estimator = EstimatorConfig(
        depth=args.depth,
        max_gap_s=math.inf,  # the recording's reader looks for gaps: it sees every frame
        min_depth=args.min_depth,
        max_depth=args.max_depth,
        alignment=AlignmentConfig(**raw),
        fusion=config_of(args, min_confidence=args.min_confidence, **raw),
        consistency=ConsistencyConfig(**raw),
    )
    return ProcessOptions(
        predictor=options_of(args),
        estimator=estimator,
        source=replace(source_options(args), pass_through=args.pass_through),
        bag="bag" in args.format,
        files=tuple(kind for kind in FILE_FORMATS if kind in args.format),
        color=args.color_encoding,
        points=args.points,
        max_frames=args.max_frames,
        part_frames=args.part_frames,
    )


def run_process(args: argparse.Namespace) -> int:
    """Runs `dkt process`; returns its exit status. Whatever happens, a JSON line is printed."""
    from dkt_ros.errors import DktError

    try:
        return _processed(args)
    except (DktError, OSError) as error:
        print(json.dumps({"output": str(args.output), "error": str(error), "exit": WRONG}))
        raise
    except KeyboardInterrupt:
        told = {"error": "interrupted", "exit": 128 + signal.SIGINT}
        print(json.dumps({"output": str(args.output), **told}), flush=True)
        raise


def _processed(args: argparse.Namespace) -> int:
    from dkt_ros.files import StorageError
    from dkt_ros.processing.find_sources import check_concerned, find_recordings
    from dkt_ros.processing.many import default_workers, process_many
    from dkt_ros.processing.outcome import Outcome, exit_status

    cluster = _cluster(args)
    options = process_options(args)
    check_output(args.output)
    _check_networks(options, here=cluster is None)
    recordings = find_recordings(args.inputs, options.source, args.output)
    check_concerned(recordings, options.source)
    workers = args.workers or 1
    if args.workers is None and cluster is None:
        workers = default_workers(len(recordings), options.predictor.device)
    bar = Bar(len(recordings))
    began = time.monotonic()
    try:
        results = process_many(
            recordings,
            options,
            args.output,
            workers,
            bar.advance,
            bar.tell,
            args.overwrite,
            args.retries + 1,
            cluster,
        )
    except KeyboardInterrupt:
        print("dkt process: interrupted; the same command goes on from here", file=sys.stderr)
        raise
    except StorageError as error:  # not even the manifest
        print(f"dkt process: {error}", file=sys.stderr)
        print(
            json.dumps(
                {"output": str(args.output), "error": str(error), "exit": Outcome.NOT_WRITTEN.code}
            )
        )
        return Outcome.NOT_WRITTEN.code
    finally:
        bar.close()
    status = exit_status([result.outcome for result in results])
    print(_summary_line(args.output, results, status, time.monotonic() - began), flush=True)
    return status


def _check_networks(options: ProcessOptions, here: bool) -> None:
    """Raises DktError for what every recording would fail of. here: on this machine."""
    from dkt_ros.fusion.weights import check_weights
    from dkt_ros.predict.load import check_named

    check_named(options.predictor, here)
    check_weights(options.estimator.fusion.weights)


def _cluster(args: argparse.Namespace) -> Runner | None:
    """None: this machine's own processes."""
    from dkt_ros.errors import DktError

    if args.ray is None:
        if args.ray_gpus:
            raise DktError("--ray-gpus: only with --ray")
        return None
    if args.workers is not None:
        raise DktError("--workers: not with --ray; the cluster's CPUs and --ray-gpus say how many")
    from dkt_ros.processing.on_ray import RayCluster

    return RayCluster(args.ray, args.ray_gpus)


def _summary_line(output: Path, results: list[Result], status: int, elapsed_s: float) -> str:
    succeeded = [result for result in results if result.outcome.succeeded]

    def total(key: str) -> float:
        return sum(result.summary.get(key) or 0 for result in succeeded)

    return json.dumps(
        {
            "output": str(output),
            "recordings": len(results),
            "succeeded": len(succeeded),
            "failed": len(results) - len(succeeded),
            "frames": total("frames"),
            "answered": total("answered"),
            "recorded_s": round(total("duration_s"), 3),
            "elapsed_s": round(elapsed_s, 3),
            "outcomes": {result.recording.name: result.outcome.value for result in results},
            "exit": status,
        }
    )


class Bar:
    """Frames of all recordings on one bar; a line for each recording that ended.

    label: in front of them.
    """

    def __init__(self, recordings: int, label: str = "process") -> None:
        from dkt_ros.progress import progress_bar

        self._recordings = recordings
        self._frames: dict[str, tuple[int, int]] = {}
        self._begun: dict[str, int] = {}
        self._bar = progress_bar(None, "frame", desc=f"{label}: ")

    def advance(self, name: str, done: int, total: int) -> None:
        """A recording came so far."""
        self._begun.setdefault(name, done)
        self._frames[name] = done, total
        known = sum(total for _, total in self._frames.values())
        # Recordings that nobody has opened yet are taken to be as long as the others.
        self._bar.total = round(known * self._recordings / len(self._frames))
        self._bar.initial = sum(self._begun.values())
        self._bar.update(sum(done for done, _ in self._frames.values()) - self._bar.n)

    def tell(self, result: Result) -> None:
        """A recording has ended."""
        name, summary = one_line(result.recording.name), result.summary
        if not result.outcome.succeeded:
            line = one_line(f"{name}: FAILED ({result.outcome.value}): {result.error}")
        elif summary.get("already_there"):
            line = f"{name}: there already"
        else:
            times, between = summary["times_real_time"], summary["between_answers"]
            line = (
                f"{name}: {summary['answered']} of {summary['frames']} frames in "
                f"{summary['elapsed_s']:.1f} s"
                + (f", {between} between two answers of mode live" if between else "")
                + (f", {times:.2f} times real time" if times else "")
            )
        if result.outcome.succeeded:
            line += "".join(f"\n  not used: {one_line(lost)}" for lost in summary["lost"])
            line += "".join(f"\n  note: {one_line(note)}" for note in summary["notes"])
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()
