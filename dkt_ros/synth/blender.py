"""A sampled scene as a Blender scene. Knows nothing of passes or of files."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix

from dkt_ros.errors import DktError
from dkt_ros.synth.lathe import SEGMENTS
from dkt_ros.synth.materials import glowing_material, substance_material, texture_material
from dkt_ros.synth.scene import Item, Light, Panel, Panorama, Prop, Scene, Sky, Substance, Texture

_SHARP = np.radians(35)
_TABLE_THICKNESS = 0.04
_WALL_HEIGHT = 3.2
_ATTACHED = "attached"
GLOWS = "glows"
"""Property of an object that gives off visible light."""
OPENCV_TO_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns camera axes: Blender looks along -z with y up."""


def build(scene: Scene) -> bpy.types.Scene:
    """Empties Blender and fills it with the scene.

    Objects carry their number as pass_index: 0 for the room, otherwise their place in
    scene.things, from 1. The active camera is there without a pose; see also `carry`.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    stage = bpy.context.scene
    for number, item in enumerate(scene.items, start=1):
        mesh = _mesh(item.shape.family, item.shape.vertices, item.shape.faces)
        if item.liquid is not None:
            mesh.materials.append(substance_material(item.substance))
            mesh.materials.append(substance_material(item.liquid.wet))
            mesh.polygons.foreach_set("material_index", _wetted(item).astype(np.int32))
        _add_thing(stage, mesh, item.substance, number).matrix_world = Matrix(item.pose.tolist())
    if scene.area.container is not None:
        container = scene.area.container
        mesh = _mesh(container.kind, *container.mesh())
        _add_thing(stage, mesh, container.surface, len(scene.items) + 1)
    number = len(scene.items) + (scene.area.container is not None)
    for item in scene.items:
        if item.liquid is not None:
            number += 1
            surface = _add_thing(stage, _level(item), item.liquid.substance, number)
            surface.matrix_world = Matrix(item.pose.tolist())
    for prop in scene.props:
        number += 1
        _add_prop(stage, prop, number)
    _add_room(stage, scene)
    for panel in scene.panels:
        _add_panel(stage, panel)
    for light in scene.lights:
        _add_light(stage, light)
    stage.world = _sky(scene.sky) if isinstance(scene.sky, Sky) else _panorama(scene.sky)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_fit = "HORIZONTAL"
    camera.data.clip_start, camera.data.clip_end = 0.02, 50.0
    stage.collection.objects.link(camera)
    stage.camera = camera
    return stage


def aim(stage: bpy.types.Scene, world_to_camera: np.ndarray, horizontal_fov: float) -> None:
    """Puts the active camera at an OpenCV pose."""
    stage.camera.data.angle = horizontal_fov
    pose = np.linalg.inv(world_to_camera) @ OPENCV_TO_BLENDER
    stage.camera.matrix_world = Matrix(pose.tolist())


def carry(stage: bpy.types.Scene, world_to_camera: np.ndarray) -> None:
    """Moves what is fixed to the camera to an OpenCV pose of it."""
    pose = Matrix(np.linalg.inv(world_to_camera).tolist())
    for thing in stage.collection.objects:
        if _ATTACHED in thing:
            own = np.reshape(thing[_ATTACHED], (4, 4))
            thing.matrix_world = pose @ Matrix(own.tolist())


def carries(stage: bpy.types.Scene) -> bool:
    """Whether anything is fixed to the camera."""
    return any(_ATTACHED in thing for thing in stage.collection.objects)


def _wetted(item: Item) -> np.ndarray:
    """(F,) bool: the faces of an item's inner wall under its liquid."""
    assert item.liquid is not None
    assert item.shape.cavity is not None
    first, count = item.shape.cavity
    low, high = (first + item.liquid.ring) * SEGMENTS, (first + count) * SEGMENTS
    wet = np.zeros(len(item.shape.vertices), bool)
    wet[low:high] = True
    wet[high + 1] = True  # the middle of the floor, see lathe.turn
    return np.asarray(wet[item.shape.faces].all(axis=1))


def _level(item: Item) -> bpy.types.Mesh:
    """A liquid's surface, on the very vertices of the wall's ring."""
    assert item.liquid is not None
    assert item.shape.cavity is not None
    start = (item.shape.cavity[0] + item.liquid.ring) * SEGMENTS
    ring = item.shape.vertices[start : start + SEGMENTS]
    around = np.arange(SEGMENTS)
    faces = np.stack([np.full(SEGMENTS, SEGMENTS), around, np.roll(around, -1)], axis=1)
    return _mesh("liquid", np.vstack([ring, ring.mean(axis=0)]), faces)


def _add_prop(stage: bpy.types.Scene, prop: Prop, number: int) -> None:
    mesh = _mesh(prop.kind, prop.vertices, prop.faces)
    thing = _add_thing(stage, mesh, prop.substance, number)
    thing.matrix_world = Matrix(prop.pose.tolist())
    if prop.attached:
        thing[_ATTACHED] = prop.pose.ravel().tolist()
    if prop.voxel:
        melted = thing.modifiers.new("melted", "REMESH")
        melted.mode, melted.voxel_size, melted.use_smooth_shade = "VOXEL", prop.voxel, True
        smooth = thing.modifiers.new("smooth", "SMOOTH")
        smooth.factor, smooth.iterations = 0.5, 4
        # Once: every render would do it again.
        graph = bpy.context.evaluated_depsgraph_get()
        skin = bpy.data.meshes.new_from_object(thing.evaluated_get(graph))
        thing.modifiers.clear()
        thing.data = skin


