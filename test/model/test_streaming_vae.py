"""Chunk by chunk is the whole clip; the past stays as small as it is."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from fixtures.tiny_checkpoint import tiny_vae

from dkt_ros.errors import DktError
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.streaming_vae import (
    Past,
    Stream,
    StreamingDecoder,
    StreamingEncoder,
)

SIZE = (32, 48)


def encoder(network: DktNetwork) -> Stream:
    part = StreamingEncoder(network.vae)
    return Stream(part.first, part.following)


def decoder(network: DktNetwork) -> Stream:
    part = StreamingDecoder(network.vae)
    return Stream(part.first, part.following)


def video(frames: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, frames, *SIZE, generator=generator) * 2 - 1


def images(clip: torch.Tensor) -> list[torch.Tensor]:
    return [clip[:, :, :1], *(clip[:, :, 1:].split(4, 2) if clip.shape[2] > 1 else ())]


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 5, 9, 17])
def test_chunks_are_the_whole_clip(plain_network: DktNetwork, frames: int) -> None:
    clip = video(frames)
    stream = encoder(plain_network)
    latents = torch.cat([stream.advance(chunk) for chunk in images(clip)], 2)
    expected = plain_network.encode_rgb(clip)
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=0)
    stream = decoder(plain_network)
    decoded = torch.cat([stream.advance(latent) for latent in expected.split(1, 2)], 2)
    torch.testing.assert_close(decoded, plain_network.decode(expected), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_stacked_convolutions_stream_alike(
    plain_network: DktNetwork, tiny_network: DktNetwork
) -> None:
    plain, stacked = encoder(plain_network), encoder(tiny_network)
    for chunk in images(video(9)):
        latent = plain.advance(chunk)
        torch.testing.assert_close(stacked.advance(chunk), latent, atol=1e-4, rtol=0)
    plain, stacked = decoder(plain_network), decoder(tiny_network)
    for _ in range(3):
        torch.testing.assert_close(
            stacked.advance(latent), plain.advance(latent), atol=1e-4, rtol=0
        )


@torch.inference_mode()
def test_a_reset_stream_knows_nothing_of_the_clip_before(tiny_network: DktNetwork) -> None:
    for stream, first, second in (
        (encoder(tiny_network), images(video(9)), images(video(9, seed=1))),
        (
            decoder(tiny_network),
            [torch.ones(1, 16, 1, 4, 6)] * 2,
            [torch.zeros(1, 16, 1, 4, 6)] * 2,
        ),
    ):
        expected = [stream.advance(chunk) for chunk in second]
        stream.reset()
        for chunk in first:
            stream.advance(chunk)
        stream.reset()
        assert stream.nbytes() == 0
        for chunk, result in zip(second, expected, strict=True):
            assert torch.equal(stream.advance(chunk), result)


@torch.inference_mode()
def test_peeking_does_not_move_on(tiny_network: DktNetwork) -> None:
    stream = encoder(tiny_network)
    chunks = images(video(9))
    stream.advance(chunks[0])
    seen = stream.peek(chunks[2])
    assert torch.equal(stream.peek(chunks[2]), seen)
    expected = stream.peek(chunks[1])
    assert torch.equal(stream.advance(chunks[1]), expected)
    assert not torch.equal(stream.advance(chunks[2]), seen)


@torch.inference_mode()
def test_the_last_of_a_clip_is_what_it_is_within_one_and_keeps_nothing(
    tiny_network: DktNetwork,
) -> None:
    latents = [torch.randn(1, 16, 1, 4, 6) for _ in range(2)]
    for part, chunks in (
        (StreamingEncoder(tiny_network.vae), images(video(5))),
        (StreamingDecoder(tiny_network.vae), latents),
    ):
        stream = Stream(part.first, part.following, part.last)
        for chunk in chunks:
            last = stream.peek(chunk)
            assert torch.equal(stream.advance(chunk), last)
        kept = Past(None, keeps=False)
        part.run(chunks[0], kept)
        assert kept.end() == ()


@torch.inference_mode()
def test_memory_does_not_grow_and_holds_no_whole_activation(tiny_network: DktNetwork) -> None:
    for stream, chunks in (
        (encoder(tiny_network), images(video(17))),
        (decoder(tiny_network), [torch.zeros(1, 16, 1, 4, 6)] * 5),
    ):
        sizes = []
        for chunk in chunks:
            stream.advance(chunk)
            sizes.append(stream.nbytes())
            assert stream.caches is not None
            values = sum(cache.numel() * cache.element_size() for cache in stream.caches)
            assert sizes[-1] == values
            assert all(cache.shape[2] <= 2 for cache in stream.caches)
        assert len(set(sizes)) == 1


def test_caches_that_do_not_fit_are_refused(tiny_network: DktNetwork) -> None:
    part = StreamingEncoder(tiny_network.vae)
    with torch.inference_mode():
        _, caches = part.first(video(1))
        with pytest.raises(ValueError, match="1 caches more"):
            part.following(video(4), (*caches, caches[0]))


def test_the_fused_norm_is_norm_and_silu() -> None:
    vae = tiny_vae()
    norm = vae.encoder.norm_out
    torch.nn.init.uniform_(norm.gamma)
    x = torch.randn(1, norm.gamma.shape[0], 3, 4, 5)
    x[:, :, 0] = 0.0  # nothing to divide by
    torch.testing.assert_close(Past(None).norm_silu(norm, x), vae.encoder.nonlinearity(norm(x)))


@pytest.mark.parametrize(
    "changes", [{"is_residual": True}, {"attn_scales": [0.5]}, {"patch_size": 2}]
)
def test_another_vae_is_refused(changes: dict) -> None:
    vae = AutoencoderKLWan(base_dim=4, num_res_blocks=1, **changes)
    with pytest.raises(DktError, match=r"Wan 2\.1"):
        StreamingEncoder(vae)
