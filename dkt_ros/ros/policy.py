"""What SROS 2 has to allow dkt_node, made from its topics.

python -m dkt_ros.ros.params.docs     # writes config/security/dkt_node.policy.xml, too
python -m dkt_ros.ros.policy --namespace /left --color camera/color/image_raw ...

The policy is one enclave of one node; everything that is not listed is denied.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from dkt_ros.ros.topics import CAPTURE, OUTPUTS

_PARAMETERS = (
    "describe_parameters",
    "get_parameter_types",
    "get_parameters",
    "get_type_description",
    "list_parameters",
    "set_parameters",
    "set_parameters_atomically",
)
_LIFECYCLE = (
    "change_state",
    "get_available_states",
    "get_available_transitions",
    "get_state",
    "get_transition_graph",
)


def subscribed(color: str, depth: str, camera_info: str) -> list[str]:
    """All that the node may hear: either transport, time, tf, a lifecycle manager's bond."""
    return [
        "/clock",
        "/parameter_events",
        "/tf",
        "/tf_static",
        "bond",
        color,
        f"{color}/compressed",
        camera_info,
        depth,
        f"{depth}/compressedDepth",
        "mask",
    ]


def published() -> list[str]:
    """All that it may say."""
    return [
        "/diagnostics",
        "/parameter_events",
        "/rosout",
        "bond",
        *(output.topic for output in OUTPUTS),
        "~/transition_event",
    ]


def services() -> list[str]:
    """All that it may answer."""
    return [CAPTURE, *(f"~/{name}" for name in sorted((*_PARAMETERS, *_LIFECYCLE)))]


def policy(
    namespace: str = "/",
    name: str = "dkt_node",
    color: str = "color/image",
    depth: str = "depth/image",
    camera_info: str = "color/camera_info",
) -> str:
    """The policy's XML; relative names are in the node's namespace, as SROS 2 reads them."""
    path = f"{namespace.rstrip('/')}/{name}"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<!-- Written by `python -m dkt_ros.ros.params.docs`; see docs/security.md. -->",
        '<policy version="0.2.0">',
        "  <enclaves>",
        f'    <enclave path="{escape(path)}">',
        "      <profiles>",
        f'        <profile ns="{escape(namespace)}" node="{escape(name)}">',
        *_rule("topics", "subscribe", "topic", subscribed(color, depth, camera_info)),
        *_rule("topics", "publish", "topic", published()),
        *_rule("services", "reply", "service", services()),
        *_rule("actions", "execute", "action", [CAPTURE]),
        "        </profile>",
        "      </profiles>",
        "    </enclave>",
        "  </enclaves>",
        "</policy>",
    ]
    return "\n".join(lines) + "\n"


def _rule(kind: str, right: str, element: str, names: Iterable[str]) -> list[str]:
    inner = [f"            <{element}>{escape(name)}</{element}>" for name in names]
    return [f'          <{kind} {right}="ALLOW">', *inner, f"          </{kind}>"]


def main(args: Sequence[str] | None = None) -> None:
    """Prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--namespace", default="/")
    parser.add_argument("--name", default="dkt_node")
    parser.add_argument("--color", default="color/image", help="as the topic is remapped")
    parser.add_argument("--depth", default="depth/image")
    parser.add_argument("--camera-info", default="color/camera_info")
    sys.stdout.write(policy(**vars(parser.parse_args(args))))


if __name__ == "__main__":
    main()
