"""Recordings on a Ray cluster: a task each, and another try for one whose worker is lost."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray.exceptions import RayError, RayTaskError

from dkt_ros.errors import DktError
from dkt_ros.processing.find_sources import Recording
from dkt_ros.processing.many import Result, given_up, one_result
from dkt_ros.processing.one import Progress
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome

_log = logging.getLogger(__name__)
_LOOK_S = 1.0
"""How often progress is asked for, and told."""
_CONNECT_S = 10.0


@dataclass(frozen=True)
class RayCluster:
    """Where recordings are processed: a way to run them for process_many.

    address   "auto" (the cluster of this machine), HOST:PORT, ray://HOST:PORT or "local"
    gpus      of each recording; 0.5: two share one; 0: the CPU
    Raises DktError for what is no number of GPUs to Ray.
    """

    address: str = "auto"
    gpus: float = 0.0

    def __post_init__(self) -> None:
        in_steps = round(self.gpus, 4) == self.gpus if self.gpus < 1 else self.gpus % 1 == 0
        if not (self.gpus >= 0 and in_steps):
            raise DktError(
                f"--ray-gpus {self.gpus:g}: expected a share of a GPU in steps of 0.0001, or a "
                "whole number of GPUs"
            )

    def __call__(
        self,
        recordings: Sequence[Recording],
        options: ProcessOptions,
        output: Path,
        tries: int,
        progress: Progress,
    ) -> Iterator[Result]:
        """Results as they come. Raises DktError where there is no cluster or no such GPU."""
        options = self._checked(options)
        self._connect(options.predictor.cpu_threads)
        try:
            yield from self._run(recordings, options, output, tries, progress)
        finally:
            ray.shutdown()  # ends what still runs; what is on the disk is gone on from

    def _checked(self, options: ProcessOptions) -> ProcessOptions:
        network = options.predictor
        if network.device.startswith("cuda") and not self.gpus:
            raise DktError(f"--device {network.device}: say how much of a GPU (--ray-gpus 0.5)")
        return replace(options, predictor=replace(network, cpu_threads=network.cpu_threads or 1))

    def _connect(self, cpus: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        try:
            if host:  # Ray itself tries for minutes
                socket.create_connection((host, int(port)), _CONNECT_S).close()
            ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise DktError(
                f"--ray {self.address}: {error}; start a cluster (ray start --head), name its "
                "address, or take --ray local"
            ) from error
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(m.get("CPU", 0) >= cpus and m.get("GPU", 0) >= self.gpus for m in machines):
            _log.warning(
                "no machine of the cluster has %g CPUs (--cpu-threads) and %g GPUs (--ray-gpus), "
                "as a recording asks for: waiting for one",
                cpus,
                self.gpus,
            )

    def _run(
        self,
        recordings: Sequence[Recording],
        options: ProcessOptions,
        output: Path,
        tries: int,
        progress: Progress,
    ) -> Iterator[Result]:
        board = ray.remote(num_cpus=0)(_Board).remote()
        # Ray gives each GPU task a new process unless told not to; a network stays loaded in its.
        task = ray.remote(
            num_cpus=options.predictor.cpu_threads,
            num_gpus=self.gpus,
            max_retries=0,
            max_calls=0,
        )(_process)
        tried: Counter[str] = Counter()

        def start(recording: Recording) -> ray.ObjectRef:
            tried[recording.name] += 1
            return task.remote(recording, options, output, Path.cwd(), board, self.gpus > 0)

        running = {start(recording): recording for recording in recordings}
        while running:
            done, _ = ray.wait(list(running), timeout=_LOOK_S)
            with suppress(RayError):  # its machine may be gone
                for name, (frames, total) in ray.get(board.taken.remote()).items():
                    progress(name, frames, total)
            for reference in done:
                recording = running.pop(reference)
                try:
                    # Under the name that it was given here.
                    yield replace(ray.get(reference), recording=recording)
                except RayTaskError as error:
                    reason = str(error).strip().splitlines()[-1]
                    yield Result(
                        recording,
                        Outcome.FAILED,
                        error=f"{recording.path}: {reason}; is the same dkt_ros installed on every "
                        "machine of the cluster?",
                    )
                except RayError as error:
                    if tried[recording.name] < tries:
                        running[start(recording)] = recording
                        continue
                    reason = str(error).strip().partition("\n")[0]
                    yield given_up(recording, tries, reason, "a larger --cpu-threads")


class _Board:
    """What the tasks have done since it was last asked for: an actor."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[int, int]] = {}

    def tell(self, name: str, done: int, total: int) -> None:
        self._done[name] = done, total

    def taken(self) -> dict[str, tuple[int, int]]:
        taken, self._done = self._done, {}
        return taken


def _process(
    recording: Recording,
    options: ProcessOptions,
    output: Path,
    folder: Path,
    board: ray.actor.ActorHandle,
    on_gpu: bool,
) -> Result:
    """One recording, on whatever machine. folder: what relative paths are relative to."""
    if not on_gpu:  # Ray hides a GPU only from those that asked for a share of one
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    told = 0.0

    def progress(name: str, done: int, total: int) -> None:
        nonlocal told
        if done == total or time.monotonic() - told > _LOOK_S:
            told = time.monotonic()
            board.tell.remote(name, done, total)

    try:
        os.chdir(folder)
    except OSError as error:
        return Result(
            recording,
            Outcome.FAILED,
            error=f"{recording.path}: {socket.gethostname()} has no folder {folder} "
            f"({error.strerror}); recordings and output have to lie under the same paths on every "
            "machine of the cluster",
        )
    return one_result(recording, options, output, progress)
