"""`dkt convert` and `dkt predict` as scripts call them: flags, files, status, one-line errors."""

from __future__ import annotations

import gc
import importlib.resources
import resource
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fixtures.commands import run
from fixtures.original_files import write_original_files
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.model import checkpoint as checkpoint_module
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.commands import add_commands
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.weights import open_weights
from dkt_ros.predict.clip import PredictOptions, predict_disparity
from dkt_ros.predict.command import add_commands as add_predict
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.stream import LivePredictor


def dkt(*words: str | Path) -> int:
    return run(words, add_commands, add_predict)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    rgb = np.random.default_rng(0).integers(0, 255, (6, 32, 48, 3), dtype=np.uint8)
    np.savez(tmp_path / "clip.npz", rgb=rgb)
    return tmp_path / "clip.npz"


def disparity(file: Path) -> np.ndarray:
    with np.load(file) as content:
        assert content.files == ["disparity"]
        result: np.ndarray = content["disparity"]
    assert result.dtype == np.float32
    assert 0 <= result.min() <= result.max() <= 1
    return result


def test_convert_then_predict(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_original_files(tmp_path / "original")
    flags = [f"--{name.replace('_', '-')}={file}" for name, file in files.items()]
    assert dkt("convert", *flags, "--num-heads", "2", "--output", tmp_path / "mine") == 0
    assert "mine (depth) written to" in capsys.readouterr().out

    output = tmp_path / "out.npz"
    flags = ["--steps=3", "--window=2", "--overlap=1", "--seed=7", "--size=48x64"]
    flags += [f"--input={clip}", f"--output={output}", "--device=cpu", "--dtype=float32"]
    assert dkt("predict", "--checkpoint", tmp_path / "mine", *flags) == 0
    with np.load(clip) as content:
        options = PredictOptions(steps=3, window=2, overlap=1, seed=7, size=(48, 64))
        expected = predict_disparity(
            FastNetwork(load_checkpoint(tmp_path / "mine")), content["rgb"], options
        )
    np.testing.assert_array_equal(disparity(output), expected)
    assert "6 frames of 32x48, worked on at 48x64" in capsys.readouterr().err


def test_convert_of_normals_in_another_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_original_files(tmp_path / "original")
    flags = [f"--{name.replace('_', '-')}={file}" for name, file in files.items()]
    flags += ["--num-heads=2", "--prompt=normal", "--dtype=float16", "--lora-scale=0.5"]
    assert dkt("convert", *flags, "--output", tmp_path / "mine") == 0
    out, err = capsys.readouterr()
    assert "mine (normal) written to" in out
    assert "times --lora-scale 0.5" in err
    assert CheckpointInfo.read(tmp_path / "mine").task == "normal"
    stored = open_weights(tmp_path / "mine" / "transformer")
    assert set(stored.dtypes.values()) == {torch.float16}


def test_predict_defaults_to_the_embedded_checkpoint_and_its_options(
    tmp_path: Path, tiny_checkpoint: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "default_checkpoint", lambda: tiny_checkpoint)
    dkt("predict", "--input", clip, "--output", tmp_path / "out.npz", "--size", "native")
    with np.load(clip) as content:
        expected = predict_disparity(FastNetwork(load_checkpoint(tiny_checkpoint)), content["rgb"])
    np.testing.assert_array_equal(disparity(tmp_path / "out.npz"), expected)


@pytest.mark.parametrize("source", ["folder", "video", "image"])
def test_predict_reads_every_input(tmp_path: Path, tiny_checkpoint: Path, source: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (3, 32, 48, 3), dtype=np.uint8)
    folder = tmp_path / "frames"
    folder.mkdir()
    for n, frame in enumerate(rgb):
        cv2.imwrite(str(folder / f"{n}.png"), frame)
    video = tmp_path / "clip.avi"
    fourcc = cv2.VideoWriter_fourcc(*"MJPG")  # type: ignore[attr-defined]
    writer = cv2.VideoWriter(str(video), fourcc, 10, (48, 32))
    for frame in rgb:
        writer.write(frame)
    writer.release()
    given = {"folder": folder, "video": video, "image": folder / "0.png"}[source]
    output = tmp_path / "out.npz"
    dkt("predict", "--checkpoint", tiny_checkpoint, "--input", given, "--output", output)
    assert disparity(output).shape == (1 if source == "image" else 3, 32, 48)


def test_predict_says_where_raw_depth_is_not_seen(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, clip = tmp_path / "shown", tmp_path / "clip.npz"
    make_tiny_checkpoint(shown, condition="raw_depth")
    words = ["predict", f"--input={clip}", f"--output={tmp_path / 'out.npz'}", "--cpu-threads=1"]
    rgb = np.zeros((1, 32, 48, 3), np.uint8)

    def said(checkpoint: Path, metres: float) -> bool:
        np.savez(clip, rgb=rgb, raw_depth=np.full(rgb.shape[:3], metres, np.float32))
        dkt(*words, f"--checkpoint={checkpoint}")
        return "it sees colour alone" in capsys.readouterr().err

    assert said(tiny_checkpoint, 0.5)
    assert said(shown, np.nan)
    assert not said(shown, 0.5)
    with pytest.raises(DktError, match=r"raw depth from 500 to 500 m, none between 0\.1 and 10 m"):
        said(shown, 500.0)


def test_predict_shows_raw_depth_to_a_network_that_takes_it(tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "clip", tmp_path / "shown"
    make_tiny_checkpoint(checkpoint, condition="raw_depth")
    folder.mkdir()
    rgb = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    depth = np.repeat(np.linspace(600, 1200, 32).astype(np.uint16)[:, None], 48, axis=1)
    depth[10:20, 10:20] = 0
    for index, image in enumerate(rgb):
        cv2.imwrite(str(folder / f"{index}-rgb.png"), image[..., ::-1])
        cv2.imwrite(str(folder / f"{index}-depth.png"), depth)
    metres = np.where(depth > 0, depth / np.float32(1000), np.nan).astype(np.float32)
    np.savez(tmp_path / "clip.npz", rgb=rgb, raw_depth=np.repeat(metres[None], 3, axis=0))
    output = tmp_path / "out.npz"
    words = ["predict", f"--checkpoint={checkpoint}", f"--output={output}", "--size=native"]
    dkt(*words, f"--input={folder}", "--color=*rgb.png", "--depth=*depth.png")
    of_folder = np.load(output)["disparity"]
    dkt(*words, f"--input={tmp_path / 'clip.npz'}")
    np.testing.assert_array_equal(np.load(output)["disparity"], of_folder)
    expected = predict_disparity(
        FastNetwork(load_checkpoint(checkpoint)), rgb, raw_depth=[metres] * 3
    )
    np.testing.assert_allclose(of_folder, expected, rtol=1e-5)
    with pytest.raises(DktError, match="holds no depth nothing"):
        dkt(*words, f"--input={folder}", "--color=*rgb.png", "--depth=nothing")
    (folder / "2-depth.png").unlink()
    with pytest.raises(DktError, match=r"raw depth is float32 \(2, 32, 48\), expected metres"):
        dkt(*words, f"--input={folder}", "--color=*rgb.png", "--depth=*depth.png")


def test_predict_says_how_far_it_is(
    tmp_path: Path, tiny_checkpoint: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--checkpoint={tiny_checkpoint}", f"--input={clip}", f"--output={tmp_path}/o.npz"]
    dkt("predict", *words)
    stages = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    expected = [
        f"{stage}: {n}/{n} steps" for stage, n in (("encode", 3), ("denoise", 2), ("decode", 3))
    ]
    assert stages[-3:] == expected


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_no_output_cut_short(
    tmp_path: Path, tiny_checkpoint: Path, clip: Path
) -> None:
    output = tmp_path / "out.npz"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DktError, match=r"out\.npz: the disk is full"):
            dkt("predict", "--checkpoint", tiny_checkpoint, "--input", clip, "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    gc.collect()  # what is left of a half-written archive would complain now
    assert not list(tmp_path.glob("out.npz*"))


def test_the_input_is_not_written_over(tmp_path: Path, tiny_checkpoint: Path, clip: Path) -> None:
    before = clip.read_bytes()
    (tmp_path / "link.npz").symlink_to(clip)
    for output in (clip, tmp_path / "link.npz"):
        with pytest.raises(DktError, match="is the input"):
            dkt("predict", "--checkpoint", tiny_checkpoint, "--input", clip, "--output", output)
    assert clip.read_bytes() == before


def test_predict_names_files_that_do_not_fit(
    tmp_path: Path, tiny_checkpoint: Path, clip: Path
) -> None:
    words = ["predict", f"--checkpoint={tiny_checkpoint}", f"--output={tmp_path / 'out.npz'}"]
    rgb = np.load(clip)["rgb"]
    folder = tmp_path / "clip"
    folder.mkdir()
    for index, image in enumerate(rgb):
        cv2.imwrite(str(folder / f"{index}-rgb.png"), image)
        cv2.imwrite(str(folder / f"{index}-d.png"), np.ones((32, 48 - index // 5), np.uint16))
    with pytest.raises(DktError, match=r"5-d\.png is 32x47, the colour images are 32x48"):
        dkt(*words, f"--input={folder}", "--color=*rgb.png", "--depth=*-d.png")
    np.savez(clip, rgb=rgb, raw_depth=np.array([{}], object))
    with pytest.raises(DktError, match="cannot be read as numpy's plain arrays"):
        dkt(*words, f"--input={clip}")


def test_live_is_what_the_stream_gives(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb = np.random.default_rng(1).integers(100, 130, (10, 32, 48, 3), dtype=np.uint8)
    np.savez(tmp_path / "clip.npz", rgb=rgb)
    words = [f"--checkpoint={tiny_checkpoint}", f"--input={tmp_path}/clip.npz", "--mode=live"]
    results = {}
    for publish in ("latest", "all"):
        output = tmp_path / f"{publish}.npz"
        dkt("predict", *words, "--preset=fast", f"--output={output}", f"--publish={publish}")
        with np.load(output) as content:
            results[publish] = content["disparity"]
    assert "frame: 10/10 steps" in capsys.readouterr().err
    given = np.isfinite(results["latest"]).all(axis=(1, 2))
    assert list(np.flatnonzero(given)) == [0, 8], "a frame at once, then every second latent"
    assert np.isnan(results["latest"][~given]).all()
    assert np.isfinite(results["all"]).all()
    least = PredictorOptions().live_min_agreement
    options = replace(LiveOptions.preset("fast"), min_agreement=least)
    live = LivePredictor(FastNetwork(load_checkpoint(tiny_checkpoint)), options)
    for index, frame in enumerate(rgb):
        expected = live.push(frame)
        if expected is not None:
            for result in results.values():
                np.testing.assert_array_equal(result[index], expected.disparity)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mode=live", "--window=3", "--overlap=1"], "--window and --overlap: only with .*exact"),
        (["--preset=fast"], "--preset: only with --mode live"),
        (["--backend=onnxruntime"], "engine_dir is empty"),
        (["--backend=onnxruntime", "--engine=nowhere"], "engine.json is missing"),
    ],
)
def test_flags_that_do_not_go_together(
    tmp_path: Path, tiny_checkpoint: Path, clip: Path, words: list[str], says: str
) -> None:
    given = [f"--checkpoint={tiny_checkpoint}", f"--input={clip}", f"--output={tmp_path}/o.npz"]
    with pytest.raises(DktError, match=says):
        dkt("predict", *given, *words)


def test_low_precision_predicts_nearly_the_same(
    tmp_path: Path, tiny_checkpoint: Path, clip: Path
) -> None:
    results = []
    for dtype in ("float32", "bfloat16"):
        output = tmp_path / f"{dtype}.npz"
        words = [f"--checkpoint={tiny_checkpoint}", f"--input={clip}", f"--output={output}"]
        dkt("predict", *words, "--dtype", dtype)
        results.append(disparity(output))
    assert 0 < np.abs(results[0] - results[1]).mean() < 0.03


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["predict", "--output=o.npz"], "--input"),
        (["predict", "--input=i.npz"], "--output"),
        (["predict", "--input=i", "--output=o.npz", "--size=480"], "HxW"),
        (["predict", "--input=i", "--output=o.npz", "--size=0x16"], "HxW"),
        (["predict", "--input=i", "--output=o.npz", "--steps=0"], "at least 1"),
        (["predict", "--input=i", "--output=o.npz", "--window=x"], "at least 1"),
        (["predict", "--input=i", "--output=o.npz", "--overlap=-1"], "at least 0"),
        (["predict", "--input=i", "--output=o.npz", "--dtype=int8"], "int8"),
        (["convert", "--vae=v", "--prompt-embeds=p", "--output=o"], "--transformer"),
        (["convert", "--transformer=t", "--vae=v", "--prompt-embeds=p"], "--output"),
        (["convert", "--transformer=t", "--vae=v", "--prompt-embeds=p", "--text-encoder=e",
          "--output=o"], "not allowed"),
        (["convert", "--transformer=t", "--vae=v", "--prompt-embeds=p", "--output=o",
          "--num-heads=0"], "at least 1"),
        (["convert", "--checkpoint=c", "--lora=l", "--output=o", "--lora-scale=0"], "other than 0"),
    ],
)  # fmt: skip
def test_wrong_flags_end_with_status_2_and_name_the_flag(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        dkt(*words)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--transformer=t", "--prompt-embeds=p"], "--vae is missing"),
        (["--transformer=t", "--vae=v"], "--prompt-embeds"),
        (["--transformer=t", "--vae=v", "--lora-scale=2"], "--lora-scale goes with --lora"),
        (["--checkpoint=c"], "--lora is missing"),
        (["--checkpoint=c", "--lora=l", "--vae=v"], "--vae cannot go with --checkpoint"),
        (["--checkpoint=c", "--lora=l", "--num-heads=2"], "--num-heads cannot go"),
    ],
)
def test_what_belongs_to_original_files_or_to_a_checkpoint(words: list[str], named: str) -> None:
    with pytest.raises(DktError, match=named):
        dkt("convert", *words, "--output=o")


@pytest.mark.parametrize("only", [["--text-encoder=e"], ["--prompt-embeds=e", "--tokenizer=t"]])
def test_text_encoder_and_tokenizer_go_together(only: list[str]) -> None:
    with pytest.raises(DktError, match="go together"):
        dkt("convert", "--transformer=t", "--vae=v", "--output=o", *only)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("out.txt", r"does not end in \.npz"),
        ("nowhere/out.npz", "cannot be written: no such folder"),
        ("folder.npz", "cannot be written: .* or a folder itself"),
        ("clip.npz", "is the input, which it would replace"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    tmp_path: Path, clip: Path, output: str, why: str
) -> None:
    (tmp_path / "folder.npz").mkdir()
    before = clip.read_bytes()
    with pytest.raises(DktError, match=f"output {tmp_path / output} {why}"):
        dkt("predict", "--input", clip, "--output", tmp_path / output)
    assert clip.read_bytes() == before


def test_overlap_must_be_less_than_the_window(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="overlap is 3"):
        dkt("predict", "--input=i", "--output", tmp_path / "o.npz", "--window=3", "--overlap=3")


def test_too_little_memory_says_what_to_do(
    tmp_path: Path, tiny_checkpoint: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("dkt_ros.model.fast_network.FastNetwork.velocity", exhausted)
    words = [f"--checkpoint={tiny_checkpoint}", f"--input={clip}", f"--output={tmp_path}/o.npz"]
    with pytest.raises(DktError, match=r"too little memory for 6 frames at 32x48.*--size"):
        dkt("predict", *words)


def test_normals_are_no_disparity(tmp_path: Path, clip: Path) -> None:
    folder = make_tiny_checkpoint(tmp_path / "normals")
    text = (folder / "dkt.json").read_text().replace('"depth"', '"normal"')
    (folder / "dkt.json").write_text(text)
    with pytest.raises(DktError, match="normals predicts 'normal', expected 'depth'"):
        dkt("predict", "--checkpoint", folder, "--input", clip, "--output", tmp_path / "o.npz")


def test_the_embedded_checkpoint_is_in_the_package_or_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda _: "/nonexistent")
    with pytest.raises(DktError, match="dkt-nano is missing"):
        checkpoint_module.default_checkpoint()


def test_a_damaged_checkpoint_ends_in_one_line(
    tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_tiny_checkpoint(tmp_path / "damaged")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    words = [f"--checkpoint={folder}", f"--input={clip}", f"--output={tmp_path / 'o.npz'}"]
    capfd.readouterr()
    assert main(["predict", *words]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert str(folder / "transformer") in line
