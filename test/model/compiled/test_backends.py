"""Engines in the place of torch, in predictors and in the node: the same depth, or a reason."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import dataset_trees as trees
from fixtures.commands import parsed, run

from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.files import sha256
from dkt_ros.frames import frames_of
from dkt_ros.model.backends import Request, load_network
from dkt_ros.model.compiled.commands import _request, add_commands
from dkt_ros.model.compiled.manifest import Manifest
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.predict.clip import PredictOptions, predict_disparity
from dkt_ros.predict.command import add_commands as add_predict
from dkt_ros.predict.stream import LivePredictor

SIZE = (32, 48)
LIVE = LiveOptions(window=2, new=1, steps=2, scene_cut=None)
WINDOWS = ((1, 1), (2, 1))


def video(frames: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, *size, 3), np.uint8)


def request(checkpoint: Path, engine: Path | None, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "backend": "onnxruntime",
        "windows": WINDOWS,
        "steps": 2,
        "engine": engine,
    }
    return Request(checkpoint, "cpu", "float32", **(values | changes))


def test_an_engine_gives_the_disparity_of_torch(
    tiny_checkpoint: Path, tiny_engine: Path, tiny_fast: FastNetwork
) -> None:
    stages = []
    loaded = load_network(
        request(tiny_checkpoint, tiny_engine, windows=(*WINDOWS, (2, 2))),
        lambda stage, done, total: stages.append((stage, done, total)),
    )
    assert (loaded.backend, loaded.dtype, loaded.note) == ("onnxruntime", "fp32", "")
    assert stages[5:7] == [("load graphs", 6, 6), ("check graphs", 1, 7)]
    assert stages[-1] == ("check graphs", 7, 7)
    for publish, shown in (("latest", 4), ("all", 13)):
        options = replace(LIVE, publish=publish)
        engine, torch_live = (LivePredictor(one, options) for one in (loaded.network, tiny_fast))
        for frame in video(13):
            ours, theirs = engine.push(frame), torch_live.push(frame)
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                np.testing.assert_allclose(ours.disparity, theirs.disparity, atol=1e-5)
                shown -= 1
        assert not shown
    exact = PredictOptions(steps=2, window=2, overlap=1)
    found, expected = (predict_disparity(n, video(9), exact) for n in (loaded.network, tiny_fast))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 3}, "number of steps is 2, expected 3"),
        ({"windows": ((1, 1), (6, 3))}, "of 1, 2 latent frames, expected 6 as well"),
        ({"size": (48, 64)}, "size is 32x48, expected 48x64"),
    ],
)
def test_one_that_does_not_fit_is_refused_or_replaced(
    tiny_checkpoint: Path, tiny_engine: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(DktError, match=f"{says}.*run `dkt engine build"):
        load_network(request(tiny_checkpoint, tiny_engine, **changes))
    loaded = load_network(request(tiny_checkpoint, tiny_engine, fall_back=True, **changes))
    assert loaded.backend == "torch"
    assert says in loaded.note
    assert isinstance(loaded.network, FastNetwork)


def test_a_size_is_rounded_as_the_network_will_round_it(
    tiny_checkpoint: Path, tiny_engine: Path
) -> None:
    load_network(request(tiny_checkpoint, tiny_engine, size=(37, 53)))


def test_a_folder_without_an_engine_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"engine\.json is missing.*dkt engine build"):
        load_network(request(tiny_checkpoint, tmp_path))
    with pytest.raises(DktError, match="needs the folder of an engine"):
        request(tiny_checkpoint, None)
    with pytest.raises(DktError, match="expected one of torch, tensorrt, onnxruntime"):
        request(tiny_checkpoint, tmp_path, backend="tvm")


@pytest.mark.parametrize(
    "name", ["weights.bin", "constants.safetensors", "checks.safetensors", "embed_rgb.onnx"]
)
def test_files_that_were_changed_are_not_computed_with(
    tiny_checkpoint: Path, tiny_engine: Path, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(tiny_engine, tmp_path / "engine"))
    content = bytearray((copy / name).read_bytes())
    content[-1] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DktError, match=f"{name} has SHA-256.*dkt engine build"):
        load_network(request(tiny_checkpoint, copy))


@pytest.mark.parametrize(("times", "off"), [(1.01, r"0\.\d\d"), (float("nan"), "inf")])
def test_a_weight_that_was_changed_before_it_was_hashed_is_found_by_computing(
    tiny_checkpoint: Path, tiny_engine: Path, tmp_path: Path, times: float, off: str
) -> None:
    """As by a faulty build: every hash fits, and the one graph that computes with it is named."""
    onnx = pytest.importorskip("onnx")
    copy = Path(shutil.copytree(tiny_engine, tmp_path / "engine"))
    model = onnx.load(copy / "embed_rgb.onnx", load_external_data=False)
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    at = {entry.key: int(entry.value) for entry in weight.external_data if entry.key != "location"}
    content = bytearray((copy / "weights.bin").read_bytes())
    place = slice(at["offset"], at["offset"] + at["length"])
    values = np.frombuffer(content[place], np.float32).copy()
    values[: len(values) // 4] *= times
    content[place] = values.tobytes()
    (copy / "weights.bin").write_bytes(content)
    manifest = Manifest.read(copy)
    replace(manifest, files={**manifest.files, "weights.bin": sha256(copy / "weights.bin")}).write(
        copy
    )
    says = rf"does not compute what torch .*: embed_rgb by {off}%.*fp32 may differ by 0\.10%"
    with pytest.raises(DktError, match=says):
        load_network(request(tiny_checkpoint, copy))
    loaded = load_network(request(tiny_checkpoint, copy, fall_back=True))
    assert loaded.backend == "torch"
    assert "embed_rgb by" in loaded.note


def test_tensorrt_wants_a_gpu(tiny_checkpoint: Path, tiny_engine: Path) -> None:
    with pytest.raises(DktError, match=r"NVIDIA GPUs.*choose device cuda"):
        load_network(request(tiny_checkpoint, tiny_engine, backend="tensorrt"))


def test_dkt_predict_takes_an_engine(
    tmp_path: Path, tiny_checkpoint: Path, tiny_engine: Path
) -> None:
    np.savez(tmp_path / "clip.npz", rgb=video(9, (40, 60)))
    flags = ["--window=2", "--overlap=1", f"--input={tmp_path}/clip.npz"]
    results: list[np.ndarray] = []
    for more in (["--size=32x48"], ["--backend=onnxruntime", f"--engine={tiny_engine}"]):
        output = tmp_path / f"{len(results)}.npz"
        words = ["predict", f"--checkpoint={tiny_checkpoint}", f"--output={output}", *flags, *more]
        assert run(words, add_predict) == 0
        with np.load(output) as content:
            results.append(content["disparity"])
    np.testing.assert_allclose(results[0], results[1], atol=1e-3)


def test_dkt_eval_measures_an_engine_beside_torch(
    tmp_path: Path, tiny_checkpoint: Path, tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the engine's size, although frames are larger."""
    trees.transphy3d_tree(tmp_path / "data", splits=("test",))
    arguments = ["eval", f"--checkpoint={tiny_checkpoint}", f"--data={tmp_path / 'data'}"]
    arguments += ["--device=cpu", "--no-normals", f"--output={tmp_path / 'figures.json'}"]

    def rel(of: str) -> list[float]:
        rows = json.loads((tmp_path / "figures.json").read_text())["mean"]
        return [rows[f"{of}, {name}"]["all"]["rel"] for name in ("video", "online")]

    assert main([*arguments, "--backend=onnxruntime", f"--engine-dir={tiny_engine}"]) == 0
    said = capsys.readouterr().out
    assert "dkt exact onnxruntime against dkt exact, same frames" in said
    beside = rel("dkt exact")
    assert rel("dkt exact onnxruntime") == pytest.approx(beside, rel=1e-3)
    assert main([*arguments, "--size=32x48"]) == 0
    assert rel("dkt exact") == beside


