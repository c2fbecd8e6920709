"""A checkpoint folder with other weights in its transformer: a LoRA merged, or weights trained on.

Knows checkpoint folders and lazy weights. Knows nothing of training.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from dkt_ros.errors import DktError
from dkt_ros.files import PARTIAL, only_process, sha256, shown
from dkt_ros.model.checkpoint import (
    PROMPT_FILE,
    TRANSFORMER_DIR,
    VAE_DIR,
    WEIGHTS_STEM,
    checked_folder,
    empty_network,
    finish_checkpoint,
    stored_weights,
)
from dkt_ros.model.info import INFO_FILE, CheckpointInfo
from dkt_ros.model.lora import describe, info_after, match_lora, merge_lora, open_lora
from dkt_ros.model.weights import Weights, write_sharded
from dkt_ros.progress import Report, no_report

_PARTS = (TRANSFORMER_DIR, VAE_DIR)
_OURS = re.compile(rf"config\.json$|{WEIGHTS_STEM}")
_LORA = "lora/"
"""Before a file in `sources`; once `base/` more for every LoRA that came after."""


def transformer_weights(checkpoint: Path) -> Weights:
    """The transformer's weights of a checkpoint folder, by diffusers' names, still unread.

    Raises DktError where the folder is no whole checkpoint.
    """
    return stored_weights(checked_folder(checkpoint) / TRANSFORMER_DIR)


def merge_into_checkpoint(
    base: Path,
    lora: Path,
    output: Path,
    scale: float | None = None,
    report: Report = no_report,
) -> CheckpointInfo:
    """Writes the checkpoint `base` with the LoRA of a file (or peft folder) added to its weights.

    scale: multiplies what the LoRA says of itself, see match_lora. report: told what is merged.
    Raises DktError naming what does not fit, of the checkpoint's own files too; nothing is written
    then.
    """
    base = checked_folder(base)
    empty_network(base)  # what is damaged in it would be copied
    known = CheckpointInfo.read(base)
    adapter = open_lora(lora)
    added = {f"{_LORA}{file.name}": sha256(file) for file in adapter.files}
    before = {key: digest for key, digest in known.sources.items() if _LORA in key}
    if again := [key for key, digest in before.items() if digest in added.values()]:
        raise DktError(
            f"{lora} is merged into {base} already: its {INFO_FILE} names it as {again[0]}; take "
            "the checkpoint that was before, and --lora-scale for more or less of it"
        )
    info = dataclasses.replace(
        info_after(adapter, transformer_weights(base), known),
        name=output.resolve().name,
        origin=f"{known.name} with a LoRA merged by dkt convert",
        sources={
            **{f"base/{file.name}": sha256(file) for file in transformer_weights(base).files},
            **{f"base/{key}": digest for key, digest in before.items()},
            **added,
        },
    )
    write_with(base, with_lora(base, adapter, scale, report), output, info)
    return info


def with_lora(
    base: Path,
    lora: Weights,
    scale: float | None = None,
    report: Report = no_report,
) -> Weights:
    """The transformer's weights of the checkpoint `base`, W + scale B A where the LoRA says so."""
    targets = transformer_weights(base)
    pairs = match_lora(lora, targets, scale)
    report(describe(lora, pairs))
    return merge_lora(targets, lora, pairs)


def write_with(base: Path, transformer: Weights, output: Path, info: CheckpointInfo) -> None:
    """Writes `output`: VAE, prompt and configuration of `base`, the given transformer and `info`.

    A checkpoint that lies there is replaced once the new one is whole. Raises DktError where
    nothing can be written, or `output` is `base`.
    """
    base = checked_folder(base)
    if output.resolve() == base.resolve():
        raise DktError(f"output {output} is the checkpoint itself; name another folder")
    with new_checkpoint(output) as folder:
        (folder / TRANSFORMER_DIR).mkdir()
        shutil.copyfile(
            base / TRANSFORMER_DIR / "config.json", folder / TRANSFORMER_DIR / "config.json"
        )
        write_sharded(transformer, folder / TRANSFORMER_DIR, WEIGHTS_STEM)
        (folder / VAE_DIR).mkdir()
        for file in sorted(f for f in shown(base / VAE_DIR) if f.is_file()):
            shutil.copyfile(file, folder / VAE_DIR / file.name)
        shutil.copyfile(base / PROMPT_FILE, folder / PROMPT_FILE)
        finish_checkpoint(folder, info)


def check_output(output: Path) -> None:
    """Raises DktError where no checkpoint can lie, and where one would spoil what lies there."""
    if output.exists() and not output.is_dir():
        raise DktError(f"output {output} is a file, expected a folder")
    for folder in (output.resolve(), *output.resolve().parents):
        if folder.name in _PARTS and (folder.parent / INFO_FILE).is_file():
            raise DktError(
                f"output {output} is in a part of the checkpoint {folder.parent}; name a folder "
                "beside it"
            )
    others = [
        *shown(output, "model_index.json"),  # diffusers', whose parts are called the same
        *(
            file
            for name in _PARTS
            for file in shown(output / name, "*")
            if not _OURS.match(file.name)
        ),
    ]
    if others:
        raise DktError(
            f"output {output} is no folder of a checkpoint alone, for it holds {others[0]}, beside "
            "which or in whose place one would be written; name another folder"
        )


@contextmanager
def new_checkpoint(output: Path) -> Iterator[Path]:
    """An empty folder; what it is filled with takes the place of the checkpoint in `output`.

    What a process that was killed left there goes, and a folder that stays empty. Raises DktError
    where nothing can be written.
    """
    check_output(output)
    folder = output / PARTIAL
    busy = f"another process writes a checkpoint to {output}; wait for it"
    try:
        with only_process(output / f"{PARTIAL}.lock", busy):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
                _move_into_place(folder, output)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise DktError(f"the checkpoint cannot be written to {output}: {error}") from error
    finally:
        with suppress(OSError):  # it stays empty where nothing could be written
            output.rmdir()


def _move_into_place(folder: Path, output: Path) -> None:
    """Moves a whole new checkpoint into place; `dkt.json` goes first and comes back last."""
    (output / INFO_FILE).unlink(missing_ok=True)
    for part in (output / name for name in _PARTS):
        if part.is_symlink():  # what it points to is another's
            part.unlink()
        shutil.rmtree(part, ignore_errors=True)
    for name in (*_PARTS, PROMPT_FILE, INFO_FILE):
        (folder / name).replace(output / name)
