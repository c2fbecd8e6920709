"""What may be wrong with a camera's stream, and what to do about it: each cause by name.

Knows words alone. Knows nothing of how a cause is found.
"""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = (
    "Set depth_unit_m to what one step of the driver's 16UC1 image means (0.001: millimetres); "
    "32FC1 has to be metres"
)
_REGISTER = (
    "Map depth/image to the driver's depth registered to colour (RealSense: "
    "align_depth.enable:=true and aligned_depth_to_color/image_raw)"
)
REMEDIES = {
    "colour": "Look for a lens cap, the lights, and the camera's exposure; restart its driver",
    "depth range": _UNITS,
    "expected depth": f"{_UNITS}; or widen expected_min_depth_m and expected_max_depth_m",
    "jump": f"Leave the camera's mode as it is while the node runs. {_UNITS}",
    "broken colour": "Look for a long or slow USB cable, a hub, and other cameras on it; have the "
    "driver send what it decodes whole alone, and the picture without a bar",
    "fill": "Have the driver leave such pixels at 0 or NaN",
    "filter": "Turn the driver's filters that fill holes off (RealSense: hole_filling_filter, and "
    "holes_fill of spatial_filter): glass gets the depth of what is beside it",
    "ramps": "Have whatever works on the depth take the nearest pixel (image_proc's nodes: "
    "interpolation 0), or map depth/image to the driver's own image",
    "speckles": "Look at the driver's speckle, confidence or flying-pixel filter",
    "cut off": "Set raw_min_depth_m and raw_max_depth_m to what the sensor measures, or "
    "min_depth_m and max_depth_m to what is wanted",
    "frozen depth": "Restart the camera's driver",
    "by turns": "Look at who publishes depth/image (ros2 topic info -v), and have the driver "
    "register each image (RealSense: a newer one, enable_sync:=true and one rate for both)",
    "rounded": "Have whatever converts the depth keep its 16 bits or floats (cv_bridge: "
    "passthrough)",
    "stretched": "Map depth/image to the camera's own depth, not to a picture of it",
    "colour by depth": "Map color/image to the camera's own picture and depth/image to depth "
    "registered to that (Azure Kinect: rgb/image_raw and depth_to_rgb/image_raw): a picture "
    "registered to depth shows nothing where glass gives no reading",
    "small": "Have the driver send larger images",
    "torn": "Look for a long or slow USB cable, a hub, and other cameras on it; restart the driver",
    "torn colour": "Look for a long or slow USB cable, a hub, and other cameras on it; restart the "
    "driver",
    "frozen colour": "Restart the camera's driver",
    "stale colour": "Restart the camera's driver, unless a still picture is being replayed or a "
    "simulation stands still",
    "sent again": "Have the driver take both at one rate and send each image once, and no node "
    "between repeat the last one",
    "nothing left": "Widen min_depth_m and max_depth_m, or lower min_confidence",
    "late": "Have the driver stamp each image when it was taken and pair them by that (RealSense: "
    "enable_sync:=true; Orbbec: enable_frame_sync:=true), turn temporal filters of its depth off, "
    "and look at what stamps images anew between camera and node",
    "ray": "Have it send depth along the optical axis (Isaac Sim: distance_to_image_plane; AirSim: "
    "DepthPlanar)",
    "buffer": "Have it send metres, far * near / (far - (far - near) * buffer) by the planes that "
    "it renders between (PyBullet, MuJoCo, Unity)",
    "disparity": "Map depth/image to depth, and have a node between turn disparity into it",
    "picture": "Map depth/image to the camera's depth; its infrared comes as mono16 too",
    "foreign": "Map color/image and depth/image to one camera, and have both images stamped when "
    "they were taken",
    "shifted": _REGISTER,
    "mirrored": "Turn mirroring, flipping and rotation off in the camera's driver, for both images "
    "or neither",
    "zoomed": _REGISTER,
}
"""Cause of a suspicion -> what to do about it."""
_OF_DEPTH = REMEDIES.keys() - {
    "colour",
    "frozen colour",
    "stale colour",
    "broken colour",
    "torn colour",
    "colour by depth",
    "small",
    "fill",
    "filter",
    "ramps",
    "speckles",
    "cut off",
    "sent again",
    "nothing left",
}


@dataclass(frozen=True)
class Suspicion:
    """What is wrong. cause: a short name; text: a sentence; certain: the network must not be used.

    Causes: see REMEDIES.
    """

    cause: str
    text: str
    certain: bool

    @property
    def denies_depth(self) -> bool:
        """Whether it is certain that the raw depth is not that of what is seen, at its stamp."""
        return self.certain and self.cause in _OF_DEPTH

    @property
    def advice(self) -> str:
        """What is wrong and what to do about it."""
        stop = "" if self.text.endswith("?") else "."
        return f"{self.text}{stop} {REMEDIES[self.cause]}."
