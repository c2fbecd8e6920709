"""Weight files as lazy, named tensors: opened without reading, written one shard at a time.

Knows safetensors and PyTorch's zip files. Knows nothing of what the tensors mean.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from dkt_ros.errors import DktError
from dkt_ros.files import check_no_pipe, shown
from dkt_ros.learned import Inspection

SHARD_BYTES = 2 * 1024**3
"""Most bytes of one written file, unless a single tensor is larger."""
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
_PICKLED = (".pth", ".pt", ".bin", ".ckpt")
_PICKLES = b"PK\x03\x04", b"\x80\x02"
"""How PyTorch's files begin, of today and of old."""
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
_INTEGERS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16}
"""Of single numbers, such as a LoRA's alpha."""


@dataclass(frozen=True)
class Weights:
    """Named tensors that are read when asked for.

    shapes, dtypes: what `read(name)` will return. origin: where they come from, for messages.
    files: the files behind them, for hashing. metadata: texts in a safetensors file's header, and
    numbers and a LoRA's settings beside the tensors of a PyTorch file.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    read: Callable[[str], torch.Tensor]
    origin: str
    files: tuple[Path, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], origin: str) -> Weights:
        """Wraps tensors that exist already (meta tensors too)."""
        return cls(
            shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
            dtypes={name: tensor.dtype for name, tensor in tensors.items()},
            read=tensors.__getitem__,
            origin=origin,
        )

    def renamed(self, names: Mapping[str, str]) -> Weights:
        """The tensors `names` lists, as {new name: present name}."""
        return replace(
            self,
            shapes={new: self.shapes[old] for new, old in names.items()},
            dtypes={new: self.dtypes[old] for new, old in names.items()},
            read=lambda name: self.read(names[name]),
        )

    def cast(self, dtype: torch.dtype) -> Weights:
        """The same tensors in another type; reading raises DktError where it is too small."""

        def read(name: str) -> torch.Tensor:
            given = self.read(name)
            made = given.to(dtype)
            if not made.is_meta and not made.isfinite().all() and given.isfinite().all():
                raise DktError(
                    f"{self.origin}: {name} holds {float(given.abs().max()):g}, too large for "
                    f"{str(dtype).removeprefix('torch.')}; take bfloat16 or float32"
                )
            return made

        return replace(self, dtypes=dict.fromkeys(self.dtypes, dtype), read=read)


def open_weights(path: Path) -> Weights:
    """Opens a weight file for reading, or several shards of one.

    path: a .safetensors file, the .index.json of a sharded one or a folder of its shards (with its
    index, no other file of that folder counts); or a PyTorch .pth, .pt, .bin or .ckpt, of which
    nothing but tensors is unpickled.
    Raises DktError naming the file that is missing, damaged or not allowed.
    """
    if not path.exists():
        raise DktError(f"{path} does not exist")
    check_no_pipe(path)
    if path.is_dir():
        indexes = shown(path, "*.safetensors.index.json")
        shards = _indexed_shards(indexes[0]) if len(indexes) == 1 else _shards_in(path)
    elif path.name.endswith(".index.json"):
        shards = _indexed_shards(path)
    elif path.suffix in (".safetensors", ".sft", *_PICKLED):
        shards = [path]
    else:
        raise DktError(f"{path} is no weight file, expected .safetensors or .pth")
    if shards and shards[0].suffix in _PICKLED:
        return _open_pickled(path, shards)
    return _open_safetensors(path, shards)


def write_sharded(weights: Weights, folder: Path, stem: str) -> None:
    """Writes `stem`.safetensors, or numbered shards and their index, as diffusers reads them.

    Takes the memory of one file; pages of the sources, which are mapped, come on top, and the
    system takes them back when it needs them. Raises DktError for what nothing can have learned.
    """
    split = split_torch_state_dict_into_shards(
        {
            key: torch.empty(shape, dtype=weights.dtypes[key], device="meta")
            for key, shape in weights.shapes.items()
        },
        filename_pattern=f"{stem}{{suffix}}.safetensors",
        max_shard_size=SHARD_BYTES,
    )
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2) + "\n"
        (folder / f"{stem}.safetensors.index.json").write_text(text, encoding="utf-8")
    inspection = Inspection(weights.origin)
    for name, keys in split.filename_to_tensors.items():
        _write_shard(weights, keys, folder / name, inspection)
    inspection.judge()


def file_bytes(tensors: dict[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file that is the same in every process.

    safetensors orders several texts of a header anew in each, by a hash of its own.
    """
    content = save(tensors, dict(metadata))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]


def _write_shard(weights: Weights, keys: list[str], file: Path, inspection: Inspection) -> None:
    # A function of its own, so that one shard is gone from memory before the next is read.
    tensors = {key: weights.read(key).contiguous() for key in keys}
    for key, tensor in tensors.items():
        inspection.see(key, tensor)
    save_file(tensors, file, metadata={"format": "pt"})


def _indexed_shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DktError(f"{index} is no index of weight shards: {error!r:.200}") from error
    for name in sorted(map(str, names)):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DktError(f"{index} names {name}, expected a file in its own folder")
        if not (index.parent / name).is_file():
            raise DktError(f"{index} names {name}, which is missing; fetch it too")
    return [index.parent / name for name in sorted(map(str, names))]


