"""What the node's parameters mean for the network and the estimator.

Knows which checkpoint, device, type, backend and windows they ask for. Loads nothing.
"""

from __future__ import annotations

import math
from pathlib import Path

from dkt_ros.alignment.aligner import AlignmentConfig
from dkt_ros.errors import DktError
from dkt_ros.estimator import EstimatorConfig
from dkt_ros.model.backends import Request
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.ros.frame_choice import EVEN
from dkt_ros.ros.params.parameters import NodeParameters, parse_inference_size
from dkt_ros.ros.warm_up import windows_until_full


def request_of(parameters: NodeParameters) -> Request:
    """What network the parameters ask for. Raises DktError where they name no depth checkpoint."""
    from dkt_ros.model.checkpoint import checked_folder, default_checkpoint
    from dkt_ros.model.engine.windows import exact_windows, live_windows

    path = (
        Path(parameters.checkpoint).expanduser() if parameters.checkpoint else default_checkpoint()
    )
    info = CheckpointInfo.read(checked_folder(path))
    if info.task != "depth":
        raise DktError(
            f"checkpoint {path} predicts '{info.task}', expected 'depth'; name a depth checkpoint "
            "in parameter checkpoint"
        )
    flags: tuple[str, ...]
    if parameters.mode == "live":
        windows = live_windows(live_options(parameters))
        flags = ("--preset", parameters.live_preset, "--publish", parameters.live_publish)
    else:
        lengths = range(1, buffer_frames(parameters, info) + 1, 4)  # as the buffer fills
        windows = exact_windows(lengths, info.window, info.overlap)
        flags = ("--preset", "exact", "--frames", *map(str, lengths))
    device = resolve_device(parameters.device)
    return Request(
        checkpoint=path,
        device=device,
        dtype=resolve_dtype(parameters.dtype, device),
        windows=windows,
        steps=parameters.steps or None,
        size=parse_inference_size(parameters.inference_size),
        backend=parameters.backend,
        engine=Path(parameters.engine_dir).expanduser() if parameters.engine_dir else None,
        fall_back=parameters.engine_fallback,
        build_flags=flags,
    )


def live_options(parameters: NodeParameters) -> LiveOptions:
    """How the live sampler is to work, but for the working size."""
    cut = parameters.live_scene_cut
    return LiveOptions.preset(
        parameters.live_preset,
        steps=parameters.steps or None,
        publish=parameters.live_publish,
        seed=parameters.seed,
        scene_cut=cut if cut < 1 else None,
    )


def buffer_frames(parameters: NodeParameters, info: CheckpointInfo) -> int:
    """How many frames the exact sampler looks at."""
    return parameters.buffer_frames or info.buffer_frames


def frames_together(parameters: NodeParameters) -> int:
    """How many frames one long inference is for: a window's new ones, where only they have depth.

    So many may wait for it, but only where frames are to be evenly spaced.
    """
    if parameters.mode != "live" or parameters.live_publish != "latest":
        return 1
    return 4 * live_options(parameters).new if parameters.frame_choice == EVEN else 1


def proof_frames(parameters: NodeParameters, info: CheckpointInfo) -> int:
    """How many frames of a new stream it takes until each costs what every later one does."""
    if parameters.mode != "live":
        return buffer_frames(parameters, info)
    options = live_options(parameters)
    return 1 + 4 * options.new * windows_until_full(options)


def estimator_config(parameters: NodeParameters, info: CheckpointInfo) -> EstimatorConfig:
    """What the estimator is made of: part of the parameters, and what the checkpoint says."""
    return EstimatorConfig(
        max_frames=buffer_frames(parameters, info),
        max_gap_s=math.inf,  # the intake looks for gaps: it sees every frame
        min_depth=parameters.min_depth_m,
        max_depth=parameters.max_depth_m,
        alignment=AlignmentConfig(
            min_raw_depth=parameters.raw_min_depth_m,
            max_raw_depth=parameters.raw_max_depth_m,
            min_inlier_ratio=parameters.align_min_inlier_ratio,
            max_uncertainty=parameters.align_max_uncertainty,
            max_held_s=parameters.align_max_held_s,
            max_held_frames=parameters.align_max_held_frames,
        ),
    )


def resolve_device(name: str) -> str:
    """`auto` -> "cuda" where torch finds a GPU, else "cpu"; other names as they are."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(name: str, device: str) -> str:
    """`auto` -> the GPU's fast 16-bit type, float32 elsewhere; other names as they are."""
    if name != "auto":
        return name
    if not device.startswith("cuda"):
        return "float32"
    import torch

    from dkt_ros.model.torch_backend import half_precision

    return half_precision(torch.device(device))
