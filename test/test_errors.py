"""What is told of errors that nobody foresaw."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dkt_ros
from dkt_ros.errors import DktError, place_of
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.images import upper_bits


def raised(act: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as error:  # noqa: PT011 of any kind
        act()
    return error.value


def test_what_this_package_raised_is_placed() -> None:
    """To the line, also where a library's compiled function was called there."""
    error = raised(lambda: upper_bits(np.zeros((2, 2), np.uint16), "ten"))  # type: ignore[arg-type]
    found = re.fullmatch(r" \(messages/images\.py:(\d+)\)", place_of(error))
    assert found is not None
    (source,) = (Path(part) / "messages/images.py" for part in dkt_ros.__path__[:1])
    assert "bits - 8" in source.read_text().splitlines()[int(found[1]) - 1]


def test_what_others_raised_and_what_users_can_mend_is_not_placed() -> None:
    assert place_of(raised(lambda: 1 // 0)) == ""
    assert place_of(ValueError("never raised")) == ""
    user_error = raised(lambda: Intrinsics.from_matrix(np.zeros((2, 2)), 4, 3))
    assert isinstance(user_error, DktError)
    assert place_of(user_error) == ""
