"""The loss terms on cases worked out by hand."""

from __future__ import annotations

import pytest
import torch
from fixtures.tiny_nano import TINY

from dkt_ros.train.fields import build
from dkt_ros.train.nano.config import NanoConfig
from dkt_ros.train.nano.losses import (
    TensorBatch,
    affine_fit,
    denoising_loss,
    draw_sigmas,
    encoder_loss,
    gradient_error,
    known_error,
    pixel_error,
    vae_loss,
)
from dkt_ros.train.nano.network import NanoModel

STAGES = [{"steps": 900, "height": 32, "width": 48, "batch": 2}]


def test_affine_fit_undoes_scale_and_shift() -> None:
    torch.manual_seed(0)
    target = torch.rand(2, 1, 1, 8, 8) * 2 - 1
    weight = torch.ones_like(target)
    fitted = affine_fit(target * 0.5 + 0.3, target, weight)
    # 1e-3 on the variance keeps flat predictions finite, at the cost of about 1%.
    torch.testing.assert_close(fitted, target, atol=0.03, rtol=0)


def test_affine_fit_ignores_pixels_without_weight() -> None:
    target = torch.linspace(-1, 1, 16).view(1, 1, 1, 4, 4)
    weight = torch.ones_like(target)
    weight[..., 3] = 0
    wild = target.clone()
    wild[..., 3] = 50.0
    fitted = affine_fit(wild, target, weight)
    assert (fitted - target)[..., :3].abs().max() < 0.03


def test_pixel_error_by_hand() -> None:
    target = torch.zeros(1, 1, 1, 1, 4)
    predicted = torch.full_like(target, 0.2)
    # Directly 0.2 everywhere, after the fit 0: half of each.
    weight = torch.ones_like(target)
    assert pixel_error(predicted, target, weight).item() == pytest.approx(0.1, abs=1e-4)
    weight[..., 3] = 0
    predicted[..., 3] = 50.0
    assert pixel_error(predicted, target, weight).item() == pytest.approx(0.1, abs=1e-4)


def test_known_error_is_the_mean_of_what_is_known() -> None:
    torch.manual_seed(0)
    decoded, target = torch.rand(2, 3, 1, 4, 4), torch.rand(2, 3, 1, 4, 4)
    known = torch.ones(2, 1, 1, 4, 4)
    assert torch.equal(known_error(decoded, target, known), (decoded - target).abs().mean())
    known[0, ..., 3] = 0
    wild = decoded.clone()
    wild[0, ..., 3] = 50.0
    error = (decoded - target).abs()
    expected = (error[0, ..., :3].sum() + error[1].sum()) / (3 * 12 + 3 * 16)
    torch.testing.assert_close(known_error(wild, target, known), expected)
    assert known_error(wild, target, torch.zeros_like(known)) == 0


@pytest.mark.parametrize("stage", ["vae", "denoising"])
def test_no_reconstruction_is_asked_for_where_depth_is_unknown(stage: str) -> None:
    """The decoder's output there changes nothing, elsewhere it does."""
    torch.manual_seed(0)
    config = build(
        NanoConfig, {"stages": STAGES, "network": TINY, "loss": {"reconstruct_share": 1.0}}
    )
    model = NanoModel(config)
    shape = (2, 1, 1, 32, 48)
    known = torch.ones(shape)
    known[..., :8] = 0
    planes = {"objects": torch.zeros(shape), "relative": torch.ones(shape)}
    planes |= {"condition": torch.zeros(2, 3, 1, 32, 48), "given": torch.zeros(2, 1, 1, 1, 1)}
    target = torch.where(known > 0, torch.rand(shape), -1.0)
    batch = TensorBatch(torch.rand(2, 3, 1, 32, 48), target, known, **planes)

    def reconstruction(columns: slice) -> float:
        decode = NanoModel.decode

        def changed(normalised: torch.Tensor) -> torch.Tensor:
            video = decode(model, normalised)
            video[..., columns] += 5.0
            return video

        model.decode = changed  # type: ignore[method-assign]
        with torch.no_grad():
            if stage == "vae":
                return float(vae_loss(model, batch, config)["reconstruction"])
            generator = torch.Generator().manual_seed(0)
            return float(denoising_loss(model, batch, config, generator)["reconstruction"])

    asis = reconstruction(slice(0, 0))
    assert reconstruction(slice(0, 8)) == asis
    assert reconstruction(slice(8, 16)) > asis + 0.01


