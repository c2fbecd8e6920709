"""`dkt bag …`: the command line of this room. Knows arguments; the work is done next door."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dkt_ros.arguments import finite, given, natural, path, positive
from dkt_ros.wording import counted, one_line

if TYPE_CHECKING:
    from dkt_ros.bags.recording import RecordingOptions


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `bag` with `from-images`, `from-sequence` and `info`."""
    bag = subparsers.add_parser("bag", help="make bags from pictures or rendered data; list them")
    actions = bag.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_from_images(actions)
    _add_from_sequence(actions)
    info = actions.add_parser(
        "info",
        help="list a bag's topics",
        description="Length, start, topics with their types and numbers of messages, and what in "
        "the bag cannot be read.",
    )
    info.add_argument("bag", type=path, help="bag folder, .mcap, .db3 or ROS 1 .bag")
    info.set_defaults(run=_info)


def _add_from_images(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "from-images",
        help="a folder of colour pictures and depth maps -> a bag",
        description="Patterns are relative to the folder; pictures belong together where the text "
        "in the place of * is the same, or stamps there are within 20 ms. Suffixes may differ. "
        "Pictures are taken to be rectified.",
    )
    parser.add_argument("folder", type=path, help="folder of the pictures")
    parser.add_argument("--color", default="color/*", help="pattern, default %(default)s")
    parser.add_argument(
        "--depth", default="depth/*", help="pattern of the sensor's depth, default %(default)s"
    )
    parser.add_argument("--truth", help="pattern of the true depth, for evaluation")
    parser.add_argument("--mask", help="pattern of masks: 1 or 255 transparent, 2 reflective")
    parser.add_argument(
        "--depth-scale",
        type=finite,
        metavar="METRES",
        help="metres per unit of 16-bit depth (what the calibration file states, else 0.001); EXR, "
        "TIFF and .npy of floats are in metres",
    )
    camera = parser.add_mutually_exclusive_group(required=True)
    camera.add_argument(
        "--intrinsics",
        type=given,
        metavar="FILE",
        help="fx fy cx cy, a 3x3 matrix (text, .npy) or a calibration file (ROS, OpenCV, Kalibr, "
        "Open3D, BOP, RealSense); with * a pattern, one file for each scene",
    )
    camera.add_argument(
        "--pinhole",
        type=finite,
        nargs=4,
        metavar=("FX", "FY", "CX", "CY"),
        help="instead, in pixels",
    )
    parser.add_argument(
        "--repeat", type=int, default=1, help="show each picture so many times, default %(default)s"
    )
    parser.add_argument(
        "--gap",
        type=finite,
        default=0.0,
        metavar="SECONDS",
        help="extra time between two pictures; longer than the node's max_gap_s for unrelated ones",
    )
    _add_recording(parser)
    parser.set_defaults(run=_from_images)


def _add_from_sequence(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "from-sequence",
        help="a rendered sequence (TransPhy3D tar) -> a bag with truth and mask",
        description="Colour, true depth, mask and, where it was rendered, raw depth of a tar of "
        "`dkt synth render`, as a camera would have published them.",
    )
    parser.add_argument("sequence", type=path, help="the .tar")
    parser.add_argument("--first", type=natural, default=0, help="first frame, default %(default)s")
    parser.add_argument("--count", type=positive, help="number of frames, default all")
    _add_recording(parser)
    parser.set_defaults(run=_from_sequence)


