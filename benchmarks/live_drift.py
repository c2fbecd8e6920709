"""Whether a live stream goes on saying what it says at first: 300 frames, standing and moving.

    python benchmarks/live_drift.py [--checkpoint DIR] [--clip 0 2] [--output F.json]

Of every answer: the correlation of its disparity with the network's answer to that frame alone,
and its spread, the standard deviation. Standing: one picture repeated, so that the first answer is
the reference throughout. Moving: the demo's 30 frames forth and back. `--clip` tries clips other
than the checkpoint's (`clip` in dkt.json); 0: the stream is one clip. Seconds are this process's
own, on one thread, a frame.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

from benchmarks.program import script  # noqa: E402
from dkt_ros.arguments import natural, positive, size  # noqa: E402
from dkt_ros.bags.reader import BagReader  # noqa: E402
from dkt_ros.bags.topics import camera_topics  # noqa: E402
from dkt_ros.messages.compressed_images import compressed_to_rgb  # noqa: E402
from dkt_ros.model.live_options import PRESETS, LiveOptions  # noqa: E402
from dkt_ros.model.streaming_network import StreamingNetwork  # noqa: E402
from dkt_ros.predict.load import load_predictor  # noqa: E402
from dkt_ros.predict.options import PredictorOptions  # noqa: E402
from dkt_ros.predict.stream import LivePredictor, StreamPredictor  # noqa: E402

DEMO = _ROOT / "dkt_ros" / "assets" / "demo" / "glassware"
COLUMNS = 9


@dataclass(frozen=True)
class Curve:
    """One stream: frame, correlation and spread of each of its answers."""

    clip: int
    preset: str
    scene: str
    seconds_per_frame: float
    frames: list[int]
    correlation: list[float]
    spread: list[float]

    def row(self) -> str:
        """At about COLUMNS frames, correlation/spread, and the worst correlation of all."""
        chosen = range(0, len(self.frames), max(1, len(self.frames) // COLUMNS))
        cells = " ".join(
            f"{self.frames[i]}:{self.correlation[i]:.2f}/{self.spread[i]:.2f}" for i in chosen
        )
        head = f"{self.clip:4} {self.preset:8} {self.scene:8} {self.seconds_per_frame:7.3f}"
        return f"{head} {min(self.correlation):7.2f}  {cells}"


def demo_frames() -> list[np.ndarray]:
    """The colour pictures of the demo's bag."""
    with BagReader(DEMO) as bag:
        topic = camera_topics(bag).color
        messages = [deserialize_message(m.cdr, CompressedImage) for m in bag.messages([topic])]
    return [compressed_to_rgb(message) for message in messages]


def alone(network: StreamingNetwork, pictures: Sequence[np.ndarray], options: LiveOptions) -> list:
    """Disparity of each picture as the only one of its stream."""
    live = LivePredictor(network, options)
    found = []
    for picture in pictures:
        live.reset()
        answer = live.push(picture)
        assert answer is not None
        found.append(answer.disparity)
    return found


def curve(
    network: StreamingNetwork,
    options: LiveOptions,
    pictures: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    names: tuple[str, str],
) -> Curve:
    """A stream of pictures, each with what is said of it alone."""
    live = LivePredictor(network, options)
    rows = []
    started = time.process_time()
    for index, (picture, reference) in enumerate(zip(pictures, references, strict=True)):
        answer = live.push(picture)
        if answer is not None:
            disparity = answer.disparity
            correlation = float(np.corrcoef(reference.ravel(), disparity.ravel())[0, 1])
            rows.append((index, round(correlation, 4), round(float(disparity.std()), 4)))
    seconds = (time.process_time() - started) / len(pictures)
    frames, correlations, spreads = (list(column) for column in zip(*rows, strict=True))
    return Curve(network.info.clip, *names, round(seconds, 5), frames, correlations, spreads)


def main() -> None:
    """Prints one line for each clip length, preset and scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--clip", type=natural, nargs="*", metavar="LATENTS")
    parser.add_argument("--preset", choices=tuple(PRESETS), nargs="*", default=list(PRESETS))
    parser.add_argument("--steps", type=positive)
    parser.add_argument("--size", type=size, default=(96, 160))
    parser.add_argument("--frames", type=positive, default=300)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    predictor = load_predictor(
        PredictorOptions(checkpoint=args.checkpoint, mode="live", device="cpu")
    )
    assert isinstance(predictor, StreamPredictor)
    network = predictor.network
    info = network.info
    pictures = demo_frames()
    period = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    moving = [period[i % len(period)] for i in range(args.frames)]
    scenes = {"standing": [0] * args.frames, "moving": moving}
    changes = {"size": args.size, "steps": args.steps, "scene_cut": None}
    references = alone(network, pictures, LiveOptions(**changes))
    curves = []
    print("clip preset   scene    s/frame   worst  frame:correlation/spread")
    for clip in [info.clip] if args.clip is None else args.clip:
        network.info = dataclasses.replace(info, clip=clip)  # type: ignore[misc]
        for preset in args.preset:
            options = LiveOptions.preset(preset, **changes)
            for scene, order in scenes.items():
                shown = [pictures[i] for i in order], [references[i] for i in order]
                curves.append(curve(network, options, *shown, (preset, scene)))
                print(curves[-1].row(), flush=True)
    if args.output:
        about = {
            "checkpoint": info.name,
            "size": args.size,
            "steps": args.steps or info.steps,
            "torch": torch.__version__,
        }
        content = about | {"curves": [dataclasses.asdict(entry) for entry in curves]}
        args.output.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    script(main)
