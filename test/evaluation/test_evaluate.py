"""The comparison of methods on a video, and how figures are averaged."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fixtures.evaluated_scenes import RANGE, exact, live, oracle, table_with_glass

from dkt_ros.datasets.iterate import Skipped
from dkt_ros.errors import DktError
from dkt_ros.evaluation.evaluate import (
    Methods,
    Result,
    evaluate_video,
    mean_regions,
    mean_summary,
    summarise,
)
from dkt_ros.evaluation.judge import Figures
from dkt_ros.evaluation.models import ALIGNMENTS

TWO = ("video", "online")


def test_a_perfect_network_beats_the_baselines_where_glass_is() -> None:
    video = table_with_glass()
    methods = Methods([exact(oracle(video))])
    summary = summarise(evaluate_video(video, methods, RANGE))
    assert summary["dkt exact, video"]["transparent"].rel < 1e-3
    assert summary["dkt exact, online"]["transparent"].rel < 5e-3
    assert summary["plane"]["transparent"].rel > 0.2
    assert summary["plane"]["rest"].rel < 1e-3
    assert summary["raw"]["transparent"].coverage == 0.0
    assert math.isnan(summary["raw"]["transparent"].rel)
    assert math.isnan(summary["dkt exact, video"]["reflective"].rel)
    assert summary["plane"]["transparent/reflective"].rel == summary["plane"]["transparent"].rel


def test_the_plane_is_off_by_what_the_glass_stands_out() -> None:
    # Glass 0.5 1/m nearer: z = 1/(d + .5) against 1/d, so |p - g|/g = .5 / d, d = .6 + row/48.
    video = table_with_glass(1)
    figures = summarise(evaluate_video(video, Methods(), RANGE))["plane"]["transparent"]
    rows = np.arange(10, 26)
    assert figures.rel == pytest.approx(np.mean(0.5 / (0.6 + rows / 48)), rel=1e-3)


def test_fused_rows_have_flicker_and_confidence_beside_errors() -> None:
    video = table_with_glass(3)
    # Colour without anything to see would be refused.
    seen = (200 * (video.truth / video.truth.max())).astype(np.uint8)
    seen += np.random.default_rng(0).integers(0, 20, seen.shape[1:], np.uint8)
    video = replace(video, rgb=np.repeat(seen[..., None], 3, axis=-1))
    good, calls = oracle(video), []

    def flickering(rgb: np.ndarray, /) -> np.ndarray:
        """Each frame's glass stands out by more than the last one's."""
        calls.append(len(rgb))
        disparity = good(rgb)
        disparity[:, 10:26, 20:44] += 0.02 * (len(calls) % 2)
        return disparity

    methods = Methods([exact(flickering)], ("online", "fused"))
    summary = summarise(evaluate_video(video, methods, RANGE))
    assert len(calls) == 3, "one pass of the network serves both"
    fused, online = summary["dkt exact, fused"], summary["dkt exact, online"]
    assert online["transparent"].tae > 0.01
    assert 0 < fused["transparent"].tae < online["transparent"].tae, "it is kept steady"
    assert fused["rest"].tae < 1e-3
    for region, figures in fused.items():
        known = region != "reflective"
        assert math.isfinite(figures.ece) == math.isfinite(figures.ause) == known
        if known:
            assert 0 <= figures.ece <= 1
            assert np.mean(figures.rel_by_decile) == pytest.approx(figures.rel, rel=0.02)
            assert figures.trusted_half_rel == pytest.approx(
                np.mean(figures.rel_by_decile[:5]), rel=0.05, abs=1e-4
            )
    assert sum(fused["rest"].bin_within) > sum(fused["transparent"].bin_within)
    assert math.isnan(online["all"].ece)


def test_the_fused_rows_of_live_and_of_exact_on_its_frames_tell_confidence() -> None:
    video = table_with_glass(4)
    methods = Methods([exact(oracle(video)), live(oracle(video))], ("fused",))
    summary = summarise(evaluate_video(video, methods, RANGE))
    for row in ("dkt live, fused", "dkt exact, fused, live frames"):
        assert summary[row]["all"].coverage == 0.5
        # Of a scene that stands still each half of the frames tells what all do.
        assert summary[row]["all"].ece == pytest.approx(summary["dkt exact, fused"]["all"].ece)


def test_local_lines_are_rows_where_asked_for() -> None:
    video = table_with_glass()
    model = exact(oracle(video))
    rows = summarise(evaluate_video(video, Methods([model], ALIGNMENTS), RANGE))
    names = [name for name in rows if "dkt" in name]
    assert names == [f"dkt exact, {how}" for how in ("video", "online", "fused", "kNN", "patches")]
    for how in ("kNN", "patches"):
        assert rows[f"dkt exact, {how}"]["transparent"].rel < 0.05
        assert rows[f"dkt exact, {how}"]["rest"].rel < 5e-3
    fewer = evaluate_video(table_with_glass(raw=False), Methods([model], ("kNN", "video")), RANGE)
    assert [r.method for r in fewer if "dkt" in r.method] == ["dkt exact, video"]
    assert not any("kNN" in r.method for r in evaluate_video(video, Methods([model]), RANGE))


def test_without_raw_depth_there_is_nothing_to_complete_or_to_align_to() -> None:
    video = table_with_glass(raw=False)
    results = evaluate_video(video, Methods([exact(oracle(video))]), RANGE)
    assert [r.method for r in results] == ["truth", "dkt exact, video"]


def test_a_single_picture_is_predicted_once() -> None:
    video = table_with_glass(1)
    good, calls = oracle(video), []

    def counted(rgb: np.ndarray, /) -> np.ndarray:
        calls.append(len(rgb))
        return good(rgb)

    summary = summarise(evaluate_video(video, Methods([exact(counted)]), RANGE))
    assert calls == [1]
    assert summary["dkt exact, online"]["all"].rel < 5e-3
    evaluate_video(video, Methods([exact(counted)], ("online",)), RANGE)
    assert calls == [1, 1]


def test_alignments_are_those_asked_for() -> None:
    video = table_with_glass()
    results = evaluate_video(video, Methods([exact(oracle(video))], ("online",)), RANGE)
    assert [r.method for r in results if "dkt" in r.method] == ["dkt exact, online"]


def test_depth_beyond_the_range_counts_online_as_it_does_per_video() -> None:
    video = table_with_glass()

    def far_glass(rgb: np.ndarray, /) -> np.ndarray:
        disparity = oracle(video)(rgb)
        disparity[:, 12:14, 22:30] = (0.2 - 0.5) / 2.0  # 5 m, in a range that ends at 2 m
        return disparity

    results = evaluate_video(video, Methods([exact(far_glass)]), (0.1, 2.0))
    glass = {r.method: r.regions["transparent"] for r in results}
    assert glass["dkt exact, online"].coverage == 1.0
    assert glass["dkt exact, online"].rel > 0.05


def test_truth_outside_the_range_does_not_count() -> None:
    video = table_with_glass()
    video.truth[:, 0] = 50.0
    methods = Methods([exact(oracle(table_with_glass()))], ("video",))
    summary = summarise(evaluate_video(video, methods, RANGE))
    assert summary["nearest fill"]["all"].rmse_m < 1.0
    assert summary["dkt exact, video"]["all"].rel < 1e-3, "nor for scale and shift"


def test_a_video_without_truth_in_the_range_is_named() -> None:
    skipped = Skipped()
    assert evaluate_video(table_with_glass(), Methods(), (5.0, 6.0), skipped) == []
    assert skipped.reasons == {"made up": "no true depth from 5 to 6 m"}


def test_a_network_that_cannot_be_aligned_is_named_and_the_baselines_stay() -> None:
    video = table_with_glass()
    flat = exact(lambda rgb: np.full(rgb.shape[:3], 0.5, np.float32))
    skipped = Skipped()
    results = evaluate_video(video, Methods([flat]), RANGE, skipped)
    assert {r.method for r in results} >= {"raw", "Telea"}
    assert not any("dkt" in r.method for r in results)
    (reason,) = skipped.reasons.items()
    assert reason[0] == "made up, dkt exact"
    assert "cannot align" in reason[1]


def test_live_is_compared_with_exact_on_its_own_frames() -> None:
    video = table_with_glass(4)
    truth = video.truth.copy()
    good = oracle(video)

    def worse_later(rgb: np.ndarray, /) -> np.ndarray:
        """The exact sampler errs in frames 1 and 3, which live passes over."""
        disparity = good(rgb)
        disparity[1::2] += np.linspace(0.0, 0.2, disparity.shape[2], dtype=np.float32)
        return disparity

    methods = Methods([exact(worse_later), live(good)], ("video",))
    summary = summarise(evaluate_video(video, methods, RANGE))
    whole, passing = summary["dkt exact, video"]["all"], summary["dkt live, video"]["all"]
    shared = summary["dkt exact, video, live frames"]["all"]
    assert passing.coverage == shared.coverage == 0.5
    assert whole.coverage == 1.0
    assert passing.rel < 1e-3
    assert passing.rel < shared.rel < whole.rel
    np.testing.assert_array_equal(video.truth, truth)


def test_live_alone_and_live_on_every_frame_have_no_second_row() -> None:
    video = table_with_glass(3)
    good = oracle(video)
    both = evaluate_video(video, Methods([exact(good), exact(good, "dkt live")], TWO), RANGE)
    assert [r.method for r in both if "dkt live" in r.method] == [
        "dkt live, video",
        "dkt live, online",
    ]
    assert not any("live frames" in r.method for r in both)
    alone = evaluate_video(video, Methods([live(good)], TWO), RANGE)
    assert [r.method for r in alone if "dkt" in r.method] == ["dkt live, video", "dkt live, online"]


def test_the_second_row_is_of_the_model_before_that_answers_every_frame() -> None:
    video = table_with_glass(4)
    good = oracle(video)

    def askew(rgb: np.ndarray, /) -> np.ndarray:
        return good(rgb) + np.linspace(0.0, 0.2, rgb.shape[2], dtype=np.float32)

    models = [live(good, "0"), exact(good, "A"), live(good, "a"), exact(askew, "B")]
    methods = Methods([*models, live(askew, "b"), live(good, "c")], ("video",))
    results = evaluate_video(video, methods, RANGE)
    rows = {r.method: r.regions["all"] for r in results if r.method.endswith("frames")}
    assert list(rows) == ["A, video, live frames", "B, video, live frames"]
    assert all(row.coverage == 0.5 for row in rows.values())
    assert rows["A, video, live frames"].rel < 1e-3
    assert rows["B, video, live frames"].rel > 0.01


def test_a_normals_network_that_fails_is_named_and_the_rest_goes_on() -> None:
    def fail(rgb: np.ndarray) -> np.ndarray:
        raise DktError("no")

    skipped = Skipped()
    results = evaluate_video(table_with_glass(), Methods(predict_normals=fail), RANGE, skipped)
    assert "plane" in [r.method for r in results]
    assert skipped.reasons == {"made up, dkt normals": "no"}


def test_a_normals_network_is_measured_by_its_normals_alone() -> None:
    video = table_with_glass()
    normals = video.normals
    assert normals is not None
    methods = Methods(predict_normals=lambda rgb: normals)
    figures = summarise(evaluate_video(video, methods, RANGE))["dkt normals"]["all"]
    assert figures.mean_deg == pytest.approx(0.0, abs=1e-4)
    assert figures.normal_coverage == 1.0
    assert math.isnan(figures.rel)


def test_videos_count_alike_and_so_do_sets() -> None:
    def result(video: str, rel: float) -> Result:
        return Result("m", video, {"all": Figures(rel=rel)})

    first = summarise([result("a", 0.1), result("b", 0.3)])
    second = summarise([result("c", 0.8)])
    assert first["m"]["all"].rel == pytest.approx(0.2)
    assert mean_summary([first, second])["m"]["all"].rel == pytest.approx(0.5)
    lone = {"other": first["m"]}
    assert mean_summary([lone, second])["m"]["all"].rel == pytest.approx(0.8)


def test_live_and_exact_are_means_over_the_same_videos() -> None:
    """Of a picture live has every frame; where it fails, the exact sampler has no second row."""
    long, picture, failed = (replace(table_with_glass(n), name=str(n)) for n in (4, 1, 2))
    good = oracle(long)

    def askew(rgb: np.ndarray, /) -> np.ndarray:
        """The exact sampler errs most in the frames that live passes over."""
        error = 0.1 + np.arange(len(rgb)) % 2
        slope = np.linspace(0.0, 0.2, rgb.shape[2])
        return (good(rgb) + error[:, None, None] * slope).astype(np.float32)

    def fails(rgb: np.ndarray, /) -> np.ndarray:
        raise DktError("no")

    parts = [
        evaluate_video(video, Methods([exact(askew), live(answers)], ("video",)), RANGE)
        for video, answers in ((picture, good), (failed, fails), (long, good))
    ]
    shared = "dkt exact, video, live frames"
    rel = [{r.method: r.regions["all"].rel for r in part} for part in parts]
    assert [row.get(shared) for row in rel[:2]] == [rel[0]["dkt exact, video"], None]
    assert "dkt live, video" not in rel[1]
    assert rel[2][shared] != pytest.approx(rel[2]["dkt exact, video"], rel=1e-3)
    summary = summarise([result for part in parts for result in part])
    for row in ("dkt live, video", shared):
        assert summary[row]["all"].rel == pytest.approx((rel[0][row] + rel[2][row]) / 2)
    over_sets = mean_summary([summarise(part) for part in parts])
    for name, regions in summary.items():
        assert over_sets[name]["all"].rel == pytest.approx(regions["all"].rel, nan_ok=True)


def test_regions_that_one_row_lacks_are_the_mean_of_the_others() -> None:
    rows = [
        {"all": Figures(rel=0.1)},
        {"all": Figures(rel=0.3), "rest": Figures(rel=0.7)},
        {"rest": Figures(), "all": Figures(rel=math.nan, tae=0.5)},
    ]
    means = mean_regions(rows)
    assert list(means) == ["all", "rest"]
    assert means["all"].rel == pytest.approx(0.2)
    assert means["all"].tae == 0.5
    assert means["rest"].rel == pytest.approx(0.7)


def test_frames_count_alike_within_a_video() -> None:
    video = table_with_glass(2)
    assert video.raw is not None
    raw = video.raw.copy()
    raw[0] *= 1.3
    raw[1, 5:] = np.nan
    figures = summarise(evaluate_video(replace(video, raw=raw), Methods(), RANGE))["raw"]["all"]
    assert figures.rel == pytest.approx(0.15, abs=1e-5)  # not weighted by pixels
