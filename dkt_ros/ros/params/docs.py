"""What is made from the tables of parameters and topics, so that it cannot drift apart from them.

`python -m dkt_ros.ros.params.docs`, in the checkout, writes it all: config/dkt_node.yaml, the
policy for SROS 2, and the tables between marks in docs/.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.planner_parameters import PlannerParameters
from dkt_ros.ros.params.spec import Parameters, defaults, specs


def parameters_markdown(kind: type[Parameters] = NodeParameters) -> str:
    """The table of docs/parameters.md or docs/planner.md."""
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
        "# Written by `python -m dkt_ros.ros.params.docs`; copy it and change the copy.",
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


def generated(root: Path) -> dict[Path, str]:
    """What the generated files of the checkout at root are to hold."""
    from dkt_ros.ros.policy import policy
    from dkt_ros.ros.topics import topics_markdown

    tables = {
        "parameters.md": ("parameters", parameters_markdown()),
        "planner.md": ("parameters", parameters_markdown(PlannerParameters)),
        "topics.md": ("topics", topics_markdown()),
    }
    files = {
        root / "config/dkt_node.yaml": parameters_yaml(),
        root / "config/security/dkt_node.policy.xml": policy(),
    }
    for name, (mark, table) in tables.items():
        page = root / "docs" / name
        opening, closing = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        before, _, rest = page.read_text(encoding="utf-8").partition(opening)
        files[page] = before + opening + table + closing + rest.partition(closing)[2]
    return files


if __name__ == "__main__":
    for path, text in generated(Path.cwd()).items():
        path.write_text(text, encoding="utf-8")
