"""Pictures as the network takes them, and back: size, orientation, range.

Knows the sizes that the network may be fed, and works wherever the pictures lie: on a device once
they were uploaded. Knows nothing of networks or clip lengths.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import interpolate

from dkt_ros.arrays import to_host
from dkt_ros.geometry import disparity_of, resize_readings, unit_vectors

NEAR_STRETCH = 1.05
"""Rounding the sides to multiples stretches a picture by as much."""


class Canvas:
    """The network's view of a camera: portrait turned by 90 degrees, sides rounded."""

    def __init__(
        self, native: tuple[int, int], requested: tuple[int, int] | None, multiple: int
    ) -> None:
        """native: (height, width) of the pictures; the others as in `working_size`."""
        self.native = native
        self.turned = native[0] > native[1]
        self.size = working_size(native, requested, multiple)

    def paint(self, rgb: np.ndarray | torch.Tensor) -> torch.Tensor:
        """uint8 (T, H, W, 3) -> float32 (1, 3, T, *size) in [-1, 1], resized bicubically."""
        pictures = rgb if isinstance(rgb, torch.Tensor) else upload(rgb)
        upright = torch.rot90(pictures, dims=(1, 2)) if self.turned else pictures
        images = upright.movedim(-1, 1).float()
        images = resize(images, self.size).clamp(0.0, 255.0) / 127.5 - 1.0
        return images.movedim(1, 0)[None]

    def readings(self, raw_depth: np.ndarray | None) -> np.ndarray:
        """Raw depth (H, W) in metres -> float32 (*size) in 1/m, 0 = none; readings, never mixed."""
        if raw_depth is None:
            return np.zeros(self.size, np.float32)
        upright = np.rot90(raw_depth) if self.turned else raw_depth
        return disparity_of(resize_readings(upright, self.size[1], self.size[0]))

    def disparity(self, decoded: torch.Tensor) -> np.ndarray:
        """Decoded video (1, 3, T, *size) in [-1, 1] -> float32 (T, H, W) in [0, 1].

        The channels' mean, (x + 1) / 2, resized to the pictures' size; never rounded to 8 bits.
        """
        return to_host(self.disparity_tensor(decoded))

    def disparity_tensor(self, decoded: torch.Tensor) -> torch.Tensor:
        """The same, left on its device."""
        values = (decoded[0].mean(dim=0) + 1.0) / 2.0
        return self._unpaint(values[:, None])[..., 0].clamp(0.0, 1.0)

    def normals(self, decoded: torch.Tensor) -> np.ndarray:
        """Decoded video (1, 3, T, *size) in [-1, 1] -> float32 unit vectors (T, H, W, 3).

        Resized to the pictures' size and then brought to length 1; see normals_in_camera_axes.
        """
        images = to_host(self._unpaint(decoded[0].movedim(1, 0)))
        return normals_in_camera_axes(images, self.turned)

    def _unpaint(self, images: torch.Tensor) -> torch.Tensor:
        """(T, C, *size) -> (T, H, W, C) of the pictures' size and orientation."""
        height, width = self.native
        upright = (width, height) if self.turned else (height, width)
        pictures = resize(images, upright).movedim(1, -1)
        if self.turned:
            pictures = torch.rot90(pictures, k=-1, dims=(1, 2))
        return pictures.contiguous()


def upload(rgb: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 pictures on the device; on a CPU the array's own memory, where that may be written."""
    return torch.from_numpy(np.require(rgb, requirements=("C", "W"))).to(device)


def normals_in_camera_axes(decoded: np.ndarray, turned: bool) -> np.ndarray:
    """Decoded vectors (..., 3) -> float32 unit vectors, x right, y down, z forward; 0 = unknown.

    decoded: x right, y up, z backward (Blender's camera axes) of the picture that the network saw.
    turned: whether that picture was the camera's, turned by 90 degrees against the clock.
    """
    x, y, z = decoded[..., 0], -decoded[..., 1], -decoded[..., 2]
    if turned:
        x, y = -y, x
    return unit_vectors(np.stack([x, y, z], axis=-1).astype(np.float32))


def working_size(
    native: tuple[int, int], requested: tuple[int, int] | None, multiple: int
) -> tuple[int, int]:
    """(height, width) the network works at, both multiples of `multiple`.

    native: the input's size. A portrait input is turned, so its size, and a portrait `requested`
    with it, are read with the sides swapped.
    """
    height, width = requested or native
    if native[0] > native[1] and height > width:
        height, width = width, height
    rounded = (max(1, round(side / multiple)) * multiple for side in (height, width))
    return next(rounded), next(rounded)


def fit_area(height: int, width: int, area: int) -> tuple[int, int]:
    """(height, width) of the same aspect ratio and about `area` pixels, never enlarged."""
    scale = min(1.0, math.sqrt(area / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def auto_size(native: tuple[int, int], known: tuple[int, int], multiple: int) -> tuple[int, int]:
    """(height, width) to work at for pictures of size `native`: their aspect, the known area.

    Where that is about the known size it is the known size: every size costs a GPU compilations
    of its own, and it is warmed up for one of them.
    """
    return near_size(fit_area(*native, known[0] * known[1]), known, multiple)


def near_size(fitted: tuple[int, int], known: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The known (height, width) where the fitted one is about the same, otherwise the fitted.

    About the same: as `working_size` rounds them, no side is more than one `multiple` off, and
    pixels become at most NEAR_STRETCH times longer one way than the other. A portrait `fitted` is
    compared with `known` turned, and answered so.
    """
    turned = fitted[0] > fitted[1] and known[0] < known[1]
    height, width = known[::-1] if turned else known
    rounded = working_size(fitted, None, multiple)
    landscape = working_size((height, width), None, multiple)
    stretch = (fitted[1] * height) / (fitted[0] * width)
    if (
        max(abs(a - b) for a, b in zip(rounded, landscape, strict=True)) <= multiple
        and 1.0 / NEAR_STRETCH <= stretch <= NEAR_STRETCH
    ):
        return height, width
    return fitted


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic, antialiased; images (T, C, H, W) come back untouched where the size is the same."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)
