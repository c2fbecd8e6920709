"""Weight files: shards, what writing them takes, and files that are cut, wrong or hostile."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import struct
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from dkt_ros.errors import DktError
from dkt_ros.model import weights as weights_module
from dkt_ros.model.weights import Weights, file_bytes, open_weights, write_sharded

MIB = 2**20


def test_shards_stay_under_the_limit_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "SHARD_BYTES", 1000)
    tensors = {f"w{n:02d}": n + torch.rand(n + 1, 20) for n in range(20)}
    write_sharded(Weights.from_tensors(tensors, "test"), tmp_path, "model")
    shards = sorted(tmp_path.glob("*-of-*.safetensors"))
    assert len(shards) > 5
    for shard in shards:
        held = load_file(shard)
        assert len(held) == 1 or sum(value.nbytes for value in held.values()) <= 1000
    read = open_weights(tmp_path / "model.safetensors.index.json")
    assert sorted(read.shapes) == sorted(tensors)
    assert all(torch.equal(read.read(key), value) for key, value in tensors.items())


def test_a_file_with_several_texts_is_the_same_each_time(tmp_path: Path) -> None:
    texts = {"format": "pt", "condition": "Grüße", "note": 'a "b"', "key": "0"}
    tensors = {"b": torch.arange(3), "a": torch.ones(2, 2).half()}
    assert len({save(tensors, texts) for _ in range(20)}) > 1  # or the header need not be remade
    found = {
        file_bytes(tensors, dict(sorted(texts.items(), reverse=odd))) for odd in [False, True] * 9
    }
    assert len(found) == 1
    file = tmp_path / "a.safetensors"
    file.write_bytes(found.pop())
    read = load_file(file)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == texts


def test_one_small_file_has_no_index(tmp_path: Path) -> None:
    write_sharded(Weights.from_tensors({"w": torch.ones(3)}, "test"), tmp_path, "model")
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, value: float) -> None:
    tensors = {"a": torch.full((9,), 65504.0, dtype=torch.float16), "b": torch.tensor([value])}
    with pytest.raises(DktError, match="test: b holds values that are not finite"):
        write_sharded(Weights.from_tensors(tensors, "test"), tmp_path, "model")
    assert list(tmp_path.iterdir()) == []
    write_sharded(Weights.from_tensors({"a": tensors["a"]}, "test"), tmp_path, "model")


def test_writing_takes_the_memory_of_one_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resident() -> float:
        """Memory of this process that no file stands behind, in MiB, without what malloc holds."""
        ctypes.CDLL(None).malloc_trim(0)
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

    seen = []

    def watched(*args: Any, **kwargs: Any) -> None:
        save_file(*args, **kwargs)
        seen.append(resident())

    monkeypatch.setattr(weights_module, "SHARD_BYTES", 64 * MIB)
    monkeypatch.setattr(weights_module, "save_file", watched)
    size = 16 * MIB // 4
    weights = replace(
        Weights.from_tensors({f"w{n}": torch.empty(size, device="meta") for n in range(16)}, "x"),
        read=lambda name: torch.ones(size),
    )
    # What earlier tests freed would be taken again without being seen.
    gc.collect()
    before = resident()
    write_sharded(weights, tmp_path, "model")
    assert len(seen) == 4
    assert 32 < max(seen) - before < 96  # MiB; all of it would be 256


def header(text: str, length: int | None = None) -> bytes:
    """A safetensors file of nothing but a header."""
    return struct.pack("<Q", len(text) if length is None else length) + text.encode()


GOOD = save({"blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 8)})
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no readable safetensors"),
        (GOOD[:4], "no readable safetensors"),
        (GOOD[:-8], "no readable safetensors"),
        (header("{}", 2**62), "no readable safetensors"),
        (header("{}", 200_000_000), "no readable safetensors"),
        (header("no json"), "no readable safetensors"),
        (header(json.dumps({"x": {**ENTRY, "dtype": "F99"}})) + bytes(8), "no readable safetens"),
        (header(json.dumps({"x": {**ENTRY, "shape": [2**40, 2**40]}})) + bytes(8), "no readable"),
        (header(json.dumps({"x": {**ENTRY, "data_offsets": [0, 800]}})) + bytes(8), "no readable"),
        (header(json.dumps({"x": {**ENTRY, "dtype": "I32"}})) + bytes(8), "x is stored as I32"),
        (header(json.dumps({"x": {**ENTRY, "dtype": "F8_E4M3", "shape": [8]}})) + bytes(8),
         "x is stored as F8_E4M3"),
        (b"<!DOCTYPE html><title>Sign in</title>" + bytes(99), "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("folder", r"holds no \.safetensors"),
    ],
    ids=[
        "empty", "length-cut", "cut", "giant", "beyond-the-end", "no-json", "dtype", "overflow",
        "offsets", "integers", "fp8", "web-page", "lfs", "folder",
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, content: bytes | str, says: str) -> None:
    file = tmp_path / "lora.safetensors"
    if isinstance(content, str):
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(DktError, match=says) as caught:
        open_weights(file)
    assert "lora.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_the_other_kind_is_told(tmp_path: Path, old: bool) -> None:
    """As whoever renames one does, for a program that takes no other ending."""
    pickled, plain = tmp_path / "lora.safetensors", tmp_path / "lora.bin"
    torch.save({"w": torch.ones(2)}, pickled, _use_new_zipfile_serialization=not old)
    save_file({"w": torch.ones(2)}, plain)
    with pytest.raises(DktError, match=r"is a PyTorch file under another name; call it lora\.pth"):
        open_weights(pickled)
    with pytest.raises(DktError, match=r"a safetensors file .*; call it lora\.safetensors"):
        open_weights(plain)


def test_a_header_of_a_length_as_pickles_begin_is_none_of_theirs(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(640)
    file.write_bytes(len(header).to_bytes(8, "little") + header)  # without its data
    assert file.read_bytes().startswith(b"\x80\x02")
    with pytest.raises(DktError, match=r"no readable safetensors file .*; fetch it again"):
        open_weights(file)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: {"state_dict": {"w": torch.ones(2, dtype=torch.int64)}}, "type torch.int64"),
        (lambda: {"state_dict": {}}, "holds no tensors|expected tensors by name"),
        (lambda: {"state_dict": {"w": "text"}}, "'w' is a str"),
        (
            lambda: {"w": torch.ones(2).to(torch.float8_e4m3fn)},
            "float8_e4m3fn, expected one of F32",
        ),
        (
            lambda: {"w": torch.ones(2).to_sparse()},
            "w is stored as torch.sparse_coo, expected a de",
        ),
        (lambda: {"w": torch.ones(2, device="meta")}, "w has no values, expected a dense tensor"),
    ],
)
def test_a_bad_pytorch_file_is_refused(
    tmp_path: Path, make: Callable[[], object], says: str
) -> None:
    torch.save(make(), tmp_path / "w.pt")
    with pytest.raises(DktError, match=says):
        open_weights(tmp_path / "w.pt")


def test_a_folder_s_files_hold_each_weight_once_and_all_headers_count(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "one.safetensors", {"lora_alpha": "4"})
    save_file({"b": torch.ones(1)}, tmp_path / "two.safetensors", {"rank": "2"})
    read = open_weights(tmp_path)
    assert (sorted(read.shapes), read.metadata) == (["a", "b"], {"lora_alpha": "4", "rank": "2"})
    save_file({"b": torch.zeros(1)}, tmp_path / "three.safetensors")  # such as a later step's
    with pytest.raises(DktError, match=r"two\.safetensors holds b, which another shard of"):
        open_weights(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"holds no \.safetensors"):
        open_weights(tmp_path)


def test_what_is_missing_of_a_folder_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "w-00001-of-00003.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "w-00003-of-00003.safetensors")
    with pytest.raises(DktError, match=r"lacks w-00002-of-00003\.safetensors; fetch it too"):
        open_weights(tmp_path)
    state = tmp_path / "deepspeed"
    state.mkdir()
    (state / "zero_to_fp32.py").touch()
    with pytest.raises(DktError, match=r"holds no \.safetensors files; make one .* zero_to_fp32"):
        open_weights(state)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../outside.safetensors", r"names \.\./outside\S+, expected a file in its own folder"),
        ("{parent}/outside.safetensors", "expected a file in its own folder"),
        ("below/none.safetensors", r"names below/none\.safetensors, which is missing"),
    ],
)
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, name: str, says: str) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name.format(parent=tmp_path)}}))
    with pytest.raises(DktError, match=says):
        open_weights(index)


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    for text in ("", "[]", '{"weight_map": []}', "[" * 100_000):
        index.write_text(text)
        with pytest.raises(DktError, match="is no index of weight shards"):
            open_weights(index)


@pytest.mark.parametrize("name", ["model", "module", "lora", "state_dict"])
def test_the_weights_of_a_trainer_s_state_are_found(tmp_path: Path, name: str) -> None:
    weights = {"a": torch.ones(2)}
    others: dict[str, Any] = {
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}
    }
    others |= {"step": 3, "rng": {"cpu": torch.ones(8, dtype=torch.uint8)}}
    torch.save({name: weights, **others}, tmp_path / "w.pt")
    assert torch.equal(open_weights(tmp_path / "w.pt").read("a"), weights["a"])
    if name != "state_dict":
        torch.save({name: weights, "ema": weights, **others}, tmp_path / "w.pt")
        with pytest.raises(DktError, match=f"several sets of weights, {name}, ema; save the one"):
            open_weights(tmp_path / "w.pt")


def test_a_pointer_in_the_place_of_a_pickle_is_named(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (tmp_path / "w.pth").write_text(text)
    with pytest.raises(DktError, match="is a Git LFS pointer to the weights; run `git lfs pull`"):
        open_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_of_another_user_is_told(name: str) -> None:
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        file = Path(folder) / name
        file.touch(mode=0)
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(DktError, match=rf"{name} may not be read by this user"):
                open_weights(file)
        finally:
            if root:
                os.seteuid(0)
