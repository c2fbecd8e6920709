"""Draws that depend on seed and step alone, learning rates, shares of the batch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.train.schedule import NOISE_STREAM, clip_length, generator, rate_factor, share


def test_a_generator_depends_on_each_of_its_numbers() -> None:
    def draw(*entropy: int) -> tuple[float, ...]:
        return tuple(torch.randn(3, generator=generator(*entropy)).tolist())

    draws = {
        draw(1, 2, 3, 1),
        draw(2, 2, 3, 1),
        draw(1, 3, 3, 1),
        draw(1, 2, 4, 1),
        draw(1, 2, 3, 2),
    }
    assert len(draws) == 5
    assert draw(1, 2, 3, 1) == draw(1, 2, 3, 1)


def test_clip_lengths_are_uniform_over_the_list() -> None:
    drawn = Counter(clip_length(1, step, (1, 2, 6)) for step in range(3000))
    assert set(drawn) == {1, 2, 6}
    assert all(abs(count - 1000) < 120 for count in drawn.values())
    assert drawn == Counter(clip_length(1, step, (1, 2, 6)) for step in range(3000))
    lengths = [clip_length(1, step, range(3)) for step in range(20)]
    assert lengths != [clip_length(2, step, range(3)) for step in range(20)]
    # The first sample's noise level begins with the same numbers.
    levels = (generator(1, step, 0, NOISE_STREAM) for step in range(20))
    assert lengths != [int(torch.randint(3, (1,), generator=level)) for level in levels]


def test_learning_rate() -> None:
    assert [rate_factor(step, 100, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rate_factor(0, 100, 0) == 1.0

    def cosine(step: int) -> float:
        return rate_factor(step, 100, 20, "cosine", 0.1)

    assert cosine(20) == 1.0
    assert cosine(60) == pytest.approx(0.55)
    assert cosine(99) == pytest.approx(0.1, abs=1e-3)
    assert cosine(500) == pytest.approx(0.1)


def test_shares_cover_the_batch_once() -> None:
    parts = [list(index) for rank in range(3) for index in share(12, 2, rank, 3)]
    assert parts == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    with pytest.raises(DktError, match="batch is 12, expected a multiple of 10"):
        share(12, 5, 0, 2)
