"""Metric depth of one RGB picture with its raw depth, without ROS.

    python examples/one_frame.py COLOR.png DEPTH.png OUTPUT.npz [--checkpoint DIR]

DEPTH is 16-bit millimetres, registered to COLOR. OUTPUT gets depth (metres, NaN unknown),
confidence (0 to 1) and source (0 nothing, 1 sensor, 2 network).
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from dkt_ros import DktError, frames_of, load_estimator


def main() -> None:
    """Runs the estimator that the node runs, with the node's defaults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("color", "depth", "output"):
        parser.add_argument(name)
    parser.add_argument("--checkpoint", default="", help="default: the embedded dkt-nano")
    args = parser.parse_args()
    color, millimetres = cv2.imread(args.color), cv2.imread(args.depth, cv2.IMREAD_UNCHANGED)
    if color is None or millimetres is None:
        raise SystemExit(f"{args.color if color is None else args.depth} is no readable picture")
    if millimetres.dtype != np.uint16:
        raise SystemExit(f"{args.depth} holds {millimetres.dtype}, expected 16-bit millimetres")
    try:
        estimator = load_estimator(checkpoint=args.checkpoint)
        rgb = np.asarray(color[..., ::-1], np.uint8)
        (frame,) = frames_of([(rgb, millimetres * 0.001)])
        estimate = estimator.push(frame)
        assert estimate is not None  # a stream's first frame has depth in every mode
        assert estimate.confidence is not None  # depth is fused by default
        np.savez_compressed(
            args.output,
            depth=estimate.depth,
            confidence=estimate.confidence,
            source=estimate.source,
        )
    except (DktError, OSError) as error:
        raise SystemExit(str(error)) from error
    alignment, shares = estimate.alignment, estimate.shares
    print(
        f"{alignment.state.name}: sensor {shares.sensor:.0%}, network {shares.network:.0%}, "
        f"residual {1000 * alignment.residual_m:.1f} mm",
        *filter(None, [alignment.reason]),
        sep="; ",
    )


if __name__ == "__main__":
    main()
