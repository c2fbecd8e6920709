"""What the training tests share: one thread, and tiny checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fixtures.tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that tests read and never change; an image branch, several tokens."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"), image_branch=True)
