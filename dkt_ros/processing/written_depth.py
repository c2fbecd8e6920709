"""Depth that `dkt process` has written, read back one frame at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dkt_ros.bags.reader import BagReader, decoded
from dkt_ros.errors import DktError
from dkt_ros.files import shown
from dkt_ros.formats.pictures import natural_key
from dkt_ros.formats.pixels import read_depth
from dkt_ros.messages.fields import stamp_to_ns
from dkt_ros.messages.images import image_to_depth
from dkt_ros.processing.one import BAG

_EXACT_FIRST = ("npz", "contact_graspnet", "exr", "png")


def written_depth(folder: Path) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Stamp and depth (H, W) metres, NaN unknown, in the recording's order.

    folder: a recording's output. From the bag, else from the most exact files. Raises DktError
    where there is neither.
    """
    if (folder / BAG).is_dir():
        with BagReader(folder / BAG) as bag:
            for message in bag.messages(["/dkt/depth"]):
                value = decoded(message)
                yield stamp_to_ns(value.header.stamp), image_to_depth(value)
        return
    for kind in _EXACT_FIRST:
        files = sorted(shown(folder / kind, "*_*.*"), key=natural_key)
        for file in files:
            yield int(file.stem.partition("_")[2]), read_depth(file)
        if files:
            return
    raise DktError(f"{folder}: holds neither a bag nor depth files; process with --format bag")