def _shards_in(folder: Path) -> list[Path]:
    """The shards of a folder without an index, as far as their names tell none too few."""
    shards = sorted(shown(folder, "*.safetensors"))
    if not shards:
        advice = "; make one file of a DeepSpeed state by the zero_to_fp32.py in it"
        state = (folder / "zero_to_fp32.py").is_file()
        raise DktError(f"{folder} holds no .safetensors files{advice if state else ''}")
    for shard in shards:
        if match := _SHARD.fullmatch(shard.stem):
            stem, _, count = match.groups()
            for number in range(1, int(count) + 1):
                file = folder / f"{stem}-{number:05d}-of-{count}.safetensors"
                if not file.is_file():
                    raise DktError(f"{folder} lacks {file.name}; fetch it too")
    return shards


def _open_pickled(path: Path, shards: list[Path]) -> Weights:
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        loaded, beside = _load_pickled(shard)
        metadata |= beside
        if twice := tensors.keys() & loaded.keys():
            raise DktError(f"{shard} holds {min(twice)}, which another shard of {path} holds too")
        tensors |= loaded
    opened = Weights.from_tensors(tensors, str(path))
    return replace(opened, files=tuple(shards), metadata=metadata)


def _open_safetensors(path: Path, shards: list[Path]) -> Weights:
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, torch.dtype] = {}
    readers: dict[str, Callable[[str], torch.Tensor]] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        try:
            handle = safe_open(shard, framework="pt")
        except (OSError, SafetensorError) as error:
            raise _unreadable(shard, "safetensors file", error) from error
        metadata |= handle.metadata() or {}
        for key in handle.keys():  # noqa: SIM118 - the handle is no mapping
            if key in shapes:
                raise DktError(f"{shard} holds {key}, which another shard of {path} holds too")
            part = handle.get_slice(key)
            shapes[key] = tuple(part.get_shape())
            dtypes[key] = _type(part.get_dtype(), math.prod(shapes[key]), key, shard)
            readers[key] = handle.get_tensor
    return Weights(
        shapes, dtypes, lambda key: readers[key](key), str(path), tuple(shards), metadata
    )


def _unreadable(file: Path, kind: str, error: Exception) -> DktError:
    """What a file is that its library cannot read."""
    reason = (str(error).splitlines() or [repr(error)])[0]
    return not_fetched(file) or DktError(f"{file} is no readable {kind} ({reason}); fetch it again")


def not_fetched(file: Path) -> DktError | None:
    """What stands in the place of weights as they are called, None where nothing known does."""
    begin = b""
    try:
        with file.open("rb") as stream:
            begin = stream.read(64)
    except PermissionError:  # which safetensors takes for a file that is not there
        return DktError(f"{file} may not be read by this user; change its owner or mode")
    except OSError:
        pass
    start = begin.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return DktError(f"{file} is a Git LFS pointer to the weights; run `git lfs pull`")
    if start.startswith((b"<!doctype", b"<html")):
        return DktError(f"{file} is a web page, not weights; log in and fetch it again")
    is_pickled = file.suffix in _PICKLED
    if begin[8:9] == b"{":  # after its header's length, which may be any bytes
        other = f"{file} is a safetensors file under another name; call it {file.stem}.safetensors"
        return DktError(other) if is_pickled else None
    if begin.startswith(_PICKLES) and not is_pickled:
        return DktError(f"{file} is a PyTorch file under another name; call it {file.stem}.pth")
    return None


def _type(name: str, count: int, key: str, file: Path) -> torch.dtype:
    if count == 1 and name in _INTEGERS:
        return _INTEGERS[name]
    if name not in _FLOATS:
        raise _no_type(file, key, name)
    return _FLOATS[name]


def _no_type(file: Path, key: str, name: str) -> DktError:
    return DktError(
        f"{file}: {key} is stored as {name}, expected one of {', '.join(_FLOATS)}; "
        "quantised weights cannot be converted, take those before"
    )


def _load_pickled(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a PyTorch file, memory-mapped where its format allows, and its metadata."""
    try:
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise not_fetched(path) or DktError(
            f"{path} is no plain file of tensors and is not loaded: it is damaged or would run "
            "code; fetch it again from where it was published, or save its tensors alone"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, "PyTorch file", error) from error
    beside: dict[str, str] = {}
    if isinstance(loaded, dict):
        beside = {str(k): str(v) for k, v in loaded.items() if isinstance(v, (int, float))}
        settings = [(k, v) for k, v in loaded.items() if isinstance(v, dict) and "lora_alpha" in v]
        # As a safetensors file's header has them; what JSON does not know as text.
        beside |= {str(key): json.dumps(value, default=str) for key, value in settings}
        loaded = _within(path, loaded)
    if not isinstance(loaded, dict) or not loaded:
        raise DktError(f"{path} holds a {type(loaded).__name__}, expected tensors by name")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise DktError(f"{path}: {key!r} is a {type(value).__name__}, expected a tensor")
        single = value.numel() == 1 and value.dtype in _INTEGERS.values()
        if value.dtype not in _FLOATS.values() and not single:
            raise _no_type(path, key, f"type {value.dtype}")
        if value.layout != torch.strided or value.is_meta:
            kind = "has no values" if value.is_meta else f"is stored as {value.layout}"
            raise DktError(f"{path}: {key} {kind}, expected a dense tensor; save it as one")
    return loaded, beside


def _within(path: Path, loaded: dict[Any, Any]) -> dict[Any, Any]:
    """The tensors of a trainer's state, one level down beside its optimiser and other things."""
    if isinstance(inner := loaded.get("state_dict"), dict):
        return inner
    sets = {
        name: value
        for name, value in loaded.items()
        if isinstance(value, dict)
        and any(isinstance(v, torch.Tensor) and v.is_floating_point() for v in value.values())
    }
    if len(sets) > 1:
        raise DktError(
            f"{path} holds several sets of weights, {', '.join(map(str, sets))}; save the one "
            "that is meant by itself"
        )
    return next(iter(sets.values()), loaded)
