"""What is said of pairs that belong together and of pairs that do not; how soon; what it costs.

    python benchmarks/consistency.py --heldout DIR [--colour] [--kept DIR] [--shared FOLDER]

Rendered held-out scenes with raw depth (`dkt synth render --pool held-out --raw-depth`), each with
its own depth and ten of them with each other's, as static scenes of five noisy frames; the real
scenes of the shared folder (ClearGrasp's and LingBot's); own pairs in other light and of other
sensors (train/fusion/spoiled.py); and the demo's recording, its camera moving, with faults from the
first frame and in mid stream. The network is the embedded checkpoint,
its disparity kept in `--kept`; with --colour it is not shown the raw depth. Everything runs on one
thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "test")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from fixtures.fused_scenes import read_frames as read_real  # noqa: E402
from fixtures.judging import Judge  # noqa: E402

import dkt_ros  # noqa: E402
from benchmarks.program import script  # noqa: E402
from demo.recorded import read_frames  # noqa: E402
from demo.stamps import header_stamp_ns  # noqa: E402
from dkt_ros.bags.reader import BagReader  # noqa: E402
from dkt_ros.bags.topics import discover_topics  # noqa: E402
from dkt_ros.fusion.consistency import Verdict  # noqa: E402
from dkt_ros.geometry import disparity_of  # noqa: E402
from dkt_ros.train.fusion.frames import FrameFolder, Predict, checkpoint_predictor  # noqa: E402
from dkt_ros.train.fusion.spoiled import spoiled_colours, spoiled_readings  # noqa: E402

Frame = tuple[np.ndarray, np.ndarray, np.ndarray]
"""rgb, raw depth, disparity."""
Change = Callable[[np.ndarray], np.ndarray]

SCENES = 10
FRAMES = 5
MOVING = 20
SPOILED = 12
PERIOD_NS, CAMERA_NS = 200_000_000, 33_333_333
SCORES = ("log_odds", "gain", "edges")


def static(rgb: np.ndarray, raw: np.ndarray, disparity: np.ndarray, on_scale: bool) -> Verdict:
    """After a second of one scene with a camera's noise; raw is brought to the picture's size."""
    rng = np.random.default_rng(0)
    height, width = rgb.shape[:2]
    raw = cv2.resize(raw, (width, height), interpolation=cv2.INTER_NEAREST)
    judge = Judge(on_scale=on_scale)
    for index in range(FRAMES):
        noisy = np.clip(rgb + rng.normal(0, 1, rgb.shape), 0, 255).astype(np.uint8)
        depth = raw * (1 + 0.002 * rng.standard_normal(raw.shape))
        verdict = judge.update(noisy, depth, disparity, index * PERIOD_NS)
    return verdict


def print_spoiled(name: str, scenes: list[Frame], predict: Predict, on_scale: bool) -> None:
    """Own pairs, in so many other lights and as so many other sensors have them."""
    found = []
    for number, (rgb, raw, _) in enumerate(scenes):
        size = rgb.shape[1::-1]
        wide = cv2.resize(raw, size, interpolation=cv2.INTER_NEAREST)
        for seed in range(SPOILED):
            rng = np.random.default_rng([number, seed])
            colours, readings = rgb, disparity_of(np.asarray(wide, np.float32))
            if seed % 2:
                colours = spoiled_colours(rgb, rng)
            else:
                readings = spoiled_readings(readings, rng)
            depth = disparity_of(readings)
            found.append(static(colours, depth, predict(colours, depth), on_scale))
    row(name, found)


def row(name: str, verdicts: list[Verdict]) -> None:
    """Prints one kind of pair."""
    refused = sum(verdict.certain for verdict in verdicts)
    warned = sum(bool(verdict.suspicions) for verdict in verdicts) - refused
    print(f"{name}: {len(verdicts)} pairs, {refused} refused, {warned} warned of", end="; ")
    print(dict(Counter(one.cause for verdict in verdicts for one in verdict.suspicions)))
    for score in SCORES:
        values = [verdict.scores[score] for verdict in verdicts if score in verdict.scores]
        if not values:
            continue
        low, tenth, median, ninetieth, high = np.nanquantile(values, (0.02, 0.1, 0.5, 0.9, 0.98))
        print(
            f"  {score:10s} 2% {low:6.2f}  10% {tenth:6.2f}  median {median:6.2f}  "
            f"90% {ninetieth:6.2f}  98% {high:6.2f}"
        )


def real(shared: Path, predict: Predict) -> list[Frame]:
    """ClearGrasp's and LingBot's scenes, at 640 px width."""
    pairs = [(one.rgb, one.raw) for one in read_real(shared / "cleargrasp_d435")]
    for folder in sorted((shared / "lingbot_scenes").glob("[0-9]*")):
        picture = cv2.imread(str(next(folder.glob("rgb.*"))))
        depth = cv2.imread(str(folder / "raw_depth.png"), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert depth is not None
        pairs.append((np.ascontiguousarray(picture[..., ::-1]), depth.astype(np.float32) / 1000))
    frames = []
    for rgb, raw in pairs:
        size = 640, rgb.shape[0] * 640 // rgb.shape[1]
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        wide = raw.astype(np.float32)
        shown = cv2.resize(wide, size, interpolation=cv2.INTER_NEAREST)
        frames.append((small, wide, predict(small, np.asarray(shown, np.float32))))
    return frames


def demo(predict: Predict) -> list[Frame]:
    """The first frames of the demo's recording."""
    with BagReader(Path(dkt_ros.__file__).parent / "assets" / "demo" / "glassware") as bag:
        topics = discover_topics(bag.topics)
        stamps = [header_stamp_ns(message.cdr) for message in bag.messages([topics.color])]
        recorded = list(read_frames(bag, topics, stamps[:MOVING]))
    return [
        (one.rgb, one.raw_depth, predict(one.rgb, one.raw_depth))
        for one in recorded
        if one.raw_depth is not None
    ]


