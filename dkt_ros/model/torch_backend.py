"""How torch computes on a device: types, memory layout, attention kernels, compilation.

Knows devices and torch's switches. Knows nothing of what the network computes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ParamSpec, TypeVar, cast

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dkt_ros.model.conv import StackedCausalConv3d, use_stacked_convolutions
from dkt_ros.model.cuda_graphs import CudaRecording, RecordedFunction

SHAPES = 64
"""A live stream that publishes every frame has up to 9 windows, each a shape of its own."""
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
            module.skip_silent_taps()
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def half_precision(device: torch.device) -> str:
    """The 16-bit type that the device multiplies fast: bfloat16, before Ampere float16.

    bfloat16 also where there is no such device: whoever asks for it is told so elsewhere.
    """
    if device.type != "cuda" or not torch.cuda.is_available():
        return "bfloat16"
    return half_precision_of(torch.cuda.get_device_capability(device))


def half_precision_of(capability: tuple[int, int]) -> str:
    """The same by CUDA's compute capability; older GPUs only emulate bfloat16."""
    return "bfloat16" if capability >= (8, 0) else "float16"


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
    static: Callable[Arguments, Result] = torch.compile(function, dynamic=False)

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        _allow_shapes(SHAPES)  # at each call: the thread may be another
        return static(*args, **kwargs)

    return call


def _allow_shapes(count: int) -> None:
    """Has torch compile a function for this many shapes, rather than give up after eight.

    In the calling thread: of torch 2.13, what one thread sets no other sees.
    """
    from torch._dynamo import config

    for name in ("recompile_limit", "cache_size_limit"):  # from torch 2.7, and before
        if hasattr(config, name):
            if getattr(config, name) < count:
                setattr(config, name, count)
            return


def accelerated(
    function: Callable[Arguments, Result], device: torch.device
) -> Callable[Arguments, Result]:
    """The function compiled, and replayed as a CUDA graph where it is small; on a CPU as it is."""
    if device.type != "cuda":
        return function
    recorded = RecordedFunction(compiled(function, device), CudaRecording)
    return cast("Callable[Arguments, Result]", recorded)
