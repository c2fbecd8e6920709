"""Whether raw depth is of the scene that colour shows, and lies on it: a small network of its own.

Knows one frame as `features.network_input` gives it. Knows nothing of streams, of the refiner or of
what follows from the answer.

Why so. Two towers see one of both each, and their maps are correlated with each other at shifts of
up to a twentieth of the picture: that what one shows lies where the other shows it is given, not to
be learned. A network of the same size without it was not better than guessing where this one told
86% of pairs rightly, and the refiner's own features, which told 90% of real pairs from foreign
ones, were of no more use to a head that was trained anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dkt_ros.errors import DktError
from dkt_ros.fusion.network import INPUT_CHANNELS, MATCHER_FILE, computing_type
from dkt_ros.learned import check_learned

SMALLEST = 48
"""Pixels of a side of the input, of which the towers' maps are larger than all shifts."""
_COLOUR = 3  # the first channels of the input; the others are of depth
_MAPS = 8
_REACH = 4  # shifts, in pixels of the towers' maps, four of the input's each
_WIDE, _DEEP = 32, (64, 96)
_SHARP = 10.0  # correlations, of a tenth mostly, become numbers about 1


class _Layer(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def fused(self) -> nn.Sequential:
        """The same for inference."""
        convolution, norm, activation = self
        both = fuse_conv_bn_eval(cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm))
        return nn.Sequential(both, activation)


def _tower(inputs: int) -> nn.Sequential:
    return nn.Sequential(
        _Layer(inputs, _WIDE // 2), _Layer(_WIDE // 2, _WIDE, 2), _Layer(_WIDE, _WIDE)
    )


class Matcher(nn.Module):
    """Input (B, 10, H, W), sides multiples of 16, at least 48 -> (B,) log-odds that it belongs."""

    def __init__(self) -> None:
        super().__init__()
        middle, last = _DEEP
        self.colour, self.depth = _tower(_COLOUR), _tower(INPUT_CHANNELS - _COLOUR)
        self.colour_maps, self.depth_maps = (nn.Conv2d(_WIDE, _MAPS, 1) for _ in range(2))
        self.both = nn.Sequential(
            _Layer(2 * _WIDE, middle, 2), _Layer(middle, last, 2), _Layer(last, last)
        )
        shifts = (2 * _REACH + 1) ** 2
        self.told = nn.Sequential(
            nn.Linear(shifts + 2 * last, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1)
        )

    def of_colour(self, x: Tensor) -> Tensor:
        """What its tower sees in the input's colour: the same for every depth beside that."""
        features: Tensor = self.colour(self._halved(x[:, :_COLOUR]))
        return features

    def _halved(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, 2).to(self.colour_maps.weight.dtype)

    def forward(self, x: Tensor, colour: Tensor | None = None) -> Tensor:
        """See above. colour: of_colour, where it is known."""
        colour = self.of_colour(x) if colour is None else colour
        depth = self.depth(self._halved(x[:, _COLOUR:]))
        lies = _correlation(self.colour_maps(colour).float(), self.depth_maps(depth).float())
        shows = self.both(torch.cat([colour, depth], dim=1)).float()
        seen = [_SHARP * lies, shows.mean(dim=(2, 3)), shows.amax(dim=(2, 3))]
        answer: Tensor = self.told(torch.cat(seen, dim=1))
        return answer[:, 0].float()


def _correlation(colour: Tensor, depth: Tensor) -> Tensor:
    """(B, K, h, w) both -> (B, (2 reach + 1)^2), of depth's inner part with colour's at all shifts.

    Normalised as a whole, so that maps that have nothing to say in a picture count for nothing.
    """
    batch, _, height, width = colour.shape
    colour = colour - colour.mean(dim=(2, 3), keepdim=True)
    inner = depth[:, :, _REACH : height - _REACH, _REACH : width - _REACH]
    inner = inner - inner.mean(dim=(2, 3), keepdim=True)
    size = inner.shape[2:]
    # Each picture's maps as channels of one convolution, each picture a group of it.
    found = conv2d(colour.reshape(1, -1, height, width), inner, groups=batch)[0]
    energy = avg_pool2d(colour.square().sum(dim=1, keepdim=True), tuple(size), 1)[:, 0]
    norm = inner.flatten(1).norm(dim=1).view(batch, 1, 1) + 1e-5
    norm = norm * ((energy * (size[0] * size[1])).clamp(min=0).sqrt() + 1e-5)
    return (found / norm).flatten(1)


def save_matcher(folder: Path, state: dict[str, Tensor]) -> None:
    """Writes weights (float16); see load_matcher."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in state.items()}, folder / MATCHER_FILE)


def read_matcher(folder: Path) -> Matcher:
    """One to be trained on. Raises DktError where its file is missing, damaged or of another."""
    path = folder / MATCHER_FILE
    try:
        with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
            matcher = Matcher().float()  # whatever torch was told to take by default
        matcher.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DktError(
            f"{path} cannot be used ({reason}): expected a matcher as `dkt pretrain-matcher` writes"
        ) from error
    check_learned(path, matcher.state_dict())
    return matcher


def load_matcher(folder: Path, device: torch.device | str = "cpu") -> Matcher:
    """The same, ready to run."""
    matcher = read_matcher(folder).eval().requires_grad_(False)
    layers = matcher.colour, matcher.depth, matcher.both
    for part in layers:
        for index, layer in enumerate(part):
            part[index] = cast(_Layer, layer).fused()
    matcher = matcher.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for computing in (*layers, matcher.colour_maps, matcher.depth_maps):
        computing.to(computing_type(torch.device(device)))
    return matcher
