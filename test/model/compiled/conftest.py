"""What the tests of engines share: one engine of the tiny network."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import suppress

import pytest
from fixtures.tiny_engines import engine as engine
from fixtures.tiny_engines import tiny_engine as tiny_engine
from fixtures.tiny_engines import tiny_request as tiny_request


@pytest.fixture(scope="session", autouse=True)
def _operators_are_read_once() -> Iterator[None]:
    """The exporter reads the sources of all operators again for every graph: a second of each."""
    with pytest.MonkeyPatch.context() as patch:
        with suppress(ImportError, AttributeError):
            module = importlib.import_module("torch.onnx._internal.exporter._registration")
            read = functools.cache(module.ONNXRegistry.from_torchlib)
            patch.setattr(module.ONNXRegistry, "from_torchlib", staticmethod(read))
        yield
