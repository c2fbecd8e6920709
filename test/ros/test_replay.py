"""`dkt_replay`, played over DDS to a subscriber in this process.

By a process of its own where its end, its pace or its queues are looked at, else by `main`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.interrupts import heed_interrupts
from fixtures.recorded_frames import START_NS, labelled_frames
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import ColorRGBA, String

from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.messages.fields import stamp_to_ns
from dkt_ros.ros.replay.bag_player import BagPlayer, Pace, message_class
from dkt_ros.ros.replay.node import main

pytestmark = [pytest.mark.ros, pytest.mark.flaky(reruns=2)]

COLOR = "/camera/camera/color/image_raw"
DEPTH = "/camera/camera/aligned_depth_to_color/image_raw"
INFO = "/camera/camera/color/camera_info"
TOPICS = [COLOR, DEPTH, INFO]
PATIENCE_S = 60.0  # a machine may be busy with other things
WAIT = ["--wait-for-subscribers", "1", "--wait-timeout", "60"]
IMPATIENT = """
from dkt_ros.programs import dkt_replay
from dkt_ros.ros import process
process._TAKING_APART_S = {}
raise SystemExit(dkt_replay())
"""
LISTENER_QUEUE = 2000  # what is heard late is heard all the same


class Listener:
    """A node in this process that keeps what it hears, with the time of its publication."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}
        self.published_ns: dict[str, list[int]] = {}

    def listen(self, topic: str, kind: Any, qos: QoSProfile | int = LISTENER_QUEUE) -> None:
        heard: list[Any] = []
        published_ns: list[int] = []
        self.heard[topic], self.published_ns[topic] = heard, published_ns

        def hear(message: Any, info: dict[str, int]) -> None:
            heard.append(message)
            published_ns.append(info["source_timestamp"])

        self.node.create_subscription(kind, topic, hear, qos)

    def spin_until(self, done: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
        deadline = time.monotonic() + timeout_s
        while not done() and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)
        return done()

    def stamps(self, topic: str) -> list[int]:
        return [stamp_to_ns(message.header.stamp) for message in self.heard[topic]]

    def clock(self) -> list[int]:
        return [stamp_to_ns(message.clock) for message in self.heard["/clock"]]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes; what still runs at the test's end is ended."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def replay(started: list[subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Starts dkt_replay with arguments; `patience_s` for what cannot be taken apart."""

    def start(*arguments: object, patience_s: float | None = None) -> subprocess.Popen[str]:
        program = ["-m", "dkt_ros.ros.replay.node"]
        if patience_s is not None:
            program = ["-c", IMPATIENT.format(patience_s)]
        command = [sys.executable, *program, *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ,
            preexec_fn=heed_interrupts,
        )
        started.append(process)
        return process

    return start


def uncompressed(path: Path, count: int) -> Path:
    """A bag of so many frames at 20 Hz."""
    options = RecordingOptions(color="raw", depth="16UC1")
    record(labelled_frames(count, rate_hz=20.0), path, options)
    return path


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """20 frames in a second, uncompressed pictures."""
    return uncompressed(tmp_path / "bag", 20)


