"""From options to a network that is ready for frames: the only way to a Predictor.

A kind of network is a function (PredictorOptions, video_frames, on_progress) -> Predictor, named in
KINDS or given as `module:function`.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import described
from dkt_ros.checks import check_type
from dkt_ros.errors import DktError
from dkt_ros.files import code_digest, sha256, shown
from dkt_ros.model.backends import Request, load_network
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.latent_frames import images_of
from dkt_ros.predict.normals import WithNormals
from dkt_ros.predict.options import AUTO, PredictorOptions
from dkt_ros.predict.predictor import Predictor, PredictorInfo
from dkt_ros.progress import Progress, no_progress

if TYPE_CHECKING:
    from dkt_ros.model.streaming_network import StreamingNetwork

Kind = Callable[[PredictorOptions, "int | None", Progress], Predictor]


def load_predictor(
    options: PredictorOptions | None = None,
    on_progress: Progress = no_progress,
    video_frames: int | None = None,
) -> Predictor:
    """Loads the network that the options name.

    video_frames: only `video` will be asked for, of so many frames at a time (see clip_frames),
    which is what an engine must then be able to compute. Raises DktError for what the options name
    wrongly; what torch raises (out of memory) passes. Either way nothing of the network stays in
    memory then, not even for whoever keeps the exception.
    """
    check_type("options", options, PredictorOptions | None)
    options = options or PredictorOptions()
    with released_on_error(options.device), _random_state_kept():
        predictor = _loaded(options, video_frames, on_progress)
        if not options.normals_checkpoint:
            return predictor
        return WithNormals(predictor, _normals_beside(options, on_progress))


def _loaded(
    options: PredictorOptions, video_frames: int | None, on_progress: Progress
) -> Predictor:
    kind, words = _kind(options.predictor), (options, video_frames, on_progress)
    wanted = "expected a function (options, video_frames, on_progress) that returns a Predictor"
    try:
        inspect.signature(kind).bind(*words)
    except (TypeError, ValueError) as error:
        raise DktError(f"predictor {options.predictor}: {error}; {wanted}") from error
    predictor: object = kind(*words)
    if not isinstance(predictor, Predictor):
        found = described(predictor)
        raise DktError(f"predictor {options.predictor} returned {found}; {wanted}")
    return predictor


def load_predictors(options: PredictorOptions, modes: Sequence[str]) -> dict[str, Predictor]:
    """The same network in several modes, held in memory once where torch computes it.

    A kind of network that knows no modes is loaded once, under its first.
    """
    from dkt_ros.predict.dkt import DktPredictor

    first = load_predictor(replace(options, mode=modes[0]))
    found = {modes[0]: first}
    for mode in modes[1:] if options.predictor == "dkt" else ():
        changed = replace(options, mode=mode)
        if isinstance(first, DktPredictor) and first.info.backend == "torch":
            found[mode] = _predictor(first.network, changed, first.info)
        else:
            found[mode] = load_predictor(changed)
    return found


def check_named(options: PredictorOptions, here: bool) -> None:
    """Raises DktError where what the options name is not there; loads nothing.

    here: whether this machine's device is meant.
    """
    from dkt_ros.model.checkpoint import parse_device
    from dkt_ros.model.compiled.manifest import Manifest

    if _kind(options.predictor) is load_dkt:
        request = request_of(options)
        if here:
            parse_device(request.device)
            if options.backend != "torch" and not options.engine_fallback:
                Manifest.read(Path(options.engine_dir))


def network_state(options: PredictorOptions) -> str | None:
    """Another where the files of the named network hold something else; None where nobody knows.

    Reads all of a checkpoint, once in a process for as long as nothing is written there. Of another
    kind of network its module counts, with all of the package that it is in, and what is told of
    the files that `checkpoint` names.
    """
    from dkt_ros.model.compiled.manifest import MANIFEST_FILE

    if options.predictor != "dkt":
        return _own_state(options) if ":" in options.predictor else None
    try:
        folder = checkpoint_folder(options).resolve()
        files = [file.stat() for file in sorted(shown(folder, "**/*"))]
        states = [_fingerprint(folder, tuple((s.st_size, s.st_mtime_ns) for s in files))]
        if options.backend != "torch":
            states.append(sha256(Path(options.engine_dir).expanduser() / MANIFEST_FILE))
        return " ".join(state[:16] for state in states)
    except (OSError, DktError):  # whoever loads it says what is wrong
        return None


def _own_state(options: PredictorOptions) -> str | None:
    digest = hashlib.sha256()
    try:
        _kind(options.predictor)
        digest.update(code_of(options.predictor).encode())
        place = Path(options.checkpoint).expanduser()
        weights = [place, *shown(place, "**/*")] if options.checkpoint and place.exists() else []
        for file in sorted(file for file in weights if file.is_file()):
            # Whole seconds: network drives round the rest.
            told = file.stat()
            digest.update(f"{file} {told.st_size} {int(told.st_mtime)}\n".encode())
    except (OSError, DktError):  # whoever loads it says what is wrong
        return None
    return digest.hexdigest()[:16]


def code_of(function: str) -> str:
    """Another where the module of `module:function`, or its package, computes something else.

    Of what has been imported. Raises OSError where a file of it is gone.
    """
    module = sys.modules[function.partition(":")[0]]
    package = sys.modules[module.__name__.partition(".")[0]]
    code = [Path(named.__file__) for named in (module, package) if named.__file__]
    if hasattr(package, "__path__") and package.__file__:
        code += shown(Path(package.__file__).parent, "**/*.py")
    files = [(file, file.stat()) for file in sorted(set(code))]
    return _contents(tuple((f, s.st_size, s.st_mtime_ns) for f, s in files))


@lru_cache(maxsize=4)
def _contents(written: tuple[tuple[Path, int, int], ...]) -> str:
    return " ".join(code_digest(file) for file, _, _ in written)


@lru_cache(maxsize=4)
def _fingerprint(folder: Path, _written: tuple[tuple[int, int], ...]) -> str:
    from dkt_ros.model.compiled.request import checkpoint_fingerprint

    return checkpoint_fingerprint(folder)


def load_dkt(
    options: PredictorOptions,
    video_frames: int | None = None,
    on_progress: Progress = no_progress,
) -> Predictor:
    """The kind "dkt": a checkpoint folder, by the exact or the live sampler."""
    import torch

    request = request_of(options, video_frames)
    # Before loading: onnxruntime takes its number of threads from torch's then.
    torch.set_num_threads(options.cpu_threads or _default_threads())
    loaded = load_network(request, on_progress)
    known = loaded.network.info
    info = PredictorInfo(
        name=known.name,
        path=str(request.checkpoint),
        origin=known.origin,
        device=str(loaded.network.device),
        dtype=loaded.dtype,
        steps=options.steps or known.steps,
        backend=loaded.backend,
        note=loaded.note,
    )
    return _predictor(loaded.network, options, info)


def _predictor(
    network: StreamingNetwork, options: PredictorOptions, info: PredictorInfo
) -> Predictor:
    from dkt_ros.predict.clip import ClipPredictor
    from dkt_ros.predict.stream import StreamPredictor

    if options.mode == "live":
        mode, live = f"live, {options.live_preset}", options.live.within(network.info.clip)
        if live != options.live:
            mode += (
                f", {live.new} latents at a time instead of {options.live.new}: the checkpoint is "
                f"right on clips of {network.info.clip}"
            )
        return StreamPredictor(network, options, replace(info, mode=mode))
    return ClipPredictor(network, options, replace(info, mode="exact"))


def _normals_beside(options: PredictorOptions, on_progress: Progress) -> Predictor:
    """By torch, with the normals checkpoint's own steps and frames."""
    own = PredictorOptions(
        checkpoint=options.normals_checkpoint,
        device=options.device,
        dtype=options.dtype,
        inference_size=options.inference_size,
        seed=options.seed,
        mode=options.mode,
        live_preset=options.live_preset,
        live_publish=options.live_publish,
        live_scene_cut=options.live_scene_cut,
        live_min_agreement=options.live_min_agreement,
    )
    try:
        network = load_network(request_of(own, task="normal"), on_progress).network
    except DktError as error:
        raise DktError(f"normals_checkpoint: {error}") from error
    known = network.info
    info = PredictorInfo(known.name, str(own.checkpoint), known.origin, str(network.device))
    return _predictor(network, own, info)


