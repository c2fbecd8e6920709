"""Samples as latents: the same for whoever asks, fresh or cached, and never of bad data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import dataset_trees as trees
from fixtures.folders import disk_full
from fixtures.training_data import (
    PLAIN,
    SIZE,
    config,
    new_network,
    picture_set,
    tiny_network,
    video_set,
)

from dkt_ros.datasets.registry import open_dataset
from dkt_ros.errors import DktError
from dkt_ros.model.canvas import Canvas
from dkt_ros.train.data import encoded_source
from dkt_ros.train.data.encoded_source import EncodedSource
from dkt_ros.train.data.latents import LatentBatch, LatentSource

SEED = 5


def source(*data: Path | dict[str, Any], cache: Path | None = None, **fields: Any) -> EncodedSource:
    return EncodedSource(tiny_network(), config(*data, **fields), SEED, cache, threads=1)


def same(one: LatentBatch, other: LatentBatch) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return video_set(tmp_path / "video")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return picture_set(tmp_path / "pictures")


def test_shapes_types_and_range(video: Path, pictures: Path, tmp_path: Path) -> None:
    made: LatentSource = source(video, pictures, cache=tmp_path / "cache")
    for n in (1, 2):
        batch = made.batch(0, range(3), n)
        for name, channels in (("rgb", 16), ("disparity", 16), ("weight", 1)):
            tensor = getattr(batch, name)
            assert tensor.shape == (3, channels, n, SIZE[0] // 8, SIZE[1] // 8)
            assert tensor.dtype == torch.float32
            assert not tensor.requires_grad
        assert 0.5 < float(batch.weight.mean()) <= 1.0


@pytest.mark.parametrize("variants", [0, 3])
def test_a_sample_depends_on_seed_step_and_index_alone(
    video: Path, pictures: Path, tmp_path: Path, variants: int
) -> None:
    def made(folder: str, seed: int = SEED) -> EncodedSource:
        chosen = config(video, pictures, augmentation={"variants": variants})
        return EncodedSource(tiny_network(), chosen, seed, tmp_path / folder, threads=2)

    whole = made("a").batch(4, range(4), 1)
    shared = made("b")
    shared.batch(9, [1], 2)  # what was asked for before does not count
    for part in ([3], [0, 1], [2]):
        rows = LatentBatch(*(getattr(whole, name)[part] for name in vars(whole)))
        assert same(shared.batch(4, part, 1), rows)
    assert not same(made("a").batch(5, range(4), 1), whole)
    assert not same(made("c", seed=SEED + 1).batch(4, range(4), 1), whole)


@pytest.mark.parametrize("latent_frames", [1, 2])
def test_cached_equals_fresh_to_the_bit(video: Path, tmp_path: Path, latent_frames: int) -> None:
    def batches(made: EncodedSource) -> Sequence[LatentBatch]:
        return [made.batch(step, range(3), latent_frames) for step in range(2)]

    first = source(video, cache=tmp_path / "cache")
    fresh = batches(first)
    cached = source(video, cache=tmp_path / "cache")
    for one, other in zip(fresh, batches(cached), strict=True):
        assert same(one, other)
    assert first.encoded == len(entries(tmp_path / "cache")) > 0
    assert cached.encoded == 0
    assert "nothing skipped" in cached.report()


def test_latents_are_the_encoders_of_pictures_and_normalised_disparity(
    tmp_path: Path, pictures: Path
) -> None:
    for path in pictures.rglob("00000000[123]-*"):
        path.unlink()
    plain = {**PLAIN, "hue": 0.0, "variants": 1}
    batch = source(pictures, cache=tmp_path / "cache", augmentation=plain).batch(0, [0], 1)
    sample = open_dataset(pictures)[0].read(0)
    errors = []
    for left in range(9):  # 72 of 80 columns are seen; where they begin is drawn
        columns = slice(left, left + 72)
        rgb, disparity = latents_by_hand(sample.rgb[:, columns], sample.depth[:, columns])
        difference = [batch.rgb - rgb, batch.disparity - disparity]
        errors.append(max(float(d.abs().max()) for d in difference))
    errors.sort()
    assert errors[0] < 5e-3  # float16
    assert errors[1] > 10 * errors[0]


def latents_by_hand(rgb: np.ndarray, depth: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(48,72,3) and (48,72) metres at 32x48: every 1.5th pixel of depth."""
    pick = np.floor((np.arange(48) + 0.5) * 1.5).astype(int)
    depth = depth[pick[:32, None], pick]
    known = np.isfinite(depth)
    disparity = 1.0 / np.where(known, depth, depth[0, 1])  # unknown is pixel (0, 0) at most
    low, high = np.percentile(disparity[known], (2, 98))
    target = np.clip(2 * (disparity - low) / (high - low) - 1, -1, 1).astype(np.float32)
    three = torch.from_numpy(target).expand(1, 3, 1, *SIZE)
    network = tiny_network()
    with torch.no_grad():
        painted = Canvas((48, 72), SIZE, 8).paint(rgb[None])
        return network.encode_rgb(painted), network.encode_rgb(three)


