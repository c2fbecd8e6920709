"""Substances and textures as Cycles node trees. Knows nothing of geometry or of layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bpy
import numpy as np

from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.prints import draw_print
from dkt_ros.synth.scene import Colour, Substance, Texture

OPTICS = "optics"
"""A material's property: MaterialClass, refractive index, albedo, roughness, for trace.Tracer."""
_METALLIC = 1.0
_SHADOW = "shadow"
_PASSED = 0.9
"""Share of light that goes straight through one surface of glass on its way to a shadow."""


def substance_material(substance: Substance) -> bpy.types.Material:
    """A new material for one object."""
    material = bpy.data.materials.new(substance.name)
    albedo = float(np.mean(substance.colour))
    material[OPTICS] = [float(substance.kind), substance.ior, albedo, substance.roughness]
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    if substance.kind == MaterialClass.TRANSPARENT:
        surface = _glass(tree, substance)
    else:
        surface = _principled(tree, substance)
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(surface, output.inputs["Surface"])
    return material


@contextlib.contextmanager
def dimmed_shadows(factor: float) -> Iterator[None]:
    """While it lasts, glass lets only `factor` of the usual light through to what lies behind.

    Real vessels bend and scatter a projector's dots; straight shadows alone would let a matcher
    see through them too well.
    """
    sockets = [
        material.node_tree.nodes[_SHADOW].inputs["Color"]
        for material in bpy.data.materials
        if material.node_tree is not None and _SHADOW in material.node_tree.nodes
    ]
    kept = [tuple(socket.default_value) for socket in sockets]
    try:
        for socket, colour in zip(sockets, kept, strict=True):
            socket.default_value = (*(factor * value for value in colour[:3]), 1.0)
        yield
    finally:
        for socket, colour in zip(sockets, kept, strict=True):
            socket.default_value = colour


def texture_material(texture: Texture, name: str) -> bpy.types.Material:
    """A new material for the table, the floor or the walls; object coordinates in metres."""
    material = bpy.data.materials.new(name)
    material[OPTICS] = [0.0, 1.0, float(np.mean([texture.first, texture.second])), 1.0]
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    diffuse = tree.nodes.new("ShaderNodeBsdfDiffuse")
    if texture.pattern == "plain":
        diffuse.inputs["Color"].default_value = _rgba(texture.first)
    else:
        tree.links.new(_pattern(tree, texture), diffuse.inputs["Color"])
    surface = diffuse.outputs["BSDF"]
    if texture.gloss > 0:
        gloss = tree.nodes.new("ShaderNodeBsdfGlossy")
        gloss.inputs["Roughness"].default_value = texture.roughness
        mix = tree.nodes.new("ShaderNodeMixShader")
        mix.inputs["Fac"].default_value = texture.gloss
        tree.links.new(surface, mix.inputs[1])
        tree.links.new(gloss.outputs["BSDF"], mix.inputs[2])
        surface = mix.outputs["Shader"]
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(surface, output.inputs["Surface"])
    return material


def _glass(tree: bpy.types.NodeTree, substance: Substance) -> bpy.types.NodeSocket:
    """Glass whose shadows let light through: caustics would need far more samples."""
    glass = tree.nodes.new("ShaderNodeBsdfGlass")
    glass.inputs["Color"].default_value = _rgba(substance.colour)
    glass.inputs["Roughness"].default_value = substance.roughness
    glass.inputs["IOR"].default_value = substance.ior
    clear = tree.nodes.new("ShaderNodeBsdfTransparent")
    clear.name = _SHADOW
    clear.inputs["Color"].default_value = _rgba(tuple(_PASSED * c for c in substance.colour))
    path = tree.nodes.new("ShaderNodeLightPath")
    either = tree.nodes.new("ShaderNodeMath")
    either.operation = "MAXIMUM"
    tree.links.new(path.outputs["Is Shadow Ray"], either.inputs[0])
    tree.links.new(path.outputs["Is Diffuse Ray"], either.inputs[1])
    mix = tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(either.outputs["Value"], mix.inputs["Fac"])
    tree.links.new(glass.outputs["BSDF"], mix.inputs[1])
    tree.links.new(clear.outputs["BSDF"], mix.inputs[2])
    return mix.outputs["Shader"]


