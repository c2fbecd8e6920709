"""Which images stand in which latent frame."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.model.latent_frames import chunk_spans, images_of, latents_of, pad_chunk


@pytest.mark.parametrize(
    ("frames", "spans"),
    [(1, [(0, 1)]), (2, [(0, 1), (1, 2)]), (6, [(0, 1), (1, 5), (5, 6)])],
)
def test_a_clip_falls_into_chunks(frames: int, spans: list[tuple[int, int]]) -> None:
    assert chunk_spans(frames) == spans
    assert latents_of(frames) == len(spans)
    assert images_of(len(spans) - 1) < frames <= images_of(len(spans))
    rgb = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    whole = [pad_chunk(rgb[start:stop], start).ravel().tolist() for start, stop in spans]
    assert [len(chunk) for chunk in whole] == [1] + [4] * (len(spans) - 1)
    assert whole[-1][-1] == frames - 1
