"""`dkt grasp bench` on small scenes of known boxes: what it writes, resumes and refuses."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mujoco", reason="physics needs MuJoCo (pip install 'dkt_ros[grasp]')")

from fixtures.grasp_scenes import Box, depth_of, view
from fixtures.waiting import eventually

from dkt_ros.bench.attempts import Record, try_grasp
from dkt_ros.bench.commands import _append, read_records
from dkt_ros.bench.methods import Told, depths
from dkt_ros.bench.page import strip
from dkt_ros.bench.scenes import TableScene, clips_of, scene_of
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.evaluation.models import Depths
from dkt_ros.evaluation.videos import Video
from dkt_ros.files import StorageError
from dkt_ros.formats.tabletop import MATERIALS
from dkt_ros.formats.tar_index import read_members
from dkt_ros.formats.transphy3d import (
    MaterialClass,
    SequenceFrame,
    read_sequence,
    write_sequence,
)
from dkt_ros.fusion.weights import default_weights
from dkt_ros.geometry import Intrinsics
from dkt_ros.grasp.antipodal import Grasp, GraspConfig, Gripper, Plan
from dkt_ros.model.checkpoint import default_checkpoint
from dkt_ros.rigid.world import Body
from dkt_ros.synth.lathe import stack

ROOT = Path(__file__).resolve().parents[2]
CAMERA = Intrinsics(200.0, 200.0, 71.5, 39.5, 144, 80)
BOX = Box(0.01, 0.0, (0.05, 0.05, 0.06), turn=0.3)
WORDS = ["grasp", "bench", "--scene-seed", "7", "--scenes", "1", "--picture-size", "80x144"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene in three materials; the transparent one's sensor sees the table through it."""
    return written(tmp_path_factory.mktemp("scenes"), ["fixed"], 0.6)


def written(folder: Path, look: list[str], *tilts: float) -> Path:
    """The scene from each of the camera's tilts, one frame after another."""
    for number, material in enumerate(MATERIALS):
        frames = [
            replace(frame(number, tilt, [material, *look]), index=index)
            for index, tilt in enumerate(tilts)
        ]
        name = f"s0007-000000-{material}"
        write_sequence(folder / f"{name}.tar", name, frames)
    return folder


def frame(material: int, tilt: float, tabletop: list[str]) -> SequenceFrame:
    seen = view(tilt, 0.45)
    depth, table = (depth_of(things, seen, CAMERA) for things in ([BOX], []))
    instance = (np.abs(depth - table) > 1e-5).astype(np.uint8)
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (0, 1)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    pose[:3, 3] = BOX.x, BOX.y, 0.0002
    thing = {"id": 1, "shape": "box", "object_to_world": pose.tolist(), "mass": 0.15}
    thing |= {"vertices": (corners * [0.025, 0.025, 0.06]).tolist(), "faces": faces}
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = seen.rotation
    world_to_camera[:3, 3] = -seen.rotation @ seen.position
    rgb = np.where(instance[..., None] > 0, 160, 90).astype(np.uint8).repeat(3, axis=2)
    kinds = (MaterialClass.TRANSPARENT, MaterialClass.REFLECTIVE, MaterialClass.OPAQUE)
    return SequenceFrame(
        rgb,
        depth,
        CAMERA.matrix,
        world_to_camera,
        mask=instance * np.uint8(kinds[material]),
        raw_depth=table if kinds[material] is MaterialClass.TRANSPARENT else depth,
        instance=instance,
        extra={"objects": [thing], "generator": {"tabletop": tabletop}},
    )


