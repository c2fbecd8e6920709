"""Several recordings: the manifest, worker processes, one that dies, the command's last line."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fixtures.recorded_frames import labelled_frames
from fixtures.told_network import DIE

from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.files import only_process
from dkt_ros.processing import many
from dkt_ros.processing.find_sources import Recording, find_recordings
from dkt_ros.processing.many import process_many
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome
from dkt_ros.processing.outputs import read_outputs
from dkt_ros.processing.source import Source, SourceOptions

TOLD = ["--predictor", "fixtures.told_network:load"]


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """Three recordings: two bags, and a file that is none."""
    folder = tmp_path / "in"
    for name in ("a", "b"):
        record(labelled_frames(4), folder / name, RecordingOptions())
    (folder / "c.bag").write_text("no bag")
    return folder


def manifest(output: Path) -> dict[str, dict[str, str]]:
    found = json.loads((output / "manifest.json").read_text())["recordings"]
    assert isinstance(found, dict)
    return found


def test_one_that_fails_does_not_keep_the_others(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["process", str(bags), "--output", str(output), "--workers", "1", *TOLD]
    assert main(command) == 1
    shown = capsys.readouterr()
    line = json.loads(shown.out.strip().splitlines()[-1])
    assert (line["succeeded"], line["failed"], line["answered"], line["exit"]) == (2, 1, 8, 1)
    assert "c: FAILED (not a recording)" in shown.err
    entries = manifest(output)
    assert [entries[name]["outcome"] for name in "abc"] == ["done", "done", "not a recording"]
    assert "c.bag" in entries["c"]["error"]
    # Again: what is missing, alone.
    (bags / "c.bag").unlink()
    record(labelled_frames(2), bags / "c", RecordingOptions())
    shutil.rmtree(output / "b")
    before = (output / "a" / "summary.json").stat().st_mtime_ns
    assert main(command) == 0
    assert (output / "a" / "summary.json").stat().st_mtime_ns == before
    assert {entry["outcome"] for entry in manifest(output).values()} == {"done"}
    assert (output / "b" / "bag" / "metadata.yaml").exists()
    assert "a: there already" in capsys.readouterr().err


def test_exit_codes_of_single_recordings(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "out"), *TOLD]
    assert main(["process", str(bags / "c.bag"), *out]) == Outcome.NOT_A_RECORDING.code == 9
    assert main(["process", str(tmp_path / "absent.bag"), *out]) == 9
    (tmp_path / "empty").mkdir()
    assert main(["process", str(tmp_path / "empty"), *out]) == Outcome.NOT_A_RECORDING.code
    # It does not keep the others from being done.
    both = [str(tmp_path / "empty"), str(bags / "a"), "--workers", "1"]
    assert main(["process", *both, *out]) == 1
    assert main(["process", str(bags / "a"), *out]) == 0
    assert main(["process", str(bags / "a"), *out, "--points"]) == Outcome.OUTPUT_EXISTS.code == 13
    assert "other options (points False, now True)" in capsys.readouterr().err
    # What was not replaced is still there to be looked at.
    assert [output.name for output in read_outputs([tmp_path / "out"]).outputs] == ["a"]
    assert main(["process", str(bags / "a"), *out, "--points", "--overwrite"]) == 0
    for useless in (["--points", "--format", "png"], ["--engine-dir", "x"], ["--ray-gpus", "1"]):
        assert main(["process", str(bags / "a"), *out, *useless]) == 2
    assert main(["process", str(bags / "a"), *out, "--depth=network", "--min-confidence=1"]) == 2
    capsys.readouterr()
    assert main(["process", str(tmp_path / "*.none"), *out]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["exit"] == 2
    assert "nothing matches" in json.loads(shown.out)["error"]
    assert "nothing matches" in shown.err
    assert main(["process", str(bags), *out, "--workers", "2", "--ray", "auto"]) == 2
    assert "--workers: not with --ray" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--intrinsics", "absent.yaml"], "--intrinsics absent.yaml: no such file"),
        (["--checkpoint", "absent"], "checkpoint absent does not exist"),
        (["--backend", "onnxruntime", "--engine-dir", "absent"], "absent holds no engine"),
        (["--refiner", "absent"], "absent/refiner.json cannot be used"),
        (["--predictor", "absent:load"], "predictor absent:load cannot be imported"),
        (["--device", "cuda:99"], "device cuda:99 cannot be used"),
    ],
)
def test_what_is_not_there_is_told_once_before_anything_is_read(
    flags: list[str], told: str, bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["process", str(bags), "--output", str(out), *flags]) == 2
    assert capsys.readouterr().err.count(told) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [
        ("depth_unit_m", (0.0, -1.0, math.inf), "metres above 0"),
        ("rate_hz", (0.0, -1.0, math.inf), "frames a second above 0"),
        ("sync_slop_s", (-0.001, math.inf), "seconds, 0 or more"),
        ("max_gap_s", (0.0, -1.0), "seconds above 0"),
    ],
)
def test_how_a_recording_cannot_be_read_is_told(
    name: str, wrong: tuple[float, ...], expected: str
) -> None:
    for value in wrong:
        with pytest.raises(DktError, match=f"{name} is {value:g}, expected {expected}"):
            SourceOptions(**{name: value})  # type: ignore[arg-type]
    SourceOptions(sync_slop_s=0.0, max_gap_s=math.inf)


def test_a_process_loads_a_network_again_where_it_is_another(
    told: ProcessOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    load: Any = many._estimator
    loads = count(1)
    monkeypatch.setattr(many, "load_estimator", lambda *_: next(loads))
    monkeypatch.setattr(many, "_estimators", {})
    assert [load(replace(told, part_frames=n)) for n in (1, 2)] == [1, 1]
    monkeypatch.setattr(many, "network_state", lambda options: "trained on")
    assert [load(told) for _ in range(2)] == [2, 2]
    monkeypatch.setattr(many, "refiner_state", lambda weights: "trained on")
    assert [load(told) for _ in range(2)] == [3, 3]
    assert load(replace(told, points=True)) == 4
    assert load(told) == 5, "one at a time is in memory"


def test_the_manifest_is_json_as_other_programs_read_it(bags: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    endless = ["--max-gap", "inf", "--max-frames", "1"]
    assert main(["process", str(bags / "a"), "--output", str(output), *endless, *TOLD]) == 0
    json.loads((output / "manifest.json").read_text(), parse_constant=pytest.fail)


def test_the_last_line_is_json_where_it_is_interrupted_too(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dkt_ros.processing.many.one_result", interrupted)
    output = str(tmp_path / "out")
    assert main(["process", str(bags / "a"), "--output", output, *TOLD]) == 130
    told = {"output": output, "error": "interrupted", "exit": 130}
    assert json.loads(capsys.readouterr().out) == told


def test_no_depth_in_any_frame_has_a_status_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(labelled_frames(2), tmp_path / "a", RecordingOptions())
    command = ["process", str(tmp_path / "a"), "--output", str(tmp_path / "out"), *TOLD]
    command += ["--max-depth", "0.2", "--format", "png"]
    for said in ("a: 2 of 2 frames", "a: there already"):  # the second time as well
        assert main(command) == Outcome.NO_DEPTH_MADE.code == 15
        shown = capsys.readouterr()
        assert json.loads(shown.out)["outcomes"] == {"a": "done, but no frame has depth"}
        assert said in shown.err
        assert "2 of 2 frames have no depth at any pixel" in shown.err


def test_a_name_of_two_lines_is_told_in_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(labelled_frames(1), tmp_path / "two\nlines", RecordingOptions())
    out = ["--output", str(tmp_path / "out"), *TOLD]
    assert main(["process", str(tmp_path / "two\nlines"), *out]) == 0
    assert "two lines: 1 of 1 frames" in capsys.readouterr().err


def test_names_of_any_bytes_and_length_are_written_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, long = os.fsdecode(b"caf\xe9"), "l" * 250
    for place in ("a", "b"):
        record(labelled_frames(1), tmp_path / place / odd, RecordingOptions())
    record(labelled_frames(1), tmp_path / "l", RecordingOptions())
    (tmp_path / "l").rename(tmp_path / long)
    recordings = [str(tmp_path / place) for place in ("a", "b", long)]
    out = str(tmp_path / "out")
    assert main(["process", *recordings, "--output", out, "--workers", "1", *TOLD]) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])["outcomes"]
    assert list(made)[:2] == [f"a-{odd}", f"b-{odd}"]
    assert list(made)[2].startswith("l" * 160 + "-")
    assert main(["report", out, "--output", str(tmp_path / "r.html")]) == 0
    assert "a-caf\\udce9" in (tmp_path / "r.html").read_text()
    # As where the locale is one of UTF-8, which lets nothing else out.
    with io.TextIOWrapper(io.BytesIO(), "utf-8") as told, contextlib.redirect_stdout(told):
        assert main(["compare", out, out]) == 0
        told.seek(0)
        assert "| a-caf\\udce9 |" in told.read()


def test_what_nobody_foresaw_ends_one_recording(
    bags: Path, tmp_path: Path, told: ProcessOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Recording.open

    def fail(self: Recording, options: SourceOptions) -> Source:
        if self.name == "a":
            raise ZeroDivisionError("no")
        return opened(self, options)

    monkeypatch.setattr(Recording, "open", fail)
    a, b, _ = process_many(find_recordings([bags], told.source), told, tmp_path / "out")
    assert (a.outcome, b.outcome) == (Outcome.FAILED, Outcome.DONE)
    assert a.error == f"{bags / 'a'}: ZeroDivisionError: no"


def test_overwrite_keeps_the_output_of_a_recording_that_is_gone(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["process", str(bags / "a"), str(bags / "b"), "--output", str(tmp_path / "out")]
    command += [*TOLD, "--workers", "1", "--format", "png"]
    assert main(command) == 0
    shutil.rmtree(bags / "a")
    capsys.readouterr()
    assert main([*command, "--overwrite"]) == 1
    assert "a: FAILED (not a recording)" in capsys.readouterr().err
    found = read_outputs([tmp_path / "out"])
    assert [output.name for output in found.outputs] == ["a", "b"]
    assert found.failed == {}


def test_a_glob_that_gives_the_output_too_goes_on(
    bags: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bags / "c.bag").unlink()
    shutil.copytree(pictures, bags / "pictures")
    output = ["--output", str(bags / "out"), "--workers", "1", *TOLD]
    for _ in range(2):  # the same command goes on
        capsys.readouterr()
        assert main(["process", f"{bags}/*", *output]) == 0
        outcomes = json.loads(capsys.readouterr().out.splitlines()[-1])["outcomes"]
        assert outcomes == dict.fromkeys(("a", "b", "pictures"), "done")
    files = find_recordings([f"{bags}/**/*.mcap"], SourceOptions(), bags / "out")
    assert [file.name for file in files] == ["a", "b"]
    assert main(["process", str(bags / "out"), *output]) == Outcome.NOT_A_RECORDING.code


@pytest.mark.parametrize("summary", [None, "{}", "[1]", '{"outcome": "a success"}', "{"])
def test_overwrite_spares_what_is_no_output(
    bags: Path, capsys: pytest.CaptureFixture[str], summary: str | None
) -> None:
    """An output beside its recording, even in the recording's own place, which may have notes."""
    if summary is not None:
        (bags / "a" / "summary.json").write_text(summary)
    command = ["process", str(bags / "a"), "--output", str(bags), *TOLD, "--overwrite"]
    assert main(command) == Outcome.OUTPUT_EXISTS.code
    assert "is no output of `dkt process`" in capsys.readouterr().err
    with BagReader(bags / "a") as bag:
        assert bag.remarks == []


