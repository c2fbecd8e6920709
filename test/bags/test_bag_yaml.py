"""Recorders' YAML: the same with libyaml and without."""

from __future__ import annotations

import runpy

import pytest
import yaml

from dkt_ros.bags import bag_yaml
from dkt_ros.unique_keys import NO_YAML

METADATA = """
rosbag2_bagfile_information:
  duration: {nanoseconds: 600000000}
  relative_file_paths: [K\u00fcche.mcap]
  custom_data: null
  topics_with_message_count:
    - topic_metadata:
        name: /tf_static
        offered_qos_profiles: "- history: 3\\n  depth: 0\\n  avoid_ros_namespace_conventions: false"
      message_count: 7
"""


@pytest.mark.parametrize("has_libyaml", [True, False])
def test_recorders_yaml_is_read(has_libyaml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    parsed = runpy.run_path(bag_yaml.__file__)["parsed"]
    information = parsed(METADATA)["rosbag2_bagfile_information"]
    (topic,) = information["topics_with_message_count"]
    assert information["relative_file_paths"] == ["K\u00fcche.mcap"]
    assert information["duration"] == {"nanoseconds": 600_000_000}
    assert information["custom_data"] is None
    assert parsed(topic["topic_metadata"]["offered_qos_profiles"]) == [
        {"history": 3, "depth": 0, "avoid_ros_namespace_conventions": False}
    ]
    assert parsed("- " * 20 + "a") == yaml.safe_load("- " * 20 + "a")
    assert parsed('"caf\\uDCE9"') == "caf\udce9"
    # Of some ten thousand levels libyaml's nodes would end the process.
    for damaged in ("a: [1\nb: 2\n", "a: 2026-99-99\n", "- " * 2000 + "a", "[" * 2000, "\udc80"):
        with pytest.raises(NO_YAML):
            parsed(damaged)
