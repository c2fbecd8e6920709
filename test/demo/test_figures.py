"""Errors, coverage and latency of made-up frames, and how they are told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from demo.figures import (
    ALL,
    DKT,
    NEAREST,
    OBJECTS,
    RAW,
    REST,
    TRUSTED,
    Comparison,
    latencies,
    reasons_of,
    summary,
)
from demo.received import Received, Reception
from demo.recorded import RecordedFrame
from demo.report import as_markdown, headline, outcome, reasons

pytestmark = pytest.mark.ros

SURE = np.ones((4, 8), np.float32)


def frame(truth: bool = True, mask: bool = True) -> RecordedFrame:
    """1 m everywhere; the sensor sees 2 m through the left half, which is glass, and has holes."""
    depth = np.ones((4, 8), np.float32)
    raw = depth.copy()
    raw[:, :4] = 2.0
    raw[:, :2] = np.nan
    glass = np.zeros((4, 8), np.uint8)
    glass[:, :4] = 1
    rgb = np.zeros((4, 8, 3), np.uint8)
    return RecordedFrame(7, rgb, raw, depth if truth else None, glass if mask else None)


def test_errors_by_pixels_and_method() -> None:
    comparison = Comparison()
    notes = comparison.add(frame(), np.full((4, 8), 1.1, np.float32), None)
    comparison.add(frame(), np.full((4, 8), 0.9, np.float32), None)
    means = comparison.means()
    assert set(means) == {ALL, OBJECTS, REST}
    assert means[OBJECTS][DKT].rel == pytest.approx(0.1, rel=1e-5)
    assert means[OBJECTS][RAW].rel == pytest.approx(1.0)
    assert means[OBJECTS][RAW].coverage == pytest.approx(0.5)
    assert means[OBJECTS][NEAREST].coverage == 1.0
    assert means[REST][RAW].rel == 0.0
    assert comparison.mean_coverage() == {DKT: 1.0, RAW: 0.75, NEAREST: 1.0}
    assert notes[RAW] == "objects: depth on 50%, off by 100.0%"


def test_without_truth_there_is_coverage_alone() -> None:
    comparison = Comparison()
    notes = comparison.add(frame(truth=False), np.full((4, 8), np.nan, np.float32), None)
    assert comparison.means() == {}
    assert notes == {DKT: "0% of pixels", RAW: "75% of pixels", NEAREST: "100% of pixels"}
    content = told(comparison)
    assert content["errors"] == {}
    assert "no truth" in as_markdown(content)
    assert "75.0%" in as_markdown(content)


def test_without_a_mask_all_pixels_are_one_group() -> None:
    comparison = Comparison()
    comparison.add(frame(mask=False), np.ones((4, 8), np.float32), SURE)
    assert set(comparison.means()) == {ALL}


def test_the_half_trusted_most_is_chosen_among_the_objects_by_confidence() -> None:
    """The two columns of glass that are right are trusted more; the rest of the image most."""
    depth = np.ones((4, 8), np.float32)
    depth[:, 1:3] = 1.5
    confidence = np.full((4, 8), 0.9, np.float32)
    confidence[:, :4] = (0.6, 0.0, 0.1, 0.5)
    comparison = Comparison()
    notes = comparison.add(frame(), depth, confidence)
    means = comparison.means()
    assert means[OBJECTS][DKT].rel == pytest.approx(0.25)
    assert (means[OBJECTS][TRUSTED].rel, means[OBJECTS][TRUSTED].coverage) == (0.0, 0.5)
    assert TRUSTED not in means[REST]
    assert list(means[OBJECTS]) == [RAW, DKT, TRUSTED, NEAREST]
    assert "trusted most is off by 0.0%" in notes[TRUSTED]
    assert "/dkt/depth 25.0%, its half trusted most 0.0%," in headline(told(comparison))


def test_reasons_are_counted_whatever_their_figures_and_the_most_frequent_comes_first() -> None:
    frames = [
        Received(1, state="HELD", reason="a jump of 1.2"),
        Received(2, state="UNALIGNED", reason="0 of 100 pixels between 0.1 and 10 m"),
        Received(3, state="OK"),
        Received(4, state="UNALIGNED", reason="7 of 1,200 pixels between 0.1 and 10 m"),
    ]
    content = {"reasons": reasons_of(frames)}
    assert reasons(content) == [
        "UNALIGNED in 2: 0 of 100 pixels between 0.1 and 10 m",
        "HELD in 1: a jump of 1.2",
    ]


def test_latencies_spread_over_what_came() -> None:
    frames = [
        Received(i, known=1.0, depth_s=float(i), stages_s={"predict": 0.5}) for i in range(11)
    ]
    frames.append(Received(99))
    found = latencies(frames)
    assert found["depth, camera to planner"] == {"median": 5.0, "p95": 9.5, "max": 10.0}
    assert found["in the node: predict"]["max"] == 0.5
    assert "points, camera to planner" not in found


def test_the_report_states_every_number_and_is_plain_json() -> None:
    comparison = Comparison()
    comparison.add(frame(), np.full((4, 8), np.nan, np.float32), SURE)
    comparison.add(frame(), np.full((4, 8), 1.1, np.float32), SURE)
    content = json.loads(json.dumps(told(comparison), allow_nan=False))
    assert content["frames"] == {
        "in_bag": 9,
        "answered": 2,
        "with_depth": 1,
        "dropped": 7,
        "incomplete": 1,
        "clouds": 1,
        "compared_with_truth": 2,
    }
    assert content["alignment"] == {"OK": 1, "UNALIGNED": 1}
    assert content["shares"] == {"sensor": 0.75, "network": None}
    text = as_markdown(content)
    assert outcome(content) in text
    assert outcome(content) == (
        "Of 9 camera frames 1 got depth: 2 were answered (1 OK, 1 UNALIGNED), 7 dropped."
    )
    assert "- UNALIGNED in 1: no raw depth" in text
    row = next(line for line in text.splitlines() if line.startswith(f"| {OBJECTS}"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells == [RAW, "100.0%", "0.0%", "0.0%", "0.0%", "1000", "50.0%"]
    row = next(line for line in text.splitlines() if f"| {DKT} " in line)
    cells = [cell.strip() for cell in row.split("|")[3:-1]]
    assert (cells[1], cells[3:]) == ("0.0%", ["100.0%", "100", "50.0%"])
    assert "| depth, camera to planner | 250    | 295 | 300 |" in text
    assert headline(content).endswith("raw with holes filled 100.0%")
    assert (
        "/dkt/depth 10.0% (on the 50% that have depth), its half trusted most 10.0%, "
        in headline(content)
    )


def test_a_method_without_any_depth_has_no_error() -> None:
    comparison = Comparison()
    comparison.add(frame(), np.full((4, 8), np.nan, np.float32), SURE)
    content = told(comparison)
    assert content["errors"][OBJECTS][DKT]["rel"] is None
    assert "| –" in as_markdown(content)


def told(comparison: Comparison) -> dict[str, Any]:
    reception = Reception(
        (1, 2, 3),
        (
            Received(1, "", 1.0, True, True, 0.2, points=5, state="OK", share_sensor=0.75),
            Received(2, known=0.0, state="UNALIGNED", depth_s=0.3, reason="no raw depth"),
        ),
    )
    found = summary(reception, 9, comparison)
    return {"bag": "b", "checkpoint": "c", "rate": 0.1, **found}


@pytest.mark.parametrize(
    "missing",
    [
        {"known": None},
        {"has_info": False},
        {"has_confidence": False},
        {"points": None},
        {"state": ""},
    ],
)
def test_an_answer_that_lacks_any_of_its_messages_is_incomplete(missing: dict[str, Any]) -> None:
    whole = Received(1, known=0.0, has_info=True, has_confidence=True, points=0, state="HELD")
    found = Reception((), (whole, replace(whole, **missing)))
    assert found.incomplete == found.frames[1:]