@pytest.fixture(scope="module")
def long_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 frames: five times what a queue holds."""
    return uncompressed(tmp_path_factory.mktemp("long") / "bag", 100)


def expected_stamps(count: int = 20) -> list[int]:
    return [START_NS + index * 50_000_000 for index in range(count)]


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE_S)
    return output


def seconds_played(output: str) -> float:
    """What the player says of itself: a busy machine makes it longer, never shorter."""
    said = re.search(r"messages on \d+ topics? in ([\d.]+) s", output)
    assert said, output
    return float(said[1])


def test_every_message_arrives_as_recorded_and_at_its_time_which_the_clock_has_told(
    bag: Path, listener: Listener, replay: Callable[..., subprocess.Popen[str]]
) -> None:
    listener.listen("/clock", Clock)
    listener.listen(COLOR, Image)
    listener.listen(DEPTH, Image, qos_profile_sensor_data)
    listener.listen(INFO, CameraInfo)
    process = replay(bag, "--topics", *TOPICS, *WAIT, "--clock", "--clock-hz", "1")
    reliable = (COLOR, INFO)
    first = expected_stamps()[0]  # its time may be published before /clock is discovered

    def all_heard() -> bool:
        timely = set(expected_stamps()) - {first} <= set(listener.clock())
        return timely and [len(listener.heard[t]) for t in reliable] == [20, 20]

    arrived = listener.spin_until(all_heard)
    output = finished(process)
    assert process.returncode == 0, output
    assert arrived, output
    assert "60 messages on 3 topics" in output
    for topic in reliable:
        assert listener.stamps(topic) == expected_stamps()
    # Best effort matches too, but a busy machine may lose some of it.
    assert listener.stamps(DEPTH)
    assert set(listener.stamps(DEPTH)) <= set(expected_stamps())
    assert seconds_played(output) >= 0.9
    for frame, message in zip(
        labelled_frames(20, rate_hz=20.0), listener.heard[COLOR], strict=True
    ):
        assert message.header.frame_id == frame.frame.frame_id
        np.testing.assert_array_equal(np.asarray(message.data), frame.frame.rgb.ravel())
    clock = listener.clock()
    assert clock == sorted(clock)
    told = [*zip(clock, listener.published_ns["/clock"], strict=True)]
    told_ns = dict(reversed(told))  # each time's first: as many messages are of it as topics
    for topic in reliable:
        sent_ns = dict(zip(listener.stamps(topic), listener.published_ns[topic], strict=True))
        assert all(told_ns[stamp] <= sent_ns[stamp] for stamp in expected_stamps()[1:])


def test_rate_and_remaps_by_parameter_and_option(
    tmp_path: Path, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = uncompressed(tmp_path / "bag", 5)  # of 0.2 s
    listener.listen("/renamed", CameraInfo)
    words = str(bag), "--topics", INFO, *WAIT, "--rate", "100", "--remap", f"{INFO}:=/renamed"
    assert main([*words, "--ros-args", "-p", "rate:=0.25"]) == 0
    assert listener.spin_until(lambda: len(listener.heard["/renamed"]) == 5)
    assert seconds_played(capfd.readouterr().err) >= 0.75


def test_topics_that_are_played_as_one_are_named(
    bag: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    remap = "--remap", f"{COLOR}:=/one", "--remap", f"{DEPTH}:=/one"
    words = str(bag), "--topics", COLOR, DEPTH, "--rate", "100"
    assert main([*words, *remap]) == 0
    assert f"{COLOR}, {DEPTH} are all played as /one" in capfd.readouterr().err
    assert main([*words, *remap[:2]]) == 0
    assert "are all played as" not in capfd.readouterr().err


def test_a_looped_bag_runs_backwards_and_so_does_its_clock(
    bag: Path, listener: Listener, replay: Callable[..., subprocess.Popen[str]]
) -> None:
    listener.listen(INFO, CameraInfo)
    listener.listen("/clock", Clock)
    process = replay(bag, "--topics", INFO, *WAIT, "--rate", "4", "--loop", "--clock")

    def jumps() -> list[tuple[int, int]]:
        return [(a, b) for a, b in pairwise(listener.clock()) if b < a]

    assert listener.spin_until(lambda: len(listener.heard[INFO]) >= 50 and len(jumps()) >= 2)
    process.send_signal(signal.SIGINT)
    output = finished(process)
    assert process.returncode == 0, output
    passes = 1 + len(listener.heard[INFO]) // 20
    stamps = listener.stamps(INFO)
    assert stamps == (expected_stamps() * passes)[: len(stamps)]
    for before, after in jumps():
        assert before >= expected_stamps()[-1], "a pass is played to its end"
        assert START_NS <= after <= START_NS + 50_000_000
    assert min(listener.clock()) >= START_NS
    # At a rate of 4, 100 ticks a second are 40 ms apart: between messages time goes on.
    assert set(listener.clock()) - set(stamps)


READER = """
import sys
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("reader")
node.create_subscription(Image, sys.argv[1], lambda message: print("heard", flush=True), 5)
rclpy.spin(node)
"""


@pytest.fixture
def reader(started: list[subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Starts a reliable reader of pictures in a process of its own."""

    def start(topic: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", READER, topic]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    return start


@pytest.mark.parametrize("mode", [None, "SYNCHRONOUS"])
def test_played_at_once_nothing_is_lost_to_reliable_readers(
    mode: str | None,
    long_bag: Path,
    listener: Listener,
    replay: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor is its order; however the user has told Fast DDS to publish."""
    if mode:
        monkeypatch.setenv("RMW_FASTRTPS_PUBLICATION_MODE", mode)
    for topic in (COLOR, DEPTH):
        listener.listen(topic, Image)
    process = replay(long_bag, "--topics", COLOR, DEPTH, *WAIT, "--rate", "1e6")
    listener.spin_until(lambda: [len(listener.heard[t]) for t in (COLOR, DEPTH)] == [100, 100], 15)
    output = finished(process)
    assert process.returncode == 0, output
    for topic in (COLOR, DEPTH):
        assert listener.stamps(topic) == expected_stamps(100), output


def test_a_reader_whose_process_stands_still_keeps_nothing_from_the_others(
    bag: Path,
    listener: Listener,
    replay: Callable[..., subprocess.Popen[str]],
    reader: Callable[..., subprocess.Popen[str]],
) -> None:
    listener.listen(COLOR, Image)
    hung = reader(COLOR)
    words = ["--wait-for-subscribers", "2", "--wait-timeout", "60"]
    process = replay(bag, "--topics", COLOR, *words, "--rate", "8", "--loop")
    assert hung.stdout is not None
    assert hung.stdout.readline() == "heard\n"
    hung.send_signal(signal.SIGSTOP)
    assert listener.spin_until(lambda: len(listener.heard[COLOR]) >= 160)
    process.send_signal(signal.SIGINT)
    output = finished(process)
    assert process.returncode == 0, output
    assert output.count(f"{COLOR}: a reliable subscriber acknowledges nothing") == 1, output


def test_a_reader_that_stands_still_keeps_no_replay_from_its_end(
    bag: Path,
    replay: Callable[..., subprocess.Popen[str]],
    reader: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By TCP, Fast DDS waits for it for ever as it is taken apart, deaf to every signal."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")  # else there is no TCP
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    hung = reader(COLOR)
    process = replay(bag, "--topics", COLOR, *WAIT, "--loop", patience_s=1.0)
    assert hung.stdout is not None
    assert hung.stdout.readline() == "heard\n"
    hung.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    output = finished(process)
    assert process.returncode in (0, 1), output  # 1 where it had to be ended
    assert "Traceback" not in output


def test_qos_that_is_given_wins_and_interrupts_that_follow_the_first_change_nothing(
    bag: Path,
    listener: Listener,
    replay: Callable[..., subprocess.Popen[str]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Launch interrupts once more what Ctrl-C has interrupted already."""
    override = f"qos_overrides.{INFO}.publisher.reliability"
    words = (str(bag), "--topics", INFO, "--wait-for-subscribers", "9", "--ros-args", "-p")
    process = replay(*words, f"{override}:=best_effort")
    publishers = listener.node.get_publishers_info_by_topic
    assert listener.spin_until(lambda: bool(publishers(INFO)))
    assert publishers(INFO)[0].qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert finished(process) == ""
    assert process.returncode == 0
    assert main([*words, f"{override}:=perhaps"]) == 2
    said = capfd.readouterr().err
    assert f"{override} is 'perhaps': expected reliability of reliable or best_effort" in said


def test_two_replays_with_one_clock_say_so(
    bag: Path, listener: Listener, replay: Callable[..., subprocess.Popen[str]]
) -> None:
    words = (bag, "--topics", INFO, "--loop", "--clock", "--rate", "4")
    first = replay(*words)
    listener.spin_until(lambda: listener.node.count_publishers("/clock") == 1)
    second = replay(*words)
    assert second.stdout is not None
    # A busy machine may be late, and told of it, before.
    assert any("another node publishes /clock too" in line for line in second.stdout)
    for process in (first, second):
        process.send_signal(signal.SIGINT)
        assert finished(process).count("another node publishes") <= 1


def test_lateness_of_many_passes_is_not_told_of_each_and_ends_where_it_is_told_to(
    bag: Path, listener: Listener, replay: Callable[..., subprocess.Popen[str]]
) -> None:
    listener.listen(INFO, CameraInfo)
    process = replay(bag, "--topics", INFO, *WAIT, "--rate", "1e6", "--loop", "--queue-depth", "1")
    assert listener.spin_until(lambda: len(listener.heard[INFO]) >= 600)
    process.send_signal(signal.SIGTERM)
    output = finished(process)
    assert output.count("s late; lower --rate") < 10
    assert "Traceback" not in output
    assert process.returncode == 0


def test_a_replay_that_is_late_ends_with_its_terminal_without_a_traceback(
    bag: Path, listener: Listener, replay: Callable[..., subprocess.Popen[str]]
) -> None:
    listener.listen(INFO, CameraInfo)
    # At such a rate it never waits: the end finds it while it publishes.
    process = replay(bag, "--topics", INFO, *WAIT, "--rate", "1e6", "--loop")
    assert listener.spin_until(lambda: bool(listener.heard[INFO]))
    process.send_signal(signal.SIGHUP)
    output = finished(process)
    assert "Traceback" not in output
    assert process.returncode == 0


def test_latched_topics_and_ros1_bags(
    tmp_path: Path, listener: Listener, replay: Callable[..., subprocess.Popen[str]]
) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    with Rosbag1Writer(tmp_path / "a.bag") as writer:
        connection = writer.add_connection(
            "/map_name", "std_msgs/msg/String", typestore=store, latching=1
        )
        message = store.types["std_msgs/msg/String"](data="kitchen")
        writer.write(connection, 1_000, store.serialize_ros1(message, connection.msgtype))
    qos = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
    process = replay(tmp_path / "a.bag", "--loop")
    # Subscribes late, as who needs latching does.
    assert listener.spin_until(lambda: listener.node.count_publishers("/map_name") == 1)
    listener.listen("/map_name", String, qos)
    assert listener.spin_until(lambda: bool(listener.heard["/map_name"]))
    process.send_signal(signal.SIGTERM)
    assert finished(process) is not None
    assert listener.heard["/map_name"][0].data == "kitchen"


def test_types_that_are_not_installed_or_have_changed_are_named_and_left_out(
    tmp_path: Path, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg("float64 grip\n", "lab_msgs/msg/Grip"))
    old = get_typestore(Stores.EMPTY)
    old.register(get_types_from_msg("uint8 r\n", "std_msgs/msg/ColorRGBA"))
    with Rosbag2Writer(tmp_path / "bag", version=8) as writer:
        grip = writer.add_connection("/grip", "lab_msgs/msg/Grip", typestore=store)
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        changed = writer.add_connection("/changed", "std_msgs/msg/ColorRGBA", typestore=old)
        writer.write(
            grip, 1, store.serialize_cdr(store.types["lab_msgs/msg/Grip"](0.5), grip.msgtype)
        )
        hello = store.types["std_msgs/msg/String"](data="hello")
        writer.write(text, 2, store.serialize_cdr(hello, text.msgtype))
        number = old.types["std_msgs/msg/ColorRGBA"](r=7)
        writer.write(changed, 3, old.serialize_cdr(number, changed.msgtype))
    listener.listen("/text", String)
    listener.listen("/changed", ColorRGBA)
    assert main([str(tmp_path / "bag"), *WAIT]) == 0
    assert listener.spin_until(lambda: bool(listener.heard["/text"]))
    output = capfd.readouterr().err
    assert "leaving out /grip" in output
    assert "lab_msgs" in output
    assert "leaving out /changed: its messages do not fit" in output
    assert main([str(tmp_path / "bag"), "--topics", "/grip"]) == 2


def write_texts(path: Path, texts: Mapping[str, Sequence[str | bytes]], step_ns: int = 0) -> Path:
    """A bag of std_msgs/String topics, a message every `step_ns`; bytes are written as they are."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    kind = store.types["std_msgs/msg/String"]
    with Rosbag2Writer(path, version=8) as writer:
        for topic, values in texts.items():
            connection = writer.add_connection(topic, "std_msgs/msg/String", typestore=store)
            for number, value in enumerate(values):
                data = (
                    value
                    if isinstance(value, bytes)
                    else store.serialize_cdr(kind(data=value), connection.msgtype)
                )
                writer.write(connection, 1 + number * step_ns, data)
    return path


def test_a_damaged_message_or_a_bad_topic_name_costs_itself_alone(
    tmp_path: Path, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    bag = write_texts(tmp_path / "bag", {"/text": [b"\0\1\0\0", "hello"], "/1-bad name": ["x"]})
    listener.listen("/text", String)
    assert main([str(bag), "--topics", "/text", *WAIT]) == 0
    assert listener.spin_until(lambda: bool(listener.heard["/text"]))
    assert "/text: its messages do not fit" in capfd.readouterr().err
    assert [message.data for message in listener.heard["/text"]] == ["hello"]
    assert main([str(bag)]) == 0
    output = capfd.readouterr().err
    assert "leaving out /1-bad name" in output
    assert "1 message on 1 topic " in output


@pytest.mark.parametrize("topics", [(), ("--topics", "/text")])
def test_playing_nothing_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], topics: tuple[str, ...]
) -> None:
    bag = write_texts(tmp_path / "bag", {"/text": [b"\0\1\0\0"] * 3})
    assert main([str(bag), *topics]) == 2
    expected = "/text cannot be played" if topics else "none of its messages"
    assert expected in capfd.readouterr().err


def test_every_latched_message_reaches_a_late_subscriber(
    tmp_path: Path, listener: Listener, replay: Callable[..., subprocess.Popen[str]]
) -> None:
    bag = write_texts(tmp_path / "bag", {"/tf_like": [f"frame {i}" for i in range(50)]})
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    information = metadata["rosbag2_bagfile_information"]
    profile = {"durability": "transient_local", "history": "keep_last", "depth": 100}
    topic = information["topics_with_message_count"][0]["topic_metadata"]
    topic["offered_qos_profiles"] = [profile]
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    qos = QoSProfile(
        depth=100,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
    process = replay(bag, "--loop", "--rate", "1e-12")
    assert listener.spin_until(lambda: listener.node.count_publishers("/tf_like") == 1)
    time.sleep(1.0)  # all of them are published
    listener.listen("/tf_like", String, qos)
    assert listener.spin_until(lambda: len(listener.heard["/tf_like"]) >= 50)
    process.send_signal(signal.SIGINT)
    assert finished(process) is not None


def test_hours_without_messages_are_skipped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A recorder whose clock was set meanwhile."""
    bag = write_texts(tmp_path / "bag", {"/text": ["before", "after"]}, 7200 * 10**9)
    assert main([str(bag)]) == 0
    said = capfd.readouterr().err
    assert said.count("skipping 7200 s without messages") == 1
    assert "2 messages on 1 topic" in said


def test_that_a_pause_is_waited_for_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dkt_ros.ros.replay.bag_player._PROGRESS_EVERY_S", 0.1)
    bag = write_texts(tmp_path / "bag", {"/text": ["before", "after"]}, 1800 * 10**9)
    assert main([str(bag), "--rate", "9000"]) == 0
    assert "no messages for 1800 s of the bag: waiting 0.2 s; a" in capfd.readouterr().err


def test_what_is_lost_of_a_bag_is_told(bag: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (file,) = bag.glob("*.mcap")
    os.truncate(file, file.stat().st_size * 2 // 3)
    assert main([str(bag), "--rate", "1e6"]) == 0
    assert capfd.readouterr().err.count("its index is damaged, or missing") == 1


@pytest.mark.parametrize(("count", "kept", "depth"), [(3, 0, 3), (50, 0, 20), (50, 30, 30)])
def test_a_queue_is_no_deeper_than_its_topic_fills_it(
    listener: Listener, count: int, kept: int, depth: int
) -> None:
    player: Any = SimpleNamespace(_node=listener.node, _types={"/text": String}, _pace=Pace())
    topic: Any = SimpleNamespace(name="/text", latched=kept > 0, kept=kept, count=count)
    assert BagPlayer._open_publisher(player, topic).qos_profile.depth == depth


@pytest.mark.parametrize(
    ("counts", "seconds", "gap_s"), [((21, 3), 2, 0.2), ((1,), 0, 2.0), ((5,), 0, 2.0)]
)
def test_between_two_passes_a_frame_of_the_busiest_topic_is_waited_for(
    counts: tuple[int, ...], seconds: int, gap_s: float
) -> None:
    topics = {f"/{number}": SimpleNamespace(count=count) for number, count in enumerate(counts)}
    bag = SimpleNamespace(topics=topics, start_ns=5, end_ns=5 + seconds * 10**9)
    player: Any = SimpleNamespace(topics=tuple(topics), _bag=bag, _pace=Pace(rate=0.5))
    assert BagPlayer.loop_gap_s(player) == pytest.approx(gap_s)


def test_compressed_topics_are_found_and_topics_for_nobody_do_not_hold_up(
    tmp_path: Path, listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    record(labelled_frames(3, rate_hz=20.0), tmp_path / "bag", RecordingOptions())
    listener.listen(f"{COLOR}/compressed", CompressedImage)
    assert main([str(tmp_path / "bag"), *WAIT]) == 0  # nobody subscribes to /truth/…
    assert listener.spin_until(lambda: len(listener.heard[f"{COLOR}/compressed"]) == 3)
    assert "15 messages on 5 topics" in capfd.readouterr().err
    assert main([str(tmp_path / "bag"), "--topics", COLOR, *WAIT]) == 0
    assert listener.spin_until(lambda: len(listener.heard[f"{COLOR}/compressed"]) == 6)
    assert "3 messages on 1 topic " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/no/such/bag"], "no such bag"),
        ([], "no bag given"),
        (["BAG", "--rate", "0"], "rate is 0"),
        (["BAG", "--queue-depth", "10000000000"], "queue_depth is 10000000000, expected 1 to 2147"),
        (["BAG", "--start-delay", "inf"], "start_delay_s is inf, expected a finite number"),
        (
            ["BAG", "--ros-args", "-p", "clock_hz:=.nan"],
            "clock_hz is nan, expected a finite",
        ),
        (["BAG", "--topics", "/nope"], "no topic /nope; the bag holds"),
        (["BAG", "--clock", "--remap", f"{INFO}:=/clock"], f"the bag's {INFO} is played as /clock"),
        (["BAG", "--wait-for-subscribers", "1", "--wait-timeout", "0.2"], "fewer than 1"),
        (["BAG", "--ros-args", "-p", "loop:=5"], "parameter loop is 5, expected a bool"),
        (["BAG", "--ros-args", "--log-level", "verbose"], "valid severity level"),
        (["BAG", "--ros-args", "-p", "use_sim_time:=3"], "'use_sim_time' to '3'"),
    ],
)
def test_errors_are_one_line_and_status_2(
    bag: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main([str(bag) if word == "BAG" else word for word in arguments]) == 2
    lines = capfd.readouterr().err.splitlines()
    [line] = [line for line in lines if line.startswith("dkt_replay: ")]
    assert words in line
    assert not rclpy.ok()


def test_message_classes_by_name() -> None:
    assert message_class("sensor_msgs/msg/CameraInfo") is CameraInfo
    assert message_class("sensor_msgs/CameraInfo") is CameraInfo


def test_a_time_that_ros_cannot_tell_is_none_on_clock(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Seconds are counted in 32 bits, to 2038; a recorder's clock may have been set later."""
    bag = write_texts(tmp_path / "bag", {"/text": ["now", "2065", "2065"]}, 3 * 10**18)
    assert main([str(bag), "--clock"]) == 0
    said = capfd.readouterr().err
    assert said.count("cannot be told on /clock") == 1
    assert "3 messages on 1 topic" in said
