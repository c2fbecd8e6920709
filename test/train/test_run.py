"""Whole runs: killed and resumed, stopped, on two processes, out of disk, and what they leave."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.folders import disk_full
from fixtures.latent_source import FixedLatents
from fixtures.train_process import run_apart, run_small, small_recipe
from fixtures.training_scenes import write_scene
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import dkt_ros.train.export as export_module
from dkt_ros.errors import DktError
from dkt_ros.files import only_process
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.merge import merge_into_checkpoint
from dkt_ros.model.network import DktNetwork
from dkt_ros.predict.clip import predict_disparity
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.log import RunLog, read_lines
from dkt_ros.train.materials import Materials
from dkt_ros.train.run import train
from dkt_ros.train.states import STATE_FILE, States, read_state

Start = Callable[..., BaseProcess]


@pytest.fixture(scope="module")
def start(repo_root: Path) -> Start:
    """Starts run_apart in a process that has imported everything: that takes seconds, once."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([run_apart.__module__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{repo_root}:{repo_root / 'test'}")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        forkserver.ensure_running()

    def start(*arguments: object) -> BaseProcess:
        process = processes.Process(target=run_apart, args=arguments, daemon=True)
        process.start()
        return process

    return start


def on_two_processes(
    start: Start, folder: Path, checkpoint: Path, **values: Any
) -> list[tuple[int | None, str]]:
    """Exit status and stderr of what torchrun or `accelerate launch` starts twice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    said = [folder / f"said-{rank}" for rank in "01"]
    processes = []
    for rank, file in zip("01", said, strict=True):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = ranks | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(start(environment, file, checkpoint, folder / "run", values))
    try:
        for process in processes:
            process.join(300)
    finally:
        for process in processes:
            process.kill()
    return [
        (process.exitcode, file.read_text()) for process, file in zip(processes, said, strict=True)
    ]


def losses(output: Path) -> list[tuple[int, float, float]]:
    lines = [line for line in read_lines(output) if line["group"] == "train"]
    return [(line["step"], line["loss"], line["norm"]) for line in lines]


def final(output: Path) -> dict[str, Any]:
    latest = States(output / "states", 1).latest()
    assert latest is not None
    return read_state(latest)


def same(first: Any, second: Any) -> bool:
    """Equal to the last bit, tensors within dictionaries and lists included."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run that others are compared with."""
    output = tmp_path_factory.mktemp("whole")
    assert run_small(small_recipe(tiny_checkpoint, ema=0.9), output).done == 8
    return output


def test_killed_and_resumed_equals_the_uninterrupted_run(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path, start: Start
) -> None:
    output = tmp_path / "run"
    endless = {"ema": 0.9, "steps": 100_000, "save": {"every": 3, "keep": 100_000}}
    process = start({}, tmp_path / "said", tiny_checkpoint, output, endless)
    try:
        deadline = time.monotonic() + 300
        while len(losses(output)) < 5:
            assert process.is_alive(), "the process ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    states = States(output / "states", 1)
    assert states.latest() is not None
    for later in states.all()[1:]:  # as if it had been killed between its first and second state
        later.rename(tmp_path / later.name)
    # The log is ahead of the state: those steps are repeated, and logged once.
    assert len(losses(output)) > 3
    run_small(small_recipe(tiny_checkpoint, ema=0.9), output, resume=True)
    assert losses(output) == losses(whole)
    before, after = final(whole), final(output)
    for part in ("done", "weights", "average", "optimizer"):
        assert same(before[part], after[part]), part
    for file in ("adapter/adapter_model.safetensors", "dkt_lora.safetensors"):
        assert (output / file).read_bytes() == (whole / file).read_bytes()


