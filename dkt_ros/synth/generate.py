"""Scenes to tars: which ones, what is already there, what failed.

Knows the order of work. Knows nothing of how a scene is drawn or rendered.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.files import BusyError, StorageError
from dkt_ros.formats.transphy3d import (
    MaterialClass,
    SequenceFrame,
    write_sequence,
)
from dkt_ros.progress import progress_bar
from dkt_ros.synth.camera import PathOptions
from dkt_ros.synth.physics import settle
from dkt_ros.synth.render import Renderer, RenderOptions
from dkt_ros.synth.sampling import SceneOptions, sample_scene
from dkt_ros.synth.scene import Scene
from dkt_ros.synth.sensors import MIXED, SENSORS, sensor_of
from dkt_ros.synth.tabletop import Tabletop, fixture, sample_tabletop, solid
from dkt_ros.synth.variety import Shares, complete, sample_varied_scene
from dkt_ros.wording import counted

GENERATOR_VERSION = 3
"""Grows with every change after which a seed gives other scenes or pictures."""
OLDEST_VERSION = 2
"""Versions from this one on can still be asked for."""

_MOST = 999_999
"""Of scenes, whose numbers have six digits, and of frames."""

_SCENE_ERRORS = (DktError, RuntimeError, ValueError, ArithmeticError, LookupError, MemoryError)


@dataclass(frozen=True)
class GenerateOptions:
    """What to render: scenes start .. start + scenes - 1 of a seed, `frames` views of each.

    shard (i, n): of these, the ones whose number leaves the remainder i when divided by n.
    sensor: a name in SENSORS, or MIXED for one that suits each scene. shares: of version 3's
    scenes; version 2 knows none, no camera's faults, and the D435 alone. tabletop: which scenes to
    grasp in, in place of what `shares` and `content` tell but for the number of objects; they tell
    meshes and masses too.
    """

    output: Path
    seed: int
    scenes: int
    frames: int
    start: int = 0
    shard: tuple[int, int] = (0, 1)
    raw_depth: bool = False
    content: SceneOptions = field(default_factory=SceneOptions)
    render: RenderOptions = field(default_factory=RenderOptions)
    sensor: str = "d435"
    version: int = GENERATOR_VERSION
    shares: Shares = field(default_factory=Shares)
    tabletop: Tabletop | None = None

    def __post_init__(self) -> None:
        limits = {"seed": (0, 2**31 - 1), "scenes": (1, _MOST), "frames": (1, _MOST)}
        for name, (least, most) in (limits | {"start": (0, _MOST)}).items():
            if not least <= getattr(self, name) <= most:
                raise DktError(f"--{name} is {getattr(self, name)}, expected {least} to {most}")
        if not OLDEST_VERSION <= self.version <= GENERATOR_VERSION:
            known = " or ".join(map(str, range(OLDEST_VERSION, GENERATOR_VERSION + 1)))
            raise DktError(f"--version is {self.version}, expected {known}")
        if self.sensor not in (*SENSORS, MIXED):
            known = ", ".join((*SENSORS, MIXED))
            raise DktError(f"--sensor is {self.sensor}, expected one of {known}")
        if self.version == OLDEST_VERSION and self.sensor != "d435":
            raise DktError(f"--sensor is {self.sensor}; --version 2 has the d435 alone")
        if self.version == OLDEST_VERSION and self.shares != Shares():
            raise DktError("--shares goes with --version 3; --version 2 has none")
        if self.sensor != "d435" and not self.raw_depth:
            raise DktError(f"--sensor {self.sensor} needs --raw-depth, which simulates it")
        path, usual = self.content.path, PathOptions()
        if self.version > OLDEST_VERSION and self.shares.views == 1:
            for name in ("radius", "elevation", "step", "period"):
                if getattr(path, name) != getattr(usual, name):
                    raise DktError(f"--{name} goes with --shares views=0 or with --version 2")
        part, parts = self.shard
        if not 0 <= part < parts:
            raise DktError(f"--shard is {part}/{parts}, expected I/N with 0 <= I < N, as in 0/4")

    @property
    def indices(self) -> list[int]:
        """The scenes of this shard."""
        part, parts = self.shard
        wanted = range(self.start, self.start + self.scenes)
        return [index for index in wanted if index % parts == part]

    def record(self) -> dict[str, Any]:
        """Everything but the scene's number that a sequence's content depends on."""
        content = dataclasses.asdict(dataclasses.replace(self.content, meshes=(), panoramas=()))
        render = dataclasses.asdict(self.render)
        del render["threads"]
        content["pool"] = self.content.pool.value
        if self.content.meshes:
            arrays = [array for s in self.content.meshes for array in (s.vertices, s.faces)]
            content["meshes"] = _digest([array.tobytes() for array in arrays])
        if self.content.panoramas:
            content["panoramas"] = _digest(
                [os.fsencode(path.name) for path in self.content.panoramas]
            )
        record = {
            "name": "dkt synth",
            "version": self.version,
            "seed": self.seed,
            "frames": self.frames,
            "render": render,
            "content": content,
            "sensor": self._sensors() if self.raw_depth else None,
        }
        if self.version > OLDEST_VERSION:
            record["shares"] = dataclasses.asdict(self.shares)
        if self.tabletop is not None:
            record["tabletop"] = self.tabletop.record()
        plain: dict[str, Any] = json.loads(json.dumps(record))
        return plain

    def _sensors(self) -> dict[str, Any]:
        """Parameters of the sensors by name; version 2 knew one, and said so without its name."""
        if self.version == OLDEST_VERSION:
            figures = dataclasses.asdict(SENSORS["d435"])
            del figures["projector"]
            return figures
        names = SENSORS if self.sensor == MIXED else (self.sensor,)
        return {name: dataclasses.asdict(SENSORS[name]) for name in names}


@dataclass(frozen=True)
class Outcome:
    """Sequences made now, there before, left to another process; what failed, name to reason."""

    made: int
    present: int
    elsewhere: tuple[str, ...]
    failed: dict[str, str]


def tar_path(options: GenerateOptions, index: int) -> Path:
    """Where scene `index` of these options goes."""
    return options.output / f"{sequence_id(options, index)}.tar"


def sequence_id(options: GenerateOptions, index: int) -> str:
    """Unique over seeds and scenes."""
    name = f"s{options.seed:04d}-{index:06d}"
    return name if options.tabletop is None else f"{name}-{options.tabletop.material}"


def generate_all(runs: Sequence[GenerateOptions], say: Callable[[str], None] = print) -> Outcome:
    """Renders the scenes whose tar is missing, of one after another, with one progress over all.

    Safe to kill and to call again. Lines go to `say`, one a scene where there is no terminal for a
    bar. A scene that fails is named and left out.

    Raises DktError where tars are there that other options made, StorageError where the disk is
    full; whole tars stay.
    """
    missing: list[tuple[GenerateOptions, dict[str, Any], int]] = []
    failed: dict[str, str] = {}
    present = wanted = 0
    for options in runs:
        lacking = [index for index in options.indices if not tar_path(options, index).exists()]
        there = sorted(set(options.indices) - set(lacking))
        record = options.record()
        unreadable = _misfits(options, there, record)
        failed |= unreadable
        missing += [(options, record, index) for index in lacking]
        present += len(there) - len(unreadable)
        wanted += len(options.indices)
    if present:
        say(f"there already: {present} of {counted(wanted, 'sequence')}")
    elsewhere, made = [], 0
    frames = sum(options.frames for options, _, _ in missing)
    with progress_bar(frames, "frame", mininterval=math.inf) as bar:
        for options, record, index in missing:
            name = sequence_id(options, index)
            frames -= options.frames
            try:
                rendered = render_scene(options, index, record, bar.update)
                write_sequence(tar_path(options, index), name, rendered)
            except StorageError:
                raise
            except BusyError:
                elsewhere.append(name)
            except _SCENE_ERRORS as error:
                failed[name] = f"{type(error).__name__}: {error}"
                say(f"{name}  FAILED  {failed[name]}")
            else:
                made += 1
                if not sys.stderr.isatty():
                    say(f"{name}  {bar}")
            # Scenes that failed or are another's have no more frames to wait for.
            bar.total = bar.n + frames
    return Outcome(made, present, tuple(elsewhere), failed)


def render_scene(
    options: GenerateOptions, index: int, record: dict[str, Any], after_frame: Callable[[], object]
) -> Iterator[SequenceFrame]:
    """The frames of one scene, rendered one by one as they are asked for. record: the options'."""
    scene = make_scene(options, index)
    sensor = sensor_of(options.sensor, options.seed, index, scene.path.radius)
    renderer = Renderer(scene, options.render)
    extra = {"generator": record, **describe(scene)}
    if options.tabletop is not None:
        things = [solid(item) for item in scene.items]
        if scene.area.container is not None:
            things.append(fixture(scene.area.container))
        for entry, thing in zip(extra["objects"], things, strict=True):
            entry |= thing
    if options.raw_depth and options.version > OLDEST_VERSION:
        extra["sensor"] = sensor
    for number in range(options.frames):
        pose = scene.path.world_to_camera(number)
        geometry = renderer.geometry(pose)
        raw_depth = None
        if options.raw_depth:
            random = np.random.default_rng([options.seed, index, number])
            raw_depth = renderer.raw_depth(pose, SENSORS[sensor], random)
        random = np.random.default_rng([options.seed, index, number, 1])
        yield SequenceFrame(
            rgb=renderer.photograph(number, geometry, random),
            depth=geometry.depth,
            camera_matrix=renderer.camera_matrix,
            world_to_camera=pose,
            mask=geometry.mask,
            normal=geometry.normal,
            raw_depth=raw_depth,
            instance=geometry.instance,
            index=number,
            extra=extra,
        )
        after_frame()


