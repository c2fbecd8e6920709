"""Message types, of ROS's releases and a bag's own, made once: code is made at the first use."""

from __future__ import annotations

from functools import lru_cache

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore


@lru_cache
def types_of(release: Stores = Stores.LATEST) -> Typestore:
    """A release's types, to be read and written with, and not added to."""
    return get_typestore(release)


@lru_cache
def types_in(definition: str, msgtype: str) -> Typestore | None:
    """A type and those in it, by the definition (ROS 2's .msg) in a bag; None where it is none."""
    store = get_typestore(Stores.EMPTY)
    # Whatever rosbags raises on text that is no definition, or lacks a nested one.
    try:
        store.register(get_types_from_msg(definition, msgtype))
        store.generate_msgdef(msgtype, ros_version=2)
    except Exception:  # noqa: BLE001
        return None
    return store
