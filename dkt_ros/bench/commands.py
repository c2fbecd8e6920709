"""`dkt grasp bench`: its arguments, and the run from scenes to the table. Imports MuJoCo at run."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dkt_ros.arguments import as_json, finite, natural, parse_size, path, positive, shard
from dkt_ros.errors import DktError
from dkt_ros.formats.tabletop import ARRANGEMENTS, CAMERAS
from dkt_ros.fusion.config import add_fusion_arguments, config_of
from dkt_ros.predict.options import add_arguments, options_of
from dkt_ros.progress import progress_bar
from dkt_ros.wording import counted

if TYPE_CHECKING:
    from dkt_ros.bench.attempts import Record
    from dkt_ros.evaluation.models import DepthModel

_METHODS = "raw,fill,network,fused,careful,truth"
_QUICK, _SIZE = 3, "160x288"
_MOST = 999_999
_ATTEMPTS, _STRIPS, _SETTINGS = "attempts.jsonl", "strips", "settings.json"


def add_commands(subparsers: Any) -> None:
    """Adds `dkt grasp bench`."""
    grasp = subparsers.add_parser("grasp", help="what depth is worth to a gripper")
    actions = grasp.add_subparsers(dest="action", required=True, metavar="ACTION")
    bench = actions.add_parser(
        "bench",
        help="success of grasping in simulation, by material and method",
        description="Renders scenes of the same objects in glass, metal and dull material, plans "
        "on each method's depth, and executes the best grasp in MuJoCo. Writes "
        "attempts.jsonl, bench.json and report.html. A killed run resumes when called "
        "again.",
    )
    add = bench.add_argument
    add("--output", type=path, required=True, metavar="DIR", help="output folder")
    add(
        "--scenes",
        type=positive,
        default=60,
        metavar="N",
        help="scenes for each material (%(default)s)",
    )
    add("--quick", action="store_true", help=f"{_QUICK} scenes for each material")
    add("--start", type=natural, default=0, metavar="K", help="number of the first scene")
    add(
        "--scene-seed",
        type=natural,
        default=1500,
        metavar="S",
        help="seed of the scenes (%(default)s)",
    )
    add(
        "--data",
        type=path,
        metavar="DIR",
        help="folder for the rendered scenes, reused if present; default: OUTPUT/scenes",
    )
    add(
        "--arrangement",
        choices=ARRANGEMENTS,
        default="table",
        help="how objects lie (%(default)s); all but table are dropped onto one another",
    )
    add(
        "--camera",
        choices=CAMERAS,
        default="fixed",
        help="viewpoint (%(default)s); orbit: six frames around the table, planned in the last",
    )
    add(
        "--picture-size",
        default=_SIZE,
        metavar="HxW",
        help="height and width of the pictures, about 5:9 (%(default)s)",
    )
    add("--methods", default=_METHODS, metavar="A,B", help="some of %(default)s")
    add(
        "--planner",
        default="antipodal",
        metavar="KIND",
        help="antipodal, or module:function of your own",
    )
    add(
        "--target",
        choices=("mask", "all"),
        default="mask",
        help="mask: the planner is given the pixels that show objects, as from a detector on "
        "colour; all: it grasps whatever it takes for an object (%(default)s)",
    )
    add("--jobs", type=positive, default=1, metavar="N", help="processes that render (1)")
    add(
        "--shard",
        type=shard,
        default="0/1",
        metavar="I/N",
        help="only attempts of every Nth scene, I from 0, for parallel processes (0/1)",
    )
    add(
        "--predictions",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="another method: depth in files, as for dkt eval; scenes are named as the tars",
    )
    add(
        "--prediction-unit",
        type=finite,
        default=0.001,
        metavar="M",
        help="metres per step of PNG files and of integers (0.001)",
    )
    network = bench.add_argument_group("network")
    add_arguments(network, checkpoints=True)
    add_fusion_arguments(network)
    bench.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Renders, attempts, tells; returns 0."""
    from dkt_ros.bench.attempts import load_planner, try_grasp
    from dkt_ros.bench.figures import format_table, summarise
    from dkt_ros.bench.methods import METHODS, NETWORKS, depths
    from dkt_ros.bench.page import describe, page, strip
    from dkt_ros.bench.scenes import check_look, clips_of, render, scene_of
    from dkt_ros.evaluation.predictions import parse_predictions
    from dkt_ros.files import sha256 as sha256_of
    from dkt_ros.files import write_whole
    from dkt_ros.formats.transphy3d import read_sequence
    from dkt_ros.grasp.antipodal import Gripper

    wanted = args.methods.split(",")
    if unknown := set(wanted) - set(METHODS):
        raise DktError(f"--methods {', '.join(unknown)}: expected some of {_METHODS}")
    planner, output = load_planner(args.planner), args.output
    scenes = _QUICK if args.quick else args.scenes
    _check_arguments(args, scenes)
    others = parse_predictions(args.predictions, args.prediction_unit, METHODS)
    networks = _networks(args) if NETWORKS.keys() & wanted else []
    models = [*networks, *others]
    data = args.data or output / "scenes"
    look = ["--arrangement", args.arrangement, "--camera", args.camera]
    look += ["--size", args.picture_size]
    for line in render(data, args.scene_seed, args.start, scenes, args.jobs, look):
        print(line, file=sys.stderr, flush=True)
    clips = clips_of(data, range(args.start, args.start + scenes))
    for other in others:
        other.check(clips)
    first, asked = clips[0].path, (args.camera, args.arrangement, args.picture_size)
    check_look(first, read_sequence(first)[-1], *asked)
    _keep_settings(args)
    done = {(*_key(record), record.made_of) for record in read_records(output / _ATTEMPTS)}
    part, parts = args.shard
    mine = [clip for clip in clips if int(clip.name.split("-")[1]) % parts == part]
    rows = [*wanted, *(other.name for other in others)]
    single = len(networks) < 2
    bar = progress_bar(len(mine), "scene")
    gripper = Gripper()
    for clip in mine:
        scene_name, _, material = clip.name.rpartition("-")
        rendered = sha256_of(clip.path)[:16]
        made_of = {other.name: f"{rendered} {other.state(clip)}" for other in others}
        if single and all(
            (scene_name, material, row, made_of.get(row, rendered)) in done for row in rows
        ):
            bar.update()
            continue
        frames = read_sequence(clip.path)
        check_look(clip.path, frames[-1], *asked)
        scene = scene_of(clip, frames, data / "parts")
        for method, told in depths(scene, wanted, models).items():
            if (scene.name, scene.material, method, made_of.get(method, rendered)) in done:
                continue
            tried = try_grasp(scene, method, told, planner, gripper, masked=args.target == "mask")
            record = replace(tried.record, made_of=made_of.get(method, rendered))
            path = _strip_path(output, record)
            write_whole(path, strip(scene, told.depth, tried, gripper))
            _append(output / _ATTEMPTS, record)
            bar.write(describe(record), file=sys.stderr)
        bar.update()
    bar.close()
    records = read_records(output / _ATTEMPTS)
    if parts > 1:
        print(
            f"{counted(len(records), 'attempt')} so far; the same command without --shard reports "
            "on all"
        )
        return 0
    summary = summarise(records)
    figures = {"arguments": as_json(args), **summary, "attempts": [r.told() for r in records]}
    write_whole(output / "bench.json", json.dumps(figures, indent=1) + "\n")
    pictures = {}
    for record in records:
        if (path := _strip_path(output, record)).is_file():
            pictures[_key(record)] = path.read_bytes()
    count = len({(record.scene, record.material) for record in records})
    about = (
        f"{counted(len(records), 'attempt')} in {counted(count, 'scene')}. Each strip: colour, "
        "depth with the chosen grasp, and where the objects ended. Attempts that failed "
        "where the true depth's did not come first."
    )
    title = "Grasps in simulation"
    write_whole(output / "report.html", page(title, summary, records, pictures, about))
    print(format_table(summary))
    return 0


