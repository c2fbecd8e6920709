"""A training run from its recipe to its last state: resuming, logging, previews, saving, stopping.

Knows the folder of a run and the order of things. Knows nothing of what a step does.

    OUTPUT/recipe.yaml        what the run was started with
    OUTPUT/states/step-N/     state.pt, and a LoRA in both layouts
    OUTPUT/best/step-N/       the state whose validation loss was least
    OUTPUT/log.jsonl          every step's numbers; the same under tensorboard/
    OUTPUT/wandb-id.txt       what wandb calls it, where it is logged there
    OUTPUT/run.lock           held while a run works there
    OUTPUT/checkpoint/        at the end: ready to predict with; adapter/ and dkt_lora.safetensors
    OUTPUT/checkpoint-best/   at the end, where another step's validation loss was least
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from dkt_ros.errors import DktError
from dkt_ros.files import write_whole
from dkt_ros.model.network import DktNetwork
from dkt_ros.progress import Report, no_report, progress_bar
from dkt_ros.train.data.latents import LatentSource
from dkt_ros.train.environment import described, load_network, make_accelerator, peak_gib
from dkt_ros.train.export import BEST_DIR, STATES_DIR, export_best, export_result
from dkt_ros.train.export import described as described_result
from dkt_ros.train.fields import plain
from dkt_ros.train.log import RunLog
from dkt_ros.train.lora import write_adapter
from dkt_ros.train.recipe import Recipe, as_in_file
from dkt_ros.train.resuming import RECIPE_FILE, base_digest, judged_alike, starting_state
from dkt_ros.train.small_trainer import only_run
from dkt_ros.train.states import STATE_FILE, States, of_a_run, read_state
from dkt_ros.train.stopping import StopRequest
from dkt_ros.train.trainer import Trainer

Previews = Callable[[DktNetwork], tuple[dict[str, float], np.ndarray]]
"""Judges a network on fixed clips: measures by name, and a picture, uint8 (H, W, 3)."""
MakeSource = Callable[[DktNetwork], LatentSource]
MakePreviews = Callable[[], Previews]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: steps done, and the signal that stopped it, if any."""

    done: int
    signal: int | None


def train(
    recipe: Recipe,
    output: Path,
    make_source: MakeSource,
    make_previews: MakePreviews | None = None,
    *,
    describe: Callable[[Accelerator], None] | None = None,
    resume: bool = False,
    report: Report = no_report,
) -> Outcome:
    """Runs to recipe.steps, saving on the way, and exports the result; or until a signal.

    On SIGINT or SIGTERM the step or preview is finished and the state saved. make_source: the
    training data for a network; make_previews: called if the recipe wants previews. describe:
    tells what will be done, before anything is loaded; without it the processes are told of.
    report: called with lines to show.
    Raises DktError for a folder that holds a run already (without `resume`) or none (with it), and
    where a step or a file fails; the last good state stays and is named.
    """
    accelerator = make_accelerator(recipe, report)
    tell = report if accelerator.is_main_process else no_report
    described_result(recipe, 0, output)  # what cannot be written in the end is said at once
    states = States(output / STATES_DIR, recipe.save.keep)
    best = States(output / BEST_DIR, keep=1, resumed=states)
    start = starting_state(recipe, output, states, resume, tell)
    if describe is None:
        tell(described(recipe, accelerator))
    elif accelerator.is_main_process:
        describe(accelerator)
    network = load_network(recipe, accelerator)
    source = make_source(network)
    trainer = Trainer(recipe, network, source, accelerator)
    run = _Run(recipe, output, trainer, states, best, tell)
    if start is not None:
        with of_a_run(states.folder):
            trainer.load(start)
            if judged_alike(start["recipe"], recipe):
                run.least = float(start.get("least", math.inf))
    try:
        run.on_main(lambda: run.open(make_previews if recipe.preview.every > 0 else None))
        outcome = run.go()
        if outcome.done == recipe.steps:
            run.on_main(run.export)
    except (OSError, SafetensorError) as error:
        raise DktError(f"{error}; {states.described()}") from error
    finally:
        run.close()
    return outcome


