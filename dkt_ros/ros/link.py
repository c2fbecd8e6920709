"""How many large images get from one process to another: the measurement of `dkt doctor --dds`.

The sender is a process of its own, as a camera's driver is, and sends as one: best effort.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
import uuid
from array import array
from contextlib import suppress
from dataclasses import dataclass

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from dkt_ros import child
from dkt_ros.messages.fields import stamp_to_ns
from dkt_ros.ros.ros_arguments import init, naming_arguments
from dkt_ros.ros.sending import RCLError

DISCOVERY_S = 20.0
SETTLE_S = 1.0
_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass(frozen=True)
class Load:
    """What is sent: rgb8 images, so many a second, for so many seconds."""

    width: int = 1280
    height: int = 720
    rate_hz: float = 30.0
    seconds: float = 5.0

    @property
    def frames(self) -> int:
        """How many in all."""
        return max(1, round(self.rate_hz * self.seconds))


@dataclass(frozen=True)
class Link:
    """What came of it.

    found       whether the processes found each other
    sent_hz     how fast the sender could send
    latency_s   median time from sending an image to having it
    """

    found: bool
    sent: int = 0
    received: int = 0
    sent_hz: float = 0.0
    latency_s: float = 0.0

    @property
    def lost(self) -> float:
        """Share of the images."""
        return 1.0 - self.received / self.sent if self.sent else 0.0


def measure(load: Load) -> Link:
    """Starts a sender and counts what comes."""
    topic = f"dkt_doctor/image_{uuid.uuid4().hex[:8]}"
    words = (topic, load.width, load.height, load.rate_hz, load.seconds)
    context = Context()
    init([], context=context)
    with naming_arguments():
        node = Node("dkt_doctor", context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ages: list[float] = []

    def take(message: Image) -> None:
        ages.append((time.time_ns() - stamp_to_ns(message.header.stamp)) * 1e-9)

    node.create_subscription(Image, topic, take, _QOS)
    sender = subprocess.Popen(
        child.command("dkt_ros.ros.link", *map(str, words)),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for this process, which ends that one
    )
    try:
        while sender.poll() is None:
            executor.spin_once(timeout_sec=0.05)
        for _ in range(_QOS.depth):  # it ends long after its last image: what has come is here
            executor.spin_once(timeout_sec=0.05)
        assert sender.stdout is not None
        answer = sender.stdout.read().split()
    finally:
        sender.kill()
        sender.wait()
        node.destroy_node()
        rclpy.shutdown(context=context)
    if len(answer) != 2:
        return Link(found=False)
    sent, seconds = int(answer[0]), float(answer[1])
    latency_s = sorted(ages)[len(ages) // 2] if ages else 0.0
    return Link(True, sent, len(ages), sent / seconds if seconds else 0.0, latency_s)


def send(topic: str, load: Load) -> None:
    """The sender: waits for the other process, sends, prints how many and in what time."""
    init([], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("dkt_doctor_camera", use_global_arguments=False)
    publisher = node.create_publisher(Image, topic, _QOS)
    message = Image(width=load.width, height=load.height, encoding="rgb8", step=3 * load.width)
    message.data = array("B", os.urandom(3 * load.width) * load.height)
    until = time.monotonic() + DISCOVERY_S
    while not publisher.get_subscription_count() and time.monotonic() < until:
        rclpy.spin_once(node, timeout_sec=0.05)
    if publisher.get_subscription_count():
        time.sleep(SETTLE_S)  # the other one may not know of this one yet
        began = time.monotonic()
        for number in range(load.frames):
            time.sleep(max(0.0, began + number / load.rate_hz - time.monotonic()))
            stamp = message.header.stamp
            stamp.sec, stamp.nanosec = divmod(time.time_ns(), 10**9)
            with suppress(RCLError):  # one more that does not arrive
                publisher.publish(message)
        print(load.frames, time.monotonic() - began + 1.0 / load.rate_hz, flush=True)
        time.sleep(SETTLE_S)
    node.destroy_node()
    rclpy.try_shutdown()


def main() -> None:
    """The sender's process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("topic")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("rate_hz", type=float)
    parser.add_argument("seconds", type=float)
    words = parser.parse_args()
    send(words.topic, Load(words.width, words.height, words.rate_hz, words.seconds))


if __name__ == "__main__":
    main()