def read_records(path: Path) -> list[Record]:
    """The attempts written so far, in the order of scenes; a damaged or cut line is left out."""
    from dkt_ros.bench.attempts import Record
    from dkt_ros.bench.methods import METHODS
    from dkt_ros.checks import check_fields

    records = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            record = Record.of(dict(json.loads(line)))
            check_fields(record)
        except (ValueError, TypeError, DktError):
            continue
        records[_key(record)] = record
    order = {name: place for place, name in enumerate(METHODS)}
    others = order["truth"] - 0.5  # of several networks or of files, by name
    return sorted(
        records.values(), key=lambda r: (r.scene, r.material, order.get(r.method, others), r.method)
    )


def _append(path: Path, record: Record) -> None:
    """One write, so that processes side by side do not mix their lines."""
    from dkt_ros.files import writing

    line = (json.dumps(record.told()) + "\n").encode()
    with writing(path), path.open("a+b", buffering=0) as file:
        if (size := file.tell()) and os.pread(file.fileno(), 1, size - 1) != b"\n":
            line = b"\n" + line  # a kill cut the last one
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _key(record: Record) -> tuple[str, str, str]:
    return record.scene, record.material, record.method


def _strip_path(output: Path, record: Record) -> Path:
    method = quote(record.method, safe="", errors="surrogateescape")  # a name of anything
    return output / _STRIPS / f"{record.scene}-{record.material}-{method}.jpg"


