"""Which windows a sampler asks of the network: (T, keep), T latent frames, the last `keep` wanted.

A compiled graph has one fixed shape, so every pair needs a graph of its own. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dkt_ros.model.latent_frames import latents_of
from dkt_ros.model.live_options import LiveOptions

Window = tuple[int, int]


def live_windows(options: LiveOptions) -> tuple[Window, ...]:
    """The windows of a live stream from its first frame on, in the order they come up.

    The first frame is a window of its own. Then the context grows by what became known, up to
    `window - new`. With publish `all` every window also comes with only a part of its new frames.
    """
    context, found = 0, [(1, 1)]
    known = min(1, options.window - options.new)
    while True:
        parts = range(1, options.new + 1) if options.publish == "all" else (options.new,)
        found += [(known + new, new) for new in parts]
        context, known = known, min(known + options.new, options.window - options.new)
        if known == context:
            return tuple(dict.fromkeys(found))


def windows_until_full(options: LiveOptions) -> int:
    """After how many windows, the first frame's not counted, a live stream's grow no more."""
    return len(live_windows(replace(options, publish="latest"))) - 1


def clip_latents(longest: int, new: int) -> int | None:
    """Latent frames of a live stream's clips: the first frame and whole windows of `new`.

    longest: as many as the checkpoint is right on, of which a clip has no more if one window
    fits (`LiveOptions.within`); 0: without end, which is None.
    """
    return 1 + new * max(1, (longest - 1) // new) if longest else None


def exact_windows(frames: Iterable[int], window: int, overlap: int) -> tuple[Window, ...]:
    """The windows of the exact sampler over clips of these many images, longest first.

    window, overlap: in latent frames, 0 <= overlap < window.
    """
    lengths = set()
    for count in frames:
        latents = latents_of(count)
        # As the sampler shrinks an overlap that the checkpoint gives.
        spans = window_spans(latents, window, min(overlap, window - 1))
        lengths |= {stop - start for start, stop in spans}
    return tuple((length, length) for length in sorted(lengths, reverse=True))


def window_spans(length: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Half-open spans of latent frames that cover 0..length, `window - overlap` apart.

    A start is skipped when the window before it already reached the end, so the last window may
    be shorter than the others but is always longer than the overlap.
    """
    if window < 1 or not 0 <= overlap < window:
        raise ValueError(f"window {window} and overlap {overlap}: expected 0 <= overlap < window")
    stride = window - overlap
    return [
        (start, min(start + window, length))
        for start in range(0, length, stride)
        if start == 0 or start - stride + window < length
    ]
