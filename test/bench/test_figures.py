"""Intervals and tests against values from tables; the summary against counts by hand."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("mujoco", reason="physics needs MuJoCo (pip install 'dkt_ros[grasp]')")

from dkt_ros.bench.attempts import Record
from dkt_ros.bench.figures import format_table, mcnemar, summarise, wilson
from dkt_ros.bench.page import describe, page


def record(scene: int, method: str, result: str, error_m: float | None = 0.001) -> Record:
    return Record(f"s{scene}", "diffuse", method, result, error_m=error_m, known=0.5)


def test_wilson_and_mcnemar() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 3) == pytest.approx((0.0, 0.5615), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(8, 1) == pytest.approx(0.0390625)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0


def test_a_summary_counts_by_material_pairs_scenes_and_sorts_by_error() -> None:
    records = [
        *(record(n, "raw", "no grasp found", 0.03) for n in range(4)),
        *(record(n, "fused", "held" if n else "slipped", 0.003) for n in range(4)),
        record(9, "raw", "held", 0.02),
    ]
    summary = summarise(records)
    raw = summary["methods"]["raw"]["diffuse"]
    assert (raw["held"], raw["attempts"]) == (1, 5)
    assert raw["results"] == {"no grasp found": 4, "held": 1}
    assert "transparent" not in summary["methods"]["raw"]
    pair = summary["paired"]["fused - raw"]["all"]
    assert (pair["pairs"], pair["only_first"], pair["only_second"]) == (4, 3, 0)
    assert pair["difference"] == pytest.approx(0.75)
    bins = {(part["from_m"], part["attempts"], part["held"]) for part in summary["by_error"]}
    assert bins == {(0.002, 4, 3), (0.016, 1, 1)}
    text = format_table(summary)
    assert "| fused | 0.75 (0.30 to 0.95), 3/4 |" in text
    assert "+0.75, 0.25" in text


def test_a_scene_s_materials_are_pairs_of_their_own_and_the_truth_is_told_last() -> None:
    """Fused depth wins twice on glass and loses once on what is diffuse."""
    held = {
        ("transparent", "s1"): ("held", "missed"),
        ("transparent", "s2"): ("held", "missed"),
        ("transparent", "s3"): ("held", "held"),
        ("diffuse", "s1"): ("missed", "held"),
        ("diffuse", "s2"): ("held", "held"),
    }
    records = [
        Record(scene, material, method, result)
        for (material, scene), ends in held.items()
        for method, result in zip(("truth", "fused", "raw"), ("held", *ends), strict=True)
    ]
    summary = summarise(records)
    assert list(summary["methods"]) == ["fused", "raw", "truth"]
    paired = summary["paired"]["fused - raw"]
    counts = {
        group: (pair["pairs"], pair["only_first"], pair["only_second"])
        for group, pair in paired.items()
    }
    assert counts == {"transparent": (3, 2, 0), "diffuse": (2, 0, 1), "all": (5, 2, 1)}


def test_depth_on_the_objects_is_told_in_millimetres_and_shares() -> None:
    records = [
        Record("s", "diffuse", "raw", result, error_m=error, known=known, bad=bad)
        for result, error, known, bad in (
            ("held", 0.002, 1.0, 0.0),
            ("slipped", 0.004, 0.8, 0.1),
            ("slipped", 0.02, 0.3, 0.5),
            ("no grasp found", None, 0.3, 0.4),
        )
    ]
    summary = summarise(records)
    figures = summary["methods"]["raw"]["all"]
    assert figures["error_m"] == 0.004, "the median of what there is"
    assert (figures["known"], figures["bad"]) == pytest.approx((0.6, 0.25))
    limits = [(part["from_m"], part["attempts"]) for part in summary["by_error"]]
    assert limits == [(0.002, 1), (0.004, 1), (0.016, 1)], "each begins a bin"
    (row,) = [line for line in format_table(summary).splitlines() if "| raw | diffuse |" in line]
    assert row == "| raw | diffuse | 1 | 0 | 0 | 2 | 0 | 4.0 | 0.60 | 0.25 |"
    assert summary["paired"] == {}


def test_kinds_of_object_and_errors_are_told_of_each_method() -> None:
    records = [
        Record("s1", "diffuse", "raw", "held", "mug", error_m=0.001),
        Record("s2", "diffuse", "raw", "missed", "vase", error_m=0.02),
        Record("s1", "diffuse", "fused", "held", "mug", error_m=0.001),
        Record("s2", "diffuse", "fused", "held", "mug"),
        Record("s3", "diffuse", "fused", "no grasp found", error_m=0.02),
    ]
    text = format_table(summarise(records))
    _, shapes, errors = (part.splitlines() for part in text.rsplit("\n\n", 2))
    assert shapes[0] == "| object that was grasped at | attempts | held | raw | fused |"
    assert shapes[2:] == [
        "| mug | 3 | 1.00 (0.44 to 1.00) | 1/1 | 2/2 |",
        "| vase | 1 | 0.00 (0.00 to 0.79) | 0/1 | 0/0 |",
    ]
    assert errors[0] == "| error on the grasped object | attempts | held | raw | fused |"
    assert errors[2:] == [
        "| 0 to 2 mm | 2 | 1.00 (0.34 to 1.00) | 1/1 | 1/1 |",
        "| over 16 mm | 1 | 0.00 (0.00 to 0.79) | 0/1 | 0/0 |",
    ]


def test_attempts_that_could_have_held_are_shown_first_and_the_worst_of_them() -> None:
    records = [
        Record(scene, "diffuse", method, result, error_m=error)
        for scene, method, result, error in (
            ("s1", "truth", "held", 0.0),
            ("s1", "<raw>", "missed", 0.01),
            ("s1", "fill", "missed", 0.02),
            ("s1", "fused", "collision on approach", 0.01),
            ("s2", "truth", "slipped", 0.0),
            ("s2", "<raw>", "wrong object", 0.03),
        )
    ]
    pictures = {(one.scene, one.material, one.method): b"" for one in records}
    made = page("Title", summarise(records), records, pictures, "about")
    told = [each.partition("; ")[0] for each in re.findall("<figcaption>(.*?)</figcaption>", made)]
    assert told == [
        "s1 diffuse, fused: collision on approach",
        "s1 diffuse, fill: missed",
        "s1 diffuse, &lt;raw&gt;: missed",
        "s2 diffuse, &lt;raw&gt;: wrong object",
        "s2 diffuse, truth: slipped",
        "s1 diffuse, truth: held",
    ]
    assert "<raw>" not in made
    given = ("s", "diffuse", "raw", "missed", "mug", "why")
    assert describe(Record(*given, error_m=0.01, bias_m=0.004, known=0.5)) == (
        "s diffuse, raw: missed; mug; why; depth off by 10.0 mm (median, bias +4.0 mm) on 50% of it"
    )
