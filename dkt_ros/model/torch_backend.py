"""How torch computes on a device: memory layout, attention kernels, compilation.

Knows devices and torch's switches. Knows nothing of what the network computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dkt_ros.model.conv import StackedCausalConv3d, use_stacked_convolutions

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def arrange(vae: nn.Module) -> None:
    """Lays the VAE's weights out channels last, in place; values, shapes and names stay.

    Its causal convolutions become 2-D ones over stacked frames, which need no padded copies and
    keep away from cuDNN's bf16 3-D kernels (wrong on large shapes in 9.8 to 9.10).
    """
    use_stacked_convolutions(vae)
    for module in vae.modules():
        if isinstance(module, StackedCausalConv3d):
            taps_first = module.weight.data.permute(2, 0, 3, 4, 1).contiguous()
            module.weight.data = taps_first.permute(1, 4, 0, 2, 3)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def attention_kernels(device: torch.device) -> AbstractContextManager[None]:
    """Within it, attention uses the device's fastest kernel that fits; nothing to choose on a CPU.

    On Hopper, cuDNN's is about twice as fast as FlashAttention-2, torch's own choice.
    """
    if device.type != "cuda":
        return contextlib.nullcontext()
    ranked = [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    hopper = torch.cuda.get_device_capability(device) >= (9, 0)
    found: AbstractContextManager[None] = sdpa_kernel(
        ranked if hopper else ranked[1:], set_priority=True
    )
    return found


def can_compile(device: torch.device) -> bool:
    """Whether torch can compile for the device: CUDA with Triton. A CPU computes eagerly."""
    if device.type != "cuda":
        return False
    try:
        from torch.utils._triton import has_triton
    except ImportError:
        return False
    return bool(has_triton())


def compiled(
    function: Callable[Arguments, Result], device: torch.device
) -> Callable[Arguments, Result]:
    """The function compiled for static shapes where that is possible, otherwise the function."""
    if not can_compile(device):
        return function
    result: Callable[Arguments, Result] = torch.compile(function, dynamic=False)
    return result
