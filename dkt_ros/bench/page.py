"""Attempts as pictures, and all of them as one HTML file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from dkt_ros import html_page
from dkt_ros.bench.attempts import Record, Tried
from dkt_ros.bench.figures import tables
from dkt_ros.bench.physics import Result
from dkt_ros.bench.scenes import TableScene
from dkt_ros.colors import colored
from dkt_ros.formats.pictures import encoded
from dkt_ros.grasp.antipodal import Grasp, Gripper
from dkt_ros.rigid.world import Body

_QUALITY = 70
_GRASP, _HELD, _OTHER = (255, 60, 200), (60, 220, 60), (255, 80, 60)
_WORST = (
    Result.WRONG_OBJECT,
    Result.COLLISION,
    Result.SLIPPED,
    Result.MISSED,
    Result.NO_GRASP,
    Result.HELD,
)


def strip(scene: TableScene, depth: np.ndarray, tried: Tried, gripper: Gripper) -> bytes:
    """JPEG: colour, depth and the objects where they end, each with the grasp."""
    rgb = np.ascontiguousarray(scene.video.rgb[-1])
    near, far = np.nanpercentile(scene.truth, [1, 99])
    shown = [rgb.copy(), colored(depth, near, far, unknown=30), rgb // 2 + 40]
    if tried.attempt is not None:
        colour = _HELD if tried.record.held else _OTHER
        for body, pose in zip(scene.bodies, tried.attempt.poses, strict=True):
            cv2.polylines(shown[2], [_outline(scene, body, pose)], True, colour, 1, cv2.LINE_AA)
    if tried.grasp is not None:
        for picture in shown[:2]:
            _draw(picture, scene, tried.grasp, gripper)
    return encoded(".jpg", np.hstack(shown), cv2.IMWRITE_JPEG_QUALITY, _QUALITY)


def _project(scene: TableScene, points: np.ndarray) -> np.ndarray:
    """Pixels (N, 2) of points in camera axes; none beyond what drawing takes."""
    k = scene.intrinsics
    z = np.maximum(points[:, 2], 0.05)
    at = np.stack([points[:, 0] / z * k.fx + k.cx, points[:, 1] / z * k.fy + k.cy], axis=1)
    return np.clip(np.rint(at), -4000, 4000).astype(np.int32)


def _outline(scene: TableScene, body: Body, pose: np.ndarray) -> np.ndarray:
    points = body.vertices_at(np.linalg.inv(scene.camera_to_world) @ pose)
    return np.asarray(cv2.convexHull(_project(scene, points)))


def _draw(picture: np.ndarray, scene: TableScene, grasp: Grasp, gripper: Gripper) -> None:
    """Both fingers down to their tips, the palm between them and a stem above."""
    half, up = 0.5 * grasp.width, -gripper.finger_length
    places = [(-half, 0), (-half, up), (0, up), (0, 1.6 * up), (0, up), (half, up), (half, 0)]
    points = [
        grasp.position + y * grasp.rotation[:, 1] + z * grasp.rotation[:, 2] for y, z in places
    ]
    pixels = _project(scene, np.array(points))
    cv2.polylines(picture, [pixels], False, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.polylines(picture, [pixels], False, _GRASP, 1, cv2.LINE_AA)


def page(
    title: str,
    summary: Mapping[str, Any],
    records: Sequence[Record],
    pictures: Mapping[tuple[str, str, str], bytes],
    about: str,
) -> str:
    """The page; attempts that failed where the truth's did not come first."""
    truth = {(r.scene, r.material): r.held for r in records if r.method == "truth"}

    def badness(record: Record) -> tuple[bool, int, float]:
        possible = truth.get((record.scene, record.material), True)
        order = [result.value for result in _WORST].index(record.result)
        return record.held, order + 10 * (not possible), -(record.error_m or 0.0)

    body = [f"<h2>{name}</h2>{_html(*rows)}" for name, rows in tables(summary).items()]
    body.append("<h2>Attempts</h2>")
    for record in sorted(records, key=badness):
        key = record.scene, record.material, record.method
        if key in pictures:
            code = base64.b64encode(pictures[key]).decode()
            told = escape(describe(record))
            body.append(
                f'<figure><img loading="lazy" alt="{told}" src="data:image/jpeg;base64,{code}">'
                f"<figcaption>{told}</figcaption></figure>"
            )
    return html_page.page(title, about, "".join(body), "Made by dkt grasp bench.")


def describe(record: Record) -> str:
    """One line."""
    parts = [f"{record.scene} {record.material}, {record.method}: {record.result}"]
    if record.shape:
        parts.append(record.shape)
    if record.why:
        parts.append(record.why)
    if record.error_m is not None:
        parts.append(
            f"depth off by {1000 * record.error_m:.1f} mm (median, bias "
            f"{1000 * (record.bias_m or 0):+.1f} mm) on {record.known:.0%} of it"
        )
    return "; ".join(parts)


def _html(heads: Sequence[str], *rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'
