"""`dkt engine` without a GPU: what it refuses, what it leaves alone, what it says."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pytest

from dkt_ros.errors import DktError
from dkt_ros.model.compiled import build
from dkt_ros.model.compiled.commands import add_commands
from dkt_ros.model.compiled.manifest import Manifest, plan_whole


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(["engine", *map(str, words)])
    return int(args.run(args))


@pytest.fixture
def copy(tiny_engine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_engine, tmp_path / "engine"))


def build_words(checkpoint: Path, output: Path) -> list[object]:
    """For the windows, size and steps that the tiny engine has."""
    return [
        *("build", "--checkpoint", checkpoint, "--output", output, "--onnx-only"),
        *("--preset", "exact", "--frames", 1, 5, "--size", "32x48", "--precision", "fp32"),
    ]


def test_what_is_up_to_date_is_left_alone(
    tiny_checkpoint: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in copy.iterdir()}
    assert run(*build_words(tiny_checkpoint, copy)) == 0
    assert {file: file.stat().st_mtime_ns for file in copy.iterdir()} == before
    out, err = capsys.readouterr()
    assert "up to date" in err
    assert out.startswith("tiny-random at 32x48, fp32: 7 graphs, 0 plans")


def test_check(tiny_checkpoint: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", copy, "--checkpoint", tiny_checkpoint) == 0
    out = capsys.readouterr().out
    assert "windows of 1, 2 latent frames; 2 steps" in out
    assert "differs" not in out


def test_check_names_what_is_missing_or_changed_and_another_checkpoint(
    tiny_checkpoint: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "embed_rgb.onnx").unlink()
    with (copy / "weights.bin").open("r+b") as weights:
        weights.write(b"other")
    other = Path(shutil.copytree(tiny_checkpoint, tmp_path / "other"))
    info = json.loads((other / "dkt.json").read_text())
    (other / "dkt.json").write_text(json.dumps(info | {"sigma_shift": 3.0}))
    assert run("check", copy, "--checkpoint", other) == 2
    out = capsys.readouterr().out
    assert "embed_rgb.onnx is missing" in out
    assert "weights.bin has SHA-256" in out
    assert Manifest.read(copy).checkpoint[:12] in out
    assert "dkt engine build" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "fp8"], "--calibrate"),
        (["--calibrate", "clip"], "fp8"),
        (["--preset", "fast", "--frames", "5"], "--preset exact"),
        (["--preset", "exact", "--frames", "0"], "at least 1"),
        (["--preset", "exact", "--publish", "all"], "live --preset"),
        (["--steps", "0"], "steps is 0"),
        (["--workspace", "-1"], "above 0"),
    ],
)
def test_flags_that_do_not_go_together(
    tiny_checkpoint: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    output = tmp_path / "engine"
    with pytest.raises(DktError, match=message):
        run("build", "--checkpoint", tiny_checkpoint, "--output", output, "--onnx-only", *words)
    assert not output.exists()


def test_a_disk_that_is_full(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "export_engine", fail)
    with pytest.raises(DktError, match=r"engine .* cannot be made: .*No space left"):
        run(*build_words(tiny_checkpoint, tmp_path / "engine"))


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="no dkt checkpoint"):
        run("build", "--checkpoint", tmp_path, "--onnx-only")


@pytest.mark.parametrize("size", ["480", "0x16", "480x832x3", "-1x5"])
def test_sizes_are_two_numbers(
    tiny_checkpoint: Path, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("build", "--checkpoint", tiny_checkpoint, f"--size={size}")
    assert "such as 480x832" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--target", "sm89"]])
def test_without_tensorrt_nothing_is_exported(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    output = tmp_path / "engine"
    with pytest.raises(DktError, match=r"TensorRT cannot be loaded.*--onnx-only"):
        run("build", "--checkpoint", tiny_checkpoint, "--output", output, *flags)
    assert not output.exists()


def test_plans_of_dkt_nano_are_built_ahead_of_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real builder on the real network's graphs, without a GPU; what is there is not redone."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    pytest.importorskip("onnxscript", reason="graphs are exported with requirements/onnx.txt")
    output = tmp_path / "engine"
    words = ["build", "--checkpoint", "dkt-nano", "--size", "64x96"]
    assert run(*words, "--target", "sm89", "sm86", "--output", output) == 0
    manifest = Manifest.read(output)
    assert manifest.system is not None
    assert (manifest.system.gpu, manifest.system.compute_capability) == ("", "8.6 8.9")
    assert [graph.name for graph in manifest.graphs if not plan_whole(output, graph)] == []
    assert len(manifest.graphs) == 8
    assert "8 graphs, 8 plans" in capsys.readouterr().out
    assert run(*words, "--target", "sm86", "sm89", "--output", output) == 0
    said = capsys.readouterr().err
    assert "the graphs in" in said
    assert "the plans in" in said
