"""The report: what it says, that it needs no network, and that it works in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.recorded_frames import labelled_frames

from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.processing.outputs import Output, Outputs, read_outputs
from dkt_ros.processing.report import report_html

TOLD = ["--predictor", "fixtures.told_network:load"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, one without truth, and one that failed."""
    folder = tmp_path_factory.mktemp("report")
    frames = labelled_frames(12)
    record(frames, folder / "in" / "with_truth", RecordingOptions())
    for frame in frames:
        object.__setattr__(frame, "truth", None)
        object.__setattr__(frame, "mask", None)
    record(frames, folder / "in" / "no_truth", RecordingOptions())
    (folder / "in" / "<broken>.bag").write_text("no bag")
    command = ["process", str(folder / "in"), "--output", str(folder / "out"), *TOLD]
    assert main([*command, "--workers", "1"]) == 1
    return folder / "out"


def test_what_is_gone_or_no_manifest_is_told(outputs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(outputs, copy)
    shutil.rmtree(copy / "no_truth")
    assert "is gone" in read_outputs([copy]).failed["no_truth"]
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(DktError, match="no manifest of"):
        read_outputs([copy])
    (copy / "with_truth" / "summary.json").write_text("{}")
    with pytest.raises(DktError, match="of something else"):
        read_outputs([copy / "with_truth"])
    (copy / "with_truth" / "summary.json").write_text("[1]")
    with pytest.raises(DktError, match="no whole output of"):
        read_outputs([copy / "with_truth"])


@pytest.mark.parametrize("name", ["version", "name", "states", "network", "times_real_time"])
def test_a_summary_of_another_version_is_told(outputs: Path, tmp_path: Path, name: str) -> None:
    """As one that lacks what is read, or has it in another way."""
    shutil.copytree(outputs / "with_truth", copy := tmp_path / "with_truth")
    told = json.loads((copy / "summary.json").read_text())
    others = {k: v for k, v in told.items() if k != name}
    for changed in (others, {**told, name: [1]}, {**told, name: {"mode": [1]}}):
        (copy / "summary.json").write_text(json.dumps(changed))
        with pytest.raises(DktError, match=f"summary.json has no usable {name}: damaged, or"):
            read_outputs([copy])


@pytest.mark.parametrize("line", ["[]", '{"index": 3}', '{"index": 3, "stamp_ns": "x"}'])
def test_a_damaged_line_is_told(outputs: Path, tmp_path: Path, line: str) -> None:
    shutil.copytree(outputs / "with_truth", copy := tmp_path / "with_truth")
    with (copy / "frames.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DktError, match=r"frames.jsonl line 13 has no usable .*stamp_ns"):
        read_outputs([copy])


@pytest.mark.parametrize(
    ("name", "value"),
    [("errors", {"all": 3}), ("raw_errors", {"all": {}}), ("timings_s", {"total": "long"})],
)
def test_what_a_line_holds_in_another_way_is_told(
    outputs: Path, tmp_path: Path, name: str, value: object
) -> None:
    shutil.copytree(outputs / "with_truth", copy := tmp_path / "with_truth")
    first, rest = (copy / "frames.jsonl").read_text().split("\n", 1)
    (copy / "frames.jsonl").write_text(json.dumps({**json.loads(first), name: value}) + "\n" + rest)
    with pytest.raises(DktError, match=f"frames.jsonl line 1 has no usable {name}: damaged"):
        read_outputs([copy])


def test_previews_of_others_are_passed_over_and_damaged_ones_named(
    outputs: Path, tmp_path: Path
) -> None:
    shutil.copytree(outputs / "with_truth", copy := tmp_path / "with_truth")
    found = read_outputs([copy])
    page = report_html(found)
    (copy / "previews/best.npz").write_bytes(b"")
    assert report_html(found) == page
    np.savez(copy / "previews/0000003.npz", color=np.zeros(3, np.uint8), points=np.zeros((0, 3)))
    with pytest.raises(DktError, match=r"0000003.npz: has no colors, depth: damaged, or"):
        report_html(found)


def test_a_damaged_manifest_is_told(outputs: Path, tmp_path: Path) -> None:
    shutil.copytree(outputs, copy := tmp_path / "out")
    (copy / "manifest.json").write_text('{"recordings": {"with_truth": 3}}')
    with pytest.raises(DktError, match="no manifest of"):
        read_outputs([copy])


def test_an_output_that_cannot_be_is_named_before_anything_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["report", "nowhere", "--output", "/proc/none/r.html"]) == 2
    assert "/proc/none/r.html: cannot be written" in capsys.readouterr().err
    assert main(["compare", "nowhere", "nowhere", "--output", "/proc/none"]) == 2
    assert "/proc/none/compare.md: cannot be written" in capsys.readouterr().err


def data_of(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return list(json.loads(found[1]))


def test_the_page_says_what_was_reached(outputs: Path) -> None:
    found = read_outputs([outputs])
    again = read_outputs([outputs, *(outputs / one.name for one in found.outputs)])
    assert [one.name for one in again.outputs] == [one.name for one in found.outputs]
    page = report_html(found, "A <title>", most_frames=6)
    assert "A &lt;title&gt;" in page
    assert "3 recordings, 24 frames, 24 of them with an answer. 1 recording could not" in page
    assert "On glass and metal the mean error is" in page
    assert re.search(r"error [\d.]+% \(glass and metal\)", page)
    assert "not a recording" in page
    assert "&lt;broken&gt;" in page
    assert "<broken>" not in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//|url\(|@import""", page)
    no_truth, with_truth = data_of(page)
    drawn = {plot["title"]: plot["series"] for plot in with_truth["plots"]}
    assert [one["name"] for one in drawn["Error against truth"]] == [
        "DKT, glass and metal",
        "raw, glass and metal",
        "DKT, the rest",
    ]
    drawn = {plot["title"]: plot["series"] for plot in no_truth["plots"]}
    (trusted,) = drawn["Error against trusted raw depth"]
    assert trusted["name"] == "network to trusted raw depth"
    captions = [one["error_caption"] for one in (no_truth, with_truth)]
    assert captions == ["difference to raw depth, 0 to 10%", "difference to truth, 0 to 10%"]
    figures = [json.loads(line) for line in (outputs / "with_truth" / "frames.jsonl").open()]
    covered = with_truth["plots"][0]["series"][0]["values"]
    assert covered == pytest.approx([one["raw_coverage"] for one in figures])
    of_glass = [one["errors"]["transparent/reflective"]["rel"] for one in figures]
    *rest, second, worst = sorted(range(12), key=of_glass.__getitem__)
    even = [sorted(rest)[place] for place in (0, 3, 6, 9)]
    assert [frame["index"] for frame in with_truth["frames"]] == sorted([second, worst, *even])
    for frame in with_truth["frames"]:
        index = frame["index"]
        assert frame["time"] == pytest.approx(index / 10)
        assert frame["score"] == of_glass[index]
        state, reason = figures[index]["state"], figures[index]["reason"]
        assert frame["told"].startswith(f"frame {index}, {index / 10:.2f} s, {state}, ")
        assert frame["told"].endswith(f": {reason}" if reason else "(all)")
        assert f", error {of_glass[index]:.1%} (glass and metal)" in frame["told"]
        sizes = [len(base64.b64decode(frame[name])) for name in ("points", "colors")]
        assert sizes[0] == 2 * sizes[1] > 0, "int16 beside uint8, three a point"


def made(folder: Path, name: str, frames: list[dict[str, Any]], **more: Any) -> Output:
    """An output of these frames' figures, a tenth of a second apart."""
    plain = dict.fromkeys(
        ("raw_coverage", "share_network", "scale", "shift", "inlier_ratio", "residual_m")
    )
    plain |= {"uncertainty": None, "confidence": None, "network_rel": None, "coverage": 1.0}
    plain |= {"errors": {}, "raw_errors": {}, "timings_s": {}, "state": "OK", "reason": ""}
    summary = {
        **dict.fromkeys(("lost", "notes"), ()),
        "unpaired": {},
        "restarts": {},
        "name": name,
        "kind": "bag",
        "recording": "/r",
        "version": "1",
        "elapsed_s": 2.0,
        "frames": len(frames) + 1,
        "answered": len(frames),
        "states": {"OK": 2, "HELD": 1},
        "frames_per_s": 2.5,
        "times_real_time": 0.25,
        "peak_memory_mb": 7.0,
        "between_answers": 0,
        "network": {"name": "n", "mode": "m", "device": "cpu"},
    }
    figures = [
        {**plain, "index": i, "stamp_ns": i * 10**8, **frame} for i, frame in enumerate(frames)
    ]
    return Output(folder, {**summary, **more}, figures)


def test_the_words_the_table_and_the_curves_are_of_the_figures(tmp_path: Path) -> None:
    def regions(objects: float | None, rest: float, every: float, **more: float) -> dict[str, Any]:
        told = {"transparent/reflective": objects, "rest": rest, "all": every}
        return {name: {"rel": rel, **more} for name, rel in told.items()}

    with_mask = [
        {
            "raw_coverage": 0.5,
            "coverage": 0.8,
            "share_network": 0.3,
            "residual_m": 0.001,
            "scale": 2.0,
            "shift": 0.5,
            "uncertainty": 0.04,
            "inlier_ratio": 0.9,
            "errors": regions(objects, 0.01, 0.02),
            "state": state,
            "reason": reason,
            "raw_errors": regions(raw, 0.03, 0.04, coverage=covered),
            "timings_s": {"predict": 0.1, "total": 0.2},
            "confidence": 0.7,
        }
        for objects, raw, covered, state, reason in (
            *((0.02, 0.2, 0.3, "OK", ""), (0.04, 0.4, 0.5, "HELD", "too dark")),
            (None, 0.3, 0.4, "OK", ""),
        )
    ]
    alone = {"all": {"rel": 0.05}}
    found = Outputs(
        [
            made(
                *(tmp_path, "a", with_mask),
                unpaired={"colour": 3},
                restarts={"another scene": 2},
                between_answers=4,
            ),
            made(
                tmp_path, "b", [{"network_rel": one, "raw_coverage": 0.25} for one in (0.3, 0.01)]
            ),
            made(tmp_path, "c", [{"errors": alone, "raw_coverage": 0.25}]),
        ],
        {"d": "worker process died: <why>"},
    )
    page = report_html(found)
    quality = (
        "The sensor gives depth on 50% of the pixels, DKT on 80%. On glass and metal the mean "
        "error is 3.0% (raw depth 30%, on the 40% where there is any). On the rest the mean error "
        "is 1.0% (raw depth 3.0%, on the 40% where there is any). 1 of 3 frames are not OK (1 "
        "HELD): too dark."
    )
    sensor = "The sensor gives depth on 25% of the pixels, DKT on 100%."
    for said in (
        quality,
        f"{sensor} There is no truth; where the raw depth is trusted the network by itself differs "
        "from it by 16% (median). All frames are OK.",
        f"{sensor} On all pixels the mean error is 5.0%. All frames are OK.",
    ):
        assert f"<p>{said}</p>" in page
    assert "4 recordings, 9 frames, 6 of them with an answer. 1 recording could not be" in page
    lines = "bag /r; n, mode m, on cpu; 2.0 s, at most 7 MB.|3 x colour.|"
    lines += "Began anew 2 times: another scene.|Between two answers of mode live: 4 frames."
    assert "".join(f"<li>{line}</li>" for line in lines.split("|")) in page
    rows = [re.findall("<td.*?>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    assert [row[1:] for row in rows if row] == [
        ["4", "3", "2", "50%", "80%", "3.0%", "2.0%", "", "2.50", "0.25"],
        ["3", "2", "2", "25%", "100%", "", "", "16%", "2.50", "0.25"],
        ["2", "1", "2", "25%", "100%", "", "5.0%", "", "2.50", "0.25"],
        ["worker process died: &lt;why&gt;"],
    ]
    first = data_of(page)[0]
    assert first["times"] == pytest.approx([0.0, 0.1, 0.2])
    drawn = {
        one["name"]: (
            plot.get("unit", ""),
            [v and v * plot.get("factor", 1) for v in one["values"]],
        )
        for plot in first["plots"]
        for one in plot["series"]
    }
    expected = {
        "raw": ("%", 50),
        "DKT": ("%", 80),
        "of it the network's": ("%", 30),
        "raw, glass and metal": ("%", None),
        "DKT, the rest": ("%", 1),
        "expected error": ("%", 4),
        "agrees": ("%", 90),
        "residual": (" mm", 1),
        "confidence": ("%", 70),
        "scale": ("", 2),
        "shift": ("", 0.5),
        "in all": (" ms", 200),
        "predict": (" ms", 100),
    }
    assert drawn.pop("DKT, glass and metal") == ("%", [pytest.approx(2), pytest.approx(4), None])
    assert drawn.keys() == expected.keys()
    for name, (unit, value) in expected.items():
        values = [20, 40, 30] if value is None else [value] * 3
        assert drawn[name][0] == unit, name
        assert drawn[name][1] == pytest.approx(values), name


def test_a_long_recording_is_drawn_by_the_means_of_neighbours(tmp_path: Path) -> None:
    frames = [{"raw_coverage": one / 1200} for one in range(1200)]
    (drawn,) = data_of(report_html(Outputs([made(tmp_path, "a", frames)])))
    values = drawn["plots"][0]["series"][0]["values"]
    assert values[:2] == pytest.approx([0.5 / 1200, 2.5 / 1200])
    assert (len(values), drawn["times"][1]) == (600, pytest.approx(0.25))


def test_what_is_noted_of_a_recording_is_shown_as_text(outputs: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(outputs / "with_truth", tmp_path / "with_truth")
    told = json.loads((copy / "summary.json").read_text())
    told |= {"notes": ["<b>a note"], "lost": ["2 x <i>a loss"]}
    (copy / "summary.json").write_text(json.dumps(told))
    page = report_html(read_outputs([copy]))
    assert "<li>Note: &lt;b&gt;a note</li>" in page
    assert "<li>Not used: 2 x &lt;i&gt;a loss.</li>" in page


def test_the_command(outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(outputs / "with_truth"), "--output", str(page)]) == 0
    assert "1 recording, 0 failed" in capsys.readouterr().out
    assert len(data_of(page.read_text())) == 1
    with pytest.raises(DktError, match="no whole output"):
        read_outputs([tmp_path])


@pytest.mark.slow
def test_in_a_browser(outputs: Path, tmp_path: Path) -> None:
    """No console error, no request, the controls act, and nothing is wider than a phone."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    page_file = tmp_path / "page.html"
    page_file.write_text(report_html(read_outputs([outputs])))
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: trouble.append(request.url))
        page.goto(page_file.as_uri())
        trouble = [one for one in trouble if not one.startswith(("file:", "data:"))]
        section = page.locator("#r1")
        slider = section.locator("input[type=range]")
        told = section.locator("output")
        assert told.inner_text().startswith("frame 0,")
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert told.inner_text().startswith("frame 1,")
        assert section.locator(".views img").count() == 6
        section.get_by_label("confidence", exact=True).check()
        assert section.locator(".views img").count() == 1
        section.locator("select").select_option("worst")
        first = section.locator(".worst button").first.inner_text()
        assert told.inner_text().startswith(first.partition(":")[0])
        canvas = section.locator("canvas")
        before = canvas.get_attribute("data-turned")
        canvas.focus()
        page.keyboard.press("ArrowLeft")
        assert canvas.get_attribute("data-turned") != before
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert section.locator("svg").count() == 7
        assert trouble == []
        browser.close()