def test_attempts_of_all_methods_are_made_told_and_drawn(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--data", str(scenes), "--output", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    told = json.loads((tmp_path / "bench.json").read_text())
    results = {(r["material"], r["method"]): r["result"] for r in told["attempts"]}
    assert len(results) == 18
    assert {results[material, "truth"] for material in MATERIALS} == {"held"}
    assert results["diffuse", "raw"] == results["diffuse", "fill"] == "held"
    assert results["transparent", "raw"] == "no grasp found"
    truth = next(r for r in told["attempts"] if r["method"] == "truth")
    assert truth["shape"] == "box"
    assert truth["error_m"] < 1e-4
    assert truth["known"] == 1
    through = next(r for r in told["attempts"] if r["method"] == "raw" and r["bad"] > 0)
    assert through["material"] == "transparent"
    assert through["bias_m"] > 0.01, "the table behind it"
    assert told["methods"]["truth"]["all"]["held"] == 3
    assert "| truth | 1.00 (0.21 to 1.00), 1/1 |" in printed
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 18
    assert page.index("transparent, raw: no grasp found") < page.index("diffuse, truth: held")
    strip = cv2.imread(str(tmp_path / "strips" / "s0007-000000-diffuse-truth.jpg"))
    assert strip is not None
    assert strip.shape == (80, 3 * 144, 3)

    # A kill cuts the last line: that attempt alone is made again, to the same end.
    lines = (tmp_path / "attempts.jsonl").read_text().splitlines()
    (tmp_path / "attempts.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40] + "\n")
    assert main(words) == 0
    after = (tmp_path / "attempts.jsonl").read_text().splitlines()
    assert after[:-2] == lines[:-1]
    assert after[-1] == lines[-1]

    assert main([*words, "--camera", "wrist"]) == 2
    assert "holds attempts with other camera" in capsys.readouterr().err


@pytest.mark.bpy
def test_what_renders_ends_with_the_command_and_leaves_no_half(tmp_path: Path) -> None:
    words = ["--scenes", "2", "--jobs", "2", "--camera", "orbit", "--picture-size", "640x1152"]
    words += ["--methods", "truth"]  # no network to be loaded before it renders
    bench = subprocess.Popen(
        [sys.executable, "-m", "dkt_ros.cli", "grasp", "bench", "--output", str(tmp_path), *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def halves() -> list[Path]:
        return list(tmp_path.glob("scenes/*.partial"))

    eventually(lambda: len(halves()) == 2, 300.0)
    renderers = children_of(bench.pid)
    assert len(renderers) == 2
    bench.terminate()
    assert bench.wait() == -signal.SIGTERM
    eventually(lambda: not any(map(is_alive, renderers)), 300.0)
    assert list((tmp_path / "scenes").iterdir()) == [], "neither a half nor one made since"


def children_of(parent: int) -> list[int]:
    files = Path("/proc").glob("[0-9]*/stat")
    return [int(file.parent.name) for file in files if stat_of(file)[1:2] == [str(parent)]]


def is_alive(process: int) -> bool:
    return stat_of(Path(f"/proc/{process}/stat"))[:1] not in ([], ["Z"])


def stat_of(file: Path) -> list[str]:
    """State, parent and more; nothing where the process is gone."""
    try:
        return file.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def test_depth_in_files_is_another_method(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for material in MATERIALS:
        folder = tmp_path / "depth" / f"s0007-000000-{material}"
        folder.mkdir(parents=True)
        np.save(folder / "0.npy", np.full((80, 144), 0.4, np.float32))
    words = [*WORDS, "--data", str(scenes), "--output", str(tmp_path / "out"), "--methods", "truth"]
    words += ["--predictions", f"../a flat={tmp_path / 'depth'}"]
    assert main(words) == 0
    told = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert told["methods"]["../a flat"]["all"]["results"] == {"no grasp found": 3}
    names = {file.name for file in (tmp_path / "out" / "strips").iterdir()}
    assert names == {
        f"s0007-000000-{m}-{method}.jpg" for m in MATERIALS for method in ("..%2Fa%20flat", "truth")
    }
    assert told["methods"]["truth"]["all"]["held"] == 3
    # Of depth that is another since then, only what is made of it is made again.
    first = (tmp_path / "out" / "attempts.jsonl").read_text()
    np.save(folder / "0.npy", np.full((80, 144), 0.3, np.float32))
    assert main(words) == 0
    text = (tmp_path / "out" / "attempts.jsonl").read_text()
    assert text.startswith(first)
    (again,) = map(json.loads, text.removeprefix(first).splitlines())
    assert (again["material"], again["method"]) == (material, "../a flat")
    assert main([*words, "--methods", "rough"]) == 2
    assert "--methods rough" in capsys.readouterr().err
    for look, made in (
        (["--arrangement", "heap"], "fixed heap 80x144"),
        (["--camera", "wrist"], "wrist table 80x144"),
        ([], "fixed table 40x72"),
    ):
        size = made.rpartition(" ")[2]
        more = [*look, "--picture-size", size, "--output", str(tmp_path / "other")]
        assert main([*words, *more]) == 2
        said = f"camera, arrangement and size fixed table 80x144, expected {made}"
        assert said in capsys.readouterr().err
        assert not any((tmp_path / "other").iterdir())  # no settings that hold for no attempts


def test_a_planner_of_ones_own_lies_where_the_command_is_given(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    planner = tmp_path / "benched_planner.py"
    words = [*WORDS, "--data", str(scenes), "--methods", "truth", "--output", str(tmp_path / "out")]
    words += ["--planner", "benched_planner:plan"]
    text = "from dkt_ros.grasp.antipodal import Plan\nidea, number = 'my idea', 3\n"
    text += "def plan(scene, gripper, config):\n    return Plan(problem=idea)\n"
    text += "def none(scene, gripper, config):\n    pass\n"
    text += "def wide(scene, gripper, config):\n    import numpy as np\n"
    text += "    from dkt_ros.grasp.antipodal import Grasp\n"
    text += "    return Plan((Grasp(np.eye(3), np.zeros(3), 0.09, 1.0, 1.0),))\n"
    planner.write_text(text)
    assert main(words) == 0
    told = json.loads((tmp_path / "out" / "bench.json").read_text())["attempts"]
    assert [one["why"] for one in told] == 3 * ["my idea"]
    planner.write_text(text.replace("my idea", "new idea"))
    other = ["--planner", "benched_planner:none", "--scene-seed", "8", "--target", "all"]
    assert main([*words, *other]) == 2
    said = "holds attempts with other code of planner, planner, scene_seed, target; take"
    assert said in capsys.readouterr().err
    for name, said in (
        ("nowhere:plan", "No module named 'nowhere'"),
        ("benched_planner:plans", "has no attribute 'plans'"),
        ("benched_planner", "has no attribute ''"),
        ("benched_planner:number", "3 is not a callable object"),
        ("benched_planner:idea.plan", "has no attribute 'idea.plan'"),
        ("benched_planner:none", "none returned None"),
        (":plan", "Empty module name"),
    ):
        assert main([*words, "--planner", name, "--output", str(tmp_path / "other")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"dkt grasp: --planner {name}")
        assert f"{said}; expected antipodal, or module:function" in line
    other = ["--planner", "benched_planner:wide", "--output", str(tmp_path / "wide")]
    assert main([*words, *other]) == 2
    assert "a grasp 0.09 m wide, expected at most the gripper's" in capsys.readouterr().err


def test_processes_share_the_scenes_and_what_is_an_object_may_be_left_to_the_planner(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    masks: list[Any] = []
    opened: list[str] = []

    def noted(path: Path, *more: Any) -> Any:
        opened.append(path.name)
        return read_members(path, *more)

    for reader in ("dkt_ros.formats.transphy3d", "dkt_ros.datasets.transphy3d"):
        monkeypatch.setattr(f"{reader}.read_members", noted)

    def plan(scene: Any, *_: Any) -> Plan:
        masks.append(scene.target)
        return Plan(problem="no idea")

    monkeypatch.setattr("dkt_ros.bench.attempts.load_planner", lambda name: plan)
    words = [*WORDS, "--data", str(scenes), "--output", str(tmp_path), "--methods", "truth"]
    words += ["--target", "all"]
    for part, attempts in ((1, 0), (0, 3)):
        assert main([*words, "--shard", f"{part}/2"]) == 0
        assert f"{attempts} attempts so far" in capsys.readouterr().out
        assert not (tmp_path / "bench.json").exists()
    assert masks == [None] * 3
    names = [f"s0007-000000-{material}.tar" for material in MATERIALS]
    assert opened == [names[0], names[0], *names], "in both runs the first one's look, then each"
    assert main(words) == 0
    assert len(masks) == 3, "all are there"
    told = json.loads((tmp_path / "bench.json").read_text())["attempts"]
    assert {(one["result"], one["why"]) for one in told} == {("no grasp found", "no idea")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scenes", "1" + 20 * "0"], "expected at most 999999 together"),
        (["--quick", "--start", "999997"], "--start 999997 --scenes 3: expected at most 999999"),
        (["--picture-size", "big"], "--picture-size is 'big', expected HxW, such as 160x288"),
        (["--checkpoint", "/nowhere"], "checkpoint /nowhere does not exist"),
        (["--predictions", "a=/nowhere"], "--predictions a=/nowhere: no such folder"),
        (["--backend", "tensorrt"], "engine_dir is empty"),
        (["--device", "cuda:77"], "cuda:77"),
        (["--predictor", "my_network:load"], "my_network"),
        (["--output", "/proc/none"], "/proc/none/settings.json: cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main([*WORDS, "--output", str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_damaged_settings_are_named(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "settings.json").write_text(text)
    assert main([*WORDS, "--data", str(scenes), "--output", str(tmp_path)]) == 2
    assert re.search(r"settings.json is damaged \(.*take another --output", capsys.readouterr().err)


def test_attempts_are_not_mixed_with_those_of_weights_that_were_there_before(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, refiner, out = tmp_path / "ck", tmp_path / "refiner", tmp_path / "out"
    shutil.copytree(default_checkpoint(), checkpoint)
    shutil.copytree(default_weights(), refiner)
    words = ["--data", str(scenes), "--output", str(out), "--checkpoint", str(checkpoint)]
    words += ["--refiner", str(refiner)]
    assert main([*WORDS, *words, "--methods", "truth"]) == 0
    for changed in (checkpoint / "dkt.json", refiner / "refiner.json"):
        with changed.open("a") as file:
            file.write("\n")
    assert main([*WORDS, *words, "--methods", "truth"]) == 2
    said = "holds attempts with other contents of checkpoint, contents of refiner; take"
    assert said in capsys.readouterr().err


def test_attempts_are_not_mixed_with_those_of_other_code(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, other = tmp_path / "out", tmp_path / "other.py"
    other.write_text("speed = 1")
    words = [*WORDS, "--data", str(scenes), "--output", str(out), "--methods", "truth"]
    assert main(words) == 0
    written = (out / "settings.json").read_text()
    makers: list[tuple[str, Any]] = [
        ("dkt_ros.processing.maker.code_state", lambda: "another"),
        ("dkt_ros.versions.version_of", lambda name: "2" if name == "mujoco" else ""),
    ]
    makers += [
        (f"dkt_ros.bench.{name}.__file__", str(other))
        for name in ("attempts", "methods", "physics", "scenes")
    ]
    for name, value in makers:
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert main(words) == 2, name
        said = capsys.readouterr().err
        assert "holds attempts with other code of dkt_ros or its libraries; take another" in said
        assert "or delete attempts.jsonl and settings.json there: rendered scenes stay" in said
    told = json.loads(written)
    # Of more scenes, or in more processes, the attempts go on.
    free = {"output", "data", "scenes", "quick", "start", "methods", "jobs", "shard"}
    assert not told.keys() & free
    del told["code of dkt_ros or its libraries"]
    (out / "settings.json").write_text(json.dumps(told))
    assert main(words) == 2, "made before that was told"
    assert "other code of dkt_ros" in capsys.readouterr().err
    (out / "settings.json").unlink()
    assert main(words) == 2
    assert "settings.json is gone" in capsys.readouterr().err
    (out / "settings.json").write_text(written)
    assert main(words) == 0


def test_an_attempt_stands_in_a_line_of_its_own_or_is_said_to_be_lost(
    tmp_path: Path,
) -> None:
    record = Record("s", "diffuse", "truth", "held")
    path = tmp_path / "attempts.jsonl"
    path.write_text('{"scene": "cut')
    _append(path, replace(record, result="missed"))
    _append(path, record)
    assert path.read_text().count("\n") == 3
    assert read_records(path) == [record], "the latest"
    with path.open("ab") as file:
        for damage in (b"\xcc\x00", b"[1]", b"3", b'{"scene": 1, "material": 2}'):
            file.write(damage + b"\n")
        file.write(json.dumps({**record.told(), "scene": 3}).encode())
    assert read_records(path) == [record]
    with pytest.raises(StorageError, match=r"full: the disk is full \(No space left"):
        _append(Path("/dev/full"), record)


def test_attempts_are_in_the_order_of_methods_with_others_before_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    expected = ["raw", "fused", "careful", "B fused", "theirs", "truth"]
    for method in sorted(expected, reverse=True):
        _append(path, Record("s", "diffuse", method, "held"))
    assert [record.method for record in read_records(path)] == expected


def test_a_folder_without_scenes_is_refused(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some.tar").write_bytes((scenes / "s0007-000000-diffuse.tar").read_bytes())
    with pytest.raises(DktError, match=r"expected tars such as s0000-000000-diffuse\.tar"):
        clips_of(tmp_path)
    assert [clip.name.rpartition("-")[2] for clip in clips_of(scenes, [0])] == list(MATERIALS)
    with pytest.raises(DktError, match="no scene to grasp in"):
        clips_of(scenes, [1])


def test_of_an_orbit_all_frames_are_seen_and_the_last_is_planned_in(tmp_path: Path) -> None:
    data = written(tmp_path, ["orbit"], 0.2, 0.4, 0.6)
    seen: list[tuple[int, Any]] = []
    problems = {0: "dark"}

    class Model:
        name, answers_every = "model", 1

        def depths(self, video: Video, truth: np.ndarray, asked: Any) -> dict[str, Depths]:
            seen.append((len(video), asked))
            sure = np.ones_like(truth) * np.linspace(0.1, 0.9, 3, dtype=np.float32)[:, None, None]
            return {alignment: Depths(truth, sure, problems=problems) for alignment in asked}

    scene = last_scene(data)
    last = view(0.6, 0.45)
    np.testing.assert_allclose(scene.camera_to_world[:3, 3], last.position, atol=1e-6)
    told = depths(scene, ["raw", "fill", "network", "fused", "careful"], [Model()])
    assert seen == [(3, ["fused", "online"])]
    for one in told.values():
        np.testing.assert_allclose(one.depth, depth_of([BOX], last, CAMERA), atol=6e-4)
    for name, least in (("network", 0.0), ("fused", 0.0), ("careful", 0.5)):
        assert told[name].min_confidence == least
        np.testing.assert_allclose(np.asarray(told[name].confidence, np.float32), 0.9)
    problems[2] = "no scale"
    with pytest.raises(DktError, match="s0007-000000-diffuse: no scale"):
        depths(scene, ["fused"], [Model()])
    found = told["fused"]
    tried = try_grasp(scene, "fused", found)
    assert tried.record.result == "held"
    asked: list[float] = []

    def refuse(scene: Any, gripper: Any, config: GraspConfig) -> Plan:
        asked.append(config.min_confidence)
        assert scene.confidence is told["careful"].confidence
        return Plan(refused=Counter({"too flat": 1, "depth is not trusted": 5}))

    record = try_grasp(scene, "careful", told["careful"], refuse).record
    assert (asked, record.why) == ([0.5], "depth is not trusted")
    assert record.reasons == {"too flat": 1, "depth is not trusted": 5}


def last_scene(data: Path) -> TableScene:
    clip = clips_of(data)[-1]
    return scene_of(clip, read_sequence(clip.path), data / "parts")


def solid(box: Box, below: float = 0.0) -> Body:
    """The box, on what is so high."""
    size = 0.5 * np.array(box.size)
    mesh, pose = stack([(size[0], size[1], 0.0), (size[0], size[1], box.size[2])]), np.eye(4)
    pose[:3, 3] = box.x, box.y, below + 0.0002
    return Body("box", pose, 0.1, mesh, (mesh,))


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_a_grasp_is_judged_by_the_body_that_it_is_at(over: bool, first: int) -> None:
    """Beside another, or on a block whose corners are nearer to it than its own."""
    block = Box(0.0 if over else -0.08, 0.0, (0.04, 0.04, 0.04))
    bar = Box(0.0, 0.0, (0.07, 0.02, 0.03))
    bodies = [solid(block), replace(solid(bar, 0.04 * over), name="bar")]
    numbers = (2 - first, 1 + first)  # of block and bar in the picture
    seen = view(0.0, 0.45)
    truth = depth_of([], seen, CAMERA)
    instance = np.zeros(truth.shape, np.uint8)
    for number, box, below in zip(numbers, (block, bar), (0.0, 0.04 * over), strict=True):
        lowered = replace(seen, position=seen.position - np.array([0, 0, below]))
        depth, empty = (depth_of(things, lowered, CAMERA) for things in ([box], []))
        shown = depth < empty - 1e-5
        instance[shown], truth[shown] = number, depth[shown]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = seen.rotation.T, seen.position
    rgb = np.zeros((1, *instance.shape, 3), np.uint8)
    video = Video("scene", rgb, truth[None], raw=truth[None])
    bodies = bodies if first else bodies[::-1]
    scene = TableScene("s", "diffuse", video, bodies, instance, CAMERA, pose)
    tip = np.array([0.0, 0.0, 0.04 * over + 0.015])
    grasp = Grasp(
        seen.rotation @ np.diag([1.0, -1.0, -1.0]),
        seen.rotation @ (tip - seen.position),
        0.04,
        1.0,
        1.0,
    )
    # Of its pixels a quarter has no depth, a quarter is too far, the rest a little too near.
    told = truth.copy()
    told[instance == numbers[0]] += 0.05
    at = np.flatnonzero(instance == numbers[1])
    at = at[: len(at) // 4 * 4]
    instance[instance == numbers[1]] = 0
    instance.flat[at] = numbers[1]
    told.flat[at] -= 0.002
    told.flat[at[::4]] = np.nan
    told.flat[at[1::4]] += 0.022
    tried = try_grasp(scene, "own", Told(told), lambda *_: Plan((grasp,)))
    record = tried.record
    drawn = strip(scene, np.full_like(told, np.nan), tried, Gripper())
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    color, unknown, end = np.split(picture.astype(int), 3, axis=1)
    rows, columns = np.nonzero(color[..., 2] > 100)  # the fingers, on black; they close along y
    assert np.ptp(rows) > 10
    assert np.ptp(columns) < 5
    assert np.median(unknown) == pytest.approx(30, abs=2)
    more_green = end[..., 1] - end[..., 2]
    assert (more_green > 60).sum() > 20, "held, and in the picture"
    assert more_green.min() > -60
    assert (record.shape, record.result, record.objects) == ("bar", "held", 2)
    assert record.lifted_m > 0.1
    assert (record.width, record.score) == (0.04, 1.0)
    assert 0 < record.penetration_m < 0.002
    assert 0.001 < record.energy_j < 0.05
    assert 0 < record.drift_m < 0.001
    assert (record.known, record.bad) == (0.75, 0.25)
    assert (record.error_m, record.bias_m) == pytest.approx((0.002, -0.002), abs=2e-5)


def test_what_holds_the_objects_is_an_obstacle_and_no_target(tmp_path: Path) -> None:
    data = written(tmp_path, ["fixed"], 0.6)
    clip = clips_of(data)[-1]
    [frame] = read_sequence(clip.path)
    wall = stack([(0.002, 0.05, 0.0), (0.002, 0.05, 0.06)])
    wall = wall[0] + [0.045, 0, 0], wall[1]
    things = frame.extra["objects"]
    things.append({"id": 2, "fixed": True, "parts": [[part.tolist() for part in wall]]})
    assert frame.instance is not None
    frame.instance[:, 100:] = 2
    clip.path.unlink()
    write_sequence(clip.path, clip.name, [frame])
    scene = last_scene(data)
    assert len(scene.bodies) == len(scene.fixtures) == 1
    assert scene.bodies[0].mass == 0.15
    assert len(list((tmp_path / "parts").iterdir())) == 1, "kept"
    np.testing.assert_array_equal(scene.fixtures[0][0], wall[0])
    assert scene.instance[:, :100].any()
    assert not scene.instance[:, 100:].any()
    way = np.linalg.inv(scene.camera_to_world)
    tip = way[:3, :3] @ [0.045, 0.0, 0.03] + way[:3, 3]
    over = Grasp(way[:3, :3] @ np.diag([1.0, -1.0, -1.0]), tip, 0.05, 1.0, 1.0)
    tried = try_grasp(scene, "own", Told(scene.truth), lambda *_: Plan((over,)))
    assert tried.record.result == "collision on approach"
