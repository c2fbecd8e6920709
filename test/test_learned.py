"""Weights that nothing can have learned are told from those that something has."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.learned import check_learned


def weights(**others: Tensor) -> dict[str, Tensor]:
    """Of two layers and a bias, of which nothing has been learned yet."""
    drawn = torch.Generator().manual_seed(0)
    layers = {name: torch.randn(8, 8, generator=drawn) for name in ("a", "b")}
    return {**layers, "bias": torch.zeros(8), "gain": torch.ones(8, 1, 1), **others}


def test_sound_weights_are_not_remarked(caplog: pytest.LogCaptureFixture) -> None:
    unused, counter = torch.zeros(2, 2), torch.tensor(3)
    check_learned("net", weights(unused=unused, batches=counter, nothing=torch.zeros(0, 3, 3)))
    check_learned("net", {"a": torch.zeros(8, 8, device="meta")})
    assert not caplog.records


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_one_value_throughout_is_refused(value: float) -> None:
    blank = {key: torch.full_like(tensor, value) for key, tensor in weights().items()}
    says = rf"net: 2 layers of one value throughout, the first is a \({value:g}\): 89% of all"
    with pytest.raises(DktError, match=says):
        check_learned("net", blank)


def test_a_layer_of_one_value_is_remarked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_learned("net", weights(b=torch.zeros(8, 8)))
    assert "net: 1 layer of one value throughout, the first is b (0); did" in caplog.text
    nearly = torch.zeros(8, 8)
    nearly[3, 5] = 1
    caplog.clear()
    check_learned("net", weights(b=nearly))
    assert not caplog.records


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_single_value_that_is_not_finite_is_refused(value: float) -> None:
    b = torch.zeros(8, 8)
    b[7, 7] = value
    with pytest.raises(DktError, match="net: b holds values that are not finite"):
        check_learned("net", weights(b=b))
