"""Parameters of a node as a frozen dataclass: value, range, meaning, and when a change acts.

    @dataclass(frozen=True)
    class PlannerParameters(Parameters):
        max_width_m: float = parameter(0.08, "The gripper's opening.", Applies.AT_ONCE, unit="m")

declarations.py declares such a class on a node, docs.py writes its documentation. Without rclpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from dkt_ros.checks import Problem, ValuesError
from dkt_ros.errors import DktError

if TYPE_CHECKING:
    from typing_extensions import Self

Value = bool | int | float | str | tuple[str, ...]


class Applies(Enum):
    """When a new value of a parameter acts."""

    AT_ONCE = "at once"
    ON_CONFIGURE = "when configured"
    AT_START = "at start"


@dataclass(frozen=True)
class Spec:
    """What is known of a parameter besides its name and default. The range is inclusive."""

    description: str
    applies: Applies
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def problem(self, value: Value) -> str | None:
        """What is wrong with this value, None when nothing."""
        if self.choices and value not in self.choices:
            return f"expected one of {', '.join(self.choices)}"
        low, high = self.minimum, self.maximum
        if low is None or high is None:
            endless = isinstance(value, float) and not math.isfinite(value)
            return "expected a finite number" if endless else None
        if isinstance(value, str | tuple) or low <= value <= high:
            return None
        return f"expected {self.expectation}"

    @property
    def expectation(self) -> str:
        """Unit, and range or choices, for people."""
        if self.choices:
            return ", ".join(self.choices)
        if self.minimum is None or self.maximum is None:
            return self.unit
        return f"{_number(self.minimum)} to {_number(self.maximum)} {self.unit}".rstrip()


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def parameter(default: Value, description: str, applies: Applies, **more: Any) -> Any:
    """A field of a Parameters class; `more` are further fields of Spec."""
    return field(default=default, metadata={"spec": Spec(description, applies, **more)})


@dataclass(frozen=True)
class Parameters:
    """Base of a node's parameters. Wrong values raise one DktError that names all of them."""

    def __post_init__(self) -> None:
        problems = []
        for name, spec in specs(type(self)).items():
            value = getattr(self, name)
            if (problem := spec.problem(value)) is not None:
                problems.append(Problem(f"parameter {name} is {value!r}, {problem}", (name,)))
        if problems := problems or list(self.joint_problems()):
            raise ValuesError.of(problems)

    def joint_problems(self) -> Iterator[Problem]:
        """What is wrong with values, each in its range, that must fit each other or have a form."""
        return iter(())

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """From a file's or a node's values; others keep their defaults.

        Whole numbers do for fractions and lists for tuples. Raises DktError naming every value
        that is unknown, of another type, or wrong.
        """
        known, checked, problems = defaults(cls), {}, []
        for name, value in values.items():
            if name not in known:
                problems.append(f"parameter {name} is not known, expected {', '.join(known)}")
                continue
            kind = type(known[name])
            converted = value
            if kind is float and type(value) is int:
                converted = float(value)
            elif kind is tuple and isinstance(value, list):
                converted = tuple(item for item in value if item)
            if type(converted) is not kind:
                problems.append(f"parameter {name} is {value!r}, expected a {kind.__name__}")
            checked[name] = converted
        if problems:
            raise DktError("; ".join(problems))
        return cls(**checked)


def specs(kind: type[Parameters]) -> dict[str, Spec]:
    """Name -> what is known of the parameter, in the order of declaration."""
    return {entry.name: entry.metadata["spec"] for entry in fields(kind)}


def defaults(kind: type[Parameters]) -> dict[str, Value]:
    """Name -> default value."""
    return {entry.name: cast(Value, entry.default) for entry in fields(kind)}
