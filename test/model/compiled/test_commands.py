"""`dkt engine` without a GPU: what it refuses, what it leaves alone, what it says."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.commands import run
from safetensors.torch import load_file, save_file

from dkt_ros.errors import DktError
from dkt_ros.files import sha256, write_whole
from dkt_ros.model.compiled import build, tensorrt_build
from dkt_ros.model.compiled.commands import add_commands
from dkt_ros.model.compiled.graphs import Traceable
from dkt_ros.model.compiled.manifest import Manifest, plan_whole
from dkt_ros.model.compiled.tensorrt_build import BuildOptions


def dkt_engine(*words: object) -> int:
    return run(["engine", *words], add_commands)


def trust(engine: Path, name: str) -> None:
    """Makes engine.json say that the file is as it was written."""
    manifest = Manifest.read(engine)
    replace(manifest, files={**manifest.files, name: sha256(engine / name)}).write(engine)


@pytest.fixture
def copy(tiny_engine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_engine, tmp_path / "engine"))


def build_words(checkpoint: Path, output: Path) -> list[object]:
    """For the windows, size and steps that the tiny engine has."""
    return [
        *("build", "--checkpoint", checkpoint, "--output", output, "--onnx-only"),
        *("--preset", "exact", "--frames", 1, 5, "--size", "32x48", "--precision", "fp32"),
    ]


def plan_words(checkpoint: Path, output: Path) -> list[object]:
    """The same with plans, which TensorRT for RTX builds without a GPU; skips where it is not."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    words = [word for word in build_words(checkpoint, output) if word != "--onnx-only"]
    return [*words, "--target", "sm89", "sm120"]


def test_what_is_up_to_date_is_left_alone(
    tiny_checkpoint: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in copy.iterdir()}
    assert dkt_engine(*build_words(tiny_checkpoint, copy)) == 0
    assert {file: file.stat().st_mtime_ns for file in copy.iterdir()} == before
    out, err = capsys.readouterr()
    assert "up to date" in err
    assert out.startswith("tiny-random at 32x48, fp32: 7 graphs, 0 plans")


def test_check(tiny_checkpoint: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dkt_engine("check", copy, "--checkpoint", tiny_checkpoint) == 0
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
    assert dkt_engine("check", copy, "--checkpoint", other) == 2
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
        dkt_engine(
            "build", "--checkpoint", tiny_checkpoint, "--output", output, "--onnx-only", *words
        )
    assert not output.exists()


def test_a_disk_that_is_full(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "export_engine", fail)
    with pytest.raises(DktError, match=r"engine .* cannot be made: .*No space left"):
        dkt_engine(*build_words(tiny_checkpoint, tmp_path / "engine"))


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="no dkt checkpoint"):
        dkt_engine("build", "--checkpoint", tmp_path, "--onnx-only")


@pytest.mark.parametrize("size", ["480", "0x16", "480x832x3", "-1x5"])
def test_sizes_are_two_numbers(
    tiny_checkpoint: Path, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        dkt_engine("build", "--checkpoint", tiny_checkpoint, f"--size={size}")
    assert "such as 480x832" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--target", "sm89"]])
def test_without_tensorrt_nothing_is_exported(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    output = tmp_path / "engine"
    with pytest.raises(DktError, match=r"TensorRT cannot be loaded.*--onnx-only"):
        dkt_engine("build", "--checkpoint", tiny_checkpoint, "--output", output, *flags)
    assert not output.exists()


@pytest.mark.long
def test_plans_of_fp8_are_built_ahead_of_time(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real builder, without a GPU, on graphs that are calibrated; and they are right."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    pytest.importorskip("onnxscript", reason="graphs are exported with requirements/onnx.txt")
    pytest.importorskip("onnxruntime", reason="graphs are run with requirements/onnx.txt")
    output = tmp_path / "engine"
    clip = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), np.uint8)
    np.savez(tmp_path / "clip.npz", rgb=clip)
    words = ["build", "--checkpoint", tiny_checkpoint, "--size", "32x48", "--output", output]
    words += ["--preset", "exact", "--frames", 1, 9, "--steps", 2, "--precision", "fp8"]
    words += ["--calibrate", tmp_path / "clip.npz", "--target", "sm89"]
    assert dkt_engine(*words) == 0
    assert "GB of memory" in capsys.readouterr().err
    assert b"QuantizeLinear" in (output / "step.onnx").read_bytes()
    assert dkt_engine(*words) == 0
    said = capsys.readouterr().err
    assert "the graphs in" in said
    assert "the plans in" in said
    assert max(errors_found(output, capsys)) > 1e-7  # weights of fewer bits


def errors_found(engine: Path, capsys: pytest.CaptureFixture[str]) -> list[float]:
    """What `dkt engine check` finds of plans for GPUs that this machine need not have."""
    assert dkt_engine("check", engine) == (0 if torch.cuda.is_available() else 2)
    out = capsys.readouterr().out
    assert out.count("differs") == out.count("its plans cannot run here")
    errors = [float(error) for error in re.findall(r" (\d\.\de[-+]\d\d)$", out, re.MULTILINE)]
    assert len(errors) == len(Manifest.read(engine).graphs)
    return errors


def test_a_graph_that_computes_something_else_is_named(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="graphs are run with requirements/onnx.txt")
    assert dkt_engine("check", copy) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"\d\.\de[-+]\d\d\n", out)) == 7
    stored = load_file(copy / "checks.safetensors")
    stored["decoder_first"] *= 1.01
    save_file(stored, copy / "checks.safetensors")
    trust(copy, "checks.safetensors")
    assert dkt_engine("check", copy) == 2
    out = capsys.readouterr().out
    assert "differs: decoder_first is 0.99% from torch in float32, expected 0.10%" in out
    assert out.count("differs") == 1
    assert dkt_engine("check", copy, "--no-run") == 0


