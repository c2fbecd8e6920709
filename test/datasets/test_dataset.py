"""Names, order, splits and the numbering of frames."""

from __future__ import annotations

import pytest

from dkt_ros.datasets.dataset import UNSPLIT, numbering_breaks, split_of


@pytest.mark.parametrize(
    ("parts", "split"),
    [
        (("train",), "train"),
        (("data", "parametric_train", "validation"), "val"),
        (("test", "parametric_train", "training"), "train"),
        (("Train",), "train"),
        (("data", "VAL"), "val"),
        (("valid",), "val"),
        (("STD-CatKnown", "train_0-5"), UNSPLIT),
        ((), UNSPLIT),
    ],
)
def test_the_innermost_folder_names_the_split(parts: tuple[str, ...], split: str) -> None:
    assert split_of(parts) == split


def test_every_hundredth_frame_is_no_break() -> None:
    assert numbering_breaks("p", ["000000", "000100", "000200", "000300"]) == ()


def test_breaks_are_counted_and_the_first_is_named() -> None:
    keys = ["s_00000001", "s_00000002", "s_00000004", "s_00000005", "s_00000006", "s_00000008"]
    (line,) = numbering_breaks("p", keys)
    assert line.startswith("p: frame numbers go by 1, but not at 2 places")
    assert "between s_00000002 and s_00000004" in line


@pytest.mark.parametrize("keys", [[], ["1"], ["1", "9"], ["a", "b", "c"]])
def test_too_few_numbers_say_nothing(keys: list[str]) -> None:
    assert numbering_breaks("p", keys) == ()