class _Run:
    """One process's view of a run; files, log and previews are the main process's."""

    def __init__(
        self,
        recipe: Recipe,
        output: Path,
        trainer: Trainer,
        states: States,
        best: States,
        report: Report,
    ) -> None:
        self.recipe, self.output, self.trainer, self.states = recipe, output, trainer, states
        self.best, self.least = best, math.inf
        self.accelerator, self.report = trainer.accelerator, report
        self.previews: Previews | None = None
        self.log: RunLog | None = None
        self._base, self._makes = "", described_result(recipe, 0, output)
        self._lock = ExitStack()

    def go(self) -> Outcome:
        """Steps until the recipe's last, or a signal."""
        trainer, recipe = self.trainer, self.recipe
        bar = progress_bar(
            recipe.steps,
            "step",
            initial=trainer.done,
            smoothing=0,  # clip lengths differ from step to step: only the mean pace is honest
            leave=True,
            disable=not self.accelerator.is_main_process,
        )
        with StopRequest() as stop, bar:
            if trainer.done == 0:
                self._preview()
                if (stopped := self._agree(stop.signal)) is not None:
                    self.report(f"stopped before the first step; {self.states.described()}")
                    return Outcome(0, stopped)
            while trainer.done < recipe.steps:
                began = time.perf_counter()
                values = self._step()
                values["seconds"] = time.perf_counter() - began
                values["samples_per_s"] = recipe.batch / values["seconds"]
                values["peak_gib"] = peak_gib(self.accelerator.device)
                if self.log is not None:
                    self.log.numbers(trainer.done, values)
                bar.set_postfix(loss=f"{values['loss']:.4g}", refresh=False)
                bar.update()
                stopped = self._agree(stop.signal)
                last = trainer.done == recipe.steps
                if stopped is None and (last or _due(trainer.done, recipe.preview.every)):
                    self._preview()
                    stopped = self._agree(stop.signal)
                if stopped is not None or last or _due(trainer.done, recipe.save.every):
                    self.on_main(self._save)
                if stopped is not None:
                    self.report(f"stopped at step {trainer.done}; {self.states.described()}")
                    return Outcome(trainer.done, stopped)
        return Outcome(trainer.done, None)

    def on_main(self, action: Callable[[], None], what: str = "") -> None:
        """Runs something on the main process; where it fails, all processes raise DktError.

        what: says in front of an unexpected error what failed.
        """
        failure: DktError | None = None
        if self.accelerator.is_main_process:
            try:
                action()
            except DktError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - or the others would wait for this process
                failure = DktError(f"{what}{_reason(error)}; {self.states.described()}")
                failure.__cause__ = error
        failed = torch.tensor(float(failure is not None), device=self.accelerator.device)
        failed = self.accelerator.reduce(failed, reduction="sum")
        if failure is not None:
            raise failure
        if failed.item() > 0:
            raise DktError("the main process failed, and says why")

    def close(self) -> None:
        """Ends thread, log and lock. Raises nothing, so as not to hide how the run ended."""
        self.trainer.close()
        try:
            if self.log is not None:
                self.log.close()
        except OSError as error:
            self.report(f"the log lacks its last entries ({error})")
        self._lock.close()

    def open(self, make_previews: MakePreviews | None) -> None:
        """Takes the folder for this run: lock, recipe, log."""
        self._base = base_digest(self.recipe)
        self.previews = make_previews() if make_previews is not None else None
        self._lock.enter_context(only_run(self.output))
        self._look_at_best()
        text = _as_yaml(self.recipe)
        write_whole(self.output / RECIPE_FILE, text)
        self.log = RunLog(self.output, self.trainer.done, self.recipe.wandb)
        self.log.text("recipe", f"```yaml\n{text}\n```")
        counted = sum(p.numel() for p in self.trainer.parameters.values())
        self.report(
            f"{self.trainer.network.info.name}: {counted:,} weights learn, step "
            f"{self.trainer.done} of {self.recipe.steps}"
        )

    def _look_at_best(self) -> None:
        """Heeds a best state that is newer than the state gone on from.

        Forgets another run's, and one that was judged by other clips than will be now.
        """
        if self.trainer.done == 0:
            self.best.discard()
        elif (latest := self.best.latest()) is not None:
            state = read_state(latest)
            with of_a_run(latest):
                if judged_alike(state["recipe"], self.recipe):
                    self.least = min(self.least, float(state.get("least", math.inf)))
                    return
            self.report(f"{latest} was judged by other clips: the best begins anew")
            self.best.discard()
            self.least = math.inf

    def _step(self) -> dict[str, float]:
        try:
            return self.trainer.step()
        except DktError as error:
            raise DktError(f"{error}; {self.states.described()}") from error
        except torch.OutOfMemoryError as error:
            raise DktError(f"{_reason(error)}; {self.states.described()}") from error

    def export(self) -> None:
        """Writes what comes of the run; DktError says that nothing of it is lost."""
        try:
            name = export_result(self.recipe, self.output).name
            export_best(self.recipe, self.output, self.trainer.done)
        except DktError as error:
            raise DktError(f"{error}; {self.states.described()}") from error
        self.report(f"{name} written to {self.output}")

    def _save(self) -> None:
        if self.log is not None:
            self.log.flush()
        self.states.save(self.trainer.done, self._write_state)

    def _write_state(self, folder: Path) -> None:
        recipe = self.recipe
        content = self.trainer.state() | {
            "recipe": plain(recipe),
            "base": self._base,
            "least": self.least,
        }
        with (folder / STATE_FILE).open("wb") as file:
            torch.save(content, file)
        if recipe.method == "lora":
            write_adapter(folder, self.trainer.trained(), recipe.lora, self._makes)

    def _preview(self) -> None:
        self.on_main(self._log_preview, "the preview failed: ")

    def _log_preview(self) -> None:
        if self.previews is None or self.log is None:
            return
        with self.trainer.finished() as network:
            measures, picture = self.previews(network)
        self.log.numbers(self.trainer.done, measures, "preview")
        self.log.picture(self.trainer.done, "preview", picture)
        loss = measures.get("loss", math.inf)
        if self.trainer.done > 0 and loss < self.least:
            self.least = loss
            self.best.save(self.trainer.done, self._write_state)

    def _agree(self, signal: int | None) -> int | None:
        """The signal that any process got, so that all stop after the same step."""
        if self.accelerator.num_processes == 1:
            return signal
        found = torch.tensor([float(signal or 0)], device=self.accelerator.device)
        return int(self.accelerator.gather(found).max().item()) or None


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return (
            "out of GPU memory; lower micro_batch, size or preview.frames, or set "
            "gradient_checkpointing: true"
        )
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, OSError | SafetensorError) else f"{type(error).__name__}: {text}"
    )


def _as_yaml(recipe: Recipe) -> str:
    import yaml

    text: str = yaml.safe_dump(as_in_file(plain(recipe)), sort_keys=False)
    return text
