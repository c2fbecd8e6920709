"""The message types of ROS's releases, each made once: its code is generated at the first use."""

from __future__ import annotations

from functools import lru_cache

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore


@lru_cache
def types_of(release: Stores = Stores.LATEST) -> Typestore:
    """A release's types, to be read and written with, and not added to."""
    return get_typestore(release)
