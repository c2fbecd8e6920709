"""Documentation for people, made from parameters.py and topics.py so that it cannot drift apart.

python -m dkt_ros.ros.params.docs yaml > config/dkt_node.yaml
python -m dkt_ros.ros.params.docs markdown   # for the README: parameters
python -m dkt_ros.ros.params.docs topics     # and published topics
python -m dkt_ros.ros.params.docs planner    # for docs/planner.md
"""

from __future__ import annotations

import json
import sys
import textwrap

from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.planner_parameters import PlannerParameters
from dkt_ros.ros.params.spec import Parameters, defaults, specs


def parameters_markdown(kind: type[Parameters] = NodeParameters) -> str:
    """The README's table of parameters."""
    lines = ["| parameter | default | values | acts | meaning |", "|---|---|---|---|---|"]
    for name, spec in specs(kind).items():
        default = f"`{json.dumps(defaults(kind)[name])}`"
        values = ", ".join(f"`{choice}`" for choice in spec.choices) or spec.expectation
        lines.append(
            f"| `{name}` | {default} | {values} | {spec.applies.value} | {spec.description} |"
        )
    return "\n".join(lines) + "\n"


def parameters_yaml() -> str:
    """A parameter file that holds every default, for `--params-file`."""
    lines = [
        "# Parameters of dkt_node and their defaults, for any node name and namespace.",
        "# Written by `python -m dkt_ros.ros.params.docs yaml`; copy it and change the copy.",
        "/**:",
        "  ros__parameters:",
    ]
    for name, spec in specs(NodeParameters).items():
        values = f" Values: {spec.expectation}." if spec.expectation else ""
        about = f"{spec.description}{values} Acts {spec.applies.value}."
        lines += textwrap.wrap(about, 100, initial_indent="    # ", subsequent_indent="    # ")
        lines.append(f"    {name}: {json.dumps(defaults(NodeParameters)[name])}")
    return "\n".join(lines) + "\n"


def parameters_text(kind: type[Parameters] = NodeParameters) -> str:
    """The list that `dkt_node --help` shows."""
    lines = []
    for name, spec in specs(kind).items():
        values = f" ({spec.expectation})" if spec.expectation else ""
        lines.append(f"  {name}:={json.dumps(defaults(kind)[name])}{values}")
        indent = " " * 6
        about = f"{spec.description} Acts {spec.applies.value}."
        lines += textwrap.wrap(about, 100, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines) + "\n"


def _topics() -> str:
    from dkt_ros.ros.topics import topics_markdown

    return topics_markdown()


if __name__ == "__main__":
    writers = {
        "markdown": parameters_markdown,
        "planner": lambda: parameters_markdown(PlannerParameters),
        "yaml": parameters_yaml,
        "topics": _topics,
    }
    if len(sys.argv) != 2 or sys.argv[1] not in writers:
        sys.exit(f"usage: python -m dkt_ros.ros.params.docs {{{','.join(writers)}}}")
    sys.stdout.write(writers[sys.argv[1]]())
