"""What SROS 2 is told to allow is what the node does, no less and no more."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.workshop import Workshop

from dkt_ros.ros.node import DktNode
from dkt_ros.ros.policy import policy

pytestmark = pytest.mark.ros
OPTIONAL = {
    "/bond",
    "/clock",
    "/color/image/compressed",
    "/depth/image/compressedDepth",
    "/parameter_events",
    "/tf",
    "/tf_static",
}
"""Used by other settings, or heard by some distributions' nodes alone."""


def allowed(text: str, kind: str, right: str, node: str = "/dkt_node") -> set[str]:
    """Full names that a rule of the policy holds."""
    [profile] = ElementTree.fromstring(text).iter("profile")
    namespace = profile.attrib["ns"].rstrip("/")
    found = set()
    for rule in profile.findall(kind):
        if rule.get(right) == "ALLOW":
            for element in rule:
                name = str(element.text).replace("~", node)
                found.add(name if name.startswith("/") else f"{namespace}/{name}")
    return found


def test_an_active_node_does_what_is_allowed_and_all_of_it() -> None:
    rclpy.init()
    node = DktNode(Workshop())
    try:
        node.autostart()
        name, namespace = node.get_name(), node.get_namespace()
        hears = node.get_subscriber_names_and_types_by_node(name, namespace)
        says = node.get_publisher_names_and_types_by_node(name, namespace)
        answers = node.get_service_names_and_types_by_node(name, namespace)
    finally:
        node.close()
        rclpy.shutdown()

    def own(found: list[tuple[str, list[str]]]) -> set[str]:
        """An action's parts are allowed with the action."""
        return {topic for topic, _ in found if "/_action/" not in topic}

    text = policy()
    assert own(hears) | OPTIONAL == allowed(text, "topics", "subscribe") | OPTIONAL
    assert own(hears) <= allowed(text, "topics", "subscribe")
    assert own(says) | OPTIONAL == allowed(text, "topics", "publish") | OPTIONAL
    assert own(says) <= allowed(text, "topics", "publish")
    assert own(answers) == allowed(text, "services", "reply")
    assert {topic.partition("/_action/")[0] for topic, _ in says if "/_action/" in topic} == (
        allowed(text, "actions", "execute")
    )


def test_a_camera_in_a_namespace_has_its_own_enclave() -> None:
    text = policy("/left", color="/cam/color", depth="aligned", camera_info="/cam/info")
    assert '<enclave path="/left/dkt_node">' in text
    hears = allowed(text, "topics", "subscribe", "/left/dkt_node")
    assert {"/cam/color", "/cam/color/compressed", "/left/aligned", "/cam/info"} <= hears
    assert "/left/dkt/depth" in allowed(text, "topics", "publish", "/left/dkt_node")
