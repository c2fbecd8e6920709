"""`dkt eval` from the command line, with a network of random weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import dataset_trees as trees
from fixtures.one_thread import one_thread as one_thread
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from fixtures.tiny_networks import tiny_checkpoint as tiny_checkpoint

import dkt_ros.predict.load as load_module
from dkt_ros.cli import main
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.evaluation.networks import load_methods
from dkt_ros.formats.transphy3d import write_sequence
from dkt_ros.frames import Frame
from dkt_ros.fusion.network import Refiner, save_refiner, sizes_info
from dkt_ros.model.backends import load_network
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.clip import ClipPredictor
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo
from dkt_ros.predict.stream import StreamPredictor


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    trees.transphy3d_tree(folder, splits=("test",))
    return folder


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence whose pictures are alike, so that live sees no cut."""
    folder = tmp_path_factory.mktemp("steady")
    frames = [trees.sequence_frame(index) for index in range(3)]
    alike = [dataclasses.replace(frame, rgb=frames[0].rgb) for frame in frames]
    write_sequence(folder / "one.tar", "one", alike)
    return folder


def test_two_data_sets_in_one_run(
    tmp_path: Path, checkpoint: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / "clear" / "set2" / "scene1"
    trees.clearpose_scene(scene)
    trees.truncate(scene / "000001-color.png")
    output = tmp_path / "figures.json"
    arguments = ["eval", "--checkpoint", str(checkpoint), "--steps", "1", "--output", str(output)]
    folders = ["--data", str(rendered), "--data", str(tmp_path / "clear")]
    (tmp_path / "link").symlink_to(rendered)
    folders += ["--data", f"{tmp_path / 'link'}/"]
    assert main([*arguments, *folders, "--split", "test"]) == 0
    printed, told = capsys.readouterr()
    assert f"note: --data {tmp_path / 'link'} is {rendered} again and counts once" in told
    assert (
        f"{rendered}: transphy3d, split test, 1 video, 3 frames; depths from 0.1 to 10" in printed
    )
    assert "clearpose, split test, 1 video, 2 frames; depths from 0.3 to 1.5 m count" in printed
    assert "set2/scene1 frame 1: " in printed
    assert "000001-color.png: truncated" in printed
    assert "mean over 2 data sets" in printed
    content = json.loads(output.read_text())
    assert content["complete"] is True
    assert content["arguments"]["data"][:2] == [str(rendered), str(tmp_path / "clear")]
    assert [s["kind"] for s in content["sets"]] == ["transphy3d", "clearpose"]
    methods = content["sets"][1]["mean"]
    assert methods["nearest fill"]["transparent/reflective"]["coverage"] == 1.0
    assert methods["dkt exact, video"]["all"]["tae"] is not None
    assert methods["dkt exact, video"]["all"]["mean_deg"] is not None
    both = [s["mean"]["dkt exact, video"]["all"]["rel"] for s in content["sets"]]
    total = content["mean"]["dkt exact, video"]["all"]["rel"]
    assert total == pytest.approx(sum(both) / 2)


@pytest.mark.parametrize(
    ("splits", "split", "told"),
    [
        (("test", "train"), [], True),
        (("test", "train"), ["--split=test"], False),
        (("test",), [], False),
    ],
)
def test_training_data_that_count_too_are_told(
    tmp_path: Path,
    splits: tuple[str, ...],
    split: list[str],
    told: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trees.transphy3d_tree(tmp_path, splits=splits)
    # Ends before anything is measured.
    assert main(["eval", "--data", str(tmp_path), *split, "--predictions=a=/nowhere"]) == 2
    said = f"note: {tmp_path}: its test and train data are measured together"
    assert (said in capsys.readouterr().err) is told


def test_a_refiner_of_ones_own_fuses(tmp_path: Path, rendered: Path) -> None:
    errors = []
    for trust in (None, 20.0, -20.0):
        name = str(trust)
        arguments = ["--align", "fused", "--max-frames", "1", "--size", "64x96", "--no-normals"]
        if trust is not None:
            made = Refiner()
            with torch.no_grad():
                made.head.bias[4:8] = 0.5  # what is no reading is 37% off
                made.head.bias[8:12] = trust  # in every reading
            save_refiner(tmp_path / name, made.state_dict(), sizes_info(made.sizes))
            arguments += ["--refiner", str(tmp_path / name)]
        output = tmp_path / f"{name}.json"
        assert main(["eval", "--data", str(rendered), "--output", str(output), *arguments]) == 0
        [content] = json.loads(output.read_text())["sets"]
        errors.append(content["mean"]["dkt exact, fused"]["rest"]["rel"])
    packaged, believing, doubting = errors
    assert packaged < 0.01
    assert believing < 0.01
    assert doubting == pytest.approx(1 - np.exp(-np.tanh(0.5)), abs=0.01)


def test_live_beside_exact(
    tmp_path: Path, checkpoint: Path, steady: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(steady), "--steps", "1"]
    options = ["--mode", "both", "--preset", "fast", "--no-normals", "--output", str(output)]
    assert main([*arguments, *options, "--align", "video", "--live-publish", "all"]) == 0
    assert "dkt live against dkt exact, same frames" in capsys.readouterr().out
    mean = json.loads(output.read_text())["mean"]
    assert mean["dkt live, video"]["all"]["coverage"] == 1.0
    assert "dkt exact, video, live frames" not in mean
    assert mean["dkt live, video"]["all"]["mean_deg"] is None
    # Of three frames, a window of live's is full at the first alone.
    assert main([*arguments, *options, "--align", "video"]) == 0
    mean = json.loads(output.read_text())["mean"]
    assert mean["dkt live, video"]["all"]["coverage"] == pytest.approx(1 / 3)
    assert mean["dkt exact, video, live frames"]["all"]["coverage"] == pytest.approx(1 / 3)
    assert main([*arguments, "--mode", "live", "--align", "online", "--output", str(output)]) == 0
    assert not any("exact" in name for name in json.loads(output.read_text())["mean"])


def test_without_raw_depth_there_is_no_online_table(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = dataclasses.replace(trees.sequence_frame(0), raw_depth=None)
    write_sequence(tmp_path / "one.tar", "one", [frame])
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(tmp_path), "--no-normals"]
    assert main([*arguments, "--steps", "1", "--align", "online", "--max-frames", "1"]) == 2
    told = capsys.readouterr().err
    assert "nothing could be measured with --align online: no row has any depth" in told
    assert "without raw depth take video" in told


def test_a_long_run_tells_error_over_time(
    tmp_path: Path, checkpoint: Path, steady: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(steady), "--steps", "1"]
    arguments += ["--mode", "live", "--preset", "fast", "--no-normals", "--align", "video"]
    assert main([*arguments, "--long-run", "20", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "runs of 20 frames" in printed
    (run,) = json.loads(output.read_text())["sets"][0]["long_runs"].values()
    assert run["standing"]["frames"] == [0, 8, 16]
    assert len(run["moving"]["rel"]) == 3
    (row,) = [line for line in printed.splitlines() if line.startswith("  dkt live, standing")]
    shown = [f"{100 * run['standing'][f'rel_of_{end}_50']:.2f}" for end in ("first", "last")]
    assert row.split()[3:5] == shown
    assert main([*arguments, "--output", str(output)]) == 0
    assert json.loads(output.read_text())["sets"][0]["long_runs"] == {}


def renamed(path: Path, **changes: str) -> Path:
    """The checkpoint, with entries of its description changed."""
    info = json.loads((path / "dkt.json").read_text())
    (path / "dkt.json").write_text(json.dumps(info | changes))
    return path


def mean_of(output: Path, method: str) -> dict[str, float]:
    """A row's figures of all pixels, from the JSON."""
    figures: dict[str, float] = json.loads(output.read_text())["mean"][method]["all"]
    return figures


def test_two_checkpoints_side_by_side(
    tmp_path: Path, checkpoint: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = renamed(make_tiny_checkpoint(tmp_path / "other", seed=1), name="other")
    output = tmp_path / "figures.json"
    arguments = ["eval", "--data", str(rendered), "--steps", "1", "--no-normals"]
    arguments += ["--device", "cpu", "--output", str(output), "--align", "both"]
    pair = ["--checkpoint", str(checkpoint), "--checkpoint", str(other)]
    assert main([*arguments, *pair]) == 0
    printed = capsys.readouterr().out
    assert "checkpoint tiny-random, other, task depth" in printed
    (header,) = [line for line in printed.splitlines() if "same frames" in line]
    assert header.startswith("other exact against tiny-random exact, same frames")
    content = json.loads(output.read_text())
    assert content["checkpoint"] == "tiny-random, other"
    assert content["arguments"]["checkpoint"] == [str(checkpoint), str(other)]
    rows = [name for name in content["mean"] if " exact" in name]
    assert rows == [
        f"{name} exact, {how}" for name in ("tiny-random", "other") for how in ("video", "online")
    ]
    before = content["mean"]["tiny-random exact, video"]["all"]["rel"]
    after = content["mean"]["other exact, video"]["all"]["rel"]
    assert before != after
    (line,) = [line for line in printed.splitlines() if line.startswith("  REL, video, all")]
    percent = [f"{100 * before:.2f}", f"{100 * after:.2f}", f"{100 * (after / before - 1):+.2f}"]
    assert line.split()[-3:] == percent
    # Neither has anything of the other.
    for path, rel in ((checkpoint, before), (other, after)):
        assert main([*arguments, "--checkpoint", str(path)]) == 0
        assert mean_of(output, "dkt exact, video")["rel"] == rel


def test_checkpoints_of_one_name_are_told_apart(tmp_path: Path, checkpoint: Path) -> None:
    twin = make_tiny_checkpoint(tmp_path / "twin", seed=1)
    options = [PredictorOptions(checkpoint=path, device="cpu") for path in (checkpoint, twin)]
    names, methods = load_methods(options)
    assert names == ["tiny-random", f"tiny-random ({twin})"]
    assert [model.name for model in methods.models] == [f"{name} exact" for name in names]


def test_a_normals_checkpoint_is_not_compared(
    tmp_path: Path, checkpoint: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    normals = renamed(make_tiny_checkpoint(tmp_path / "normals"), task="normal")
    pair = ["--checkpoint", str(checkpoint), "--checkpoint", str(normals)]
    assert main(["eval", "--data", str(rendered), *pair]) == 2
    said = capsys.readouterr().err
    assert str(normals) in said
    assert "take it alone" in said


def test_both_modes_share_one_network_in_memory(
    checkpoint: Path, steady: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def counted(*arguments: Any) -> Any:
        loaded.append(load_network(*arguments))
        return loaded[-1]

    monkeypatch.setattr(load_module, "load_network", counted)
    options = PredictorOptions(checkpoint=checkpoint, device="cpu", live_preset="fast")
    found = load_module.load_predictors(options, ("exact", "live"))
    assert list(found) == ["exact", "live"]
    exact, live = found["exact"], found["live"]
    assert isinstance(exact, ClipPredictor)
    assert isinstance(live, StreamPredictor)
    assert exact.network is live.network is loaded[0].network
    assert (exact.info.mode, live.info.mode) == ("exact", "live, fast")
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(steady), "--steps", "1"]
    assert main([*arguments, "--mode", "both", "--no-normals", "--device", "cpu"]) == 0
    assert len(loaded) == 2, "one for each of the two above"


@pytest.mark.parametrize("flag", ["--engine-dir", "--engine"])
def test_the_engines_flags_reach_the_options(
    flag: str,
    checkpoint: Path,
    rendered: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def load(options: PredictorOptions, *_: object) -> Predictor:
        asked.append(options)
        return metric_network(options)

    monkeypatch.setitem(load_module.KINDS, "dkt", load)
    base = ["eval", "--checkpoint", str(checkpoint), "--data", str(rendered), "--no-normals"]
    assert main([*base, "--backend", "tensorrt", flag, "somewhere", "--dtype", "float16"]) == 0
    options, beside = asked
    assert (options.backend, options.engine_dir) == ("tensorrt", "somewhere")
    assert beside.backend == "torch"
    assert (options.dtype, options.checkpoint) == ("float16", str(checkpoint))
    assert main([*base, "--backend", "tensorrt"]) == 2
    assert "engine_dir is empty" in capsys.readouterr().err


class Metric(Predictor):
    """Metres of the trees' scene, all a tenth too far."""

    def push(self, frame: Frame) -> Prediction:
        row = 1.1 * trees.true_depth(np.arange(frame.rgb.shape[1])).astype(np.float32)
        return Prediction(frame.rgb, depth=np.broadcast_to(row, frame.rgb.shape[:2]).copy())


def metric_network(options: PredictorOptions, *_: object) -> Predictor:
    """A kind of network, as --predictor names it."""
    return Metric(PredictorInfo("metres"))


class Millimetres(Metric):
    def push(self, frame: Frame) -> Prediction:
        answer = super().push(frame)
        assert answer.depth is not None
        return dataclasses.replace(answer, depth=1000 * answer.depth)


def network_in_millimetres(options: PredictorOptions, *_: object) -> Predictor:
    return Millimetres(PredictorInfo("steps"))


def test_a_metric_network_in_another_unit_is_told(
    rendered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["eval", "--predictor", f"{__name__}:network_in_millimetres", "--align", "online"]
    main([*arguments, "--data", str(rendered)])
    (told,) = caplog.messages
    assert "3 of 3 answers are HELD: 0% of the raw depth agrees" in told
    assert told.endswith("is that in metres?")


@pytest.mark.parametrize("mode", ["exact", "both"])
def test_another_kind_of_network_is_measured_too(
    mode: str, tmp_path: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    arguments = ["eval", "--predictor", f"{__name__}:metric_network", "--data", str(rendered)]
    arguments += ["--align", "both"]
    assert main([*arguments, "--mode", mode, "--output", str(output)]) == 0
    assert "checkpoint metres, task depth" in capsys.readouterr().out
    rows = [name for name in json.loads(output.read_text())["mean"] if name.startswith("metres")]
    assert len(rows) == 2, "modes are of no meaning to it"
    video, online = (mean_of(output, row) for row in sorted(rows, reverse=True))
    assert video["rel"] < 2e-3, "scaled to the truth"
    assert online["rel"] == pytest.approx(0.1, abs=1e-3), "its own metres, whatever the raw depth"
    assert video["coverage"] == online["coverage"] == 1.0
    assert online["mean_deg"] < 0.5
    assert main([*arguments[:2], f"{__name__}:nothing", *arguments[3:]]) == 2
    assert "cannot be imported" in capsys.readouterr().err


def test_depth_of_other_systems_beside_ours(
    tmp_path: Path, checkpoint: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip,) = open_dataset(rendered).clips
    for name, error in (("better", 1.01), ("worse", 1.2)):
        (tmp_path / name / clip.name).mkdir(parents=True)
        for index in range(len(clip) - 1):
            steps = np.nan_to_num(error * clip.read(index).depth / 0.0005)
            path = tmp_path / name / clip.name / f"{index:04d}.png"
            trees.write_picture(path, np.rint(steps).astype(np.uint16))
    output = tmp_path / "figures.json"
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(rendered), "--steps", "1"]
    arguments += ["--output", str(output), "--align", "all", "--prediction-unit", "0.0005"]
    for name in ("better", "worse"):
        arguments += ["--predictions", f"{name}={tmp_path / name}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"{clip.name} frame 2, better: no file {tmp_path / 'better' / clip.name}" in printed
    content = json.loads(output.read_text())
    assert list(content["mean"])[-7:] == [
        *(f"dkt exact, {how}" for how in ("video", "online", "fused", "kNN", "patches")),
        "better",
        "worse",
    ]
    for name, rel in (("better", 0.01), ("worse", 0.2)):
        figures = mean_of(output, name)
        assert figures["rel"] == pytest.approx(rel, abs=2e-3)
        assert figures["coverage"] == pytest.approx(2 / 3)
        assert figures["tae"] is not None
    assert content["mean"]["dkt exact, fused"]["all"]["ece"] is not None
    assert "confidence, all" in printed


def test_a_normals_checkpoint(
    tmp_path: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = renamed(make_tiny_checkpoint(tmp_path / "normals"), task="normal")
    arguments = ["eval", "--checkpoint", str(path), "--data", str(rendered), "--steps", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "task normal" in printed
    assert "dkt normals" in printed
    assert main([*arguments, "--mode", "live"]) == 2
    assert "no live sampler" in capsys.readouterr().err
    assert main([*arguments, "--no-normals"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--range", "2", "1"], "expected 0 < MIN < MAX"),
        (["--range", "1", "inf"], "expected 0 < MIN < MAX"),
        (["--seed", str(2**64)], "expected 0 to 2147483647"),
        (["--split", "val"], "no clip of split 'val'"),
        (["--kind", "hiss"], "holds no data set"),
        (["--range", "5", "6"], "nothing could be measured"),
        (["--predictions", "theirs"], "expected NAME=DIR"),
        (["--predictions", "raw=."], "names another row"),
        (["--predictions", "theirs=nowhere"], "no such folder"),
        (["--predictions", "theirs=."], "no folder is named as a video"),
        (["--prediction-unit", "-1"], "expected metres per step above 0"),
        (["--prediction-unit", "0.01"], "files of --predictions"),
        (["--refiner", "none/there"], "none/there/refiner.json cannot be used"),
    ],
)
def test_mistakes_are_named(
    checkpoint: Path,
    rendered: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = ["eval", "--checkpoint", str(checkpoint), "--data", str(rendered)]
    assert main([*base, *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--stride", "0"),
        ("--max-frames", "-1"),
        ("--steps", "0"),
        ("--preset", "slow"),
        ("--size", "big"),
        ("--size", "0x64"),
        ("--seed", "-1"),
    ],
)
def test_words_that_are_no_values_are_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--data", "somewhere", option, value])
    assert ended.value.code == 2
    assert f"argument {option}" in capsys.readouterr().err


def test_too_little_memory_is_told_with_what_to_do(
    checkpoint: Path,
    rendered: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("dkt_ros.predict.clip.predict_disparity", fail)
    arguments = ["eval", "--checkpoint", str(checkpoint), "--data", str(rendered)]
    assert main(arguments) == 2
    assert "take a smaller --max-frames" in capsys.readouterr().err
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    assert "expected a file's name" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*arguments, "--output", str(tmp_path / "file" / "x.json")]) == 2
    assert "x.json: cannot be written" in capsys.readouterr().err, "before anything is measured"


def test_working_size(checkpoint: Path) -> None:
    """Of a checkpoint trained at 64x96."""
    network = FastNetwork(load_checkpoint(checkpoint))

    def requested(text: str, height: int, width: int) -> tuple[int, int] | None:
        predictor = ClipPredictor(network, PredictorOptions(inference_size=text))
        return predictor.requested_size(height, width)

    assert requested("auto", 128, 192) == (64, 96)
    assert requested("auto", 128, 198) == (64, 96), "about the same"
    assert requested("auto", 48, 64) == (48, 64)
    assert requested("native", 48, 64) is None
    assert requested("100x200", 48, 64) == (100, 200)
    assert requested("100X200", 48, 64) == (100, 200)
