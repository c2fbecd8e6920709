"""The refiner: a small U-Net that corrects filled disparity and says which readings to trust.

Knows its layers, its weight file and how its maps become disparity. Knows nothing of how its inputs
are made, of streams or of training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dkt_ros.errors import DktError
from dkt_ros.learned import check_learned

INPUT_CHANNELS = 10
"""What features.network_input stacks."""
SIZE_MULTIPLE = 16
_MAPS = 4
_TRUST_LOW, _TRUST_HIGH = 0.02, 0.16  # objects weigh more in training than they are common
_LOG_ERROR_RANGE = (-7.0, 0.0)
_HEARD = (1.3, 2.0), (1.0, -3.0)
"""Log-odds that evidence for and against a reading adds to the prediction's share and to trust."""
WEIGHTS_FILE, MATCHER_FILE = "refiner.safetensors", "matcher.safetensors"
INFO_FILE = "refiner.json"


@dataclass(frozen=True)
class RefinerSizes:
    """Channels of the four scales, of 1/2, 1/4, 1/8 and 1/16 of the picture."""

    channels: tuple[int, int, int, int] = (16, 32, 64, 112)


@dataclass(frozen=True)
class Refined:
    """What the refiner says, every map (B, 1, H, W).

    corrected  disparity without the sensor's own reading, 1/m
    trust      0..1, how much of a reading to keep; saturated where the refiner is sure
    logit      the trust before it was stretched and cut
    log_error  log of the mean relative error to expect of the fused disparity
    """

    corrected: Tensor
    trust: Tensor
    logit: Tensor
    log_error: Tensor


