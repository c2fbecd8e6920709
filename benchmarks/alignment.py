"""Our alignment beside least squares, Huber and RANSAC: error of scale, of objects, and time.

    python benchmarks/alignment.py [--shared FOLDER] [--seeds 5]

Made-up tables with glass at growing corruption, and the two real ClearGrasp scenes, as they are and
with more corruption. Every method but least squares on all pixels gets the same few thousand
samples. Time is this process's own on one thread, for one frame.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "test")]

import numpy as np  # noqa: E402
from fixtures.glass_scenes import (  # noqa: E402
    REAL_SCENES,
    GlassScene,
    least_squares,
    read_real_scene,
    see_through,
    table_with_glass,
    with_holes,
    with_network_error,
    with_noise,
)

from benchmarks.program import script  # noqa: E402
from dkt_ros.alignment.aligner import Aligner, AlignmentConfig  # noqa: E402
from dkt_ros.alignment.pixels import Samples, sample  # noqa: E402

Line = tuple[float, float]
CONFIG = AlignmentConfig()
RANSAC_TOLERANCE = 0.02  # 1/m: five standard deviations of a D435's noise
RANSAC_PAIRS = 300
HUBER_LIMIT = 1.345


def ours(scene: GlassScene) -> Line:
    """What the node does with the first frame."""
    alignment = Aligner(CONFIG).update(scene.disparity, scene.raw)
    return alignment.scale, alignment.shift


def plain_least_squares(scene: GlassScene) -> Line:
    """On every pixel that has both."""
    return least_squares(scene.disparity, scene.raw)


def huber(scene: GlassScene) -> Line:
    """Iteratively reweighted least squares, scale by the median absolute deviation."""
    samples = _samples(scene)
    weights = np.ones(len(samples.d))
    line = (0.0, 0.0)
    for _ in range(30):
        line = _weighted(samples, weights)
        size = np.abs(samples.y - line[0] * samples.d - line[1])
        limit = HUBER_LIMIT * max(1.4826 * float(np.median(size)), 1e-6)
        weights = np.minimum(1, limit / np.maximum(size, 1e-12))
    return line


def ransac(scene: GlassScene) -> Line:
    """The pair of samples with most others within a tolerance, then least squares on those."""
    samples = _samples(scene)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(samples.d), (2, RANSAC_PAIRS))
    run = samples.d[second] - samples.d[first]
    apart = np.abs(run) > 1e-3
    first, run = first[apart], run[apart]
    slope = (samples.y[second[apart]] - samples.y[first]) / run
    offset = samples.y[first] - slope * samples.d[first]
    near = np.abs(samples.y - slope[:, None] * samples.d - offset[:, None]) < RANSAC_TOLERANCE
    return _weighted(samples, near[near.sum(axis=1).argmax()].astype(float))


METHODS: dict[str, Callable[[GlassScene], Line]] = {
    "ours": ours,
    "least squares": plain_least_squares,
    "Huber": huber,
    "RANSAC": ransac,
}


def _samples(scene: GlassScene) -> Samples:
    return sample(
        scene.disparity,
        scene.raw,
        CONFIG.max_samples,
        CONFIG.min_raw_depth,
        CONFIG.max_raw_depth,
    )


def _weighted(samples: Samples, weights: np.ndarray) -> Line:
    scale, shift = np.polyfit(samples.d, samples.y, 1, w=np.sqrt(weights))
    return float(scale), float(shift)


def made_up(seed: int) -> Iterator[tuple[str, GlassScene]]:
    """Tables with glass, named by what was done to their raw depth."""
    table = table_with_glass(seed, (720, 1280))
    noisy = with_noise(table, seed)
    yield "table, noise alone", noisy
    yield "table, 50% missing", with_holes(noisy, seed)
    for share in (0.2, 0.4, 0.6):
        through = with_noise(see_through(table, seed, share), seed)
        yield f"table, 50% missing, {share:.0%} see through", with_holes(through, seed)
        through = with_noise(see_through(table, seed, share, coherent=True), seed)
        yield f"table, 50% missing, {share:.0%} in regions", with_holes(through, seed)
    slight = with_noise(see_through(table, seed, 0.4, (0.02, 0.03)), seed)
    yield "table, 50% missing, 40% too far by 20..30 mm", with_holes(slight, seed)
    room = table_with_glass(seed, (720, 1280), near=1.0, far=4.0)
    slight = with_noise(see_through(room, seed, 0.4, (0.05, 0.2)), seed)
    yield "1..4 m, 50% missing, 40% too far by 50..200 mm", with_holes(slight, seed)
    through = with_holes(with_noise(see_through(table, seed, 0.4), seed), seed)
    for error in (0.01, 0.03):
        yield (
            f"table, 50% missing, 40% see through, network off {error:.0%}",
            with_network_error(through, seed, error),
        )


def real(folder: Path, seed: int) -> Iterator[tuple[str, GlassScene]]:
    """The scenes of ClearGrasp, named likewise."""
    for name in REAL_SCENES:
        scene = read_real_scene(folder, name)
        yield f"real {name[-3:]}", scene
        through = with_holes(see_through(scene, seed, 0.4), seed)
        yield f"real {name[-3:]}, 50% missing, 40% see through", through
        for error in (0.01, 0.03):
            yield (
                f"real {name[-3:]}, network off {error:.0%}",
                with_network_error(scene, seed, error),
            )


def measure(scene: GlassScene, method: Callable[[GlassScene], Line]) -> tuple[float, float, float]:
    """Relative error of the scale, of the objects' depth, and milliseconds."""
    method(scene)
    started = time.thread_time()
    line = method(scene)
    elapsed = time.thread_time() - started
    return abs(line[0] / scene.scale - 1), scene.object_error(*line), 1000 * elapsed


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="made-up scenes of each kind")
    parser.add_argument(
        "--shared",
        type=Path,
        default=Path(os.environ.get("DKT_SHARED", _ROOT.parent / "shared")),
        help="the folder that holds cleargrasp_d435/",
    )
    arguments = parser.parse_args()
    folder = arguments.shared / "cleargrasp_d435"
    if not folder.is_dir():
        print(f"no {folder}: the real scenes are left out; set --shared or DKT_SHARED")

    figures: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for seed in range(arguments.seeds):
        for name, scene in made_up(seed):
            for method, align in METHODS.items():
                row = figures.setdefault(name, {}).setdefault(method, [])
                row.append(measure(scene, align))
    if folder.is_dir():
        for seed in range(arguments.seeds):
            for name, scene in real(folder, seed):
                for method, align in METHODS.items():
                    row = figures.setdefault(name, {}).setdefault(method, [])
                    row.append(measure(scene, align))

    print(f"\nmean over {arguments.seeds} seeds: scale off / objects' depth off (REL), percent")
    print(f"{'':58}" + "".join(f"{method:>17}" for method in METHODS))
    for name, methods in figures.items():
        cells = []
        for rows in methods.values():
            scale, objects, _ = np.mean(rows, axis=0)
            cells.append(f"{100 * scale:8.2f} /{100 * objects:7.2f}")
        print(f"{name:58}" + "".join(cells))
    print(f"\n{'milliseconds a frame at 1280x720, median':58}", end="")
    for method in METHODS:
        times = [row[2] for methods in figures.values() for row in methods[method]]
        print(f"{np.median(times):17.1f}", end="")
    print()


if __name__ == "__main__":
    script(main)
