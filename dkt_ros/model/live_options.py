"""How the live sampler works: its options, checked, and named presets.

Knows what the options mean and which go together. Knows nothing of networks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from dkt_ros.checks import check, check_fields
from dkt_ros.errors import DktError

PUBLISH = ("latest", "all")


@dataclass(frozen=True)
class LiveOptions:
    """Windows of `window` latent frames, of which `new` are new; a latent frame is 4 images.

    window, new   1 <= new <= window; what is not new is context that has its depth already
    steps         Euler steps; None: the checkpoint's
    warm_start    sigma from which new latents start, as the last ones re-noised: the schedule's
                  steps above it are left out, but never the last. None: from noise
    publish       "latest": depth of the newest frame each time a window is full, every 4 * new
                  frames; "all": depth of every frame at once. A latent that is not complete is
                  filled up with the newest frame, at the price of one window a frame
    seed          of the noise, which is tied to seed and absolute latent index
    size          (height, width) the network works at, rounded to multiples of 16; None: native
    scene_cut     mean difference of luminance (0 to 1) from one frame to the next, beyond what
                  light and exposure do to all of it, above which the stream starts anew; None:
                  never
    min_agreement correlation (to 1) of a window's disparity with what the network says of its
                  newest frame alone below which the stream has drifted and starts anew; None:
                  never looked at. It costs the first frame's window after windows 1, 2, 4, 8, and
                  then after every 8th

    Raises DktError naming the field that is wrong.
    """

    window: int = 6
    new: int = 3
    steps: int | None = None
    warm_start: float | None = None
    publish: str = "latest"
    seed: int = 1
    size: tuple[int, int] | None = None
    scene_cut: float | None = 0.15
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check("window", self.window, "at least 1", self.window >= 1)
        check("new", self.new, f"1 to window = {self.window}", 1 <= self.new <= self.window)
        check("steps", self.steps, "at least 1", self.steps is None or self.steps >= 1)
        warm, cut = self.warm_start, self.scene_cut
        check("warm_start", warm, "a sigma above 0, at most 1", warm is None or 0 < warm <= 1)
        check("publish", self.publish, f"one of {', '.join(PUBLISH)}", self.publish in PUBLISH)
        check("seed", self.seed, "0 to 2^31 - 1", 0 <= self.seed < 2**31)
        size = self.size
        check("size", size, "positive (height, width)", size is None or min(size) >= 1)
        check("scene_cut", cut, "above 0, at most 1", cut is None or 0 < cut <= 1)
        least = self.min_agreement
        check("min_agreement", least, "above 0, below 1", least is None or 0 < least < 1)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> LiveOptions:
        """One of PRESETS, with some fields changed; DktError where there is none of that name."""
        if name not in PRESETS:
            raise DktError(f"preset is {name!r}, expected one of {', '.join(PRESETS)}")
        return dataclasses.replace(PRESETS[name], **changes)

    def within(self, clip: int) -> LiveOptions:
        """With windows that fit into clips of so many latent frames; 0: without end.

        A checkpoint that is right on short clips alone (`clip` in dkt.json) has the stream cut into
        clips, each beginning with one frame, which leaves clip - 1 latents for a window.
        """
        new = max(1, clip - 1)
        if not clip or self.new <= new:
            return self
        return dataclasses.replace(self, window=1 + new, new=new)


PRESETS = {
    "quality": LiveOptions(window=8, new=4),
    "balanced": LiveOptions(window=6, new=3),
    "fast": LiveOptions(window=3, new=2, warm_start=0.9),
}
"""None costs more operations per frame than the exact sampler (benchmarks/engine.py)."""
