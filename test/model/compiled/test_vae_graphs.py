"""The VAE with frames as the batch is the streaming VAE."""

from __future__ import annotations

import pytest
import torch

from dkt_ros.model.compiled.vae_graphs import decode, encode
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.streaming_vae import StreamingDecoder, StreamingEncoder


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.inference_mode()
def test_chunk_by_chunk(plain_network: DktNetwork) -> None:
    encoder, decoder = StreamingEncoder(plain_network.vae), StreamingDecoder(plain_network.vae)
    seen = encoder.first(random(1, 3, 1, 32, 48, seed=0))
    latent, *caches = encode(encoder, random(1, 3, 1, 32, 48, seed=0), None)
    torch.testing.assert_close(latent, seen[0], atol=1e-5, rtol=0)
    shown = decoder.first(latent)
    image, *kept = decode(decoder, latent, None)
    torch.testing.assert_close(image, shown[0], atol=1e-5, rtol=0)
    for seed in (1, 2, 3):
        chunk = random(1, 3, 4, 32, 48, seed=seed)
        seen = encoder.following(chunk, seen[1])
        latent, *caches = encode(encoder, chunk, tuple(caches))
        torch.testing.assert_close(latent, seen[0], atol=1e-5, rtol=0)
        shown = decoder.following(latent, shown[1])
        images, *kept = decode(decoder, latent, tuple(kept))
        assert images.shape == (1, 3, 4, 32, 48)
        torch.testing.assert_close(images, shown[0], atol=1e-5, rtol=0)
    for cache, other in zip(caches, seen[1], strict=True):
        torch.testing.assert_close(cache, other[0].transpose(0, 1), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_caches_that_do_not_fit_are_refused(plain_network: DktNetwork) -> None:
    encoder = StreamingEncoder(plain_network.vae)
    _, *caches = encode(encoder, random(1, 3, 1, 32, 48, seed=0), None)
    with pytest.raises(ValueError, match="1 caches more"):
        encode(encoder, random(1, 3, 4, 32, 48, seed=1), (*caches, caches[0]))
