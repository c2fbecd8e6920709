"""The fast form of the network against the plain one, step by step, and what it saves."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.compile_counter import CompileCounter
from fixtures.tiny_checkpoint import (
    TEXT_DIM,
    make_tiny_checkpoint,
    tiny_transformer,
    tiny_vae,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dkt_ros.errors import DktError
from dkt_ros.model import fast_network as fast_network_module
from dkt_ros.model.canvas import Canvas
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.fast_transformer import KEPT_TABLES, FastTransformer
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import (
    Embed,
    VelocityModel,
    as_they_are,
    initial_noise,
    sample,
    sigmas,
    timesteps,
)
from dkt_ros.predict.clip import PredictOptions, predict_disparity

TOLERANCE = 1e-4


def latents(frames: int, seed: int) -> torch.Tensor:
    return initial_noise((1, 16, frames, 6, 8), seed)


@pytest.fixture(scope="module", params=[False, True], ids=["text", "text+image"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("c"), image_branch=request.param)


@torch.inference_mode()
@pytest.mark.parametrize("timestep", [1000.0, 555.5])
@pytest.mark.parametrize("plain", [True, False])
def test_velocity(folder: Path, timestep: float, plain: bool) -> None:
    """Whether the network's context is collapsed already or not."""
    expected = load_checkpoint(folder, plain=True).velocity(latents(3, 0), latents(3, 1), timestep)
    fast = FastNetwork(load_checkpoint(folder, plain=plain))
    tokens = fast.embed_rgb(latents(3, 1))
    for keep in (3, 2, 1):
        ours = fast.velocity(latents(3, 0), tokens, timestep, keep)
        torch.testing.assert_close(ours, expected[:, :, -keep:], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(
        fast.velocity(latents(3, 0)[:, :, 1:], tokens[:, :, 1:], timestep).shape,
        expected[:, :, 1:].shape,
    )


@torch.inference_mode()
@pytest.mark.parametrize("image_branch", [False, True])
@pytest.mark.parametrize("distinct", [1, 2])
def test_velocity_through_several_blocks(image_branch: bool, distinct: int) -> None:
    """With heads whose channels time, height and width share unequally, as DKT's 128 do."""
    torch.manual_seed(0)
    transformer = tiny_transformer(image_branch, blocks=2, head=16).requires_grad_(False)
    info = CheckpointInfo(name="blocks", text_tokens=512 if image_branch else 4)
    prompt = torch.zeros(1, TEXT_DIM) if distinct == 1 else torch.ones(1, TEXT_DIM)
    network = DktNetwork(transformer.eval(), tiny_vae().requires_grad_(False), prompt, info)
    expected = network.velocity(latents(3, 0), latents(3, 1), 555.5)
    fast = FastNetwork(network)
    for keep in (3, 1):
        ours = fast.velocity(latents(3, 0), fast.embed_rgb(latents(3, 1)), 555.5, keep)
        torch.testing.assert_close(ours, expected[:, :, -keep:], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("head", [12, 16, 20])
def test_rotary_table_is_diffusers(head: int) -> None:
    transformer = tiny_transformer(head=head)
    fast = FastTransformer(transformer, torch.zeros(1, 1, TEXT_DIM))
    cos, sin = fast.rope(3, 30, 52)
    theirs = transformer.rope(torch.zeros(1, 48, 3, 60, 104))
    torch.testing.assert_close(cos, theirs[0][0, :, :, 0::2], atol=1e-7, rtol=0)
    torch.testing.assert_close(sin, theirs[1][0, :, :, 1::2], atol=1e-7, rtol=0)


def test_rotary_tables_of_ever_other_sizes_do_not_gather(plain_network: DktNetwork) -> None:
    fast = FastTransformer(plain_network.transformer, plain_network.prompt_embeds)
    first = fast.rope(1, 2, 1)
    assert fast.rope(1, 2, 1) is first
    for width in range(2, 2 * KEPT_TABLES):
        fast.rope(1, 2, width)
    assert len(fast._tables) == KEPT_TABLES
    again = fast.rope(1, 2, 1)
    assert again is not first
    assert all(map(torch.equal, again, first))


def plain_disparity(network: DktNetwork, rgb: np.ndarray, options: PredictOptions) -> np.ndarray:
    """The exact sampler on the network's own three calls."""
    info = network.info
    canvas = Canvas((rgb.shape[1], rgb.shape[2]), None, network.size_multiple)
    missing = -(len(rgb) - 1) % 4
    padded = np.concatenate([rgb, *([rgb[-1:]] * missing)])
    with torch.inference_mode():
        encoded = network.encode_rgb(canvas.paint(padded))
        result = sample(
            network,
            encoded,
            initial_noise(tuple(encoded.shape), options.seed),
            steps=options.steps or info.steps,
            shift=info.sigma_shift,
            window=options.window or info.window,
            overlap=info.overlap if options.overlap is None else options.overlap,
        )
        return canvas.disparity(network.decode(result))[: len(rgb)]


@pytest.mark.parametrize(
    ("frames", "options"),
    [
        (1, PredictOptions()),
        (6, PredictOptions(steps=3)),
        (17, PredictOptions()),
        (13, PredictOptions(steps=1, window=2, overlap=0, seed=7)),
    ],
)
def test_disparity_is_the_plain_samplers(
    folder: Path, frames: int, options: PredictOptions
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (frames, 32, 48, 3), np.uint8)
    expected = plain_disparity(load_checkpoint(folder, plain=True), rgb, options)
    ours = predict_disparity(FastNetwork(load_checkpoint(folder)), rgb, options)
    assert np.abs(ours - expected).max() < TOLERANCE
    assert np.ptp(expected) > 0.01


def test_image_tokens_that_differ_are_refused(plain_network: DktNetwork) -> None:
    config = dict(plain_network.transformer.config)
    config |= {"image_dim": 8, "added_kv_proj_dim": 24, "pos_embed_seq_len": 2}
    transformer = type(plain_network.transformer).from_config(config)
    with pytest.raises(DktError, match="differ by position"):
        FastTransformer(transformer, plain_network.prompt_embeds)


def flops(function: Callable[..., object], *arguments: object) -> int:
    """Counted operations; attention as plain products, for the CPU's kernel is not counted."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(*arguments)
    return counter.get_total_flops()


@torch.inference_mode()
def test_counted_operations_of_a_step(folder: Path) -> None:
    """The step's matrix products, term by term; and fewer than the plain network's."""
    network = load_checkpoint(folder, plain=True)
    fast = FastTransformer(network.transformer, network.prompt_embeds)
    noisy, frames, keep = latents(3, 0), 3, 1
    tokens = fast.embed_rgb(latents(3, 1))
    arguments = (*fast.modulations(1000.0), *fast.rope(3, 3, 4))
    dim, ffn, heads, distinct = 24, 32, 2, 3
    every, kept = 12 * frames, 12 * keep  # one block: its queries are those of the kept frames
    products = (
        every * 64 * dim  # patch embedding of the noisy half
        + 2 * every * dim * dim  # keys, values
        + 2 * kept * dim * dim  # queries, output
        + 2 * kept * every * dim  # attention
        + kept * dim * dim  # the context's queries
        + kept * dim * distinct  # their logits
        + kept * heads * distinct * dim  # values and output at once
        + 2 * kept * dim * ffn
        + kept * dim * 64
    )
    counted = flops(fast.step, noisy, tokens, *arguments, keep)
    assert counted == 2 * products
    all_kept = flops(fast.step, noisy, tokens, *arguments, frames)
    assert counted < all_kept < flops(network.velocity, noisy, latents(3, 1), 1000.0)


@torch.inference_mode()
def test_streaming_costs_no_more_than_the_whole_clip(tiny_checkpoint: Path) -> None:
    network = load_checkpoint(tiny_checkpoint, plain=True)
    rgb = torch.zeros(1, 3, 9, 32, 48)
    plain = flops(lambda: network.decode(network.encode_rgb(rgb)))
    fast = FastNetwork(network)
    encoder, decoder = fast.encoder_stream(), fast.decoder_stream()
    streamed = sum(
        flops(lambda chunk: decoder.advance(encoder.advance(chunk)), chunk)
        for chunk in (rgb[:, :, :1], *rgb[:, :, 1:].split(4, 2))
    )
    assert 0 < streamed <= plain


def conditions_at_once(network: FastNetwork, rgb: np.ndarray, options: PredictOptions) -> int:
    """Most bytes of embedded latents that exist at any time of a prediction."""
    alive, most, embed = 0, 0, network.embed_rgb

    def ended(nbytes: int) -> None:
        nonlocal alive
        alive -= nbytes

    def watched(latents: torch.Tensor) -> torch.Tensor:
        nonlocal alive, most
        tokens = embed(latents)
        nbytes = tokens.untyped_storage().nbytes()
        alive += nbytes
        most = max(most, alive)
        weakref.finalize(tokens, ended, nbytes)
        return tokens

    network.embed_rgb = watched  # type: ignore[method-assign]
    predict_disparity(network, rgb, options)
    assert alive == 0
    return most


def test_a_long_clip_is_embedded_window_by_window(tiny_checkpoint: Path) -> None:
    """Embedded, a latent frame takes many times its own memory; a clip's must not add up."""
    options = PredictOptions(steps=2, window=3, overlap=1)
    fast = FastNetwork(load_checkpoint(tiny_checkpoint))
    of_a_window = fast.embed_rgb(latents(3, 0)[..., :4, :6]).nbytes
    for frames in (9, 33):  # 3 and 9 latent frames
        network = FastNetwork(load_checkpoint(tiny_checkpoint))
        assert conditions_at_once(network, moving(frames), options) == of_a_window


def moving(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 32, 48, 3), np.uint8)


@torch.inference_mode()
def test_embedding_windows_costs_less_than_the_plain_sampler(folder: Path) -> None:
    """Of a clip of one window every latent is embedded once; of a longer one at every step."""
    network = load_checkpoint(folder, plain=True)
    fast = FastNetwork(network)
    steps, window, overlap = 3, 4, 2

    def cost(model: VelocityModel, length: int, embed: Embed = as_they_are) -> int:
        noise, rgb = latents(length, 0), latents(length, 1)

        def run() -> torch.Tensor:
            return sample(
                model,
                rgb,
                noise,
                steps=steps,
                shift=5.0,
                window=window,
                overlap=overlap,
                embed=embed,
            )

        return flops(run)

    def step(length: int) -> int:
        tokens = fast.embed_rgb(latents(length, 1))
        return flops(fast.velocity, latents(length, 0), tokens, 500.0)

    for timestep in [500.0, *timesteps(sigmas(steps, 5.0)).tolist()]:
        fast.transformer.modulations(timestep)  # kept from now on, and so in no count below
    embedding = flops(fast.embed_rgb, latents(1, 1))
    assert embedding == 2 * 12 * 64 * 24  # tokens, values of a patch, width
    assert cost(fast, 4, fast.embed_rgb) == steps * step(4) + 4 * embedding
    # Windows of 4, 4 and 4 of 8 latent frames, half of them shared.
    long = cost(fast, 8, fast.embed_rgb)
    assert long == steps * 3 * (step(4) + 4 * embedding)
    assert long < cost(network, 8)


@torch.inference_mode()
def test_a_window_is_compiled_once_whatever_the_clips_length(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice has its clip's strides, and torch compiles for strides as it does for shapes."""
    counter = CompileCounter()

    def accelerated(function: Callable[..., object], device: torch.device) -> object:
        return torch.compile(function, backend=counter, dynamic=False)

    torch.compiler.reset()
    monkeypatch.setattr(fast_network_module, "accelerated", accelerated)
    fast = FastNetwork(load_checkpoint(tiny_checkpoint))
    for length in (3, 5, 7):  # in windows of 3, one shared
        noise, rgb = latents(length, 0), latents(length, 1)
        sample(fast, rgb, noise, steps=2, shift=5.0, window=3, overlap=1, embed=fast.embed_rgb)
    assert counter.compiled == 1
    torch.compiler.reset()


@torch.inference_mode()
def test_every_part_is_one_graph(tiny_network: DktNetwork) -> None:
    """What compiles and what is exported: no Python in between, static shapes, tensors only."""
    fast = FastNetwork(tiny_network)
    images, latent = torch.rand(1, 3, 5, 32, 48) * 2 - 1, latents(1, 0)[..., :4, :6]
    _, seen = fast.encoder.first(images[:, :, :1])
    _, shown = fast.decoder.first(latent)
    tokens = fast.embed_rgb(torch.cat([latent, latent], dim=2))
    constants = (*fast.transformer.modulations(1000.0), *fast.transformer.rope(2, 2, 3))
    for function, arguments in (
        (fast.encoder.first, (images[:, :, :1],)),
        (fast.encoder.following, (images[:, :, 1:], seen)),
        (fast.decoder.first, (latent,)),
        (fast.decoder.following, (latent, shown)),
        (fast.transformer.step, (torch.cat([latent] * 2, dim=2), tokens, *constants, 1)),
    ):
        graph = torch.compile(function, backend="eager", fullgraph=True, dynamic=False)
        torch.testing.assert_close(graph(*arguments), function(*arguments))
