"""What objects remember of a stream, as bytes: a later process goes on to the same bit.

Knows objects, and the code that they are of. Networks are not part of it, nor what a class names in
LASTING: both are found again, by name, in objects that were made the same way.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from dkt_ros.errors import DktError
from dkt_ros.files import code_digest


def save(owners: Mapping[str, Any]) -> bytes | None:
    """The attributes of these objects, which may refer to each other; None where one cannot be."""
    stream, memory = io.BytesIO(), {name: vars(owner) for name, owner in owners.items()}
    pickler = _Pickler(stream, _lasting(owners))
    try:
        pickler.dump(memory)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None
    modules = pickler.modules.union(*map(_modules_of, owners.values()))
    code = {module: _code_of(module) for module in sorted(modules)}
    return pickle.dumps(code, pickle.HIGHEST_PROTOCOL) + stream.getvalue()


def load(owners: Mapping[str, Any], data: bytes) -> None:
    """Gives them the attributes that were saved.

    Raises DktError where they cannot be read, or are of other objects or other code; nothing has
    changed then.
    """
    stream = io.BytesIO(data)
    # Damaged bytes make pickle raise almost anything.
    try:
        code = dict(pickle.load(stream))
        others = [module for module, then in code.items() if _code_of(module) != then]
        memory = {} if others else _Unpickler(stream, _lasting(owners)).load()
        found = {name: dict(attributes) for name, attributes in memory.items()}
    except Exception as error:
        raise DktError(f"the saved stream cannot be read ({error})") from error
    if others:
        raise DktError(
            f"the saved stream is of other code: {', '.join(others)} was another then, expected "
            "the same; restore it where it was saved, or begin the stream anew"
        )
    if found.keys() != owners.keys():
        raise DktError(
            f"the saved stream is of {', '.join(found)}, expected "
            f"{', '.join(owners)}: restore it in an estimator that was loaded the same way"
        )
    for name, owner in owners.items():
        vars(owner).update(found[name])


def _lasting(owners: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same object before and after, by name.

    The owners, what they and others within them say, and the functions of that: a network's halves
    and its compiled calls are what a stream of frames goes through.
    """
    found: dict[str, Any] = dict(owners)
    waiting, seen = list(owners.items()), {id(owner) for owner in owners.values()}
    while waiting:
        owner_name, owner = waiting.pop()
        named = getattr(type(owner), "LASTING", ())
        for attribute, value in vars(owner).items():
            name = f"{owner_name}.{attribute}"
            if isinstance(value, nn.Module) or attribute in named:
                found[name] = value
                parts = getattr(value, "__dict__", {}).items()
                found |= {f"{name}.{part}": one for part, one in parts if callable(one)}
            elif hasattr(type(value), "LASTING") and id(value) not in seen:
                waiting.append((name, value))
                seen.add(id(value))
    return found


def _tells_how(kind: type) -> bool:
    """Whether a class, as those of arrays, says itself how its objects are saved."""
    return any({"__reduce__", "__reduce_ex__"} & vars(one).keys() for one in kind.__mro__[:-1])


def _modules_of(thing: Any) -> set[str]:
    """Of its class, and of those that this inherits from."""
    return {kind.__module__ for kind in type(thing).__mro__} - {"builtins"}


@lru_cache(maxsize=256)
def _code_of(module: str) -> str:
    """Another where a module says something else; "" of one without a source, or that is gone."""
    try:
        file = Path(importlib.import_module(module).__file__ or "")
    except (ImportError, AttributeError):
        return ""
    return code_digest(file) if file.suffix == ".py" else ""


class _Pickler(pickle.Pickler):
    """modules: those of the classes whose objects it was given."""

    def __init__(self, stream: io.BytesIO, lasting: dict[str, Any]) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self._names = {id(value): name for name, value in lasting.items()}
        self.modules: set[str] = set()

    def persistent_id(self, obj: Any) -> str | None:
        return self._names.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if not (isinstance(obj, type) or _tells_how(type(obj))):
            self.modules |= _modules_of(obj)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, lasting: dict[str, Any]) -> None:
        super().__init__(stream)
        self._lasting = lasting

    def persistent_load(self, pid: Any) -> Any:
        return self._lasting[pid]
