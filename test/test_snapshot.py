"""What objects remember, to bytes and back."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dkt_ros import snapshot
from dkt_ros.errors import DktError


class Sampler:
    """A network, what is the process's own, and a state."""

    LASTING = ("lock",)

    def __init__(self, value: float) -> None:
        self.network = nn.Linear(300, 300)
        self.lock: Any = object()
        self.state = torch.full((3,), value)
        self.other: Any = None


def pair(value: float) -> dict[str, Sampler]:
    """Two that hold each other and one state."""
    one, other = Sampler(value), Sampler(value)
    one.other, other.other, other.state = other, one, one.state
    return {"one": one, "other": other}


def test_another_process_has_the_state_and_its_own_network() -> None:
    before, after = pair(1.5), pair(0.0)
    saved = snapshot.save(before)
    assert saved is not None
    assert len(saved) < 10_000, "no network is in it"
    kept = {name: (one.network, one.lock) for name, one in after.items()}
    snapshot.load(after, saved)
    one, other = after.values()
    assert one.state.tolist() == [1.5] * 3
    assert one.state is other.state
    assert (one.other, other.other) == (other, one)
    assert {name: (thing.network, thing.lock) for name, thing in after.items()} == kept


@pytest.mark.parametrize("held", [lambda: None, (one for one in "ab"), open])
def test_what_cannot_be_saved_is_none(held: Any) -> None:
    owners = pair(1.0)
    owners["other"].other = held
    assert (snapshot.save(owners) is None) == (held is not open)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"rubbish",
        b"\x80\x05cno_such_module\nThing\n.",
        b"\x80\x05ctorch\nNoSuchThing\n.",
        b"\x80\x05K\x01.",
    ],
)
def test_what_cannot_be_read_is_told_and_changes_nothing(damaged: bytes) -> None:
    owners = pair(2.0)
    with pytest.raises(DktError, match="the saved stream cannot be read"):
        snapshot.load(owners, damaged)
    saved = snapshot.save(owners)
    assert saved is not None
    with pytest.raises(DktError, match="cannot be read"):
        snapshot.load(owners, saved[:-40])
    assert owners["one"].state.tolist() == [2.0] * 3


MODULE = """
class Base:
    pass

class Held(Base):
    def __init__(self):
        self.value = 1.0
"""


@pytest.mark.parametrize("as_owner", [True, False], ids=["owner", "held by an owner"])
def test_what_other_code_saved_is_told_at_once(
    as_owner: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its objects would lack what the other code gives them, and fail where that is asked for."""
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "builds.py"

    def build(code: str) -> dict[str, Any]:
        source.write_text(code)
        sys.modules.pop("builds", None)
        importlib.invalidate_caches()
        snapshot._code_of.cache_clear()  # as in another process
        held = importlib.import_module("builds").Held()
        owner = held if as_owner else Plain(held)
        return {"one": owner}

    saved = snapshot.save(build(MODULE))
    assert saved is not None
    snapshot.load(build(MODULE.replace("class Held", "# kept\nclass Held")), saved)
    for change in ("self.other = ", "self.value = 2.0 + "):
        other = build(MODULE.replace("self.value = ", change))
        before = dict(vars(other["one"]))
        with pytest.raises(DktError, match="is of other code: builds was another then, expected"):
            snapshot.load(other, saved)
        assert vars(other["one"]) == before
    source.unlink()
    sys.modules.pop("builds")
    importlib.invalidate_caches()
    snapshot._code_of.cache_clear()
    with pytest.raises(DktError, match="is of other code: builds"):
        snapshot.load({"one": Plain(1.0)}, saved)


@pytest.mark.parametrize("names", [("one",), ("one", "other", "third")])
def test_what_others_saved_is_told_and_changes_nothing(names: tuple[str, ...]) -> None:
    saved = snapshot.save({name: Plain(1.0) for name in names})
    assert saved is not None
    owners = {"one": Plain(2.0), "other": Plain(2.0)}
    with pytest.raises(DktError, match=f"is of {', '.join(names)}, expected one, other: restore"):
        snapshot.load(owners, saved)
    assert owners["one"].state == 2.0


class Plain:
    def __init__(self, state: Any) -> None:
        self.state = state
