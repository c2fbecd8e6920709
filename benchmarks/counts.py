"""Operations counted on the meta device, which has shapes and no memory: any size, on any machine.

Knows torch's counter and how often each sampler asks the network for what. Attention counts as
plain products, so that every kernel counts alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import diffusers
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import PRESETS
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import sigmas
from dkt_ros.model.windows import window_spans
from dkt_ros.predict.options import PredictorOptions

FULL_STEPS = 5
SLIDING_FRAMES = 5
PROMPT_TOKENS = 3
"""Tokens of the prompt "depth" before its padding; all that the counted cost depends on."""
STEADY = PredictorOptions(mode="live", live_scene_cut=1, live_min_agreement=0)
"""Frames of noise would be a scene cut each."""
LIVE = {name: replace(STEADY, live_preset=name) for name in PRESETS} | {
    "3 steps": replace(STEADY, steps=3)
}
"""What is counted and measured live: the presets, and `balanced` at three steps."""
Counts = dict[tuple[str, str], float]
"""(mode, preset) -> TFLOP per new frame."""


def full_size(device: str, dtype: torch.dtype) -> DktNetwork:
    """The published network with weights of no meaning."""
    diffusers.utils.logging.set_verbosity_error()  # types of weights that mean nothing
    with torch.device(device):
        transformer = WanTransformer3DModel(
            num_attention_heads=12,
            in_channels=48,
            out_channels=16,
            ffn_dim=8960,
            num_layers=30,
            image_dim=1280,
            added_kv_proj_dim=1536,
        )
        vae = AutoencoderKLWan()
    info = CheckpointInfo(name="dkt-1.3b (random)", steps=FULL_STEPS)
    prompt = torch.randn(PROMPT_TOKENS, 4096)
    parts = (part.to(dtype).eval().requires_grad_(False) for part in (transformer, vae))
    return DktNetwork(next(parts), next(parts), prompt, info)


def without_weights(network: DktNetwork) -> DktNetwork:
    """The same network, in diffusers' own layers, on the meta device."""
    with torch.device("meta"):
        transformer = WanTransformer3DModel.from_config(network.transformer.config)
        vae = AutoencoderKLWan.from_config(network.vae.config)
    parts = (part.to(network.dtype).eval().requires_grad_(False) for part in (transformer, vae))
    text_dim = int(network.transformer.config["text_dim"])
    prompt = torch.randn(PROMPT_TOKENS, text_dim)
    return DktNetwork(next(parts), next(parts), prompt, network.info)


def count(network: DktNetwork, size: tuple[int, int], frames: int | None = None) -> Counts:
    """TFLOP per frame of every mode, of a network on the meta device in diffusers' own layers.

    size: (H, W), multiples of the network's size_multiple. frames: of the clip that plain and exact
    are given; None: of a clip without end. The VAE's first chunk, which is cheaper, is left out.
    """
    info, ratio = network.info, network.spatial_ratio
    height, width = size
    latent = torch.empty(
        1, network.latent_channels, 1, height // ratio, width // ratio, device="meta"
    )
    clip = torch.empty(1, 3, 5, height, width, device="meta")
    one = clip[:, :, :1]
    spans, shared = [(0, info.window)], 4 * (info.window - info.overlap)
    if frames is not None:
        spans = window_spans(1 + (frames + 2) // 4, info.window, info.overlap)
        shared = frames

    def transformer(length: int) -> float:
        x = latent.expand(-1, -1, length, -1, -1)
        return _counted(lambda: network.velocity(x, x, 500.0))

    # Before the fast form lays the VAE out anew.
    two = latent.expand(-1, -1, 2, -1, -1)
    both = _counted(lambda: network.encode_rgb(clip)) + _counted(lambda: network.decode(two))
    first = _counted(lambda: network.encode_rgb(one)) + _counted(lambda: network.decode(latent))
    plain = info.steps * sum(transformer(stop - start) for start, stop in spans)
    counts = {
        ("plain", ""): plain / shared + (both - first) / 4,
        ("plain sliding", f"{SLIDING_FRAMES} frames"): info.steps * transformer(2) + both,
    }
    # The fast form finds the prompt's distinct tokens by value, so these must have some.
    text_dim = int(network.transformer.config["text_dim"])
    tokens = torch.arange(info.text_tokens)[:, None]
    network.prompt_embeds = torch.randn(1, info.text_tokens, text_dim).masked_fill(
        tokens >= PROMPT_TOKENS, 0
    )
    fast = FastNetwork(network)
    encoder, decoder = fast.encoder_stream(), fast.decoder_stream()
    encoder.advance(one)
    decoder.advance(latent)
    fast_vae = (
        _counted(lambda: encoder.peek(clip[:, :, 1:])) + _counted(lambda: decoder.peek(latent))
    ) / 4
    embed = _counted(lambda: fast.embed_rgb(latent))
    conditions = fast.embed_rgb(latent)

    def step(length: int, keep: int) -> float:
        noisy = latent.expand(-1, -1, length, -1, -1)
        known = conditions.expand(-1, -1, length, -1, -1)
        return _counted(lambda: fast.velocity(noisy, known, 500.0, keep))

    exact = info.steps * sum(step(stop - start, stop - start) for start, stop in spans)
    # A single window is embedded once, several at every step.
    embedded = sum(stop - start for start, stop in spans)
    embedded *= info.steps if len(spans) > 1 else 1
    counts["exact", ""] = (exact + embedded * embed) / shared + fast_vae
    for name, chosen in LIVE.items():
        options = chosen.live
        levels = sigmas(options.steps or info.steps, info.sigma_shift).tolist()
        if options.warm_start is not None:
            levels = [level for level in levels if level <= options.warm_start] or levels[-1:]
        window = len(levels) * step(options.window, options.new) / (4 * options.new)
        counts["live", name] = window + fast_vae + embed / 4
    return counts


def _counted(function: Callable[[], object]) -> float:
    """TFLOP of a call."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        counter = FlopCounterMode(display=False)
        with counter:
            function()
    return counter.get_total_flops() / 1e12
