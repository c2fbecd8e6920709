"""Whole runs: repeatable, killed and resumed, sharded; scenes that fail, disks that fill."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.commands import parsed

pytest.importorskip("bpy", reason="rendering needs Blender as a module (pip install bpy)")

import bpy

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import SequenceFrame, read_sequence
from dkt_ros.synth import commands
from dkt_ros.synth import generate as generation
from dkt_ros.synth.camera import PathOptions
from dkt_ros.synth.generate import (
    GENERATOR_VERSION,
    GenerateOptions,
    describe,
    generate_all,
    make_scene,
    tar_path,
)
from dkt_ros.synth.render import RenderOptions
from dkt_ros.synth.sampling import Pool, SceneOptions, sample_scene
from dkt_ros.synth.sensors import SENSORS
from dkt_ros.synth.variety import Shares

_ROOT = Path(__file__).resolve().parents[2]
_WORDS = "--seed 4 --frames 2 --size 24x40 --samples 1 --objects 2 3 --drop-share 1 --threads 1"


def options(folder: Path, **changes: Any) -> GenerateOptions:
    plain = GenerateOptions(
        output=folder,
        seed=4,
        scenes=3,
        frames=2,
        content=SceneOptions(objects=(2, 3), drop_share=1.0),
        render=RenderOptions(width=40, height=24, samples=1, threads=1),
    )
    return replace(plain, **changes)


def parse(words: str) -> argparse.Namespace:
    return parsed(words.split(), commands.add_commands)


def members(path: Path, ending: str) -> list[bytes]:
    with tarfile.open(path) as tar:
        streams = (tar.extractfile(info) for info in tar if info.name.endswith(ending))
        return [stream.read() for stream in streams if stream is not None]


def fake_frames(
    run: GenerateOptions, index: int, record: dict[str, Any], _: Any = None
) -> Iterator[SequenceFrame]:
    """In place of a renderer, for what has nothing to do with pictures."""
    if index == 1:
        raise RuntimeError("a bad scene")
    random = np.random.default_rng(index)
    for number in range(run.frames):
        yield SequenceFrame(
            rgb=random.integers(0, 255, (24, 40, 3), np.uint8),
            depth=np.ones((24, 40), np.float32),
            camera_matrix=np.eye(3),
            world_to_camera=np.eye(4),
            index=number,
            extra={"generator": record},
        )


def test_killed_and_resumed_it_equals_an_undisturbed_run(tmp_path: Path) -> None:
    killed = options(tmp_path / "killed")
    command = [sys.executable, "-m", "dkt_ros.cli", "synth", "render", "--scenes", "3"]
    command += ["--output", str(killed.output), *_WORDS.split()]
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL)
    half = tar_path(killed, 1).with_name(tar_path(killed, 1).name + ".partial")
    limit = time.monotonic() + 300
    while not half.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name for path in sorted(killed.output.iterdir())] == [
        tar_path(killed, 0).name,
        half.name,
    ]
    first = tar_path(killed, 0)
    stamp, content = first.stat().st_mtime_ns, first.read_bytes()
    lines: list[str] = []
    outcome = generate_all([killed], lines.append)
    assert (outcome.made, outcome.present, outcome.failed) == (2, 1, {})
    assert lines[0] == "there already: 1 of 3 sequences"
    assert re.search(r"4/4 frames, .* 00:00 left, .*frame", lines[-1])
    assert (first.stat().st_mtime_ns, first.read_bytes()) == (stamp, content)
    assert all(path.suffix == ".tar" for path in killed.output.iterdir())

    # What the other process made, made here: metadata to the byte, geometry to the last step.
    whole = options(tmp_path / "whole", scenes=1)
    generate_all([whole], lines.append)
    for ending in (".metadata.json", ".depth.json", ".depth.png", ".mask.png", ".instance.png"):
        assert members(first, ending) == members(tar_path(whole, 0), ending) != []
    frames = read_sequence(tar_path(killed, 1))
    assert [frame.index for frame in frames] == [0, 1]
    assert frames[0].extra["generator"]["version"] == GENERATOR_VERSION
    things = frames[0].extra["objects"]
    assert frames[0].instance is not None
    assert int(frames[0].instance.max()) <= len(things)

    with pytest.raises(DktError, match=r"was made with other options \(frames 2, now 5\)"):
        generate_all([replace(killed, frames=5)], lines.append)


def test_an_interrupt_ends_a_render_at_once_and_leaves_no_half(tmp_path: Path) -> None:
    output, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    words = ["--scenes", "2", "--frames", "50", "--size", "320x480", "--samples", "64"]
    command = [sys.executable, "-m", "dkt_ros.cli", "synth", "render", "--output", str(output)]
    process = subprocess.Popen(
        [*command, *words],
        cwd=_ROOT,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        renders: set[Path] = set()
        limit = time.monotonic() + 300
        while len(renders) < 2 and time.monotonic() < limit:  # the geometry, then the picture
            assert process.poll() is None
            renders.update(scratch.glob(f"dkt_synth_{process.pid}_*"))
            time.sleep(0.01)
        assert list(output.glob("*.partial"))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("interrupted; finished scenes are kept")
    assert "Traceback" not in errors
    assert list(output.iterdir()) == list(scratch.iterdir()) == []


@pytest.mark.parametrize("command", ["render", "tabletop"])
def test_an_interrupt_before_the_first_scene_is_not_lost(tmp_path: Path, command: str) -> None:
    """As in Blender's import, whose C code would swallow a KeyboardInterrupt."""
    script = f"""
import os, signal, time
from dkt_ros.cli import main
from dkt_ros.synth import commands
def blender():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        pass
commands._need_blender = blender
main(["synth", "{command}", "--output", "{tmp_path}/out", "--scenes", "1"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("interrupted; finished scenes are kept")
    assert not any(tmp_path.iterdir())


def test_the_command_renders_a_folder_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--seed 2 --scenes 1 --frames 1 --start 5 --size 40x64 --samples 1"
    words += " --raw-depth --sensor structured-light"
    args = parse(f"synth render --output {tmp_path}/out {words}")
    assert args.run(args) == 0
    (tar,) = (tmp_path / "out").iterdir()
    assert tar.name == "s0002-000005.tar"
    (frame,) = read_sequence(tar)
    assert frame.rgb.shape == (40, 64, 3)
    assert frame.rgb.std() > 3
    assert frame.raw_depth is not None
    assert frame.extra["sensor"] == "structured-light"
    sheet = tmp_path / "sheet.png"
    args = parse(f"synth preview {tar.parent} --output {sheet}")
    assert args.run(args) == 0
    assert sheet.stat().st_size > 1000
    assert ": 1 sequence\n" in capsys.readouterr().out


def test_a_failing_scene_is_named_counted_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generation, "render_scene", fake_frames)
    args = parse(f"synth render --output {tmp_path} --scenes 3 {_WORDS}")
    assert args.run(args) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s0004-000000.tar", "s0004-000002.tar"]
    lines = capsys.readouterr().out.splitlines()
    assert "2 made, 0 were there, 1 failed" in lines
    assert lines[-1].strip() == "s0004-000001: RuntimeError: a bad scene"


def tar_that_tells(metadata: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("a/0.metadata.json")
        member.size = len(metadata)
        tar.addfile(member, io.BytesIO(metadata))
    return content.getvalue()


@pytest.mark.parametrize(
    "made",
    [
        bytes,
        lambda: b"half a t",
        *(
            partial(tar_that_tells, told)
            for told in (b"[1]", b"{", b"\xff", b'{"generator": null}', b'{"generator": [1]}')
        ),
    ],
)
def test_an_unreadable_tar_is_named_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[], bytes]
) -> None:
    monkeypatch.setattr(generation, "render_scene", fake_frames)
    content = made()
    run = options(tmp_path)
    tar_path(run, 0).write_bytes(content)
    outcome = generate_all([run], lambda _: None)
    assert (outcome.made, outcome.present) == (1, 0)
    assert "is there but unreadable (" in outcome.failed["s0004-000000"]
    assert "\n" not in outcome.failed["s0004-000000"]
    assert tar_path(run, 0).read_bytes() == content


def test_shards_share_the_scenes_without_overlap(tmp_path: Path) -> None:
    run = options(tmp_path, start=3, scenes=8)
    parts = [replace(run, shard=(part, 3)).indices for part in range(3)]
    assert sorted(index for part in parts for index in part) == list(range(3, 11))
    assert parts[0] == [3, 6, 9]
    with pytest.raises(DktError, match="--shard is 3/3"):
        replace(run, shard=(3, 3))


def test_a_full_disk_ends_the_run_and_leaves_whole_tars(tmp_path: Path) -> None:
    program = f"""