def test_who_knows_the_answer_loses_by_the_decoder_alone() -> None:
    torch.manual_seed(0)
    shape, loss = (2, 1, 1, 32, 48), {"reconstruct_share": 0.5, "flow": 1.0, "pixel": 1.0}
    loss |= {"gradient": 0.25, "object_weight": 5.0, "sigma_one_share": 0.0}
    config = build(NanoConfig, {"stages": STAGES, "network": TINY, "loss": loss})
    planes = {name: (torch.rand(shape) > 0.3).float() for name in ("known", "objects")}
    planes["relative"] = torch.rand(shape)
    planes |= {"condition": torch.zeros(2, 3, 1, 32, 48), "given": torch.zeros(2, 1, 1, 1, 1)}
    target = torch.rand(shape)
    batch = TensorBatch(target.expand(2, 3, 1, 32, 48), target, **planes)
    model = NanoModel(config)
    with torch.no_grad():
        assert all(value == 0 for value in encoder_loss(model, model, batch, config).values())
        data = model.normalise(model.encode(batch.rgb)).float()
        decoded = model.decode(data).float().mean(dim=1, keepdim=True)

        def knows(noisy: torch.Tensor, _: object, sigma: torch.Tensor, *__: object) -> torch.Tensor:
            assert sigma.min() < 1
            return (noisy - data) / sigma.view(-1, 1, 1, 1, 1)

        model.velocity = knows  # type: ignore[assignment,method-assign]
        found = denoising_loss(model, batch, config, torch.Generator().manual_seed(0))
    assert found["flow"].item() == pytest.approx(0, abs=1e-9)
    weight = batch.known * batch.relative * (1 + 5 * batch.objects)
    expected = pixel_error(decoded, target, weight)
    torch.testing.assert_close(found["pixel"], expected, rtol=1e-4, atol=1e-5)
    steps = 0.25 * gradient_error(decoded, target, batch.known)
    torch.testing.assert_close(found["gradient"], steps, rtol=1e-4, atol=1e-5)


def test_the_encoder_follows_the_teacher_and_more_so_on_objects() -> None:
    torch.manual_seed(0)
    loss = {"reconstruct_share": 0.5, "object_weight": 3.0}
    config = build(NanoConfig, {"stages": STAGES, "network": TINY, "loss": loss})
    model, teacher = NanoModel(config), NanoModel(config)
    shape = (2, 1, 1, 32, 48)
    planes = {name: torch.ones(shape) for name in ("known", "relative", "objects")}
    planes |= {"condition": torch.zeros(2, 3, 1, 32, 48), "given": torch.zeros(2, 1, 1, 1, 1)}
    planes["objects"][..., 24:] = 0  # of six latents in a row three
    batch = TensorBatch(torch.rand(2, 3, 1, 32, 48), torch.rand(shape), **planes)
    disparity = batch.target.expand_as(batch.rgb)
    with torch.no_grad():
        found = encoder_loss(model, teacher, batch, config)
        wanted = model.normalise(teacher.encode(disparity))
        error = (model.normalise(model.encode(batch.rgb)) - wanted).square()
        kept = (model.normalise(model.encode(disparity[:1])) - wanted[:1]).square().mean()
    on, off = error[..., :3].mean(), error[..., 3:].mean()
    torch.testing.assert_close(found["latent"], (4 * on + off) / 5)
    torch.testing.assert_close(found["kept"], kept)
    assert (on - off).abs() > 1e-3 * on


