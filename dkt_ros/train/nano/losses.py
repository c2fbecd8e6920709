"""What dkt-nano learns to make small. Knows tensors of latents and pictures, nothing of the loop.

Two views of one network: flow matching in latent space, as DKT is trained, and, because a network
this small is trained with little data, an error in pixels through the decoder, which also teaches
the encoder what in the RGB matters.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dkt_ros.model.sampler import sigmas
from dkt_ros.train.nano.config import NanoConfig
from dkt_ros.train.nano.dataset import Batch
from dkt_ros.train.nano.network import NanoModel

TensorBatch = Batch[Tensor]


def vae_loss(model: NanoModel, batch: TensorBatch, config: NanoConfig) -> dict[str, Tensor]:
    """The VAE alone, on disparity where that is known (rendered: everywhere)."""
    disparity = batch.target.expand_as(batch.rgb)
    latents = model.encode(disparity)
    decoded = model.decode(model.normalise(latents))
    return {
        "reconstruction": known_error(decoded, disparity, batch.known),
        "penalty": config.loss.latent_penalty * latents.square().mean(),
    }


def encoder_loss(
    model: NanoModel, teacher: NanoModel, batch: TensorBatch, config: NanoConfig
) -> dict[str, Tensor]:
    """The encoder gives RGB the latents that the teacher's encoder gives its disparity.

    The transformer starts with the RGB latents as its estimate, so this is most of the task in its
    cheapest form. A share of the batch keeps the encoder's own view of disparity where it was.
    As in the flow, unknown disparity counts as -1.
    """
    count = batch.rgb.shape[0]
    disparity = batch.target.expand_as(batch.rgb)
    with torch.no_grad():
        wanted = model.normalise(teacher.encode(disparity))
    kept = round(count * config.loss.reconstruct_share)
    latents = model.normalise(model.encode(torch.cat([batch.rgb, disparity[:kept]])))
    frames, height, width = wanted.shape[2:]
    objects = functional.adaptive_avg_pool3d(batch.objects, (frames, height, width))
    weight = 1.0 + config.loss.object_weight * objects
    error = (latents[:count] - wanted).square() * weight
    losses = {"latent": error.mean() / weight.mean()}
    if kept:
        losses["kept"] = (latents[count:] - wanted[:kept]).square().mean()
    return losses


def denoising_loss(
    model: NanoModel, batch: TensorBatch, config: NanoConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """Flow matching x = (1-s) x0 + s e with target e - x0, and the pixel error of the implied x0.

    x0 is the encoded disparity, detached in both: it is a label here, and learns from its own
    reconstruction alone. Of the errors only that of the flow counts unknown pixels, as -1: a latent
    knows no single ones. Rendered data has none.
    """
    weights = config.loss
    count = batch.rgb.shape[0]
    disparity = batch.target.expand_as(batch.rgb)
    kept = round(count * weights.reconstruct_share)
    given = batch.given.flatten() > 0
    shown = batch.condition[given]
    latents = model.encode(torch.cat([batch.rgb, disparity[:kept], shown])).float()
    with torch.no_grad():
        others = model.encode(disparity[kept:]).float() if kept < count else latents[:0]
    sizes = [count, kept, len(shown)]
    rgb_latents, depth_latents, raw_latents = model.normalise(latents).split(sizes)
    conditions = torch.zeros_like(rgb_latents).index_copy(0, given.nonzero().flatten(), raw_latents)
    data = torch.cat([depth_latents.detach(), model.normalise(others)])
    sigma = draw_sigmas(count, config, generator)
    level = sigma.view(-1, 1, 1, 1, 1)
    noise = torch.randn(data.shape, generator=generator)
    if config.info.begins_at_raw_depth:
        noise = torch.where(batch.given > 0, conditions, noise)
    noisy = (1.0 - level) * data + level * noise
    velocity = model.velocity(noisy, rgb_latents, sigma, conditions).float()
    flow = (velocity - (noise.detach() - data)).square().mean()
    estimate = noisy - level * velocity

    # A little noise keeps the decoder smooth where the transformer is not exact.
    probe = depth_latents[:kept] + 0.1 * torch.randn(data[:kept].shape, generator=generator)
    decoded = model.decode(torch.cat([estimate, probe])).float()
    predicted = decoded[:count].mean(dim=1, keepdim=True)
    weight = batch.known * batch.relative * (1.0 + weights.object_weight * batch.objects)
    losses = {
        "flow": weights.flow * flow,
        "pixel": weights.pixel * pixel_error(predicted, batch.target, weight),
        "gradient": weights.gradient * gradient_error(predicted, batch.target, batch.known),
        "penalty": weights.latent_penalty * latents.square().mean(),
    }
    if kept:
        error = known_error(decoded[count:], disparity[:kept], batch.known[:kept])
        losses["reconstruction"] = weights.reconstruction * error
    return losses


def draw_sigmas(count: int, config: NanoConfig, generator: torch.Generator) -> Tensor:
    """Noise levels (count,): 1 with probability sigma_one_share, else one of the sampler's."""
    levels = sigmas(config.sigma_steps, config.sigma_shift)
    index = torch.randint(len(levels), (count,), generator=generator)
    pure = torch.rand(count, generator=generator) < config.loss.sigma_one_share
    return torch.where(pure, torch.ones(count), levels[index])


def known_error(decoded: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean absolute error of videos (B, C, F, H, W) where known (B, 1, F, H, W) is 1."""
    total = known.sum() * decoded.shape[1]
    return ((decoded - target).abs() * known).sum() / total.clamp(min=1.0)


def pixel_error(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute error, half as it stands and half after the best affine fit per clip.

    Depth is judged after a fit of scale and shift, so errors that such a fit removes count less.
    """
    direct = (predicted - target).abs()
    fitted = affine_fit(predicted, target, weight)
    per_pixel = 0.5 * direct + 0.5 * (fitted - target).abs()
    return (per_pixel * weight).sum() / weight.sum().clamp(min=1.0)


def affine_fit(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Predicted (B, ...) mapped by the scale and shift per item that fit target best (weighted L2).

    The scale is kept within [0.2, 5]; gradients flow through the fit.
    """
    dims = tuple(range(1, predicted.dim()))
    total = weight.sum(dims, keepdim=True).clamp(min=1.0)
    mean_p = (predicted * weight).sum(dims, keepdim=True) / total
    mean_t = (target * weight).sum(dims, keepdim=True) / total
    centred = predicted - mean_p
    covariance = (centred * (target - mean_t) * weight).sum(dims, keepdim=True) / total
    variance = (centred.square() * weight).sum(dims, keepdim=True) / total
    scale = (covariance / (variance + 1e-3)).clamp(0.2, 5.0)
    return scale * centred + mean_t


def gradient_error(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean absolute error of the vertical and horizontal steps between pixels 1 and 4 apart."""
    error = predicted - target
    total = predicted.new_zeros(())
    for stride in (1, 4):
        for dim in (-1, -2):
            size = error.shape[dim] - stride
            step = error.narrow(dim, stride, size) - error.narrow(dim, 0, size)
            both = known.narrow(dim, stride, size) * known.narrow(dim, 0, size)
            total = total + (step.abs() * both).sum() / both.sum().clamp(min=1.0)
    return total / 4.0
