"""What has to be installed for a module that is not there: an extra of the package, or ROS.

What the node does without is brought by extras (`pip install 'dkt_ros[NAME]'`). A package that
colcon built has none in its metadata; its requirement files lie beside it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import sys
from pathlib import Path

CORE = (
    "accelerate",
    "cv2",
    "diffusers",
    "huggingface_hub",
    "numpy",
    "safetensors",
    "torch",
    "tqdm",
    "typing_extensions",
    "yaml",
)
"""Modules without which nothing runs."""

EXTRAS = {
    "clouds": ("scipy",),
    "data": ("OpenEXR", "backports", "lz4", "rosbags", "scipy", "simplejpeg"),
    "grasp": ("coacd", "mujoco"),
    "onnx": ("ml_dtypes", "onnx", "onnx_ir", "onnxruntime", "onnxscript"),
    "ray": ("ray",),
    "synth": ("bpy",),
    "tensorrt": ("tensorrt_rtx",),
    "train": ("peft", "tensorboard", "transformers"),
    "view": ("pyarrow", "rerun"),
}
"""Modules by extra."""

WITH_DATA = ("grasp", "ray", "synth", "train", "view")
"""Extras that bring those of `data` too; they are named as the commands that need them."""

ROS = (
    "ament_index_python",
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "visualization_msgs",
)
"""Packages of ROS that its nodes import."""


def install(extra: str = "") -> str:
    """The command that installs an extra, or for none what the node needs."""
    folder = _requirements()
    if _has_extras() or folder is None:
        return f"pip install 'dkt_ros[{extra}]'" if extra else "pip install dkt_ros"
    names = [extra or "core", *(["data"] if extra in WITH_DATA else [])]
    return " ".join(["pip install", *(f"-r {shlex.quote(f'{folder}/{n}.txt')}" for n in names)])


def _has_extras() -> bool:
    """Whether pip installed the package: what colcon registers of it tells pip of no extra."""
    try:
        return bool(importlib.metadata.metadata("dkt_ros").get_all("Provides-Extra"))
    except importlib.metadata.PackageNotFoundError:
        return False


def _requirements() -> Path | None:
    """The folder of the requirement files, of a checkout or of a package that colcon built."""
    for parent in Path(__file__).parents[1:]:
        for folder in (parent / "requirements", parent / "share/dkt_ros/requirements"):
            if (folder / "core.txt").is_file():
                return folder
    return None


def advice(error: ImportError, command: str = "") -> str | None:
    """What to install for a module that is not there; None where that is not known.

    command: the subcommand of `dkt` that failed, whose extra may bring more than the module's own.
    """
    module, _, part = (error.name or "").partition(".")
    for extra, modules in EXTRAS.items():
        if module in modules and not (extra == "clouds" and command):  # those are the node's
            if extra == "data" and command in WITH_DATA:
                extra = command
            return f"{module} is not installed; {install(extra)} brings it"
    if module in CORE:
        return f"{error.name} is not installed for {sys.executable}; {install()} brings it"
    if module == "dkt_ros" and part in ("msg", "srv", "action"):
        return (
            f"{error.name} is not there: build the package (`colcon build`, or `make` in the "
            "checkout), then source the workspace's install/setup.bash, or scripts/env.sh"
        )
    if module in ROS:
        return f"{error.name} is not there; {_ros_advice(module, part)}"
    return None


def _ros_advice(module: str, part: str) -> str:
    distribution = os.environ.get("ROS_DISTRO")
    if not distribution:
        return (
            "source a ROS installation (/opt/ros/<distro>/setup.bash), or run `make` in the "
            "checkout, then `source scripts/env.sh`"
        )
    if part or importlib.util.find_spec("rclpy") is None:
        return (
            f"ROS {distribution} is built for another Python than {platform.python_version()} "
            f"({sys.executable}): expected the python3 that ROS came with, or an environment of it"
        )
    return f"install it: apt install ros-{distribution}-{module.replace('_', '-')}"
