"""One view of a scene as arrays: a denoised picture, exact geometry, and a sensor's raw depth.

Knows which passes make a view. Knows nothing of what the scene shows or of tars.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.synth.blender import aim, build, carries, carry
from dkt_ros.synth.camera import camera_matrix
from dkt_ros.synth.infrared import InfraredPair
from dkt_ros.synth.passes import colour_of, copy_stage, prepare, quiet, read_channels
from dkt_ros.synth.photo import develop, exposure, motion_between, take
from dkt_ros.synth.scene import Scene
from dkt_ros.synth.sensor import StereoSensor, sense
from dkt_ros.synth.sensors import DepthSensor
from dkt_ros.synth.trace import Tracer

_FAR = 1e3
"""Blender writes 1e10 where a ray meets nothing."""


@dataclass(frozen=True)
class RenderOptions:
    """Size in pixels, samples per pixel, threads (0 = all cores).

    infrared_samples: per quarter of a pixel of the infrared pair.
    bounces: the greatest number of surfaces of glass on a path of light.
    """

    width: int = 320
    height: int = 192
    samples: int = 8
    infrared_samples: int = 1
    threads: int = 2
    bounces: int = 24

    def __post_init__(self) -> None:
        # Beyond these Blender ends the process, or wraps around.
        limits = {"width": (16, 4096), "height": (16, 4096), "samples": (1, 65536)}
        limits |= {"infrared_samples": (1, 65536), "threads": (0, 1024), "bounces": (1, 1024)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise DktError(f"{name} is {getattr(self, name)}, expected {least} to {most}")


@dataclass(frozen=True)
class Geometry:
    """The first surface along each pixel's central ray, glass included.

    depth (H,W) float32 planar metres, NaN where nothing is hit; normal (H,W,3) float32 in camera
    axes (y down, z forward), 0 where nothing is hit; mask (H,W) uint8 of MaterialClass; instance
    (H,W) uint8: 0 the room, otherwise a place in Scene.things from 1.
    """

    depth: np.ndarray
    normal: np.ndarray
    mask: np.ndarray
    instance: np.ndarray


class Renderer:
    """Holds one scene in Blender and renders views of it.

    Blender's state is global: a new Renderer ends the one before. Poses are (4,4) world to camera
    with OpenCV axes.
    """

    def __init__(self, scene: Scene, options: RenderOptions) -> None:
        self.scene = scene
        self.options = options
        size = options.width, options.height
        with quiet():
            self._picture = build(scene)
            prepare(self._picture, *size, options.threads)
            _picture_settings(self._picture, options, scene.noise_seed)
            self._geometry = copy_stage(self._picture, "geometry", {"MESH", "CAMERA"})
            prepare(self._geometry, *size, options.threads)
            _geometry_settings(self._geometry, self._picture.camera)
        self._carries = carries(self._picture)
        self._infrared: InfraredPair | None = None
        self._tracer: Tracer | None = None
        self._exposure: float | None = None

    @property
    def camera_matrix(self) -> np.ndarray:
        """(3,3) in pixels."""
        fov = self.scene.path.horizontal_fov
        return camera_matrix(fov, self.options.width, self.options.height)

    def picture(self, world_to_camera: np.ndarray) -> np.ndarray:
        """(H,W,3) uint8 denoised; the first one sets the exposure of all."""
        return develop(self._exposed(world_to_camera))

    def photograph(self, frame: int, geometry: Geometry, random: np.random.Generator) -> np.ndarray:
        """`picture` of a frame of the scene's path as its own camera takes it, where it has one."""
        pose = self.scene.path.world_to_camera(frame)
        if self.scene.photo is None:
            return self.picture(pose)
        ends = [self.scene.path.world_to_camera(frame + step) for step in (-0.5, 0.5)]
        motion = motion_between(geometry.depth, self.camera_matrix, *ends)
        fixed = [prop.attached for prop in self.scene.props]
        first = len(self.scene.things) - len(fixed) + 1
        for number, still in enumerate(fixed, first):
            if still:
                motion[geometry.instance == number] = 0
        return take(self._exposed(pose), self.scene.photo, motion, frame, random)

    def _exposed(self, world_to_camera: np.ndarray) -> np.ndarray:
        """(H,W,3) linear."""
        self._look(self._picture, world_to_camera)
        linear = colour_of(read_channels(self._picture))
        if self._exposure is None:
            self._exposure = exposure(linear, self.scene.brightness)
        return linear * self._exposure

    def _look(self, stage: bpy.types.Scene, world_to_camera: np.ndarray) -> None:
        aim(stage, world_to_camera, self.scene.path.horizontal_fov)
        if self._carries:
            carry(self._picture, world_to_camera)

    def geometry(self, world_to_camera: np.ndarray) -> Geometry:
        """Exact depth, normals and classes from one sample per pixel."""
        self._look(self._geometry, world_to_camera)
        channels = read_channels(self._geometry)
        hit = channels["Depth.Z"] < _FAR
        normal = np.stack([channels[f"Normal.{axis}"] for axis in "XYZ"], axis=-1)
        normal = normal @ world_to_camera[:3, :3].T.astype(np.float32)
        instance = np.where(hit, np.rint(channels["IndexOB.X"]), 0).astype(np.uint8)
        return Geometry(
            depth=np.where(hit, channels["Depth.Z"], np.nan).astype(np.float32),
            normal=np.where(hit[..., None], normal, 0.0).astype(np.float32),
            mask=_classes(self.scene)[instance],
            instance=instance,
        )

    def raw_depth(
        self, world_to_camera: np.ndarray, sensor: DepthSensor, random: np.random.Generator
    ) -> np.ndarray:
        """(H,W) float32 metres as the sensor would give it, NaN where it gives nothing."""
        width, height = self.options.width, self.options.height
        self._look(self._picture, world_to_camera)
        if not isinstance(sensor, StereoSensor):
            if self._tracer is None or self._carries:
                self._tracer = Tracer(self._picture)
            lamp = sensor.lamp
            paths = self._tracer.trace(world_to_camera, self.camera_matrix, (width, height), lamp)
            return sensor.measure(paths, self.camera_matrix, random)
        if self._infrared is None or self._infrared.sensor != sensor:
            self._infrared = InfraredPair(
                self._picture,
                sensor,
                sensor.infrared_size(self.camera_matrix, width, height),
                self.options.infrared_samples,
                self.options.threads,
            )
        left, right = self._infrared.render(world_to_camera)
        return sense(left, right, sensor, self.camera_matrix, width, height, random)


