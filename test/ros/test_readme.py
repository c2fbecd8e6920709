"""The README says what the code says."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from dkt_ros.cli import build_parser

pytestmark = pytest.mark.ros


def test_the_parameter_table_is_the_generated_one(repo_root: Path) -> None:
    from dkt_ros.ros.params.docs import parameters_markdown

    text = (repo_root / "README.md").read_text()
    table = text.split("<!-- parameters -->\n")[1].split("<!-- /parameters -->")[0]
    assert table == parameters_markdown(), (
        "put the output of `python -m dkt_ros.ros.params.docs markdown` into the README"
    )


def test_the_table_of_topics_is_the_generated_one(repo_root: Path) -> None:
    from dkt_ros.ros.topics import topics_markdown

    text = (repo_root / "README.md").read_text()
    table = text.split("<!-- topics -->\n")[1].split("<!-- /topics -->")[0]
    assert table == topics_markdown(), (
        "put the output of `python -m dkt_ros.ros.params.docs topics` into the README"
    )


def test_the_planner_s_table_is_the_generated_one(repo_root: Path) -> None:
    from dkt_ros.ros.params.docs import parameters_markdown
    from dkt_ros.ros.params.planner_parameters import PlannerParameters

    text = (repo_root / "docs" / "planner.md").read_text()
    table = text.split("<!-- parameters -->\n")[1].split("<!-- /parameters -->")[0]
    assert table == parameters_markdown(PlannerParameters), (
        "put the output of `python -m dkt_ros.ros.params.docs planner` into docs/planner.md"
    )


def test_every_command_is_listed_and_exists(repo_root: Path) -> None:
    text = (repo_root / "README.md").read_text()
    listed = set(re.findall(r"^\| `dkt ([a-z-]+)", text, flags=re.MULTILINE))
    actions = build_parser()._subparsers
    assert actions is not None
    [subparsers] = [a for a in actions._actions if isinstance(a, argparse._SubParsersAction)]
    assert listed == set(subparsers.choices)
