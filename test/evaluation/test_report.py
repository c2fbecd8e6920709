"""Tables as their reader sees them, and JSON as a program does."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from fixtures.evaluated_scenes import exact, live

from dkt_ros.datasets.iterate import Skipped
from dkt_ros.errors import DktError
from dkt_ros.evaluation.evaluate import Result, Summary
from dkt_ros.evaluation.judge import Figures
from dkt_ros.evaluation.long_runs import Curve
from dkt_ros.evaluation.report import (
    MOST_VIDEOS,
    describe,
    format_difference,
    format_long_runs,
    format_summary,
    format_videos,
    legend,
    write_json,
)
from dkt_ros.evaluation.sets import SetReport

DEPTH = Figures(0.1234, 0.0567, 0.5, 0.75, 1.0, 0.9, tae=0.0123)


def report(results: list[Result], **changes: object) -> SetReport:
    frames = {result.video: 3 for result in results}
    given = {"results": results, "frames": frames, "skipped": Skipped(), **changes}
    values = {"data": "somewhere", "kind": "clearpose", "split": "test", "depth_range": (0.3, 1.5)}
    return SetReport(**{**values, **given})  # type: ignore[arg-type]


def nothing(rgb: np.ndarray, /) -> np.ndarray:
    """In the place of a network that is not asked."""
    raise NotImplementedError


def of_one_video(summary: Summary) -> list[Result]:
    return [Result(method, "one", regions) for method, regions in summary.items()]


def words(text: str, line: int) -> str:
    """One line with single blanks."""
    return " ".join(text.splitlines()[line].split())


def test_a_block_per_region_in_percent_and_centimetres() -> None:
    table = format_summary(
        {
            "raw": {"rest": Figures(coverage=0.0), "all": DEPTH},
            "dkt exact, video": {"all": DEPTH, "rest": Figures(rel=2.5)},
        }
    )
    everything, rest = table.split("\n\n")
    assert words(everything, 0) == ("all REL % RMSE cm d<1.05 % d<1.10 % d<1.25 % covered % TAE %")
    assert words(everything, 1) == ("raw 12.34 5.67 50.00 75.00 100.00 90.00 1.23")
    # What no method has, TAE here, is no column; what one lacks is a dash.
    assert "TAE" not in rest
    assert rest.splitlines()[1].split() == ["raw", "-", "0.00"]
    assert rest.splitlines()[2].split() == ["dkt", "exact,", "video", "250.00", "-"]


def test_columns_stand_under_their_titles_in_every_block() -> None:
    summary = {
        "raw": {"all": DEPTH, "transparent/reflective": DEPTH},
        "a method of a longer name": {"all": DEPTH, "transparent/reflective": DEPTH},
    }
    lines = [line for line in format_summary(summary).splitlines() if line]
    assert len({len(line) for line in lines}) == 1


SURE = Figures(
    rel=0.02,
    ause=0.012,
    trusted_half_rel=0.01,
    rel_by_decile=tuple(i / 100 for i in range(10)),
    bin_confidence=(0.1,) + (0.0,) * 9,
    bin_within=(0.04,) + (0.0,) * 9,
)


def test_confidence_has_blocks_of_its_own_for_rows_that_tell_one() -> None:
    table = format_summary({"raw": {"all": DEPTH}, "dkt exact, fused": {"all": SURE}})
    _, confidence, tenths = table.split("\n\n")
    assert words(confidence, 0) == "confidence, all ECE % AUSE % REL % half's %"
    assert [line.split()[-4:] for line in confidence.splitlines()[1:]] == [
        ["6.00", "1.20", "2.00", "1.00"]
    ]
    assert words(tenths, 0).startswith("REL % by tenths, all 1st 2nd 3rd 4th")
    assert tenths.splitlines()[1].split()[3:] == [f"{i}.00" for i in range(10)]
    assert len(tenths.splitlines()) == 2


def test_normals_have_blocks_of_their_own() -> None:
    angles = Figures(
        mean_deg=20.0,
        median_deg=15.0,
        within_1125=0.25,
        within_2250=0.5,
        within_3000=0.75,
        normal_coverage=1.0,
    )
    table = format_summary({"truth": {"all": Figures(tae=0.01)}, "dkt normals": {"all": angles}})
    assert words(table, 0) == ("normals, all mean deg median deg <11.25 % <22.5 % <30 % covered %")
    assert words(table, 1) == ("dkt normals 20.00 15.00 25.00 50.00 75.00 100.00")
    assert format_summary({"truth": {"all": Figures(tae=0.01)}}) == ""
    assert format_summary({}) == ""


def test_what_was_looked_at_is_said() -> None:
    skipped = Skipped()
    for number in range(12):
        skipped.add(f"scene frame {number}", "truncated")
    text = describe(
        report(
            [Result("raw", "a", {"all": DEPTH})], left_out=7, notes=["no poses"], skipped=skipped
        )
    )
    lines = text.splitlines()
    assert lines[0] == (
        "somewhere: clearpose, split test, 1 video, 3 frames; depths from 0.3 to 1.5 m count"
    )
    assert lines[1] == "  7 frames passed over (--max-frames, --stride)"
    assert lines[2] == "  no poses"
    assert lines[3] == "  skipped 12:"
    assert lines[4] == "    scene frame 0: truncated"
    assert lines[-1] == "    and 2 more, all in the JSON"
    assert len(lines) == 4 + 10 + 1
    for number in (10, 11):
        skipped.reasons.pop(f"scene frame {number}")
    whole = describe(report([], split="", skipped=skipped)).splitlines()
    assert "split all" in whole[0]
    assert len(whole) == 2 + 10


def test_videos_line_by_line() -> None:
    results = [
        Result(method, video, {"all": Figures(rel=9.0), "transparent/reflective": Figures(rel=rel)})
        for video, rel in (("a", 0.1), ("longer", 0.2))
        for method in ("truth", "raw", "dkt exact, online", "dkt exact, online, live frames")
    ]
    lines = format_videos(report(results)).splitlines()
    assert [line.split() for line in lines] == [
        ["dkt", "exact,"],
        ["REL", "%,", "transparent/reflective", "raw", "online"],
        ["a", "10.00", "10.00"],
        ["longer", "20.00", "20.00"],
    ]
    without_masks = Result("raw", "b", {"all": DEPTH})
    last = format_videos(report([*results, without_masks])).splitlines()[-1]
    assert last.split() == ["b", "-", "-"]
    many = [Result("raw", f"v{i}", {"all": DEPTH}) for i in range(MOST_VIDEOS + 5)]
    assert format_videos(report(many)).splitlines()[-1] == "  and 5 more, all in the JSON"
    assert format_videos(report([])) == ""


def test_videos_of_a_normals_network_show_angles() -> None:
    results = [Result("dkt normals", "a", {"all": Figures(mean_deg=12.0)})]
    lines = format_videos(report(results)).splitlines()
    assert lines[1].split() == ["mean", "deg,", "all", "normals"]
    assert lines[2].split() == ["a", "12.00"]


def test_live_is_set_against_exact_on_the_same_frames() -> None:
    summary = {
        "dkt exact, video": {"all": Figures(rel=0.1, tae=0.02)},
        "dkt live, video": {"all": Figures(rel=0.11, tae=0.01)},
        "dkt exact, online": {"all": Figures(rel=0.5)},
        "dkt live, online": {"all": Figures(rel=0.3)},
        "dkt exact, online, live frames": {"all": Figures(rel=0.2)},
    }
    lines = format_difference([of_one_video(summary)], [exact(nothing), live(nothing)]).splitlines()
    assert lines[0].startswith("dkt live against dkt exact, same frames")
    assert [line.split()[-3:] for line in lines[1:]] == [
        ["10.00", "11.00", "+10.00"],
        ["2.00", "1.00", "-50.00"],
        ["20.00", "30.00", "+50.00"],
    ]
    alone = [of_one_video({"dkt live, video": {"all": Figures(rel=0.1)}})]
    assert format_difference(alone, [live(nothing)]) == ""
    assert format_difference(alone, [exact(nothing), live(nothing)]) == ""
    assert format_difference(alone, []) == ""


def test_every_model_is_set_against_the_first_on_the_frames_that_both_answer() -> None:
    summary = {
        "A exact, video": {"all": Figures(rel=0.4)},
        "A exact, video, live frames": {"all": Figures(rel=0.1)},
        "A live, video": {"all": Figures(rel=0.2)},
        "B exact, video": {"all": Figures(rel=0.2)},
        "B exact, video, live frames": {"all": Figures(rel=0.9)},
        "B live, video": {"all": Figures(rel=0.3)},
    }
    models = [kind(nothing, f"{n} {kind.__name__}") for n in "AB" for kind in (exact, live)]
    found = {}
    for table in format_difference([of_one_video(summary)], models).split("\n\n"):
        head, row = table.splitlines()
        found[head.split(",")[0]] = row.split()[-3:]
    assert found == {
        "A live against A exact": ["10.00", "20.00", "+100.00"],
        "B exact against A exact": ["40.00", "20.00", "-50.00"],
        "B live against A exact": ["10.00", "30.00", "+200.00"],
    }


def test_a_difference_is_of_the_videos_of_which_both_have_a_figure() -> None:
    """Of the hard video B has none, of another no glass, and of the second set nothing at all."""
    before, after = "A exact, video", "B exact, video"

    def figures(all_of_it: float, glass: float = math.nan) -> dict[str, Figures]:
        return {"all": Figures(rel=all_of_it), "transparent": Figures(rel=glass)}

    first = [
        Result(before, "easy", figures(0.1, 0.2)),
        Result(after, "easy", figures(0.1, 0.1)),
        Result(before, "other", figures(0.3, 0.8)),
        Result(after, "other", figures(0.3)),
        Result(before, "hard", figures(0.9, 0.9)),
    ]
    second, third = (
        [Result(before, "easy", figures(0.9))],
        [
            Result(before, "easy", figures(0.4)),
            Result(after, "easy", figures(0.4)),
        ],
    )
    models = [exact(nothing, "A exact"), exact(nothing, "B exact")]
    lines = format_difference([first, second, third], models).splitlines()[1:]
    assert [" ".join(line.split()) for line in lines] == [
        "REL, video, all 30.00 30.00 +0.00",
        "REL, video, transparent 20.00 10.00 -50.00",
    ]


def test_long_runs_are_told_by_their_ends() -> None:
    assert format_long_runs(report([])) == ""
    runs = {"standing": Curve(4, (0, 1, 2), (0.1, 0.5, 0.4)), "moving": Curve(4, (0,), (math.nan,))}
    lines = format_long_runs(report([], long_runs={"dkt live": runs})).splitlines()
    assert words(lines[0], 0) == (
        "runs of 4 frames, one scale and shift per frame first 2, % last 2, % change % worst %"
    )
    assert lines[1].split() == ["dkt", "live,", "standing", "30.00", "40.00", "+33.33", "50.00"]
    assert lines[2].split() == ["dkt", "live,", "moving", "-", "-", "-", "-"]


def test_the_legend_explains_the_rows_that_occur() -> None:
    assert legend(["raw"]) == ""
    text = legend(["truth", "dkt exact, video", "dkt exact, video, live frames"])
    assert [line.split(":")[0] for line in text.splitlines()] == ["truth", "video", "live frames"]
    assert legend(["dkt exact, online"]).startswith("online: scale and shift from the raw depth")
    text = legend(["dkt exact, fused", "dkt exact, kNN", "patches"])
    said = [line.split(":")[0] for line in text.splitlines() if line[0] != " "]
    assert said == ["fused", "confidence", "kNN"]


def test_json_holds_every_figure(tmp_path: Path) -> None:
    results = [
        Result("raw", "a", {"all": DEPTH}),
        Result("raw", "b", {"all": Figures(rel=0.3), "rest": Figures()}),
    ]
    skipped = Skipped()
    skipped.add("c frame 1", "truncated")
    path = tmp_path / "deep" / "out.json"
    runs = {"dkt live": {"standing": Curve(4, (0, 3), (0.1, math.nan))}}
    reports = [
        report(results, skipped=skipped, notes=["odd"], left_out=2, long_runs=runs),
        report([Result("raw", "d", {"all": Figures(rel=0.9)})]),
    ]
    write_json(path, reports, {"checkpoint": "nano"}, done=False)
    content = json.loads(path.read_text())
    assert content["checkpoint"] == "nano"
    assert content["complete"] is False
    first = content["sets"][0]
    assert first["depth_range_m"] == [0.3, 1.5]
    assert (first["data"], first["kind"], first["split"]) == ("somewhere", "clearpose", "test")
    assert first["long_runs"]["dkt live"]["standing"] == {
        "length": 4,
        "rel_of_first_50": 0.1,
        "rel_of_last_50": None,
        "frames": [0, 3],
        "rel": [0.1, None],
    }
    assert first["skipped"] == {"count": 1, "reasons": {"c frame 1": "truncated"}}
    assert (first["frames"], first["frames_passed_over"], first["notes"]) == (6, 2, ["odd"])
    assert first["videos"][0]["methods"]["raw"]["all"]["rmse_m"] == 0.0567
    assert first["videos"][1]["methods"]["raw"]["rest"]["rel"] is None
    assert first["mean"]["raw"]["all"]["rel"] == pytest.approx((0.1234 + 0.3) / 2)
    assert content["mean"]["raw"]["all"]["rel"] == pytest.approx(((0.1234 + 0.3) / 2 + 0.9) / 2)
    assert list(path.parent.iterdir()) == [path]


def test_json_holds_confidence_as_lists(tmp_path: Path) -> None:
    results = [Result("raw", "a", {"all": DEPTH}), Result("dkt exact, fused", "a", {"all": SURE})]
    write_json(tmp_path / "out.json", [report(results)], {})
    rows = json.loads((tmp_path / "out.json").read_text())["mean"]
    fused = rows["dkt exact, fused"]["all"]
    assert fused["ece"] == pytest.approx(0.06)
    assert (fused["ause"], fused["trusted_half_rel"]) == (0.012, 0.01)
    assert fused["rel_by_decile"] == pytest.approx(list(SURE.rel_by_decile))
    assert fused["bin_confidence"][0] == 0.1
    assert rows["raw"]["all"]["ece"] is None
    assert rows["raw"]["all"]["rel_by_decile"] is None


def test_json_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DktError, match="cannot be written"):
        write_json(tmp_path / "file" / "out.json", [], {})