def test_the_command_that_dkt_predict_names_asks_for_its_windows(
    tmp_path: Path, tiny_checkpoint: Path, tiny_engine: Path
) -> None:
    np.savez(tmp_path / "clip.npz", rgb=video(9))
    words = ["--window=2", "--overlap=1", f"--input={tmp_path}/clip.npz", "--steps=3"]
    words += [f"--checkpoint={tiny_checkpoint}", f"--output={tmp_path}/out.npz"]
    words += ["--backend=onnxruntime", f"--engine={tiny_engine}"]
    with pytest.raises(DktError, match="number of steps is 2, expected 3") as error:
        run(["predict", *words], add_predict)
    command = str(error.value).partition("run `")[2].rstrip("`")
    args = parsed(shlex.split(command)[1:], add_commands)
    built = _request(args, CheckpointInfo.read(tiny_checkpoint))
    assert (built.windows, built.steps) == ((2,), 3)


def test_an_engine_has_the_windows_of_a_stream_cut_into_clips(tiny_checkpoint: Path) -> None:
    words = ["engine", "build", "--checkpoint", str(tiny_checkpoint), "--preset", "quality"]
    info = CheckpointInfo.read(tiny_checkpoint)
    for clip, longest in ((0, 8), (3, 3)):
        built = _request(parsed(words, add_commands), replace(info, clip=clip))
        assert max(built.windows) == longest