def moved(factor: float, dx: int = 0, dy: int = 0) -> Change:
    """Zoomed about the middle, then shifted."""

    def change(raw: np.ndarray) -> np.ndarray:
        height, width = raw.shape
        to = np.array([[factor, 0, dx], [0, factor, dy]], np.float64)
        to[:, 2] += (1 - factor) * width / 2, (1 - factor) * height / 2
        return cv2.warpAffine(raw, to, (width, height), flags=cv2.INTER_NEAREST)

    return change


def faults() -> dict[str, tuple[Change | None, Change | None]]:
    """Name: what becomes of colour, of raw depth."""
    rng = np.random.default_rng(0)
    result: dict[str, tuple[Change | None, Change | None]] = {"none": (None, None)}
    for far in (10, 20, 40):
        for word, x, y in (("right", 1, 0), ("left", -1, 0), ("down", 0, 1), ("up", 0, -1)):
            result[f"depth {far} px {word}"] = None, moved(1.0, far * x, far * y)
    return result | {
        "depth zoomed 1.3": (None, moved(1.3)),
        "depth zoomed 0.75": (None, moved(0.75)),
        "depth mirrored": (None, lambda raw: raw[:, ::-1].copy()),
        "depth x 4": (None, lambda raw: raw * 4),
        "depth x 100": (None, lambda raw: raw * 100),
        "colour black": (np.zeros_like, None),
        "colour grey": (lambda rgb: np.full_like(rgb, 128), None),
        "colour x 0.05": (lambda rgb: (rgb * 0.05).astype(np.uint8), None),
        "colour noise": (lambda rgb: rng.integers(0, 256, rgb.shape).astype(np.uint8), None),
    }


def told(frames: list[Frame], start: int, on_scale: bool) -> str:
    """When and what was said first of a fault that begins with frame `start`, in words."""
    judge = Judge(on_scale=on_scale)
    said: dict[tuple[str, bool], str] = {}
    for index, frame in enumerate(frames):
        verdict = judge.update(*frame, index * PERIOD_NS)
        for one in verdict.suspicions:
            what = f"{one.cause}{'' if one.certain else '?'} after {index - start + 1}"
            if one.cause == "shifted":
                x, y = verdict.scores["shift_x_px"], verdict.scores["shift_y_px"]
                what += f" ({x:+.0f}, {y:+.0f} px)"
            said.setdefault((one.cause, one.certain), what)
    return ", ".join(said.values()) or "nothing"