def test_a_best_state_that_is_newer_than_the_state_gone_on_from_stays(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    newest = output / "states" / "step-00000008"
    best = output / "best" / newest.name
    best.parent.mkdir()
    newest.rename(best)  # as if it had been killed while it saved
    state = torch.load(best / STATE_FILE)
    torch.save(state | {"least": 0.25}, best / STATE_FILE)
    run_small(small_recipe(tiny_checkpoint, ema=0.9), output, resume=True)
    assert read_state(best)["least"] == final(output)["least"] == 0.25
    # Begun anew in the same folder it is another run's.
    shutil.rmtree(output / "states")
    run_small(small_recipe(tiny_checkpoint, ema=0.9, steps=1), output)
    assert not best.exists()


def test_the_best_of_other_clips_is_no_best(tiny_checkpoint: Path, tmp_path: Path) -> None:
    losses = iter([0.1, 0.5, 0.7, 0.6])  # the first before anything was learned

    def judge(network: DktNetwork) -> Any:
        return {"loss": next(losses)}, np.zeros((2, 2, 3), np.uint8)

    def run(steps: int, resume: bool = True, **values: Any) -> list[str]:
        told: list[str] = []
        preview = {"every": 1, "clips": 1} | values
        recipe = small_recipe(tiny_checkpoint, steps=steps, save={"every": 1}, preview=preview)
        source, previews = lambda network: FixedLatents(), lambda: judge
        train(recipe, tmp_path, source, previews, resume=resume, report=told.append)
        return [line for line in told if "judged" in line]

    best = tmp_path / "best"
    assert run(1, resume=False) == []
    assert run(2) == []  # no better
    assert [state.name for state in best.iterdir()] == ["step-00000001"]
    (told,) = run(3, clips=2)
    assert told == f"{best}/step-00000001 was judged by other clips: the best begins anew"
    assert [state.name for state in best.iterdir()] == ["step-00000003"]
    assert not (tmp_path / "checkpoint-best").exists()


def test_a_result_that_cannot_be_written_says_what_is_left(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    shutil.rmtree(output / "checkpoint")

    recipe = small_recipe(tiny_checkpoint, ema=0.9)
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "write_with", disk_full)
        with pytest.raises(DktError, match=r"No space left.*step-00000008, continue .* --resume"):
            run_small(recipe, output, resume=True)
    run_small(recipe, output, resume=True)
    assert (output / "checkpoint" / "dkt.json").is_file()


@pytest.mark.parametrize("condition", ["raw_depth", "from_raw_depth"])
def test_shown_raw_depth_it_starts_as_it_was_and_is_killed_and_resumed_to_the_last_bit(
    tiny_checkpoint: Path, tmp_path: Path, condition: str
) -> None:
    """And the best state, both LoRA files and the merged checkpoint have the patch embedding."""
    data = tmp_path / "data"
    for index in range(2):
        write_scene(data, f"scene{index}", frames=5, size=(64, 96), raw_depth=True)
    values = {
        "data": [{"path": str(data)}],
        "size": [32, 48],
        "condition": condition,
        "steps": 4,
        "batch": 2,
        "micro_batch": 2,
        "ema": 0.9,
        "optimizer": {"learning_rate": 1e-2, "warmup": 1, "input_rate": 0.5},
        "preview": {"every": 2, "clips": 1, "frames": 5},
        "save": {"every": 1, "keep": 10},
    }
    recipe = small_recipe(tiny_checkpoint, **values)

    def run(output: Path, resume: bool = False) -> None:
        with Materials(recipe, output) as materials:
            train(recipe, output, materials.source, materials.previews, resume=resume)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole)
    shutil.copytree(whole, parts)
    for step in (2, 3, 4):  # as if it had been killed after the first
        shutil.rmtree(parts / "states" / f"step-{step:08d}")
    shutil.rmtree(parts / "checkpoint")
    run(parts, resume=True)
    assert losses(parts) == losses(whole)
    before, after = final(whole), final(parts)
    for part in ("done", "weights", "average", "optimizer", "least"):
        assert same(before[part], after[part]), part
    base = load_checkpoint(tiny_checkpoint).transformer.patch_embedding.weight
    learned = before["average"]["patch_embedding.weight"]
    assert not torch.equal(learned[:, :32], base[:, :32])
    assert learned[:, 32:].abs().max() > 0
    assert learned[:, 32:].abs().max() < base[:, 32:].abs().max()

    measured = [line for line in read_lines(whole) if line["group"] == "preview"]
    assert [line["step"] for line in measured] == [0, 2, 4]
    assert all(np.isfinite(line["loss"]) and "glass_rel" in line for line in measured)
    least = min(measured[1:], key=lambda line: line["loss"])
    assert before["least"] == least["loss"]
    best = States(whole / "best", 1).latest()
    assert best is not None
    assert read_state(best)["done"] == least["step"]
    assert (whole / "checkpoint-best").exists() == (least["step"] != 4)
    trained = [line for line in read_lines(whole) if line["group"] == "train"]
    assert all(line["samples_per_s"] > 0 and line["peak_gib"] > 0 for line in trained)

    result = load_checkpoint(whole / "checkpoint")
    assert result.info.condition == condition
    torch.testing.assert_close(result.transformer.patch_embedding.weight, learned)
    for adapter in ("dkt_lora.safetensors", "adapter"):
        again = merge_into_checkpoint(tiny_checkpoint, whole / adapter, tmp_path / f"m-{adapter}")
        assert again.condition == condition
        merged = load_checkpoint(tmp_path / f"m-{adapter}").transformer.state_dict()
        for name, value in result.transformer.state_dict().items():
            torch.testing.assert_close(merged[name], value)
    with pytest.raises(DktError, match=f"condition was {condition}, the recipe says none"):
        train(
            small_recipe(tiny_checkpoint, **{**values, "condition": "none"}),
            whole,
            lambda network: FixedLatents(),
            resume=True,
        )


