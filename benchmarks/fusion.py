"""Ways to join sensor depth and a network's disparity, side by side: error, confidence, time.

    python benchmarks/fusion.py --heldout DIR [--colour] [--shared FOLDER] [--weights DIR]
                                [--calibrate]

Rendered held-out scenes with raw depth (`dkt synth render --pool held-out --raw-depth`), half of
them set aside for the calibration of confidence, and the real ClearGrasp scenes. The network is a
checkpoint, shown raw depth if it can be and not --colour, or the truth degraded as networks err
that see colour alone, or by smooth errors alone. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT)]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.program import script  # noqa: E402
from dkt_ros.alignment.aligner import Aligner, Alignment, align_depth  # noqa: E402
from dkt_ros.datasets.registry import open_dataset  # noqa: E402
from dkt_ros.evaluation.confidence import calibration_error, confidence_errors  # noqa: E402
from dkt_ros.evaluation.local_lines import (  # noqa: E402
    LOCAL_LINES,
    agreeing,
    at_working_size,
    local_depth,
    with_readings,
)
from dkt_ros.fusion.confidence import Calibration  # noqa: E402
from dkt_ros.fusion.config import FusionConfig  # noqa: E402
from dkt_ros.fusion.fused import Fused  # noqa: E402
from dkt_ros.fusion.fuser import Fuser  # noqa: E402
from dkt_ros.fusion.network import INFO_FILE, read_refiner  # noqa: E402
from dkt_ros.fusion.weights import default_weights  # noqa: E402
from dkt_ros.geometry import disparity_of, nearest_fill  # noqa: E402
from dkt_ros.train.fusion.config import PredictionConfig  # noqa: E402
from dkt_ros.train.fusion.frames import (  # noqa: E402
    FrameFolder,
    Predict,
    TrainingFrame,
    checkpoint_predictor,
)
from dkt_ros.train.fusion.samples import degraded  # noqa: E402
from dkt_ros.train.sensor import smooth_noise  # noqa: E402

RANGE = (0.1, 10.0)


@dataclass(frozen=True, eq=False)
class Case:
    """One frame: raw and truth (H, W) metres NaN unknown, classes, disparity and its alignment.

    on_scale: the disparity is of a network that was shown the raw depth.
    """

    name: str
    rgb: np.ndarray
    raw: np.ndarray
    truth: np.ndarray
    classes: np.ndarray
    disparity: np.ndarray | None
    alignment: Alignment | None
    on_scale: bool


def global_affine(case: Case) -> np.ndarray:
    """One scale and shift for the whole picture: the node without fusion."""
    if case.disparity is None or case.alignment is None:
        return np.full(case.raw.shape, np.nan, np.float32)
    return align_depth(case.disparity, case.alignment, *RANGE)


def fill(case: Case) -> np.ndarray:
    """The raw depth, its holes taking the nearest reading."""
    return nearest_fill(case.raw)


def _is_aligned(case: Case) -> bool:
    if case.disparity is None or case.alignment is None:
        return False
    return bool(np.isfinite(case.alignment.scale))


def harmonic(case: Case) -> np.ndarray:
    """Screened Poisson: a correction of 1/z on a coarse grid, stiff but over disparity's edges."""
    if not _is_aligned(case) or case.disparity is None or case.alignment is None:
        return fill(case)
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.linalg import spsolve

    readings, predicted = at_working_size(case.disparity, case.alignment, case.raw)
    good = agreeing(readings, predicted)
    index = np.arange(readings.size).reshape(readings.shape)
    rows, columns, values = [], [], []
    total = good.astype(float)
    for a, b, p, q in (
        (index[:, 1:], index[:, :-1], predicted[:, 1:], predicted[:, :-1]),
        (index[1:], index[:-1], predicted[1:], predicted[:-1]),
    ):
        weight = 4.0 * np.exp(-np.square((p - q) / (0.03 * np.minimum(p, q)))) + 1e-3
        rows += [a.ravel(), b.ravel()]
        columns += [b.ravel(), a.ravel()]
        values += [-weight.ravel(), -weight.ravel()]
        np.add.at(total.ravel(), a.ravel(), weight.ravel())
        np.add.at(total.ravel(), b.ravel(), weight.ravel())
    rows.append(index.ravel())
    columns.append(index.ravel())
    values.append(total.ravel() + 1e-6)
    joined = [np.concatenate(part) for part in (values, rows, columns)]
    matrix = csr_array(coo_array((joined[0], (joined[1], joined[2]))))
    right = (good * (readings - predicted)).ravel()
    correction = spsolve(matrix.tocsc(), right).reshape(readings.shape)
    return with_readings(case.raw, predicted + correction, good)


