"""What this user's runs saved, told from what others put there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkt_ros.processing.seal import is_sealed, seal


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dkt_ros"


def test_what_was_sealed_is_known_again_and_nothing_else(home: Path) -> None:
    sealed = seal(b"memory")
    assert is_sealed(b"memory", sealed)
    assert not is_sealed(b"memorx", sealed)
    assert not is_sealed(b"memory", "")
    assert not is_sealed(b"memory", "\xe4")
    assert [path.name for path in home.iterdir()] == ["key"]
    assert (home / "key").stat().st_mode & 0o077 == 0, "others can read it"


def test_another_users_seal_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(b"memory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "other"))
    assert seal(b"memory") != sealed
    assert not is_sealed(b"memory", sealed)


def test_without_a_place_for_a_key_nothing_is_sealed(home: Path) -> None:
    home.parent.mkdir()
    home.touch()
    assert seal(b"memory") == ""
    assert not is_sealed(b"memory", "")


def test_a_key_that_was_cut_short_seals_nothing(home: Path) -> None:
    seal(b"memory")
    for left in (b"", b"a few bytes"):
        (home / "key").write_bytes(left)
        assert seal(b"memory") == ""
