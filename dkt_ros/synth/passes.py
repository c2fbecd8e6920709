"""Cycles on a stage: settings all passes share, rendering, and its channels as arrays.

Knows Blender's render call. Knows nothing of what is on the stage.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import OpenEXR

from dkt_ros.files import StorageError
from dkt_ros.synth.stopping import scratch_prefix

Channels = dict[str, np.ndarray]
_LAYER = "ViewLayer"


def prepare(stage: bpy.types.Scene, width: int, height: int, threads: int) -> None:
    """What every pass needs: Cycles on the CPU, the size, 32-bit channels; threads 0 = all."""
    render, cycles = stage.render, stage.cycles
    render.engine, cycles.device = "CYCLES", "CPU"
    render.resolution_x, render.resolution_y = width, height
    render.resolution_percentage = 100
    render.use_persistent_data = True
    render.use_compositing = render.use_sequencer = False
    render.threads_mode = "FIXED" if threads else "AUTO"
    if threads:
        render.threads = threads
    cycles.use_auto_tile = cycles.use_adaptive_sampling = False
    cycles.use_light_tree = False
    stage.view_layers[0].name = _LAYER
    settings = render.image_settings
    settings.file_format, settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
    settings.exr_codec = "NONE"


def copy_stage(stage: bpy.types.Scene, name: str, types: set[str]) -> bpy.types.Scene:
    """A second stage that shares the objects of some types, with render settings of its own."""
    copy = bpy.data.scenes.new(name)
    for thing in stage.collection.objects:
        if thing.type in types:
            copy.collection.objects.link(thing)
    return copy


def read_channels(stage: bpy.types.Scene) -> Channels:
    """Renders; channel name (without the layer's) to (H,W) float32.

    Blender offers a render's arrays through files alone, hence a temporary one.
    """
    with tempfile.TemporaryDirectory(prefix=scratch_prefix()) as folder:
        path = Path(folder) / "view.exr"
        stage.render.filepath = str(path)
        with quiet():
            bpy.ops.render.render(scene=stage.name, write_still=True)
        try:
            channels = OpenEXR.File(str(path), separate_channels=True).channels()
        except (RuntimeError, ValueError) as error:
            raise StorageError(
                f"Cycles wrote no whole picture to {path}; is that disk full? (see TMPDIR)"
            ) from error
    prefix = _LAYER + "."
    return {
        name.removeprefix(prefix): np.asarray(channel.pixels, np.float32)
        for name, channel in channels.items()
    }


def colour_of(channels: Channels) -> np.ndarray:
    """(H,W,3) linear."""
    return np.stack([channels[f"Combined.{c}"] for c in "RGB"], axis=-1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Blender prints from C on the process's standard output; hold that back."""
    kept = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)
