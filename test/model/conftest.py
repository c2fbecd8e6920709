"""What the model's tests share: one thread, and one tiny checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.one_thread import one_thread as one_thread
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.network import DktNetwork


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that tests read and never change."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_network(tiny_checkpoint: Path) -> DktNetwork:
    """The network of that checkpoint."""
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="session")
def plain_network(tiny_checkpoint: Path) -> DktNetwork:
    """The same weights in diffusers' own layers."""
    return load_checkpoint(tiny_checkpoint, plain=True)
