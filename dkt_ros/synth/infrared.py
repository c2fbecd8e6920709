"""The imagers' pair of a stereo camera in Cycles, with a dot projector or by the room's light.

Knows how the projector lights a built scene. Knows nothing of matching.
"""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix

from dkt_ros.synth.blender import GLOWS, OPENCV_TO_BLENDER, aim
from dkt_ros.synth.materials import dimmed_shadows
from dkt_ros.synth.passes import colour_of, copy_stage, prepare, read_channels
from dkt_ros.synth.sensor import StereoSensor, stereo_poses

_PROJECTOR_FOV = np.radians(95)
_PROJECTOR_WATTS = 1.2
_SKY = 0.1
_FLOOD = 0.15
"""Light between the dots, as a share of theirs."""
_DOTS_ACROSS = 130
_PATTERN_PIXELS = 1040
_BRIGHT_GREY = 230.0
"""Grey level of the 99th percentile: the imagers' automatic exposure."""
_THROUGH_GLASS = 0.5
_PASSIVE_SAMPLES = 3
"""Per pixel and sample asked for, where lamps with soft shadows light the scene."""
_GRID = 2
"""A pixel is rendered in this many parts each way."""


class InfraredPair:
    """Renders both imagers of one built stage."""

    def __init__(
        self,
        stage: bpy.types.Scene,
        sensor: StereoSensor,
        size: tuple[int, int],
        samples: int,
        threads: int,
    ) -> None:
        self.sensor = sensor
        self._grid = _GRID if sensor.projector else 1
        types = {"MESH"} if sensor.projector else {"MESH", "LIGHT"}
        self._stage = copy_stage(stage, "infrared", types)
        prepare(self._stage, self._grid * size[0], self._grid * size[1], threads)
        camera = bpy.data.objects.new("imager", stage.camera.data.copy())
        self._stage.collection.objects.link(camera)
        self._stage.camera = camera
        self._fov = 2 * np.arctan(0.5 * size[0] / sensor.focal)
        cycles = self._stage.cycles
        cycles.max_bounces, cycles.transmission_bounces = 8, 8
        cycles.diffuse_bounces, cycles.glossy_bounces = 0, 2
        # One sample in the middle of each part of a pixel: at random places, a few samples would
        # shake the dots by more than the real imagers' noise does.
        cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 0.01
        self._projector: bpy.types.Object | None = None
        if not sensor.projector:
            self._stage.world = stage.world
            cycles.samples, cycles.diffuse_bounces = _PASSIVE_SAMPLES * samples, 1
            cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
            cycles.denoising_input_passes, cycles.denoising_quality = "RGB_ALBEDO", "FAST"
            cycles.denoising_use_gpu = False
            return
        for thing in [thing for thing in self._stage.collection.objects if GLOWS in thing]:
            self._stage.collection.objects.unlink(thing)
        self._projector = _projector()
        self._stage.collection.objects.link(self._projector)
        world = bpy.data.worlds.new("infrared")
        world.use_nodes = True
        world.node_tree.nodes["Background"].inputs["Strength"].default_value = _SKY
        # Seen in mirrors only: a second light would bring noise that both imagers share.
        world.cycles.sampling_method = "NONE"
        self._stage.world = world
        cycles.samples, cycles.use_denoising = samples, False
        # The default skips faint light at random, which no imager does.
        cycles.light_sampling_threshold = 0.0

    def render(self, world_to_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Left and right (H,W) float32 in grey levels 0 to 255 for a colour camera's pose."""
        pose = np.linalg.inv(world_to_camera) @ OPENCV_TO_BLENDER
        if self._projector is not None:
            self._projector.matrix_world = Matrix(pose.tolist())
        pictures = []
        with dimmed_shadows(_THROUGH_GLASS if self.sensor.projector else 1.0):
            for side in stereo_poses(world_to_camera, self.sensor.baseline):
                if not self.sensor.projector:
                    # Else what noise the denoiser leaves would be the same in both.
                    self._stage.cycles.seed += 1
                aim(self._stage, side, self._fov)
                fine = colour_of(read_channels(self._stage)).mean(axis=-1)
                rows, columns = fine.shape[0] // self._grid, fine.shape[1] // self._grid
                parts = fine.reshape(rows, self._grid, columns, self._grid)
                pictures.append(parts.mean(axis=(1, 3)))
        bright = np.percentile(pictures, 99 if self.sensor.projector else 85)
        exposure = _BRIGHT_GREY / max(float(bright), 1e-6)
        left, right = (np.clip(picture * exposure, 0, 255) for picture in pictures)
        return left.astype(np.float32), right.astype(np.float32)


def _projector() -> bpy.types.Object:
    """A spot lamp that shines through a slide of random dots."""
    lamp = bpy.data.lights.new("projector", "SPOT")
    lamp.energy, lamp.spot_size, lamp.spot_blend = _PROJECTOR_WATTS, np.radians(130), 0.0
    lamp.shadow_soft_size = 0.0005
    lamp.use_nodes = True
    tree = lamp.node_tree
    emission = tree.nodes["Emission"]
    where = tree.nodes.new("ShaderNodeTexCoord")
    split = tree.nodes.new("ShaderNodeSeparateXYZ")
    tree.links.new(where.outputs["Normal"], split.inputs["Vector"])
    join = tree.nodes.new("ShaderNodeCombineXYZ")
    for axis in "XY":
        ratio = tree.nodes.new("ShaderNodeMath")
        ratio.operation = "DIVIDE"
        tree.links.new(split.outputs[axis], ratio.inputs[0])
        tree.links.new(split.outputs["Z"], ratio.inputs[1])
        centre = tree.nodes.new("ShaderNodeMath")
        centre.operation = "MULTIPLY_ADD"
        centre.inputs[1].default_value = 0.5 / np.tan(0.5 * _PROJECTOR_FOV)
        centre.inputs[2].default_value = 0.5
        tree.links.new(ratio.outputs["Value"], centre.inputs[0])
        tree.links.new(centre.outputs["Value"], join.inputs[axis])
    slide = tree.nodes.new("ShaderNodeTexImage")
    slide.image, slide.extension, slide.interpolation = _slide(), "CLIP", "Linear"
    tree.links.new(join.outputs["Vector"], slide.inputs["Vector"])
    tree.links.new(slide.outputs["Color"], emission.inputs["Color"])
    return bpy.data.objects.new("projector", lamp)


def _slide() -> bpy.types.Image:
    """Dots at jittered places of a grid, the same in every run, as in a real camera."""
    random = np.random.default_rng(435)
    size, cell = _PATTERN_PIXELS, _PATTERN_PIXELS // _DOTS_ACROSS
    picture = np.full((size, size), _FLOOD, np.float32)
    grid = np.arange(_DOTS_ACROSS) * cell
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    kept = random.random(rows.shape) < 0.75
    rows = rows[kept] + random.integers(0, cell - 3, kept.sum())
    columns = columns[kept] + random.integers(0, cell - 3, kept.sum())
    for dy in range(3):
        for dx in range(3):
            picture[rows + dy, columns + dx] = 1.0 if dx == dy == 1 else 0.6
    image = bpy.data.images.new("dots", size, size, float_buffer=True)
    image.colorspace_settings.name = "Non-Color"
    image.pixels.foreach_set(np.repeat(picture.ravel(), 4))
    image.pack()
    return image
