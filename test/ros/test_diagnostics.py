"""Each trouble that an operator can have comes out as one sentence that names it."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

pytest.importorskip("diagnostic_msgs", reason="needs the ROS message packages")

from diagnostic_msgs.msg import DiagnosticStatus

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.frames import FlushReason
from dkt_ros.fusion.fused import Shares
from dkt_ros.predict.predictor import PredictorInfo
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.diagnostics import diagnostic_array
from dkt_ros.ros.frame_choice import ChoiceStatus
from dkt_ros.ros.node_report import InputTopic, NodeReport, PipelineReport
from dkt_ros.ros.statistics import Snapshot, StreamSnapshot
from dkt_ros.ros.worker import WorkerState, WorkerStatus

pytestmark = pytest.mark.ros
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
HEALTHY = NodeReport(
    node_name="/dkt_node",
    lifecycle="active",
    active_s=60.0,
    pipeline=PipelineReport(
        {name: InputTopic(f"/{name}", 1) for name in ("color", "depth", "camera_info")},
        offset_s=0.001,
    ),
    dds_advice="set the profile",
    snapshot=Snapshot(
        streams={
            name: StreamSnapshot(100, 30.0, 0.03, 150)
            for name in ("color", "depth", "camera_info", "pair", "frame", "dkt/depth")
        }
        | {"dkt/points": StreamSnapshot(7)},
        drops={"truncated image": 3},
        flushes={"gap between frames": 1},
        timings_s={"predict": (0.1, 0.2), "total": (0.11, 0.21)},
    ),
    worker=WorkerStatus(WorkerState.WAITING),
    engine=PredictorInfo("dkt-1.3b", "/models/dkt", "converted", "cuda:0", "bfloat16", 5),
    alignment=Alignment(2.0, 0.5, 4000, 0.9, 0.002, 0.004, AlignmentState.OK, ""),
    memory={"free": 3 << 30},
)


def pipeline(**changes: Any) -> PipelineReport:
    return replace(HEALTHY.pipeline, **changes)


def inputs(**topics: InputTopic) -> PipelineReport:
    return pipeline(inputs={**HEALTHY.pipeline.inputs, **topics})


def slow_streams(**ages: float | None) -> Snapshot:
    """Of a camera of 8 Hz."""
    found = streams(**ages)
    color = StreamSnapshot(100, 8.0, 0.1, 40)
    return replace(found, streams={**found.streams, "color": color})


def streams(**ages: float | None) -> Snapshot:
    """Healthy statistics but for streams that fell silent this long ago; None: never came."""
    changed = dict(HEALTHY.snapshot.streams)
    for name, age in ages.items():
        key = "dkt/depth" if name == "depth_image" else name
        if age is None:
            del changed[key]
        else:
            changed[key] = StreamSnapshot(100, 0.0, age)
    return replace(HEALTHY.snapshot, streams=changed)


def status(part: str, **changes: Any) -> DiagnosticStatus:
    array = diagnostic_array(replace(HEALTHY, **changes), make_header(7, ""))
    (found,) = [s for s in array.status if s.name == f"/dkt_node: {part}"]
    return found


def values(found: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in found.values}


def test_a_healthy_node_is_ok_throughout() -> None:
    array = diagnostic_array(HEALTHY, make_header(7, ""))
    assert array.header.stamp.nanosec == 7
    assert [s.level for s in array.status] == [OK] * 4
    assert {s.hardware_id for s in array.status} == {"cuda:0"}


def test_the_numbers_are_there() -> None:
    found = values(status("input"))
    assert found["color topic"] == "/color"
    assert found["color rate (Hz)"] == "30.0"
    assert found["dropped: truncated image"] == "3"
    assert found["color stamp - depth stamp (s)"] == "0.001"
    found_apart = values(status("input", pipeline=pipeline(apart_s=-0.004)))
    assert found_apart["depth stamp - its colour's (s)"] == "-0.004"
    assert values(status("lifecycle", version="1.2.3"))["dkt_ros"] == "1.2.3"
    found = values(status("inference"))
    assert found["depth images"] == "100"
    assert {k: v for k, v in found.items() if "messages" in k} == {"dkt/points messages": "7"}
    assert found["predict (ms, mean and max)"] == "100.0, 200.0"
    assert found["checkpoint"] == "dkt-1.3b"
    assert found["free memory (MiB)"] == "3072"
    assert found["flushed: gap between frames"] == "1"
    failed = WorkerStatus(WorkerState.DEGRADED, 1, "out of memory", 0.5)
    assert values(status("inference", worker=failed))["last error"] == "out of memory"
    found = values(status("alignment", shares=Shares(0.7, 0.2, 0.1)))
    assert found["residual (m)"] == "0.0020"
    shares = {name: found[f"share of {name}"] for name in ("sensor", "network", "nothing")}
    assert shares == {"sensor": "0.70", "network": "0.20", "nothing": "0.10"}
    assert found["state"] == "OK"


@pytest.mark.parametrize(
    ("choice", "told", "used", "said"),
    [
        (ChoiceStatus("newest", share=1.0), "newest", "100", "110 ms each"),
        (ChoiceStatus("newest", share=0.27), "newest", "27", "from 27% of the frames (newest)"),
        (ChoiceStatus("even", 4, 0.25), "even, 1 in 4", "25", "of the frames (even, 1 in 4)"),
    ],
)
def test_frames_left_out_by_choice_are_told_and_no_trouble(
    choice: ChoiceStatus, told: str, used: str, said: str
) -> None:
    snapshot = replace(HEALTHY.snapshot, skipped=75)
    found = status("inference", choice=choice, snapshot=snapshot)
    assert found.level == OK
    assert found.message.endswith(said)
    assert values(found)["frame choice"] == told
    assert values(found)["frames used (%)"] == used
    assert values(found)["frames skipped by choice"] == "75"


@pytest.mark.parametrize(
    ("part", "changes", "level", "said"),
    [
        (
            "lifecycle",
            {"lifecycle": "inactive"},
            WARN,
            "no depth is made; activate it (ros2 lifecycle set /dkt_node activate)",
        ),
        ("lifecycle", {"lifecycle": "unconfigured"}, WARN, "set /dkt_node configure"),
        ("lifecycle", {"lifecycle": "finalized"}, WARN, "end this process and restart it"),
        ("lifecycle", {"lifecycle": "unconfigured", "loading_s": 7.2}, WARN, "network, for 7 s"),
        (
            "lifecycle",
            {"lifecycle": "unconfigured", "loading_s": 7.2, "loading_stage": "warm-up 2/6"},
            WARN,
            "network, for 7 s so far: warm-up 2/6",
        ),
        ("lifecycle", {"twins": "active, and so x"}, WARN, "active, and so x"),
        (
            "lifecycle",
            {"rivals": ("/left/dkt_node",)},
            WARN,
            "dkt/depth is published by /left/dkt_node too: subscribers get the depth of both",
        ),
        (
            "input",
            {"pipeline": inputs(color=InputTopic("/color", 2, nodes=("/cam", "/replay")))},
            WARN,
            "/color has 2 publishers (/cam, /replay): pictures of all are mixed",
        ),
        (
            "input",
            {"pipeline": inputs(color=InputTopic("/color", 2, nodes=("/cam", "/cam")))},
            WARN,
            "/color has 2 publishers (/cam, /cam): was /cam killed and started anew? DDS forgets",
        ),
        (
            "input",
            {"pipeline": inputs(color=InputTopic("/color", 2, nodes=("/cam",) * 2, crowded_s=30))},
            WARN,
            "/color has 2 publishers (/cam, /cam): pictures of all are mixed",
        ),
        (
            "input",
            {
                "pipeline": inputs(color=InputTopic("/color", 2, nodes=("/cam", "/replay"))),
                "snapshot": slow_streams(pair=9.0),
                "complaints": {"e": ("camera_info of another size", 0.1)},
            },
            WARN,
            "/color has 2 publishers (/cam, /replay): pictures of all are mixed",
        ),
        (
            "input",
            {
                "pipeline": inputs(color=InputTopic("/color", 2, nodes=("/cam", "/replay"))),
                "complaints": {"by turns": ("a depth image was unlike", 0.1)},
            },
            WARN,
            "or give each camera a namespace (and 1 more, see the values)",
        ),
        (
            "input",
            {"pipeline": inputs(color=InputTopic("/color", 2, nodes=("/cam",)))},
            WARN,
            "/color has 2 publishers (/cam, one whose name is not known yet): pictures of all are",
        ),
        (
            "input",
            {
                "complaints": {"colour": ("the colour image is black", 2.9)},
                "snapshot": replace(HEALTHY.snapshot, timings_s={"total": (2.0, 2.0)}),
            },
            WARN,
            "the colour image is black",
        ),
        ("lifecycle", {"clock_trouble": "no /clock: x"}, WARN, "active; no /clock: x"),
        ("lifecycle", {"transition_error": "cannot configure: x"}, ERROR, "cannot configure: x"),
        (
            "input",
            {
                "snapshot": streams(color=None),
                "active_s": 5.0,
                "pipeline": inputs(color=InputTopic("/cam/rgb", 0)),
            },
            WARN,
            "no message on /cam/rgb for 5.0 s: no publisher; is the camera running",
        ),
        (
            "input",
            {"snapshot": streams(depth=None)},
            WARN,
            "on /depth for 60.0 s: it has a publisher; is the camera streaming, does QoS match?",
        ),
        (
            "input",
            {"snapshot": streams(depth=9.0), "users_advice": lambda: "Nodes of another user"},
            WARN,
            "on /depth for 9.0 s: it has a publisher, and came before: has the camera stopped",
        ),
        (
            "input",
            {"snapshot": streams(depth=None), "users_advice": lambda: "Nodes of another user"},
            WARN,
            "on /depth for 60.0 s: Nodes of another user",
        ),
        (
            "input",
            {
                "snapshot": streams(depth=9.0),
                "pipeline": inputs(
                    depth=InputTopic("/d", 1, "sensor_msgs/msg/Image", ("sensor_msgs/msg/X",))
                ),
            },
            WARN,
            "published as sensor_msgs/msg/X, expected sensor_msgs/msg/Image: map it",
        ),
        (
            "input",
            {
                "snapshot": streams(depth=9.0),
                "pipeline": inputs(
                    depth=InputTopic(
                        "/d",
                        1,
                        "sensor_msgs/msg/Image",
                        ("stereo_msgs/msg/DisparityImage",),
                    )
                ),
            },
            WARN,
            "disparity is no depth; map it to what a node makes of it",
        ),
        (
            "input",
            {
                "pipeline": inputs(
                    color=InputTopic("/color", 2, "sensor_msgs/msg/Image", ("sensor_msgs/msg/X",))
                )
            },
            OK,
            "30.0 frames per second",
        ),
        (
            "input",
            {
                "snapshot": streams(color=None, depth=None),
                "pipeline": inputs(depth=InputTopic("/depth", 0)),
            },
            WARN,
            "is the topic right? no message on /color for 60.0 s: it has a publisher",
        ),
        ("lifecycle", {"cut_off": "x", "twins": "y"}, ERROR, "active; x"),
        ("input", {"snapshot": streams(pair=9.0)}, WARN, "no two stamps match"),
        (
            "input",
            {"pipeline": pipeline(pauses_s=[0.7, 1.3, 0.8])},
            WARN,
            "neither color nor depth came for up to 1.3 s, 3 times of late: does the camera pause",
        ),
        ("input", {"pipeline": pipeline(pauses_s=[1.3, 0.8])}, OK, "30.0 frames per second"),
        ("input", {"pipeline": pipeline(apart_s=-0.018)}, WARN, "depth is stamped 18 ms before"),
        ("input", {"pipeline": pipeline(apart_s=0.004)}, OK, "30.0 frames per second"),
        (
            "input",
            {"snapshot": streams(pair=9.0), "pipeline": pipeline(offset_s=86.4)},
            WARN,
            "now 86.400 s apart; both must come",
        ),
        (
            "input",
            {"snapshot": slow_streams(pair=9.0), "pipeline": pipeline(missed_s=0.033)},
            WARN,
            "nearest are 0.033 s apart, sync_slop_s is 0.02; raise sync_slop_s to 0.04",
        ),
        (
            "input",
            {"snapshot": slow_streams(pair=9.0), "pipeline": pipeline(missed_s=0.1)},
            WARN,
            "no two stamps match within sync_slop_s, now 0.001 s apart; both must come from one",
        ),
        (
            "input",
            {"snapshot": slow_streams(pair=9.0), "pipeline": pipeline(missed_s=0.021)},
            WARN,
            "to 0.03 (if that is too little after some minutes, both run freely: to 0.08), or have",
        ),
        (
            "input",
            {
                "snapshot": slow_streams(pair=9.0),
                "pipeline": pipeline(missed_s=0.033, late_s={"depth": 1.2}),
            },
            WARN,
            "/depth comes 1.20 s after /color of its stamp, which waits for 0.5 s: make what",
        ),
        (
            "input",
            {"snapshot": replace(streams(pair=9.0), recent_drops={"the same stamp twice": 298})},
            WARN,
            "had the stamp of the one before; have the camera's driver stamp each image",
        ),
        (
            "input",
            {
                "snapshot": replace(streams(pair=9.0), recent_drops={"the same stamp twice": 298}),
                "clock_trouble": "/clock stands still: x",
            },
            WARN,
            "stamps stand still: 298 of 300 images of the last 5 s had the stamp of the one "
            "before; /clock stands still: x",
        ),
        (
            "input",
            {"snapshot": replace(streams(pair=9.0), recent_drops={"stamped 0 or less": 298})},
            WARN,
            "298 images of the last 5 s were stamped 0 or less, which is no time, and were left "
            "out; have the camera's driver stamp each image with its time",
        ),
        (
            "input",
            {
                "snapshot": replace(
                    streams(pair=3.0),
                    recent_drops={
                        "the same stamp twice": 80,
                        "waited for the other stream too long": 85,
                    },
                ),
                "pipeline": pipeline(offset_s=96023438.9),
            },
            WARN,
            "stamps stand still: 80 of 300 images",
        ),
        (
            "input",
            {
                "snapshot": streams(depth=None),
                "pipeline": inputs(depth=InputTopic("/dkt/depth", 1, nodes=("/dkt_node",))),
            },
            WARN,
            "no message on /dkt/depth for 60.0 s: this node alone publishes it, as its own output: "
            "map depth/image to the camera's topic",
        ),
        (
            "input",
            {"snapshot": replace(streams(), recent_drops={"stamped 0 or less": 150})},
            WARN,
            "150 images of the last 5 s were stamped 0 or less",
        ),
        (
            "input",
            {"pipeline": pipeline(lost_share={"color": 0.83, "depth": 0.0})},
            WARN,
            "83% of the messages of /color do not arrive, judging by their stamps: set the profile",
        ),
        (
            "input",
            {
                "snapshot": replace(
                    streams(),
                    streams={**HEALTHY.snapshot.streams, "pair": StreamSnapshot(9, 9.0, 0.1, 60)},
                    recent_drops={"truncated image": 2, "colour without depth in time": 80},
                )
            },
            WARN,
            "90 of 150 frames of the last 5 s were lost, mostly as 'colour without depth in time'",
        ),
        (
            "input",
            {
                "snapshot": replace(
                    streams(),
                    streams={**HEALTHY.snapshot.streams, "pair": StreamSnapshot(9, 9.0, 0.1, 60)},
                    recent_drops={"waited for the other stream too long": 80},
                ),
                "pipeline": pipeline(late_s={"color": 0.6}),
            },
            WARN,
            "as 'waited for the other stream too long': /color comes 0.60 s after /depth of its",
        ),
        (
            "input",
            {
                "snapshot": replace(
                    streams(), recent_flushes={"camera intrinsics changed": 140, "another scene": 1}
                )
            },
            WARN,
            "began anew 141 times in the last 5 s, mostly because of 'camera intrinsics changed': "
            "camera_info differs",
        ),
        (
            "input",
            {"pipeline": pipeline(remarks={"frame_id": "no frame_id", "clock": "late"})},
            WARN,
            "no frame_id (and 1 more, see the values)",
        ),
        (
            "input",
            {
                "snapshot": replace(
                    streams(pair=9.0),
                    drops={"waited for the other stream too long": 5000},
                    recent_drops={
                        "inference was late for its turn": 90,
                        "colour without depth in time": 20,
                        "depth without colour in time": 19,
                    },
                )
            },
            WARN,
            "0.001 s apart; most are lost as 'colour without depth in time'; both must come",
        ),
        (
            "input",
            {"snapshot": replace(HEALTHY.snapshot, recent_drops={"the same stamp twice": 150})},
            WARN,
            "150 images of the last 5 s had the stamp of the one before, and were left out: does",
        ),
        (
            "input",
            {"snapshot": streams(pair=0.5, color=0.5, depth=0.5)},
            OK,
            "waiting for more frames",
        ),
        (
            "inference",
            {"snapshot": streams(depth_image=0.5)},
            OK,
            "110 ms each",
        ),
        (
            "input",
            {"snapshot": replace(HEALTHY.snapshot, recent_flushes={FlushReason.DRIFT.value: 20})},
            WARN,
            "'live stream had drifted': set live_preset to fast",
        ),
        (
            "input",
            {
                "snapshot": replace(streams(frame=9.0, pair=9.0), drops={"e": 50}),
                "complaints": {"e": ("bad encoding", 0.1)},
            },
            ERROR,
            "bad encoding",
        ),
        (
            "input",
            {"complaints": {"a": ("older", 1.0), "b": ("newer", 0.5)}},
            WARN,
            "newer (and 1 more, see the values)",
        ),
        (
            "input",
            {
                "complaints": {
                    "frame_id": ("no frame_id", 0.1),
                    "a": ("one frame dropped", 0.2),
                    "b": ("frames dropped", 0.9),
                },
                "snapshot": replace(
                    HEALTHY.snapshot, drops={"a": 9, "b": 9}, recent_drops={"a": 1, "b": 9}
                ),
                "pipeline": pipeline(remarks={"frame_id": "no frame_id", "clock": "late"}),
            },
            WARN,
            "frames dropped (and 3 more, see the values)",
        ),
        (
            "input",
            {
                "snapshot": slow_streams(pair=9.0),
                "pipeline": pipeline(missed_s=0.033),
                "complaints": {"mask": ("mask dropped", 0.1)},
            },
            WARN,
            "or have the driver stamp both images alike (and 1 more, see the values)",
        ),
        (
            "input",
            {"snapshot": streams(frame=None), "complaints": {"frame_id": ("no frame_id", 0.1)}},
            WARN,
            "no frame_id",
        ),
        ("input", {"active_s": None}, OK, "not active"),
        (
            "inference",
            {"worker": WorkerStatus(WorkerState.DEGRADED, 3, "out of memory: x", 2.0)},
            ERROR,
            "degraded after 3 failure(s), trying again every 2 s: out of memory: x",
        ),
        (
            "inference",
            {"worker": WorkerStatus(WorkerState.WAITING, error="publishing failed: y")},
            WARN,
            "publishing failed: y",
        ),
        ("inference", {"output_error": "dkt/points failed: x"}, WARN, "dkt/points failed: x"),
        (
            "inference",
            {"hanging": {"dkt/points": (3.6, ("/a", "/b")), "dkt/depth": (5.0, ("/a",))}},
            WARN,
            "a reader of dkt/depth, dkt/points (/a or /b) has acknowledged nothing for 5 s",
        ),
        (
            "inference",
            {"hanging": {"dkt/depth": (5.0, ("/a",))}, "users_advice": lambda: "Nodes of another"},
            WARN,
            "or DDS forgets it. Nodes of another",
        ),
        ("inference", {"snapshot": streams(depth_image=None)}, OK, "no depth yet"),
        ("alignment", {"alignment": None}, OK, "no depth yet"),
        ("alignment", {"snapshot": streams(depth_image=9.0)}, WARN, "no new depth"),
        (
            "alignment",
            {"snapshot": streams(depth_image=9.0), "active_s": None, "lifecycle": "inactive"},
            OK,
            "not active, no depth is made",
        ),
        (
            "alignment",
            {"snapshot": streams(depth_image=9.0), "resting": True},
            OK,
            "publish is on_demand, and nobody asks",
        ),
        ("inference", {"resting": True}, OK, "publish is on_demand, and nobody asks"),
        (
            "inference",
            {"resting": True, "output_error": "dkt/points failed: x"},
            WARN,
            "dkt/points failed: x",
        ),
        (
            "alignment",
            {"alignment": replace(HEALTHY.alignment, state=AlignmentState.HELD, reason="few")},  # type: ignore[type-var]
            WARN,
            "HELD: few",
        ),
        (
            "alignment",
            {"alignment": replace(HEALTHY.alignment, uncertainty=0.133)},  # type: ignore[type-var]
            WARN,
            "residual 2.0 mm; but the depth is expected to be off by 13% or more in half of",
        ),
        (
            "alignment",
            {"alignment": replace(HEALTHY.alignment, uncertainty=0.07)},  # type: ignore[type-var]
            WARN,
            "expected to be off by 7% or more",
        ),
        (
            "alignment",
            {
                "alignment": replace(HEALTHY.alignment, uncertainty=0.133),  # type: ignore[type-var]
                "align_max_uncertainty": 0.2,
            },
            OK,
            "residual 2.0 mm",
        ),
        (
            "alignment",
            {"alignment": replace(HEALTHY.alignment, inliers=0, uncertainty=inf, reason="alone")},  # type: ignore[type-var]
            OK,
            "alone",
        ),
        (
            "alignment",
            {"alignment": replace(HEALTHY.alignment, state=AlignmentState.UNALIGNED, reason="no")},  # type: ignore[type-var]
            ERROR,
            "UNALIGNED: no",
        ),
    ],
)
def test_each_trouble_is_one_sentence(
    part: str, changes: dict[str, Any], level: bytes, said: str
) -> None:
    found = status(part, **changes)
    assert said in found.message
    assert found.level == level


def test_a_few_lost_messages_are_no_trouble() -> None:
    found = status("input", pipeline=pipeline(lost_share={"color": 0.01, "depth": 0.0}))
    assert found.level == OK


def test_a_node_just_activated_does_not_complain_yet() -> None:
    snapshot = Snapshot()
    assert status("input", snapshot=snapshot, active_s=0.5).level == OK
    assert status("input", snapshot=snapshot, active_s=2.5).level == WARN


def test_silence_before_this_activation_does_not_count() -> None:
    assert status("input", snapshot=streams(color=500.0, depth=500.0), active_s=0.5).level == OK


def test_all_that_a_dead_camera_no_longer_sends_is_one_sentence() -> None:
    gone = {name: InputTopic(f"/{name}", 0) for name in ("camera_info", "color", "depth")}
    snapshot = streams(camera_info=None, color=4.0, depth=4.5)

    def told(**changed: InputTopic) -> str:
        here = "ROS_DOMAIN_ID=3, RMW_IMPLEMENTATION=rmw_x"
        found = inputs(**gone | changed)
        return status("input", snapshot=snapshot, surroundings=here, pipeline=found).message

    message = told()
    assert message.startswith("no message on /color, /depth, /camera_info for 4.0 s: no publisher")
    assert message.count("no message") == 1
    alone = "No camera at all is seen from here, by ROS_DOMAIN_ID=3, RMW_IMPLEMENTATION=rmw_x:"
    assert alone in message
    assert alone not in told(color=replace(gone["color"], elsewhere=("/cam/rgb",)))
    assert alone not in told(color=replace(gone["color"], publishers=1))


def test_what_is_published_in_place_of_a_topic_that_is_not_is_named_once() -> None:
    images = tuple(f"/cam/{n}" for n in range(9))
    absent = {name: InputTopic(f"/{name}", 0, elsewhere=images) for name in ("color", "depth")}
    absent["camera_info"] = InputTopic("/camera_info", 0, elsewhere=("/cam/info",))
    snapshot = streams(camera_info=None, color=None, depth=None)
    message = status("input", snapshot=snapshot, pipeline=inputs(**absent)).message
    assert message.endswith(
        "no publisher; is the camera running, is the topic right? Published are /cam/0, /cam/1, "
        "/cam/2, /cam/3, /cam/info."
    )


def test_calibration_may_come_once() -> None:
    assert status("input", snapshot=streams(camera_info=500.0)).level == OK
    assert "/camera_info" in status("input", snapshot=streams(camera_info=None)).message


def test_a_camera_that_waits_to_be_triggered_may_be_silent() -> None:
    ages = dict.fromkeys(("color", "depth", "camera_info", "pair", "frame", "depth_image"), 900.0)
    found = {"snapshot": streams(**ages), "active_s": 1000.0}
    for part, told in (("input", WARN), ("alignment", WARN), ("inference", OK)):
        assert status(part, **found).level == told
        assert status(part, **found, image_timeout_s=3600.0).level == OK


def test_a_slow_network_is_not_called_stale() -> None:
    slow = replace(streams(depth_image=5.0), timings_s={"total": (4.0, 4.5)})
    assert status("alignment", snapshot=slow).level == OK


def test_another_backend_than_asked_for_is_a_warning() -> None:
    assert HEALTHY.engine is not None
    note = "computing with torch, because backend tensorrt failed: another GPU"
    found = status("inference", engine=replace(HEALTHY.engine, note=note))
    assert found.level == WARN
    assert found.message.endswith(f"ms each; {note}")
    assert ("backend", "torch") in [(pair.key, pair.value) for pair in found.values]


def test_a_topic_that_was_sent_once_before_is_told_how_to_get() -> None:
    latched = inputs(camera_info=InputTopic("/info", 1, latched=True))
    said = status("input", snapshot=streams(camera_info=None), pipeline=latched).message
    assert "qos_overrides./info.subscription.durability to transient_local" in said
    said = status("input", snapshot=streams(camera_info=None)).message
    assert "transient_local" not in said


def test_a_flush_at_every_frame_is_told_however_slow_the_network_is() -> None:
    slow = {**HEALTHY.snapshot.streams, "dkt/depth": StreamSnapshot(20, 0.8, 0.1, 4)}
    for flushes, level in ((4, WARN), (2, OK)):
        found = replace(
            HEALTHY.snapshot, streams=slow, recent_flushes={"camera intrinsics changed": flushes}
        )
        assert status("input", snapshot=found).level == level
    seldom = replace(HEALTHY.snapshot, recent_flushes={"camera intrinsics changed": 5})
    assert status("input", snapshot=seldom).level == OK, "of 150 frames"


def test_images_that_come_twice_are_not_called_lost() -> None:
    doubled = {name: StreamSnapshot(100, 16.0, 0.1, 80) for name in ("color", "depth")}
    found = replace(
        HEALTHY.snapshot,
        streams={
            **HEALTHY.snapshot.streams,
            **doubled,
            "pair": StreamSnapshot(50, 8.0, 0.1, 40),
        },
        recent_drops={"the same stamp twice": 80},
    )
    message = status("input", snapshot=found).message
    assert "had the stamp of the one before" in message
    assert "lost" not in message
    assert "more, see the values" not in message


def test_lost_frames_whose_cause_is_named_are_no_second_trouble() -> None:
    half = {**HEALTHY.snapshot.streams, "pair": StreamSnapshot(50, 15.0, 0.03, 75)}
    found = replace(HEALTHY.snapshot, streams=half, recent_drops={"truncated image": 75})
    complaints = {"truncated image": ("frame dropped: it holds 100 bytes", 0.1)}
    message = status("input", snapshot=found, complaints=complaints).message
    assert message == "frame dropped: it holds 100 bytes"


@pytest.mark.parametrize(
    ("busy_s", "longest_s", "told"),
    [
        (1.9, 0.2, ""),
        (2.1, 0.2, "one frame has taken 2 s so far, and of late none more than 0.2 s: does the"),
        (29.0, 3.0, ""),
        (31.0, 3.0, "taken 31 s so far, and of late none more than 3.0 s"),
        (29.0, None, ""),
        (31.0, None, "one frame has taken 31 s so far: does the device hang"),
    ],
)
def test_a_frame_that_finds_no_end_is_told(
    busy_s: float, longest_s: float | None, told: str
) -> None:
    worker = WorkerStatus(WorkerState.INFERRING, busy_s=busy_s)
    timings_s = {} if longest_s is None else {"total": (0.1, longest_s)}
    found = status(
        "inference", worker=worker, snapshot=replace(HEALTHY.snapshot, timings_s=timings_s)
    )
    assert found.level == (WARN if told else OK)
    assert told in found.message


def test_old_complaints_are_listed_but_do_not_alarm() -> None:
    found = status("input", complaints={"frame_id": ("depth/image has frame_id 'x'", 30.0)})
    assert found.level == OK
    assert values(found)["last frame_id"] == "depth/image has frame_id 'x' (30 s ago)"