import resource, sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from pathlib import Path
import test_generate as t
t.generation.render_scene = t.fake_frames
run = t.options(Path({str(tmp_path)!r}), start=2, scenes=1)
t.generate_all([run])
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    t.generate_all([t.replace(run, seed=5, frames=40)])
except t.DktError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, timeout=300
    )
    assert "StorageError" in done.stdout, done.stderr
    assert "the disk is full (File too large: no file may be larger there" in done.stdout
    assert "; make room and run" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["s0004-000002.tar"]
    assert len(read_sequence(tmp_path / "s0004-000002.tar")) == 2


def test_a_nonsense_amount_is_refused(tmp_path: Path) -> None:
    good = options(tmp_path)
    few = (("scenes", 0), ("frames", 0), ("seed", -1), ("start", -2))
    for name, value in (*few, ("scenes", 10**20), ("frames", 10**6), ("seed", 2**31)):
        with pytest.raises(DktError, match=f"--{name} is {value}"):
            replace(good, **{name: value})  # type: ignore[arg-type]


def test_the_description_names_every_object() -> None:
    scene = sample_scene(1, 0, SceneOptions(container_share=1.0))
    things = describe(scene)["objects"]
    assert [thing["id"] for thing in things] == list(range(1, len(scene.items) + 2))
    assert things[-1]["shape"] in ("tray", "bin")
    json.dumps(things)