class Refiner(nn.Module):
    """U-Net of four scales; half-size stem by folding 2x2 pixels into channels."""

    def __init__(self, sizes: RefinerSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes or RefinerSizes()
        a, b, c, d = self.sizes.channels
        self.stem = nn.Sequential(_Wide(INPUT_CHANNELS, a, 6, 2), _Wide(a, a))
        self.down = nn.ModuleList(
            nn.Sequential(_Layer(low, high, stride=2), _Layer(high, high))
            for low, high in ((a, b), (b, c), (c, d))
        )
        self.deep = _Layer(d, d)
        self.whole = nn.Linear(d, d)
        self.narrow = nn.ModuleList(_Mix(high, low) for low, high in ((a, b), (b, c), (c, d)))
        self.up = nn.ModuleList(
            nn.Sequential(layer(n, n), layer(n, n))
            for n, layer in ((a, _Wide), (b, _Layer), (c, _Layer))
        )
        self.head = _Mix(a, 4 * _MAPS)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            # At first: half of each candidate, no correction, readings trusted, 3% of error.
            start = torch.tensor([0.0, 0.0, 1.0, -3.5])
            self.head.bias.copy_(start.repeat_interleave(4))
        said = nn.Linear(16, d + a)
        nn.init.zeros_(said.weight)
        nn.init.zeros_(said.bias)
        self.close = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), said)

    def maps(self, x: Tensor, close: Tensor) -> Tensor:
        """Input (B, 10, H, W), sides multiples of 16 -> raw maps (B, 4, H, W).

        close: (B,), see features.closeness.
        """
        *skips, x = self._encoded(x)
        mean = x.mean(dim=(2, 3))
        deep, fine = self.close(close[:, None]).split((x.shape[1], skips[0].shape[1]), dim=1)
        x = x + (self.whole(mean) + deep)[..., None, None]
        for narrow, up, skip in zip(
            reversed(self.narrow), reversed(self.up), reversed(skips), strict=True
        ):
            x = narrow(x)
            if skip is skips[0]:
                x = x + fine[..., None, None]
            x = up(interpolate(x, scale_factor=2.0, mode="nearest") + skip)
        return _unfolded(self.head(x))

    def _encoded(self, x: Tensor) -> list[Tensor]:
        """Features of each scale, from the finest."""
        features = [self.stem(x)]
        for stage in self.down:
            features.append(stage(features[-1]))
        # What the whole picture has in common: how far, how noisy, is there a network at all.
        features[-1] = self.deep(features[-1])
        return features

    def forward(
        self,
        x: Tensor,
        filled: Tensor,
        predicted: Tensor,
        close: Tensor,
        said: Tensor | None = None,
    ) -> Refined:
        """x, close: see `maps`. filled, predicted: (B, 1, H, W) disparity, 1/m: the two candidates.

        predicted is the network's on the sensor's scale, or `filled` again where there is none.
        said: (B, 2, H, W), features.evidence; None where nothing is said.
        """
        dtype = self.head.weight.dtype
        maps = self.maps(x.to(dtype), close.to(dtype))
        gate, change, logit, log_error = maps.float().split(1, dim=1)
        if said is not None:
            for one, (for_gate, for_trust) in zip(said.split(1, dim=1), _HEARD, strict=True):
                gate = torch.add(gate, one, alpha=for_gate)
                logit = torch.add(logit, one, alpha=for_trust)
        base = torch.lerp(filled, predicted, gate.sigmoid())
        trust = (logit.sigmoid() - _TRUST_LOW) / (_TRUST_HIGH - _TRUST_LOW)
        return Refined(
            corrected=base * change.tanh().exp(),
            trust=trust.clamp(0.0, 1.0),
            logit=logit,
            log_error=log_error.clamp(*_LOG_ERROR_RANGE),
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, torch computes on the calling thread alone.

    A net this small gains little by a second thread and loses much where the processor is busy: its
    threads wait for each other at every layer (measured on two loaded cores: 33 ms instead of 256).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def computing_type(device: torch.device) -> torch.dtype:
    """For the layers: bfloat16 where the processor multiplies matrices of it, else float32."""
    tells = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    known = [getattr(torch.cpu, name, None) for name in tells]
    fast = device.type == "cpu" and any(tell is not None and tell() for tell in known)
    return torch.bfloat16 if fast else torch.float32


def _unfolded(x: Tensor) -> Tensor:
    """(B, 4 C, H, W) -> (B, C, 2 H, 2 W), as PixelShuffle; contiguous, a third of the time."""
    batch, channels, height, width = x.shape
    quads = x.contiguous().reshape(batch, channels // 4, 2, 2, height, width)
    return quads.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // 4, 2 * height, 2 * width)


class _Mix(nn.Linear):
    """A convolution of 1x1, which torch does slowly for one picture on one thread."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class _Wide(nn.Sequential):
    """A layer of the largest scale, whose norm costs nothing: it becomes part of the weights."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        padding = (size - stride) // 2 if stride > 1 else size // 2
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def fused(self) -> nn.Sequential:
        """The same for inference: convolution with bias, ReLU."""
        convolution, norm, activation = self
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return nn.Sequential(fuse_conv_bn_eval(convolution, norm), activation)


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.norm(self.convolution(x)), inplace=True)


def save_refiner(folder: Path, state: dict[str, Tensor], info: dict[str, Any]) -> None:
    """Writes weights (float16) and what is known of them; see load_refiner."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in state.items()}, folder / WEIGHTS_FILE)
    text = json.dumps(info, indent=2) + "\n"
    (folder / INFO_FILE).write_text(text, encoding="utf-8")


def read_refiner(folder: Path) -> tuple[Refiner, dict[str, Any]]:
    """A refiner to be trained on, and its refiner.json.

    Raises DktError naming the file where one is missing, damaged or of another network.
    """
    path = folder / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        sizes = RefinerSizes(tuple(int(n) for n in info["channels"]))  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
            refiner = Refiner(sizes).float()  # whatever torch was told to take by default
        path = folder / WEIGHTS_FILE
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        # Older ones told whether colour and readings belong together, too.
        state = {name: value for name, value in state.items() if not name.startswith("belongs.")}
        for name, value in refiner.close.state_dict().items():  # older ones know nothing of it
            state.setdefault(f"close.{name}", value)
        refiner.load_state_dict(state)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DktError(
            f"{path} cannot be used ({reason}): expected a refiner as `dkt pretrain-fusion` writes"
        ) from error
    check_learned(path, state)
    return refiner, info


def load_refiner(
    folder: Path, device: torch.device | str = "cpu"
) -> tuple[Refiner, dict[str, Any]]:
    """The same, ready to run."""
    refiner, info = read_refiner(folder)
    refiner = refiner.eval().requires_grad_(False).to(device)
    dtype = computing_type(torch.device(device))
    for sequence in (refiner.stem, refiner.up[0]):
        assert isinstance(sequence, nn.Sequential)
        for index, layer in enumerate(sequence):
            assert isinstance(layer, _Wide)
            sequence[index] = layer.fused()
    refiner = refiner.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return refiner, info


def sizes_info(sizes: RefinerSizes) -> dict[str, Any]:
    """The sizes as refiner.json states them."""
    return {name: list(value) for name, value in asdict(sizes).items()}
