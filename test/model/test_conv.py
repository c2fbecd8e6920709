"""The stacked 2-D form of the causal convolutions equals diffusers' 3-D form."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

from dkt_ros.model.conv import StackedCausalConv3d, use_stacked_convolutions

TOLERANCE = 1e-5


def tiny_vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, latents_mean=[0.0] * 4
    ).eval()


def stacked(conv: WanCausalConv3d) -> WanCausalConv3d:
    other = copy.deepcopy(conv)
    assert use_stacked_convolutions(other) == 1
    assert isinstance(other, StackedCausalConv3d)
    return other


@pytest.mark.parametrize("silent", [(), (0,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("cached", [0, 2])
def test_taps_of_zeros_are_not_computed(
    silent: tuple[int, ...], cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    conv = WanCausalConv3d(5, 6, 3, padding=1)
    with torch.no_grad():
        conv.weight[:, :, list(silent)] = 0.0
    cache = torch.randn(1, 5, cached, 8, 10) if cached else None
    x = torch.randn(1, 5, 4, 8, 10)
    expected = conv(x, cache)
    other = stacked(conv)
    assert isinstance(other, StackedCausalConv3d)
    other.skip_silent_taps()
    computed = []
    convolve = StackedCausalConv3d._convolve

    def noted(self: StackedCausalConv3d, frames: torch.Tensor, tap: int, bias: object) -> object:
        computed.append(tap)
        return convolve(self, frames, tap, bias)  # type: ignore[arg-type]

    monkeypatch.setattr(StackedCausalConv3d, "_convolve", noted)
    torch.testing.assert_close(other(x, cache), expected, atol=TOLERANCE, rtol=0)
    assert computed == [tap for tap in (2, 1, 0) if tap == 2 or tap not in silent]


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
@pytest.mark.parametrize("cached", [0, 1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        (3, 1, 1),
        (1, 1, 0),
        ((3, 1, 1), 1, (1, 0, 0)),
        ((3, 1, 1), (2, 1, 1), (0, 0, 0)),
        ((3, 3, 3), (1, 2, 2), (1, 1, 1)),
    ],
)
def test_equals_conv3d(
    frames: int,
    cached: int,
    kernel: int | tuple[int, int, int],
    stride: int | tuple[int, int, int],
    padding: int | tuple[int, int, int],
) -> None:
    torch.manual_seed(frames * 10 + cached)
    conv = WanCausalConv3d(5, 6, kernel, stride=stride, padding=padding)
    cache = torch.randn(2, 5, cached, 8, 10) if cached else None
    x = torch.randn(2, 5, frames, 8, 10)
    if conv._padding[4] == 0 and frames < conv.kernel_size[0]:
        pytest.skip("fewer frames than the unpadded kernel")
    expected = conv(x, cache)
    actual = stacked(conv)(x, cache)
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


def test_gradients_equal_conv3d() -> None:
    torch.manual_seed(1)
    conv = WanCausalConv3d(3, 4, 3, padding=1)
    other = stacked(conv)
    results = []
    for layer in (conv, other):
        torch.manual_seed(2)
        x = torch.randn(1, 3, 3, 6, 6, requires_grad=True)
        cache = torch.randn(1, 3, 2, 6, 6, requires_grad=True)
        layer(x, cache).square().sum().backward()
        results.append((x.grad, cache.grad, layer.weight.grad, layer.bias.grad))
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_whole_vae_is_unchanged(frames: int) -> None:
    vae = tiny_vae()
    fast = copy.deepcopy(vae)
    keys = set(fast.state_dict())
    assert use_stacked_convolutions(fast) > 20
    assert set(fast.state_dict()) == keys
    video = torch.rand(1, 3, frames, 32, 48) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(video).latent_dist.mode()
        torch.testing.assert_close(
            fast.encode(video).latent_dist.mode(), latents, atol=TOLERANCE, rtol=0
        )
        torch.testing.assert_close(
            fast.decode(latents).sample, vae.decode(latents).sample, atol=TOLERANCE, rtol=0
        )


def test_grouped_convolutions_are_left_alone() -> None:
    conv = WanCausalConv3d(4, 4, 3, padding=1)
    conv.groups = 2
    assert use_stacked_convolutions(conv) == 0
    assert type(conv) is WanCausalConv3d


def test_too_few_frames_are_refused() -> None:
    conv = stacked(WanCausalConv3d(2, 2, (3, 1, 1), stride=(2, 1, 1)))
    with pytest.raises(ValueError, match="expected at least 3"):
        conv(torch.zeros(1, 2, 2, 4, 4))