@pytest.mark.parametrize("content", ['{"name": "an app"}', '{"recordings": [1]}', "no JSON"])
def test_a_manifest_of_something_else_stays(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    file = tmp_path / "out" / "manifest.json"
    file.parent.mkdir()
    file.write_text(content)
    assert main(["process", str(bags / "a"), "--output", str(file.parent), *TOLD]) == 2
    assert "no manifest of `dkt process`" in capsys.readouterr().err
    assert file.read_text() == content
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_an_output_is_of_its_recording_alone(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(labelled_frames(3), tmp_path / "other" / "a", RecordingOptions())
    out = ["--output", str(tmp_path / "out"), *TOLD]
    assert main(["process", str(bags / "a"), *out]) == 0
    assert main(["process", str(tmp_path / "other" / "a"), *out]) == Outcome.OUTPUT_EXISTS.code
    assert "other/a; choose another" in capsys.readouterr().err
    assert main(["process", str(tmp_path / "other" / "a"), *out, "--overwrite"]) == 0
    assert json.loads((tmp_path / "out" / "a" / "summary.json").read_text())["answered"] == 3


def test_threads_of_torch_are_as_many_as_asked_for(
    bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More threads are no other options: what is there is kept."""
    command = ["process", str(bags / "a"), "--output", str(tmp_path / "out"), *TOLD]
    assert main([*command, "--cpu-threads", "3"]) == 0
    summary = json.loads((tmp_path / "out" / "a" / "summary.json").read_text())
    assert summary["options"]["predictor"]["cpu_threads"] == 3
    assert main(command) == 0
    assert "a: there already" in capsys.readouterr().err


def test_a_worker_hears_no_interrupt_before_it_can_answer_one(
    tmp_path: Path, told: ProcessOptions
) -> None:
    worker = many._start(told, tmp_path)
    try:
        told_by_system = Path(f"/proc/{worker.process.pid}/status").read_text()
    finally:
        worker.process.kill()
        worker.process.join()
    blocked = next(line for line in told_by_system.splitlines() if line.startswith("SigBlk:"))
    assert int(blocked.split()[1], 16) >> (signal.SIGINT - 1) & 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_locks_that_kills_left_go_and_held_ones_stay(
    bags: Path, tmp_path: Path, told: ProcessOptions
) -> None:
    recordings = find_recordings([bags / "a", bags / "b"], told.source)
    output = tmp_path / "out"
    process_many(recordings, told, output)
    (output / ".a.lock").touch()  # of one killed when all was done
    with only_process(output / ".b.lock", ""):
        process_many(recordings, told, output)
        assert [path.name for path in output.glob(".*")] == [".b.lock"]


def test_a_worker_that_dies_is_replaced_and_a_recording_that_two_died_of_is_given_up(
    bags: Path, tmp_path: Path, told: ProcessOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time: both that get a are dead before, one dies in b, and another goes on with b."""
    fatal = tmp_path / "die"
    fatal.touch()
    monkeypatch.setenv(DIE, str(fatal))
    started, start = [], many._start

    def start_and_kill_some(options: ProcessOptions, output: Path) -> many._Worker:
        started.append(start(options, output))
        if len(started) in (1, 3):
            started[-1].process.kill()
            started[-1].process.join()
        return started[-1]

    monkeypatch.setattr(many, "_start", start_and_kill_some)
    recordings = find_recordings([bags / "a", bags / "b"], told.source)
    a, b = process_many(recordings, told, tmp_path / "out", workers=2)
    assert not fatal.exists()  # one did die at work
    assert len(started) == 4
    assert a.outcome is Outcome.WORKER_DIED
    assert "a: its process died 2 times (killed by signal 9)" in a.error
    assert (b.outcome, b.summary["answered"]) == (Outcome.DONE, 4)
    assert [path.name for path in (tmp_path / "out").glob(".*")] == []
    assert (
        " died once (exit status 1)" in many.given_up(recordings[0], 1, "exit status 1", "").error
    )
