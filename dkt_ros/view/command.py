"""`dkt view`: flags, and where what is shown goes. Imports no viewer until run."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from dkt_ros.arguments import finite, given, path, positive
from dkt_ros.fusion.config import add_fusion_arguments, config_of
from dkt_ros.predict.options import add_arguments, options_of
from dkt_ros.processing.command import add_source_arguments, source_options
from dkt_ros.wording import counted

_VIEWER = "rerun+http://127.0.0.1:9876/proxy"
"""Rerun's own default."""


def add_commands(subparsers: Any) -> None:
    """Adds `dkt view`."""
    parser = subparsers.add_parser(
        "view",
        help="a recording, an output of dkt process or live topics in rerun",
        description="Colour, raw depth, DKT's depth, confidence, point cloud and the alignment "
        "over time. IN: an output of `dkt process`, a bag with dkt_node's topics, or any other "
        "recording, whose depth is estimated meanwhile. Without IN: what dkt_node publishes now, "
        "beside the raw depth on --depth-topic (depth/image).",
    )
    parser.add_argument(
        "input", nargs="?", type=given, metavar="IN", help="what to show; without: live topics"
    )
    parser.add_argument(
        "--save", type=path, metavar="F.rrd", help="write a file instead of opening a viewer"
    )
    parser.add_argument(
        "--connect",
        nargs="?",
        const="",
        metavar="URL",
        help="show in a viewer that runs already, here or at rerun+http://HOST:9876/proxy",
    )
    parser.add_argument(
        "--points",
        type=positive,
        default=20_000,
        metavar="N",
        help="points of a cloud, at most (%(default)s)",
    )
    parser.add_argument(
        "--max-frames", type=positive, metavar="N", help="show at most N frames of a recording"
    )
    add = parser.add_argument_group("live").add_argument
    add("--namespace", default="", metavar="NS", help="namespace of dkt_node")
    add("--duration", type=finite, metavar="S", help="seconds after which it ends; without: Ctrl-C")
    add_source_arguments(parser)
    network = parser.add_argument_group("network")
    add_arguments(network)
    add_fusion_arguments(network)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from dkt_ros.errors import DktError
    from dkt_ros.files import check_writable

    _check_flags(args)
    if args.save is None and args.connect is None and not _has_screen():
        raise DktError(
            "no screen here (DISPLAY is not set): write a file (--save F.rrd), or show it in a "
            "viewer that runs elsewhere (--connect URL)"
        )
    if args.connect is not None:
        _check_viewer(args.connect or _VIEWER)
    if args.save is not None:
        check_writable(args.save, ".rrd")
    from dkt_ros.view.scene import Scene, check_room, saved, shown

    with saved(args.save) if args.save else shown(args.connect) as recording:
        scene = Scene(recording, args.points)

        def show(moment: Any) -> None:
            if args.save:
                check_room(args.save)
            scene.add(moment)

        number = _show_live(args, show) if args.input is None else _show_recording(args, show)
        if not number:
            raise DktError(f"{args.input or 'dkt_node'}: gave no depth; nothing to show")
    print(f"{args.save or 'rerun'}: {counted(number, 'frame')}")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """Raises DktError for what has no effect, or none that can be meant."""
    from dkt_ros.errors import DktError

    if args.save is not None and args.connect is not None:
        raise DktError("--save and --connect: give one of them")
    if args.input is None:
        flags, meant = {"--max-frames": args.max_frames}, "recordings; expected IN, or --duration"
    else:
        flags = {"--namespace": args.namespace or None, "--duration": args.duration}
        meant = f"live topics; expected no IN (it is {args.input})"
    if useless := [flag for flag, value in flags.items() if value is not None]:
        raise DktError(f"{', '.join(useless)}: of {meant}")
    if args.duration is not None and args.duration <= 0:
        raise DktError(f"--duration {args.duration:g}: expected seconds above 0")


def _check_viewer(url: str) -> None:
    """Raises DktError where nobody listens: rerun drops what it cannot send, and says nothing."""
    from dkt_ros.errors import DktError

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not parts.scheme.startswith("rerun") or not parts.path.startswith("/proxy"):
        raise DktError(
            f"--connect {url}: expected a URL like {_VIEWER}, or none for that one; "
            "IN stands before --connect"
        )
    if port is None:
        return
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise DktError(
            f"--connect {url}: no viewer answers there ({error.strerror or error}); start `rerun` "
            "on that machine, or write a file (--save F.rrd)"
        ) from error


def _has_screen() -> bool:
    return not sys.platform.startswith("linux") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def _show_recording(args: argparse.Namespace, show: Any) -> int:
    """Returns the number of frames with depth."""
    import math

    from dkt_ros.estimator import DepthEstimator, EstimatorConfig, load_estimator
    from dkt_ros.progress import progress_bar
    from dkt_ros.view.recordings import moments

    def load() -> DepthEstimator:
        return load_estimator(
            options_of(args),
            EstimatorConfig(max_gap_s=math.inf, fusion=config_of(args)),
        )

    found = moments(args.input, source_options(args), load)
    number = 0
    bar = progress_bar(None, "frame", desc="view: ")
    try:
        for moment in found:
            if moment.depth is not None:
                if number == args.max_frames:
                    break
                number += 1
                bar.update(1)
            show(moment)
    finally:
        bar.close()
    return number


def _show_live(args: argparse.Namespace, show: Any) -> int:
    """Returns the number of frames with depth."""
    from dkt_ros.ros.watch import watch

    raw_topic = args.depth_topic or "depth/image"
    return watch(show, raw_topic, args.namespace, args.duration, args.rectified)