def test_wandb_gets_the_numbers_or_is_missed_by_name(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(tiny_checkpoint, wandb="glass")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DktError, match="wandb is not installed"):
        run_small(recipe, tmp_path / "without")
    logged: list[dict[str, float]] = []
    begun: list[str] = []

    class Run:
        def define_metric(self, name: str, step_metric: str) -> None:
            assert (name, step_metric) == ("*", "step")

        def log(self, values: dict[str, float]) -> None:
            logged.append(values)

        def finish(self) -> None:
            logged.append({"step": -1})

    class Wandb:
        @staticmethod
        def init(project: str, **options: str) -> Run:
            assert (project, options["name"]) == ("glass", "with")
            begun.append(options["id"])
            return Run()

    monkeypatch.setitem(sys.modules, "wandb", Wandb)
    run_small(recipe, tmp_path / "with")
    assert [values["step"] for values in logged] == [*range(1, 9), -1]
    assert "train/loss" in logged[0]

    # Resumed after a kill it does steps again, in the same run of wandb's.
    shutil.rmtree(tmp_path / "with/states/step-00000008")
    logged.clear()
    run_small(recipe, tmp_path / "with", resume=True)
    assert [values["step"] for values in logged] == [7, 8, -1]
    run_small(recipe, tmp_path / "elsewhere/with")
    assert begun[0] == begun[1] != begun[2]

    def refuses(**options: str) -> Run:
        raise RuntimeError("No API key\nconfigured.")

    monkeypatch.setattr(Wandb, "init", refuses)
    with pytest.raises(
        DktError, match=r"wandb does not begin \(No API key configured\.\); `wandb lo"
    ):
        run_small(recipe, tmp_path / "refused")


def test_two_processes_follow_the_single_one(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path, start: Start
) -> None:
    output, values = tmp_path / "run", {"ema": 0.9, "micro_batch": 1}
    (status, first), (other, second) = on_two_processes(start, tmp_path, tiny_checkpoint, **values)
    assert (status, other) == (0, 0), first + second
    batch = "2 processes on cpu each, float32; a step learns from 4 samples = 2 x 2 x micro_batch 1"
    assert batch in first
    assert batch not in second
    np.testing.assert_allclose(losses(output), losses(whole), rtol=1e-4)
    single = final(whole)
    for name, value in final(output)["weights"].items():
        torch.testing.assert_close(value, single["weights"][name], atol=3e-4, rtol=1e-3)


def test_a_preview_that_fails_ends_all_processes_with_the_last_good_state(
    tiny_checkpoint: Path, tmp_path: Path, start: Start
) -> None:
    """Whatever it raises; those that do not preview are not left waiting."""
    values: dict[str, Any] = {"micro_batch": 1, "preview": {"every": 4}}
    (status, first), (other, second) = on_two_processes(start, tmp_path, tiny_checkpoint, **values)
    assert status != 0
    assert other != 0
    assert re.search(
        r"DktError: the preview failed: RuntimeError: no memory; the last good state is .*"
        r"step-00000003, continue",
        first,
    )
    assert "DktError: the main process failed, and says why" in second