def load_normals(
    options: PredictorOptions,
) -> tuple[CheckpointInfo, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
    """A normals checkpoint: what it is, and the function from rgb (T, H, W, 3) to unit vectors.

    See `predict_normals`. Raises DktError as `load_predictor`.
    """
    from dkt_ros.predict.clip import ClipPredictor

    with released_on_error(options.device), _random_state_kept():
        network = load_network(request_of(options, task="normal")).network
        return network.info, ClipPredictor(network, options).normals


def task_of(options: PredictorOptions) -> str:
    """What the options' network predicts: "depth" or "normal"."""
    if options.predictor != "dkt":
        return "depth"
    return CheckpointInfo.read(checkpoint_folder(options)).task


def checkpoint_folder(options: PredictorOptions) -> Path:
    """The checkpoint's folder. Raises DktError where there is none."""
    from dkt_ros.model.checkpoint import checked_folder

    return checked_folder(options.checkpoint)


KINDS: dict[str, Kind] = {"dkt": load_dkt}


def request_of(
    options: PredictorOptions, video_frames: int | None = None, task: str = "depth"
) -> Request:
    """What the options ask of a backend. Raises DktError where they name no checkpoint for it."""
    from dkt_ros.model.windows import exact_windows, live_windows

    path = checkpoint_folder(options)
    info = CheckpointInfo.read(path)
    if info.task != task:
        raise DktError(
            f"checkpoint {path} predicts '{info.task}', expected '{task}'; name another checkpoint"
        )
    flags: tuple[str, ...]
    if options.mode == "live":
        windows = live_windows(options.live.within(info.clip))
        flags = ("--preset", options.live_preset, "--publish", options.live_publish)
    else:
        count = options.buffer_frames or info.buffer_frames
        clips = [video_frames] if video_frames else [*range(1, count + 1, 4)]  # as the buffer fills
        window = info.window if options.window is None else options.window
        overlap = info.overlap if options.overlap is None else options.overlap
        windows = exact_windows(clips, window, overlap)
        # By the windows' lengths, for a build cuts clips by the checkpoint's own window.
        lengths = sorted(images_of(length) for length, _ in windows)
        flags = ("--preset", "exact", "--frames", *map(str, lengths))
    device = resolve_device(options.device)
    return Request(
        checkpoint=path,
        device=device,
        dtype=resolve_dtype(options.dtype, device),
        windows=windows,
        steps=options.steps or None,
        size=options.size,
        backend=options.backend,
        engine=Path(options.engine_dir).expanduser() if options.engine_dir else None,
        fall_back=options.engine_fallback,
        build_flags=flags,
    )


def clip_frames(options: PredictorOptions, raw_depth: Sequence[NDArray[np.float32] | None]) -> int:
    """How many frames of a video the network sees at a time: all, or one.

    raw_depth: of each frame (H, W) metres, or None. Raises DktError as `load_predictor`.
    """
    from dkt_ros.predict.clip import answers_one_by_one

    if options.predictor != "dkt" or options.mode == "live":
        return len(raw_depth)
    info = CheckpointInfo.read(checkpoint_folder(options))
    return 1 if answers_one_by_one(info, options.window, raw_depth) else len(raw_depth)


def resolve_device(name: str) -> str:
    """`auto` -> "cuda" where torch finds a GPU, else "cpu"; other names as they are."""
    if name != AUTO:
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(name: str, device: str) -> str:
    """`auto` -> the GPU's fast 16-bit type, float32 elsewhere; other names as they are."""
    if name != AUTO:
        return name
    if not device.startswith("cuda"):
        return "float32"
    import torch

    from dkt_ros.model.checkpoint import parse_device
    from dkt_ros.model.torch_backend import half_precision

    # Without a GPU any name of one may be another machine's.
    found = parse_device(device) if torch.cuda.is_available() else torch.device("cuda")
    return half_precision(found)


@contextlib.contextmanager
def released_on_error(device: str) -> Iterator[None]:
    """Leaves nothing of the calls made inside in memory when an exception ends them.

    What the caller itself has named stays: it is still at work.
    """
    try:
        yield
    except BaseException as error:
        _forget_frames(error)
        free_cache(device)
        raise


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leaves torch's random numbers to the caller: layers are made of some, and then loaded."""
    import torch

    # A GPU that nobody has used yet is not to be begun with, nor to fail, here.
    gpus = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    with torch.random.fork_rng(devices=range(gpus), device_type="cuda"):
        yield


def free_cache(device: str) -> None:
    """Gives memory back that nothing uses any more."""
    gc.collect()
    if device == AUTO or device.startswith("cuda"):
        import torch

        # After some errors a GPU answers nothing any more; the first error tells more.
        with contextlib.suppress(RuntimeError, AssertionError):
            torch.cuda.empty_cache()


def _forget_frames(error: BaseException) -> None:
    """Empties the ended calls that the error's traceback keeps, and those of what led to it."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        pending += [one.__cause__, one.__context__]


def _kind(name: str) -> Kind:
    if name in KINDS:
        return KINDS[name]
    if ":" not in name:
        raise DktError(
            f"predictor is {name!r}, expected one of {', '.join(KINDS)}, or module:function"
        )
    try:
        found: Kind = imported(name)
    except (ImportError, AttributeError) as error:
        raise DktError(f"predictor {name} cannot be imported: {error}") from error
    return found


def imported(function: str) -> Any:
    """What `module:function` names. Raises ImportError, AttributeError."""
    module, _, name = function.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as `python -m` has it, where a lab keeps its own module
    return getattr(importlib.import_module(module), name)


@lru_cache(maxsize=1)
def _default_threads() -> int:
    """What torch chose before anybody else did."""
    import torch

    return torch.get_num_threads()
