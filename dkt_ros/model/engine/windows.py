"""Which windows a sampler asks of the network: (T, keep), T latent frames, the last `keep` wanted.

Knows how the live sampler's windows grow and how the exact one cuts a clip. Knows nothing of
graphs or files. A graph has one fixed shape, so every pair needs a graph of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.sampler import window_spans
from dkt_ros.model.streaming_vae import FRAMES_PER_LATENT

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


def exact_windows(frames: Iterable[int], window: int, overlap: int) -> tuple[Window, ...]:
    """The windows of the exact sampler over clips of these many images, longest first.

    window, overlap: in latent frames, 0 <= overlap < window.
    """
    lengths = set()
    for count in frames:
        latents = 1 + -(-(count - 1) // FRAMES_PER_LATENT)
        # As the sampler shrinks an overlap that the checkpoint gives.
        spans = window_spans(latents, window, min(overlap, window - 1))
        lengths |= {stop - start for start, stop in spans}
    return tuple((length, length) for length in sorted(lengths, reverse=True))
