"""What FP8 needs to know of a checkpoint: the largest inputs of its layers on a clip.

Knows the exact sampler. Knows nothing of how the numbers are used.
"""

from __future__ import annotations

import numpy as np
import torch

from dkt_ros.model.canvas import Canvas
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.engine.fp8 import observed
from dkt_ros.model.engine.request import EngineRequest
from dkt_ros.model.sampler import initial_noise, sample
from dkt_ros.model.streaming_vae import Stream, StreamingEncoder, chunk_spans, pad_chunk

SEED = 1


@torch.inference_mode()
def measure(
    request: EngineRequest, rgb: np.ndarray, device: torch.device, dtype: str
) -> dict[str, float]:
    """Layer name -> largest absolute input, while the exact sampler works on the clip.

    rgb: uint8 (T, H, W, 3). dtype: what the network computes in. Windows are as long as the longest
    that is asked for.
    """
    # Eager and plain: neither a compiled step nor a recorded one calls what watches a layer.
    network = load_checkpoint(request.checkpoint, device, dtype)
    canvas = Canvas((rgb.shape[1], rgb.shape[2]), request.size, network.size_multiple)
    part = StreamingEncoder(network.vae)
    encoder = Stream(part.first, part.following)
    latents = torch.cat(
        [
            encoder.advance(canvas.paint(pad_chunk(rgb[start:stop], start)).to(device))
            for start, stop in chunk_spans(len(rgb))
        ],
        dim=2,
    )
    window = max(frames for frames, _ in request.windows)
    with observed(network.transformer) as largest:
        sample(
            network,
            latents,
            initial_noise(tuple(latents.shape), SEED),
            steps=request.steps,
            shift=network.info.sigma_shift,
            window=window,
            overlap=min(network.info.overlap, window - 1),
        )
    return largest
