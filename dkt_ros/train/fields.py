"""Dataclasses from parsed YAML, type-checked field by field by their annotations.

Knows annotations and how to name a field in an error. Knows nothing of what the fields mean; their
ranges are checked where they are declared.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from dkt_ros.checks import check, shown
from dkt_ros.errors import DktError
from dkt_ros.unique_keys import NO_YAML, UniqueKeys, unclear

T = TypeVar("T")


class _Loader(UniqueKeys):
    """YAML in which nothing is lost without a word: no key twice, no number of base 8 or 60."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        found: int = super().construct_yaml_int(node)
        text = node.value.replace("_", "").lstrip("+-")
        if ":" in text or (text.isdecimal() and int(text) != abs(found)):
            raise unclear(node, f"YAML reads {node.value} as {found}; write the number meant")
        return found


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
RECIPES = Path(__file__).with_name("recipes")
"""Those of `dkt train`; those of other commands are in folders of the commands' names there."""
_EXPONENT = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
"""1e-5, which YAML 1.1 takes for text unless it is written 1.0e-5."""

_LARGEST = 2**31 - 1
"""Of an integer: seeds, sizes and counts are handed on to libraries that count in 32 bits."""


def read_recipe(
    name: str | Path, shipped: Path = RECIPES, changes: Sequence[str] = ()
) -> tuple[Path, Any]:
    """Path and parsed content of a YAML file, or of the one in `shipped` of that name.

    changes: `field=value` each, put over the content. Raises DktError where there is none (naming
    the shipped ones), where it is no YAML, and for a change that has no place.
    """
    path = Path(name)
    # A run may be called as its recipe is: `--config lora --output lora`. Unlike Path's, os.path's
    # exists says no to a name that is too long to be one.
    if os.path.isdir(path) or not os.path.exists(path):
        names = sorted(file.stem for file in shipped.glob("*.yaml"))
        if str(name) not in names:
            others = {file.stem: file.parent for file in RECIPES.rglob("*.yaml")}
            command = "train" if (of := others.get(str(name))) == RECIPES else of and of.name
            raise DktError(
                f"{name} is {f'a recipe of dkt {command}' if of else 'no file'}, and none of the "
                f"recipes {', '.join(names)}"
            )
        path = shipped / f"{name}.yaml"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise DktError(f"{path} is no text in UTF-8 ({error}); save it as that") from error
    except (OSError, *NO_YAML) as error:
        raise DktError(f"{path} cannot be read as YAML: {error}") from error
    if content is None:
        raise DktError(f"{path} is empty, expected fields with values, as {shipped} has them")
    for change in changes:
        _apply(content, change)
    return path, content


def load(
    make: Callable[[Any], T], name: str | Path, shipped: Path, changes: Sequence[str] = ()
) -> T:
    """What is made of read_recipe's content; DktError names the file and the field."""
    path, content = read_recipe(name, shipped, changes)
    try:
        return make(content)
    except DktError as error:
        raise DktError(f"{path}: {error}") from error


def build(kind: type[T], content: Any, name: str = "") -> T:
    """A dataclass from a mapping, nested dataclasses and tuples of them included.

    Raises DktError naming the field (with `name` and a dot before it) that is unknown, missing or
    not of its annotated type, or that the dataclass itself refuses, which names it without the
    place it stands in.
    Understands bool, int, float, str, Path, Literal, X | None, tuples and dataclasses; an int is
    taken where a float is asked for, and "" or nothing for none where none is possible.
    """
    if not isinstance(content, dict):
        raise DktError(f"{name or 'the file'} holds {shown(content)}, expected fields with values")
    prefix = f"{name}." if name else ""
    entries = {entry.name: entry for entry in dataclasses.fields(typing.cast(Any, kind))}
    for key in content:
        if key not in entries:
            raise DktError(f"{prefix}{key} is unknown; known are {', '.join(sorted(entries))}")
    hints = typing.get_type_hints(kind)
    values = {}
    for key, entry in entries.items():
        if entry.default == "" and content.get(key, 0) in ("", None):
            values[key] = ""
        elif key in content:
            values[key] = convert(hints[key], content[key], prefix + key)
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise DktError(f"{prefix}{key} is missing")
    try:
        return kind(**values)
    except DktError as error:
        raise DktError(f"{prefix}{error}") from error