def _classes(scene: Scene) -> np.ndarray:
    """(256,) uint8: an instance's number to its MaterialClass."""
    classes = np.zeros(256, np.uint8)
    classes[1 : len(scene.things) + 1] = [int(kind.kind) for _, kind in scene.things]
    return classes


def _picture_settings(stage: bpy.types.Scene, options: RenderOptions, seed: int) -> None:
    cycles = stage.cycles
    cycles.samples, cycles.seed = options.samples, seed
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_input_passes = "RGB_ALBEDO"
    cycles.denoising_quality, cycles.denoising_use_gpu = "FAST", False
    # A view through two vessels meets eight surfaces of glass, through a heap more.
    cycles.max_bounces = cycles.transmission_bounces = options.bounces
    cycles.diffuse_bounces, cycles.glossy_bounces = 1, 4
    cycles.transparent_max_bounces = 8
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.blur_glossy, cycles.sample_clamp_indirect = 0.3, 5.0


def _geometry_settings(stage: bpy.types.Scene, camera: bpy.types.Object) -> None:
    """All objects in one plain material: first hits need no more."""
    stage.camera = camera
    plain = bpy.data.materials.new("plain")
    plain.use_nodes = True
    tree = plain.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    emission = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    layer = stage.view_layers[0]
    layer.material_override = plain
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_object_index = True
    cycles = stage.cycles
    cycles.samples, cycles.use_denoising, cycles.max_bounces = 1, False, 0
    # One sample through the pixel's very centre.
    cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 0.01
