"""What objects remember of a stream, as bytes: a later process goes on to the same bit.

Networks are not part of it, nor what a class names in LASTING: both are found again, by name, in
objects that were made the same way.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

from torch import nn

from dkt_ros.errors import DktError


def save(owners: Mapping[str, Any]) -> bytes | None:
    """The attributes of these objects, which may refer to each other; None where one cannot be."""
    stream = io.BytesIO()
    try:
        memory = {name: vars(owner) for name, owner in owners.items()}
        _Pickler(stream, _lasting(owners)).dump(memory)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None
    return stream.getvalue()


def load(owners: Mapping[str, Any], data: bytes) -> None:
    """Gives them the attributes that were saved.

    Raises DktError where they cannot be read or are of other objects; nothing has changed then.
    """
    try:
        memory = _Unpickler(io.BytesIO(data), _lasting(owners)).load()
        found = {name: dict(attributes) for name, attributes in memory.items()}
    # Damaged bytes, or those of another version, make pickle raise almost anything.
    except Exception as error:
        raise DktError(f"the saved stream cannot be read ({error})") from error
    if found.keys() != owners.keys():
        raise DktError(
            f"the saved stream is of {', '.join(found)}, expected "
            f"{', '.join(owners)}: restore it in an estimator that was loaded the same way"
        )
    for name, owner in owners.items():
        vars(owner).update(found[name])


def _lasting(owners: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same object before and after, by name: the owners, and what they say."""
    found: dict[str, Any] = {}
    for owner_name, owner in owners.items():
        found[owner_name] = owner
        named = getattr(type(owner), "LASTING", ())
        for name, value in vars(owner).items():
            if isinstance(value, nn.Module) or name in named:
                found[f"{owner_name}.{name}"] = value
    return found


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, lasting: dict[str, Any]) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self._names = {id(value): name for name, value in lasting.items()}

    def persistent_id(self, obj: Any) -> str | None:
        return self._names.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, lasting: dict[str, Any]) -> None:
        super().__init__(stream)
        self._lasting = lasting

    def persistent_load(self, pid: Any) -> Any:
        return self._lasting[pid]
