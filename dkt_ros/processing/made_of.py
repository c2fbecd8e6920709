"""What an output is made of, recording, options and code; whether one that is there is of the same.

Knows what a summary or a state tells of that. Knows nothing of how outputs are made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dkt_ros.files import sha256
from dkt_ros.fusion.weights import refiner_state
from dkt_ros.predict.load import network_state, resolve_device
from dkt_ros.processing.find_sources import Recording
from dkt_ros.processing.maker import code_state
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.versions import own_version as version

_States = dict[str, tuple[str | None, str]]
"""What tells that something has changed that outputs depend on, and how one was made before."""


@dataclass(frozen=True)
class MadeOf:
    """What the output of a recording is to be made of, in the folder `output`."""

    recording: Recording
    options: ProcessOptions
    output: Path
    states: _States

    @classmethod
    def of(cls, recording: Recording, options: ProcessOptions, output: Path) -> MadeOf:
        """By whatever code: what is whole may be of another."""
        network, camera = options.predictor, options.source.intrinsics
        of_network = f"the checkpoint {network.checkpoint}".strip()
        if network.predictor != "dkt":
            of_network = f"the predictor {network.predictor} or {of_network}"
        files = {
            "recording_state": (recording.state(output, options.source), str(recording.path)),
            "network_state": (network_state(network), of_network),
        }
        if refiner := options.estimator.fusion.weights:
            files["refiner_state"] = (refiner_state(refiner), f"the refiner {refiner}")
        if camera is not None and Path(camera).is_file():
            files["camera_state"] = (sha256(Path(camera))[:16], camera)
        states = {
            name: (state, f"with what {what} held before it changed")
            for name, (state, what) in files.items()
        }
        return cls(recording, options, output, states)

    def by_this_code(self) -> MadeOf:
        """With what makes it here: the same must go on with what is not whole."""
        return replace(self, states=self.states | self._maker_states)

    @property
    def same(self) -> dict[str, str | None]:
        """What an earlier run must have in common with this one, to be gone on from."""
        return {
            "origin": self.recording.origin,
            "fingerprint": self.options.fingerprint,
            **{name: state for name, (state, _) in self.states.items()},
        }

    def check(self, folder: Path, found: dict[str, Any]) -> None:
        """Raises ProcessingError where a folder is of something else. found: what it tells."""
        if found.get("origin") != self.recording.origin:
            raise ProcessingError(
                Outcome.OUTPUT_EXISTS,
                f"{folder} is of {found.get('origin')}, not of {self.recording.origin}; choose "
                "another --output, or --overwrite",
            )
        if found.get("fingerprint") != self.options.fingerprint:
            unlike = self.options.unlike(found.get("options"))
            raise ProcessingError(
                Outcome.OUTPUT_EXISTS,
                f"{folder} was made with other options{unlike}; choose another --output, or "
                "--overwrite",
            )
        for how in _otherwise(self.states, found):
            raise ProcessingError(
                Outcome.OUTPUT_EXISTS,
                f"{folder} was made {how}; --overwrite makes it anew, or choose another --output",
            )

    def other_makers(self, found: dict[str, Any]) -> list[str]:
        """How a whole output was made by something else than what is here."""
        return _otherwise(self._maker_states, found)

    def recording_stays(self) -> bool:
        """Whether the recording's files are what they were, or gone."""
        now = self.recording.state(self.output, self.options.source)
        return now in (None, self.states["recording_state"][0])

    @property
    def _maker_states(self) -> _States:
        device = resolve_device(self.options.predictor.device)
        code = "by other code or weights of dkt_ros, numpy, torch or OpenCV"
        return {
            "version": (version(), f"by another version of dkt_ros than {version()}"),
            "code_state": (code_state(), code),
            "computed_on": (device, f"on another device than {device} (--device)"),
        }


def _otherwise(states: _States, found: dict[str, Any]) -> list[str]:
    """How it was made; what is gone, and an output that does not tell, have nothing to compare."""
    return [
        how
        for name, (state, how) in states.items()
        if state is not None and found.get(name) not in (None, state)
    ]