def test_an_export_that_is_stopped_at_its_end_leaves_no_engine(
    tiny_checkpoint: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All graphs are written; what tells that they are whole is not."""

    @contextmanager
    def writer(folder: Path) -> Iterator[Callable[[str, str], str]]:
        def write(graph: str, name: str) -> str:
            (folder / f"{name}.onnx").write_text(graph)
            return f"{name}.onnx"

        (folder / "weights.bin").touch()
        yield write

    def exported(graph: Traceable) -> str:
        types.extend(weight.dtype for weight in graph.module.parameters())
        return "a graph"

    types: list[torch.dtype] = []
    monkeypatch.setattr(build, "export", exported)
    monkeypatch.setattr(build, "graph_writer", writer)
    monkeypatch.setattr(build, "check_file", lambda file: None)
    monkeypatch.setattr(build, "write_checks", interrupted)
    words = ["bf16" if word == "fp32" else word for word in build_words(tiny_checkpoint, copy)]
    with pytest.raises(KeyboardInterrupt):
        dkt_engine(*words)
    assert len(list(copy.glob("*.onnx"))) == 6
    assert torch.bfloat16 in types
    assert not (copy / "engine.json").exists()


def interrupted(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_plans_are_built_as_asked_and_checked(
    tiny_checkpoint: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = plan_words(tiny_checkpoint, copy)
    asked: list[BuildOptions] = []

    def build_plan(
        graph: Path, plan: Path, _profiles: object, options: BuildOptions, _: object
    ) -> str:
        asked.append(options)
        write_whole(plan, f"plan of {graph.name}")
        return sha256(plan)

    monkeypatch.setattr(tensorrt_build, "build_plan", build_plan)
    assert dkt_engine(*words, "--workspace", 2, "--level", 5) == 0
    assert set(asked) == {BuildOptions(2 * 2**30, 5, None, ("sm89", "sm120"))}
    (copy / "step.plan").write_text("another")
    capsys.readouterr()
    assert dkt_engine("check", copy, "--no-run") == 2
    said = capsys.readouterr().out
    assert "step.plan is missing or is not the file that was built" in said
    assert "encoder_first.plan" not in said


def test_a_build_that_is_killed_goes_on(
    tiny_checkpoint: Path,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of a plan: nothing half is taken for whole, what was there is kept."""
    words = plan_words(tiny_checkpoint, copy)
    written: list[Path] = []

    def write(plan: Path, content: bytes) -> None:
        if written:
            plan.with_name(f"{plan.name}.partial").write_bytes(b"half of it")
            raise KeyboardInterrupt
        written.append(plan)
        write_whole(plan, content)

    with monkeypatch.context() as killed:
        killed.setattr(tensorrt_build, "write_whole", write)
        with pytest.raises(KeyboardInterrupt):
            dkt_engine(*words)
    built = [graph.name for graph in Manifest.read(copy).graphs if plan_whole(copy, graph)]
    assert built == ["encoder_first"]
    capsys.readouterr()
    assert dkt_engine(*words) == 0
    out, said = capsys.readouterr()
    assert "7 graphs, 6 plans" in out
    assert "the graphs in" in said
    assert "encoder_following.plan: Building engine" in said
    assert "encoder_first.plan" not in said
    assert not list(copy.glob("*.partial"))
    manifest = Manifest.read(copy)
    assert manifest.system is not None
    assert (manifest.system.gpu, manifest.system.compute_capability) == ("", "12.0 8.9")
    assert [graph.name for graph in manifest.graphs if not plan_whole(copy, graph)] == []
    steps = [graph for graph in manifest.graphs if graph.name.startswith("step")]
    assert len(steps) > 1
    assert {graph.plan for graph in steps} == {"step.plan"}
    assert len(list(copy.glob("*.plan"))) == 6
    assert dkt_engine(*words[:-2], "sm120", "sm89") == 0
    assert "the plans in" in capsys.readouterr().err
    assert max(errors_found(copy, capsys)) < 1e-4
