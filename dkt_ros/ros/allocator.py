"""What the C library does with memory that was freed. Knows glibc; nothing of who allocates.

An image's memory, given back to the system when it is freed and taken anew for the next one, costs
more than the copy into it: the system clears each page. On two cores that was a tenth of what a
depth image of 1280x720 costs a node beside its network.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 128 << 20
_LARGEST = 32 << 20
"""glibc takes no larger one; a cloud of 1280x720 has 28 MiB."""


def keep_freed_images() -> bool:
    """Blocks up to 32 MiB are used again, up to 128 MiB of them kept; False where it cannot be."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    both = ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _KEPT))
    return all(mallopt(option, size) for option, size in both)