def test_the_latents_of_disparity_are_a_label_to_the_flow() -> None:
    torch.manual_seed(0)
    loss = {"reconstruct_share": 0.5}
    config = build(NanoConfig, {"stages": STAGES, "network": TINY, "loss": loss})
    model, shape = NanoModel(config), (2, 1, 1, 32, 48)
    planes = {name: torch.ones(shape) for name in ("known", "relative", "objects")}
    planes |= {"condition": torch.zeros(2, 3, 1, 32, 48), "given": torch.zeros(2, 1, 1, 1, 1)}
    batch = TensorBatch(torch.rand(2, 3, 1, 32, 48), torch.rand(shape), **planes)
    model.velocity = lambda noisy, *_: torch.zeros(noisy.shape)  # type: ignore[method-assign]
    found = denoising_loss(model, batch, config, torch.Generator().manual_seed(0))
    assert not found["flow"].requires_grad
    assert found["reconstruction"].requires_grad


def test_the_flow_may_begin_at_the_raw_depth() -> None:
    """A network that changes nothing answers with the raw depth, where it is given."""
    torch.manual_seed(0)
    batch = TensorBatch(
        rgb=torch.rand(2, 3, 1, 32, 48),
        target=torch.rand(2, 1, 1, 32, 48),
        known=torch.ones(2, 1, 1, 32, 48),
        objects=torch.zeros(2, 1, 1, 32, 48),
        relative=torch.ones(2, 1, 1, 32, 48),
        condition=torch.stack([torch.rand(3, 1, 32, 48), torch.zeros(3, 1, 32, 48)]),
        given=torch.tensor([1.0, 0.0]).view(2, 1, 1, 1, 1),
    )
    asked: list[torch.Tensor] = []
    for condition in ("raw_depth", "from_raw_depth"):
        config = build(
            NanoConfig,
            {
                "stages": STAGES,
                "network": TINY,
                "condition": condition,
                "loss": {"sigma_one_share": 1.0},
            },
        )
        torch.manual_seed(0)
        model = NanoModel(config)
        seen: list[torch.Tensor] = []

        def still(noisy: torch.Tensor, *_: object) -> torch.Tensor:
            seen.append(noisy)  # noqa: B023
            return torch.zeros_like(noisy)

        model.velocity = still  # type: ignore[assignment,method-assign]
        denoising_loss(model, batch, config, torch.Generator().manual_seed(0))
        asked.append(seen[0].detach())
    noise, begun = asked
    with torch.no_grad():
        raw = model.normalise(model.encode(batch.condition[:1]))
    torch.testing.assert_close(begun[:1], raw)
    assert torch.equal(begun[1], noise[1])
    assert not torch.equal(begun[0], noise[0])


def test_gradient_error_sees_steps_not_offsets() -> None:
    torch.manual_seed(0)
    target = torch.rand(1, 1, 1, 8, 8)
    known = torch.ones_like(target)
    assert gradient_error(target + 0.5, target, known).item() == pytest.approx(0, abs=1e-6)
    step = target.clone()
    step[..., 4:] += 1.0
    # Horizontal steps of 1: one of 7 neighbours, all 4 of the pairs 4 apart; over 4 terms.
    assert gradient_error(step, target, known).item() == pytest.approx((1 / 7 + 1.0) / 4)
    wild = target.clone()
    for column, value in ((0, 50.0), (7, -50.0)):
        wild[..., column], known[..., column] = value, 0.0
    assert gradient_error(wild, target, known).item() == 0.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sigmas_are_the_samplers(share: float) -> None:
    config = build(NanoConfig, {"stages": STAGES, "loss": {"sigma_one_share": share}})
    drawn = draw_sigmas(200, config, torch.Generator().manual_seed(0))
    levels = {round(v, 3) for v in drawn.tolist()}
    assert levels == ({1.0} if share else {1.0, 0.952, 0.882, 0.769, 0.556})