def test_a_folder_in_which_another_run_works_is_refused(tiny_checkpoint: Path, whole: Path) -> None:
    recipe = small_recipe(tiny_checkpoint, ema=0.9)
    with only_process(whole / "run.lock", ""), pytest.raises(DktError, match="another run works"):
        run_small(recipe, whole, resume=True)
    assert run_small(recipe, whole, resume=True).done == 8
    assert not (whole / "run.lock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    class Signalling(FixedLatents):
        def batch(self, step: int, indices: Any, latent_frames: int) -> LatentBatch:
            if step == 5:  # made while the step before it is learned from
                os.kill(os.getpid(), number)
            return super().batch(step, indices, latent_frames)

    recipe, lines = small_recipe(tiny_checkpoint, ema=0.9), list[str]()
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    outcome = train(recipe, tmp_path, lambda network: Signalling(), report=lines.append)
    assert (outcome.done, outcome.signal) == (5, number)
    assert "stopped at step 5; the last good state is" in lines[-1]
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert not (tmp_path / "checkpoint").exists()
    run_small(recipe, tmp_path, resume=True)
    assert losses(tmp_path) == losses(whole)
    assert same(final(tmp_path)["weights"], final(whole)["weights"])


@pytest.mark.parametrize(("when", "done"), [(1, 0), (2, 2)])
def test_no_step_is_begun_after_a_signal_during_a_preview(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path, when: int, done: int
) -> None:
    calls: list[None] = []

    def judge(network: DktNetwork) -> tuple[dict[str, float], np.ndarray]:
        calls.append(None)
        if len(calls) == when:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0}, np.zeros((4, 4, 3), np.uint8)

    recipe, lines = small_recipe(tiny_checkpoint, ema=0.9, preview={"every": 2}), list[str]()
    source = lambda network: FixedLatents()  # noqa: E731
    outcome = train(recipe, tmp_path, source, lambda: judge, report=lines.append)
    assert (outcome.done, outcome.signal, len(calls)) == (done, signal.SIGTERM, when)
    said = "stopped at step 2; the last good" if done else "stopped before the first step; no state"
    assert said in lines[-1]
    train(recipe, tmp_path, source, lambda: judge, resume=True)
    assert losses(tmp_path) == losses(whole)


def spoil_loss(step: int, batch: LatentBatch) -> None:
    if step == 4:
        batch.rgb.fill_(float("nan"))


def fill_disk(step: int, batch: LatentBatch) -> None:
    if step == 4:
        disk_full()


@pytest.mark.parametrize(
    ("spoil", "named"), [(spoil_loss, "loss became nan at step 5"), (fill_disk, "No space left")]
)
def test_what_goes_wrong_leaves_the_last_good_state(
    tiny_checkpoint: Path,
    whole: Path,
    tmp_path: Path,
    spoil: Callable[[int, LatentBatch], None],
    named: str,
) -> None:
    class Failing(FixedLatents):
        def batch(self, step: int, indices: Any, latent_frames: int) -> LatentBatch:
            made = super().batch(step, indices, latent_frames)
            spoil(step, made)
            return made

    recipe = small_recipe(tiny_checkpoint, ema=0.9)
    with pytest.raises(DktError, match=rf"{named}.*last good state is .*step-00000003, continue"):
        train(recipe, tmp_path, lambda network: Failing())
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["step-00000003"]
    run_small(recipe, tmp_path, resume=True)
    assert same(final(tmp_path)["weights"], final(whole)["weights"])