def make_scene(options: GenerateOptions, index: int) -> Scene:
    """One scene as it is rendered: its objects at rest."""
    if options.tabletop is not None:
        kind, objects = options.tabletop, options.content.objects
        return sample_tabletop(options.seed, index, kind, objects, options.frames)
    if options.version == OLDEST_VERSION:
        scene = sample_scene(options.seed, index, options.content)
    else:
        scene = sample_varied_scene(options.seed, index, options.content, options.shares)
    if scene.dropped:
        scene = settle(scene)
    if not scene.items:
        raise DktError("no object found a place; allow more room or fewer --objects")
    if options.version == OLDEST_VERSION:
        return scene
    return complete(scene, options.seed, index, options.shares)


def describe(scene: Scene) -> dict[str, Any]:
    """What metadata.json says of a scene; an object's id is its number in instance.png."""
    poses = [item.pose for item in scene.items]
    if scene.area.container is not None:
        poses.append(np.eye(4))
    poses += [item.pose for item in scene.items if item.liquid]
    objects = [
        {
            "id": number,
            "shape": name,
            "substance": substance.name,
            "class": MaterialClass(substance.kind).name.lower(),
            "object_to_world": pose.tolist(),
        }
        for number, ((name, substance), pose) in enumerate(
            zip(scene.things, [*poses, *(prop.pose for prop in scene.props)], strict=True), start=1
        )
    ]
    for entry, prop in zip(objects[len(poses) :], scene.props, strict=True):
        if prop.attached:
            entry["object_to_camera"] = entry.pop("object_to_world")
    return {"placement": "dropped" if scene.dropped else "placed", "objects": objects}


