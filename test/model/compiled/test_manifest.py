"""engine.json is read as it was written, and what is wrong with it is named."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.manifests import GRAPH, MANIFEST

from dkt_ros.errors import DktError
from dkt_ros.files import sha256
from dkt_ros.model.compiled.manifest import Manifest, TensorSpec, require_unchanged


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    assert Manifest.read(tmp_path) == MANIFEST
    assert [file.name for file in tmp_path.iterdir()] == ["engine.json"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 1}, "format_version is 1"),
        ({"precision": "int8"}, "int8"),
        ({"size": [0, 48]}, "positive integers"),
        ({"steps": -1}, r"\[-1\] is no list of positive integers"),
        ({"head_dim": "8"}, "positive integers"),
        ({"steps": True}, "positive integers"),
        ({"size": [32, 48, 3]}, "no list of 2 positive integers"),
        (
            {
                "graphs": [
                    dataclasses.asdict(replace(GRAPH, inputs=(TensorSpec("x", (1,), "int7"),)))
                ]
            },
            "x is of 'int7', expected one of",
        ),
        ({"graphs": [dataclasses.asdict(replace(GRAPH, name="a\nb"))]}, "name is 'a.+b', expected"),
        ({"extra": 1}, "unknown"),
        ({"graphs": [{"name": "x"}]}, "missing"),
        (
            {"graphs": [dataclasses.asdict(replace(GRAPH, plan="../elsewhere.plan"))]},
            "a file in the folder",
        ),
        ({"constants": "/etc/constants"}, "a file in the folder"),
        ({"files": {"../weights.bin": "0"}}, "a file in the folder"),
        ({"files": ["weights.bin"]}, "wrong type"),
    ],
)
def test_a_manifest_that_is_wrong(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DktError, match=words):
        Manifest.from_dict(dataclasses.asdict(MANIFEST) | changes)


def test_a_manifest_that_was_cut_off(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path)
    file = tmp_path / "engine.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(DktError, match=r"engine\.json cannot be read as JSON.*dkt engine build"):
        Manifest.read(tmp_path)


def test_a_folder_without_an_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(DktError, match=r"is missing, so .* holds no engine.*dkt engine build"):
            Manifest.read(folder)


def test_files_that_engine_json_does_not_vouch_for_are_named(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"whose?")
    with pytest.raises(
        DktError, match=r"weights\.bin is none of the files that engine\.json names"
    ):
        require_unchanged(tmp_path, MANIFEST, ["weights.bin"])
    named = replace(MANIFEST, files={"weights.bin": sha256(tmp_path / "weights.bin")})
    require_unchanged(tmp_path, named, ["weights.bin"])
