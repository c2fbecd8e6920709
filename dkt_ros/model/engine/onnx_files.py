"""Graphs as files that share one file of weights.

The step's graphs for several windows hold the same 2.6 GB (1.3B in bfloat16), which is beyond what
one protobuf may hold and too much to keep several times. So large tensors stand in `weights.bin`,
each value once, and the graphs name it as ONNX external data. Knows onnx_ir; nothing of networks.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

WEIGHTS_FILE = "weights.bin"
ALIGNMENT = 4096
"""Bytes; a page, so that the file can be mapped."""
SMALLEST = 1024
"""Bytes from which a tensor stands in the weights file; smaller ones stay in the graph."""


class GraphFolder:
    """Writes graphs into a folder; a context manager, for the weights file stays open."""

    def __init__(self, folder: Path, smallest: int = SMALLEST) -> None:
        self._folder, self._smallest = folder, smallest
        self._known: dict[tuple[str, int], int] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> GraphFolder:
        self._file = (self._folder / WEIGHTS_FILE).open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, model: Any, name: str) -> str:
        """Writes an onnx_ir.Model as `name`.onnx, and what is new of its weights; the file's name.

        The model refers to the weights file afterwards.
        """
        import onnx_ir

        for value in model.graph.initializers.values():
            tensor = value.const_value
            # Integers are shapes and axes, without which nothing can be inferred of a graph.
            if tensor.nbytes < self._smallest or not tensor.dtype.is_floating_point():
                continue
            offset, length = self._store(tensor)
            value.const_value = onnx_ir.ExternalTensor(
                location=WEIGHTS_FILE,
                offset=offset,
                length=length,
                dtype=tensor.dtype,
                shape=tensor.shape,
                name=value.name,
                base_dir=self._folder,
            )
        file = f"{name}.onnx"
        onnx_ir.save(model, self._folder / file)
        return file

    def _store(self, tensor: Any) -> tuple[int, int]:
        assert self._file is not None
        content = tensor.tobytes()
        key = (hashlib.sha256(content).hexdigest(), len(content))
        if key not in self._known:
            self._file.write(bytes(-self._file.tell() % ALIGNMENT))
            self._known[key] = self._file.tell()
            self._file.write(content)
            self._file.flush()
        return self._known[key], len(content)