def _misfits(
    options: GenerateOptions, present: list[int], record: dict[str, Any]
) -> dict[str, str]:
    """Unreadable tars, name to reason; DktError where other options made one."""
    failed = {}
    for index in present:
        path = tar_path(options, index)
        try:
            found = _record_of(path)
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            failed[path.stem] = f"{path} is there but unreadable ({error}); delete it"
            continue
        if found != record:
            raise DktError(
                f"{path} was made with other options ({_difference(found, record)}); "
                "choose another --output or --seed, or delete what is there"
            )
    return failed


def _record_of(path: Path) -> dict[str, Any]:
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            if info.name.endswith(".metadata.json") and (stream := tar.extractfile(info)):
                told = json.loads(stream.read())
                found = told.get("generator", {"version": 1}) if isinstance(told, dict) else None
                if not isinstance(found, dict):
                    raise ValueError("metadata.json tells no generator")
                return found
    raise ValueError("no metadata.json")


def _difference(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> str:
    lines = []
    for key in sorted(found.keys() | wanted.keys()):
        a, b = found.get(key), wanted.get(key)
        if isinstance(a, dict) and isinstance(b, dict) and a != b:
            lines.append(_difference(a, b, f"{prefix}{key}."))
        elif a != b and not (found.get("version") != wanted.get("version") and key != "version"):
            lines.append(f"{prefix}{key} {json.dumps(a)}, now {json.dumps(b)}")
    return ", ".join(lines)


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
