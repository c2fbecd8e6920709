"""`for estimate in process("bag"):` the node's estimator on recordings, in Python."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dkt_ros.checks import check_type
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator, EstimatorConfig, load_estimator
from dkt_ros.processing.find_sources import Recording, check_concerned, find_recordings
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.run_state import RunState
from dkt_ros.processing.source import Pending, SourceOptions

_log = logging.getLogger(__name__)


def process(
    *recordings: str | Path,
    source: SourceOptions | None = None,
    estimator: DepthEstimator | None = None,
    config: EstimatorConfig | None = None,
    **changes: Any,
) -> Iterator[DepthEstimate]:
    """Metric depth of every frame of the recordings, one at a time, without writing anything.

    recordings: what `dkt process` takes. source: how they are read. estimator: one that is loaded
    already; else it is made as load_estimator does of config and changes (checkpoint=…, mode=…).
    Frames that cannot be used are left out and logged; so is what is damaged or looks wrong. Raises
    ProcessingError where a recording has nothing, DktError for wrong options.
    """
    for given in recordings:
        check_type("recording", given, str | Path)
    check_type("source", source, SourceOptions | None)
    check_type("estimator", estimator, DepthEstimator | None)
    check_type("config", config, EstimatorConfig | None)
    options = source or SourceOptions()
    if estimator is not None and (config is not None or changes):
        raise DktError("process: give an estimator, or what one is made of, not both")
    found = find_recordings(recordings, options)
    check_concerned(found, options)
    if estimator is None:
        # Gaps are looked for by the recording's reader, which sees every frame.
        estimator = load_estimator(
            config=replace(config or EstimatorConfig(), max_gap_s=math.inf), **changes
        )
    for recording in found:
        opened, epoch, state = recording.open(options), None, RunState()
        told = set[str]()
        for item in opened.items():
            if not isinstance(item, Pending):
                continue
            if epoch != item.epoch:
                estimator.reset()
                epoch = item.epoch
            try:
                labelled = item.decode()
                state.miss(labelled.unusable)
                state.look_at(labelled)
                _tell_once(recording, [*opened.notes, *state.odd], told)
                estimate = estimator.push(labelled.frame)
            except DktError as error:
                _log.warning("%s: frame left out: %s", recording.path, error)
                state.refuse("unusable frame", error)
                continue
            state.counts["between" if estimate is None else "answered"] += 1
            if estimate is not None:
                yield estimate
        if not state.counts["answered"]:
            raise ProcessingError(
                Outcome.NOTHING_USABLE,
                f"{recording.path}: no frame could be used: {state.why_nothing(opened)}",
            )
        _tell_once(recording, [*opened.lost, *opened.notes, *state.unlabelled], told)


def _tell_once(recording: Recording, lines: Sequence[str], told: set[str]) -> None:
    """Logs what is not among told yet."""
    for line in lines:
        if line not in told:
            told.add(line)
            _log.warning("%s: %s", recording.path, line)
