"""From depth to an attempt: the best grasp that a planner finds in it, executed in physics."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from dkt_ros.arrays import described
from dkt_ros.bench.methods import Told
from dkt_ros.bench.physics import Attempt, Result, attempt
from dkt_ros.bench.scenes import TableScene
from dkt_ros.errors import DktError
from dkt_ros.geometry import backproject
from dkt_ros.grasp.antipodal import Grasp, GraspConfig, Gripper, Plan, plan_grasps
from dkt_ros.grasp.heights import Scene
from dkt_ros.predict.load import imported

Planner = Callable[[Scene, Gripper, GraspConfig], Plan]
_BAD_M = 0.01
_OVER_M = 0.002
"""Of a body's distance from a grasp: over the body, or hardly beside it."""


@dataclass(frozen=True)
class Record:
    """One attempt in figures.

    scene, material, method: which. result: of Result. shape: of the body that was aimed at, ""
    where no grasp was found; why: the planner's reason then, reasons: all of them. error_m, bias_m,
    known, bad: median absolute and median signed error of the depth (m) on that body's pixels, and
    the share of them that have depth, and that are off by more than 1 cm; of all bodies' pixels
    where no grasp was found. objects: bodies in the scene. width, score, lifted_m, penetration_m,
    energy_j, drift_m: see Grasp and Attempt. made_of: another where the scene's file, or depth in
    files, held something else.
    """

    scene: str
    material: str
    method: str
    result: str
    shape: str = ""
    why: str = ""
    error_m: float | None = None
    bias_m: float | None = None
    known: float = 0.0
    bad: float = 0.0
    objects: int = 0
    width: float = 0.0
    score: float = 0.0
    lifted_m: float = 0.0
    penetration_m: float = 0.0
    energy_j: float = 0.0
    drift_m: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)
    made_of: str = ""

    @property
    def held(self) -> bool:
        """Whether it was a success."""
        return self.result == Result.HELD.value

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def of(cls, told: dict[str, Any]) -> Record:
        """From `told`; what another version added is left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in known})


@dataclass(frozen=True, eq=False)
class Tried:
    """A record with what a picture of it needs."""

    record: Record
    grasp: Grasp | None = None
    attempt: Attempt | None = None


def load_planner(name: str) -> Planner:
    """`antipodal`, or `module:function` of one's own: Scene, Gripper, GraspConfig -> Plan.

    Raises DktError where there is no such function, and from it where it returns something else.
    """
    if name == "antipodal":
        return plan_grasps
    wanted = (
        "expected antipodal, or module:function that takes dkt_ros.grasp's Scene, Gripper and "
        "GraspConfig and returns a Plan"
    )
    try:
        found = imported(name)
        inspect.signature(found).bind(None, None, None)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise DktError(f"--planner {name}: {error}; {wanted}") from error

    def planner(scene: Scene, gripper: Gripper, config: GraspConfig) -> Plan:
        plan: object = found(scene, gripper, config)
        if not isinstance(plan, Plan):
            raise DktError(f"--planner {name} returned {described(plan)}; {wanted}")
        for grasp in plan.grasps[:1]:
            if grasp.width > gripper.max_width:
                raise DktError(
                    f"--planner {name} returned a grasp {grasp.width:g} m wide, expected at most "
                    f"the gripper's max_width, {gripper.max_width:g} m"
                )
        return plan

    return planner


def try_grasp(
    scene: TableScene,
    method: str,
    told: Told,
    planner: Planner = plan_grasps,
    gripper: Gripper | None = None,
    masked: bool = True,
) -> Tried:
    """Plans in the method's depth, grasps, and tells how it went.

    masked: the planner is told where in the picture objects are, as by a detector on colour.
    """
    gripper = gripper or Gripper()
    config = GraspConfig(min_confidence=told.min_confidence)
    target_mask = scene.instance > 0 if masked else None
    plan = planner(
        Scene(told.depth, scene.intrinsics, told.confidence, target_mask), gripper, config
    )
    names: dict[str, Any] = {"scene": scene.name, "material": scene.material, "method": method}
    names["objects"] = len(scene.bodies)
    if not plan.grasps:
        errors = _errors(scene, told.depth, scene.instance > 0)
        why = plan.problem or max(plan.refused, key=plan.refused.__getitem__, default="")
        return Tried(
            Record(
                **names,
                **errors,
                result=Result.NO_GRASP.value,
                why=why,
                reasons=dict(plan.refused),
            )
        )
    grasp = plan.grasps[0]
    to_world = scene.camera_to_world
    rotation = to_world[:3, :3] @ grasp.rotation
    position = to_world[:3, :3] @ grasp.position + to_world[:3, 3]
    target = _target(scene, rotation, position, grasp.width, gripper)
    done = attempt(
        scene.bodies, target, rotation, position, grasp.width, gripper, fixtures=scene.fixtures
    )
    record = Record(
        **names,
        **_errors(scene, told.depth, scene.instance == target + 1),
        result=done.result.value,
        shape=scene.bodies[target].name,
        width=round(grasp.width, 4),
        score=round(grasp.score, 3),
        lifted_m=round(float(done.lifted[target]), 4),
        penetration_m=round(done.penetration, 5),
        energy_j=round(done.energy, 4),
        drift_m=round(done.drift, 5),
    )
    return Tried(record, grasp, done)


def _target(
    scene: TableScene, rotation: np.ndarray, position: np.ndarray, width: float, gripper: Gripper
) -> int:
    """The body that the grasp is at: whose surface, seen from above, is nearest.

    Of several that lie over one another there, the one that shows most between the fingers.
    """
    away = []
    for body in scene.bodies:
        points = body.vertices_at(body.pose)
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        inside = np.clip(position[:2], low, high)
        nearest = np.linalg.norm(points[:, :2] - position[:2], axis=1).min()
        # A hollow body's axis is far from its walls, and within its box.
        away.append(0.01 * nearest + np.linalg.norm(position[:2] - inside))
    if sum(np.array(away) < _OVER_M) > 1:
        pose = scene.camera_to_world
        points = backproject(scene.truth, scene.intrinsics) @ pose[:3, :3].T + pose[:3, 3]
        x, y, z = np.moveaxis((points - position) @ rotation, -1, 0)
        between = (np.abs(x) < 0.5 * gripper.finger_breadth) & (np.abs(y) < 0.5 * width)
        between &= (z > -gripper.finger_length) & (z < 0)
        shown = np.bincount(scene.instance[between], minlength=len(away) + 1)[1:]
        if shown.any():
            return int(np.argmax(shown))
    return int(np.argmin(away))


def _errors(scene: TableScene, depth: np.ndarray, where: np.ndarray) -> dict[str, Any]:
    known = where & np.isfinite(depth) & np.isfinite(scene.truth)
    count = max(1, int(where.sum()))
    if not known.any():
        return {"known": 0.0, "bad": 0.0}
    error = (depth - scene.truth)[known]
    return {
        "error_m": round(float(np.median(np.abs(error))), 5),
        "bias_m": round(float(np.median(error)), 5),
        "known": round(float(known.sum()) / count, 4),
        "bad": round(float((np.abs(error) > _BAD_M).sum()) / count, 4),
    }
