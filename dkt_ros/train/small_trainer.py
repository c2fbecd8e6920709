"""The trainer of small networks: one state to resume from, and its steps, parts of which all use.

Knows files, weights and when to save. Knows nothing of data or how a network is exported.
"""

from __future__ import annotations

import abc
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dkt_ros.errors import DktError
from dkt_ros.files import StorageError, only_process, whole_file, whole_folder
from dkt_ros.progress import Report, no_report, progress_bar
from dkt_ros.train.fields import changed, plain
from dkt_ros.train.small import SmallConfig, TarFolder
from dkt_ros.train.states import STATE_FILE, of_a_run, read_tensors, write_failure
from dkt_ros.train.stopping import StopRequest
from dkt_ros.wording import counted

LOCK_FILE = "run.lock"
_ENOUGH_RATE = 0.9
"""Share of the learning rate; a run that comes to less was probably meant to be longer."""


def save_state(
    folder: Path, state: Mapping[str, Any], weights: str, export: Callable[[Path], None]
) -> None:
    """Writes `state` (with its "step") and the folder `weights` beside it; either whole or absent.

    export: fills an empty folder with the weights. Raises DktError where that fails, on a full disk
    say; what was saved before stays as it was.
    """
    try:
        # The weights take their place first: killed in between, a resumed run has the older state
        # and makes them again.
        with whole_file(folder / STATE_FILE) as file:
            torch.save(dict(state), file)
            with whole_folder(folder / weights) as fresh:
                export(fresh)
    # torch reports a failed write as RuntimeError, safetensors as its own error.
    except (StorageError, OSError, RuntimeError, SafetensorError) as error:
        kept = "no state was saved before"
        if (folder / STATE_FILE).is_file():
            kept = f"{STATE_FILE} there is the last good one, make room and go on with --resume"
        raise DktError(
            f"step {state['step']} cannot be saved to {folder} ({write_failure(error)}); {kept}"
        ) from error


def only_run(folder: Path) -> AbstractContextManager[None]:
    """Holds a run's folder; raises BusyError where another run works there."""
    busy = f"another run works in {folder}; wait for it or name another folder"
    return only_process(folder / LOCK_FILE, busy)


@contextmanager
def run_folder(folder: Path, resume: bool) -> Iterator[None]:
    """Takes the folder for one run, before anything is computed for nothing.

    Raises DktError where it holds a run already (without `resume`) or none (with it), where another
    run works there and where nothing can be written. A folder that stays empty is removed.
    """
    there = os.path.exists(folder / STATE_FILE)  # unlike Path's, where a name is too long too
    if there and not resume:
        raise DktError(f"{folder} holds a run already; add --resume or name another folder")
    if resume and not there:
        raise DktError(f"{folder} holds no run to resume; start without --resume")
    try:
        with only_run(folder):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def load_state(
    folder: Path,
    config: Mapping[str, Any],
    fixed: Sequence[str],
    restore: Callable[[dict[str, Any]], None],
    report: Report = no_report,
) -> None:
    """Hands the state of the run saved in `folder` to `restore`, and reports what has changed.

    Raises DktError where there is none, where a field of `fixed` is another than config's, and
    where it is damaged or not of such a run.
    """
    path = folder / STATE_FILE
    state = read_tensors(path, "put a copy of it back, or begin anew in another folder")
    with of_a_run(path):
        for name in fixed:
            asked = config[name]
            stored = state["config"].get(name, asked)  # older states lack newer fields
            if stored != asked:
                raise DktError(f"{path}: {name} was {stored}, the configuration says {asked}")
        report_changes(state["config"], config, report)
        restore(state)


def report_changes(before: Mapping[str, Any], now: Mapping[str, Any], report: Report) -> None:
    """A line for each field that a resumed run's recipe has changed."""
    for name, was, is_now in changed(before, now):
        report(f"{name} was {was}, is now {is_now}")


