"""One recording: what is written, that it is the node's, and that a killed run goes on."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from fixtures.opened_sources import PINHOLE, processed
from fixtures.recorded_frames import HEIGHT, START_NS, WIDTH, known, labelled_frames
from fixtures.told_network import ToldNetwork

from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import LabelledFrame, RecordingOptions, record
from dkt_ros.errors import DktError
from dkt_ros.estimator import EstimatorConfig, load_estimator
from dkt_ros.evaluation.regions import OBJECTS
from dkt_ros.files import StorageError, only_process
from dkt_ros.formats.exr import read_exr_plane
from dkt_ros.frames import FlushReason
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.fused import Source
from dkt_ros.fusion.network import INFO_FILE
from dkt_ros.fusion.weights import default_weights
from dkt_ros.geometry import backproject, to_millimetres
from dkt_ros.model.checkpoint import default_checkpoint
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.processing.api import process
from dkt_ros.processing.figures import frame_figures
from dkt_ros.processing.find_sources import Recording
from dkt_ros.processing.formats import FILE_FORMATS
from dkt_ros.processing.messages import typestore
from dkt_ros.processing.one import discard, process_one
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.previews import read_preview
from dkt_ros.processing.run_state import RunState
from dkt_ros.processing.source import SourceOptions

COUNT = 7


def written(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Topic -> (time, message) of the bag that was made."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with BagReader(folder / "bag") as bag:
        assert bag.remarks == []
        for message in bag.messages():
            value = typestore().deserialize_cdr(message.cdr, message.msgtype)
            found.setdefault(message.topic, []).append((message.time_ns, value))
    return found


def depths(folder: Path) -> list[bytes]:
    return [bytes(message.data) for _, message in written(folder)["/dkt/depth"]]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def test_the_bag_holds_depth_with_the_recorded_stamps(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    summary = processed(bag, replace(told, points=True), tmp_path / "out")
    assert (summary["frames"], summary["answered"], summary["outcome"]) == (COUNT, COUNT, "done")
    found = written(tmp_path / "out" / "scene")
    topics = {"depth", "camera_info", "color", "confidence", "alignment", "points"}
    assert found.keys() == {f"/dkt/{name}" for name in topics}
    stamps = [START_NS + index * 100_000_000 for index in range(COUNT)]
    frames = labelled_frames(COUNT)
    for topic, messages in found.items():
        headers = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in messages]
        assert [time for time, _ in messages] == headers == stamps, topic
        assert {m.header.frame_id for _, m in messages} == {"camera_optical"}
    depth = found["/dkt/depth"][3][1]
    assert (depth.encoding, depth.width, depth.height) == ("32FC1", WIDTH, HEIGHT)
    values = np.frombuffer(depth.data, np.float32).reshape(HEIGHT, WIDTH)
    raw = frames[3].frame.raw_depth
    assert raw is not None
    assert np.isclose(values, raw, rtol=0.02).mean() > 0.6  # near the sensor's where there is any
    assert (values == raw).mean() > 0.3  # and its own where it is trusted
    color = np.frombuffer(found["/dkt/color"][3][1].data, np.uint8)
    assert np.array_equal(color.reshape(HEIGHT, WIDTH, 3), frames[3].frame.rgb)
    assert found["/dkt/camera_info"][0][1].k[0] == WIDTH
    alignment = found["/dkt/alignment"][3][1]
    assert (alignment.state, alignment.share_sensor > 0.6) == (0, True)
    assert [stage.name for stage in alignment.stages] == ["predict", "align", "fuse"]
    cloud = np.frombuffer(found["/dkt/points"][3][1].data, np.float32).reshape(HEIGHT, WIDTH, 8)
    assert np.array_equal(cloud[..., 2], values, equal_nan=True)
    figures = lines(tmp_path / "out" / "scene")[3]
    assert figures["errors"]["all"]["rel"] < 0.05
    assert figures["network_rel"] < 0.05
    preview = read_preview(tmp_path / "out" / "scene" / "previews" / "0000003.npz")
    assert preview.keys() >= {"color", "raw", "depth", "confidence", "error", "truth", "points"}


def test_a_calibration_that_is_given_has_each_frames_stamp(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    """Whoever pairs it with the depth finds one for each."""
    processed(bag, replace(told, source=PINHOLE), tmp_path)
    found = written(tmp_path / "scene")
    stamps = [[one.header.stamp for _, one in found[f"/dkt/{t}"]] for t in ("camera_info", "depth")]
    assert stamps[0] == stamps[1]
    assert len({stamp.nanosec for stamp in stamps[0]}) == COUNT


def test_latched_topics_are_passed_through_latched(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    """Else whoever plays the output has no tf_static for those that come later."""
    path = tmp_path / "scene"
    shutil.copytree(bag, path)
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())
    entries = metadata["rosbag2_bagfile_information"]["topics_with_message_count"]
    info = next(
        e["topic_metadata"] for e in entries if "camera_info" in e["topic_metadata"]["name"]
    )
    profile = {"durability": "transient_local", "history": "keep_last", "depth": 2}
    info["offered_qos_profiles"] = [profile]
    (path / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    options = replace(told, source=SourceOptions(pass_through=True), part_frames=2)
    processed(path, options, tmp_path / "out")
    for place in (folder := tmp_path / "out" / "scene" / "bag", next(folder.glob("*_1.mcap"))):
        with BagReader(place) as made:
            kept = {name: topic.kept for name, topic in made.topics.items() if topic.kept}
            assert kept == {info["name"]: 2}


@pytest.mark.ros
@pytest.mark.slow
def test_depth_is_the_nodes_to_the_last_bit(tmp_path: Path) -> None:
    """The node's own intake, estimator and message, of rclpy's messages of the same bag."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")
    from rclpy.serialization import deserialize_message

    from dkt_ros.messages.intake import Intake
    from dkt_ros.ros.convert.messages import make_header
    from dkt_ros.ros.engine import SharedNetwork, estimator_config
    from dkt_ros.ros.params.parameters import NodeParameters
    from dkt_ros.ros.replay.bag_player import message_class
    from dkt_ros.ros.statistics import Statistics
    from dkt_ros.ros.topics import OUTPUTS, Result

    path = tmp_path / "scene"
    record(labelled_frames(5), path, RecordingOptions())
    parameters = NodeParameters(device="cpu", cpu_threads=1)
    engine = SharedNetwork().build(parameters)
    make = next(output.make for output in OUTPUTS if output.topic == "dkt/depth")
    published: list[bytes] = []

    def publish(observation: Any) -> None:
        estimate = engine.estimator.push(observation.decode())
        assert estimate is not None
        header = make_header(estimate.frame.stamp_ns, estimate.frame.frame_id)
        message = make(Result(observation, estimate, header, parameters))
        published.append(bytes(message.data))

    intake = Intake(parameters, Statistics(), publish, lambda cause, text: None)
    take: dict[str, Callable[[Any], None]] = {
        "camera_info": intake.on_camera_info,
        "depth": intake.on_depth,
        "color/image": intake.on_color,
    }
    parameters_of = ProcessOptions(
        predictor=PredictorOptions(device="cpu", cpu_threads=1),
        estimator=estimator_config(parameters),
    )
    with BagReader(path) as reader:
        for message in reader.messages():
            if "truth" in message.topic:
                continue
            role = next(role for role in take if role in message.topic)
            value = deserialize_message(message.cdr, message_class(message.msgtype))
            take[role](value)
    engine.close()
    processed(path, parameters_of, tmp_path / "out")
    assert len(published) == 5
    assert depths(tmp_path / "out" / "scene") == published