def test_version_2_is_what_it_was() -> None:
    content = SceneOptions(pool=Pool.HELD_OUT)
    run = options(Path("x"), seed=220, content=content, raw_depth=True, version=2)
    scene = sample_scene(220, 0, content)
    assert [item.shape.family for item in scene.items] == [
        *("martini", "mug", "wine_glass", "jar", "ball")
    ]
    assert scene.path.radius == pytest.approx(1.0815291643998042, abs=1e-12)
    assert scene.noise_seed == 951765042
    record = run.record()
    assert record["version"] == 2
    assert set(record) == {"name", "version", "seed", "frames", "render", "content", "sensor"}
    assert set(record["sensor"]) == {
        *("baseline", "focal", "nearest", "farthest", "noise", "block", "uniqueness"),
        *("speckle_size", "speckle_range"),
    }
    made = make_scene(replace(run, content=replace(content, drop_share=0.0)), 0)
    assert not made.props
    assert made.photo is None


def test_what_versions_lack_is_refused(tmp_path: Path) -> None:
    good = options(tmp_path)
    with pytest.raises(DktError, match="--version is 1, expected 2 or 3"):
        replace(good, version=1)
    with pytest.raises(DktError, match="--version 2 has the d435 alone"):
        replace(good, version=2, sensor="tof")
    with pytest.raises(DktError, match="--sensor is lidar, expected one of d435"):
        replace(good, sensor="lidar")
    circle = SceneOptions(path=PathOptions(radius=(0.3, 0.4)))
    with pytest.raises(DktError, match="--radius goes with --shares views=0"):
        replace(good, content=circle)
    assert replace(good, content=circle, shares=Shares(views=0.5)).content is circle
    with pytest.raises(DktError, match="--shares goes with --version 3"):
        replace(good, version=2, shares=Shares(hands=1.0))


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("--sensor tof", "--raw-depth"),
        ("--infrared-samples 4", "--raw-depth"),
        ("--mesh-share 0.3", "--meshes"),
        ("--mesh-scale 0.001", "--meshes"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    tmp_path: Path, words: str, needed: str
) -> None:
    args = parse(f"synth render --output {tmp_path}/out --scenes 1 {words}")
    with pytest.raises(DktError, match=f"{words.split()[0]}.* needs {needed}"):
        args.run(args)


def test_shares_are_read_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    args = parse("synth render --output x --scenes 1 --shares hands=0.5 photo=0")
    assert dict(args.shares) == {"hands": 0.5, "photo": 0.0}
    for word in ("feet=1", "hands", "hands=many"):
        with pytest.raises(SystemExit):
            parse(f"synth render --output x --scenes 1 --shares {word}")
        assert "is not NAME=SHARE with a NAME of views, close" in capsys.readouterr().err