def _add_recording(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=path, required=True, help="bag folder to make")
    parser.add_argument(
        "--rate", type=finite, default=10.0, metavar="HZ", help="frame rate, default 10"
    )
    parser.add_argument(
        "--start-time", type=finite, metavar="SECONDS", help="stamp of the first frame"
    )
    default = "default %(default)s"
    parser.add_argument("--frame-id", default="camera_color_optical_frame", help=default)
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help=default)
    parser.add_argument("--no-compress", action="store_true", help="do not compress the bag")
    parser.add_argument("--color-encoding", choices=("jpeg", "raw"), default="jpeg", help=default)
    parser.add_argument(
        "--depth-encoding",
        choices=("png", "16UC1", "32FC1"),
        default="png",
        help=f"{default}; png and 16UC1 hold whole millimetres, 32FC1 metres",
    )
    parser.add_argument("--jpeg-quality", type=int, default=90, help=f"1 to 100, {default}")
    for role in ("color", "depth", "camera-info", "truth", "mask"):
        parser.add_argument(
            f"--{role}-topic", metavar="TOPIC", help="name of that topic; default: RealSense's"
        )


def _recording_options(args: argparse.Namespace) -> RecordingOptions:
    from dkt_ros.bags.recording import RecordingOptions
    from dkt_ros.bags.topics import CameraTopics

    roles = ("color", "depth", "camera_info", "truth", "mask")
    named = {role: getattr(args, f"{role}_topic") for role in roles}
    return RecordingOptions(
        topics=CameraTopics(**{role: name for role, name in named.items() if name}),
        storage=args.storage,
        compress=not args.no_compress,
        color=args.color_encoding,
        depth=args.depth_encoding,
        jpeg_quality=args.jpeg_quality,
    )


def _from_images(args: argparse.Namespace) -> int:
    from dkt_ros.bags.from_images import ImageFolder, read_frames
    from dkt_ros.bags.recording import DEFAULT_START_S, record
    from dkt_ros.geometry import METRES_PER_MILLIMETRE

    source = ImageFolder(
        folder=args.folder,
        intrinsics=args.intrinsics or tuple(args.pinhole),
        color=args.color,
        depth=args.depth or None,
        truth=args.truth,
        mask=args.mask,
        metres_per_unit=METRES_PER_MILLIMETRE if args.depth_scale is None else args.depth_scale,
        override_unit=args.depth_scale is not None,
        rate_hz=args.rate,
        start_s=DEFAULT_START_S if args.start_time is None else args.start_time,
        frame_id=args.frame_id,
        repeat=args.repeat,
        gap_s=args.gap,
    )
    remarks: list[str] = []
    step_m = source.finest_unit_m()
    if args.depth and step_m < METRES_PER_MILLIMETRE and args.depth_encoding != "32FC1":
        remarks.append(
            f"steps of {step_m * 1e3:g} mm are rounded to whole millimetres; "
            "--depth-encoding 32FC1 keeps them"
        )
    count = record(read_frames(source, remarks), args.output, _recording_options(args))
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    return _report(args.output, count)


def _from_sequence(args: argparse.Namespace) -> int:
    from dkt_ros.bags.from_sequence import read_frames
    from dkt_ros.bags.recording import DEFAULT_START_S, record

    stop = None if args.count is None else args.first + args.count
    frames = read_frames(
        args.sequence,
        rate_hz=args.rate,
        start_s=DEFAULT_START_S if args.start_time is None else args.start_time,
        frame_id=args.frame_id,
        frames=slice(args.first, stop),
    )
    count = record(frames, args.output, _recording_options(args))
    return _report(args.output, count)


def _report(path: Path, frames: int) -> int:
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    print(f"{path}: {counted(frames, 'frame')}, {size:.1f} MB")
    return 0


def _info(args: argparse.Namespace) -> int:
    from dkt_ros.bags.reader import BagReader

    with BagReader(args.bag) as bag:
        seconds = (bag.end_ns - bag.start_ns) / 1e9
        print(f"{args.bag}: {seconds:.2f} s, starts at {bag.start_ns / 1e9:.3f}")
        for topic in bag.topics.values():
            problem = f"  (cannot be read: {topic.problem})" if topic.problem else ""
            line = f"{topic.name}  {topic.msgtype}  {counted(topic.count, 'message')}{problem}"
            print(f"  {one_line(line)}")
        for remark in filter(None, (bag.leap, *bag.remarks)):
            print(f"  note: {one_line(remark)}")
    return 0