@pytest.mark.ros
def test_the_commands_defaults_are_the_nodes() -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")
    from dkt_ros.cli import build_parser
    from dkt_ros.processing.command import process_options
    from dkt_ros.ros.engine import estimator_config
    from dkt_ros.ros.params.parameters import NodeParameters

    options = process_options(build_parser().parse_args(["process", "in", "--output", "out"]))
    node = NodeParameters()
    assert options.estimator == estimator_config(node)
    assert options.predictor == PredictorOptions.taken_from(node)
    for name in ("depth_unit_m", "rectified", "sync_slop_s", "max_gap_s"):
        assert getattr(options.source, name) == getattr(node, name)


@pytest.mark.parametrize(
    "predictor",
    [
        PredictorOptions(predictor="fixtures.told_network:load"),
        pytest.param(PredictorOptions(device="cpu"), marks=pytest.mark.slow),
        pytest.param(
            PredictorOptions(device="cpu", mode="live", live_publish="all"), marks=pytest.mark.slow
        ),
    ],
    ids=["told", "exact", "live"],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    predictor: PredictorOptions, bag: Path, tmp_path: Path
) -> None:
    options = ProcessOptions(predictor=predictor, part_frames=2)
    processed(bag, options, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        processed(bag, options, tmp_path / "out", interrupt)
    assert not (tmp_path / "out" / "scene").exists()
    assert (tmp_path / "out" / "scene.partial" / "state.json").exists()
    state = tmp_path / "out" / "scene.partial" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"elapsed_s": 1000.0}))
    summary = processed(bag, options, tmp_path / "out")
    assert (summary["resumed_at_frame"], summary["answered"]) == (4, COUNT)
    assert summary["elapsed_s"] > 1000.0, "the first run's time counts too"
    assert depths(tmp_path / "out" / "scene") == depths(tmp_path / "whole" / "scene")
    previews = (sorted(tmp_path.glob(f"{out}/scene/previews/*")) for out in ("out", "whole"))
    of_both = [[(one.name, one.read_bytes()) for one in files] for files in previews]
    assert of_both[0] == of_both[1] != []
    timed = {"timings_s": None}
    mine, whole = lines(tmp_path / "out" / "scene"), lines(tmp_path / "whole" / "scene")
    assert [one | timed for one in mine] == [one | timed for one in whole]
    names = {path.name for path in (tmp_path / "out" / "scene").iterdir()}
    assert names == {"bag", "frames.jsonl", "previews", "summary.json"}