class TestNode:
    """The node's parameters to a warm engine."""

    @pytest.fixture(autouse=True)
    def _needs_ros(self) -> None:
        pytest.importorskip("rclpy", reason="needs ROS 2")

    def parameters(self, checkpoint: Path, **more: Any) -> Any:
        from dkt_ros.ros.params.parameters import NodeParameters

        values: dict[str, Any] = {
            "device": "cpu",
            "cpu_threads": 1,
            "buffer_frames": 5,
            "steps": 2,
        }
        return NodeParameters(checkpoint=str(checkpoint), **(values | more))

    def test_its_depth_is_that_of_torch(self, tiny_checkpoint: Path, tiny_engine: Path) -> None:
        from dkt_ros.ros.engine import SharedNetwork

        lines: list[str] = []
        torch.set_num_threads(2)  # which parameter cpu_threads changes
        ours = SharedNetwork().build(
            self.parameters(tiny_checkpoint, backend="onnxruntime", engine_dir=str(tiny_engine)),
            lines.append,
        )
        info = ours.info
        assert (info.backend, info.dtype, info.device, info.note) == (
            "onnxruntime",
            "fp32",
            "cpu",
            "",
        )
        assert [line.partition(" after")[0] for line in lines][-3:] == [
            "check graphs 7/7",
            "warm-up 1/2",
            "warm-up 2/2",
        ]
        predictor: Any = ours.predictor
        network = predictor.network
        for runner in network._runners.values():
            assert runner._session.get_session_options().intra_op_num_threads == 1
        theirs = SharedNetwork().build(self.parameters(tiny_checkpoint, inference_size="32x48"))
        for frames in (1, 5):
            rgb = list(frames_of((picture, None) for picture in video(frames, (50, 70))))
            np.testing.assert_allclose(
                ours.predictor.video(rgb), theirs.predictor.video(rgb), atol=1e-3
            )

    @pytest.mark.parametrize(
        "more",
        [
            {"mode": "live", "live_preset": "fast", "live_publish": "all"},
            {"mode": "exact", "buffer_frames": 9},
        ],
    )
    def test_the_command_it_names_asks_for_what_it_needs(
        self, tiny_checkpoint: Path, tiny_engine: Path, more: dict[str, Any]
    ) -> None:
        from dkt_ros.predict.load import request_of
        from dkt_ros.predict.options import PredictorOptions

        parameters = self.parameters(
            tiny_checkpoint, backend="onnxruntime", engine_dir=str(tiny_engine), **more
        )
        wanted = request_of(PredictorOptions.taken_from(parameters))
        with pytest.raises(DktError) as error:
            load_network(wanted)
        command = str(error.value).partition("run `")[2].rstrip("`")
        args = parsed(shlex.split(command)[1:], add_commands)
        built = _request(args, CheckpointInfo.read(tiny_checkpoint))
        assert {frames for frames, _ in wanted.windows} <= set(built.windows)
        assert args.onnx_only
        assert (built.size, built.steps, args.output) == (SIZE, 2, tiny_engine)

    def test_torch_in_its_place_is_a_warning(
        self, tiny_checkpoint: Path, tiny_engine: Path
    ) -> None:
        from dkt_ros.ros.engine import SharedNetwork

        engine = SharedNetwork().build(
            self.parameters(
                tiny_checkpoint,
                backend="onnxruntime",
                engine_dir=str(tiny_engine),
                engine_fallback=True,
                inference_size="16x16",
                buffer_frames=1,
            )
        )
        assert engine.info.backend == "torch"
        assert "size is 32x48, expected 16x16" in engine.info.note


@pytest.fixture(autouse=True)
def _threads() -> Any:
    """A node sets its own number; the tests after it keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
