"""Checkpoint folders: written by `dkt convert` and the trainer, read by everything that predicts.

A folder holds `transformer/` and `vae/` in diffusers layout, `prompt_embeds.safetensors` and
`dkt.json`. Only safetensors are ever read. Knows nothing of the original files' layout.
"""

from __future__ import annotations

import importlib.resources
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.arguments import DTYPES
from dkt_ros.errors import DktError
from dkt_ros.learned import check_learned
from dkt_ros.model.info import INFO_FILE, CheckpointInfo, found_instead
from dkt_ros.wording import counted

if TYPE_CHECKING:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    from dkt_ros.model.network import DktNetwork
    from dkt_ros.model.weights import Weights

TRANSFORMER_DIR = "transformer"
VAE_DIR = "vae"
PROMPT_FILE = "prompt_embeds.safetensors"
PROMPT_KEY = "prompt_embeds"
WEIGHTS_STEM = "diffusion_pytorch_model"

EMBEDDED = "dkt-nano"
"""Name of the checkpoint inside the package."""


def checkpoint_folder(name: str | Path | None = None) -> Path:
    """The folder that a user's words name: a path, EMBEDDED, or nothing, which is EMBEDDED too.

    A folder of that name comes first. Looks for nothing else: see checked_folder.
    """
    path = Path(name or EMBEDDED).expanduser()
    return default_checkpoint() if str(path) == EMBEDDED and not path.exists() else path


def default_checkpoint() -> Path:
    """Folder of dkt-nano, the small checkpoint inside the package."""
    path = Path(str(importlib.resources.files("dkt_ros"))) / "assets" / EMBEDDED
    if not path.is_dir():
        raise DktError(
            f"the embedded checkpoint {path} is missing: install dkt_ros again, or name another "
            "checkpoint"
        )
    return path


def load_checkpoint(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    *,
    plain: bool = False,
) -> DktNetwork:
    """Reads a checkpoint into a network in evaluation mode, without gradients.

    path: a folder, or a name as checkpoint_folder takes it.
    device: of torch, e.g. "cpu" or "cuda:0". dtype: float32, bfloat16 or float16, by name or as
    torch's; it is the computing type, whatever type is stored. plain: computes with diffusers' own
    layers throughout, for comparison; otherwise with forms that are equal up to rounding and
    faster (constant cross-attention context; on a CPU, 2-D convolutions over stacked frames).
    Raises DktError naming what is missing, damaged or does not fit, and what to do.
    """
    folder = checked_folder(path)
    info = CheckpointInfo.read(folder)
    torch_dtype, torch_device = parse_dtype(dtype), parse_device(device)

    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    from dkt_ros.model.conv import use_stacked_convolutions
    from dkt_ros.model.network import DktNetwork

    prompt_embeds = read_prompt(folder / PROMPT_FILE)
    transformer = _read_part(WanTransformer3DModel, folder / TRANSFORMER_DIR, torch_dtype)
    vae = _read_part(AutoencoderKLWan, folder / VAE_DIR, torch_dtype)
    transformer, vae = transformer.to(torch_device), vae.to(torch_device)
    with _fitting(folder):
        network = DktNetwork(transformer, vae, prompt_embeds, info)
    if not plain:
        network.collapse_context()
        if torch_device.type == "cpu":
            use_stacked_convolutions(network.vae)
    return network