def test_a_disk_that_fills_up_while_a_state_is_written(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = torch.save

    def save(content: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) == 2:
            file.write(b"half")
            disk_full()
        original(content, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(DktError, match=r"state of step 6 .*No space left.*step-00000003"):
        run_small(small_recipe(tiny_checkpoint), tmp_path)
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["step-00000003"]
    assert final(tmp_path)["done"] == 3


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's
def test_a_disk_that_fills_up_while_the_log_is_written(
    tiny_checkpoint: Path,
    tmp_path: Path,
    limit_files: Callable[[int], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The log can then not be closed either, which must not hide why the run ended.

    capsys keeps stderr, and with it the progress bar, off the disk.
    """
    with ExitStack() as full:
        numbers = RunLog.numbers

        def fill(self: RunLog, step: int, *values: Any) -> None:
            if step == 5:
                full.enter_context(limit_files(100))
            numbers(self, step, *values)

        full.enter_context(pytest.MonkeyPatch.context()).setattr(RunLog, "numbers", fill)
        lines = list[str]()
        with pytest.raises(DktError, match=r"File too large.*last good state is .*step-00000003"):
            train(
                small_recipe(tiny_checkpoint),
                tmp_path,
                lambda network: FixedLatents(),
                report=lines.append,
            )
    assert "the log lacks its last entries" in lines[-1]
    run_small(small_recipe(tiny_checkpoint), tmp_path, resume=True)
    assert [step for step, _, _ in losses(tmp_path)] == list(range(1, 9))


def test_the_checkpoint_and_the_adapters_are_the_same_network(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path
) -> None:
    exported = load_checkpoint(whole / "checkpoint")
    assert exported.info.steps == load_checkpoint(tiny_checkpoint).info.steps
    assert "LoRA of rank 4 over 8 steps" in exported.info.origin
    expected = exported.transformer.state_dict()
    for name in ("adapter", "dkt_lora.safetensors"):
        merge_into_checkpoint(tiny_checkpoint, whole / name, tmp_path / name)
        found = load_checkpoint(tmp_path / name).transformer.state_dict()
        assert same(dict(found), dict(expected))
    state = final(whole)
    name = "blocks.0.attn1.to_q.lora_{}.default.weight"
    a, b = (state["average"][name.format(side)] for side in "AB")
    base = load_checkpoint(tiny_checkpoint).transformer.blocks[0].attn1.to_q.weight
    torch.testing.assert_close(expected["blocks.0.attn1.to_q.weight"], base + b @ a)
    assert not torch.equal(expected["blocks.0.attn1.to_q.weight"], base)


def test_one_step_training_gives_a_one_step_checkpoint(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    recipe = small_recipe(
        tiny_checkpoint,
        method="full",
        objective={"kind": "one_step"},
        steps=40,
        latent_frames=[1],
        optimizer={"learning_rate": 3e-3, "warmup": 2},
        save={"every": 100},
    )
    run_small(recipe, tmp_path)
    network = load_checkpoint(tmp_path / "checkpoint")
    assert network.info.steps == 1
    rgb = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)
    assert predict_disparity(FastNetwork(network), rgb).shape == (1, 32, 48)

    def error(of: DktNetwork) -> float:
        given = FixedLatents().batch(0, range(4), 1)
        noise = torch.randn(given.disparity.shape, generator=torch.Generator().manual_seed(9))
        with torch.no_grad():
            estimate = noise - of.velocity(noise, given.rgb, 1000.0)
        return (estimate - given.disparity).square().mean().item()

    assert error(network) < 0.8 * error(load_checkpoint(tiny_checkpoint))


def test_previews_and_numbers_reach_tensorboard(tiny_checkpoint: Path, tmp_path: Path) -> None:
    seen = []

    def previews() -> Callable[[DktNetwork], tuple[dict[str, float], np.ndarray]]:
        def judge(network: DktNetwork) -> tuple[dict[str, float], np.ndarray]:
            latents = torch.ones(1, 16, 1, 2, 2)
            with torch.no_grad():
                seen.append(network.velocity(latents, latents, 500.0).sum().item())
            return {"rel": float(len(seen))}, np.full((4, 6, 3), 9, np.uint8)

        return judge

    recipe = small_recipe(tiny_checkpoint, steps=4, preview={"every": 3})
    train(recipe, tmp_path, lambda network: FixedLatents(), previews)
    assert len(seen) == len(set(seen)) == 3  # before the first step, after the third and the last
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(
        [loss for _, loss, _ in losses(tmp_path)]
    )
    assert [(e.step, e.value) for e in events.Scalars("preview/rel")] == [(0, 1), (3, 2), (4, 3)]
    assert [event.step for event in events.Images("preview")] == [0, 3, 4]


def test_a_folder_whose_name_cannot_be_the_checkpoints_is_refused_at_once(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(DktError, match=r"name is 'a\\nb', expected a name"):
        run_small(small_recipe(tiny_checkpoint), tmp_path / "a\nb")
    assert not any(tmp_path.iterdir())
    assert run_small(small_recipe(tiny_checkpoint, name="ab", steps=1), tmp_path / "a\nb").done == 1


def test_runs_are_not_mixed_up(tiny_checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    def again(**values: Any) -> None:
        run_small(small_recipe(tiny_checkpoint, **{"ema": 0.9, **values}), whole, resume=True)

    with pytest.raises(DktError, match="holds a run already; add --resume"):
        run_small(small_recipe(tiny_checkpoint), whole)
    with pytest.raises(DktError, match="holds no run to resume"):
        run_small(small_recipe(tiny_checkpoint), tmp_path / "new", resume=True)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"lora": {"rank": 8}}, "lora.rank was 4, the recipe says 8"),
        ({"seed": 2}, "seed was 1, the recipe says 2"),
        ({"steps": 7}, "has done 8 steps, the recipe asks for 7; ask for more"),
        ({"batch": 8}, "batch was 4"),
        ({"latent_frames": [1]}, "latent_frames was"),
        ({"ema": 0}, r"ema was 0\.9"),
        ({"method": "full"}, "method was lora"),
        ({"objective": {"kind": "one_step"}}, "objective.kind was flow"),
    ]
    for values, named in changes:
        with pytest.raises(DktError, match=named):
            again(**values)


def test_a_base_of_other_weights_is_refused(
    tiny_checkpoint: Path, whole: Path, tmp_path: Path
) -> None:
    merge_into_checkpoint(tiny_checkpoint, whole / "adapter", tmp_path / "other")
    with pytest.raises(DktError, match="holds other weights than the run began with"):
        run_small(small_recipe(tmp_path / "other", ema=0.9), whole, resume=True)
    with pytest.raises(DktError, match=r"no dkt checkpoint|does not exist"):
        run_small(small_recipe(tmp_path / "none"), tmp_path / "run")
