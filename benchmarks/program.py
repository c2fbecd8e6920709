"""How the scripts beside this one start. Knows nothing of what they measure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from dkt_ros.errors import DktError


def script(main: Callable[[], int | None]) -> NoReturn:
    """Ends with main's status; what is missing or cannot be written is one line."""
    try:
        sys.exit(main())
    except (DktError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