def save_checkpoint(
    path: str | Path,
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    prompt_embeds: torch.Tensor,
    info: CheckpointInfo,
) -> None:
    """Writes a checkpoint folder; `dkt.json` comes last, so that a folder that has it is whole.

    prompt_embeds: (L, text_dim) or (1, L, text_dim); trailing zero tokens are not stored.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    transformer.save_pretrained(folder / TRANSFORMER_DIR, safe_serialization=True)
    vae.save_pretrained(folder / VAE_DIR, safe_serialization=True)
    write_prompt(folder, prompt_embeds)
    finish_checkpoint(folder, info)


def finish_checkpoint(folder: Path, info: CheckpointInfo) -> None:
    """Writes `dkt.json` and lets whoever may read it read the weights too."""
    info.write(folder)
    mode = (folder / INFO_FILE).stat().st_mode
    for file in folder.rglob("*.safetensors"):
        file.chmod(mode)  # safetensors writes for the owner alone, whatever the umask


def write_prompt(folder: Path, prompt_embeds: torch.Tensor) -> None:
    """Stores the prompt embedding without its trailing zero tokens (at least one token stays)."""
    from safetensors.torch import save_file

    embeds = prompt_embeds.detach().cpu()
    embeds = embeds[0] if embeds.dim() == 3 else embeds
    used = embeds.abs().sum(dim=1).nonzero()
    length = int(used.max()) + 1 if len(used) else 1
    save_file({PROMPT_KEY: embeds[:length].clone().contiguous()}, folder / PROMPT_FILE)


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """float32, bfloat16 or float16 -> torch's type."""
    import torch

    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise DktError(f"dtype is {name}, expected one of {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def parse_device(device: str | torch.device) -> torch.device:
    """A torch device that this machine has; raises DktError where it has none such."""
    import torch

    try:
        parsed = torch.device(device)
        if parsed.type == "meta":
            raise RuntimeError("nothing is computed there")
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DktError(
            f"device {device} cannot be used: {reason}; this machine has {', '.join(_devices())}"
        ) from error
    return parsed


def _devices() -> list[str]:
    import torch

    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def checked_folder(name: str | Path) -> Path:
    """The folder of a name, once every file of a checkpoint is seen there; else DktError."""
    folder = checkpoint_folder(name)
    if not folder.exists():
        raise DktError(f"checkpoint {folder} does not exist; make one with `dkt convert`")
    if not folder.is_dir():
        raise DktError(
            f"checkpoint {folder} is a file, expected a folder; original .safetensors and .pth "
            "files become one with `dkt convert`"
        )
    info = folder / INFO_FILE
    parts = [TRANSFORMER_DIR, VAE_DIR]
    required = [info, folder / PROMPT_FILE, *(folder / part / "config.json" for part in parts)]
    missing = [str(file.relative_to(folder)) for file in required if not file.is_file()]
    for part in parts:
        weights = f"{part}/{WEIGHTS_STEM}.safetensors"
        if not (folder / weights).is_file() and not (folder / f"{weights}.index.json").is_file():
            missing.append(weights)
    if missing:
        if not info.is_file() and (instead := found_instead(folder)):
            raise DktError(f"checkpoint {folder} {instead}")
        raise DktError(
            f"checkpoint {folder} lacks {', '.join(missing)}; make it again with `dkt convert`"
        )
    return folder


def empty_network(path: str | Path, prompt: torch.Tensor | None = None) -> DktNetwork:
    """A checkpoint's network on the meta device, without weights.

    prompt: what read_prompt has read of it already. Raises DktError as load_checkpoint does, for
    all but the weights' values, which are not read.
    """
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    from dkt_ros.model.network import DktNetwork

    folder = checked_folder(path)
    info = CheckpointInfo.read(folder)
    prompt = read_prompt(folder / PROMPT_FILE) if prompt is None else prompt
    parts: dict[str, Any] = {}
    kinds: dict[str, Any] = {TRANSFORMER_DIR: WanTransformer3DModel, VAE_DIR: AutoencoderKLWan}
    for name, cls in kinds.items():
        stored = stored_weights(folder / name).shapes
        with _readable(folder / name), torch.device("meta"):
            part = cls.from_config(cls.load_config(folder / name, local_files_only=True))
        wanted = {key: tuple(value.shape) for key, value in part.state_dict().items()}
        _check_names(
            folder / name,
            missing=wanted.keys() - stored.keys(),
            unexpected=stored.keys() - wanted.keys(),
            mismatched={k for k in wanted.keys() & stored.keys() if wanted[k] != stored[k]},
        )
        parts[name] = part
    with _fitting(folder):
        return DktNetwork(parts[TRANSFORMER_DIR], parts[VAE_DIR], prompt, info)


def stored_weights(folder: Path) -> Weights:
    """The weights of one part, unread; what else lies beside them is none of it.

    diffusers would take integers, and says little of a bad file.
    """
    from dkt_ros.model.weights import open_weights

    index = folder / f"{WEIGHTS_STEM}.safetensors.index.json"
    return open_weights(index if index.is_file() else folder / f"{WEIGHTS_STEM}.safetensors")


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Makes one line of what diffusers raises, and nothing of what it logs, for wrong files."""
    from diffusers.utils import logging

    shows_bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # one for every sharded part, amid the lines of a program
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DktError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        reason = reason.partition(" If you want")[0]  # from diffusers' advice for its own callers
        raise DktError(
            f"{folder} cannot be read ({reason}); copy or convert the checkpoint again"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """Names the checkpoint whose parts do not fit each other."""
    try:
        with _readable(folder / VAE_DIR):  # its statistics are first used here
            yield
    except DktError as error:
        if str(folder) in str(error):
            raise
        raise DktError(f"{folder}: {error}") from error


def _check_names(folder: Path, **found: Collection[str]) -> None:
    """found: names of weights by what is wrong with them."""
    for kind, keys in found.items():
        if names := sorted(keys):
            raise DktError(
                f"{folder}: {counted(len(names), f'{kind} key')}, the first is {names[0]}; "
                "the weights do not fit config.json, convert the checkpoint again"
            )


def _read_part(cls: Any, folder: Path, dtype: torch.dtype) -> Any:
    """One diffusers model, complete and undamaged, or a DktError."""
    stored_weights(folder)
    with _readable(folder):
        model, loading = cls.from_pretrained(
            folder,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    for kind in ("missing", "unexpected", "mismatched"):
        _check_names(folder, **{kind: [str(name) for name in loading.get(f"{kind}_keys") or ()]})
    check_learned(folder, model.state_dict())
    return model.eval().requires_grad_(False)


def read_prompt(file: Path) -> torch.Tensor:
    """The stored prompt embedding (L, text_dim); DktError where the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from dkt_ros.model.weights import not_fetched

    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise not_fetched(file) or DktError(
            f"{file} cannot be read ({error}); convert the checkpoint again"
        ) from error
    if set(tensors) != {PROMPT_KEY}:
        raise DktError(f"{file} holds {sorted(tensors)}, expected one tensor {PROMPT_KEY}")
    prompt = tensors[PROMPT_KEY]
    prompt = prompt[0] if prompt.dim() == 3 and len(prompt) == 1 else prompt
    known = prompt.is_floating_point() and prompt.element_size() > 1  # in 8 bits none computes
    if prompt.dim() != 2 or not prompt.numel() or not known or not prompt.isfinite().all():
        raise DktError(
            f"{file} holds {str(prompt.dtype).removeprefix('torch.')} of shape "
            f"{tuple(prompt.shape)}, expected finite floats (tokens, values); convert the "
            "checkpoint again"
        )
    return prompt