def _networks(args: argparse.Namespace) -> Sequence[DepthModel]:
    from dkt_ros.evaluation.networks import load_methods

    options = [options_of(args, checkpoint=path) for path in args.checkpoint or [""]]
    _, methods = load_methods(options, (args.mode,), with_normals=False, fusion=config_of(args))
    if methods.predict_normals is not None:
        raise DktError(f"{args.checkpoint} predicts normals; a planner needs depth")
    return methods.models


def _check_arguments(args: argparse.Namespace, scenes: int) -> None:
    """Raises DktError, before anything is rendered, for what would be refused after it."""
    from dkt_ros.files import BusyError, check_writable
    from dkt_ros.fusion.weights import check_weights
    from dkt_ros.model.checkpoint import checked_folder

    if args.start + scenes > _MOST:
        raise DktError(
            f"--start {args.start} --scenes {scenes}: expected at most {_MOST} together, as scenes "
            "have numbers of six digits"
        )
    if parse_size(args.picture_size) is None:
        raise DktError(f"--picture-size is {args.picture_size!r}, expected HxW, such as {_SIZE}")
    for checkpoint in args.checkpoint or ():
        if options_of(args, checkpoint=checkpoint).predictor == "dkt":
            checked_folder(checkpoint)
    check_weights(args.refiner or "")
    _settings(args)
    with suppress(BusyError):  # another shard's
        check_writable(args.output / _SETTINGS)


def _settings(args: argparse.Namespace) -> dict[str, Any] | None:
    """What attempts depend on, to be written; None where it is. Others' must not join a table."""
    from dkt_ros.fusion.weights import refiner_state
    from dkt_ros.predict.load import code_of, network_state

    free = ("output", "scenes", "quick", "start", "methods", "jobs", "shard", "data")
    settings = {name: value for name, value in as_json(args).items() if name not in free}
    settings["refiner"] = args.refiner or ""
    networks = [options_of(args, checkpoint=path) for path in args.checkpoint or [""]]
    settings["contents of checkpoint"] = [network_state(network) for network in networks]
    if args.refiner:
        settings["contents of refiner"] = refiner_state(args.refiner)
    if ":" in args.planner:
        settings["code of planner"] = sha256(code_of(args.planner).encode()).hexdigest()[:16]
    settings["code of dkt_ros or its libraries"] = _code_state()
    begun, path = (args.output / _ATTEMPTS).exists(), args.output / _SETTINGS
    anew = (
        f"take another --output, or delete {_ATTEMPTS} and {_SETTINGS} there: rendered scenes stay"
    )
    if path.is_file():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DktError(f"{path} is damaged ({error}); {anew}") from error
        found = {"contents of checkpoint": settings["contents of checkpoint"], **found}
        if found != settings:
            names = sorted(k for k in found.keys() | settings if found.get(k) != settings.get(k))
            raise DktError(f"{args.output} holds attempts with other {', '.join(names)}; {anew}")
        return None
    if begun:  # others', as settings are there before
        raise DktError(f"{path} is gone, which tells how the attempts there were made; {anew}")
    return settings


def _code_state() -> str:
    """Another where what decides how an attempt ends is of other code."""
    from dkt_ros.bench import attempts, methods, physics, scenes
    from dkt_ros.files import code_digest
    from dkt_ros.processing.maker import code_state
    from dkt_ros.versions import version_of

    told = [code_state(), *(version_of(name) for name in ("mujoco", "coacd"))]
    for module in (attempts, methods, physics, scenes):
        told.append(code_digest(Path(module.__file__ or "")))
    return sha256(" ".join(told).encode()).hexdigest()[:16]


def _keep_settings(args: argparse.Namespace) -> None:
    from dkt_ros.files import BusyError, write_whole

    if (settings := _settings(args)) is not None:
        with suppress(BusyError):  # Another shard writes the same.
            write_whole(args.output / _SETTINGS, json.dumps(settings, indent=1) + "\n")