def _principled(tree: bpy.types.NodeTree, substance: Substance) -> bpy.types.NodeSocket:
    shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
    shader.inputs["Base Color"].default_value = _rgba(substance.colour)
    shader.inputs["Roughness"].default_value = substance.roughness
    shader.inputs["Coat Weight"].default_value = substance.coat
    if substance.texture is not None and substance.texture.pattern != "plain":
        tree.links.new(_pattern(tree, substance.texture), shader.inputs["Base Color"])
    if substance.kind == MaterialClass.REFLECTIVE:
        shader.inputs["Metallic"].default_value = _METALLIC
    if substance.brushed:
        noise = tree.nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value = 1.0
        noise.inputs["Detail"].default_value = 1.0
        tree.links.new(_coordinates(tree, (30.0, 30.0, 1500.0), 0.0), noise.inputs["Vector"])
        span = tree.nodes.new("ShaderNodeMapRange")
        span.inputs["To Min"].default_value = 0.5 * substance.roughness
        span.inputs["To Max"].default_value = 1.5 * substance.roughness
        tree.links.new(noise.outputs[0], span.inputs["Value"])
        tree.links.new(span.outputs["Result"], shader.inputs["Roughness"])
    return shader.outputs["BSDF"]


def glowing_material(colour: Colour, strength: float) -> bpy.types.Material:
    """A window's or a tube's light."""
    material = bpy.data.materials.new("glow")
    material[OPTICS] = [0.0, 1.0, 0.5, 1.0]
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    emission = tree.nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = _rgba(colour)
    emission.inputs["Strength"].default_value = strength
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    return material


def _print(tree: bpy.types.NodeTree, texture: Texture) -> bpy.types.NodeSocket:
    """A drawn picture from each side; `scale` is its width in metres."""
    drawn = draw_print(texture.first, texture.second, texture.seed)
    height, width = drawn.shape[:2]
    image = bpy.data.images.new("print", width, height, float_buffer=True)
    image.colorspace_settings.name = "Non-Color"
    filled = np.dstack([drawn, np.ones((height, width), np.float32)])
    image.pixels.foreach_set(np.ascontiguousarray(filled[::-1], np.float32).ravel())
    image.pack()
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image, node.projection, node.projection_blend = image, "BOX", 0.15
    size = 1 / texture.scale
    vector = _coordinates(tree, (size, size, size * width / height), texture.angle)
    tree.links.new(vector, node.inputs["Vector"])
    return node.outputs["Color"]


def _two_colours(
    tree: bpy.types.NodeTree, share: bpy.types.NodeSocket, texture: Texture, low: float = 0.3
) -> bpy.types.NodeSocket:
    """The first colour up to a share of low, the second from 1 - low on."""
    ramp = tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].position = low
    ramp.color_ramp.elements[0].color = _rgba(texture.first)
    ramp.color_ramp.elements[1].position = 1.0 - low
    ramp.color_ramp.elements[1].color = _rgba(texture.second)
    tree.links.new(share, ramp.inputs["Fac"])
    return ramp.outputs["Color"]


def _grain(tree: bpy.types.NodeTree, texture: Texture) -> bpy.types.NodeSocket:
    """Long bands that wander."""
    wave = tree.nodes.new("ShaderNodeTexWave")
    wave.inputs["Scale"].default_value = 1.0
    wave.inputs["Distortion"].default_value = 14.0
    wave.inputs["Detail"].default_value = 5.0
    wave.inputs["Detail Scale"].default_value = 0.8
    wave.inputs["Detail Roughness"].default_value = 0.65
    stretch = (texture.scale, 0.06 * texture.scale, texture.scale)
    tree.links.new(_coordinates(tree, stretch, texture.angle), wave.inputs["Vector"])
    return _two_colours(tree, wave.outputs["Fac"], texture)


def _threads(tree: bpy.types.NodeTree, texture: Texture) -> bpy.types.NodeSocket:
    """Noise stretched both ways, as warp and weft; cloth has soft blotches instead."""
    shares = []
    stretches = [(1.0, 0.12, 1.0), (0.12, 1.0, 1.0)] if texture.pattern == "weave" else [(1, 1, 1)]
    for stretch in stretches:
        noise = tree.nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value = 1.0
        noise.inputs["Detail"].default_value = 2.0 if texture.pattern == "weave" else 5.0
        x, y, z = (texture.scale * value for value in stretch)
        tree.links.new(_coordinates(tree, (x, y, z), texture.angle), noise.inputs["Vector"])
        shares.append(noise.outputs[0])
    if len(shares) == 1:
        return _two_colours(tree, shares[0], texture)
    mean = tree.nodes.new("ShaderNodeMath")
    mean.operation = "MULTIPLY"
    tree.links.new(shares[0], mean.inputs[0])
    tree.links.new(shares[1], mean.inputs[1])
    double = tree.nodes.new("ShaderNodeMath")
    double.operation = "MULTIPLY"
    double.inputs[1].default_value = 2.0
    tree.links.new(mean.outputs[0], double.inputs[0])
    return _two_colours(tree, double.outputs[0], texture)


