"""The refiner's maps and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.fusion.config import SENSORS
from dkt_ros.fusion.network import (
    INFO_FILE,
    INPUT_CHANNELS,
    WEIGHTS_FILE,
    Refiner,
    RefinerSizes,
    computing_type,
    load_refiner,
    one_thread,
    save_refiner,
    sizes_info,
)
from dkt_ros.fusion.weights import default_weights

SMALL = RefinerSizes((4, 8, 8, 8))


def trained() -> Refiner:
    """A refiner whose every layer has done something."""
    torch.manual_seed(0)
    refiner = Refiner(SMALL)
    torch.nn.init.normal_(refiner.head.weight)
    torch.nn.init.normal_(refiner.close[-1].weight)  # type: ignore[arg-type]
    for _ in range(3):
        refiner.maps(torch.randn(2, INPUT_CHANNELS, 32, 48), torch.zeros(2))
    return refiner.eval()


def test_starts_as_the_mean_of_its_candidates() -> None:
    filled, predicted = torch.full((1, 1, 32, 32), 1.0), torch.full((1, 1, 32, 32), 2.0)
    refined = Refiner(SMALL)(
        torch.randn(1, INPUT_CHANNELS, 32, 32), filled, predicted, torch.zeros(1)
    )
    torch.testing.assert_close(refined.corrected, torch.full((1, 1, 32, 32), 1.5))
    torch.testing.assert_close(refined.trust, torch.ones(1, 1, 32, 32))


def test_evidence_is_heard_for_the_prediction_and_for_or_against_the_reading() -> None:
    ones, x = torch.ones(1, 1, 32, 32), torch.zeros(1, INPUT_CHANNELS, 32, 32)
    corrected, logit = [], []
    for right, through in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        said = torch.cat([right * ones, through * ones], dim=1)
        refined = Refiner(SMALL)(x, ones, 2 * ones, torch.zeros(1), said)
        corrected.append(float(refined.corrected.mean()))
        logit.append(float(refined.logit.mean()))
    assert corrected[0] == pytest.approx(1.5)
    assert min(corrected[1:]) > 1.7
    assert logit[1] > logit[0] > logit[2]


def test_stored_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    """Norms that became part of the weights change nothing."""
    refiner = trained()
    save_refiner(tmp_path, refiner.state_dict(), sizes_info(SMALL))
    loaded, info = load_refiner(tmp_path)
    assert info["channels"] == list(SMALL.channels)
    x = torch.randn(1, INPUT_CHANNELS, 48, 32)
    ones = torch.ones(1, 1, 48, 32)
    with torch.no_grad():
        found, expected = (net(x, ones, 1.1 * ones, -ones[:, 0, 0, 0]) for net in (loaded, refiner))
    for name, value in vars(expected).items():
        limit = 0.02 if computing_type(torch.device("cpu")) is torch.float32 else 0.1
        torch.testing.assert_close(getattr(found, name), value, atol=limit, rtol=limit)


def test_weights_from_before_closeness_was_told_pay_no_heed_to_it(tmp_path: Path) -> None:
    refiner = trained()
    state = {k: v for k, v in refiner.state_dict().items() if not k.startswith("close.")}
    save_refiner(tmp_path, state, sizes_info(SMALL))
    older, _ = load_refiner(tmp_path)
    x = torch.randn(2, INPUT_CHANNELS, 32, 48).to(older.head.weight.dtype)
    one, other = (older.maps(x, close.to(x)) for close in (torch.zeros(2), -torch.ones(2)))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    near, usual = (refiner.maps(x.float(), close) for close in (-torch.ones(2), torch.zeros(2)))
    assert not torch.allclose(near, usual, atol=0.1)


def test_weights_from_before_the_matcher_are_read(tmp_path: Path) -> None:
    refiner = trained()
    state = refiner.state_dict() | {"belongs.0.weight": torch.ones(48, 20)}
    save_refiner(tmp_path, state, sizes_info(SMALL))
    torch.testing.assert_close(
        load_refiner(tmp_path)[0].head.weight.float(), refiner.head.weight, rtol=0.01, atol=0.01
    )


def test_loading_leaves_random_numbers_to_the_caller() -> None:
    """One in memory is shared: whether it was loaded before must not be told by what is drawn."""
    before = torch.get_rng_state()
    load_refiner(default_weights())
    assert torch.equal(torch.get_rng_state(), before)


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("damage", ["absent", "cut", "info", "sizes", "channels"])
def test_names_a_file_that_cannot_be_used(tmp_path: Path, damage: str) -> None:
    save_refiner(tmp_path, trained().state_dict(), sizes_info(SMALL))
    weights, info = tmp_path / WEIGHTS_FILE, tmp_path / INFO_FILE
    if damage == "absent":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "info":
        info.write_text("{", encoding="utf-8")
    elif damage == "sizes":
        info.write_text(json.dumps({"channels": [4, 8, 8, 16]}), encoding="utf-8")
    else:
        info.write_text(json.dumps({"channels": [4, 8]}), encoding="utf-8")
    with pytest.raises(DktError, match="dkt pretrain-fusion"):
        load_refiner(tmp_path)


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("on_scale", [False, True])
def test_the_package_s_own_are_small_and_calibrated(on_scale: bool, sensor: str) -> None:
    folder = default_weights(on_scale, sensor)
    assert (folder / WEIGHTS_FILE).stat().st_size < 2.5e6
    refiner, info = load_refiner(folder)
    assert not refiner.training
    assert info["calibration"]["foretold"]
    assert (folder / "MODEL_CARD.md").is_file()
