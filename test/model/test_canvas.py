"""Which size the network works at for a camera, and pictures on their way to it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dkt_ros.model.canvas import (
    NEAR_STRETCH,
    Canvas,
    fit_area,
    near_size,
    upload,
    working_size,
)


@pytest.mark.parametrize(
    ("camera", "trained", "expected"),
    [
        ((720, 1280), (480, 832), (480, 832)),  # 480x848 by itself
        ((1080, 1920), (480, 832), (480, 832)),
        ((540, 960), (480, 832), (480, 832)),
        ((1280, 720), (480, 832), (480, 832)),  # turned
        ((480, 640), (480, 832), (480, 640)),
        ((800, 1280), (480, 832), (496, 800)),
        ((1536, 2048), (480, 832), (544, 736)),
        ((360, 640), (480, 832), (352, 640)),  # never enlarged
        ((720, 1280), (112, 192), (112, 192)),
        ((480, 640), (112, 192), (128, 176)),  # near by the sides, and a third wider
    ],
)
def test_a_camera_of_about_the_trained_shape_is_worked_on_at_the_trained_size(
    camera: tuple[int, int], trained: tuple[int, int], expected: tuple[int, int]
) -> None:
    size = near_size(fit_area(*camera, trained[0] * trained[1]), trained, 16)
    assert working_size(camera, size, 16) == expected


@given(st.integers(16, 3000), st.integers(16, 3000), st.sampled_from([(112, 192), (480, 832)]))
def test_it_is_the_trained_size_or_what_fits(
    height: int, width: int, trained: tuple[int, int]
) -> None:
    camera = (height, width)
    fitted = fit_area(*camera, trained[0] * trained[1])
    size = near_size(fitted, trained, 16)
    assert size in (fitted, trained, trained[::-1])
    if size != fitted:
        assert (size[0] > size[1]) == (height > width), "a portrait camera's is portrait too"
        before, after = (working_size(camera, one, 16) for one in (fitted, size))
        assert all(abs(a - b) <= 16 for a, b in zip(before, after, strict=True))
        stretch = (fitted[1] * size[0]) / (fitted[0] * size[1])
        assert max(stretch, 1 / stretch) <= NEAR_STRETCH + 1e-9


def test_disparity_keeps_to_its_range_at_sharp_edges() -> None:
    """Which are resized bicubically."""
    decoded = torch.ones(1, 3, 1, 16, 32)
    decoded[..., 16:] = -1.0
    (disparity,) = Canvas((24, 40), (16, 32), 16).disparity(decoded)
    assert (disparity.min(), disparity.max()) == (0.0, 1.0)
    assert (disparity[:, 20] < disparity[:, 19]).all()


def test_pictures_that_may_not_be_written_to_are_taken_without_a_word() -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb.setflags(write=False)  # as of a mapped file or of Ray's store
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert upload(rgb).sum() == 0
    finally:
        torch.set_warn_always(False)
