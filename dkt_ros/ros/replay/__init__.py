"""The node that plays a recording."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dkt_ros.extras import advice


def main(argv: Sequence[str] | None = None) -> int:
    """dkt_replay: see `node.main`; returns 2 where what reads bags is not installed."""
    try:
        from dkt_ros.ros.replay.node import main as play
    except ModuleNotFoundError as error:
        if (remedy := advice(error)) is None:
            raise
        print(f"dkt_replay: {remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return play(argv)
