"""`dkt synth`: render sequences, look at them. Knows the command line alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from dkt_ros.errors import DktError


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Adds `synth render` and `synth preview`."""
    synth = subparsers.add_parser("synth", help="render training and test sequences")
    actions = synth.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_render(actions)
    _add_preview(actions)


def _add_render(actions: argparse._SubParsersAction) -> None:
    render = actions.add_parser("render", help="render scenes of glass and metal into tars")
    render.add_argument("--output", type=Path, required=True, metavar="DIR")
    render.add_argument("--seed", type=int, default=0, help="scene k of seed s is always the same")
    render.add_argument("--scenes", type=int, required=True, metavar="N")
    render.add_argument("--frames", type=int, default=1, metavar="F", help="views of each scene")
    render.add_argument("--start", type=int, default=0, metavar="K", help="first scene")
    render.add_argument("--size", type=_size, default=(192, 320), metavar="HxW")
    render.add_argument("--samples", type=int, default=8, help="per pixel, before denoising")
    render.add_argument("--threads", type=int, default=2, help="0 = all cores")
    render.add_argument(
        "--pool",
        choices=["train", "held-out", "all"],
        default="all",
        help="train leaves some shapes and materials out; held-out shows them in every scene",
    )
    render.add_argument("--raw-depth", action="store_true", help="simulate a D435's depth too")
    render.set_defaults(run=_render)


def _add_preview(actions: argparse._SubParsersAction) -> None:
    preview = actions.add_parser("preview", help="draw a contact sheet of a folder of tars")
    preview.add_argument("folder", type=Path, metavar="DIR")
    preview.add_argument("--output", type=Path, default=Path("preview.png"), metavar="F.png")
    preview.add_argument("--count", type=int, default=12, help="tars shown, spread over the folder")
    preview.add_argument("--columns", type=int, default=2)
    preview.set_defaults(run=_preview)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, as in 192x320")
    return int(height), int(width)


def _render(args: argparse.Namespace) -> int:
    try:
        import bpy  # noqa: F401
    except ImportError as error:
        raise DktError(f"rendering needs Blender as a module ({error}); pip install bpy") from error
    from dkt_ros.synth.generate import GenerateOptions, generate
    from dkt_ros.synth.render import RenderOptions
    from dkt_ros.synth.scene import Pool

    height, width = args.size
    generate(
        GenerateOptions(
            output=args.output,
            seed=args.seed,
            scenes=args.scenes,
            frames=args.frames,
            start=args.start,
            pool=Pool(args.pool),
            raw_depth=args.raw_depth,
            render=RenderOptions(width, height, args.samples, args.threads),
        ),
        say=lambda line: print(line, flush=True),
    )
    return 0


def _preview(args: argparse.Namespace) -> int:
    from dkt_ros.synth.preview import write_contact_sheet

    if args.count < 1 or args.columns < 1:
        raise DktError(f"--count {args.count} --columns {args.columns}: both start at 1")
    shown = write_contact_sheet(args.folder, args.output, args.count, args.columns)
    print(f"{args.output}: {shown} sequences")
    return 0