def test_a_mixed_run_says_which_sensor_each_scene_has(tmp_path: Path) -> None:
    run = options(tmp_path, raw_depth=True, frames=1, scenes=1, sensor="mixed")
    run = replace(run, content=replace(run.content, drop_share=0.0))
    names = []
    for index in (9, 12):  # of sensors that are soon rendered
        assert generate_all([replace(run, start=index)], lambda _: None).failed == {}
        names.append(read_sequence(tar_path(run, index))[0].extra["sensor"])
    assert set(names) <= set(SENSORS)
    assert len(set(names)) == 2
    assert set(run.record()["sensor"]) == set(SENSORS)


def test_the_commands_defaults_are_the_options_own() -> None:
    args = vars(parse("synth render --output x --scenes 1"))
    args["height"], args["width"] = args["size"]
    for defaults in (SceneOptions(), RenderOptions(), PathOptions()):
        for field in fields(defaults):
            value = getattr(defaults, field.name)
            if field.name in args and field.name not in ("meshes", "pool"):
                assert args[field.name] == value, field.name
    for field in fields(GenerateOptions):
        if field.name in ("start", "shard", "raw_depth", "sensor", "version"):
            assert args[field.name] == field.default


def test_the_users_meshes_and_panoramas_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("meshes", "hdris"):
        (tmp_path / name).mkdir()
    lines = ["v 0 0 0", "v 90 0 0", "v 0 90 0", "v 0 0 90", "f 1 3 2", "f 1 2 4"]
    (tmp_path / "meshes" / "wedge.obj").write_text("\n".join([*lines, "f 2 3 4", "f 3 1 4"]))
    (tmp_path / "meshes" / "broken.glb").write_bytes(b"glTF")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    picture = bpy.data.images.new("sky", 32, 16, float_buffer=True)
    picture.pixels.foreach_set(np.tile(np.array([0.2, 0.4, 1.0, 1.0], np.float32), 32 * 16))
    picture.file_format, picture.filepath_raw = "HDR", str(tmp_path / "hdris" / "sky.hdr")
    picture.save()
    words = f"--meshes {tmp_path}/meshes --mesh-share 1 --hdris {tmp_path}/hdris"
    words += " --shares views=0 hands=0 grippers=0 sheets=0 photo=0 --container-share 0"
    words += " --elevation 4 5 --radius 0.5 0.5 --objects 2 2 --samples 1"
    args = parse(f"synth render --output {tmp_path}/out --scenes 1 --size 40x64 {words}")
    assert args.run(args) == 0
    printed = capsys.readouterr().out
    assert "broken.glb" in printed
    assert "1 usable, 1 skipped" in printed
    (frame,) = read_sequence(tmp_path / "out" / "s0000-000000.tar")
    things = frame.extra["objects"]
    assert {thing["shape"] for thing in things} == {"wedge"}
    assert frame.instance is not None
    assert set(np.unique(frame.instance)) >= {0, 1}
    # No room about it: the sky is at no depth, and it lights the picture blue.
    sky = np.isnan(frame.depth)
    assert sky.mean() > 0.02
    red, _, blue = frame.rgb[sky].mean(axis=0)
    assert blue > red + 40


def test_several_runs_are_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rendered(run: GenerateOptions, index: int, _: Any, after: Callable[[], None]) -> list[None]:
        for _frame in range(run.frames):
            after()
        if index == 2:
            raise DktError("nothing to see")
        return [None]

    monkeypatch.setattr(generation, "render_scene", rendered)
    monkeypatch.setattr(generation, "write_sequence", lambda *_: None)
    lines: list[str] = []
    runs = [options(tmp_path, scenes=2), options(tmp_path, scenes=2, start=1, frames=3)]
    outcome = generate_all(runs, lines.append)
    assert (outcome.made, list(outcome.failed)) == (3, ["s0004-000002"])
    told = [re.search(r"(\d+)/(\d+) frames", line) for line in lines]
    counts = [(int(match[1]), int(match[2])) for match in told if match]
    assert counts == [(2, 10), (4, 10), (7, 10)], "over both, not over each"
