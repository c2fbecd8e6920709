"""`dkt synth`: render sequences, look at them. Knows the command line alone."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from dkt_ros.arguments import finite, path, positive, shard, size
from dkt_ros.errors import DktError
from dkt_ros.extras import install
from dkt_ros.files import remove_unfinished
from dkt_ros.formats.tabletop import ARRANGEMENTS, CAMERAS, MATERIALS
from dkt_ros.synth.stopping import ended_by_interrupt, scratch_prefix
from dkt_ros.wording import counted, one_line

if TYPE_CHECKING:
    from dkt_ros.synth.generate import GenerateOptions


_SHARES = (
    *("views", "close", "wrist", "low", "far", "rolled", "upside_down", "static", "surfaces"),
    *("ground", "walls", "windows", "furniture", "labels", "prints", "sheets", "liquids", "stacks"),
    *("hands", "grippers", "photo", "packaging"),
)
"""Of variety.Shares, which Blender's absence must not keep from being listed."""


class _Defaults(argparse.HelpFormatter):
    """Shows an option's default after its help where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        default, text = action.default, action.help or ""
        if default in (None, [], argparse.SUPPRESS) or isinstance(default, bool):
            return text
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        return f"{text} (default {shown})"


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Adds `synth render`, `synth tabletop` and `synth preview`."""
    synth = subparsers.add_parser("synth", help="render training and test sequences")
    actions = synth.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_render(actions)
    _add_tabletop(actions)
    _add_preview(actions)


def _add_render(actions: argparse._SubParsersAction) -> None:
    render = actions.add_parser(
        "render",
        help="render scenes of glass and metal into tars",
        description="Renders scenes into tars in TransPhy3D's layout, one per scene. The same "
        "seed gives the same scenes. A killed or interrupted run resumes when called "
        "again. Exit status: 0 done, 1 some scenes failed (named), 2 refused.",
        formatter_class=_Defaults,
    )
    add = render.add_argument
    _add_scenes(render)
    add("--frames", type=int, default=1, metavar="F", help="views of each scene")
    add("--raw-depth", action="store_true", help="simulate a depth camera too")
    add(
        "--sensor",
        choices=["d435", "d405", "structured-light", "tof", "mixed"],
        default="d435",
        help="the simulated camera; mixed picks one for each scene that suits its distance",
    )
    add(
        "--version",
        type=int,
        default=3,
        help="version of the scene generator; 2 renders the older scenes",
    )
    picture = render.add_argument_group("picture")
    add = picture.add_argument
    add("--size", type=size, default="192x320", metavar="HxW", help="pixels; DKT's is 480x832")
    add("--samples", type=int, default=8, help="samples per pixel, before denoising")
    add(
        "--infrared-samples",
        type=int,
        default=1,
        help="samples per quarter pixel of the infrared pair",
    )
    add("--bounces", type=int, default=24, help="largest number of glass surfaces on a light path")
    add("--threads", type=int, default=2, help="CPU threads; 0: all cores")
    scene = render.add_argument_group("scene")
    add = scene.add_argument
    add(
        "--pool",
        choices=["train", "held-out", "all"],
        default="all",
        help="train leaves some shapes and materials out; held-out shows them in every scene",
    )
    add(
        "--objects",
        type=int,
        nargs=2,
        default=(4, 7),
        metavar=("MIN", "MAX"),
        help="objects per scene",
    )
    add(
        "--drop-share",
        type=finite,
        default=0.5,
        help="share of scenes with dropped instead of placed objects",
    )
    add("--container-share", type=finite, default=0.3, help="share of scenes with a tray or a bin")
    add(
        "--meshes",
        type=path,
        metavar="DIR",
        help="folder of GLB, glTF, OBJ, PLY or STL files to place",
    )
    add("--mesh-share", type=finite, default=0.5, help="share of objects that are your meshes")
    add("--mesh-scale", type=finite, metavar="S", help="metres per unit; without it, guessed")
    add(
        "--hdris",
        type=path,
        metavar="DIR",
        help="folder of .hdr or .exr panoramas that replace the room",
    )
    add(
        "--shares",
        type=_share,
        nargs="+",
        default=[],
        metavar="NAME=X",
        help="how often each of these appears, 0 to 1: " + ", ".join(_SHARES),
    )
    orbit = render.add_argument_group(
        "camera path, a circle with sines in radius and elevation",
        "for version 2, and for version 3 with --shares views=0; --fov always applies",
    )
    for name, default, what in (
        ("fov", (40.0, 70.0), "horizontal view in degrees"),
        ("radius", (0.5, 1.6), "distance in metres"),
        ("elevation", (15.0, 60.0), "above the table in degrees"),
        ("step", (1.0, 3.0), "degrees a frame"),
    ):
        words = {"nargs": 2, "metavar": ("MIN", "MAX")}
        orbit.add_argument(f"--{name}", type=finite, default=default, help=what, **words)
    orbit.add_argument(
        "--period", type=finite, default=60.0, help="period of the radius's sine, in frames"
    )
    render.set_defaults(run=_render)


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    """Which scenes, and where they go."""
    add = parser.add_argument
    add("--output", type=path, required=True, metavar="DIR", help="where the tars go")
    add("--seed", type=int, default=0, help="the same seed gives the same scenes")
    add("--scenes", type=int, required=True, metavar="N", help="number of scenes, all shards'")
    add("--start", type=int, default=0, metavar="K", help="number of the first scene")
    add("--shard", type=shard, default="0/1", metavar="I/N", help="every Nth scene, I from 0")


