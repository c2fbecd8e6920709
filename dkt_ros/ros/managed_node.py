"""What lifecycle nodes of this package do alike: parameters, transitions, complaints.

A node of its own subclasses ManagedNode[ItsParameters], says in `prepare` what takes long before it
can be configured, in `configure`, `start`, `halt` and `release` what is alive in which state.
process.run_main is its command. Nothing here is particular to depth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock as ClockMessage

from dkt_ros.errors import DktError
from dkt_ros.ros.beside import beside
from dkt_ros.ros.bond import end_bond, make_bond
from dkt_ros.ros.neighbours import CLOCK_RESTS_S, Neighbours
from dkt_ros.ros.params.declarations import ParameterChanges, declare, unknown_overrides
from dkt_ros.ros.params.spec import Parameters
from dkt_ros.ros.qos import Paced
from dkt_ros.ros.requests import LOG_PERIOD_S, answer_unreadable, reading_what_it_can
from dkt_ros.ros.ros_arguments import naming_arguments
from dkt_ros.ros.sending import RCLError, SteadyStates, report_unsent
from dkt_ros.ros.statistics import Complaints
from dkt_ros.ros.undo import all_of, told, undone_by

Own = TypeVar("Own", bound=Parameters)

_ENDING = ("deactivate", "cleanup", "shutdown")
"""Transitions that wait for threads."""


class ManagedNode(LifecycleNode, Generic[Own]):
    """A lifecycle node whose long preparations leave its services answering."""

    _state_machine: Any

    def __init__(self, name: str, kind: type[Own], namespace: str = "") -> None:
        """Raises DktError naming the parameters that are wrong."""
        with naming_arguments():
            super().__init__(name, namespace=namespace)
        self._prepared: Any = None
        self._preparing_since: float | None = None
        self._winding_down = ""  # for which transition
        self._bond: Any = None
        self._complaints = Complaints(LOG_PERIOD_S)
        self._transition_error = ""
        with undone_by(self.destroy_node):
            parameters = declare(self, kind)
        self._changes = ParameterChanges(
            parameters, lambda: self.is_preparing or self.is_configured(), self.apply
        )
        for unknown in unknown_overrides(self, kind):
            self.get_logger().warning(f"parameter {unknown} is not known to this node and ignored")
        self._state_machine = SteadyStates(self._state_machine, self.report)
        answer_unreadable(self, self.report)
        self.add_on_set_parameters_callback(self._changes)
        self._neighbours = Neighbours(self, self.idle, self.report)
        # In a group of its own, so that whatever else comes is answered while it prepares.
        service = self._service_change_state
        self._change_state_at_once = service.callback
        service.callback = self._change_state
        service.callback_group = ReentrantCallbackGroup()
        service.callback_group.add_entity(service)

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], Any], *words: Any, **options: Any
    ) -> Any:
        """As rclpy's, whose own of /clock raises at a time before 0; no message ends the node."""
        careful = reading_what_it_can(callback, topic, self.report)
        if kind is ClockMessage:
            options["callback_group"] = Paced(CLOCK_RESTS_S)
        return super().create_subscription(kind, topic, careful, *words, **options)

    @property
    def parameters(self) -> Own:
        """The values that hold now."""
        return self._changes.current

    @property
    def is_preparing(self) -> bool:
        """Whether `prepare` runs."""
        return self._preparing_since is not None

    def prepare(self) -> Any:
        """What takes long before a transition to configure, in a thread of its own."""

    def discard(self, prepared: Any) -> None:
        """Frees what was prepared for a transition that did not take place."""

    def is_configured(self) -> bool:
        """Whether parameters that act when configured have acted already."""
        return False

    def apply(self, parameters: Own) -> None:
        """Takes over the parameters that act at once."""

    def wind_down(self, transition: str) -> None:
        """Waits for what has to end before this transition: deactivate, cleanup or shutdown.

        In a thread of its own, so that it creates and destroys nothing of rclpy's.
        """

    def configure(self) -> None:
        """Makes what the node works with; where it raises, `release` follows."""

    def start(self) -> None:
        """Begins to work, with publishers that publish; where it raises, `halt` follows."""

    def halt(self) -> None:
        """Works no more; where it raises, it may be tried again."""

    def release(self) -> None:
        """Takes down what configuring made, as much of it as there is, all that can be."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ready to work."""
        return self.transition("configure", self.configure, self.release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publishers publish; a lifecycle manager that asks for a bond gets one."""
        return self.transition(
            "activate",
            lambda: self._activate(state),
            lambda: all_of(self.halt, lambda: self._silence(state)),
        )

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publishers publish no more; the bond is broken."""
        return self.transition("deactivate", lambda: self._deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Nothing is left of what configuring made."""
        return self.transition("clean up", self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends everything."""
        return self.transition("shut down", lambda: self._end(state))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured with nothing left over."""
        return self.transition("recover", lambda: self._end(state))

    def close(self) -> bool:
        """Ends everything that runs, from any lifecycle state, and destroys the node.

        Returns whether all has ended that a process has to wait for.
        """
        self.destroy_node()
        return True

    def destroy_node(self) -> None:
        """As rclpy's, which leaves the lifecycle services to the garbage collector."""
        destroy = super().destroy_node
        all_of(self._end_bond, destroy, self._state_machine.destroy_when_not_in_use)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """As rclpy's, with refusals that can be understood, and whole numbers for fractions."""
        try:
            if ended := self._ended():
                raise DktError(ended)
            if unknown := [one.name for one in parameter_list if not self.has_parameter(one.name)]:
                raise DktError(f"parameter {', '.join(unknown)} is not known to this node")
            parameter_list = self._without_what_stays(parameter_list)
            parameter_list = self._changes.as_declared(parameter_list)
        except DktError as error:
            return SetParametersResult(successful=False, reason=str(error))
        try:
            return super().set_parameters_atomically(parameter_list)
        except RCLError as error:  # on /parameter_events, where they are told when all are set
            report_unsent(error, self.report)
            return SetParametersResult(successful=True)

    def _without_what_stays(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """All but what cannot be set while the node runs, and is to be as it is.

        `ros2 param load` sets all that `ros2 param dump` wrote. Raises DktError for what is to be
        otherwise, and for another type; rclpy refuses them too, and names types by their numbers.
        """
        left = []
        for one in parameters:
            declared, now = self.describe_parameter(one.name), self.get_parameter(one.name).value
            if declared.read_only and (type(one.value), one.value) == (type(now), now):
                continue
            if declared.read_only:
                raise DktError(
                    f"parameter {one.name} is read-only, it acts at start alone: end the node, and "
                    f"start it with -p {one.name}:=VALUE"
                )
            left.append(one)
            if one.name == "use_sim_time" and type(one.value) is not type(now):
                raise DktError(f"parameter {one.name} is {one.value!r}, expected true or false")
        return left

    def autostart(self) -> None:
        """Configures and activates; what fails is logged, and the node stays where it got to."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    async def autostart_beside(self) -> None:
        """As autostart, while the executor goes on with everything else."""
        await self._prepare_beside()
        self.autostart()

    def take_prepared(self) -> Any:
        """The result of `prepare`, made now if there is none; raises what it raised."""
        prepared, self._prepared = self._prepared, None
        if isinstance(prepared, Exception):
            raise prepared
        return self.prepare() if prepared is None else prepared

    def transition(
        self, name: str, act: Callable[[], None], undo: Callable[[], None] = lambda: None
    ) -> TransitionCallbackReturn:
        """Runs a transition; no exception leaves it, which on older rclpy would end the node."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 see above
            text = f"cannot {name}: {told(error)}"
        else:
            self._transition_error = ""
            return TransitionCallbackReturn.SUCCESS
        try:
            undo()
        except Exception as error:  # noqa: BLE001 see above
            if not text.endswith(told(error)):
                text += f"; and taking back what had begun failed: {told(error)}"
        if not self.context.ok():  # interrupted, which is no error
            return TransitionCallbackReturn.FAILURE
        self._transition_error = text
        self.get_logger().error(text)
        return TransitionCallbackReturn.FAILURE

    def _activate(self, state: LifecycleState) -> None:
        self._bond = self._bond or make_bond(self, self.report)
        if self._bond is not None:
            self._bond.start()
        super().on_activate(state)
        self.start()

    def _deactivate(self, state: LifecycleState) -> None:
        self.halt()  # first: where it fails, the node is still active, and its bond holds
        self._silence(state)

    def _silence(self, state: LifecycleState) -> None:
        publish_no_more = super().on_deactivate
        all_of(self._end_bond, lambda: publish_no_more(state))

    def _clean_up(self) -> None:
        self.halt()  # where activating failed and left something at work
        try:
            self.release()
        except Exception as error:  # noqa: BLE001 told; what can be is down, and inactive no more
            self.report("cleaning up", f"some of it could not be destroyed: {told(error)}")

    def _end(self, state: LifecycleState) -> None:
        """Whatever fails of it, the state is no longer what it was."""
        all_of(lambda: self._silence(state), self.halt, self.release)

    def report(self, cause: str, text: str) -> None:
        """What was dropped or looks wrong: for diagnostics, and for the log now and then."""
        if self._complaints.add(cause, text):
            self.get_logger().warning(text)

    def clock_trouble(self) -> str:
        """What is told where use_sim_time is set and /clock is silent, still or sent by two."""
        return self._neighbours.clock_trouble()

    def twins_trouble(self) -> str:
        """What is told where other nodes go by this one's name; else ""."""
        return self._neighbours.twins_trouble()

    def idle(self) -> str:
        """What is told to whoever asks for something while the node is not active; else ""."""
        if ended := self._ended():
            return ended
        state = self._state_machine.current_state[1]
        if state == "active":
            return ""
        name = self.get_fully_qualified_name()
        if self.is_preparing:
            return f"{name} is still loading, expected active: wait"
        return f"{name} is {state}, expected active: configure and activate it (ros2 lifecycle set)"

    def _ended(self) -> str:
        """What is told once nothing acts on this node any more; else ""."""
        is_final = self._state_machine.current_state[1] == "finalized"
        if not is_final and self._winding_down != "shutdown":
            return ""
        state = "finalized" if is_final else "shutting down"
        name = self.get_fully_qualified_name()
        return f"{name} is {state}, expected active: end its process and restart it"

    async def _change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """The lifecycle service; what takes long comes before the transition, beside the executor.

        Refuses a request that comes while another is being answered.
        """
        if self.is_preparing or self._winding_down:
            self.get_logger().warning(
                "transition refused: another one is under way; ask again when it is done"
            )
            response.success = False
            return response
        wanted = self._wanted(request.transition)
        if wanted == "configure":
            await self._prepare_beside()
        self._winding_down = wanted if wanted in _ENDING else ""
        try:
            if self._winding_down:
                await self._wind_down_beside(wanted)
            answer: ChangeState.Response = self._change_state_at_once(request, response)
        finally:
            self._winding_down = ""
        unused, self._prepared = self._prepared, None
        if unused is not None and not isinstance(unused, Exception):
            with suppress(Exception):  # a device that answers nothing any more frees nothing
                self.discard(unused)
        return answer

    async def _wind_down_beside(self, transition: str) -> None:
        """Where that fails, as without room for a thread, the transition itself waits."""
        try:
            await self.beside(lambda: self.wind_down(transition))
        except Exception as error:  # noqa: BLE001 raised in the executor, it would end the node
            self._winding_down = ""
            text = f"cannot wait beside the executor: {type(error).__name__}: {error}"
            self.report("transition", text)

    def _wanted(self, transition: Transition) -> str:
        """The label of what is asked for, as rclpy reads it; "" where it is none of this state's.

        Nothing may end for a transition that does not take place.
        """
        for number, label, *_ in self._state_machine.available_transitions:
            if transition.label == label or (not transition.label and transition.id == number):
                return str(label)
        return ""

    def _end_bond(self) -> None:
        bond, self._bond = self._bond, None
        if bond is not None:
            end_bond(self, bond)

    async def beside(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, done in a thread of its own while the executor goes on."""
        return await beside(self, work)

    async def _prepare_beside(self) -> None:
        self._preparing_since = time.monotonic()
        try:
            self._prepared = await self.beside(self.prepare)
        except Exception as error:  # noqa: BLE001 the transition raises it again
            self._prepared = error
        finally:
            self._preparing_since = None
