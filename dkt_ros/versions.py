"""Which versions are installed, of this package and of others. Knows names of distributions."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata


def version_of(distribution: str) -> str:
    """As installed here; "" where it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)  # asked for with each message of diagnostics, and read from the disk
def own_version() -> str:
    """Of this package."""
    return version_of("dkt_ros") or "from sources"