def test_raw_depth_comes_behind_the_colours_in_its_share_of_the_samples(
    video: Path, tmp_path: Path
) -> None:
    """In one cache with the samples of networks that are shown none."""
    indices = range(30)
    plain = source(video, cache=tmp_path).batch(0, indices, 1)
    fields = {"condition": "raw_depth", "condition_dropped": 0.25}
    batch = source(video, cache=tmp_path, **fields).batch(0, indices, 1)
    assert torch.equal(batch.rgb[:, :16], plain.rgb)
    shown = batch.rgb[:, 16:].flatten(1).any(dim=1)
    assert 0.5 < shown.float().mean() < 0.95
    assert torch.equal(batch.disparity[~shown], plain.disparity[~shown])


def test_variants_bound_what_is_cached(pictures: Path, tmp_path: Path) -> None:
    made = source(pictures, cache=tmp_path / "cache", augmentation={"variants": 2})
    for step in range(20):
        made.batch(step, range(2), 1)
    assert made.encoded == len(entries(tmp_path / "cache")) == 4 * 2
    source(pictures, cache=tmp_path / "none", augmentation={"variants": 0}).batch(0, [0], 1)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"size": [48, 64]},
        {"disparity": {"low_percentile": 5}},
        {"augmentation": {"variants": 1, "brightness": 0.3}},
    ],
)
def test_other_settings_have_other_entries(
    pictures: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    def made(fields: dict[str, Any]) -> EncodedSource:
        return source(pictures, cache=tmp_path, **{"augmentation": {"variants": 1}, **fields})

    made({}).batch(0, [0], 1)
    other = made(fields)
    other.batch(0, [0], 1)
    assert other.encoded == 1


def test_other_networks_and_ranges_of_depth_have_other_entries(
    pictures: Path, tmp_path: Path
) -> None:
    ranged = {"path": str(pictures), "depth_range": [0.1, 5.0]}
    network = new_network()
    next(network.vae.encoder.parameters()).data.mul_(1.1)
    one = {"augmentation": {"variants": 1}}
    for of, data in ((tiny_network(), pictures), (tiny_network(), ranged), (network, pictures)):
        made = EncodedSource(of, config(data, **one), SEED, tmp_path / "cache", threads=1)
        made.batch(0, [0], 1)
        assert made.encoded == 1


def test_a_network_for_normals_is_not_trained(pictures: Path) -> None:
    network = new_network()
    network.info = replace(network.info, task="normal")
    with pytest.raises(DktError, match="tiny predicts normal; training is about disparity"):
        EncodedSource(network, config(pictures), SEED)


@pytest.mark.parametrize(
    ("augmentation", "starts"),
    [
        ({"variants": 2}, {0, 4}),
        ({"variants": 0}, {0, 1, 2, 3, 4}),
        ({"variants": 2, "window_stride": 3}, {0, 3, 4}),
    ],
)
def test_windows_overlap_where_nothing_is_cached_or_it_is_asked_for(
    tmp_path: Path, augmentation: dict[str, int], starts: set[int]
) -> None:
    made = source(video_set(tmp_path, frames=9), augmentation=augmentation)
    windows = made.mixture.candidates(np.random.default_rng(0), 5)
    assert {window.start for window in windows} == starts


def test_changed_files_are_encoded_again(pictures: Path, tmp_path: Path) -> None:
    before = source(pictures, cache=tmp_path).batch(0, [0], 1)
    for path in pictures.rglob("*-rgb.jpg"):
        trees.write_picture(path, np.full((trees.HEIGHT, trees.WIDTH, 3), 9, np.uint8))
    after = source(pictures, cache=tmp_path)
    assert not torch.equal(after.batch(0, [0], 1).rgb, before.rgb)
    assert after.encoded == 1


def test_a_truncated_entry_is_made_again(video: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = source(video, cache=cache).batch(0, [0], 2)
    (entry,) = entries(cache)
    trees.truncate(entry)
    made = source(video, cache=cache)
    assert same(made.batch(0, [0], 2), before)
    assert made.encoded == 1
    assert str(entry) in made.report()
    again = source(video, cache=cache)
    assert same(again.batch(0, [0], 2), before)
    assert again.encoded == 0


def test_bad_pictures_are_never_in_a_batch(pictures: Path, tmp_path: Path) -> None:
    depths = "cup/depth-imgs-rectified/00000000{}-depth-rectified.exr"
    trees.write_grey_exr(pictures / depths.format(0), np.full((trees.HEIGHT, trees.WIDTH), np.nan))
    (pictures / depths.format(1)).unlink()
    trees.truncate(pictures / "cup/rgb-imgs/000000002-rgb.jpg")
    plain = {**PLAIN, "hue": 0.0, "variants": 1}
    made = source(pictures, cache=tmp_path / "cache", augmentation=plain)
    batch = made.batch(0, range(12), 1)
    # Of four pictures one is sound, so there is one sample with one place of the cut-out.
    assert len(entries(tmp_path / "cache")) == made.encoded == 1
    assert all(torch.equal(row, batch.rgb[0]) for row in batch.rgb)
    skipped = made.mixture.skipped
    assert len(skipped.reasons) == 3
    assert skipped.count >= 3
    for number in range(3):
        assert f"{pictures / 'cup'}: frame 00000000{number}" in skipped.reasons
    assert f"{skipped.count} skipped, 3 different ones" in made.report()


def test_what_was_read_before_changes_no_sample_though_frames_are_unusable(tmp_path: Path) -> None:
    """A scene's two cameras, the frame of one bad, and one of use only where it is cut out."""
    scene = tmp_path / "set/scene1"
    trees.transcg_tree(tmp_path / "set")
    (scene / "0/depth1-gt.png").unlink()
    trees.write_picture(scene / "1/depth1-gt.png", barely_known())

    def made() -> EncodedSource:
        return source(tmp_path / "set", augmentation={"variants": 0, "crop": 0.2})

    wanted = [(step, index) for step in range(4) for index in range(3)]
    forward, backward = made(), made()
    one_way = {of: forward.batch(of[0], [of[1]], 1) for of in wanted}
    other_way = {of: backward.batch(of[0], [of[1]], 1) for of in reversed(wanted)}
    for of in wanted:
        assert same(one_way[of], other_way[of])
        assert same(one_way[of], made().batch(of[0], [of[1]], 1))
    names = set(forward.mixture.skipped.reasons)
    assert names == {f"{scene} (D435): frame 0", f"{scene} (D435): window of frame 1"}


def barely_known() -> np.ndarray:
    """The scene's depth in millimetres, known at the right edge alone."""
    depth = trees.to_units(trees.scene(seed=1).depth, 1000)
    depth[:, :-8] = 0
    return depth


def test_a_clip_without_depth_in_range_is_skipped(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # True depth runs from 0.5 to 0.57 m.
    beyond = {"path": str(pictures), "depth_range": [2.0, 3.0]}
    made = source(beyond, cache=tmp_path, augmentation={"variants": 1})
    with pytest.raises(DktError, match=r"no clip offers a usable frame .*depth is known on 0.00%"):
        made.batch(0, [0], 1)
    assert entries(tmp_path) == []
    assert made.mixture.skipped.count == 4
    # What has no use now will have none later: it is not even decoded again.
    monkeypatch.delattr(type(made.mixture), "read")
    with pytest.raises(DktError, match="8 skipped, 4 different"):
        made.batch(0, [0], 1)


def test_require_speaks_before_the_training_starts(
    video: Path, pictures: Path, tmp_path: Path
) -> None:
    def asked(*data: Path, lengths: tuple[int, ...]) -> EncodedSource:
        made = tiny_network(), config(*data), SEED, tmp_path / "cache"
        return EncodedSource(*made, threads=1, latent_frames=lengths)

    too_long = r"13 usable frames of a video .*the longest give 5, latent_frames of 2 at most"
    with pytest.raises(DktError, match=too_long):
        asked(video, pictures, lengths=(1, 2, 3, 4))
    with pytest.raises(DktError, match="5 usable frames of a video"):
        asked(pictures, lengths=(1, 2))
    assert not (tmp_path / "cache").exists()
    asked(video, pictures, lengths=(1, 2)).close()


def test_a_full_disk_stops_the_batch(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = source(pictures, cache=tmp_path / "cache")

    monkeypatch.setattr("dkt_ros.files.os.replace", disk_full)
    with pytest.raises(DktError, match=r"disk is full .*augmentation\.variants"):
        made.batch(0, [0], 1)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    assert same(made.batch(0, [0], 1), source(pictures, cache=tmp_path / "x").batch(0, [0], 1))


def test_latents_that_are_not_finite_stop_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = encoded_source.encode_clip

    def broken(*arguments: Any) -> dict[str, torch.Tensor]:
        return {**encode(*arguments), "rgb": torch.full((1,), torch.nan)}

    monkeypatch.setattr(encoded_source, "encode_clip", broken)
    with pytest.raises(DktError, match=r"frame .*not finite in torch\.float32"):
        source(pictures, cache=tmp_path).batch(0, [0], 1)
    assert entries(tmp_path) == []


def test_a_size_that_the_network_cannot_take(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny_network()), "size_multiple", 32)
    with pytest.raises(DktError, match=r"size is \[48, 80\], expected multiples of 32"):
        source(pictures, size=[48, 80])


def test_a_cache_below_home_lies_there(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    chosen = config(pictures, cache="~/latents")
    EncodedSource(tiny_network(), chosen, SEED, threads=1).batch(0, [0], 1)
    assert entries(tmp_path / "home/latents")
    assert not (tmp_path / "~").exists()
