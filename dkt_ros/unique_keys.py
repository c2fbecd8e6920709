"""YAML in which no key stands twice; it has none, and its parser lets the last one win."""

from __future__ import annotations

from typing import Any

import yaml

NO_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What PyYAML raises for a text that is none; ValueError of a date or a number that cannot be."""


class UniqueKeys(yaml.SafeLoader):
    """As SafeLoader. Raises MarkedYAMLError for a key that a mapping has already."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See SafeLoader."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise unclear(key, f"{key.value} stands there twice, keep one of them")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def unclear(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    """A problem, and where in the file it is."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
