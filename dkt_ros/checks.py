"""Values held against their annotations, for what Python programs hand in. Imports no ROS."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from dkt_ros.errors import DktError

_KINDS: dict[Any, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "an integer"),
    float: (Real, "a number"),
    str: (str, "text"),
    Path: (PathLike, "a path"),
    type(None): (type(None), "None"),
}
"""Annotation -> what fits, numpy's numbers included, and its words."""


class Problem(NamedTuple):
    """What is wrong with values, in words, and the names of all that are part of it."""

    text: str
    names: tuple[str, ...]


class ValuesError(DktError):
    """Values that are wrong or do not go together."""

    def __init__(self, text: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(text)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> ValuesError:
        """That says all of them."""
        some = tuple(problems)
        return cls("; ".join(problem.text for problem in some), some)


def check_type(name: str, value: object, hint: Any) -> None:
    """Raises DktError with the name unless value is of the annotation.

    Understands classes, X | Y, tuples of given lengths and dictionaries; True is no number.
    """
    if not _fits(value, hint):
        # Not before something is wrong: a command line is read without numpy.
        from dkt_ros.arrays import described, is_array

        found = described(value) if is_array(value) else shown(value)
        raise DktError(f"{name} is {found}, expected {_words(hint)}")


def check_fields(config: Any, nan: bool = False) -> None:
    """check_type for every field of a dataclass; NaN is no number unless `nan` lets it pass."""
    kind: Any = type(config)
    hints = _hints(kind)
    for entry in fields(config):
        name, value = f"{kind.__name__}.{entry.name}", getattr(config, entry.name)
        check_type(name, value, hints[entry.name])
        if not nan and _has_nan(value):
            raise DktError(f"{name} is {value!r}, expected {_words(hints[entry.name])}")


def check_ranges(config: Any, **ranges: tuple[float, float]) -> None:
    """Raises DktError for a field of a dataclass outside its range, ends included, or NaN."""
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            least = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise DktError(f"{type(config).__name__}.{name} is {value!r}, expected {least}")


def check(name: str, value: object, expected: str, valid: object) -> None:
    """Raises DktError naming the field, its value and what is expected, unless `valid`."""
    if not valid:
        raise DktError(f"{name} is {shown(value)}, expected {expected}")


def shown(value: object) -> str:
    """Its repr, of at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # too many digits, an alias of itself
        text = f"of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


_hints = lru_cache(maxsize=None)(typing.get_type_hints)


def _has_nan(value: object) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_has_nan, value))
    return isinstance(value, Real) and value != value


def _fits(value: object, hint: Any) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is tuple:
        known = isinstance(value, tuple | list) and len(value) == len(inside)
        return known and all(map(_fits, typing.cast(Any, value), inside))
    if origin is dict:
        pair: Any = tuple[inside]  # type: ignore[valid-type]
        known = isinstance(value, Mapping)
        return known and all(_fits(item, pair) for item in typing.cast(Any, value).items())
    kind, _ = _KINDS.get(hint, (hint, ""))
    return isinstance(value, kind) and not (isinstance(value, bool) and hint in (int, float))


def _words(hint: Any) -> str:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_words, inside))
    if origin is tuple:
        return f"({', '.join(map(_words, inside))})"
    if origin is dict:
        return f"a dictionary of {_words(inside[0])} to {_words(inside[1])}"
    return _KINDS[hint][1] if hint in _KINDS else f"{hint.__name__}"