def convert(hint: Any, value: Any, name: str) -> Any:
    """The value as the annotation `hint` asks for, or a DktError naming the field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and (value is None or (value == "" and str in arguments)):
            return None
        return convert(next(a for a in arguments if a is not type(None)), value, name)
    if origin is Literal:
        check(name, value, f"one of {', '.join(map(str, arguments))}", value in arguments)
        return value
    if origin is tuple:
        return _tuple(arguments, value, name)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        return build(typing.cast(Any, hint), value, name)
    if hint is bool:
        check(name, value, "true or false", isinstance(value, bool))
    elif hint is int:
        check(name, value, "an integer", isinstance(value, int) and not isinstance(value, bool))
        check(name, value, f"an integer of at most {_LARGEST}", abs(value) <= _LARGEST)
    elif hint is float:
        if isinstance(value, str) and _EXPONENT.match(value):
            value = float(value)
        check(name, value, "a finite number", is_number(value))
        return float(value)
    elif hint in (str, Path):
        check(name, value, "text", isinstance(value, str))
        check(name, value, "text that is not empty", value)
        return hint(value)
    return value


def at_least(least: int, config: object, *names: str) -> None:
    """check of fields of a dataclass that they are so much or more."""
    for name in names:
        value = getattr(config, name)
        check(name, value, f"at least {least}" if least else "0 or more", value >= least)


def above_zero(config: object, *names: str) -> None:
    """check of fields of a dataclass that they are above 0."""
    for name in names:
        check(name, getattr(config, name), "a number above 0", getattr(config, name) > 0)


def shares(config: object, *names: str) -> None:
    """check of fields of a dataclass that they are in [0, 1]."""
    for name in names:
        value = getattr(config, name)
        check(name, value, "a share from 0 to 1", 0 <= value <= 1)


def multiples(of: int, config: object, *names: str) -> None:
    """check of fields of a dataclass that they are multiples of a number, above 0."""
    for name in names:
        value = getattr(config, name)
        check(name, value, f"a multiple of {of}", value > 0 and value % of == 0)


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float (True and False are neither)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as what YAML and JSON can hold; `build` takes it back."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def changed(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Fields in which plain values differ, named as by --set (data.0.weight), with both values.

    What only one of them has is passed over.
    """
    lists = isinstance(before, list) and isinstance(now, list) and len(before) == len(now)
    if lists and all(isinstance(value, Mapping) for value in (*before, *now)):
        before, now = dict(enumerate(before)), dict(enumerate(now))
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        prefix = f"{name}." if name else ""
        for key in sorted(before.keys() & now.keys()):
            yield from changed(before[key], now[key], f"{prefix}{key}")
    elif before != now:
        yield name, before, now


def _tuple(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    check(name, value, "a list", isinstance(value, list | tuple))
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        hints: tuple[Any, ...] = (arguments[0],) * len(value)
    else:
        check(name, value, f"{len(arguments)} values", len(value) == len(arguments))
        hints = arguments
    return tuple(
        convert(hint, item, f"{name}[{index}]")
        for index, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _apply(content: Any, change: str) -> None:
    """Puts one `field=value` over parsed YAML; a number in the path indexes a list."""
    path, separator, text = change.partition("=")
    try:
        value = yaml.load(text, _Loader)
    except NO_YAML as error:
        raise DktError(f"--set {change}: {shown(text)} is no YAML value") from error
    if not separator:
        raise DktError(f"--set {change}: expected field=value")
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        if isinstance(place, dict):
            place = place.setdefault(parent, {})
        elif isinstance(place, list) and parent.isdigit() and int(parent) < len(place):
            place = place[int(parent)]
        else:
            raise DktError(f"--set {change}: there is no {parent} to change")
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    else:
        raise DktError(f"--set {change}: there is no {last} to change")