def print_moving(frames: list[Frame], on_scale: bool) -> None:
    """Faults of the demo's stream, from its first frame and from the ninth."""
    print("\nmoving camera, frames until it is said; '?': a warning")
    held = {"depth frozen": (False, True), "colour frozen": (True, False)}
    for start in (0, 8):
        for name, (colour, depth) in faults().items():
            broken = [
                (colour(rgb) if colour else rgb, depth(raw) if depth else raw, disparity)
                for rgb, raw, disparity in frames[start:]
            ]
            print(f"  from frame {start}, {name}: {told(frames[:start] + broken, start, on_scale)}")
        for name, (is_colour, is_depth) in held.items():
            rgb, raw, disparity = frames[start]
            broken = [
                (rgb if is_colour else a, raw if is_depth else b, disparity if is_colour else c)
                for a, b, c in frames[start:]
            ]
            print(f"  from frame {start}, {name}: {told(frames[:start] + broken, start, on_scale)}")


def print_cost(frames: list[Frame], on_scale: bool) -> None:
    """Processor time of a 1280x720 frame at 30 Hz, aligning and fusing included."""
    large = [
        (
            np.asarray(cv2.resize(rgb, (1280, 720)), np.uint8),
            np.asarray(cv2.resize(raw, (1280, 720)), np.float32),
            np.asarray(cv2.resize(disparity, (1280, 720)), np.float32),
        )
        for rgb, raw, disparity in frames
    ]
    runs = []
    for _ in range(3):
        judge, took = Judge(on_scale=on_scale), []
        for index, frame in enumerate(large):
            begun = time.process_time()
            judge.update(*frame, index * CAMERA_NS)
            took.append(1e3 * (time.process_time() - begun))
        runs.append(took)
    best = np.min(runs, axis=0)
    print(
        f"\n1280x720: {best[:4].mean():.1f} ms for each of the first four frames, then "
        f"{best[4:].mean():.1f} ms on average, {best[4:].max():.1f} ms at most"
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heldout", type=Path, required=True, help="rendered sequences (*.tar)")
    parser.add_argument("--colour", action="store_true", help="the network sees colour alone")
    parser.add_argument("--kept", type=Path, help="folder of predicted disparity")
    parser.add_argument("--shared", type=Path, help="folder with real scenes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    predict, on_scale = checkpoint_predictor(show_depth=not arguments.colour)
    with tempfile.TemporaryDirectory() as temporary:
        kept = arguments.kept or Path(temporary)
        folder = FrameFolder(arguments.heldout, predict, kept, failings=int(on_scale))
    scenes: dict[str, Frame] = {}
    own = []
    for frame in folder.frames:
        raw = np.divide(
            1, frame.disparity, out=np.zeros_like(frame.disparity), where=frame.disparity > 0
        )
        scenes.setdefault(frame.name, (frame.rgb, raw, frame.relative))
        own.append(static(frame.rgb, raw, frame.relative, on_scale))
    row("own, rendered", own)
    ten = list(scenes.values())[:SCENES]
    row(
        "foreign, rendered",
        [static(a[0], b[1], a[2], on_scale) for a in ten for b in ten if a is not b],
    )
    print_spoiled("own in other light, of other sensors, rendered", ten, predict, on_scale)
    if arguments.shared:
        found = real(arguments.shared, predict)
        row("own, real", [static(*frame, on_scale) for frame in found])
        foreign = [static(a[0], b[1], a[2], on_scale) for a in found for b in found if a is not b]
        row("foreign, real", foreign)
        print_spoiled("own in other light, of other sensors, real", found, predict, on_scale)
    frames = demo(predict)
    print_moving(frames, on_scale)
    print_cost(frames, on_scale)


if __name__ == "__main__":
    script(main)
