"""dkt_node's parameters, each once: value, range, meaning, and when a change acts.

ROS declarations (declarations.py), config/dkt_node.yaml and the table of docs/parameters.md
(docs.py) are all made from this one dataclass. Without rclpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dkt_ros.alignment.aligner import AlignmentConfig
from dkt_ros.arguments import DTYPES, parse_size
from dkt_ros.checks import Problem, ValuesError
from dkt_ros.errors import DktError
from dkt_ros.fusion.config import DEPTHS, METHODS, SENSORS, FusionConfig
from dkt_ros.geometry import Box
from dkt_ros.model.backends import BACKENDS
from dkt_ros.model.live_options import PRESETS, PUBLISH
from dkt_ros.predict.options import MODES, PredictorOptions
from dkt_ros.ros.frame_choice import POLICIES
from dkt_ros.ros.params.spec import Applies, Parameters, parameter

_ALIGNMENT = AlignmentConfig()
_FUSION = FusionConfig()
_PREDICTOR = PredictorOptions()


@dataclass(frozen=True)
class NodeParameters(Parameters):
    """Everything that can be set on `dkt_node`. Wrong values raise one DktError that names all."""

    autostart: bool = parameter(
        True,
        "Configure and activate at start, without a lifecycle manager.",
        Applies.AT_START,
    )
    diagnostics_period_s: float = parameter(
        1.0,
        "Time between two messages on /diagnostics.",
        Applies.AT_START,
        unit="s",
        minimum=0.1,
        maximum=60.0,
    )

    color_transport: str = parameter(
        "raw",
        "How colour arrives: sensor_msgs/Image, or a JPEG or PNG on color/image/compressed. A "
        "topic that is mapped to color/image with /compressed at its end is that.",
        Applies.ON_CONFIGURE,
        choices=("raw", "compressed"),
    )
    depth_transport: str = parameter(
        "raw",
        "How raw depth arrives: sensor_msgs/Image, or PNG or RVL on depth/image/compressedDepth. A "
        "topic with either transport at its end is that.",
        Applies.ON_CONFIGURE,
        choices=("raw", "compressedDepth"),
    )
    rectified: bool = parameter(
        False,
        "The images are rectified: P of camera_info holds instead of K.",
        Applies.ON_CONFIGURE,
    )
    depth_unit_m: float = parameter(
        0.001,
        "What one step of an integer raw depth image means.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=1e-5,
        maximum=0.1,
    )
    sync_slop_s: float = parameter(
        0.02,
        "How far apart the stamps of colour and depth of one frame may be.",
        Applies.AT_ONCE,
        unit="s",
        minimum=0.0,
        maximum=1.0,
    )
    image_timeout_s: float = parameter(
        2.0,
        "Diagnostics warn after this long without images.",
        Applies.AT_ONCE,
        unit="s",
        minimum=0.1,
        maximum=3600.0,
    )

    predictor: str = parameter(
        _PREDICTOR.predictor,
        "Kind of network: `dkt`, or `module:function` of a network of your own (see CONTRIBUTING).",
        Applies.ON_CONFIGURE,
    )
    checkpoint: str = parameter(
        str(_PREDICTOR.checkpoint),
        "Folder of the checkpoint (`dkt convert` makes one); empty: dkt-nano inside the package.",
        Applies.ON_CONFIGURE,
    )
    device: str = parameter(
        _PREDICTOR.device,
        "`auto` (the GPU if there is one), `cpu`, `cuda` or `cuda:N`.",
        Applies.ON_CONFIGURE,
    )
    dtype: str = parameter(
        _PREDICTOR.dtype,
        "Computing type of backend torch; `auto` is bfloat16 on a GPU (float16 before Ampere) and "
        "float32 on a CPU. An engine has its own.",
        Applies.ON_CONFIGURE,
        choices=("auto", *DTYPES),
    )
    backend: str = parameter(
        _PREDICTOR.backend,
        "What computes the network: `torch`, or the graphs of an engine by `tensorrt` or "
        "`onnxruntime` (`dkt engine build` makes one). The node refuses an engine that was not "
        "made for the other parameters, and says why.",
        Applies.ON_CONFIGURE,
        choices=BACKENDS,
    )
    engine_dir: str = parameter(
        str(_PREDICTOR.engine_dir),
        "Folder of the engine. Needed by backends other than torch.",
        Applies.ON_CONFIGURE,
    )
    engine_fallback: bool = parameter(
        _PREDICTOR.engine_fallback,
        "Compute with torch where the engine does not fit, or computes something else than torch, "
        "and warn in diagnostics.",
        Applies.ON_CONFIGURE,
    )
    cpu_threads: int = parameter(
        _PREDICTOR.cpu_threads,
        "Threads the network may use on a CPU; 0: as many as torch likes.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=1024,
    )
    inference_size: str = parameter(
        _PREDICTOR.inference_size,
        "Size the network works at: `auto` (the area it was trained at, the camera's aspect "
        "ratio; the very size it was trained at where that is within 5%), `native` (the camera's) "
        "or HEIGHTxWIDTH. With an engine `auto` is the one size it was built for.",
        Applies.ON_CONFIGURE,
    )
    warm_up_size: str = parameter(
        "",
        "HEIGHTxWIDTH of the camera that the network is warmed up for when it is configured; "
        "empty: the size it was trained at. On a GPU a camera of another size has its first frames "
        "compile, minutes of it for a large network. The camera presets of grasp.launch.py set it.",
        Applies.ON_CONFIGURE,
    )
    steps: int = parameter(
        _PREDICTOR.steps,
        "Denoising steps; 0: the checkpoint's own number.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=50,
    )
    seed: int = parameter(
        _PREDICTOR.seed,
        "Seed of the noise, the same for every frame; unused where a flow begins at raw depth.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=2**31 - 1,
    )
    mode: str = parameter(
        _PREDICTOR.mode,
        "`exact`: the exact sampler on the newest buffer_frames, for every frame; `live`: the live "
        "sampler, which remembers the stream and computes what is new.",
        Applies.ON_CONFIGURE,
        choices=MODES,
    )
    live_preset: str = parameter(
        _PREDICTOR.live_preset,
        "Windows and steps of mode live; `fast` computes least, `quality` sees the most frames.",
        Applies.ON_CONFIGURE,
        choices=tuple(PRESETS),
    )
    live_publish: str = parameter(
        _PREDICTOR.live_publish,
        "In mode live: `latest` is the newest frame's depth each time a window is full (every 16, "
        "12 or 8 frames, by preset, fewer where the checkpoint is right on short clips alone: 4 "
        "with dkt-nano); `all` is depth of every frame, one window each.",
        Applies.ON_CONFIGURE,
        choices=PUBLISH,
    )
    live_scene_cut: float = parameter(
        _PREDICTOR.live_scene_cut,
        "In mode live: mean change of a pixel's brightness between two frames, as a share of "
        "white, beyond what light and exposure do to all of it, above which the stream starts "
        "anew; 1: never.",
        Applies.ON_CONFIGURE,
        minimum=0.01,
        maximum=1.0,
    )
    live_min_agreement: float = parameter(
        _PREDICTOR.live_min_agreement,
        "In mode live: correlation with what the network says of the newest frame alone, looked at "
        "after some windows, below which the stream has drifted and starts anew; 0: never.",
        Applies.ON_CONFIGURE,
        minimum=0.0,
        maximum=0.95,
    )
    buffer_frames: int = parameter(
        _PREDICTOR.buffer_frames,
        "In mode exact: frames the network sees at once: 1, 5, 9, ... 4N+1; 0: as many as the "
        "checkpoint does best with.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=81,
    )
    frame_choice: str = parameter(
        "newest",
        "Which frames inference gets when it is slower than the camera: `newest`, whenever it is "
        "free, or `even`, every k-th, k from the time it takes; in mode live with live_publish "
        "latest from its mean over a window, whose frames (16, 12 or 8, by preset) may wait while "
        "the one before is computed: depth may lag by one window, never by more.",
        Applies.ON_CONFIGURE,
        choices=POLICIES,
    )
    max_gap_s: float = parameter(
        3.0,
        "A longer gap between the stamps of two frames from the camera starts anew.",
        Applies.AT_ONCE,
        unit="s",
        minimum=0.05,
        maximum=60.0,
    )

    raw_min_depth_m: float = parameter(
        _ALIGNMENT.min_raw_depth,
        "Nearer raw depth is taken for unknown, and is not looked at when the scale is found.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=0.01,
        maximum=100.0,
    )
    raw_max_depth_m: float = parameter(
        _ALIGNMENT.max_raw_depth,
        "Farther raw depth is taken for unknown, and is not looked at when the scale is found. "
        "Raise it with max_depth_m, for the sensor's own depth out there.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=0.02,
        maximum=1000.0,
    )
    expected_min_depth_m: float = parameter(
        0.0,
        "Where the scene must lie: with the median of the raw depth outside the expected range "
        "the network is not used and dkt/alignment says so (wrong units). 0 and 0: anywhere.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=0.0,
        maximum=1000.0,
    )
    expected_max_depth_m: float = parameter(
        0.0,
        "See expected_min_depth_m.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=0.0,
        maximum=1000.0,
    )
    align_min_inlier_ratio: float = parameter(
        _ALIGNMENT.min_inlier_ratio,
        "Smallest share of the raw depth that must agree with a scale.",
        Applies.ON_CONFIGURE,
        minimum=0.0,
        maximum=1.0,
    )
    align_max_uncertainty: float = parameter(
        _ALIGNMENT.max_uncertainty,
        "Largest relative standard error of depth (0.05 = 5%) with which a scale is believed. "
        "Fused depth, which the readings correct locally, begins with one of up to 30% even so; "
        "diagnostics warn where more is expected of it.",
        Applies.ON_CONFIGURE,
        minimum=0.0001,
        maximum=1.0,
    )
    align_max_held_s: float = parameter(
        _ALIGNMENT.max_held_s,
        "How long an earlier frame's scale is held while none can be found.",
        Applies.ON_CONFIGURE,
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )
    align_max_held_frames: int = parameter(
        _ALIGNMENT.max_held_frames,
        "And for how many frames.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=10000,
    )

    publish: str = parameter(
        "continuous",
        "`continuous`: depth of the camera's stream; `on_demand`: nothing is computed or published "
        "but while dkt/capture_depth asks for it, with a fresh stream for each request.",
        Applies.AT_ONCE,
        choices=("continuous", "on_demand"),
    )
    depth: str = parameter(
        DEPTHS[0],
        "What dkt/depth is: `fused`, the sensor's depth where it can be trusted and the network's "
        "elsewhere, joined without a step; or `network`, the network's alone, on one scale and "
        "shift.",
        Applies.ON_CONFIGURE,
        choices=DEPTHS,
    )
    fusion_method: str = parameter(
        _FUSION.method,
        "How depth is fused: `refiner`, a small learned network, or `membrane`, without learning: "
        "the network's disparity bent onto the readings.",
        Applies.ON_CONFIGURE,
        choices=METHODS,
    )
    depth_sensor: str = parameter(
        SENSORS[0],
        "What measures the raw depth, and so how it fails on glass: `stereo`, active or passive; "
        "`structured-light`; `tof`, time of flight, a solid-state lidar too. The refiner has "
        "weights for the first, and for the other two.",
        Applies.ON_CONFIGURE,
        choices=SENSORS,
    )
    refiner: str = parameter(
        str(_FUSION.weights),
        "Folder of the refiner's weights (`dkt pretrain-fusion` writes one), and of a matcher's "
        "(`dkt pretrain-matcher`) where it holds one; empty: the package's for the depth sensor, "
        "those for networks that are shown raw depth or those for all others.",
        Applies.ON_CONFIGURE,
    )
    confidence_tolerance: float = parameter(
        _FUSION.tolerance,
        "dkt/confidence is the probability that the depth is within this share of the truth.",
        Applies.ON_CONFIGURE,
        minimum=0.001,
        maximum=0.5,
    )
    min_confidence: float = parameter(
        _FUSION.min_confidence,
        "Fused depth with less confidence becomes NaN, in dkt/depth and in clouds; 0: keeps all.",
        Applies.AT_ONCE,
        minimum=0.0,
        maximum=1.0,
    )
    min_depth_m: float = parameter(
        0.1, "Nearer depth becomes NaN.", Applies.AT_ONCE, unit="m", minimum=0.01, maximum=100.0
    )
    max_depth_m: float = parameter(
        10.0, "Farther depth becomes NaN.", Applies.AT_ONCE, unit="m", minimum=0.02, maximum=1000.0
    )
    points_organized: bool = parameter(
        True,
        "dkt/points has the image's rows and columns, NaN where unknown; false: known points only.",
        Applies.AT_ONCE,
    )
    points_stride: int = parameter(
        1,
        "One point of dkt/points for every so many pixels, in rows and in columns; a cloud of "
        "1280x720 is 29 MB per frame.",
        Applies.AT_ONCE,
        minimum=1,
        maximum=64,
    )
    points_max_jump: float = parameter(
        0.0,
        "Drops points of dkt/points beside a jump in depth of more than this share of the depth "
        "(0.03 = 3%); 0: keeps all. dkt/depth is left as it is.",
        Applies.AT_ONCE,
        minimum=0.0,
        maximum=1.0,
    )
    points_layout: str = parameter(
        "xyzrgb32",
        "Bytes of a point: `xyzrgb32`, 32 with the colour at 16, as depth_image_proc; `packed16`, "
        "16 with the colour at 12, for readers of fixed offsets (those that read the first row "
        "alone want points_organized false too).",
        Applies.AT_ONCE,
        choices=("xyzrgb32", "packed16"),
    )
    points_color_field: str = parameter(
        "rgb",
        "The colour's field: `rgb`, a float32, or `rgba`, a uint32 with alpha 255, as GPD wants.",
        Applies.AT_ONCE,
        choices=("rgb", "rgba"),
    )
    crop_box: str = parameter(
        "",
        "Workspace of all clouds, `XMIN XMAX YMIN YMAX ZMIN ZMAX` in metres in crop_frame; empty: "
        "everything. Depth images are left as they are.",
        Applies.AT_ONCE,
    )
    crop_frame: str = parameter(
        "",
        "The tf frame of crop_box; empty: the camera's optical frame. Needs tf2_ros.",
        Applies.ON_CONFIGURE,
    )
    points_frame: str = parameter(
        "",
        "The tf frame of dkt/points and dkt/object_points, at the image's stamp; empty: the "
        "camera's optical frame. Needs tf2_ros.",
        Applies.ON_CONFIGURE,
    )
    points_voxel_m: float = parameter(
        0.0,
        "One point for each cube of this edge; 0: all points. Needs points_organized false.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.0,
        maximum=1.0,
    )
    points_outlier_neighbors: int = parameter(
        0,
        "Drops points that stand off from this many neighbours; 0: keeps all. Needs "
        "points_organized false.",
        Applies.AT_ONCE,
        minimum=0,
        maximum=1000,
    )
    points_outlier_deviations: float = parameter(
        2.0,
        "How many standard deviations farther than usual such a point's neighbours are.",
        Applies.AT_ONCE,
        minimum=0.01,
        maximum=100.0,
    )
    compressed_depth_format: str = parameter(
        "png",
        "How dkt/depth/compressedDepth is packed: `png`, or `rvl`, which is larger or smaller by "
        "the scene and takes more of the CPU here.",
        Applies.AT_ONCE,
        choices=("png", "rvl"),
    )
    normals_checkpoint: str = parameter(
        str(_PREDICTOR.normals_checkpoint),
        "Folder of a checkpoint of task normal (`dkt convert --prompt normal`) that dkt/normals "
        "come from, by a second inference for each frame while anybody listens; empty: by depth.",
        Applies.ON_CONFIGURE,
    )
    normals_reach_px: int = parameter(
        2,
        "Pixels to each side from which dkt/normals are computed of depth: more are smoother.",
        Applies.AT_ONCE,
        minimum=1,
        maximum=16,
    )
    depth_color_min_m: float = parameter(
        0.2,
        "Depth that is blue in dkt/depth_color, as is what is nearer.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.0,
        maximum=100.0,
    )
    depth_color_max_m: float = parameter(
        2.0,
        "Depth that is red in dkt/depth_color, as is what is farther.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.01,
        maximum=1000.0,
    )

    def joint_problems(self) -> Iterator[Problem]:
        """Values that must fit each other, sizes, and what the network's options refuse."""
        for low, high in (
            ("raw_min_depth_m", "raw_max_depth_m"),
            ("min_depth_m", "max_depth_m"),
            ("depth_color_min_m", "depth_color_max_m"),
        ):
            if getattr(self, low) >= getattr(self, high):
                text = (
                    f"parameter {low} is {getattr(self, low):g} and {high} "
                    f"{getattr(self, high):g}, expected {low} to be the smaller"
                )
                yield Problem(text, (low, high))
        low_m, high_m = self.expected_min_depth_m, self.expected_max_depth_m
        if (low_m or high_m) and low_m >= high_m:
            text = (
                f"parameter expected_min_depth_m is {low_m:g} and expected_max_depth_m {high_m:g}, "
                "expected expected_min_depth_m to be the smaller, or both 0"
            )
            yield Problem(text, ("expected_min_depth_m", "expected_max_depth_m"))
        if self.points_organized:
            for name in ("points_voxel_m", "points_outlier_neighbors"):
                if getattr(self, name):
                    text = (
                        f"parameter {name} is {getattr(self, name)} while points_organized is "
                        "true; set points_organized to false, the filter breaks rows and columns"
                    )
                    yield Problem(text, (name, "points_organized"))
        if self.crop_box:
            try:
                Box.parse(self.crop_box)
            except DktError as error:
                yield Problem(f"parameter crop_box: {error}", ("crop_box",))
        try:
            PredictorOptions.taken_from(self)
        except ValuesError as error:
            yield from (Problem(f"parameter {text}", names) for text, names in error.problems)
        if self.warm_up_size and parse_size(self.warm_up_size) is None:
            text = (
                f"parameter warm_up_size is {self.warm_up_size!r}, expected HEIGHTxWIDTH in "
                "pixels such as 720x1280, or nothing"
            )
            yield Problem(text, ("warm_up_size",))
