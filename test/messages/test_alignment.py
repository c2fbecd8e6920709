"""The definitions that recordings carry are those that ROS builds the messages from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkt_ros.messages.alignment import DEFINITIONS

MSG = Path(__file__).parents[2] / "msg"


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definition_is_the_message_files(name: str) -> None:
    lines = (MSG / f"{name.rpartition('/')[2]}.msg").read_text().splitlines()
    bare = [" ".join(line.partition("#")[0].split()) for line in lines]
    assert [line for line in bare if line] == DEFINITIONS[name].splitlines()