def test_what_lies_behind_a_gap_is_a_stream_of_its_own(
    told: ProcessOptions, tmp_path: Path
) -> None:
    def later(labelled: LabelledFrame) -> LabelledFrame:
        stamp_ns = labelled.frame.stamp_ns + 10_000_000_000
        return replace(labelled, frame=replace(labelled.frame, stamp_ns=stamp_ns))

    frames = labelled_frames(4)
    behind = list(map(later, frames[2:]))
    record([*frames[:2], *behind], tmp_path / "both", RecordingOptions(color="raw", depth="32FC1"))
    record(behind, tmp_path / "alone", RecordingOptions(color="raw", depth="32FC1"))
    # As the command has it: the recording's reader looks for gaps, the estimator does not.
    config = EstimatorConfig(max_gap_s=math.inf)
    options = replace(told, estimator=config)
    goes_on = replace(options, source=SourceOptions(max_gap_s=60.0))
    processed(tmp_path / "alone", options, tmp_path / "out")
    processed(tmp_path / "both", options, tmp_path / "out")
    processed(tmp_path / "both", goes_on, tmp_path / "on")
    alone = depths(tmp_path / "out" / "alone")
    assert depths(tmp_path / "out" / "both")[2:] == alone
    assert depths(tmp_path / "on" / "both")[2:] != alone
    estimator = load_estimator(told.predictor, config)
    found = [one.depth.tobytes() for one in process(tmp_path / "both", estimator=estimator)]
    assert found == depths(tmp_path / "out" / "both")


def test_what_a_run_counts_on_is_on_the_disk_before(
    bag: Path, told: ProcessOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves what was synced: as far as the state tells, and all of what is whole."""
    fsync, replace_file = os.fsync, os.replace
    synced: dict[int, int] = {}
    states: list[int] = []

    def remembered(handle: int) -> None:
        fsync(handle)
        status = os.fstat(handle)
        synced[status.st_ino] = status.st_size

    def checked(source: Path, target: Path) -> None:
        ended = target == tmp_path / "scene"
        if ended or target.name == "state.json":
            folder = source if ended else source.parent
            saved = {} if ended else json.loads(source.read_text())
            for file in folder.rglob("*"):
                status = file.stat()
                least = saved.get("figures_bytes") if file.name == "frames.jsonl" else None
                if file.is_file() and file.name not in ("state.json", "state.json.partial"):
                    whole = status.st_size if least is None else least
                    assert synced.get(status.st_ino, -1) >= whole > 0, file
            states.append(saved.get("frames", COUNT))
        replace_file(source, target)

    monkeypatch.setattr(os, "fsync", remembered)
    monkeypatch.setattr(os, "replace", checked)
    processed(bag, replace(told, files=("png",), part_frames=3), tmp_path)
    assert states == [3, 6, COUNT]


def test_a_slow_network_loses_minutes_at_most(
    bag: Path, told: ProcessOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dkt_ros.processing.one._LONGEST_PART_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        processed(bag, told, tmp_path, interrupt)
    assert processed(bag, told, tmp_path)["resumed_at_frame"] == 4


def test_what_a_run_of_something_else_left_is_not_thrown_away(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        processed(bag, replace(told, part_frames=2), tmp_path / "out", interrupt)
    partial = tmp_path / "out" / "scene.partial"
    other = tmp_path / "other" / "scene"
    record(labelled_frames(COUNT), other, RecordingOptions(color="raw", depth="32FC1"))
    for path, options, words in (
        (other, told, f"is of {bag}, not of {other}"),
        (
            bag,
            replace(told, points=True),
            r"was made with other options \(points False, now True\)",
        ),
    ):
        with pytest.raises(ProcessingError, match=f"^{partial} {words}") as error:
            processed(path, options, tmp_path / "out")
        assert error.value.outcome is Outcome.OUTPUT_EXISTS
        assert (partial / "state.json").exists(), "hours of work, perhaps"
    discard(tmp_path / "out" / "scene")
    assert processed(other, told, tmp_path / "out")["resumed_at_frame"] is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("code_state", "by other code or weights"),
        ("version", "by another version of dkt_ros"),
        ("resolve_device", "on another device than other"),
    ],
)
def test_a_run_is_gone_on_from_by_what_began_it_alone(
    changed: str, words: str, bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    """As where the package is edited in its place, or the GPU is another's now."""
    options = replace(told, part_frames=2)
    with pytest.raises(KeyboardInterrupt):
        processed(bag, options, tmp_path, interrupt)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"dkt_ros.processing.made_of.{changed}", lambda *_words: "other")
        with pytest.raises(ProcessingError, match=f"scene.partial was made {words}") as error:
            processed(bag, options, tmp_path)
        assert error.value.outcome is Outcome.OUTPUT_EXISTS
        assert (tmp_path / "scene.partial" / "state.json").exists()
    assert processed(bag, options, tmp_path)["resumed_at_frame"] == 4
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"dkt_ros.processing.made_of.{changed}", lambda *_words: "other")
        there = processed(bag, options, tmp_path)
        assert there["already_there"], "what is whole stays"
        assert [note.partition(";")[0] for note in there["notes"] if words in note]
    assert not [note for note in processed(bag, options, tmp_path)["notes"] if words in note]