def local(name: str) -> Callable[[Case], np.ndarray]:
    """A method of LOCAL_LINES."""

    def run(case: Case) -> np.ndarray:
        if not _is_aligned(case) or case.disparity is None:
            return fill(case)
        return local_depth(LOCAL_LINES[name], case.disparity, case.alignment, case.raw)

    return run


def real_cases(folder: Path, predict: Predict, sees_depth: bool) -> Iterator[Case]:
    """The real scenes."""
    for clip in open_dataset(folder).clips:
        for index in range(len(clip)):
            sample = clip.read(index)
            assert sample.raw_depth is not None
            assert sample.mask is not None
            disparity = predict(sample.rgb, sample.raw_depth)
            alignment = Aligner().update(disparity, sample.raw_depth, on_scale=sees_depth)
            yield Case(
                f"real {clip.keys[index]}",
                sample.rgb,
                sample.raw_depth,
                sample.depth,
                sample.mask,
                disparity,
                alignment,
                sees_depth,
            )


def rendered_case(frame: TrainingFrame, name: str) -> Case:
    """A rendered frame."""
    with np.errstate(divide="ignore"):
        raw, truth = (
            np.where(inv > 0, 1 / inv, np.nan).astype(np.float32)
            for inv in (frame.disparity, frame.truth)
        )
    on_scale = frame.beside is not None
    alignment = Aligner().update(frame.relative, raw, on_scale=on_scale)
    return Case(name, frame.rgb, raw, truth, frame.classes, frame.relative, alignment, on_scale)


def with_network(case: Case, predicted: np.ndarray) -> Case:
    """The same frame with another network's disparity, on any scale."""
    relative = (predicted - predicted.min()) / np.ptp(predicted)
    alignment = Aligner().update(relative, case.raw)
    return replace(case, disparity=relative, alignment=alignment, on_scale=False)


def with_made_up_network(case: Case, seed: int) -> Case:
    """The same frame with the truth, degraded, for the network's disparity."""
    truth = disparity_of(case.truth)
    frame = TrainingFrame("", case.rgb, truth, truth, case.classes, truth, 1.0, 0.0)
    size = max(1.0, case.raw.shape[0] / 160)
    config = PredictionConfig(blur_px=4.0 * size)
    return with_network(case, degraded(frame, np.random.default_rng(seed), config))


def with_smooth_errors(case: Case, error: float, seed: int) -> Case:
    """The same frame with the truth for the network's disparity, off by that (relative) alone."""
    truth = disparity_of(case.truth)
    truth[truth == 0] = np.median(truth[truth > 0])
    rng = np.random.default_rng(seed)
    wrong = truth * np.exp(error * smooth_noise(truth.shape, rng, int(rng.integers(3, 13))))
    return with_network(case, wrong)


def fuse(fuser: Fuser, case: Case) -> Fused:
    """The frame by itself."""
    fuser.reset()
    return fuser.fuse(case.rgb, case.raw, case.disparity, case.alignment, 0, case.on_scale)


def regions(case: Case) -> dict[str, np.ndarray]:
    """What is measured apart."""
    rest = case.classes == 0
    return {
        "transparent": case.classes == 1,
        "reflective": case.classes == 2,
        "rest, raw": rest & np.isfinite(case.raw),
        "rest": rest,
    }


def rel(depth: np.ndarray, case: Case, where: np.ndarray) -> float:
    """Mean relative error in percent, NaN where there is nothing to compare."""
    used = where & np.isfinite(depth) & np.isfinite(case.truth)
    if not used.any():
        return float("nan")
    return 100 * float(np.mean(np.abs(depth[used] - case.truth[used]) / case.truth[used]))


