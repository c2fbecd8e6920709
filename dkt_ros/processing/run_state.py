"""How far a run over one recording came, what it met on the way, and what is told of that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.datasets.plausibility import suspicions
from dkt_ros.datasets.sample import Sample
from dkt_ros.frames import FlushReason
from dkt_ros.messages.calibration import unlike_any
from dkt_ros.processing.outcome import Outcome
from dkt_ros.processing.source import Source
from dkt_ros.wording import counted, kind_of

_EMPTY, _WHY = "no depth, state ", "no depth, reason "
"""What frames without depth are counted under."""
_STATE, _RESTART, _SUSPECTED = "state ", "restart: ", "suspected: "
_LABEL, _ODD, _LOOKED_AT = "label: ", "odd: ", "frames with true depth that were looked at"


@dataclass
class RunState:
    """What is saved at the end of each part. counts: of what became of frames, by name."""

    position: int = 0
    frames: int = 0
    parts: int = 0
    epoch: int | None = None
    figures_bytes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    elapsed_s: float = 0.0
    busy_s: float = 0.0
    previews: dict[str, Any] | None = None
    first_ns: int | None = None
    last_ns: int | None = None

    def __post_init__(self) -> None:
        # JSON knows no counters.
        self.counts, self.refused = Counter(self.counts), Counter(self.refused)

    def refuse(self, cause: str, error: Exception) -> None:
        """Counts a frame that could not be used."""
        self.refused[cause] += 1
        self.reasons.setdefault(cause, str(error))

    def answer(self, figures: dict[str, Any], flush: FlushReason | None) -> None:
        """Counts a frame that has an answer. figures: of figures.py."""
        self.counts["answered"] += 1
        self.counts[f"{_STATE}{figures['state']}"] += 1
        if not figures["coverage"]:
            self.counts[f"{_EMPTY}{figures['state']}"] += 1
            self._tell(_WHY, figures["reason"])
        for text in figures["suspicions"]:
            self._tell(_SUSPECTED, text)
        if flush is not None:
            self.counts[f"{_RESTART}{flush.value}"] += 1

    def miss(self, unusable: dict[str, str]) -> None:
        """Counts a frame's truth or mask that could not be used; see LabelledFrame."""
        for name, why in unusable.items():
            self.counts[_LABEL + name] += 1
            self.reasons.setdefault(_LABEL + name, why)

    def look_at(self, labelled: LabelledFrame) -> None:
        """Keeps what looks wrong with calibrations, and with the first frame that has true depth.

        Bags' messages of calibration are looked at where they are read.
        """
        frame, truth = labelled.frame, labelled.truth
        unlike = unlike_any(frame.intrinsics) if labelled.camera_info is None else ""
        if unlike:
            self._tell(
                _ODD,
                f"the calibration says {unlike}; points will lie in wrong places: give that of "
                "these pictures (--intrinsics FILE, --pinhole FX FY CX CY)",
            )
        if self.counts[_LOOKED_AT] or truth is None or not np.isfinite(truth).any():
            return
        self.counts[_LOOKED_AT] += 1
        sample = Sample(
            frame.rgb,
            truth,
            labelled.picture or f"stamp {frame.stamp_ns * 1e-9:.3f}",
            frame.raw_depth,
            labelled.mask,
            camera_matrix=None if unlike else frame.intrinsics.matrix,
        )
        for text in suspicions(sample):
            self._tell(_ODD, text)

    def _tell(self, prefix: str, text: str) -> None:
        """Counts a frame of which this is said, and keeps the first one's words."""
        kind = prefix + kind_of(text)
        self.counts[kind] += 1
        self.reasons.setdefault(kind, text)

    @property
    def suspected(self) -> list[str]:
        """What spoke against colour and raw depth belonging together, a line each."""
        answered = self.counts["answered"]
        return [
            f"{n} of {answered} frames: {self.reasons[_SUSPECTED + kind]}"
            for kind, n in sorted(self._counted(_SUSPECTED).items())
        ]

    @property
    def odd(self) -> list[str]:
        """What looks wrong with calibrations, true depth or masks, a line each."""
        return [self.reasons[_ODD + kind] for kind in sorted(self._counted(_ODD))]

    @property
    def unlabelled(self) -> list[str]:
        """What of truth and masks could not be used, a line each."""
        return [
            f"{counted(n, 'frame')} without {name}, which cannot be used: "
            f"{self.reasons[_LABEL + name]}"
            for name, n in sorted(self._counted(_LABEL).items())
        ]

    @property
    def states(self) -> dict[str, int]:
        """Answered frames by the alignment's state."""
        return self._counted(_STATE)

    @property
    def restarts(self) -> dict[str, int]:
        """How often the estimator began anew, by reason."""
        return self._counted(_RESTART)

    def lost(self, source: Source) -> list[str]:
        """What could not be used of the recording, a line each."""
        refused = [f"{n} x {why}: {self.reasons[why]}" for why, n in sorted(self.refused.items())]
        lost = [*source.lost, *refused, *self._without_depth()]
        if source.remarks and self.first_ns is not None and self.last_ns is not None:
            after_s = (self.last_ns - self.first_ns) * 1e-9
            lost.append(
                f"what could be read ends with frame {self.frames - 1}, {after_s:.2f} s after the "
                f"first, stamp {self.last_ns * 1e-9:.3f}"
            )
        return lost

    def outcome(self, lost: list[str]) -> Outcome:
        """What became of it; lost: see there."""
        if sum(self._counted(_EMPTY).values()) == self.counts["answered"]:
            return Outcome.NO_DEPTH_MADE
        return Outcome.INCOMPLETE if lost else Outcome.DONE

    def why_nothing(self, source: Source) -> str:
        """Why no frame has an answer."""
        if not source.dropped and self.counts["between"]:
            return "mode live had no answer yet at its end; take --live-publish all or mode exact"
        return "; ".join(self.lost(source)) or "no frame in it has colour and depth"

    def _without_depth(self) -> list[str]:
        """What is said of frames whose answer has no depth at any pixel."""
        answered, states = self.counts["answered"], self._counted(_EMPTY)
        if not states:
            return []
        share = ", ".join(f"{n / answered:.0%} of all are {s}" for s, n in sorted(states.items()))
        whys = self._counted(_WHY)
        why = self.reasons[_WHY + max(whys, key=whys.__getitem__)] or (
            "it lies outside --min-depth .. --max-depth, or below --min-confidence"
        )
        return [
            f"{sum(states.values())} of {answered} frames have no depth at any pixel ({share}), "
            f"mostly because: {why}"
        ]

    def _counted(self, prefix: str) -> dict[str, int]:
        return {k.removeprefix(prefix): n for k, n in self.counts.items() if k.startswith(prefix)}