def _add_tabletop(actions: argparse._SubParsersAction) -> None:
    tabletop = actions.add_parser(
        "tabletop",
        help="render scenes to grasp in, each in three materials",
        description="Renders each scene three times into tars DIR/sSEED-SCENE-MATERIAL.tar: its "
        "objects transparent, reflective, diffuse, all else the same. metadata.json tells meshes, "
        "poses and masses too. Heaps and what lies in trays and bins are dropped in MuJoCo (the "
        "extra grasp) and rest there; DIR/parts keeps convex parts. "
        "A killed run resumes when called again. `dkt grasp bench` calls it.",
        formatter_class=_Defaults,
    )
    add = tabletop.add_argument
    _add_scenes(tabletop)
    add(
        "--arrangement",
        choices=ARRANGEMENTS,
        default="table",
        help="table: placed apart; else dropped onto one another, with bowls, cutlery and tools",
    )
    add(
        "--camera",
        choices=CAMERAS,
        default="fixed",
        help="beside the table, above it, or circling it",
    )
    add(
        "--frames", type=int, metavar="F", help="frames of orbit (6); the other cameras stand still"
    )
    add(
        "--objects",
        type=int,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="objects; without it 1 4 on the table, 3 6 on a tray, 4 7 in a heap or a bin",
    )
    add(
        "--sensor",
        choices=["d435", "d405", "structured-light", "tof"],
        default="d435",
        help="the depth camera that is simulated",
    )
    add("--size", type=size, default="160x288", metavar="HxW", help="pixels, about 5:9")
    add("--samples", type=int, default=8, help="samples per pixel, before denoising")
    add("--threads", type=int, default=1, help="CPU threads; 0: all cores")
    tabletop.set_defaults(run=_tabletop)


def _add_preview(actions: argparse._SubParsersAction) -> None:
    preview = actions.add_parser(
        "preview",
        help="draw a contact sheet of a folder of tars",
        description="The first and the last frame of each tar: colour, true depth, mask (glass "
        "blue, metal orange) and, where there is any, raw depth. Black is unknown.",
        formatter_class=_Defaults,
    )
    preview.add_argument("folder", type=path, metavar="DIR", help="output of `dkt synth render`")
    preview.add_argument(
        "--output", type=path, default=Path("preview.png"), metavar="F.png", help="the picture"
    )
    preview.add_argument(
        "--count", type=positive, default=12, help="tars shown, spread over the folder"
    )
    preview.add_argument("--columns", type=positive, default=2, help="frames side by side")
    preview.set_defaults(run=_preview)


