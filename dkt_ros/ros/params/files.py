"""YAML files, and which nodes a ROS parameter file is for. Knows names; nothing of nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dkt_ros.errors import DktError
from dkt_ros.unique_keys import NO_YAML, UniqueKeys


def check_params_file(
    path: Path, *namespaces: str, node: str = "dkt_node", argument: str = "params_file"
) -> None:
    """Raises DktError where a parameter file is missing, damaged, or sets nothing for any `node`.

    ROS reads such a file without a word and runs the node with its defaults.
    """
    if not path.is_file():
        raise DktError(f"{argument} {path} does not exist; expected a file like dkt_node.yaml")
    names = [f"/{namespace.strip('/')}/{node}".replace("//", "/") for namespace in namespaces]
    check_sections(path, names, argument)


def check_sections(path: Path, names: Sequence[str], argument: str) -> None:
    """Raises DktError where a parameter file sets nothing for any of the nodes, named in full."""
    sections = list(_sections(read_yaml(path, yaml.SafeLoader)))  # ROS adds up what comes twice
    if not any(_names(section, name) for section in sections for name in names):
        raise DktError(
            f"{argument} {path} sets nothing for {', '.join(names)}: it has parameters for "
            f"{', '.join(sections) or 'no node'}. Name them for '{names[0]}', or for '/**', which "
            "is every node"
        )


def _sections(tree: Any, prefix: str = "") -> list[str]:
    """The node names, absolute, that a parameter file has ros__parameters for."""
    if not isinstance(tree, dict):
        return []
    if "ros__parameters" in tree:
        return [prefix]
    return [
        found
        for key, below in tree.items()
        for found in _sections(below, f"{prefix}/{str(key).strip('/')}")
    ]


def _names(section: str, node: str) -> bool:
    """Whether `/**/dkt_node` and the like stand for this node; * is one name, ** any number."""
    pattern = re.escape(section).replace(r"/\*\*", "(/.+)?").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, node) is not None


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = UniqueKeys) -> Any:
    """A file's contents. Raises DktError where it cannot be read, or is no YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)
    except NO_YAML as error:
        raise DktError(f"{path} is no YAML file: {error}") from error
    except OSError as error:
        raise DktError(f"{path} cannot be read: {error.strerror or error}") from error