def table(title: str, cases: list[Case], fusers: dict[str, Fuser], each: bool = False) -> None:
    """REL of every method in every region, mean over the frames."""
    methods: dict[str, Callable[[Case], np.ndarray]] = {
        "raw": lambda case: case.raw,
        "nearest fill": fill,
        "global affine": global_affine,
        "harmonic 1/z": harmonic,
        "kNN affine": local("kNN"),
        "patches": local("patches"),
    }
    for name, fuser in fusers.items():
        methods[name] = lambda case, fuser=fuser: fuse(fuser, case).depth  # type: ignore[misc]
    print(f"\n{title}: REL in %, {len(cases)} frames")
    names = list(regions(cases[0]))
    scenes = [case.name for case in cases] if each else []
    print(
        f"{'':26}" + "".join(f"{n:>13}" for n in names) + "".join(f"{n[-9:]:>11}" for n in scenes)
    )
    found: dict[str, np.ndarray] = {}

    def show(name: str, numbers: np.ndarray) -> None:
        present = np.isfinite(numbers)
        means = np.where(present, numbers, 0).sum(0) / np.maximum(present.sum(0), 1)
        cells = "".join(f"{value:13.2f}" for value in means)
        single = "".join(f"{row[0]:11.2f}" for row in numbers) if each else ""
        print(f"{name:26}{cells}{single}", flush=True)

    for method, run in methods.items():
        rows = []
        for case in cases:
            depth = run(case)
            rows.append([rel(depth, case, where) for where in regions(case).values()])
        found[method] = np.array(rows)
        show(method, found[method])
    there = np.isfinite(found["global affine"]).any(axis=1)
    if 0 < np.count_nonzero(there) < len(cases):
        print(f"of the {np.count_nonzero(there)} frames in which the affine is known:")
        for name in ("nearest fill", "global affine", *fusers):
            show(f"  {name}", np.where(there[:, None], found[name], np.nan))


def confidence(title: str, cases: list[Case], fuser: Fuser) -> None:
    """Expected calibration error, AUSE and the error of the half that is trusted most."""
    tolerance = fuser.config.tolerance
    print(f"\n{title}: confidence, {len(cases)} frames")
    for region in ("all", "transparent"):
        parts = []
        for case in cases:
            fused = fuse(fuser, case)
            where = np.isfinite(case.truth) & np.isfinite(fused.depth)
            if region != "all":
                where &= case.classes == 1
            error = np.abs(fused.depth - case.truth)[where] / case.truth[where]
            parts.append(np.stack([error, fused.confidence[where]])[:, ::3])
        error, sure = np.concatenate(parts, axis=1)
        found = confidence_errors(error, sure, tolerance)
        ece = calibration_error(found.bin_confidence, found.bin_within)
        deciles = [f"{100 * part:.1f}" for part in found.rel_by_decile]
        print(
            f"{region:12} ECE {ece:.3f}  AUSE {100 * found.ause:.2f}%  "
            f"all {100 * error.mean():.2f}%  "
            f"most trusted half {100 * found.trusted_half_rel:.2f}%  "
            f"within {sum(found.bin_within):.2f}  deciles {' '.join(deciles)}"
        )


def calibrate(cases: list[Case], folder: Path, tolerance: float) -> None:
    """Fits the calibration of confidence and writes it into the weights' refiner.json."""
    path = folder / INFO_FILE
    info = json.loads(path.read_text(encoding="utf-8"))
    info.pop("calibration", None)
    path.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    fuser = Fuser(FusionConfig(tolerance=tolerance, weights=folder))
    foretold, right = [], []
    for case in cases:
        fused = fuse(fuser, case)
        where = np.isfinite(case.truth) & np.isfinite(fused.depth)
        error = np.abs(fused.depth - case.truth)[where] / case.truth[where]
        # Uncalibrated, the confidence is 1 - exp(-tolerance / mean): back to that mean.
        mean = -tolerance / np.log1p(-np.clip(fused.confidence[where], 1e-6, 1 - 1e-6))
        foretold.append(np.log(mean))
        right.append(error < tolerance)
    fitted = Calibration.fitted(np.concatenate(foretold), np.concatenate(right), tolerance)
    info["calibration"] = fitted.to_json()
    path.write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    print(f"calibrated on {len(cases)} frames: {path}")


