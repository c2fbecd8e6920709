"""The network that tells whether colour and raw depth belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.fused_scenes import GlassFrame, rendered_frame

import dkt_ros
from dkt_ros.errors import DktError
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.fuser import Fuser
from dkt_ros.fusion.matcher import (
    SMALLEST,
    Matcher,
    _correlation,
    load_matcher,
    save_matcher,
)
from dkt_ros.fusion.network import MATCHER_FILE, computing_type
from dkt_ros.fusion.registration import CHANGES, Change

OWN = Path(dkt_ros.__file__).parent / "assets" / "matcher"


def log_odds(frame: GlassFrame, fuser: Fuser | None = None) -> float:
    fuser = fuser or Fuser()
    seen = fuser.fuse(frame.rgb, frame.raw, frame.disparity, frame.aligned()).seen
    assert seen is not None
    return seen.log_odds


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -2), (-4, 4)])
def test_maps_lie_on_each_other_where_they_are_shifted_to(down: int, right: int) -> None:
    maps = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    moved = torch.roll(maps, (down, right), (2, 3))
    found = _correlation(moved, 5 * maps + 2).reshape(2, 9, 9)
    for one in found:
        assert divmod(int(one.argmax()), 9) == (4 + down, 4 + right)
        assert one.max().item() == pytest.approx(1, abs=0.02)


def test_maps_that_show_nothing_lie_nowhere() -> None:
    flat, maps = torch.ones(1, 2, 24, 40), torch.randn(1, 2, 24, 40)
    for one, other in ((flat, maps), (maps, flat), (flat, flat)):
        assert _correlation(one, other).abs().max() < 1e-3


def test_stored_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    matcher = Matcher()
    for _ in range(3):
        matcher(torch.randn(2, 10, 64, 96))
    matcher.eval()
    save_matcher(tmp_path, matcher.state_dict())
    x = torch.randn(3, 10, 64, 96)
    with torch.no_grad():
        found, expected = load_matcher(tmp_path)(x), matcher(x)
    limit = 0.02 if computing_type(torch.device("cpu")) is torch.float32 else 0.1
    torch.testing.assert_close(found, expected, atol=limit, rtol=limit)


def test_loading_leaves_random_numbers_to_the_caller() -> None:
    torch.manual_seed(5)
    load_matcher(OWN)
    drawn = torch.randn(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.randn(3))


def test_a_file_that_is_no_matcher_is_named(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=rf"{MATCHER_FILE} cannot be used.*dkt pretrain-matcher"):
        load_matcher(tmp_path)
    (tmp_path / MATCHER_FILE).write_bytes((OWN / MATCHER_FILE).read_bytes()[:5000])
    with pytest.raises(DktError, match="cannot be used"):
        load_matcher(tmp_path)
    shutil.copy(OWN.parent / "fusion" / "refiner.safetensors", tmp_path / MATCHER_FILE)
    with pytest.raises(DktError, match="cannot be used"):
        load_matcher(tmp_path)


def test_light_and_other_sensors_make_no_stranger(tmp_path: Path) -> None:
    """Of one frame, in many lights and as many sensors would have it; against the same mirrored."""
    frame, rng = rendered_frame(), np.random.default_rng(0)
    burnt, far = frame.rgb.copy(), np.nanquantile(frame.raw, 0.6)
    burnt[: burnt.shape[0] // 3, : burnt.shape[1] // 3] = 255
    thin = np.full_like(frame.raw, np.nan)
    thin[::4, ::4] = frame.raw[::4, ::4]
    own = [
        frame,
        GlassFrame(**vars(frame) | {"rgb": burnt}),
        GlassFrame(**vars(frame) | {"rgb": (frame.rgb * 0.3).astype(np.uint8)}),
        frame.with_raw(frame.raw * (1 + 0.01 * rng.standard_normal(frame.raw.shape))),
        frame.with_raw(thin),
        frame.with_raw(np.where(frame.raw > far, np.nan, frame.raw)),
    ]
    mirrored = frame.with_raw(frame.raw[:, ::-1].copy())
    assert min(log_odds(one) for one in own) > 0 > log_odds(mirrored) + 1


def test_changes_are_told_alike_together_and_alone() -> None:
    """Together the picture's colour is looked at once; of a narrower sensor's in each view."""
    frame = rendered_frame()
    height, width = frame.raw.shape
    narrow = np.full_like(frame.raw, np.nan)
    inside = np.s_[height // 6 : -height // 6, width // 6 : -width // 6]
    narrow[inside] = frame.raw[inside]
    changes = [Change(), *CHANGES[::5]]
    for raw in (frame.raw, narrow):
        seen = Fuser().fuse(frame.rgb, raw, frame.disparity, frame.aligned()).seen
        assert seen is not None
        together = seen.ask(changes)
        assert together == [seen.ask([one])[0] for one in changes]
        assert len(set(together)) == len(changes)


def test_what_is_too_small_is_not_judged() -> None:
    small = rendered_frame().resized(SMALLEST - 16, SMALLEST)
    assert Fuser().fuse(small.rgb, small.raw, small.disparity, small.aligned()).seen is None
    larger = rendered_frame().resized(SMALLEST, SMALLEST)
    assert np.isfinite(log_odds(larger))


def test_one_beside_a_named_refiner_is_used(tmp_path: Path) -> None:
    shutil.copytree(OWN.parent / "fusion", tmp_path / "mine")
    frame, fuser = rendered_frame(), Fuser(FusionConfig(weights=str(tmp_path / "mine")))
    assert log_odds(frame, fuser) == log_odds(frame)
    matcher = Matcher()
    torch.nn.init.zeros_(matcher.told[-1].weight)  # type: ignore[arg-type]
    torch.nn.init.constant_(matcher.told[-1].bias, 2.5)  # type: ignore[arg-type]
    save_matcher(tmp_path / "mine", matcher.state_dict())
    fuser = Fuser(FusionConfig(weights=str(tmp_path / "mine")))
    assert log_odds(frame, fuser) == pytest.approx(2.5)
