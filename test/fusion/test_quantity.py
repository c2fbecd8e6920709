"""What is sent in place of depth is told from its shape; depth never is taken for it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from fixtures.fused_scenes import rendered_frame

from dkt_ros.fusion.consistency import Consistency, Verdict
from dkt_ros.geometry import Intrinsics

SCENE = rendered_frame()
HEIGHT, WIDTH = SCENE.raw.shape
CAMERA = Intrinsics(WIDTH, WIDTH, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
ALONG_RAY = np.hypot(1, np.hypot((COLUMNS - CAMERA.cx) / WIDTH, (ROWS - CAMERA.cy) / WIDTH))
GREY = cv2.cvtColor(SCENE.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
REACH_M = float(np.nanmedian(SCENE.raw))


def judged(
    raw: np.ndarray, rgb: np.ndarray = SCENE.rgb, frames: int = 3, camera: Intrinsics = CAMERA
) -> Verdict:
    """Of the last of so many frames; each picks other readings, as noise does."""
    consistency, rng = Consistency(), np.random.default_rng(0)
    for index in range(frames):
        noisy = (raw * (1 + 0.001 * rng.standard_normal(raw.shape))).astype(np.float32)
        verdict = consistency.update(rgb, noisy, None, index * 100_000_000, camera=camera)
    return verdict


@pytest.mark.parametrize(
    ("cause", "sent"),
    [
        ("ray", lambda raw: raw * ALONG_RAY),
        ("disparity", lambda raw: np.round(1000 * REACH_M / raw) / 1000),
        ("picture", lambda raw: GREY * 0.008),
        ("picture", lambda raw: np.roll((GREY / 255) ** 1.5 + 0.06, (2, 15), (0, 1))),
    ],
)
def test_what_is_no_depth_is_named(cause: str, sent: Callable[[np.ndarray], np.ndarray]) -> None:
    (first,) = judged(sent(SCENE.raw), frames=1).suspicions
    assert (first.cause, first.certain) == (cause, False), "one look"
    (told,) = judged(sent(SCENE.raw)).suspicions
    assert (told.cause, told.certain, told.denies_depth) == (cause, True, True)


def rendered(depth: np.ndarray, frames: int = 3) -> Verdict:
    """Of frames without noise."""
    consistency = Consistency()
    for index in range(frames):
        stamp_ns = index * 100_000_000
        verdict = consistency.update(SCENE.rgb, depth, None, stamp_ns, camera=CAMERA)
    return verdict


@pytest.mark.parametrize(("near", "far"), [(0.01, 10.0), (0.01, 100.0), (0.02, 3.5), (0.1, 5.0)])
def test_a_renderers_depth_buffer_is_named(near: float, far: float) -> None:
    """As PyBullet and MuJoCo give it: of a table all within some hundredths, shortly before 1."""
    sent = (far / (far - near) * (1 - near / SCENE.truth)).astype(np.float32)
    (told,) = rendered(sent).suspicions
    assert (told.cause, told.certain, told.denies_depth) == ("buffer", True, True)
    (first,) = rendered(sent, 1).suspicions
    assert not first.certain, "one look"


def test_rendered_depth_of_less_than_a_metre_is_no_buffer() -> None:
    """Nor is a slope that somebody made up, or what is turned by a quarter."""
    near = (SCENE.truth / np.nanmax(SCENE.truth)).astype(np.float32)
    slope = np.linspace(1.0, 0.6, HEIGHT, dtype=np.float32)[:, None].repeat(WIDTH, axis=1)
    for depth in (near, 0.5 * near, slope):
        assert "buffer" not in {one.cause for one in rendered(depth).suspicions}


@pytest.mark.parametrize("noise", [0.0, 0.0003, 0.001, 0.002])
@pytest.mark.parametrize("unit_m", [0.001, 0.0001, 0.00103])
def test_a_near_table_in_a_sensors_steps_is_no_buffer(noise: float, unit_m: float) -> None:
    """As a wrist camera sees it: between two steps of a sensor every slope is linear."""
    rng = np.random.default_rng(2)
    for tilt in (0.02, 0.1, 0.3):
        slope = tilt * (np.arange(HEIGHT)[:, None] - HEIGHT / 2) / WIDTH
        table = 0.5 / (1 + slope) * (1 + noise * rng.standard_normal((HEIGHT, WIDTH)))
        table[20:60, 30:80] = 0.42
        steps = np.round(table / unit_m) * unit_m
        assert not any(
            one.cause == "buffer" for one in rendered(steps.astype(np.float32), 1).suspicions
        )


def test_depth_is_depth() -> None:
    noise = np.random.default_rng(1).standard_normal(SCENE.raw.shape)
    for raw in (SCENE.raw, SCENE.raw * (1 + 0.02 * noise), SCENE.truth):
        assert judged(raw.astype(np.float32)).suspicions == ()
    turned = SCENE.turned()
    camera = Intrinsics(WIDTH, WIDTH, HEIGHT / 2, WIDTH / 2, HEIGHT, WIDTH)
    assert judged(turned.raw, turned.rgb, camera=camera).suspicions == ()


def test_a_wall_held_straight_and_dark_things_on_a_light_table_are_depth() -> None:
    """Of the first depth and disparity are alike; of the second brightness goes with height."""
    raw, rgb = np.full((HEIGHT, WIDTH), 0.8, np.float32), np.full((HEIGHT, WIDTH, 3), 220, np.uint8)
    rgb = np.clip(rgb + np.random.default_rng(0).normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)
    for left in range(10, WIDTH - 40, 40):
        for top in range(10, HEIGHT - 40, 40):
            raw[top : top + 20, left : left + 20] = 0.74
            rgb[top : top + 20, left : left + 20] //= 6
    assert judged(raw, rgb).suspicions == ()
    assert judged(np.full_like(raw, 0.8), rgb).suspicions == ()
    ramp = np.linspace(1.2, 0.6, HEIGHT, dtype=np.float32)[:, None].repeat(WIDTH, axis=1)
    assert judged(ramp, rgb).suspicions == (), "made up, linear as no table is"


def test_texture_that_a_sensor_copies_into_depth_is_no_picture() -> None:
    """Time of flight measures dark things some millimetres wrong."""
    assert judged(SCENE.raw * (1 + 0.006 * (GREY / 255 - 0.5))).suspicions == ()


def test_when_depth_is_sent_again_nothing_is_said() -> None:
    consistency = Consistency()
    ray = (SCENE.raw * ALONG_RAY).astype(np.float32)
    told = [
        consistency.update(
            SCENE.rgb, ray if index < 20 else SCENE.raw, None, index * 100_000_000, camera=CAMERA
        ).suspicions
        for index in range(32)
    ]
    assert [one.cause for one in told[19]] == ["ray"]
    assert "ray" not in [one.cause for one in told[31]], "within a second of frames"
