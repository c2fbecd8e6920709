"""Which network, where and how it works: one frozen dataclass, and the flags that fill it.

The fields are named as the node's parameters, and every default stands here. Imports no deep
learning library.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dkt_ros.arguments import DTYPES, given, natural, parse_size, positive
from dkt_ros.checks import Problem, ValuesError, check_fields
from dkt_ros.errors import DktError
from dkt_ros.model.backends import BACKENDS
from dkt_ros.model.live_options import PRESETS, PUBLISH, LiveOptions

MODES = ("exact", "live")
AUTO = "auto"
NATIVE = "native"


@dataclass(frozen=True)
class PredictorOptions:
    """What `load_predictor` makes; raises DktError naming the field that is wrong.

    predictor         kind of network: a name that load.py knows, or `module:function`
    checkpoint        folder; "" is dkt-nano inside the package
    device            "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:N"
    dtype             "auto" (16 bits on a GPU, float32 on a CPU) or one of DTYPES
    backend           one of BACKENDS; engine_dir: its engine; engine_fallback: torch where that
                      does not fit
    cpu_threads       of torch; 0: as many as it likes
    inference_size    "auto" (the trained area, the camera's aspect), "native" or HEIGHTxWIDTH
    steps             of the sampler; 0: the checkpoint's
    seed              of the noise
    mode              "exact": the newest buffer_frames by the exact sampler; "live": a stream
    buffer_frames     4N+1; 0: as many as the checkpoint does best with
    window, overlap   of the exact sampler in latent frames; None: the checkpoint's
    normals_checkpoint  folder of a checkpoint of task normal, for normals beside depth; "": none
    live_preset, live_publish, live_scene_cut, live_min_agreement
                      see LiveOptions; a live_scene_cut of 1 and a live_min_agreement of 0 never
                      start the stream anew
    """

    predictor: str = "dkt"
    checkpoint: str | Path = ""
    device: str = AUTO
    dtype: str = AUTO
    backend: str = "torch"
    engine_dir: str | Path = ""
    engine_fallback: bool = False
    cpu_threads: int = 0
    inference_size: str = AUTO
    steps: int = 0
    seed: int = 1
    mode: str = "exact"
    buffer_frames: int = 0
    window: int | None = None
    overlap: int | None = None
    live_preset: str = "balanced"
    live_publish: str = "latest"
    live_scene_cut: float = 0.15
    live_min_agreement: float = 0.6
    normals_checkpoint: str | Path = ""

    def __post_init__(self) -> None:
        check_fields(self)
        problems = list(self._problems())
        if problems:
            raise ValuesError.of(problems)

    def _problems(self) -> Iterator[Problem]:
        for name, values in (
            ("dtype", (AUTO, *DTYPES)),
            ("backend", BACKENDS),
            ("mode", MODES),
            ("live_preset", tuple(PRESETS)),
            ("live_publish", PUBLISH),
        ):
            value = getattr(self, name)
            if value not in values:
                text = f"{name} is {value!r}, expected one of {', '.join(values)}"
                yield Problem(text, (name,))
        for name, high in (("cpu_threads", 1024), ("steps", 50), ("seed", 2**31 - 1)):
            if not 0 <= getattr(self, name) <= high:
                text = f"{name} is {getattr(self, name)}, expected 0 to {high}"
                yield Problem(text, (name,))
        frames = self.buffer_frames
        if frames and (frames < 0 or frames % 4 != 1):
            text = (
                f"buffer_frames is {frames}, expected 4N+1: 1, 5, 9, 13, 17 or 21, or 0 for the "
                "checkpoint's own"
            )
            yield Problem(text, ("buffer_frames",))
        if self.window is not None and self.overlap is not None and self.overlap >= self.window:
            text = f"overlap is {self.overlap}, expected less than the window of {self.window}"
            yield Problem(text, ("overlap", "window"))
        if not 0 < self.live_scene_cut <= 1:
            text = f"live_scene_cut is {self.live_scene_cut}, expected above 0, at most 1"
            yield Problem(text, ("live_scene_cut",))
        if not 0 <= self.live_min_agreement < 1:
            text = f"live_min_agreement is {self.live_min_agreement}, expected 0 to less than 1"
            yield Problem(text, ("live_min_agreement",))
        if self.inference_size not in (AUTO, NATIVE) and self.size is None:
            text = (
                f"inference_size is {self.inference_size!r}, expected {AUTO}, {NATIVE} or "
                "HEIGHTxWIDTH in pixels such as 480x832"
            )
            yield Problem(text, ("inference_size",))
        if self.backend != "torch" and not self.engine_dir:
            text = (
                f"backend is {self.backend!r} and engine_dir is empty, expected the folder that "
                "`dkt engine build` has written"
            )
            yield Problem(text, ("backend", "engine_dir"))
        if self.backend != "torch" and self.inference_size == NATIVE:
            text = (
                f"inference_size is '{NATIVE}' and backend {self.backend!r}, expected {AUTO} or "
                f"the size of the engine, which works at no other: set it to {AUTO}"
            )
            yield Problem(text, ("inference_size", "backend"))

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) where inference_size names one; None for auto and native."""
        return parse_size(self.inference_size.lower())

    @property
    def live(self) -> LiveOptions:
        """How the live sampler is to work, but for the working size."""
        return LiveOptions.preset(
            self.live_preset,
            steps=self.steps or None,
            publish=self.live_publish,
            seed=self.seed,
            scene_cut=self.live_scene_cut if self.live_scene_cut < 1 else None,
            min_agreement=self.live_min_agreement or None,
        )

    def differences(self, other: PredictorOptions) -> dict[str, tuple[Any, Any]]:
        """Fields that differ: name -> this one's value, the other's."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @classmethod
    def taken_from(cls, source: object, **changes: Any) -> PredictorOptions:
        """From whatever has attributes of the fields' names: node parameters, parsed flags."""
        found = {f.name: getattr(source, f.name) for f in fields(cls) if hasattr(source, f.name)}
        return cls(**(found | changes))


LIVE_FLAGS = {"live_preset": "--preset", "live_publish": "--live-publish"}
EXACT_FLAGS = {"window": "--window", "overlap": "--overlap"}


def add_arguments(parser: Any, checkpoints: bool = False, modes: tuple[str, ...] = MODES) -> None:
    """The flags of PredictorOptions, for every command that predicts; `options_of` reads them.

    checkpoints: whether --checkpoint may be given several times.
    """
    default = PredictorOptions()

    def add(*names: str, dest: str, help: str, **more: Any) -> None:
        value = getattr(default, dest)
        help += f" ({value})" if value not in ("", 0, None) else ""
        # What is not given is left to the dataclass, and known not to be given.
        parser.add_argument(*names, dest=dest, default=argparse.SUPPRESS, help=help, **more)

    add(
        "--predictor",
        dest="predictor",
        metavar="KIND",
        help="kind of network, or module:function of your own",
    )
    parser.add_argument(
        "--checkpoint",
        type=given,
        metavar="DIR",
        help="checkpoint folder; default: dkt-nano, inside the package"
        + ("; several are compared" if checkpoints else ""),
        **({"action": "append"} if checkpoints else {"default": argparse.SUPPRESS}),
    )
    parser.add_argument(
        "--mode",
        choices=modes,
        default=default.mode,
        help="exact: the published sampler, a window of frames at once; live: a stream, of which "
        f"only what is new is computed ({default.mode})",
    )
    add("--preset", dest="live_preset", choices=tuple(PRESETS), help="live: windows and steps")
    add(
        "--live-publish",
        "--publish",
        dest="live_publish",
        choices=PUBLISH,
        help="live: depth of the newest frame of each full window, or of every frame",
    )
    add("--window", dest="window", type=positive, metavar="N", help="exact: latent frames at once")
    add(
        "--overlap",
        dest="overlap",
        type=natural,
        metavar="N",
        help="exact: latent frames shared by two windows",
    )
    add(
        "--steps",
        dest="steps",
        type=positive,
        metavar="N",
        help="denoising steps; default: the checkpoint's",
    )
    add("--seed", dest="seed", type=natural, metavar="N", help="seed of the noise")
    add(
        "--size",
        dest="inference_size",
        type=_size,
        metavar="auto|native|HxW",
        help="working size of the network; auto: the area it was trained at, or the engine's size",
    )
    add("--device", dest="device", help="where to compute: auto, cpu, cuda or cuda:N")
    add("--cpu-threads", dest="cpu_threads", type=positive, metavar="N", help="threads of torch")
    add("--dtype", dest="dtype", choices=(AUTO, *DTYPES), help="data type of torch")
    add("--backend", dest="backend", choices=BACKENDS, help="what runs the network")
    add(
        "--engine-dir",
        "--engine",
        dest="engine_dir",
        type=given,
        metavar="DIR",
        help="folder of `dkt engine build`, for backends other than torch",
    )


def options_of(args: argparse.Namespace, **changes: Any) -> PredictorOptions:
    """The options that the flags of `add_arguments` say. Raises DktError for those of no effect."""
    for mode, flags in (("live", LIVE_FLAGS), ("exact", EXACT_FLAGS)):
        given = [flag for name, flag in flags.items() if hasattr(args, name)]
        if given and args.mode in MODES and args.mode != mode:
            raise DktError(f"{' and '.join(given)}: only with --mode {mode}")
    options = PredictorOptions.taken_from(args, **changes)
    if hasattr(args, "engine_dir") and options.backend == BACKENDS[0]:
        raise DktError(f"--engine-dir: only with --backend {' or '.join(BACKENDS[1:])}")
    return options


def _size(text: str) -> str:
    if text not in (AUTO, NATIVE) and parse_size(text.lower()) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {AUTO}, {NATIVE} nor HxW")
    return text