class SmallTrainer(abc.ABC):
    """Model, optimiser and averaged weights of one run, advanced step by step.

    WEIGHTS: the folder that `export` fills. FIXED: fields of the configuration in which a resumed
    run must be the same.
    """

    WEIGHTS: ClassVar[str]
    FIXED: ClassVar[tuple[str, ...]]

    def __init__(
        self, config: SmallConfig, model: nn.Module, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.config, self.model = config, model
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model.parameters(), config.weight_decay),
            lr=config.learning_rate,
            betas=betas,
        )
        self.step = 0

    @abc.abstractmethod
    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns the weighted losses and the gradient's norm.

        Raises DktError where the loss is not finite; the state on disk stays as it was.
        """

    def computing(self) -> AbstractContextManager[None]:
        """Within it layers compute in what the configuration says."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.config.bfloat16)

    @abc.abstractmethod
    def export(self, folder: Path) -> None:
        """Fills an empty folder with the averaged weights."""

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "config": plain(self.config),
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        restore_optimizer(self.optimizer, state["optimizer"])
        self.step = int(state["step"])

    def save(self, folder: Path) -> None:
        """Writes the weights and the state; DktError, see save_state."""
        save_state(folder, self.state(), self.WEIGHTS, self.export)

    def load(self, folder: Path, report: Report = no_report) -> None:
        """Continues the run saved in `folder`, and reports what has changed; see load_state."""
        load_state(folder, plain(self.config), self.FIXED, self.restore, report)

    def learn(self, losses: Mapping[str, Tensor], rate: float, averaged: int) -> dict[str, float]:
        """Takes a step down the sum of the losses; returns them, and the gradient's norm.

        rate: share of the learning rate. averaged: steps that the average is of. Raises DktError
        where the sum or the gradient is not finite, before anything changes.
        """
        config = self.config
        total = torch.stack(list(losses.values())).sum()
        self._check("loss", total.item())
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * rate
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.gradient_clip)
        self._check("norm of the gradient", norm.item())
        self.optimizer.step()
        update_average(self.average, self.model, config.ema, averaged)
        self.step += 1
        values = {name: float(value.detach()) for name, value in losses.items()}
        return {**values, "norm": float(norm)}

    def _check(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DktError(
                f"the {what} became {value} at step {self.step}; lower learning_rate, and --resume "
                "where a state was saved"
            )

    def run(
        self,
        data: TarFolder[Any],
        noun: str,
        output: Path,
        resume: bool,
        report: Report,
        every: int,
    ) -> int | None:
        """Steps to the last, saving on the way; the signal that ended it before, if any.

        noun: what an item of the data is called. resume: on from the run saved in output. every:
        steps between two reports.
        """
        if resume:
            self.load(output, report)
        config, total = self.config, self.config.total_steps
        if (highest := highest_rate(config)) < _ENOUGH_RATE:
            report(
                f"note: the learning rate rises for {config.warmup_steps} steps and falls over the "
                f"last {config.decay_steps}, and the run has {total}, so it comes to {highest:.1%} "
                "of learning_rate: lower warmup_steps and decay_steps"
            )
        report(f"{counted(len(data.items), noun)}, step {self.step} of {total}")
        means = Means()
        with progress_bar(total, "step", initial=self.step, leave=True) as bar:

            def advance() -> None:
                if self.step % config.rescan_every == 0 and (added := data.rescan()):
                    report(f"{counted(added, noun)} arrived, {len(data.items)} in all")
                found = self.train_step()
                means.add(found)
                bar.set_postfix(found, refresh=False)
                bar.update()
                if self.step % every == 0:
                    text, pace = means.told()
                    left = pace * (total - self.step) / 60.0
                    report(f"step {self.step}  {text}  {pace:.2f} s/step  {left:.0f} min left")

            stopped = run_steps(self, advance, total, config.save_every, output)
        if stopped is not None:
            report(f"stopped at step {self.step}; go on with --resume")
        return stopped


def falling(left: int, last: int) -> float:
    """Share of the learning rate where `left` steps remain: 1, over the `last` ones down to 2%."""
    if left >= last:
        return 1.0
    return 0.02 + 0.49 * (1.0 - math.cos(math.pi * left / last))


def highest_rate(config: SmallConfig) -> float:
    """Share of the learning rate that rise and fall together let it come to."""
    total, warmup = config.total_steps, max(1, config.warmup_steps)
    rates = (
        min(1.0, (step + 1) / warmup) * falling(total - step, config.decay_steps)
        for step in range(total)
    )
    return max(rates, default=1.0)


class SteppedTrainer(Protocol):
    """step: how many are done."""

    step: int

    def save(self, folder: Path) -> None:
        """Writes what a run goes on from."""


def run_steps(
    trainer: SteppedTrainer, advance: Callable[[], None], total: int, save_every: int, folder: Path
) -> int | None:
    """Calls `advance`, one step each, up to `total`; saves every save_every steps and at the end.

    On SIGINT or SIGTERM the step is finished and saved, and the signal returned. Raises DktError
    where more steps are done already.
    """
    check_steps(folder, trainer.step, total)
    with StopRequest() as stop:
        while trainer.step < total and stop.signal is None:
            advance()
            last = trainer.step == total or stop.signal is not None
            if trainer.step % save_every == 0 or last:
                trainer.save(folder)
    return stop.signal


def check_steps(run: Path, done: int, wanted: int) -> None:
    """Raises DktError where a run has done more steps than its recipe asks for."""
    if done > wanted:
        raise DktError(
            f"{run}: has done {counted(done, 'step')}, the recipe asks for {wanted}; ask for more, "
            "or begin anew in another folder"
        )


def restore_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Takes the moments from a state; decay, betas and the like stay as the recipe has them now."""
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


class Means:
    """Means of a run's losses, and its pace, since they were last told."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, float] = {}
        self._count, self._since = 0, time.monotonic()

    def add(self, losses: Mapping[str, float]) -> None:
        """Those of one step."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def told(self) -> tuple[str, float]:
        """In words, and seconds a step; begins anew."""
        text = "  ".join(f"{name} {value / self._count:.4f}" for name, value in self._sums.items())
        pace = (time.monotonic() - self._since) / self._count
        self._begin()
        return text, pace


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float
) -> list[dict[str, Any]]:
    """Matrices decay; biases, gains and tables do not."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in parameters:
        is_matrix = parameter.dim() >= 2 and parameter.shape[0] > 1
        (matrices if is_matrix else others).append(parameter)
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, ema: float, done: int) -> None:
    """Moves the averaged weights towards the model's; what is no weight is copied.

    done: steps so far; early on the average is short, lest it drag the initial weights along.
    """
    decay = min(ema, (1.0 + done) / (10.0 + done))
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, nn.Parameter):
            average[name].lerp_(value, 1.0 - decay)
        else:
            average[name].copy_(value)
