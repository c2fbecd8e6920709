"""What is asked of the network and how its answer is judged, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fixtures.latent_source import FixedLatents
from torch import Tensor

from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.sampler import sample, sigmas, timesteps
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.objective import Objective, ask, gradient_loss, level_weights, losses

INDICES = [0, 1, 2]
INFO = CheckpointInfo("x", sigma_shift=3.0, condition="raw_depth")
BEGUN = replace(INFO, condition="from_raw_depth")
FLOW, ONE_STEP = Objective(), Objective(kind="one_step")


def batch(frames: int = 2, hole: float = 0.0) -> LatentBatch:
    return FixedLatents(hole=hole).batch(0, INDICES, frames)


def test_bell_gives_the_five_step_sampler_the_known_weights() -> None:
    steps = timesteps(sigmas(1000, 5.0))
    weights = level_weights(FLOW, steps)
    assert weights.mean() == pytest.approx(1.0)
    nearest = [(steps - 1000 * s).abs().argmin() for s in sigmas(5, 5.0)]
    assert [float(weights[i]) for i in nearest] == pytest.approx(
        [0.0, 0.30, 0.74, 1.36, 2.04], abs=0.005
    )
    assert torch.equal(level_weights(replace(FLOW, weighting="uniform"), steps), torch.ones(1000))
    assert level_weights(FLOW, steps[:1]).tolist() == [1.0]


def test_flow_mixes_data_and_noise_at_the_drawn_level() -> None:
    given = batch()
    question = ask(FLOW, given, 1, 5, INDICES, INFO)
    sigma = question.timestep.view(-1, 1, 1, 1, 1) / 1000
    expected = (1 - sigma) * given.disparity + sigma * question.noise
    torch.testing.assert_close(question.noisy, expected)
    steps = timesteps(sigmas(1000, 3.0))
    chosen = (question.timestep[:, None] - steps).abs().argmin(dim=1)
    torch.testing.assert_close(question.timestep, steps[chosen])
    torch.testing.assert_close(question.weight, level_weights(FLOW, steps)[chosen])
    levels = torch.cat([ask(FLOW, given, 1, s, INDICES, INFO).timestep for s in range(200)])
    assert levels.min() < 100
    assert levels.median() == pytest.approx(1000 * 3 / 4, abs=30)  # s = 1/2 before the shift
    assert question.noise.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("objective", [FLOW, ONE_STEP])
def test_draws_depend_on_seed_step_and_index_alone(objective: Objective) -> None:
    whole = ask(objective, batch(), 1, 5, INDICES, INFO)
    part = batch()
    part = LatentBatch(part.rgb[1:2], part.disparity[1:2], part.weight[1:2])
    alone = ask(objective, part, 1, 5, [1], INFO)
    for name, value in vars(alone).items():
        assert torch.equal(value, getattr(whole, name)[1:2]), name
    for other in (
        ask(objective, batch(), 2, 5, INDICES, INFO),
        ask(objective, batch(), 1, 6, INDICES, INFO),
    ):
        assert not torch.equal(other.noise, whole.noise)
    assert not torch.equal(whole.noise[0], whole.noise[1])


@pytest.mark.parametrize("objective", [FLOW, ONE_STEP])
def test_the_right_velocity_loses_nothing(objective: Objective) -> None:
    given = batch(hole=0.4)
    question = ask(objective, given, 1, 0, INDICES, INFO)
    right = question.noise - given.disparity
    assert sum(losses(objective, question, right, given).values()) < 1e-6
    elsewhere = right + 100.0 * (1.0 - given.weight)  # where nothing is known nothing counts
    known = losses(replace(objective, gradient=0.0), question, elsewhere, given)
    assert sum(known.values()) < 1e-6


def test_flow_loss_is_the_weighted_mean_over_known_latents() -> None:
    given = batch(hole=0.5)
    question = ask(FLOW, given, 1, 0, INDICES, INFO)
    question = replace(question, weight=torch.tensor([1.0, 2.0, 0.0]))
    off = torch.tensor([0.1, 0.2, 0.3]).view(-1, 1, 1, 1, 1)
    velocity = question.noise - given.disparity + off
    found = losses(FLOW, question, velocity, given)["flow"]
    assert found.item() == pytest.approx((1 * 0.01 + 2 * 0.04) / 3, rel=1e-4)


def test_gradient_loss_by_hand() -> None:
    error = torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]]).view(1, 1, 1, 2, 3)
    known = torch.ones_like(error)
    assert gradient_loss(error, known).item() == pytest.approx(0.5 * (1.5 + 0.0))
    known[..., 2] = 0.0
    assert gradient_loss(error, known).item() == pytest.approx(0.5 * (1.0 + 0.0))
    assert gradient_loss(error[..., :1, :1], known[..., :1, :1]).item() == 0.0
    only = losses(replace(ONE_STEP, gradient=0.0), ask(ONE_STEP, batch(), 1, 0, INDICES, INFO),
                  torch.zeros_like(batch().disparity), batch())  # fmt: skip
    assert set(only) == {"latent"}
    given, question = batch(), ask(ONE_STEP, batch(), 1, 0, INDICES, INFO)
    error = question.noise - given.disparity
    found = losses(replace(ONE_STEP, gradient=0.3), question, torch.zeros_like(error), given)
    torch.testing.assert_close(found["gradient"], 0.3 * gradient_loss(error, given.weight))


def test_a_sample_of_which_nothing_is_known_teaches_nothing() -> None:
    given = batch()
    given = replace(given, weight=torch.zeros_like(given.weight))
    question = ask(ONE_STEP, given, 1, 0, INDICES, INFO)
    velocity = torch.zeros_like(given.disparity, requires_grad=True)
    total = torch.stack(list(losses(ONE_STEP, question, velocity, given).values())).sum()
    total.backward()
    assert total.item() == 0.0
    assert velocity.grad is not None
    assert not velocity.grad.any()


def test_one_step_is_trained_as_the_sampler_computes_it() -> None:
    """The estimate that the loss judges is what `sample` gives with steps = 1, at its timestep."""
    given = batch()
    question = ask(ONE_STEP, given, 1, 0, INDICES, INFO)
    assert torch.equal(question.noisy, question.noise)
    seen = []

    class Network:
        def velocity(self, noisy: Tensor, rgb: Tensor, timestep: Tensor | float) -> Tensor:
            seen.append((noisy, float(timestep)))
            return 0.3 * noisy + rgb

    network = Network()
    result = sample(
        network, given.rgb[:1], question.noise[:1], steps=1, shift=5.0, window=2, overlap=0
    )
    assert torch.equal(seen[0][0], question.noisy[:1])
    assert seen[0][1] == question.timestep[0] == 1000.0
    one = LatentBatch(given.rgb[:1], result, given.weight[:1])  # as if that were the truth
    velocity = network.velocity(question.noisy[:1], given.rgb[:1], 1000.0)
    first = replace(question, noise=question.noise[:1], noisy=question.noisy[:1])
    assert sum(losses(ONE_STEP, first, velocity, one).values()) < 1e-6


@pytest.mark.parametrize("objective", [FLOW, ONE_STEP])
def test_the_flow_may_begin_at_the_raw_depth(objective: Objective) -> None:
    """Where it is shown; the other samples begin at the noise that they would have had."""
    plain = batch()
    raw = torch.randn_like(plain.disparity)
    raw[1:] = 0
    shown = LatentBatch(torch.cat([plain.rgb, raw], dim=1), plain.disparity, plain.weight)
    noise = ask(objective, shown, 1, 5, INDICES, INFO)
    begun = ask(objective, shown, 1, 5, INDICES, BEGUN)
    assert torch.equal(begun.noise[0], raw[0])
    assert torch.equal(begun.noise[1:], noise.noise[1:])
    assert torch.equal(begun.timestep, noise.timestep)
    level = begun.timestep.view(-1, 1, 1, 1, 1) / 1000
    torch.testing.assert_close(begun.noisy, (1 - level) * shown.disparity + level * begun.noise)
    right = begun.noise - shown.disparity
    assert sum(losses(objective, begun, right, shown).values()) < 1e-6
