"""YAML that recorders write, metadata.yaml and QoS profiles: by libyaml, where PyYAML has it.

That is six times as fast. Its errors show no line of the text: what people write is read otherwise.
"""

from __future__ import annotations

from typing import Any

import yaml

_DEEPEST = 100
"""Levels of lists and mappings; a bag has ten, and the stack ends at some ten thousand."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Counts levels, as Python's own recursion would: what composes libyaml's nodes does not."""

    _level = 0

    def descend_resolver(self, parent: yaml.Node | None, index: Any) -> None:
        """On the way to each node."""
        self._level += 1
        if self._level > _DEEPEST:
            raise RecursionError(f"more than {_DEEPEST} levels")
        super().descend_resolver(parent, index)

    def ascend_resolver(self) -> None:
        """On the way back."""
        self._level -= 1
        super().ascend_resolver()


def parsed(text: str) -> Any:
    """What a YAML text holds. Raises an error of unique_keys.NO_YAML where it is none."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:  # as of a file's name that is no UTF-8, which libyaml takes for damage
        return yaml.load(text, yaml.SafeLoader)