def _tiles(tree: bpy.types.NodeTree, texture: Texture) -> bpy.types.NodeSocket:
    node = tree.nodes.new("ShaderNodeTexBrick")
    node.offset = 0.0
    node.inputs["Color1"].default_value = _rgba(texture.first)
    node.inputs["Color2"].default_value = _rgba(tuple(0.95 * c for c in texture.first))
    node.inputs["Mortar"].default_value = _rgba(texture.second)
    node.inputs["Scale"].default_value = texture.scale
    node.inputs["Mortar Size"].default_value = 0.012
    node.inputs["Brick Width"].default_value = node.inputs["Row Height"].default_value = 0.5
    vector = _coordinates(tree, (1.0, 1.0, 1.0), texture.angle)
    tree.links.new(vector, node.inputs["Vector"])
    return node.outputs["Color"]


_DRAWN = {"print": _print, "grain": _grain, "cloth": _threads, "weave": _threads, "tiles": _tiles}


def _pattern(tree: bpy.types.NodeTree, texture: Texture) -> bpy.types.NodeSocket:
    if texture.pattern in _DRAWN:
        return _DRAWN[texture.pattern](tree, texture)
    if texture.pattern == "checker":
        node = tree.nodes.new("ShaderNodeTexChecker")
        node.inputs["Color1"].default_value = _rgba(texture.first)
        node.inputs["Color2"].default_value = _rgba(texture.second)
        node.inputs["Scale"].default_value = texture.scale
        vector = _coordinates(tree, (1.0, 1.0, 1.0), texture.angle)
        tree.links.new(vector, node.inputs["Vector"])
        return node.outputs["Color"]
    if texture.pattern == "brick":
        node = tree.nodes.new("ShaderNodeTexBrick")
        node.inputs["Color1"].default_value = _rgba(texture.first)
        node.inputs["Color2"].default_value = _rgba(tuple(0.8 * c for c in texture.first))
        node.inputs["Mortar"].default_value = _rgba(texture.second)
        node.inputs["Scale"].default_value = texture.scale
        vector = _coordinates(tree, (1.0, 1.0, 1.0), texture.angle)
        tree.links.new(vector, node.inputs["Vector"])
        return node.outputs["Color"]
    node = tree.nodes.new("ShaderNodeTexNoise")
    stretch = (texture.scale, texture.scale, texture.scale)
    node.inputs["Scale"].default_value = 1.0
    node.inputs["Detail"].default_value = 3.0
    if texture.pattern == "wood":
        stretch = (0.4 * texture.scale, 8.0 * texture.scale, texture.scale)
        node.inputs["Distortion"].default_value = 0.6
    elif texture.pattern == "marble":
        node.inputs["Distortion"].default_value = 2.5
    tree.links.new(_coordinates(tree, stretch, texture.angle), node.inputs["Vector"])
    return _two_colours(tree, node.outputs[0], texture, 0.35)


def _coordinates(
    tree: bpy.types.NodeTree, stretch: tuple[float, float, float], angle: float
) -> bpy.types.NodeSocket:
    where = tree.nodes.new("ShaderNodeTexCoord")
    mapping = tree.nodes.new("ShaderNodeMapping")
    mapping.inputs["Rotation"].default_value = (0.0, 0.0, angle)
    mapping.inputs["Scale"].default_value = stretch
    # Surfaces at round coordinates sit on a checker's edge; keep them off it.
    mapping.inputs["Location"].default_value = (0.0137, 0.0071, 0.0113)
    tree.links.new(where.outputs["Object"], mapping.inputs["Vector"])
    return mapping.outputs["Vector"]


def _rgba(colour: Colour | tuple[float, ...]) -> tuple[float, float, float, float]:
    return colour[0], colour[1], colour[2], 1.0
