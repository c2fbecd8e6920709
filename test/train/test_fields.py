"""Dataclasses from YAML: what fits is taken, what does not is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from dkt_ros.checks import check
from dkt_ros.errors import DktError
from dkt_ros.train.fields import RECIPES, build, plain, read_recipe


@dataclass(frozen=True)
class Inner:
    size: int = 3
    pair: tuple[float, float] = (0.0, 1.0)
    scale: float = 1.0

    def __post_init__(self) -> None:
        check("size", self.size, "at least 1", self.size >= 1)
        check("scale", self.scale, "above 0", self.scale > 0)


@dataclass(frozen=True)
class Outer:
    path: Path
    kind: Literal["a", "b"] = "a"
    rate: float = 1.0
    many: tuple[Inner, ...] = ()
    on: bool = False
    maybe: int | None = None
    inner: Inner = field(default_factory=Inner)
    name: str | None = "x"
    start: str = ""


def test_values_of_every_kind_are_taken_and_given_back() -> None:
    content = {
        "path": "x",
        "kind": "b",
        "rate": "1e-5",  # which YAML 1.1 leaves as text
        "many": [{"size": 4}, {"pair": [1, 2]}],
        "on": True,
        "maybe": None,
        "inner": {"size": 7},
    }
    built = build(Outer, content)
    assert built == Outer(
        Path("x"), "b", 1e-5, (Inner(4), Inner(pair=(1.0, 2.0))), True, None, Inner(7)
    )
    assert isinstance(build(Outer, {"path": "x", "rate": 2}).rate, float)
    assert build(Outer, plain(built)) == built


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"other": 1}, r"^other is unknown; known are inner, kind"),
        ({"inner": {"sise": 1}}, r"^inner\.sise is unknown; known are pair, scale, size"),
        ({"inner": [1]}, r"^inner holds \[1\], expected fields with values"),
        ({"inner": {"size": 1.5}}, r"^inner\.size is 1\.5, expected an integer"),
        ({"inner": {"size": True}}, r"^inner\.size is True, expected an integer"),
        ({"inner": {"pair": [1]}}, r"^inner\.pair is \[1\], expected 2 values"),
        ({"inner": {"pair": [1, "x"]}}, r"^inner\.pair\[1\] is 'x', expected a finite number"),
        ({"many": {"size": 1}}, r"^many is .* expected a list"),
        ({"many": [{"size": "3"}]}, r"^many\[0\]\.size is '3', expected an integer"),
        ({"inner": {"size": 0}}, r"^inner\.size is 0, expected at least 1"),
        ({"inner": {"scale": 0}}, r"^inner\.scale is 0\.0, expected above 0"),
        ({"many": [{}, {"size": 0}]}, r"^many\[1\]\.size is 0, expected at least 1"),
        ({"kind": "c"}, r"^kind is 'c', expected one of a, b"),
        ({"kind": []}, r"^kind is \[\], expected one of a, b"),
        ({"rate": float("nan")}, r"^rate is nan, expected a finite number"),
        ({"rate": "fast"}, r"^rate is 'fast', expected a finite number"),
        ({"rate": 10**400}, r"^rate is 10+\.\.\., expected a finite number"),
        ({"rate": 10**5000}, r"^rate is of type int, expected a finite number"),
        ({"maybe": 2**31}, r"^maybe is 2147483648, expected an integer of at most 2147483647"),
        ({"on": 1}, r"^on is 1, expected true or false"),
        ({"maybe": "x"}, r"^maybe is 'x', expected an integer"),
        ({"path": None}, r"^path is None, expected text"),
        ({"path": ""}, r"^path is '', expected text that is not empty"),
        ({"maybe": ""}, r"^maybe is '', expected an integer"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(DktError, match=named):
        build(Outer, {"path": "x", **change})


@pytest.mark.parametrize("none", ["", None])
def test_empty_is_none_where_there_may_be_none(none: str | None) -> None:
    built = build(Outer, {"path": "x", "name": none, "start": none})
    assert (built.name, built.start) == (None, "")


def test_missing_fields_are_named() -> None:
    with pytest.raises(DktError, match=r"^path is missing"):
        build(Outer, {})
    with pytest.raises(DktError, match=r"^the file holds \[\], expected fields"):
        build(Outer, [])


def test_files_that_are_no_yaml_are_named(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    with pytest.raises(DktError, match=r"x\.yaml is no file"):
        read_recipe(file)
    with pytest.raises(DktError, match="xxx is no file"):
        read_recipe("x" * 300)
    for text in ("a: [1,", "a: 2026-99-99", "[" * 999, f"a: {'9' * 5000}"):
        file.write_text(text)
        with pytest.raises(DktError, match=r"x\.yaml cannot be read as YAML") as caught:
            read_recipe(file)
        assert "\n" not in str(caught.value)
    for text in ("", "# steps: 3\n"):
        file.write_text(text)
        with pytest.raises(DktError, match=r"x\.yaml is empty, expected fields with values"):
            read_recipe(file, changes=["steps=3"])
    file.write_text("# Größe\nsteps: 3\n", encoding="latin-1")
    with pytest.raises(DktError, match=r"x\.yaml is no text in UTF-8 .*; save it as that"):
        read_recipe(file)
    file.write_text("{}")
    with pytest.raises(DktError, match=r"'2026-99-99' is no YAML value"):
        read_recipe(file, changes=["a=2026-99-99"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rate: 1\nname: a\nrate: 2\n", "rate stands there twice, keep one of them in .*line 3"),
        ("inner: {size: 1}\n'inner': {scale: 2}\n", "inner stands there twice"),
        ("many:\n  - {size: 1, size: 2}\n", "size stands there twice"),
        ("seed: 0100\n", "YAML reads 0100 as 64; write the number meant"),
        ("seed: 1:30\n", "YAML reads 1:30 as 90"),
    ],
)
def test_what_yaml_would_take_for_something_else_is_refused(
    tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(DktError, match=rf"x\.yaml cannot be read as YAML: {reason}"):
        read_recipe(file)


@pytest.mark.parametrize(
    ("name", "found"),
    [("dkt-nano", "a recipe of dkt pretrain"), ("fusion", "a recipe of dkt pretrain-fusion")],
)
def test_a_recipe_of_another_command_is_told(name: str, found: str) -> None:
    with pytest.raises(DktError, match=f"{name} is {found}, and none of the recipes full, lora"):
        read_recipe(name)
    with pytest.raises(DktError, match=r"lora is a recipe of dkt train, and none of .*dkt-nano"):
        read_recipe("lora", RECIPES / "pretrain")


def test_what_yaml_says_in_its_own_ways_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: &a {b: 1, c: -007}\nd: {<<: *a, c: 1_000}\ne: [0, 0x10, 00]\n")
    content = {"a": {"b": 1, "c": -7}, "d": {"b": 1, "c": 1000}, "e": [0, 16, 0]}
    assert read_recipe(file)[1] == content
    with pytest.raises(DktError, match="'0100' is no YAML value"):
        read_recipe(file, changes=["f=0100"])
