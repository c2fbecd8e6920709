"""Which extra of the package (`pip install 'dkt_ros[NAME]'`) brings what the node does without."""

from __future__ import annotations

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

_WITH_DATA = ("synth", "train", "view")
"""Extras that bring those of `data` too; they are named as the commands that need them."""


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'dkt_ros[{extra}]'"


def advice(error: ImportError, command: str = "") -> str | None:
    """What to install for a module that is not there; None where no extra brings it.

    command: the subcommand of `dkt` that failed, whose extra may bring more than the module's own.
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules and not (extra == "clouds" and command):  # those are the node's
            if extra == "data" and command in _WITH_DATA:
                extra = command
            return f"{module} is not installed; {install(extra)} brings it"
    return None
