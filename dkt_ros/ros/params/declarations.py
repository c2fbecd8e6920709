"""A Parameters class <-> a ROS node's parameters. Nothing here is particular to one node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from dkt_ros.checks import Problem, ValuesError
from dkt_ros.errors import DktError
from dkt_ros.ros.params.spec import Applies, Parameters, Spec, Value, defaults, specs

Own = TypeVar("Own", bound=Parameters)

_QOS = "qos_overrides."


def declare(node: Node, kind: type[Own], given: Mapping[str, Value] | None = None) -> Own:
    """Declares every parameter of `kind` on `node`; returns their values, overrides applied.

    `given` (from a command line) holds instead of the defaults. Raises DktError naming each
    parameter whose override has a wrong type or value.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, spec in specs(kind).items():
        default = (given or {}).get(name, defaults(kind)[name])
        # rclpy cannot tell an empty list's type.
        initial = (list(default) or [""]) if isinstance(default, tuple) else default
        try:
            values[name] = node.declare_parameter(name, initial, descriptor(spec, default)).value
        except InvalidParameterTypeException:
            hint = " (write 1.0, not 1)" if isinstance(default, float) else ""
            problems.append(f"{_what(node, name)}, {_expected_type(default)}{hint}")
        except InvalidParameterValueException:
            problems.append(f"{_what(node, name)}, expected {spec.expectation}")
    if problems:
        raise DktError("; ".join(problems))
    return kind.from_values(values)


def _what(node: Node, name: str) -> str:
    override = _given(node).get(name)
    return f"parameter {name} is {override.value!r}" if override else f"parameter {name}"


def unknown_overrides(node: Node, kind: type[Parameters]) -> list[str]:
    """Parameters given at start that no declaration has asked for: misspelt, most likely."""
    known = (*specs(kind), "use_sim_time", "start_type_description_service")
    return [name for name in _given(node) if name not in known and not name.startswith(_QOS)]


def unknown_qos_overrides(node: Node) -> list[str]:
    """QoS given at start for no topic that the node has by now, or of a kind it cannot set.

    That of other namespaces' topics may be meant for another node of the process.
    """
    anywhere, own = f"{_QOS}/", f"{_QOS}{node.get_namespace().rstrip('/')}/"
    return sorted(
        name
        for name in _given(node)
        if name.startswith(_QOS) and not node.has_parameter(name)
        if name.startswith(own) or not name.startswith(anywhere)
    )


def qos_overrides_of(node: Node, topic: str, entity: str) -> dict[str, Any]:
    """Name -> value of the QoS given at start for a topic; entity: "subscription", "publisher"."""
    own = f"{_QOS}{topic}.{entity}."
    return {name: each.value for name, each in _given(node).items() if name.startswith(own)}


def _given(node: Node) -> Mapping[str, Any]:
    # rclpy drops unknown ones in silence and has no public way to ask for them.
    given: Mapping[str, Any] = getattr(node, "_parameter_overrides", {})
    return given


def descriptor(spec: Spec, default: Value) -> ParameterDescriptor:
    """What `ros2 param describe` shows, and the range that rclpy enforces by itself."""
    message = ParameterDescriptor(
        description=spec.description,
        additional_constraints=f"Acts {spec.applies.value}. {spec.expectation}".rstrip(),
        read_only=spec.applies is Applies.AT_START,
        # What cannot be set later needs no type of rclpy's: `-p rate:=2` sets a fraction.
        dynamic_typing=spec.applies is Applies.AT_START,
    )
    if spec.minimum is None or spec.maximum is None or message.dynamic_typing:
        return message
    if isinstance(default, float):
        message.floating_point_range = [
            FloatingPointRange(from_value=float(spec.minimum), to_value=float(spec.maximum))
        ]
    else:
        message.integer_range = [
            IntegerRange(from_value=int(spec.minimum), to_value=int(spec.maximum), step=1)
        ]
    return message


def _expected_type(default: Value) -> str:
    return f"expected a value of type {type(default).__name__}"


class ParameterChanges(Generic[Own]):
    """The answer to requests to change parameters of a running node.

    Accepts what can act, has it act, and refuses everything else with a reason.
    """

    def __init__(
        self,
        current: Own,
        is_configured: Callable[[], bool],
        apply: Callable[[Own], None],
    ) -> None:
        """`apply` gets the new parameters whenever some that act at once have changed."""
        self.current = current
        self._specs = specs(type(current))
        self._is_configured = is_configured
        self._apply = apply

    def as_declared(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """What is asked for, whole numbers for fractions made fractions.

        Raises DktError for values of another type or out of range: rclpy's own refusal names types
        by their numbers.
        """
        return [self._as_declared(p) if p.name in self._specs else p for p in parameters]

    def _as_declared(self, parameter: Parameter) -> Parameter:
        name, value = parameter.name, parameter.value
        default = defaults(type(self.current))[name]
        if self._specs[name].applies is Applies.AT_START or isinstance(default, tuple):
            return parameter  # left to rclpy
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            raise DktError(f"parameter {name} is {value!r}, {_expected_type(default)}")
        if problem := self._specs[name].problem(value):
            raise DktError(f"parameter {name} is {value!r}, {problem}")
        return Parameter(name, value=value)

    def __call__(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Called by rclpy before it stores new values; what is refused keeps its old one."""
        ours = {p.name: p.value for p in parameters if p.name in self._specs}
        changed = {name: v for name, v in ours.items() if v != getattr(self.current, name)}
        if not changed:  # also when rclpy declares QoS overrides
            return SetParametersResult(successful=True)
        late = [name for name in changed if self._specs[name].applies is Applies.ON_CONFIGURE]
        if late and self._is_configured():
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(late)}: acts when the node is configured, and it is already; "
                "deactivate it and clean it up first, then set, configure and activate it",
            )
        try:
            new = replace(self.current, **changed)
        except ValuesError as error:
            reason = f"{error}{self._how_together(error.problems, ours)}"
            return SetParametersResult(successful=False, reason=reason)
        self.current = new
        self._apply(new)
        return SetParametersResult(successful=True)

    def _how_together(self, problems: Iterable[Problem], asked: Mapping[str, Any]) -> str:
        """What to do where those that were asked for do not go with others; "" where they do.

        Many set several in one request that ROS takes apart: `ros2 param load` does.
        """
        others = sorted({name for problem in problems for name in problem.names} - asked.keys())
        how = "before, or with it by the service set_parameters_atomically"
        return f". Set {', '.join(others)} {how}" if others else ""