@pytest.mark.parametrize("place", ["_Run._summary", "_seal"])
def test_a_run_killed_at_its_end_goes_on(
    place: str, bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    options = replace(told, part_frames=3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"dkt_ros.processing.one.{place}", killed)
        with pytest.raises(KeyboardInterrupt):
            processed(bag, options, tmp_path)
    summary = processed(bag, options, tmp_path)
    assert summary.get("already_there") or summary["resumed_at_frame"] == 6
    assert len(depths(tmp_path / "scene")) == len(lines(tmp_path / "scene")) == COUNT
    assert not (tmp_path / "scene.partial").exists()
    assert not (tmp_path / "scene" / "bag.parts").exists()


def test_an_output_that_cannot_get_its_name_is_kept_for_the_next_run(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    replace_file = os.replace

    def fail(source: Path, target: Path) -> None:
        if target == tmp_path / "scene":
            raise OSError(errno.EIO, "Input/output error")
        replace_file(source, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(ProcessingError, match="cannot be written") as error:
            processed(bag, told, tmp_path)
    assert error.value.outcome is Outcome.NOT_WRITTEN
    assert processed(bag, told, tmp_path)["already_there"]
    assert len(depths(tmp_path / "scene")) == COUNT


def test_what_is_left_of_a_discarded_output_is_no_output(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    def fail(folder: Path) -> None:
        (folder / "frames.jsonl").unlink()
        raise OSError(errno.EIO, "Input/output error")

    processed(bag, told, tmp_path)
    shutil.copytree(tmp_path / "scene", tmp_path / "scene.partial")  # a run of something else
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shutil, "rmtree", fail)
        with pytest.raises(StorageError):
            discard(tmp_path / "scene")
    discard(tmp_path / "scene")
    assert list(tmp_path.iterdir()) == []
    processed(bag, told, tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shutil, "rmtree", fail)
        with pytest.raises(StorageError):
            discard(tmp_path / "scene")
    assert "already_there" not in processed(bag, told, tmp_path)
    assert len(lines(tmp_path / "scene")) == COUNT


@pytest.mark.parametrize("of", ["somebody else", "another code"])
def test_what_cannot_be_gone_on_from_is_begun_anew(
    of: str, bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    options = replace(told, part_frames=3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dkt_ros.processing.one._Run._summary", killed)
        with pytest.raises(KeyboardInterrupt):
            processed(bag, options, tmp_path)
    (memory,) = (tmp_path / "scene.partial").glob("state-*.pickle")
    if of == "another code":  # of a version that did not tell
        state = tmp_path / "scene.partial" / "state.json"
        content = json.loads(state.read_text())
        del content["same"]["code_state"]
        state.write_text(json.dumps(content))
    else:
        memory.write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    assert processed(bag, options, tmp_path)["resumed_at_frame"] is None
    assert len(depths(tmp_path / "scene")) == COUNT
    assert not (tmp_path / "ran").exists(), "somebody else's pickle was read"


class Code:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def interrupt(name: str, done: int, total: int) -> None:
    if done == 5:
        raise KeyboardInterrupt


def killed(*_args: Any) -> None:
    raise KeyboardInterrupt


def test_an_output_that_another_process_makes_is_left_alone(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    with (
        only_process(tmp_path / ".scene.lock", ""),
        pytest.raises(ProcessingError, match="made by another process") as error,
    ):
        processed(bag, told, tmp_path)
    assert error.value.outcome is Outcome.NOT_WRITTEN


def test_what_is_there_is_kept_and_other_options_are_refused(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    processed(bag, told, tmp_path)
    stamp = (tmp_path / "scene" / "summary.json").stat().st_mtime_ns
    faster = replace(told, predictor=replace(told.predictor, cpu_threads=1), part_frames=5)
    for same in (told, faster):
        assert processed(bag, same, tmp_path)["already_there"]
    assert (tmp_path / "scene" / "summary.json").stat().st_mtime_ns == stamp
    with pytest.raises(DktError, match="format is 'tiff', expected one of bag, png"):
        replace(told, files=("tiff",))
    other = r"made with other options \(source.rate_hz 10.0, now 5.0; points False, now True\);"
    source = replace(told.source, rate_hz=5.0)
    options = replace(told, points=True, source=source, part_frames=7)
    with pytest.raises(ProcessingError, match=other) as error:
        processed(bag, options, tmp_path)
    assert error.value.outcome is Outcome.OUTPUT_EXISTS
    (tmp_path / "scene" / "summary.json").unlink()
    with pytest.raises(ProcessingError, match="no output of `dkt process`"):
        processed(bag, told, tmp_path)


def test_whatever_an_output_depends_on_makes_other_options(told: ProcessOptions) -> None:
    same = replace(told, part_frames=1, predictor=replace(told.predictor, cpu_threads=3))
    others = [
        *(replace(told, max_frames=3), replace(told, bag=False), replace(told, files=("png",))),
        *(replace(told, color="jpeg"), replace(told, estimator=EstimatorConfig(max_depth=3.0))),
        replace(told, source=SourceOptions(max_gap_s=1.0)),
    ]
    assert same.fingerprint == told.fingerprint
    assert len({told.fingerprint, *(one.fingerprint for one in others)}) == 1 + len(others)
    for name in ("part_frames", "max_frames"):
        with pytest.raises(DktError, match="part_frames and max_frames: expected at least 1"):
            replace(told, **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(DktError, match="color is 'png', expected one of raw, jpeg"):
        replace(told, color="png")


@pytest.mark.parametrize("below", ["..", "../..", "."])
def test_what_an_output_lies_beside_or_above_is_looked_at_for_changes(
    bag: Path, told: ProcessOptions, tmp_path: Path, below: str
) -> None:
    """`--output .` in the folder of recordings, in the one above, and in the bag itself."""
    copy = tmp_path / "day" / "scene"
    shutil.copytree(bag, copy)
    recording = Recording(copy, "depth")
    out = copy / below

    def made() -> dict[str, Any]:
        load = lambda: load_estimator(told.predictor, told.estimator)  # noqa: E731
        return process_one(recording, told, out, load)

    made()
    assert made()["already_there"]
    os.utime(next(copy.glob("*.mcap")), (1, 1))
    with pytest.raises(ProcessingError, match="scene held before it changed"):
        made()


def test_what_was_made_of_other_contents_is_refused(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    checkpoint, copy, camera = tmp_path / "ck", tmp_path / "own" / "scene", tmp_path / "K.txt"
    refiner = tmp_path / "refiner"
    shutil.copytree(default_checkpoint(), checkpoint)
    shutil.copytree(default_weights(), refiner)
    shutil.copytree(bag, copy)
    camera.write_text("100 0 40\n0 100 24\n0 0 1\n")
    options = ProcessOptions(
        predictor=PredictorOptions(checkpoint=checkpoint, inference_size="48x80"),
        estimator=EstimatorConfig(fusion=FusionConfig(weights=refiner)),
        source=SourceOptions(intrinsics=str(camera)),
        max_frames=1,
    )
    out = copy / "depth"  # what is made within the recording is no part of it
    processed(copy, options, out)
    (copy / "report.html").write_text("of it")
    assert processed(copy, options, out)["already_there"]
    changed = {
        checkpoint: checkpoint / "dkt.json",
        refiner: refiner / INFO_FILE,
        camera: camera,
        copy: next(copy.glob("*.mcap")),
    }
    for named, file in changed.items():
        content, written_s = file.read_bytes(), file.stat().st_mtime
        file.write_bytes(content + b"\n")
        for made in (out / "scene", out / "scene.partial"):
            (out / "scene").rename(made)
            with pytest.raises(ProcessingError, match=f"{named} held before it changed") as error:
                processed(copy, options, out)
            assert error.value.outcome is Outcome.OUTPUT_EXISTS
            made.rename(out / "scene")
        file.write_bytes(content)
        os.utime(file, (written_s, written_s))
        assert processed(copy, options, out)["already_there"]
    shutil.move(copy / "depth", tmp_path / "depth")
    shutil.rmtree(copy)
    assert processed(copy, options, tmp_path / "depth")["already_there"], "the recording is gone"


def test_a_recording_that_goes_on_while_it_is_read_is_told(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    path = tmp_path / "scene"
    shutil.copytree(bag, path)
    file = next(path.glob("*.mcap"))

    def record_more(name: str, done: int, total: int) -> None:
        if done == 3:
            file.write_bytes(file.read_bytes() + b"more")

    summary = processed(path, told, tmp_path / "out", record_more)
    assert summary["outcome"] == Outcome.INCOMPLETE.value
    assert summary["lost"][0].startswith("it has changed since it was opened: is it still recorded")
    with pytest.raises(ProcessingError, match="held before it changed; --overwrite"):
        processed(path, told, tmp_path / "out")
    discard(tmp_path / "out" / "scene")
    assert processed(path, told, tmp_path / "out")["lost"] != summary["lost"]

    def take_away(name: str, done: int, total: int) -> None:
        if done == total:
            shutil.rmtree(path, ignore_errors=True)

    discard(tmp_path / "out" / "scene")
    shutil.rmtree(path)
    shutil.copytree(bag, path)
    assert processed(path, told, tmp_path / "out", take_away)["lost"] == []
    assert not path.exists()


def test_files(bag: Path, told: ProcessOptions, tmp_path: Path) -> None:
    near = EstimatorConfig(max_depth=1.0)  # nothing is known of what is farther
    processed(bag, replace(told, bag=False, files=FILE_FORMATS, estimator=near), tmp_path)
    folder, name = tmp_path / "scene", f"000002_{START_NS + 200_000_000}"
    assert not (folder / "bag").exists()
    estimator = load_estimator(told.predictor, near)
    *_, estimate = (estimator.push(one.frame) for one in labelled_frames(3))
    assert estimate is not None
    camera = labelled_frames(1)[0].frame.intrinsics
    with np.load(folder / "npz" / f"{name}.npz") as content:
        depth, stamp = content["depth"], int(content["stamp_ns"])
        for key in ("depth", "confidence", "source"):
            np.testing.assert_array_equal(content[key], getattr(estimate, key))
        np.testing.assert_array_equal(content["K"], camera.matrix)
        assert set(content.files) == {"depth", "confidence", "source", "K", "stamp_ns"}
    assert (depth.dtype, stamp) == (np.float32, START_NS + 200_000_000)
    png = cv2.imread(str(folder / "png" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    assert png is not None
    assert np.array_equal(png, to_millimetres(depth))
    exr = read_exr_plane(folder / "exr" / f"{name}.exr")
    assert np.array_equal(exr, depth, equal_nan=True)
    with np.load(folder / "contact_graspnet" / f"{name}.npz") as content:
        assert np.array_equal(content["depth"], np.nan_to_num(depth))
        assert np.array_equal(content["segmap"], known(labelled_frames(3)[2].mask))
        assert np.array_equal(content["rgb"], labelled_frames(3)[2].frame.rgb)
        np.testing.assert_array_equal(content["K"], camera.matrix)
    head, _, body = (folder / "ply" / f"{name}.ply").read_bytes().partition(b"end_header\n")
    is_known = np.isfinite(depth)
    assert 0.5 < is_known.mean() < 0.9
    assert f"element vertex {is_known.sum()}\n".encode() in head
    kinds = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("r", "u1"), ("g", "u1"), ("b", "u1")]
    points = np.frombuffer(body, kinds)
    for axis, place in zip("xyz", backproject(depth, camera)[is_known].T, strict=True):
        np.testing.assert_array_equal(points[axis], place)
    for color, values in zip("rgb", labelled_frames(3)[2].frame.rgb[is_known].T, strict=True):
        np.testing.assert_array_equal(points[color], values)


def test_a_full_disk_for_temporary_files_is_told(
    bag: Path, told: ProcessOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, name: str) -> None:
        raise RuntimeError(f'Failed to write pixel data to image file "{name}". No space left.')

    monkeypatch.setattr("OpenEXR.File.write", full)
    with pytest.raises(
        ProcessingError, match=r"No space left\. Make room there, or set TMPDIR"
    ) as it:
        processed(bag, replace(told, files=("exr",)), tmp_path / "out")
    assert it.value.outcome is Outcome.NOT_WRITTEN


def test_errors_are_told_by_region(told: ProcessOptions) -> None:
    """Of raw depth on glass and beside it; and the network's where raw depth is trusted."""
    labelled = labelled_frames(1)[0]
    glass, truth = known(labelled.mask) > 0, known(labelled.truth)
    raw = np.where(glass, 2 * truth, truth)
    frame = replace(labelled.frame, raw_depth=raw)
    estimate = load_estimator(told.predictor).push(frame)
    assert estimate is not None
    figures = frame_figures(0, replace(labelled, frame=frame), estimate)
    errors = {region: one["rel"] for region, one in figures["raw_errors"].items()}
    assert errors == pytest.approx({"all": glass.mean(), OBJECTS: 1.0, "rest": 0.0})
    far = np.where(np.arange(HEIGHT)[:, None] < HEIGHT * 0.6, 2 * truth, truth)
    fused = estimate.fused
    assert fused is not None
    source = np.where(far == truth, Source.SENSOR, Source.NETWORK).astype(np.uint8)
    estimate = replace(estimate, fused=replace(fused, source=source))
    figures = frame_figures(0, replace(labelled, frame=replace(frame, raw_depth=far)), estimate)
    assert figures["network_rel"] < 0.05


def test_an_unusable_frame_costs_itself(
    bag: Path, told: ProcessOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = ToldNetwork.push

    def fail(self: ToldNetwork, frame: Any) -> Any:
        if frame.stamp_ns == START_NS + 300_000_000:
            raise DktError("no")
        return push(self, frame)

    monkeypatch.setattr(ToldNetwork, "push", fail)
    summary = processed(bag, told, tmp_path)
    assert (summary["answered"], summary["refused"]) == (COUNT - 1, 1)
    assert summary["lost"] == ["1 x inference failed: no"]
    assert summary["outcome"] == Outcome.INCOMPLETE.value


@pytest.mark.parametrize(
    ("count", "outcome"), [(3, Outcome.NO_DEPTH_MADE), (1, Outcome.INCOMPLETE)]
)
def test_frames_without_depth_are_told(
    count: int, outcome: Outcome, told: ProcessOptions, tmp_path: Path
) -> None:
    def blind(labelled: Any) -> Any:
        assert labelled.frame.raw_depth is not None
        raw = np.full_like(labelled.frame.raw_depth, np.nan)
        return replace(labelled, frame=replace(labelled.frame, raw_depth=raw))

    frames = labelled_frames(3)
    frames = [*map(blind, frames[:count]), *frames[count:]]
    record(frames, tmp_path / "blind", RecordingOptions())
    summary = processed(tmp_path / "blind", replace(told, files=("png",)), tmp_path / "out")
    assert summary["outcome"] == outcome.value
    assert summary["lost"][0].startswith(
        f"{count} of 3 frames have no depth at any pixel ({count / 3:.0%} of all are UNALIGNED), "
        "mostly because: the depth image has no reading at any pixel"
    )
    assert len(lines(tmp_path / "out" / "blind")) == 3
    assert len(depths(tmp_path / "out" / "blind")) == 3


def test_what_became_of_frames_is_told_in_the_first_words_of_each_cause() -> None:
    """Of all runs together: what one counted, a later one reads from the disk."""
    source: Any = SimpleNamespace(lost=["1 x odd"], remarks=[])
    state = RunState(frames=4, first_ns=0, last_ns=10**9)
    figures = {"state": "OK", "coverage": 0.5, "reason": "", "suspicions": []}
    for text in ("first", "second"):
        state.refuse("unusable frame", DktError(text))
        state.answer(figures, FlushReason.RANGE)
        state = RunState(**json.loads(json.dumps(vars(state))))
    assert state.restarts == {"raw depth in another range than before": 2}
    assert state.lost(source) == ["1 x odd", "2 x unusable frame: first"]
    assert (state.outcome(state.lost(source)), state.outcome([])) == (
        Outcome.INCOMPLETE,
        Outcome.DONE,
    )
    for reason in ("dark", "blind", "blind"):
        state.answer({**figures, "state": "HELD", "coverage": 0.0, "reason": reason}, None)
    assert state.lost(source)[-1] == (
        "3 of 5 frames have no depth at any pixel (60% of all are HELD), mostly because: blind"
    )


def test_what_looks_wrong_in_frames_is_noted_once_each(
    told: ProcessOptions, tmp_path: Path
) -> None:
    def far(index: int, labelled: Any) -> Any:
        raw = labelled.frame.raw_depth.copy()
        raw[: 20 + index] = 12.5 + index / 2  # of 32 rows
        return replace(labelled, frame=replace(labelled.frame, raw_depth=raw))

    frames = labelled_frames(5)
    frames = [*(far(index, frame) for index, frame in enumerate(frames[:4])), frames[4]]
    record(frames, tmp_path / "far", RecordingOptions())
    summary = processed(tmp_path / "far", told, tmp_path / "out")
    shown = [note for note in summary["notes"] if "raw readings" in note]
    (note,) = shown
    assert re.fullmatch(
        r"4 of 5 frames: \d\d% of the raw readings lie outside 0\.1 \.\. 10 m, their median is "
        r"12\.5 m: is the .*",
        note,
    )


def test_truth_and_masks_that_look_wrong_are_noted_once(
    told: ProcessOptions, tmp_path: Path
) -> None:
    def wrong(labelled: Any) -> Any:
        mask, truth = 1 - (labelled.mask > 0).astype(np.uint8), labelled.frame.raw_depth
        return replace(labelled, mask=mask, truth=truth)

    first, second, *others = labelled_frames(4)
    unknown = replace(second, truth=np.full_like(second.truth, np.nan))
    frames = [replace(first, truth=None), unknown, *map(wrong, others)]
    record(frames, tmp_path / "wrong", RecordingOptions(color="raw", depth="32FC1"))
    notes = processed(tmp_path / "wrong", told, tmp_path / "out")["notes"]
    for said in ("raw depth is the true depth at every pixel", "mask inverted?"):
        (note,) = (note for note in notes if said in note)
        assert note.startswith(f"stamp {frames[2].frame.stamp_ns * 1e-9:.3f}: ")
    assert not any("median depth" in note for note in notes)


def test_depth_that_the_options_take_away_is_told(
    bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    summary = processed(bag, replace(told, estimator=EstimatorConfig(min_depth=5.0)), tmp_path)
    assert summary["outcome"] == Outcome.NO_DEPTH_MADE.value
    assert "(100% of all are OK), mostly because: it lies outside --min-depth" in summary["lost"][0]


@pytest.mark.parametrize(
    ("error", "outcome", "said"),
    [
        (OSError(errno.ENOSPC, "No space", "depth.png"), Outcome.NOT_WRITTEN, "the disk is full"),
        (ProcessingError(Outcome.NOTHING_USABLE, "no"), Outcome.NOTHING_USABLE, "no"),
    ],
)
def test_a_recording_that_fails_leaves_no_part_of_it(
    bag: Path,
    told: ProcessOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    outcome: Outcome,
    said: str,
) -> None:
    def fail(*_args: Any) -> None:
        raise error

    monkeypatch.setattr("dkt_ros.processing.one.write_file", fail)
    with pytest.raises(ProcessingError, match=said) as caught:
        processed(bag, replace(told, files=("png",)), tmp_path / "out")
    assert caught.value.outcome is outcome
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_bag_gives_what_is_readable_and_says_where_it_broke(
    told: ProcessOptions, tmp_path: Path
) -> None:
    path = tmp_path / "cut"
    frames = labelled_frames(30, width=160, height=120)
    record(frames, path, RecordingOptions(color="raw", depth="32FC1", compress=False))
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 4])
    summary = processed(path, told, tmp_path / "out")
    answered = summary["answered"]
    assert 3 < answered < 12
    assert summary["outcome"] == Outcome.INCOMPLETE.value
    assert "index is damaged" in summary["lost"][0]
    place = f"ends with frame {answered - 1}, {(answered - 1) / 10:.2f} s after the first"
    assert place in summary["lost"][-1]
    assert len(depths(tmp_path / "out" / "cut")) == answered
    # More frames than there are do not hide it.
    summary = processed(path, replace(told, max_frames=25), tmp_path / "limited")
    assert summary["outcome"] == Outcome.INCOMPLETE.value
