"""What a run computes with and starts from: devices, processes, precision, the base checkpoint.

Knows accelerate and checkpoints. Knows nothing of steps or of a run's folder.
"""

from __future__ import annotations

import os
import resource
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.conv import use_stacked_convolutions
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.network import DktNetwork
from dkt_ros.progress import Report, no_report
from dkt_ros.train.recipe import Recipe
from dkt_ros.train.schedule import share
from dkt_ros.wording import counted, one_line

_WAIT = timedelta(hours=2)
"""How long processes wait for the first one's previews and files."""
_TOLD_BY = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "ACCELERATE_USE_")
"""How the names begin by which launchers tell a process of the others."""


def make_accelerator(recipe: Recipe, report: Report = no_report) -> Accelerator:
    """Device, precision and processes. report: told when other processes are waited for.

    Raises DktError for other than plain data parallelism, and where the processes that a launcher's
    variables tell of cannot be found.
    """
    precision = recipe.precision
    if precision == "auto":
        precision = "bfloat16" if torch.cuda.is_available() else "float32"
    launched = " ".join(f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(_TOLD_BY))
    try:
        wanted = int(os.environ.get("WORLD_SIZE") or "1")
        if wanted > 1 and os.environ.get("RANK") == "0":
            report(f"waiting for {wanted} processes, of which this is the first ({launched})")
        accelerator = Accelerator(
            # Without GPUs accelerate heeds a launcher's processes only when told to take CPUs.
            cpu=wanted > 1 and not torch.cuda.is_available(),
            mixed_precision="bf16" if precision == "bfloat16" else "no",
            # `accelerate launch` may have been told of more steps, and the loss be divided by them.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_WAIT)],
        )
    except (ValueError, ImportError, RuntimeError) as error:
        if not launched:
            raise
        raise DktError(
            f"the environment tells of other processes ({launched}), which cannot be worked with: "
            f"{one_line(str(error))}; start all of them with torchrun --nproc-per-node N -m "
            "dkt_ros.cli train ..., or unset these variables for a single one"
        ) from error
    plain_kinds = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
    if accelerator.distributed_type not in plain_kinds:
        raise DktError(
            f"accelerate is set to {accelerator.distributed_type.value}, expected one process or "
            "plain data parallelism; run `accelerate config` again"
        )
    if accelerator.num_processes != wanted:
        raise DktError(
            f"the launcher started {wanted} processes, which work as {accelerator.num_processes}; "
            "start them with torchrun --nproc-per-node N -m dkt_ros.cli train ..."
        )
    return accelerator


def described(recipe: Recipe, accelerator: Accelerator) -> str:
    """Processes, devices, precision and batch in one line; DktError as schedule.share."""
    count = accelerator.num_processes
    parts = len(share(recipe.batch, recipe.micro_batch, 0, count))
    where = str(accelerator.device) if count == 1 else f"{accelerator.device.type} each"
    precision = "bfloat16" if accelerator.mixed_precision == "bf16" else "float32"
    return (
        f"{count} process{'es' if count > 1 else ''} on {where}, {precision}; a step learns from "
        f"{counted(recipe.batch, 'sample')} = {count} x {parts} x micro_batch {recipe.micro_batch}"
    )


def peak_gib(device: torch.device) -> float:
    """Most memory in use so far: the GPU's, on a CPU the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def load_network(recipe: Recipe, accelerator: Accelerator) -> DktNetwork:
    """The checkpoint to start from, frozen weights in the computing type, what learns in float32.

    Raises DktError where it is missing, damaged or not one for depth.
    """
    bf16 = accelerator.mixed_precision == "bf16" and recipe.method == "lora"
    network = load_checkpoint(
        recipe.checkpoint_folder(), accelerator.device, "bfloat16" if bf16 else "float32"
    )
    # On a GPU too: equal up to rounding, and away from cuDNN's bf16 3-D kernels (see arrange).
    use_stacked_convolutions(network.vae)
    check_task(network.info)
    return network


def check_task(info: CheckpointInfo) -> None:
    """Raises DktError for a checkpoint that is none for depth."""
    if info.task != "depth":
        raise DktError(f"checkpoint {info.name} predicts {info.task}s; train a depth one")
