"""One optimiser step after another: batches, losses, gradients, averaged weights, the state.

Knows the order of a step. Knows nothing of files, logs or when to save. A step is a function of the
recipe, the data and the state alone, so a resumed run ends where the uninterrupted one would have,
to the last bit on one machine; processes that share a batch follow one that has it all, up to
rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dkt_ros.errors import DktError
from dkt_ros.model.lora import INPUT_WEIGHTS
from dkt_ros.model.network import DktNetwork
from dkt_ros.train.data.latents import LatentSource
from dkt_ros.train.data.prefetch import Prefetch, Request
from dkt_ros.train.objective import ask, losses
from dkt_ros.train.recipe import OptimizerRecipe, Recipe
from dkt_ros.train.schedule import clip_length, rate_factor, share
from dkt_ros.train.small_trainer import parameter_groups, restore_optimizer
from dkt_ros.train.tuning import Trained, Velocity, prepare, wearing


class Trainer:
    """Network, optimiser and averaged weights of one run; `done` counts its steps."""

    def __init__(
        self,
        recipe: Recipe,
        network: DktNetwork,
        source: LatentSource,
        accelerator: Accelerator,
    ) -> None:
        """Makes the network trainable in place. Raises DktError where the recipe does not fit."""
        self.recipe, self.network = recipe, network
        self.batches = Prefetch(source)
        self.accelerator = accelerator
        self.micro_batches = share(
            recipe.batch, recipe.micro_batch, accelerator.process_index, accelerator.num_processes
        )
        self.parameters = prepare(network, recipe)
        settings = recipe.optimizer
        optimizer = torch.optim.AdamW(
            _groups(self.parameters, settings, recipe.method),
            lr=settings.learning_rate,
            betas=settings.betas,
        )
        self.model, self.optimizer = accelerator.prepare(Velocity(network), optimizer)
        self.average: Trained | None = None
        if recipe.ema > 0:
            self.average = {n: p.detach().float().clone() for n, p in self.parameters.items()}
        self.done = 0

    def step(self) -> dict[str, float]:
        """One optimiser step; returns losses over the global batch, `loss`, and more by name.

        norm: of the gradient before clipping. rate: the learning rate. latent_frames: of the clips.
        Raises DktError where loss or gradient are not finite, before any weight changes.
        """
        recipe, accelerator = self.recipe, self.accelerator
        settings = recipe.optimizer
        requests = self._requests(self.done)
        frames = requests[0][2]
        following = self._requests(self.done + 1)[0] if self.done + 1 < recipe.steps else None
        factor = rate_factor(
            self.done, recipe.steps, settings.warmup, settings.schedule, settings.final
        )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        found: dict[str, Tensor] = {}
        for request, after in itertools.zip_longest(requests, requests[1:]):
            # Processes exchange gradients once, with the last micro-batch.
            with nullcontext() if after is None else accelerator.no_sync(self.model):
                parts = self._losses(request, after or following)
                total = torch.stack(list(parts.values())).sum() / len(requests)
                accelerator.backward(total)
            for name, value in parts.items():
                share_of_batch = value.detach() / len(requests)
                found[name] = found.get(name, torch.zeros_like(share_of_batch)) + share_of_batch
        means = accelerator.reduce(torch.stack(list(found.values())), reduction="mean").tolist()
        self._check("loss", sum(means))
        norm = float(accelerator.clip_grad_norm_(list(self.parameters.values()), settings.clip))
        self._check("norm of the gradient", norm)
        self.optimizer.step()
        self.done += 1
        self._update_average()
        return {
            "loss": sum(means),
            **dict(zip(found, means, strict=True)),
            "norm": norm,
            "rate": settings.learning_rate * factor,
            "latent_frames": float(frames),
        }

    def trained(self) -> Trained:
        """What the run is about: the averaged weights where there are any, else the weights."""
        if self.average is not None:
            return self.average
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    @contextmanager
    def finished(self) -> Iterator[DktNetwork]:
        """The network with the weights of `trained`, to be used without gradients meanwhile."""
        self.batches.settle()
        values = self.average
        with (
            nullcontext() if values is None else wearing(self.parameters, values),
            # A patch embedding that learns is float32 in a network of bfloat16.
            self.accelerator.autocast() if self.recipe.data.conditioned else nullcontext(),
        ):
            yield self.network

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs, as tensors and plain values."""
        return {
            "done": self.done,
            "weights": {name: p.detach().cpu() for name, p in self.parameters.items()},
            "average": self.average and {n: v.cpu() for n, v in self.average.items()},
            "optimizer": self.optimizer.state_dict(),
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Continues from a state; DktError where it is of other weights.

        Of the optimiser only the moments: its settings are the recipe's.
        """
        if set(state["weights"]) != set(self.parameters):
            raise DktError("the state is of other weights than the recipe trains")
        for name, parameter in self.parameters.items():
            parameter.copy_(state["weights"][name])
        if self.average is not None:
            for name, value in self.average.items():
                value.copy_(state["average"][name])
        restore_optimizer(self.optimizer, state["optimizer"])
        self.done = int(state["done"])

    def close(self) -> None:
        """Ends the thread that makes batches."""
        self.batches.close()

    def _requests(self, step: int) -> list[Request]:
        """This process's batches of a 0-based step."""
        frames = clip_length(self.recipe.seed, step, self.recipe.latent_frames)
        return [(step, indices, frames) for indices in self.micro_batches]

    def _losses(self, request: Request, following: Request | None) -> dict[str, Tensor]:
        recipe, device = self.recipe, self.accelerator.device
        batch, indices = self.batches.batch(request, following), request[1]
        batch = type(batch)(*(getattr(batch, n).to(device) for n in vars(batch)))
        info = self.network.info
        question = ask(recipe.objective, batch, recipe.seed, self.done, indices, info)
        velocity = self.model(question.noisy, batch.rgb, question.timestep)
        return losses(recipe.objective, question, velocity, batch)

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        # Early on the average is short, so that it does not drag the initial weights along.
        decay = min(self.recipe.ema, self.done / (9.0 + self.done))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.float(), 1.0 - decay)

    def _check(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise DktError(
                f"the {what} became {value} at step {self.done + 1}; lower "
                "optimizer.learning_rate, or raise optimizer.warmup"
            )


def _groups(
    parameters: dict[str, nn.Parameter], settings: OptimizerRecipe, method: str
) -> list[dict[str, Any]]:
    """Those of parameter_groups, and the inputs'. share: of the learning rate.

    Beside a LoRA the patch embedding is neither held near zero nor as slow, for part of it begins
    there.
    """
    inputs = {name: parameters[name] for name in INPUT_WEIGHTS if name in parameters}
    if method != "lora":
        inputs = {}
    rest = [p for name, p in parameters.items() if name not in inputs]
    groups = [
        *({**group, "share": 1.0} for group in parameter_groups(rest, settings.weight_decay)),
        {"params": list(inputs.values()), "weight_decay": 0.0, "share": settings.input_rate},
    ]
    return [group for group in groups if group["params"]]
