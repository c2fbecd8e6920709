"""What the training tests share: one thread, tiny checkpoints, and a disk that is full."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from fixtures.one_thread import one_thread as one_thread
from fixtures.tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that tests read and never change; an image branch, several tokens."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"), image_branch=True)


LimitFiles = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def limit_files() -> LimitFiles:
    """Makes the system refuse, as a full disk would, what goes beyond so many bytes of a file."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with ExitStack() as undo:
            undo.callback(signal.signal, signal.SIGXFSZ, signal.getsignal(signal.SIGXFSZ))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            undo.callback(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            yield

    return limited
