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
        "How colour arrives: sensor_msgs/Image, or a JPEG or PNG on color/image/compressed. "
        "Mapping color/image to a topic that ends in /compressed selects the latter.",
        Applies.ON_CONFIGURE,
        choices=("raw", "compressed"),
    )
    depth_transport: str = parameter(
        "raw",
        "How raw depth arrives: sensor_msgs/Image, or PNG or RVL on depth/image/compressedDepth. "
        "Mapping depth/image to a topic that ends in /compressedDepth or /compressed selects the "
        "latter.",
        Applies.ON_CONFIGURE,
        choices=("raw", "compressedDepth"),
    )
    rectified: bool = parameter(
        False,
        "The images are rectified: use P of camera_info instead of K.",
        Applies.ON_CONFIGURE,
    )
    depth_unit_m: float = parameter(
        0.001,
        "Metres per unit of an integer raw depth image.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=1e-5,
        maximum=0.1,
    )
    sync_slop_s: float = parameter(
        0.02,
        "Largest difference between the stamps of colour and depth of one frame.",
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
        "Data type that backend torch computes in; `auto` is bfloat16 on a GPU (float16 before "
        "Ampere) and float32 on a CPU. An engine has its own.",
        Applies.ON_CONFIGURE,
        choices=("auto", *DTYPES),
    )
    backend: str = parameter(
        _PREDICTOR.backend,
        "What runs the network: `torch`, or an engine by `tensorrt` or `onnxruntime` (`dkt engine "
        "build` makes one). The node refuses an engine that does not match the other parameters, "
        "and says why.",
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
        "If the engine does not match, or its results differ from torch's, use torch and warn in "
        "diagnostics.",
        Applies.ON_CONFIGURE,
    )
    cpu_threads: int = parameter(
        _PREDICTOR.cpu_threads,
        "Threads that the network may use on a CPU; 0: torch decides.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=1024,
    )
    inference_size: str = parameter(
        _PREDICTOR.inference_size,
        "Size that the network works at: `auto` (the area it was trained at with the camera's "
        "aspect ratio; exactly the size it was trained at if that is within 5%), `native` (the "
        "camera's) or HEIGHTxWIDTH. With an engine `auto` is the size it was built for.",
        Applies.ON_CONFIGURE,
    )
    warm_up_size: str = parameter(
        "",
        "HEIGHTxWIDTH of the camera's images, for which the network is warmed up when the node is "
        "configured; empty: the size it was trained at. On a GPU the first frames of another size "
        "trigger compilation, which takes minutes for a large network. The camera presets of "
        "grasp.launch.py set it.",
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
        "Seed of the noise, the same for every frame; unused if the flow starts from raw depth.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=2**31 - 1,
    )
    mode: str = parameter(
        _PREDICTOR.mode,
        "`exact`: the exact sampler on the newest buffer_frames, for every frame; `live`: the "
        "live sampler, which keeps the stream's state and computes only what is new.",
        Applies.ON_CONFIGURE,
        choices=MODES,
    )
    live_preset: str = parameter(
        _PREDICTOR.live_preset,
        "Windows and steps of mode live; `fast` is the cheapest, `quality` sees the most frames.",
        Applies.ON_CONFIGURE,
        choices=tuple(PRESETS),
    )
    live_publish: str = parameter(
        _PREDICTOR.live_publish,
        "In mode live: `latest` publishes the newest frame's depth each time a window is full "
        "(every 16, 12 or 8 frames, by preset; fewer for a checkpoint that was trained on short "
        "clips: 4 with dkt-nano); `all` publishes depth of every frame, one window each.",
        Applies.ON_CONFIGURE,
        choices=PUBLISH,
    )
    live_scene_cut: float = parameter(
        _PREDICTOR.live_scene_cut,
        "In mode live: the stream restarts when the mean brightness change of the pixels between "
        "two frames, beyond a global change of light or exposure, exceeds this share of white; 1: "
        "never.",
        Applies.ON_CONFIGURE,
        minimum=0.01,
        maximum=1.0,
    )
    live_min_agreement: float = parameter(
        _PREDICTOR.live_min_agreement,
        "In mode live: the stream counts as drifted and restarts when its correlation with the "
        "network's answer to the newest frame alone, checked every few windows, falls below this; "
        "0: never.",
        Applies.ON_CONFIGURE,
        minimum=0.0,
        maximum=0.95,
    )
    buffer_frames: int = parameter(
        _PREDICTOR.buffer_frames,
        "In mode exact: frames that the network sees at once: 1, 5, 9, ... 4N+1; 0: the number "
        "with which the checkpoint works best.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=81,
    )
    frame_choice: str = parameter(
        "newest",
        "Which frames inference gets when it is slower than the camera: `newest`, the newest "
        "whenever it is free; or `even`, every k-th, with k from the inference time. In mode live "
        "with live_publish latest, k comes from the mean over a window, and its frames (16, 12 or "
        "8, by preset) may wait while the previous window is computed: depth may lag by one "
        "window, never by more.",
        Applies.ON_CONFIGURE,
        choices=POLICIES,
    )
    max_gap_s: float = parameter(
        3.0,
        "A longer gap between the stamps of two camera frames restarts the stream.",
        Applies.AT_ONCE,
        unit="s",
        minimum=0.05,
        maximum=60.0,
    )

    raw_min_depth_m: float = parameter(
        _ALIGNMENT.min_raw_depth,
        "Nearer raw depth is treated as unknown, also when the scale is fitted.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=0.01,
        maximum=100.0,
    )
    raw_max_depth_m: float = parameter(
        _ALIGNMENT.max_raw_depth,
        "Farther raw depth is treated as unknown, also when the scale is fitted. Raise it "
        "together with max_depth_m, to keep the sensor's own depth in that range.",
        Applies.ON_CONFIGURE,
        unit="m",
        minimum=0.02,
        maximum=1000.0,
    )
    expected_min_depth_m: float = parameter(
        0.0,
        "Range in which the scene must lie: if the median of the raw depth is outside, the "
        "network is not used and dkt/alignment says so (wrong units). 0 and 0: anywhere.",
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
        "Largest relative standard error of depth (0.05 = 5%) at which a scale is accepted. Fused "
        "depth, which the readings correct locally, starts from a scale with up to 30%; "
        "diagnostics warn if its expected error is larger.",
        Applies.ON_CONFIGURE,
        minimum=0.0001,
        maximum=1.0,
    )
    align_max_held_s: float = parameter(
        _ALIGNMENT.max_held_s,
        "How long an earlier frame's scale is used while none can be found.",
        Applies.ON_CONFIGURE,
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )
    align_max_held_frames: int = parameter(
        _ALIGNMENT.max_held_frames,
        "For how many frames an earlier frame's scale is used, at most.",
        Applies.ON_CONFIGURE,
        minimum=0,
        maximum=10000,
    )

    publish: str = parameter(
        "continuous",
        "`continuous`: depth of the camera's stream; `on_demand`: compute and publish only while "
        "a dkt/capture_depth request is being served, with a new stream for each request.",
        Applies.AT_ONCE,
        choices=("continuous", "on_demand"),
    )
    depth: str = parameter(
        DEPTHS[0],
        "What dkt/depth is: `fused`, the sensor's depth where it can be trusted and the network's "
        "elsewhere, joined seamlessly; or `network`, the network's alone, on one scale and shift.",
        Applies.ON_CONFIGURE,
        choices=DEPTHS,
    )
    fusion_method: str = parameter(
        _FUSION.method,
        "How depth is fused: `refiner`, by a small learned network, or `membrane`, without "
        "learning, by fitting the network's disparity smoothly to the readings.",
        Applies.ON_CONFIGURE,
        choices=METHODS,
    )
    depth_sensor: str = parameter(
        SENSORS[0],
        "Kind of depth sensor, and so how it fails on glass: `stereo`, active or passive; "
        "`structured-light`; `tof`, time of flight, including solid-state lidar. The refiner has "
        "weights for the first, and others for the latter two.",
        Applies.ON_CONFIGURE,
        choices=SENSORS,
    )
    refiner: str = parameter(
        str(_FUSION.weights),
        "Folder with a refiner's weights (`dkt pretrain-fusion` writes one) and optionally a "
        "matcher's (`dkt pretrain-matcher`); empty: the package's weights for this depth_sensor "
        "and kind of network.",
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
        "Fused depth with less confidence becomes NaN, in dkt/depth and in clouds; 0: keep all.",
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
        "Use every Nth pixel of rows and columns for dkt/points; a full cloud of 1280x720 is 29 "
        "MB per frame.",
        Applies.AT_ONCE,
        minimum=1,
        maximum=64,
    )
    points_max_jump: float = parameter(
        0.0,
        "Drop points of dkt/points beside a jump in depth of more than this share of the depth "
        "(0.03 = 3%); 0: keep all. Does not affect dkt/depth.",
        Applies.AT_ONCE,
        minimum=0.0,
        maximum=1.0,
    )
    points_layout: str = parameter(
        "xyzrgb32",
        "Memory layout of a point: `xyzrgb32`, 32 bytes with the colour at 16, as "
        "depth_image_proc; `packed16`, 16 bytes with the colour at 12, for readers with fixed "
        "offsets (those that read only the first row also need points_organized false).",
        Applies.AT_ONCE,
        choices=("xyzrgb32", "packed16"),
    )
    points_color_field: str = parameter(
        "rgb",
        "Colour field of a point: `rgb`, a float32, or `rgba`, a uint32 with alpha 255, as GPD "
        "needs.",
        Applies.AT_ONCE,
        choices=("rgb", "rgba"),
    )
    crop_box: str = parameter(
        "",
        "Workspace to which all clouds are cropped, `XMIN XMAX YMIN YMAX ZMIN ZMAX` in metres in "
        "crop_frame; empty: no cropping. Does not affect depth images.",
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
        "Edge of the voxels that clouds are thinned to, one point each; 0: all points. Needs "
        "points_organized false.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.0,
        maximum=1.0,
    )
    points_outlier_neighbors: int = parameter(
        0,
        "Drop outliers, judged by the distance to this many nearest neighbours; 0: keep all. "
        "Needs points_organized false.",
        Applies.AT_ONCE,
        minimum=0,
        maximum=1000,
    )
    points_outlier_deviations: float = parameter(
        2.0,
        "A point is an outlier if its mean distance to these neighbours exceeds that of all "
        "points by more than this many standard deviations.",
        Applies.AT_ONCE,
        minimum=0.01,
        maximum=100.0,
    )
    compressed_depth_format: str = parameter(
        "png",
        "Compression of dkt/depth/compressedDepth: `png`, or `rvl`, which is larger or smaller "
        "depending on the scene and takes more CPU time here.",
        Applies.AT_ONCE,
        choices=("png", "rvl"),
    )
    normals_checkpoint: str = parameter(
        str(_PREDICTOR.normals_checkpoint),
        "Folder of a checkpoint of task normal (`dkt convert --prompt normal`) that computes "
        "dkt/normals, by a second inference per frame while the topic has subscribers; empty: "
        "compute them from depth.",
        Applies.ON_CONFIGURE,
    )
    normals_reach_px: int = parameter(
        2,
        "Pixels to each side from which dkt/normals are computed from depth: more are smoother.",
        Applies.AT_ONCE,
        minimum=1,
        maximum=16,
    )
    depth_color_min_m: float = parameter(
        0.2,
        "Depth shown blue in dkt/depth_color, as is anything nearer.",
        Applies.AT_ONCE,
        unit="m",
        minimum=0.0,
        maximum=100.0,
    )
    depth_color_max_m: float = parameter(
        2.0,
        "Depth shown red in dkt/depth_color, as is anything farther.",
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
        if low_m and low_m >= high_m:
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