def timing(case: Case, fusers: dict[str, Fuser]) -> None:
    """Milliseconds of this process on one thread."""
    for name, fuser in fusers.items():
        times = []
        for stamp in range(25):
            started = time.thread_time()
            fuser.fuse(case.rgb, case.raw, case.disparity, case.alignment, stamp, case.on_scale)
            times.append(1000 * (time.thread_time() - started))
        height, width = case.raw.shape
        print(
            f"{name:26}{np.median(times[5:]):7.1f} ms median, {min(times):.1f} least, at "
            f"{width}x{height}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints the tables. Raises DktError for scenes or weights that are none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heldout", type=Path, help="folder of rendered scenes")
    parser.add_argument("--checkpoint", default="", metavar="DIR", help="(the embedded one)")
    parser.add_argument("--disparity", type=Path, help="the network's disparity is kept here")
    parser.add_argument("--colour", action="store_true", help="the network sees colour alone")
    parser.add_argument("--weights", type=Path, help="(the package's own)")
    parser.add_argument("--calibrate", action="store_true", help="writes into --weights")
    parser.add_argument(
        "--shared",
        type=Path,
        default=Path(os.environ.get("DKT_SHARED", _ROOT.parent / "shared")),
        help="the folder that holds cleargrasp_d435/",
    )
    arguments = parser.parse_args(argv)
    if arguments.calibrate and (arguments.heldout is None or arguments.weights is None):
        parser.error("--calibrate learns from --heldout and writes to --weights: name both")
    if arguments.weights is not None:
        read_refiner(arguments.weights)  # sound, before minutes of disparity
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    predict, sees_depth = checkpoint_predictor(arguments.checkpoint, not arguments.colour)
    weights = arguments.weights or default_weights(sees_depth)
    rendered: list[Case] = []
    if arguments.heldout is not None:
        name = "disparity" if sees_depth else "disparity-colour"
        kept = arguments.disparity or arguments.heldout / name
        folder = FrameFolder(arguments.heldout, predict, kept, failings=int(sees_depth))
        names = sorted({frame.name for frame in folder.frames})
        apart = set(names[::2])
        if arguments.calibrate:
            cases = [
                rendered_case(frame, frame.name) for frame in folder.frames if frame.name in apart
            ]
            if sees_depth:
                cases += [replace(case, disparity=None) for case in cases[::2]]
            else:  # without a network, the other weights decide
                cases += [with_made_up_network(case, seed) for seed, case in enumerate(cases)]
            calibrate(cases, weights, FusionConfig().tolerance)
        rendered = [rendered_case(f, f.name) for f in folder.frames if f.name not in apart]
    refiner = Fuser(FusionConfig(weights=arguments.weights or ""))
    fusers = {"membrane": Fuser(FusionConfig(method="membrane")), "refiner": refiner}
    real: list[Case] = []
    folder_of_real = arguments.shared / "cleargrasp_d435"
    if folder_of_real.is_dir():
        real = list(real_cases(folder_of_real, predict, sees_depth))
    else:
        print(f"no {folder_of_real}: the real scenes are left out; set --shared or DKT_SHARED")
    for title, cases, each in (("real", real, True), ("rendered, held out", rendered, False)):
        if not cases:
            continue
        table(f"{title}, with the network", cases, fusers, each)
        alone = [replace(case, disparity=None) for case in cases]
        table(f"{title}, no network", alone, {"refiner": refiner}, each)
        draws = range(12 if each else 1)  # two scenes alone would tell of two draws
        made_up = [with_made_up_network(c, 100 * n + i) for n in draws for i, c in enumerate(cases)]
        table(f"{title}, truth degraded for a network", made_up, fusers)
        for error in () if sees_depth else (0.0, 0.03, 0.06):
            seeds = [100 * n for n in range(3 if each and error else 1)]
            better = [
                with_smooth_errors(c, error, s + i) for s in seeds for i, c in enumerate(cases)
            ]
            table(f"{title}, truth off by {error:.0%} for a network", better, fusers)
        confidence(title, cases, refiner)
        confidence(f"{title}, truth degraded", made_up, refiner)
        timing(cases[0], fusers)


if __name__ == "__main__":
    script(main)
