"""`dkt_node`: the lifecycle node that turns a camera's colour and raw depth into metric depth.

Subscribed  color/image        sensor_msgs/Image, or CompressedImage on color/image/compressed
            depth/image        sensor_msgs/Image registered to colour, or CompressedImage on
                               depth/image/compressedDepth
            color/camera_info  sensor_msgs/CameraInfo
Published   see topics.py
Parameters  see params/parameters.py

Knows what is alive in which lifecycle state. The executor's one thread checks and files messages
(intake.py) and answers services, also while another one loads the network; one more decodes, infers
and publishes (worker.py, outputs.py), a last one makes clouds.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial

import rclpy
import rclpy.logging
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header

from dkt_ros.errors import DktError
from dkt_ros.ros import qos
from dkt_ros.ros.diagnostics import NodeReport, PipelineReport, diagnostic_array
from dkt_ros.ros.engine import Engine, build_engine
from dkt_ros.ros.outputs import Outputs
from dkt_ros.ros.params.command_line import node_parser, split_ros_args
from dkt_ros.ros.params.declarations import ParameterChanges, declare, unknown_overrides
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.pipeline import Pipeline
from dkt_ros.ros.statistics import Complaints, Statistics
from dkt_ros.ros.status_log import StatusLog
from dkt_ros.ros.topics import topics_text
from dkt_ros.ros.worker import WorkerStatus

HALT_PATIENCE_S = 10.0
"""How long deactivation waits for a running inference; then it fails, and may be tried again."""
LOAD_POLL_S = 0.02
LOG_PERIOD_S = 10.0
"""A cause that persists is logged this often; diagnostics name it all the time."""
EXIT_PATIENCE_S = 10.0
"""How long the end of the process waits for a running inference."""


class DktNode(LifecycleNode):
    """Unconfigured: parameters and diagnostics. Inactive: network and publishers. Active: all."""

    def __init__(self, build: Callable[[NodeParameters], Engine] | None = None) -> None:
        """Raises DktError naming the parameters that are wrong."""
        super().__init__("dkt_node")
        self._engine: Engine | None = None
        self._loading_since: float | None = None
        self._loaded: Engine | Exception | None = None
        self._outputs: Outputs | None = None
        self._pipeline: Pipeline | None = None
        self._statistics = Statistics()
        self._complaints = Complaints(LOG_PERIOD_S)
        logger = self.get_logger()
        self._build = build or partial(build_engine, log=lambda text: logger.info(text))
        # rclpy's logger wants a line of its own for each severity.
        self._status_log = StatusLog(
            lambda text: logger.info(text),
            lambda text: logger.warning(text),
            lambda text: logger.error(text),
        )
        self._transition_error = ""
        self._active_since: float | None = None
        try:
            parameters = declare(self, NodeParameters)
        except BaseException:
            self.destroy_node()
            raise
        self._changes = ParameterChanges(parameters, self._is_configured, self._apply)
        for name in unknown_overrides(self, NodeParameters):
            logger.warning(f"parameter {name} is not known to this node and ignored")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a clock of its own: a paused bag must not silence the node.
        self.create_timer(
            self.parameters.diagnostics_period_s,
            self.publish_diagnostics,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self.add_on_set_parameters_callback(self._changes)
        # In a group of its own, so that whatever else comes is answered while it loads the network.
        service = self._service_change_state
        self._change_state_at_once = service.callback
        service.callback = self._change_state
        service.callback_group = ReentrantCallbackGroup()
        service.callback_group.add_entity(service)

    @property
    def parameters(self) -> NodeParameters:
        """The values that hold now."""
        return self._changes.current

    @property
    def is_loading(self) -> bool:
        """Whether a network is being loaded."""
        return self._loading_since is not None

    async def load(self) -> None:
        """Loads the network in a thread of its own, for the next transition to configure."""
        done = threading.Event()

        def build() -> None:
            try:
                self._loaded = self._build(self.parameters)
            except Exception as error:  # noqa: BLE001 the transition raises it again
                self._loaded = error
            done.set()
            if self.executor is not None:
                self.executor.wake()

        self.get_logger().info("loading the network")
        self._loading_since = time.monotonic()
        try:
            threading.Thread(target=build, name="dkt_load", daemon=True).start()
            # Awaiting leaves the executor to others; without the wait it would come back at once.
            while not done.wait(LOAD_POLL_S):
                await _NextTurn()
        finally:
            self._loading_since = None

    async def autostart_beside(self) -> None:
        """As autostart, while the executor goes on with everything else."""
        await self.load()
        self.autostart()

    async def _change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """The lifecycle service; a network is loaded before the transition to configure begins."""
        wanted = (request.transition.id, request.transition.label)
        configures = "configure" in wanted or wanted[0] == Transition.TRANSITION_CONFIGURE
        if self._state_machine.current_state[1] == "unconfigured" and configures:
            if self.is_loading:
                response.success = False
                return response
            await self.load()
        answer: ChangeState.Response = self._change_state_at_once(request, response)
        self._drop_loaded()
        return answer

    def autostart(self) -> None:
        """Configures and activates; what fails is logged, and the node stays where it got to."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Ends everything that runs, from any lifecycle state, and destroys the node."""
        if self._pipeline is not None and not self._pipeline.stop(EXIT_PATIENCE_S):
            self.get_logger().warning("an inference still runs; leaving it behind")
        self.destroy_node()

    def destroy_node(self) -> None:
        """As rclpy's, which leaves the lifecycle services to the garbage collector."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads and warms the network, advertises the outputs."""
        return self._transition("configure", self._configure, self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes and starts the inference thread."""
        return self._transition(
            "activate", lambda: self._activate(state), lambda: self._deactivate(state)
        )

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and ends the inference thread."""
        return self._transition("deactivate", lambda: self._deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the network and takes the outputs down."""
        return self._transition("clean up", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends everything."""
        return self._transition("shut down", self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured with nothing left over."""
        return self._transition("recover", self._release)

    def publish_diagnostics(self) -> None:
        """Says how the node is doing."""
        report = self._node_report()
        array = diagnostic_array(report, Header(stamp=self.get_clock().now().to_msg()))
        self._diagnostics.publish(array)
        # Transitions and complaints log themselves.
        parts = [status for status in array.status if not status.name.endswith(": lifecycle")]
        self._status_log.note(parts, [text for text, _ in report.complaints.values()])

    def _transition(
        self, name: str, act: Callable[[], None], undo: Callable[[], None] = lambda: None
    ) -> TransitionCallbackReturn:
        """Runs a transition; no exception leaves it, which on older rclpy would end the node."""
        try:
            act()
        except DktError as error:
            text = f"cannot {name}: {error}"
        except Exception as error:  # noqa: BLE001 see above
            text = f"cannot {name}: {type(error).__name__}: {error}"
        else:
            self._transition_error = ""
            return TransitionCallbackReturn.SUCCESS
        try:
            undo()
        except Exception as error:  # noqa: BLE001 see above
            self.get_logger().error(f"cannot undo: {type(error).__name__}: {error}")
        if not self.context.ok():  # interrupted, which is no error
            return TransitionCallbackReturn.FAILURE
        self._transition_error = text
        self.get_logger().error(text)
        return TransitionCallbackReturn.FAILURE

    def _drop_loaded(self) -> None:
        """What was loaded for a transition that did not take place."""
        loaded, self._loaded = self._loaded, None
        if isinstance(loaded, Engine):
            loaded.close()

    def _configure(self) -> None:
        loaded, self._loaded = self._loaded or self._build(self.parameters), None
        if isinstance(loaded, Exception):
            raise loaded
        self._engine = loaded
        self._outputs = Outputs(
            self, self.parameters, self._statistics, self._report, self._report_failure
        )
        info = self._engine.info
        self.get_logger().info(
            f"checkpoint {info.checkpoint} on {info.device} by {info.backend} in {info.dtype}, "
            f"{info.steps} steps"
        )
        if info.note:
            self.get_logger().warning(info.note)

    def _activate(self, state: LifecycleState) -> None:
        assert self._engine is not None  # the state machine configures first
        assert self._outputs is not None
        super().on_activate(state)
        self._pipeline = Pipeline(
            self,
            self.parameters,
            self._engine,
            self._outputs,
            self._statistics,
            self._report,
            self._report_failure,
        )
        self._pipeline.start()
        self._active_since = time.monotonic()
        self.get_logger().info(f"waiting for {', '.join(self._pipeline.topics())}")

    def _deactivate(self, state: LifecycleState) -> None:
        self._halt()
        super().on_deactivate(state)

    def _halt(self) -> None:
        if self._pipeline is not None and not self._pipeline.stop(HALT_PATIENCE_S):
            raise DktError(
                f"the inference has not ended within {HALT_PATIENCE_S:g} s of being told to; try "
                "again, or end the process"
            )
        self._pipeline = None
        self._active_since = None

    def _release(self) -> None:
        self._halt()
        if self._outputs is not None:
            self._outputs.destroy()
        engine, self._outputs, self._engine = self._engine, None, None
        if engine is not None:
            # A GPU that answers nothing any more cannot free its memory either.
            with contextlib.suppress(RuntimeError):
                engine.close()

    def _is_configured(self) -> bool:
        return self._engine is not None or self.is_loading

    def _apply(self, parameters: NodeParameters) -> None:
        for part in (self._engine, self._outputs, self._pipeline):
            if part is not None:
                part.apply(parameters)

    def _report(self, cause: str, text: str) -> None:
        if self._complaints.add(cause, text):
            self.get_logger().warning(text)

    def _report_failure(self, cause: str, text: str) -> None:
        if not self.context.ok():  # the process is ending, and publishing with it
            return
        self._statistics.dropped(cause)
        if self._complaints.add(cause, text):
            self.get_logger().error(text)

    def _waits_for_clock(self) -> bool:
        clock = self.get_clock()
        return bool(clock.ros_time_is_active and clock.now().nanoseconds == 0)

    def _node_report(self) -> NodeReport:
        pipeline, engine, since = self._pipeline, self._engine, self._active_since
        loading = self._loading_since
        return NodeReport(
            node_name=self.get_fully_qualified_name(),
            lifecycle=self._state_machine.current_state[1],
            transition_error=self._transition_error,
            loading_s=None if loading is None else time.monotonic() - loading,
            waits_for_clock=self._waits_for_clock(),
            active_s=None if since is None else time.monotonic() - since,
            image_timeout_s=self.parameters.image_timeout_s,
            pipeline=pipeline.report() if pipeline else PipelineReport(),
            sync_slop_s=self.parameters.sync_slop_s,
            dds_advice=qos.large_message_advice(),
            snapshot=self._statistics.snapshot(),
            complaints=self._complaints.latest(),
            worker=pipeline.worker_status if pipeline else WorkerStatus(),
            output_error=self._outputs.error if self._outputs else "",
            choice=pipeline.choice_status if pipeline else None,
            engine=engine.info if engine else None,
            alignment=pipeline.alignment if pipeline else None,
            memory=engine.gpu_memory() if engine else {},
        )


class _NextTurn:
    """Awaited, it gives the executor one turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns 2 when its parameters are wrong.

    SystemExit for `--help` (0) and for words that are no ROS arguments (2).
    """
    words, _ = split_ros_args(sys.argv[1:] if args is None else args)
    node_parser(topics_text()).parse_args(words)
    try:
        rclpy.init(args=args)
    except Exception as error:  # noqa: BLE001 rclpy's own types, which differ between distributions
        print(f"dkt_node: wrong ROS arguments: {_first_line(error)}", file=sys.stderr)
        return 2
    try:
        try:
            node = DktNode()
        except DktError as error:
            rclpy.logging.get_logger("dkt_node").fatal(str(error))
            return 2
        return run(node)
    finally:
        rclpy.try_shutdown()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def run(node: DktNode) -> int:
    """Spins `node`, after starting it if it is to start itself, until it is interrupted."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.parameters.autostart:
            executor.create_task(node.autostart_beside)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # What was under way when the interrupt took the context from it fails; that is no error.
        if node.context.ok():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # launch interrupts twice
        node.close()
        # Ending Python would collect garbage among torch's objects for seconds; launch waits five.
        gc.freeze()
        if node.is_loading:  # nor can a thread inside torch be waited for
            rclpy.try_shutdown()
            sys.stdout.flush()
            os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
