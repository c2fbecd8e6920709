"""What the training tests share: one thread, and tiny checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.one_thread import one_thread as one_thread
from fixtures.tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that tests read and never change; an image branch, several tokens."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"), image_branch=True)