def _share(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        if name in _SHARES:
            return name, float(value)
    except ValueError:
        pass
    known = ", ".join(_SHARES)
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHARE with a NAME of {known}")


def _render(args: argparse.Namespace) -> int:
    # From here on: what imports or runs C code loses a KeyboardInterrupt.
    with ended_by_interrupt(_leave):
        _need_blender()
        return _generated([_options(args, _say)])


def _tabletop(args: argparse.Namespace) -> int:
    with ended_by_interrupt(_leave):
        _need_blender()
        return _generated(_tabletop_options(args))


def _tabletop_options(args: argparse.Namespace) -> list[GenerateOptions]:
    from dkt_ros.synth.generate import GenerateOptions
    from dkt_ros.synth.render import RenderOptions
    from dkt_ros.synth.sampling import SceneOptions
    from dkt_ros.synth.tabletop import Tabletop

    height, width = args.size
    if args.frames not in (None, 1) and args.camera != "orbit":
        raise DktError(f"--frames {args.frames} goes with --camera orbit")
    options = GenerateOptions(
        output=args.output,
        seed=args.seed,
        scenes=args.scenes,
        frames=CAMERAS[args.camera] if args.frames is None else args.frames,
        start=args.start,
        shard=args.shard,
        raw_depth=True,
        content=SceneOptions(objects=tuple(args.objects or ARRANGEMENTS[args.arrangement])),
        render=RenderOptions(width, height, args.samples, threads=args.threads),
        sensor=args.sensor,
    )
    parts = args.output / "parts"
    kinds = [Tabletop(name, args.camera, args.arrangement, parts) for name in MATERIALS]
    return [
        replace(options, start=index, scenes=1, shard=(0, 1), tabletop=kind)
        for index in options.indices
        for kind in kinds
    ]


def _need_blender() -> None:
    try:
        import bpy  # noqa: F401
    except ImportError as error:
        raise DktError(
            f"rendering needs Blender as a module ({error}): {install('synth')} brings it, "
            "for CPython 3.11 alone"
        ) from error


def _say(line: str) -> None:
    tqdm.write(one_line(line))
    sys.stdout.flush()


def _leave() -> None:
    """Takes away what is half made, at an interrupt."""
    remove_unfinished()
    folders = list(Path(tempfile.gettempdir()).glob(f"{scratch_prefix()}*"))
    if (blender := getattr(sys.modules.get("bpy"), "app", None)) is not None:
        folders.append(Path(blender.tempdir))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    # On stderr, for Blender's own output on stdout is being held back.
    text = "interrupted; finished scenes are kept, and the same command resumes"
    print(text, file=sys.stderr, flush=True)


def _generated(runs: Sequence[GenerateOptions]) -> int:
    """Renders what is missing of each and tells how it went; the exit status."""
    from dkt_ros.synth.generate import generate_all

    done = generate_all(runs, _say)
    if done.elsewhere:
        _say(f"{len(done.elsewhere)} left to another process: {', '.join(done.elsewhere)}")
    _say(f"{done.made} made, {done.present} were there, {len(done.failed)} failed")
    for name, reason in done.failed.items():
        _say(f"  {name}: {reason}")
    return 1 if done.failed else 0


def _options(args: argparse.Namespace, say: Callable[[str], None]) -> GenerateOptions:
    from dkt_ros.synth.camera import PathOptions
    from dkt_ros.synth.generate import GenerateOptions
    from dkt_ros.synth.meshes import read_meshes
    from dkt_ros.synth.panoramas import find_panoramas
    from dkt_ros.synth.render import RenderOptions
    from dkt_ros.synth.sampling import Pool, SceneOptions
    from dkt_ros.synth.variety import Shares

    if args.meshes is None:
        for flag, usual in (("mesh_scale", None), ("mesh_share", SceneOptions().mesh_share)):
            if getattr(args, flag) != usual:
                raise DktError(f"--{flag.replace('_', '-')} needs --meshes")
    if args.infrared_samples != RenderOptions().infrared_samples and not args.raw_depth:
        raise DktError("--infrared-samples needs --raw-depth")
    height, width = args.size
    content = SceneOptions(
        pool=Pool(args.pool),
        objects=tuple(args.objects),
        drop_share=args.drop_share,
        container_share=args.container_share,
        mesh_share=args.mesh_share,
        path=PathOptions(
            tuple(args.fov),
            tuple(args.radius),
            tuple(args.elevation),
            tuple(args.step),
            args.period,
        ),
    )
    render = RenderOptions(
        width, height, args.samples, args.infrared_samples, args.threads, args.bounces
    )
    options = GenerateOptions(
        output=args.output,
        seed=args.seed,
        scenes=args.scenes,
        frames=args.frames,
        start=args.start,
        shard=args.shard,
        raw_depth=args.raw_depth,
        sensor=args.sensor,
        version=args.version,
        shares=Shares(**dict(args.shares)),
        content=content,
        render=render,
    )
    # The folders come last: reading them takes time that a wrong number would waste.
    meshes = read_meshes(args.meshes, args.mesh_scale, say) if args.meshes else ()
    panoramas = find_panoramas(args.hdris, say) if args.hdris else ()
    return replace(options, content=replace(content, meshes=meshes, panoramas=panoramas))


def _preview(args: argparse.Namespace) -> int:
    from dkt_ros.synth.preview import write_contact_sheet

    shown = write_contact_sheet(args.folder, args.output, args.count, args.columns)
    print(f"{args.output}: {counted(shown, 'sequence')}")
    return 0
