"""`dkt process --ray` on a cluster of two machines, both of them this one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.recorded_frames import labelled_frames
from fixtures.told_network import DIE

from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.cli import main
from dkt_ros.processing.find_sources import Recording, find_recordings
from dkt_ros.processing.many import process_many
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'dkt_ros[ray]'")

from ray.cluster_utils import Cluster

from dkt_ros.processing import on_ray
from dkt_ros.processing.on_ray import RayCluster

pytestmark = pytest.mark.slow
FRAMES = 6


@pytest.fixture(scope="module")
def fatal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it exists, the process that sees it dies at its third frame."""
    return tmp_path_factory.mktemp("ray") / "die"


@pytest.fixture(scope="module")
def cluster(fatal: Path, repo_root: Path) -> Iterator[str]:
    """Address of a cluster of two machines with a CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DIE, str(fatal))
        path = [str(repo_root), str(repo_root / "test"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        made: Any = Cluster()
        for _ in range(2):
            made.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
        yield str(made.address)
        made.shutdown()


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for name in ("a", "b", "c"):
        record(labelled_frames(FRAMES), folder / name, RecordingOptions())
    return folder


def entries(output: Path) -> dict[str, dict[str, Any]]:
    return dict(json.loads((output / "manifest.json").read_text())["recordings"])


def test_a_killed_worker_is_replaced_where_it_came_to(
    cluster: str, fatal: Path, bags: Path, tmp_path: Path, told: ProcessOptions
) -> None:
    fatal.touch()
    output, options = tmp_path / "out", replace(told, part_frames=1)
    recordings = find_recordings([bags], told.source)
    seen: dict[str, int] = {}
    results = process_many(
        recordings,
        options,
        output,
        progress=lambda name, done, total: seen.update({name: done}),
        cluster=RayCluster(cluster),
    )
    assert not fatal.exists()  # one did die
    assert [result.outcome for result in results] == [Outcome.DONE] * 3
    assert sorted(result.summary["resumed_at_frame"] or 0 for result in results) == [0, 0, 2]
    assert {entry["answered"] for entry in entries(output).values()} == {FRAMES}
    assert set(seen) == {"a", "b", "c"}
    # The same as without a cluster.
    alone = process_many(recordings, options, tmp_path / "alone")
    for one, other in zip(results, alone, strict=True):
        assert one.recording == other.recording
        assert one.summary["states"] == other.summary["states"]


def test_a_recording_that_kills_every_worker_keeps_no_other_from_being_done(
    cluster: str, fatal: Path, bags: Path, tmp_path: Path, told: ProcessOptions
) -> None:
    """Then what is missing alone is done again."""
    fatal.touch()
    output = tmp_path / "out"
    recordings = find_recordings([bags], told.source)
    run = RayCluster(cluster)
    results = process_many(recordings, told, output, cluster=run, tries=1)
    (died,) = [result for result in results if not result.outcome.succeeded]
    assert died.outcome is Outcome.WORKER_DIED
    assert "its process died once" in died.error
    assert "its process died once" in entries(output)[died.recording.name]["error"]
    again = process_many(recordings, told, output, cluster=run, tries=1)
    assert {result.outcome for result in again} == {Outcome.DONE}
    fresh = [r.recording.name for r in again if not r.summary.get("already_there")]
    assert fresh == [died.recording.name]


def test_the_command(
    cluster: str,
    bags: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Relative paths; one that is no recording; a share of a GPU, which this cluster lacks."""
    (bags / "c.bag").write_text("no bag")
    shutil.rmtree(bags / "b")
    monkeypatch.chdir(tmp_path)
    command = ["process", "in", "--output", "out", "--predictor", "fixtures.told_network:load"]
    assert main([*command, "--ray", cluster]) == 1
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert (line["succeeded"], line["failed"], line["answered"]) == (2, 1, 2 * FRAMES)
    assert (tmp_path / "out" / "a" / "bag" / "metadata.yaml").exists()
    assert main([*command, "--ray", cluster, "--device", "cuda"]) == 2
    assert "--ray-gpus" in capsys.readouterr().err
    assert main([*command, "--ray", "127.0.0.1:9"]) == 2
    assert "--ray 127.0.0.1:9: " in capsys.readouterr().err
    for gpus in ("-1", "1.5", "0.00001"):
        assert main([*command, "--ray", cluster, "--ray-gpus", gpus]) == 2
        assert f"--ray-gpus {float(gpus):g}: expected a share of a GPU" in capsys.readouterr().err


@pytest.mark.parametrize(("cpus", "gpus"), [(1, 0.0), (2, 0.0), (1, 0.5)])
def test_what_no_machine_has_is_told(
    cluster: str, cpus: int, gpus: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Two machines with a CPU each are none with two."""
    RayCluster(cluster, gpus)._connect(cpus)
    ray.shutdown()
    said = f"has {cpus} CPUs (--cpu-threads) and {gpus:g} GPUs (--ray-gpus)"
    assert (said in caplog.text) is ((cpus, gpus) != (1, 0.0))


@pytest.mark.parametrize("on_gpu", [False, True])
def test_who_asks_for_no_gpu_sees_none(
    on_gpu: bool, tmp_path: Path, told: ProcessOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(
        on_ray, "one_result", lambda *_words: seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    )
    nobody: Any = None
    on_ray._process(Recording(tmp_path, "a"), told, tmp_path, Path.cwd(), nobody, on_gpu)
    assert seen == ["3" if on_gpu else ""]
