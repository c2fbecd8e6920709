"""What SROS 2 is told to allow is what the node does, no less and no more."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.three_processes import NodeProcess, closing
from fixtures.waiting import PATIENCE_S, eventually
from fixtures.workshop import Workshop

from dkt_ros.ros.node import DktNode
from dkt_ros.ros.policy import policy

pytestmark = pytest.mark.ros
POLICY = Path(__file__).resolve().parents[2] / "config" / "security" / "dkt_node.policy.xml"
NO_SECURITY = "built with security"
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


def secured(
    keystore: Path,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    module: str = "node",
) -> NodeProcess:
    """A node that speaks with this keystore's enclave or not at all."""
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    monkeypatch.setenv("ROS_SECURITY_KEYSTORE", str(keystore))
    return NodeProcess(log, *arguments, module=module)


def test_a_middleware_without_security_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "enclaves").mkdir()
    # The planner is made as the node is, and loads no torch before.
    with closing(secured(tmp_path, tmp_path / "log", monkeypatch, module="planner")) as node:
        assert node.process.wait(PATIENCE_S) != 0, "an empty keystore secures nothing"
        said = node.output()
    if NO_SECURITY not in said:
        pytest.skip(f"this middleware has security: {said.splitlines()[-1]}")
    assert node.process.returncode == 2
    assert "[FATAL]" in said
    assert "Traceback" not in said


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    """With the node's enclave, as `ros2 security` makes it."""
    sros2: Any = pytest.importorskip("sros2.keystore", reason="needs sros2")
    folder = tmp_path / "keystore"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography's, of how sros2 calls it
        sros2.create_keystore(folder)
        sros2.create_enclave(folder, "/dkt_node")
        sros2.create_permission(folder, "/dkt_node", POLICY)
    return folder


def test_sros2_makes_an_enclave_of_the_policy(keystore: Path) -> None:
    """Signed, and with the names that DDS gives to what the policy allows."""
    enclave = keystore / "enclaves" / "dkt_node"
    assert "application/x-pkcs7-signature" in (enclave / "permissions.p7s").read_text()
    [grant] = ElementTree.parse(enclave / "permissions.xml").iter("grant")
    assert grant.findtext("default") == "DENY"
    granted = {
        right: {topic.text for rule in grant.iter(right) for topic in rule.iter("topic")}
        for right in ("publish", "subscribe")
    }
    text = POLICY.read_text()
    for right, topics in granted.items():
        assert {f"rt{topic}" for topic in allowed(text, "topics", right)} <= topics
    for service in allowed(text, "services", "reply"):
        assert f"rr{service}Reply" in granted["publish"]
        assert f"rq{service}Request" in granted["subscribe"]


def test_a_node_lives_in_its_enclave(
    keystore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it looks for its checkpoint; what it makes later is made of the same table."""
    words = ("--enclave", "/dkt_node", "-p", "checkpoint:=/nowhere")
    with closing(secured(keystore, tmp_path / "log", monkeypatch, *words)) as node:
        eventually(
            lambda: node.process.poll() is not None or "cannot configure" in node.output(),
            told=node.output,
        )
        if NO_SECURITY in node.output():
            pytest.skip("needs a middleware that was built with security")
        assert node.interrupt() == 0
