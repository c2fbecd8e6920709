"""Whether an engine computes what torch computed in float32 when the engine was made.

An engine's folder holds inputs and, of what torch made of them, a sample of every graph's results
(checks.safetensors, some megabytes). Wherever an engine is loaded its graphs are run on the inputs
and compared: an error beyond what the precision explains names the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.manifest import (
    CHECKS_FILE,
    DECODER_FIRST,
    DECODER_FOLLOWING,
    EMBED_RGB,
    ENCODER_FIRST,
    ENCODER_FOLLOWING,
    REBUILD,
    Manifest,
    graph_names,
    step_name,
)
from dkt_ros.model.latent_frames import FRAMES_PER_LATENT, images_of
from dkt_ros.model.sampler import TRAIN_TIMESTEPS
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.progress import Progress

TOLERANCE = {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.05, "fp8": 0.3}
"""Largest relative RMS error by precision: some times torch's own in that type (dkt-nano: 0.001 in
float16, 0.008 in bfloat16), for larger networks have more layers."""
CHUNKS = 3
"""Of a stream: the first, one that follows it, and one that follows such a one."""
SAMPLES = 2**16
"""Numbers that are stored of a graph's results, at most."""
_STEP = 2_654_435_761
"""A prime: numbers so far apart, modulo the size, lie all over a tensor."""


@torch.inference_mode()
def write_checks(
    folder: Path,
    network: StreamingNetwork,
    size: tuple[int, int],
    windows: Sequence[int],
    on_progress: Progress,
) -> None:
    """Runs a network of torch, in float32 and as it is, and writes the file.

    size: (H, W); windows: latent frames of each.
    """
    from safetensors.torch import save

    (height, width), generator = size, torch.Generator().manual_seed(1)
    coarse, ratio = network.size_multiple, network.spatial_ratio
    pixels = (3, images_of(CHUNKS), height // coarse, width // coarse)
    latents = (network.latent_channels, max(CHUNKS, *windows), height // ratio, width // ratio)
    stored = {
        "images": torch.randint(256, pixels, dtype=torch.uint8, generator=generator),
        "latents": torch.randn(latents, generator=generator).half(),
    }
    names = graph_names(windows)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        results = _results(network, stored, windows, size)
        for done, (name, result) in enumerate(results, start=1):
            stored[name] = _sample(result)
            on_progress(f"torch's {name}", done, len(names))
    # Not save_file, which writes for the owner alone, whatever the umask.
    (folder / CHECKS_FILE).write_bytes(save(stored))


def graph_errors(
    network: StreamingNetwork, folder: Path, manifest: Manifest, windows: Sequence[int]
) -> Iterator[tuple[str, float]]:
    """Every graph's name and its relative RMS error; infinite where a result is not finite.

    network: the engine. A graph's inputs are stored ones, but for the caches of a
    chunk that follows, which are its own. Raises DktError where the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(folder / CHECKS_FILE)
        missing = {"images", "latents", *graph_names(windows)} - stored.keys()
    except (OSError, SafetensorError) as error:
        raise DktError(f"{folder / CHECKS_FILE} cannot be read ({error}); {REBUILD}") from error
    if missing:
        raise DktError(f"{folder / CHECKS_FILE} lacks {', '.join(sorted(missing))}; {REBUILD}")
    for name, result in _results(network, stored, windows, manifest.size):
        expected, found = stored[name].double(), _sample(result).double()
        off = float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
        yield name, off if math.isfinite(off) else math.inf


def require_accurate(
    network: StreamingNetwork,
    folder: Path,
    manifest: Manifest,
    windows: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Raises a DktError that names the graphs beyond the tolerance, and their errors."""
    wrong, total = [], len(graph_names(windows))
    errors = graph_errors(network, folder, manifest, windows)
    for done, (name, error) in enumerate(errors, start=1):
        on_progress(done, total)
        if error > TOLERANCE[manifest.precision]:
            wrong.append(f"{name} by {error:.2%}")
    if wrong:
        raise DktError(
            f"engine {folder} does not compute what torch computes in float32: "
            f"{', '.join(wrong)} (relative RMS; {manifest.precision} may differ by "
            f"{TOLERANCE[manifest.precision]:.2%}); {REBUILD}, or choose backend torch"
        )


def _results(
    network: StreamingNetwork,
    stored: Mapping[str, Tensor],
    windows: Sequence[int],
    size: tuple[int, int],
) -> Iterator[tuple[str, Tensor]]:
    """Every graph's name and what it makes of the stored inputs."""
    small = stored["images"].to(network.device)
    images = small.float().div(127.5).sub(1.0)
    for axis, side in zip((2, 3), size, strict=True):
        images = images.repeat_interleave(side // small.shape[axis], dim=axis)
    images, latents = images[None], stored["latents"].float().to(network.device)[None]
    encoder, decoder = network.encoder_stream(), network.decoder_stream()
    yield ENCODER_FIRST, encoder.advance(images[:, :, :1])
    chunks = images[:, :, 1:].split(FRAMES_PER_LATENT, dim=2)
    yield ENCODER_FOLLOWING, torch.cat([encoder.advance(chunk) for chunk in chunks], dim=2)

    def embedded(part: Tensor) -> Tensor:
        # Of a network that is shown raw depth, with latents of it that differ.
        sees_depth = network.info.sees_depth
        return network.embed_rgb(torch.cat([part, -part], dim=1) if sees_depth else part)

    yield EMBED_RGB, embedded(latents[:, :, :1])
    for frames in windows:
        noisy = latents[:, :, :frames]
        # What is embedded differs from what is noisy.
        tokens = embedded(noisy.flip(3))
        yield step_name(frames), network.velocity(noisy, tokens, float(TRAIN_TIMESTEPS))
    first, *others = latents[:, :, :CHUNKS].split(1, dim=2)
    yield DECODER_FIRST, decoder.advance(first)
    yield DECODER_FOLLOWING, torch.cat([decoder.advance(latent) for latent in others], dim=2)


def _sample(tensor: Tensor) -> Tensor:
    """At most SAMPLES numbers of a tensor from all over it, float32 on the CPU."""
    flat = tensor.detach().flatten()
    if len(flat) > SAMPLES:
        flat = flat[(torch.arange(SAMPLES) * _STEP % len(flat)).to(flat.device)]
    return flat.float().cpu()
