"""Nothing is done twice, and half an engine is never taken for a whole one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.manifests import HERE, MANIFEST
from fixtures.manifests import REQUEST as ASKED

from dkt_ros.errors import DktError
from dkt_ros.files import sha256
from dkt_ros.model.compiled.build import update_graphs, update_plans
from dkt_ros.model.compiled.manifest import GraphSpec, Manifest, System
from dkt_ros.model.compiled.request import EngineRequest, differences
from dkt_ros.model.info import CheckpointInfo

NAMES = ("encoder_first", "decoder_first", "step")
REQUEST = replace(ASKED, precision="bf16")


class Workshop:
    """Exports and builds files that hold their names, and keeps count."""

    def __init__(self) -> None:
        self.exported = 0
        self.built: list[str] = []
        self.said: list[str] = []
        self.fail_at: str | None = None

    def export(self, request: EngineRequest, folder: Path) -> Manifest:
        self.exported += 1
        assert not list(folder.iterdir())
        for name in NAMES:
            (folder / f"{name}.onnx").write_text(name)
        (folder / "weights.bin").write_text("weights")
        for name in ("constants", "checks"):
            (folder / f"{name}.safetensors").write_text(name)
        manifest = Manifest(
            system=None,
            checkpoint=request.fingerprint,
            info=CheckpointInfo(name="tiny"),
            size=request.size,
            windows=request.windows,
            precision=request.precision or "",
            steps=request.steps,
            latent_channels=16,
            spatial_ratio=8,
            patch=(1, 2, 2),
            head_dim=12,
            graphs=tuple(
                GraphSpec(name, f"{name.partition('_T')[0]}.onnx", None, (), ())
                for name in (*NAMES[:2], "step_T1", "step_T4")
            ),
            calibration=request.calibration,
            files={file.name: sha256(file) for file in folder.iterdir()},
        )
        manifest.write(folder)
        return manifest

    def build(self, graph: Path, plan: Path, profiles: Sequence[GraphSpec]) -> str:
        assert len(profiles) == (2 if graph.stem == "step" else 1)
        if graph.stem == self.fail_at:
            raise KeyboardInterrupt
        self.built.append(graph.stem)
        plan.write_text(f"plan of {graph.stem}")
        return hashlib.sha256(plan.read_bytes()).hexdigest()

    def run(self, folder: Path, request: EngineRequest = REQUEST, system: System = HERE) -> None:
        """As `dkt engine build` does."""
        manifest = update_graphs(folder, request, self.export, self.said.append)
        manifest = update_plans(folder, manifest, system, self.build, self.said.append)
        assert Manifest.read(folder) == manifest
        assert differences(manifest, request, system) == []


def test_a_second_build_does_nothing_and_says_so(tmp_path: Path) -> None:
    shop, folder = Workshop(), tmp_path / "new" / "engine"
    shop.run(folder)
    assert (shop.exported, tuple(shop.built), shop.said) == (1, NAMES, [])
    shop.run(folder)
    assert (shop.exported, tuple(shop.built)) == (1, NAMES)
    assert len(shop.said) == 2
    assert all("up to date" in line for line in shop.said)


def test_another_request_starts_anew(tmp_path: Path) -> None:
    shop, folder = Workshop(), tmp_path / "engine"
    shop.run(folder)
    shop.run(folder, replace(REQUEST, size=(64, 96)))
    assert shop.exported == 2
    assert tuple(shop.built) == NAMES * 2


def test_what_lies_beside_an_engine_stays(tmp_path: Path) -> None:
    shop = Workshop()
    shop.run(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    made: list[set[str]] = []

    def make(request: EngineRequest, folder: Path) -> Manifest:
        made.append({file.name for file in folder.iterdir()})
        return MANIFEST

    assert update_graphs(tmp_path, replace(REQUEST, steps=3), make, shop.said.append) == MANIFEST
    assert made == [{"notes.txt"}]


def test_another_calibration_clip_starts_anew(tmp_path: Path) -> None:
    shop, folder = Workshop(), tmp_path / "engine"
    first = replace(REQUEST, precision="fp8", calibration="b" * 64)
    shop.run(folder, first)
    shop.run(folder, first)
    assert shop.exported == 1
    shop.run(folder, replace(first, calibration="c" * 64))
    assert shop.exported == 2


@pytest.mark.parametrize("name", [f"{NAMES[0]}.onnx", "weights.bin", "checks.safetensors"])
@pytest.mark.parametrize("content", ["something else", None])
def test_a_file_that_was_changed_or_lost_is_exported_again(
    tmp_path: Path, name: str, content: str | None
) -> None:
    shop, folder = Workshop(), tmp_path / "engine"
    shop.run(folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    shop.run(folder)
    assert shop.exported == 2


def test_another_system_needs_plans_of_its_own_only(tmp_path: Path) -> None:
    shop, folder = Workshop(), tmp_path / "engine"
    shop.run(folder)
    shop.run(folder, system=replace(HERE, tensorrt="11.0.0"))
    assert shop.exported == 1
    assert tuple(shop.built) == NAMES * 2


def test_an_interrupted_build_goes_on_where_it_was(tmp_path: Path) -> None:
    shop, folder = Workshop(), tmp_path / "engine"
    shop.fail_at = NAMES[1]
    with pytest.raises(KeyboardInterrupt):
        shop.run(folder)
    assert "no plans of decoder_first, step_T1, step_T4" in " ".join(
        differences(Manifest.read(folder), REQUEST, HERE)
    )
    shop.fail_at = None
    shop.run(folder)
    assert shop.exported == 1
    assert tuple(shop.built) == NAMES


def test_a_plan_that_was_changed_is_built_again(tmp_path: Path) -> None:
    shop, folder = Workshop(), tmp_path / "engine"
    shop.run(folder)
    (folder / f"{NAMES[2]}.plan").write_text("something else")
    shop.run(folder)
    assert shop.built == [*NAMES, NAMES[2]]


def test_an_export_that_fails_leaves_no_manifest(tmp_path: Path) -> None:
    shop, folder = Workshop(), tmp_path / "engine"
    shop.run(folder)

    def fail(request: EngineRequest, folder: Path) -> Manifest:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_graphs(folder, replace(REQUEST, steps=3), fail, shop.said.append)
    assert not (folder / "engine.json").exists()
    assert not list(folder.glob("*.plan"))


@pytest.mark.parametrize("name", ["mine.onnx", "mine.plan", "notes.txt"])
def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, name: str) -> None:
    shop = Workshop()
    for file in (name, "weights.bin"):
        (tmp_path / file).write_text("mine")
    with pytest.raises(DktError, match=f"holds {name}, which is no part of an engine; name a new"):
        update_graphs(tmp_path, REQUEST, shop.export, shop.said.append)
    assert {file.read_text() for file in tmp_path.iterdir()} == {"mine"}
    (tmp_path / name).unlink()
    (tmp_path / "engine.json.partial").write_text("half")  # as a kill leaves it
    (tmp_path / ".gitignore").write_text("*")
    with pytest.raises(AssertionError):  # the workshop wants nothing there
        update_graphs(tmp_path, REQUEST, shop.export, shop.said.append)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DktError, match="file is a file, not a folder"):
        update_graphs(tmp_path / "file", REQUEST, shop.export, shop.said.append)