def _add_panel(stage: bpy.types.Scene, panel: Panel) -> None:
    block = _add_block(stage, panel.kind, panel.centre, panel.half, panel.texture)
    block.rotation_euler = (0.0, 0.0, panel.turn)
    if panel.glow:
        block.data.materials[0] = glowing_material(panel.texture.first, panel.glow)
        block[GLOWS] = True


def _add_thing(
    stage: bpy.types.Scene, mesh: bpy.types.Mesh, substance: Substance, number: int
) -> bpy.types.Object:
    mesh.shade_smooth()
    mesh.set_sharp_from_angle(angle=float(_SHARP))
    if not mesh.materials:
        mesh.materials.append(substance_material(substance))
    thing = bpy.data.objects.new(mesh.name, mesh)
    thing.pass_index = number
    stage.collection.objects.link(thing)
    return thing


def _add_room(stage: bpy.types.Scene, scene: Scene) -> None:
    half_x, half_y = scene.table_half_size
    depth = _TABLE_THICKNESS
    _add_block(stage, "table", (0, 0, -depth / 2), (half_x, half_y, depth / 2), scene.table)
    far, floor = scene.wall_distance, scene.floor_height
    _add_block(stage, "floor", (0, 0, floor - 0.05), (far, far, 0.05), scene.floor)
    if scene.walls is None:
        return
    middle = floor + _WALL_HEIGHT / 2
    for name, x, y in (
        ("wall_a", far, 0),
        ("wall_b", -far, 0),
        ("wall_c", 0, far),
        ("wall_d", 0, -far),
    ):
        size = (0.05 if x else far + 0.05, 0.05 if y else far + 0.05, _WALL_HEIGHT / 2)
        centre = (x + 0.05 * np.sign(x), y + 0.05 * np.sign(y), middle)
        _add_block(stage, name, centre, size, scene.walls)


def _add_block(
    stage: bpy.types.Scene,
    name: str,
    centre: tuple[float, float, float],
    half: tuple[float, float, float],
    texture: Texture,
) -> bpy.types.Object:
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata((signs * half).tolist(), [], quads)
    mesh.materials.append(texture_material(texture, name))
    block = bpy.data.objects.new(name, mesh)
    block.location = [float(value) for value in centre]
    stage.collection.objects.link(block)
    return block


def _mesh(name: str, vertices: np.ndarray, faces: np.ndarray) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], faces.tolist())
    return mesh


def _add_light(stage: bpy.types.Scene, light: Light) -> None:
    data = bpy.data.lights.new("lamp", "AREA")
    data.size, data.energy, data.color = light.size, light.power, light.colour
    lamp = bpy.data.objects.new("lamp", data)
    away = np.asarray(light.position, float)
    away /= np.linalg.norm(away)
    side = np.cross([0.0, 1.0, 0.3], away)
    side /= np.linalg.norm(side)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([side, np.cross(away, side), away], axis=1)
    pose[:3, 3] = light.position
    lamp.matrix_world = Matrix(pose.tolist())
    stage.collection.objects.link(lamp)


def _sky(sky: Sky) -> bpy.types.World:
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    tree = world.node_tree
    background = tree.nodes["Background"]
    background.inputs["Strength"].default_value = sky.strength
    where = tree.nodes.new("ShaderNodeTexCoord")
    noise = tree.nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = 2.5
    noise.inputs["Detail"].default_value = 1.0
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    for element, position, colour in zip(
        ramp.color_ramp.elements, (0.42, 0.6), sky.colours, strict=True
    ):
        element.position, element.color = position, (*colour, 1.0)
    tree.links.new(where.outputs["Generated"], noise.inputs["Vector"])
    tree.links.new(noise.outputs[0], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], background.inputs["Color"])
    _sample_as_light(world, 128)
    return world


def _panorama(panorama: Panorama) -> bpy.types.World:
    world = bpy.data.worlds.new("panorama")
    world.use_nodes = True
    tree = world.node_tree
    background = tree.nodes["Background"]
    background.inputs["Strength"].default_value = panorama.strength
    where = tree.nodes.new("ShaderNodeTexCoord")
    turned = tree.nodes.new("ShaderNodeMapping")
    turned.inputs["Rotation"].default_value = (0.0, 0.0, panorama.turn)
    picture = tree.nodes.new("ShaderNodeTexEnvironment")
    try:
        picture.image = bpy.data.images.load(str(panorama.path.resolve()))
    except RuntimeError as error:
        raise DktError(f"{panorama.path}: Blender cannot read it ({error})") from error
    tree.links.new(where.outputs["Generated"], turned.inputs["Vector"])
    tree.links.new(turned.outputs["Vector"], picture.inputs["Vector"])
    tree.links.new(picture.outputs["Color"], background.inputs["Color"])
    _sample_as_light(world, 512)
    return world


def _sample_as_light(world: bpy.types.World, resolution: int) -> None:
    world.cycles.sampling_method = "MANUAL"
    world.cycles.sample_map_resolution = resolution
