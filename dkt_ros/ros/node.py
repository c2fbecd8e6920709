"""The lifecycle node that turns a camera's colour and raw depth into metric depth.

Subscribed  color/image        sensor_msgs/Image, or CompressedImage on color/image/compressed
            depth/image        sensor_msgs/Image registered to colour, or CompressedImage on
                               depth/image/compressedDepth
            color/camera_info  sensor_msgs/CameraInfo
Published   see topics.py
Parameters  see params/parameters.py

Knows what is alive in which lifecycle state. The executor's one thread checks and files messages
(intake.py) and answers services, also while another one loads the network; one more decodes, infers
and publishes (worker.py), two more make clouds and pictures (outputs.py).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from dkt_ros.errors import DktError
from dkt_ros.ros import qos
from dkt_ros.ros.capture import Captures, RefusedError
from dkt_ros.ros.diagnostics import NO_NEW_DEPTH, diagnostic_array
from dkt_ros.ros.engine import Engine, SharedNetwork
from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.node_report import NodeReport, PipelineReport
from dkt_ros.ros.outputs import Outputs
from dkt_ros.ros.params.declarations import unknown_qos_overrides
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.pipeline import Pipeline
from dkt_ros.ros.requests import living_on
from dkt_ros.ros.statistics import Statistics
from dkt_ros.ros.status_log import StatusLog
from dkt_ros.ros.transforms import Transforms
from dkt_ros.ros.undo import all_of
from dkt_ros.ros.worker import WorkerStatus
from dkt_ros.srv import CaptureDepth
from dkt_ros.versions import own_version
from dkt_ros.wording import counted

HALT_PATIENCE_S = 10.0
"""How long deactivation waits for a running inference; then it fails, and may be tried again."""
EXIT_PATIENCE_S = 1.0
"""How long the end of the process waits for a running inference, before it leaves it behind."""


class DktNode(ManagedNode[NodeParameters]):
    """Unconfigured: parameters and diagnostics. Inactive: network and publishers. Active: all."""

    def __init__(
        self,
        build: Callable[[NodeParameters], Engine] | None = None,
        namespace: str = "",
        network: SharedNetwork | None = None,
    ) -> None:
        """Raises DktError naming the parameters that are wrong.

        network: that of several nodes; else the node loads its own.
        """
        self._engine: Engine | None = None
        self._outputs: Outputs | None = None
        self._pipeline: Pipeline | None = None
        self._statistics = Statistics()
        self._active_since: float | None = None
        super().__init__("dkt_node", NodeParameters, namespace)
        logger = self.get_logger()
        self._stage = ""
        self._build = build or partial(self._built_by, network)
        # rclpy's logger wants a line of its own for each severity.
        self._status_log = StatusLog(
            lambda text: logger.info(text),
            lambda text: logger.warning(text),
            lambda text: logger.error(text),
        )
        self._transforms: Transforms | None = None
        self._captures = Captures(self, self._no_depth, self._tf)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # On a clock of its own: a paused bag must not silence the node.
        self.create_timer(
            self.parameters.diagnostics_period_s,
            living_on(self.publish_diagnostics, self.report),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def prepare(self) -> Engine:
        """Loads and warms the network."""
        self._stage = ""
        self.get_logger().info("loading the network")
        return self._build(self.parameters)

    def _built_by(self, network: SharedNetwork | None, parameters: NodeParameters) -> Engine:
        # One of its own anew each time: what an error still holds of the last is no other camera.
        return (network or SharedNetwork()).build(parameters, self._progress)

    def discard(self, prepared: Engine) -> None:
        """Frees the network."""
        prepared.close()

    def is_configured(self) -> bool:
        """Whether there is a network."""
        return self._engine is not None

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        for part in (self._engine, self._outputs, self._pipeline):
            if part is not None:
                part.apply(parameters)

    def close(self) -> bool:
        """Ends everything that runs, from any lifecycle state, and destroys the node.

        Returns whether the inference has ended.
        """
        pipeline, ended = self._pipeline, [True]

        def stop() -> None:
            if pipeline is not None and not pipeline.stop(EXIT_PATIENCE_S):
                ended[0] = False
                self.get_logger().warning("an inference still runs; leaving it behind")

        all_of(stop, self._captures.close, self.destroy_node)
        return ended[0]

    def wind_down(self, transition: str) -> None:
        """Waits for the inference, and for clouds on their way where publishers are taken down."""
        if self._pipeline is not None:
            self._pipeline.wind_down(HALT_PATIENCE_S)
        if self._outputs is not None and transition != "deactivate":
            self._outputs.wind_down()

    def publish_diagnostics(self) -> None:
        """Says how the node is doing."""
        report = self._node_report()
        array = diagnostic_array(report, Header(stamp=self.get_clock().now().to_msg()))
        self._diagnostics.publish(array)
        # Transitions and complaints log themselves; why there is no new depth is told already. Of a
        # node that is cut off the log is all that is heard.
        parts = [
            status
            for status in array.status
            if (report.cut_off or not status.name.endswith(": lifecycle"))
            and status.message != NO_NEW_DEPTH
        ]
        self._status_log.note(parts, [text for text, _ in report.complaints.values()])

    def configure(self) -> None:
        """Takes the network that was loaded, advertises the outputs."""
        self._engine = self.take_prepared()
        self._outputs = Outputs(
            self, self.parameters, self._statistics, self.report, self._report_failure
        )
        info = self._engine.info
        self.get_logger().info(
            f"checkpoint {info.name} on {info.device} by {info.backend} in {info.dtype}, "
            f"{counted(info.steps, 'step')}"
        )
        if info.note:
            self.get_logger().warning(info.note)

    def start(self) -> None:
        """Subscribes and starts the inference thread."""
        assert self._engine is not None  # the state machine configures first
        assert self._outputs is not None
        self._stop(0.0)  # what activating left at work that failed, and whose end failed too
        self._pipeline = Pipeline(
            self,
            self.parameters,
            self._engine,
            self._outputs,
            self._statistics,
            self.report,
            self._report_failure,
            self._captures,
        )
        self._pipeline.start()
        self._active_since = time.monotonic()
        self.get_logger().info(f"waiting for {', '.join(self._pipeline.topics())}")
        if unknown := unknown_qos_overrides(self):
            self.get_logger().warning(
                f"ignored: {', '.join(unknown)}: expected qos_overrides.TOPIC, with TOPIC's whole "
                "name as resolved and remapped, then .subscription or .publisher and one of "
                "history, depth, reliability, durability"
            )

    def halt(self) -> None:
        """Unsubscribes and ends the inference thread."""
        self._stop(0.0 if self._winding_down else HALT_PATIENCE_S)  # it was waited for already

    def _stop(self, patience_s: float) -> None:
        if self._pipeline is not None and not self._pipeline.stop(patience_s):
            raise DktError(
                f"the inference has not ended within {HALT_PATIENCE_S:g} s of being told to; try "
                "again, or end the process"
            )
        self._pipeline = None
        self._active_since = None

    def release(self) -> None:
        """Takes the outputs down and frees the network."""
        outputs, engine, self._outputs, self._engine = self._outputs, self._engine, None, None
        try:
            if outputs is not None:
                outputs.destroy()
        finally:
            if engine is not None:
                # A GPU that answers nothing any more cannot free its memory either.
                with contextlib.suppress(RuntimeError):
                    engine.close()

    def _progress(self, stage: str) -> None:
        self._stage = stage
        self.get_logger().info(stage)

    def _no_depth(self) -> RefusedError | None:
        idle = self.idle()
        return RefusedError(CaptureDepth.Response.NOT_ACTIVE, idle) if idle else None

    def _tf(self) -> Transforms:
        self._transforms = self._transforms or Transforms(self)
        return self._transforms

    def _report_failure(self, cause: str, text: str) -> None:
        if not self.context.ok():  # the process is ending, and publishing with it
            return
        self._statistics.dropped(cause)
        if self._complaints.add(cause, text):
            self.get_logger().error(text)

    def _node_report(self) -> NodeReport:
        pipeline, engine, since = self._pipeline, self._engine, self._active_since
        loading = self._preparing_since
        return NodeReport(
            node_name=self.get_fully_qualified_name(),
            version=own_version(),
            lifecycle=self._state_machine.current_state[1],
            transition_error=self._transition_error,
            loading_s=None if loading is None else time.monotonic() - loading,
            loading_stage=self._stage,
            twins=self.twins_trouble(),
            rivals=self._outputs.rivals() if self._outputs else (),
            clock_trouble=self.clock_trouble(),
            active_s=None if since is None else time.monotonic() - since,
            resting=pipeline is not None
            and self.parameters.publish == "on_demand"
            and not self._captures.is_wanted,
            image_timeout_s=self.parameters.image_timeout_s,
            pipeline=pipeline.report() if pipeline else PipelineReport(),
            sync_slop_s=self.parameters.sync_slop_s,
            align_max_uncertainty=self.parameters.align_max_uncertainty,
            dds_advice=qos.large_message_advice(),
            cut_off=qos.cut_off_advice(),
            users_advice=qos.other_users_advice,
            surroundings=qos.surroundings(self),
            snapshot=self._statistics.snapshot(),
            complaints=self._complaints.latest(),
            worker=pipeline.worker_status if pipeline else WorkerStatus(),
            output_error=self._outputs.error if self._outputs else "",
            hanging=self._outputs.hanging() if self._outputs else {},
            choice=pipeline.choice_status if pipeline else None,
            engine=engine.info if engine else None,
            alignment=pipeline.alignment if pipeline else None,
            shares=pipeline.shares if pipeline else None,
            memory=engine.gpu_memory() if engine else {},
        )
