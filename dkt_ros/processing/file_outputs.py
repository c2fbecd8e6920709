"""Depth of one frame as a file: 16-bit PNG, EXR, npz, PLY, contact_graspnet's npz."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np

from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.estimator import DepthEstimate
from dkt_ros.files import StorageError
from dkt_ros.formats.pictures import encoded
from dkt_ros.geometry import backproject, known_points, to_millimetres


def write_file(
    kind: str, folder: Path, index: int, labelled: LabelledFrame, estimate: DepthEstimate
) -> Path:
    """Writes folder/KIND/INDEX_STAMP.SUFFIX and returns it. kind: of FORMATS."""
    suffix, make = FORMATS[kind]
    name = f"{index:06d}_{labelled.frame.stamp_ns}{suffix}"
    path = folder / kind / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(make(labelled, estimate))
    return path


def _png(_labelled: LabelledFrame, estimate: DepthEstimate) -> bytes:
    """Whole millimetres, 0 = unknown or beyond 65.535 m."""
    return encoded(".png", to_millimetres(estimate.depth))


def _exr(_labelled: LabelledFrame, estimate: DepthEstimate) -> bytes:
    """Channel Z, float32 metres, NaN = unknown."""
    import tempfile

    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {"Z": np.ascontiguousarray(estimate.depth, np.float32)}
    with tempfile.TemporaryDirectory(prefix="dkt-exr-") as folder:
        file = Path(folder) / "depth.exr"
        try:
            OpenEXR.File(header, channels).write(str(file))
        except RuntimeError as error:
            raise StorageError(f"{error} Make room there, or set TMPDIR") from error
        return file.read_bytes()


def _npz(labelled: LabelledFrame, estimate: DepthEstimate) -> bytes:
    """depth, confidence, source, K, stamp_ns."""
    confidence = estimate.confidence
    arrays = {
        "depth": estimate.depth,
        "source": estimate.source,
        "K": labelled.frame.intrinsics.matrix,
        "stamp_ns": np.int64(labelled.frame.stamp_ns),
        **({} if confidence is None else {"confidence": confidence}),
    }
    stream = BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _contact_graspnet(labelled: LabelledFrame, estimate: DepthEstimate) -> bytes:
    """rgb, depth (metres, 0 = unknown), K and segmap: the mask where there is one, else zeros."""
    shape = estimate.depth.shape
    stream = BytesIO()
    np.savez_compressed(
        stream,
        rgb=labelled.frame.rgb,
        depth=np.nan_to_num(estimate.depth),
        K=labelled.frame.intrinsics.matrix,
        segmap=np.zeros(shape, np.uint8)
        if labelled.mask is None
        else (labelled.mask > 0).astype(np.uint8),
    )
    return stream.getvalue()


def _ply(labelled: LabelledFrame, estimate: DepthEstimate) -> bytes:
    """Known points in the camera's optical frame, metres, with colours; binary."""
    cloud = backproject(estimate.depth, labelled.frame.intrinsics)
    points, colors = known_points(cloud, labelled.frame.rgb)
    assert colors is not None  # they were given
    kinds = dict.fromkeys("xyz", ("float", "<f4"))
    kinds |= dict.fromkeys(("red", "green", "blue"), ("uchar", "u1"))
    rows = np.empty(len(points), [(name, stored) for name, (_, stored) in kinds.items()])
    for name, column in zip(kinds, (*points.T, *colors.T), strict=True):
        rows[name] = column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {kind} {name}" for name, (kind, _) in kinds.items()]
    return "\n".join([*lines, "end_header\n"]).encode() + rows.tobytes()


FORMATS: dict[str, tuple[str, Callable[[LabelledFrame, DepthEstimate], bytes]]] = {
    "png": (".png", _png),
    "exr": (".exr", _exr),
    "npz": (".npz", _npz),
    "ply": (".ply", _ply),
    "contact_graspnet": (".npz", _contact_graspnet),
}
