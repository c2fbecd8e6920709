"""Windows drawn from a mixture, and what is never among them."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dataset_trees as trees
from fixtures.training_data import picture_set, video_set

from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import encode_frame, write_sequence
from dkt_ros.train.data.config import SourceConfig
from dkt_ros.train.data.sources import Mixture, Window


def mixture(*configs: SourceConfig, stride: int | None = None) -> Mixture:
    return Mixture(configs, lambda frames: stride or frames, threads=2)


def first(mixture: Mixture, frames: int, draws: int) -> Iterator[Window]:
    """The first candidate of so many samples."""
    for index in range(draws):
        yield next(mixture.candidates(np.random.default_rng((7, index)), frames))


def source_of(sample: Sample) -> str:
    return sample.source


def test_what_first_frames_give_away_as_wrong_is_told_once_of_each_set(tmp_path: Path) -> None:
    for folder, factor in (("sound", 1.02), ("tenth", 0.1), ("tenfold", 10.0)):
        for name in "ab":
            frame = trees.sequence_frame(0)
            wrong = replace(frame, raw_depth=np.float32(factor) * frame.depth)
            write_sequence(tmp_path / folder / f"{name}.tar", name, [wrong])
    roots = [tmp_path / name for name in ("sound", "tenth", "tenfold")]
    told = mixture(*(SourceConfig(str(root)) for root in roots)).suspicions()
    assert [line.partition(": ")[2] for line in told] == [
        f"a_00000000: raw depth is {times} times the true one in the median; "
        "another unit or camera?"
        for times in ("0.1", "10")
    ]
    assert [str(root) in line for root, line in zip(roots[1:], told, strict=True)] == [True, True]


def test_clips_that_two_sources_have_in_common_are_told(tmp_path: Path) -> None:
    """By another way too; the splits of one set have none."""
    root = video_set(tmp_path / "video", frames=9)
    (tmp_path / "link").symlink_to(root)
    one, again = (SourceConfig(str(tmp_path / name)) for name in ("video", "link"))
    (line,) = mixture(one, again).shared()
    assert line.startswith(f"data.0 and data.1 have 1 clip in common, such as {root}")
    other = SourceConfig(str(video_set(tmp_path / "other", frames=9)))
    assert mixture(one, other).shared() == []


@pytest.fixture
def both(tmp_path: Path) -> tuple[SourceConfig, SourceConfig]:
    """A video data set of weight 1 and one of pictures of weight 3."""
    video = SourceConfig(str(video_set(tmp_path / "video", frames=9)))
    return video, SourceConfig(str(picture_set(tmp_path / "pictures")), weight=3.0)


def test_single_frames_come_from_both_kinds_by_weight(
    both: tuple[SourceConfig, SourceConfig],
) -> None:
    mixed = mixture(*both)
    assert [source.kind for source in mixed.sources] == ["transphy3d", "cleargrasp"]
    draws = 1000
    counts = Counter(window.source for window in first(mixed, 1, draws))
    # Five standard deviations of a binomial with p = 1/4.
    assert abs(counts[0] - draws / 4) < 5 * (draws * 3 / 16) ** 0.5
    assert counts[0] + counts[1] == draws
    again = Counter(window.source for window in first(mixture(*both), 1, draws))
    assert counts == again


def test_clips_of_several_frames_come_from_videos_alone(
    both: tuple[SourceConfig, SourceConfig],
) -> None:
    windows = list(first(mixture(*both), 5, 60))
    assert {window.source for window in windows} == {0}
    # Nine frames hold one window from the start and one that ends with the video.
    assert Counter(window.start for window in windows).keys() == {0, 4}
    assert windows[0].keys == tuple(
        f"000000_{n:08d}" for n in range(windows[0].start, windows[0].start + 5)
    )


def test_frames_are_drawn_evenly(both: tuple[SourceConfig, SourceConfig]) -> None:
    counts = Counter(window.start for window in first(mixture(both[0]), 1, 900))
    assert counts.keys() == set(range(9))
    assert min(counts.values()) > 100 - 5 * 10


def test_windows_lie_as_far_apart_as_asked(both: tuple[SourceConfig, SourceConfig]) -> None:
    (source,) = mixture(both[0]).sources
    clip = source.clips[0]
    assert source.starts(clip, 5, 1) == (0, 1, 2, 3, 4)
    assert source.starts(clip, 5, 3) == (0, 3, 4)
    assert source.starts(clip, 9, 9) == (0,)
    assert source.starts(clip, 13, 1) == ()


def test_still_overrules_the_layout(tmp_path: Path) -> None:
    video, pictures = str(video_set(tmp_path / "v")), str(picture_set(tmp_path / "p", frames=5))
    stills = mixture(SourceConfig(video, still=True))
    assert next(first(stills, 1, 1)).frames == 1
    with pytest.raises(DktError, match="5 usable frames of a video"):
        stills.require(5)
    mixture(SourceConfig(pictures, still=False)).require(5)
    with pytest.raises(DktError, match="add longer videos or lower latent_frames"):
        mixture(SourceConfig(pictures)).require(5)


def test_no_window_lies_across_missing_frames(tmp_path: Path) -> None:
    frames = [trees.sequence_frame(i) for i in (0, 1, 2, 3, 4, 9, 10, 11, 12, 13)]
    write_sequence(tmp_path / "gap.tar", "000000", frames)
    (source,) = mixture(SourceConfig(str(tmp_path))).sources
    assert source.starts(source.clips[0], 5, 1) == (0, 5)
    assert len(source.starts(source.clips[0], 1, 1)) == 10


def test_the_training_split_is_taken_by_itself(tmp_path: Path) -> None:
    video_set(tmp_path / "set")
    assert [c.split for c in mixture(SourceConfig(str(tmp_path / "set"))).sources[0].clips] == [
        "train"
    ]
    whole = mixture(SourceConfig(str(tmp_path / "set"), split="any")).sources[0]
    assert len(whole.clips) == 2
    # A folder of nothing but test data is not trained on unless one says so.
    with pytest.raises(DktError, match="only test data; to train on it"):
        mixture(SourceConfig(str(tmp_path / "set" / "test")))


def test_only_the_window_is_decoded(
    both: tuple[SourceConfig, SourceConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = mixture(both[0])
    window = next(first(mixed, 5, 1))
    asked: list[tuple[int, bool]] = []
    kind = type(window.clip)
    read = kind.read

    def noting(clip: object, index: int, *, with_normal: bool = True) -> Sample:
        asked.append((index, with_normal))
        return read(window.clip, index, with_normal=with_normal)

    monkeypatch.setattr(kind, "read", noting)
    views = mixed.read(window, source_of)
    assert views == [f"{window.clip.path}: {key}" for key in window.keys]
    assert sorted(asked) == [(i, False) for i in range(window.start, window.start + 5)]


def truncate_tar(root: Path) -> str:
    path = next(root.rglob("train/*.tar"))
    trees.truncate(path, 0.5)
    return str(path)


def rewrite_frame(root: Path, change: Callable[[dict[str, bytes]], None]) -> str:
    """Frame 1 of the video with other members; returns what must be named."""
    path = next(root.rglob("train/*.tar"))
    with tarfile.open(path, "w") as tar:
        for index in range(6):
            members = encode_frame(trees.sequence_frame(index), "000000")
            if index == 1:
                change(members)
            for name, content in members.items():
                info = tarfile.TarInfo(f"000000_{index:08d}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return f"{path}: frame 000000_{1:08d}"


def missing_depth(members: dict[str, bytes]) -> None:
    del members["depth.png"]


def cut_picture(members: dict[str, bytes]) -> None:
    members["image.png"] = members["image.png"][:200]


def no_range(members: dict[str, bytes]) -> None:
    members["depth.json"] = b'{"max_depth": 0.0}'


def other_size(members: dict[str, bytes]) -> None:
    done, content = cv2.imencode(".png", np.zeros((20, 20), np.uint8))
    assert done
    members["mask.png"] = content.tobytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (missing_depth, "depth.png is missing"),
        (cut_picture, "image.png is truncated"),
        (no_range, "max_depth is 0.0"),
        (other_size, "mask.png is 20x20, expected 48x80"),
    ],
)
def test_a_bad_frame_of_a_video_is_named_and_its_window_left_out(
    tmp_path: Path, change: Callable[[dict[str, bytes]], None], why: str
) -> None:
    name = rewrite_frame(video_set(tmp_path), change)
    mixed = mixture(SourceConfig(str(tmp_path)), stride=1)
    assert mixed.has_raw_depth()
    for frames, usable in ((1, {0, 2, 3, 4, 5}), (3, {2, 3})):
        found = usable_starts(mixed, frames)
        assert found == usable
    assert list(mixed.skipped.reasons) == [name]
    assert why in mixed.skipped.reasons[name]
    # Once alone, and in the windows of three frames that begin at 0 and 1.
    assert mixed.skipped.count == 3


def usable_starts(mixed: Mixture, frames: int) -> set[int]:
    candidates = mixed.candidates(np.random.default_rng(0), frames)
    return {window.start for window in candidates if mixed.read(window, source_of)}


@pytest.mark.parametrize(
    ("depth", "why"),
    [
        (np.full((trees.HEIGHT, trees.WIDTH), np.nan), "no pixel has a known depth"),
        (np.full((trees.HEIGHT, trees.WIDTH), 0.7), "depth range of zero"),
    ],
)
def test_bad_pictures_are_left_out(tmp_path: Path, depth: np.ndarray, why: str) -> None:
    picture_set(tmp_path)
    bad = tmp_path / "cup/depth-imgs-rectified/000000002-depth-rectified.exr"
    trees.write_grey_exr(bad, depth)
    mixed = mixture(SourceConfig(str(tmp_path)))
    assert usable_starts(mixed, 1) == {0, 1, 3}
    assert list(mixed.skipped.reasons) == [f"{tmp_path / 'cup'}: frame 000000002"]
    reason = next(iter(mixed.skipped.reasons.values()))
    assert why in reason
    assert str(bad) in reason


def test_a_corrupt_tar_is_named_and_the_others_serve(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path / "a")
    path = truncate_tar(tmp_path / "a")
    trees.transphy3d_tree(tmp_path / "b")
    mixed = mixture(SourceConfig(str(tmp_path / "a")), SourceConfig(str(tmp_path / "b")))
    assert {window.source for window in first(mixed, 3, 20)} == {1}
    assert list(mixed.skipped.reasons) == [path]
    assert "cut short" in mixed.skipped.reasons[path]


def test_one_cameras_bad_frame_is_not_the_others(tmp_path: Path) -> None:
    """Both clips of a TransCG scene lie in one folder and name their frames alike."""
    trees.transcg_tree(tmp_path)
    (tmp_path / "scene1/0/depth1-gt.png").unlink()  # the D435's
    mixed = mixture(SourceConfig(str(tmp_path)))
    read = {}
    for window in mixed.candidates(np.random.default_rng(0), 1):
        read[window.clip.name, window.keys] = mixed.read(window, source_of)
    found = {window for window, views in read.items() if views}
    assert set(read) - found == {("scene1/D435", ("0",))}
    assert ("scene1/L515", ("0",)) in found
    assert list(mixed.skipped.reasons) == [f"{tmp_path / 'scene1'} (D435): frame 0"]


def test_one_cameras_empty_list_does_not_silence_the_other(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    lists = {"D435_valid_perspective_list": [], "L515_valid_perspective_list": [0]}
    (tmp_path / "scene1/metadata.json").write_text(json.dumps(lists))
    mixed = mixture(SourceConfig(str(tmp_path)))
    assert {window.clip.name for window in first(mixed, 1, 10)} == {"scene1/L515"}
    assert list(mixed.skipped.reasons) == [f"{tmp_path / 'scene1'} (D435)"]


def test_what_is_noted_about_a_window_rejects_no_frame(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    mixed = mixture(SourceConfig(str(tmp_path)))
    windows = list(mixed.candidates(np.random.default_rng(0), 1))
    for window in windows:
        mixed.skipped.add(str(window), "this cut-out shows nothing")
    assert len(mixed.skipped.reasons) == len(windows) == 3
    assert all(mixed.read(window, source_of) for window in windows)


def test_every_window_comes_up_before_giving_up(tmp_path: Path) -> None:
    mixed = mixture(SourceConfig(str(video_set(tmp_path))), stride=1)
    windows = list(mixed.candidates(np.random.default_rng(3), 2))
    assert sorted(window.start for window in windows) == [0, 1, 2, 3, 4]


def test_with_nothing_usable_the_error_says_what_was_skipped(tmp_path: Path) -> None:
    path = truncate_tar(video_set(tmp_path))
    mixed = mixture(SourceConfig(str(tmp_path)))
    picture_set(tmp_path / "pictures", frames=1)
    next(tmp_path.rglob("*-depth-rectified.exr")).unlink()
    for unreadable in (mixed, mixture(SourceConfig(str(tmp_path / "pictures")))):
        assert not unreadable.has_raw_depth()
    with pytest.raises(DktError, match=r"no clip offers a usable frame .*1 skipped") as caught:
        mixed.require(1)
    assert path in str(caught.value)


def test_the_order_of_candidates_depends_on_the_generator_alone(
    both: tuple[SourceConfig, SourceConfig],
) -> None:
    def drawn(seed: int) -> list[str]:
        candidates = mixture(*both).candidates(np.random.default_rng(seed), 1)
        return [str(window) for window in itertools.islice(candidates, 13)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 13
