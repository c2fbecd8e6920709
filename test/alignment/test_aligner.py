"""Alignment: recovery of scale and shift under holes and glass, and what properties it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.glass_scenes import (
    GlassScene,
    least_squares,
    random_depths,
    see_through,
    table_with_glass,
    with_holes,
    with_network_error,
    with_noise,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dkt_ros import alignment
from dkt_ros.alignment.aligner import (
    SEARCH_EVERY,
    Aligner,
    Alignment,
    AlignmentConfig,
    AlignmentState,
    align_depth,
)
from dkt_ros.alignment.line_fit import LineFit, fit_line
from dkt_ros.errors import DktError

OK, HELD, UNALIGNED = AlignmentState.OK, AlignmentState.HELD, AlignmentState.UNALIGNED
SHAPE = (96, 128)
NAN_BUT_40 = np.where(np.arange(96 * 128) < 40, 0.5, np.nan).reshape(SHAPE)


def align(scene: GlassScene) -> Alignment:
    return Aligner().update(scene.disparity, scene.raw)


def glass_table(seed: int, share: float = 0.4, coherent: bool = False) -> GlassScene:
    """Half the pixels missing, a share of the rest too far by 20 to 200 mm."""
    scene = see_through(table_with_glass(seed), seed, share, coherent=coherent)
    return with_holes(with_noise(scene, seed), seed)


def assert_recovered(scene: GlassScene, alignment: Alignment, tolerance: float = 0.01) -> None:
    assert alignment.state is OK, alignment.reason
    assert alignment.scale == pytest.approx(scene.scale, rel=tolerance)
    assert alignment.shift == pytest.approx(scene.shift, rel=tolerance)


class TestRecovery:
    @pytest.mark.parametrize("coherent", [False, True])
    @pytest.mark.parametrize("seed", range(6))
    def test_half_missing_and_two_fifths_see_through(self, seed: int, coherent: bool) -> None:
        scene = glass_table(seed, coherent=coherent)
        assert_recovered(scene, align(scene), tolerance=0.005)
        scale, _ = least_squares(scene.disparity, scene.raw)
        assert abs(scale / scene.scale - 1) > 0.02, "least squares would do here"

    @pytest.mark.parametrize("offset_m", [0.03, 0.062, 0.15])
    def test_see_through_by_one_distance_is_no_second_scale(self, offset_m: float) -> None:
        scene = see_through(table_with_glass(1), 1, 0.4, (offset_m, offset_m), coherent=True)
        scene = with_holes(with_noise(scene, 1), 1)
        assert_recovered(scene, align(scene))

    def test_the_table_seen_through_large_glass(self) -> None:
        table = table_with_glass(2)
        truth = np.where(_middle(table.truth.shape, 0.6), 0.8 * table.truth, table.truth)
        inverse = 1 / truth
        low, span = inverse.min(), np.ptp(inverse)
        scene = with_noise(
            GlassScene(
                truth.astype(np.float32),
                table.truth,
                truth < table.truth,
                ((inverse - low) / span).astype(np.float32),
                span,
                low,
            ),
            2,
        )
        alignment = align(scene)
        assert_recovered(scene, alignment)
        assert 0.35 < alignment.inlier_ratio < 0.45, "60% of the pixels show the table behind"

    @pytest.mark.parametrize("noise_m", [0.0, 0.001, 0.003, 0.005])
    def test_noise_that_is_constant_in_metres(self, noise_m: float) -> None:
        scene = random_depths(3, (240, 320), 0.4, 1.5)
        noise = noise_m * np.random.default_rng(3).normal(size=scene.raw.shape)
        scene = replace(scene, raw=(scene.raw + noise).astype(np.float32))
        assert_recovered(scene, align(with_holes(see_through(scene, 3), 3)))

    @pytest.mark.parametrize("shape", [(16, 16), (24, 32), (720, 1280)])
    def test_any_image_size(self, shape: tuple[int, int]) -> None:
        scene = with_holes(see_through(random_depths(4, shape, 0.4, 1.5), 4), 4)
        assert_recovered(scene, align(scene))

    def test_holes_and_errors_in_a_pattern(self) -> None:
        scene = table_with_glass(5, (480, 640))
        raw = scene.raw.copy()
        raw[::2] = np.nan
        raw[1::2, ::3] += np.float32(0.08)
        scene = replace(scene, raw=raw)
        assert_recovered(scene, align(scene))

    def test_few_pixels_with_depth(self) -> None:
        scene = with_holes(with_noise(table_with_glass(6), 6), 6, share=0.997)
        assert_recovered(scene, align(scene))

    def test_flying_pixels_in_front(self) -> None:
        scene = with_noise(table_with_glass(7), 7)
        raw = scene.raw.copy()
        rng = np.random.default_rng(7)
        flying = rng.random(raw.shape) < 0.15
        raw[flying] = rng.uniform(0.11, 0.4, int(flying.sum()))
        scene = replace(scene, raw=raw)
        assert_recovered(scene, align(scene))

    def test_disparity_clipped_at_both_ends(self) -> None:
        scene = glass_table(8).squeezed(1.1, -0.05)
        scene = replace(scene, disparity=np.clip(scene.disparity, 0, 1))
        assert_recovered(scene, align(scene))

    def test_disparity_in_eight_bits(self) -> None:
        scene = glass_table(9)
        scene = replace(scene, disparity=np.round(scene.disparity * 255) / np.float32(255))
        assert_recovered(scene, align(scene))

    @pytest.mark.parametrize("share", [0.01, 0.03])
    @pytest.mark.parametrize("seed", range(4))
    def test_a_network_that_errs(self, seed: int, share: float) -> None:
        """No scale is true then; the objects' depth must be about as good as the network is."""
        scene = with_network_error(glass_table(seed), seed, share)
        error = scene.object_error(*_line(align(scene)))
        assert error < scene.object_error(scene.scale, scene.shift) + 0.005
        assert error < 0.5 * scene.object_error(*least_squares(scene.disparity, scene.raw))


class TestProperties:
    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        gain=st.floats(0.05, 1.0),
        place=st.floats(0.0, 1.0),
    )
    def test_depth_is_blind_to_the_disparity_s_own_scale(
        self, seed: int, gain: float, place: float
    ) -> None:
        scene = small_scene(seed)
        squeezed = scene.squeezed(gain, (1 - gain) * place)
        first = align_depth(scene.disparity, align(scene), 0.1, 10)
        second = align_depth(squeezed.disparity, align(squeezed), 0.1, 10)
        np.testing.assert_allclose(first, second, rtol=2e-4)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000), unit=st.floats(0.5, 2.0))
    def test_depth_follows_the_unit_of_raw_depth(self, seed: int, unit: float) -> None:
        scene = small_scene(seed)
        scaled = replace(scene, raw=scene.raw * np.float32(unit))
        first = align_depth(scene.disparity, align(scene), 0.05, 20)
        second = align_depth(scaled.disparity, align(scaled), 0.05, 20)
        np.testing.assert_allclose(first * unit, second, rtol=5e-3)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000), flip=st.sampled_from(["rows", "columns", "both", "mixed"]))
    def test_the_pixels_places_do_not_matter(self, seed: int, flip: str) -> None:
        # 48 x 64 pixels: every one of them is looked at.
        scene = small_scene(seed, (48, 64))
        order = np.random.default_rng(seed).permutation(scene.raw.size)

        def moved(image: np.ndarray) -> np.ndarray:
            if flip == "mixed":
                return image.ravel()[order].reshape(image.shape)
            return image[:: -1 if flip != "columns" else 1, :: -1 if flip != "rows" else 1]

        first = align(scene)
        second = Aligner().update(moved(scene.disparity), moved(scene.raw))
        assert second.scale == pytest.approx(first.scale, rel=1e-6)
        assert second.shift == pytest.approx(first.shift, rel=1e-6)
        assert second.inliers == first.inliers

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_larger_disparity_is_nearer(self, seed: int) -> None:
        scene = small_scene(seed)
        depth = align_depth(scene.disparity, align(scene), 0.1, 10)
        rising = depth.ravel()[np.argsort(scene.disparity.ravel(), kind="stable")]
        assert (np.diff(rising[np.isfinite(rising)]) <= 0).all()

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_the_same_input_gives_the_same_alignment(self, seed: int) -> None:
        scene = small_scene(seed)
        assert align(scene) == align(scene)

    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        share=st.floats(0.0, 0.4),
        missing=st.floats(0.0, 0.5),
        far=st.floats(1.0, 2.5),
    )
    def test_scale_and_shift_within_one_percent(
        self, seed: int, share: float, missing: float, far: float
    ) -> None:
        scene = see_through(table_with_glass(seed, SHAPE, 0.4, far), seed, share)
        scene = with_holes(with_noise(scene, seed, noise=0.002), seed, missing)
        assert_recovered(scene, align(scene))

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["pixels", "flat", "regions"]))
    def test_depth_that_has_nothing_to_do_with_the_disparity(self, seed: int, kind: str) -> None:
        rng = np.random.default_rng(seed)
        disparity = rng.random(SHAPE).astype(np.float32)
        if kind == "regions":
            disparity = disparity[::32, ::32].repeat(32, 0).repeat(32, 1)
        raw = rng.uniform(0.4, 2, SHAPE).astype(np.float32)
        if kind == "flat":
            raw = (0.8 + 0.002 * rng.normal(size=SHAPE)).astype(np.float32)
        alignment = Aligner().update(disparity, raw)
        assert alignment.state is UNALIGNED
        assert alignment.reason


class TestRefusals:
    """What determines no scale gives none, and says why."""

    @pytest.mark.parametrize(
        ("disparity", "raw", "words"),
        [
            (np.full(SHAPE, 0.5), np.full(SHAPE, 0.8), "too flat"),
            (np.full(SHAPE, 0.5), np.random.default_rng(0).uniform(0.5, 1, SHAPE), "too flat"),
            (np.random.default_rng(0).random(SHAPE), np.full(SHAPE, 0.8), "too flat"),
            (
                np.random.default_rng(0).random(SHAPE),
                np.full(SHAPE, np.nan),
                "no reading at any pixel",
            ),
            (np.random.default_rng(0).random(SHAPE), np.zeros(SHAPE), "no reading at any pixel"),
            (np.random.default_rng(0).random(SHAPE), -np.ones(SHAPE), "no reading at any pixel"),
            (
                np.random.default_rng(0).random(SHAPE),
                np.full(SHAPE, np.inf),
                "no reading at any pixel",
            ),
            (np.full(SHAPE, np.nan), np.full(SHAPE, 0.8), "disparity is not finite at 12288 of"),
            (NAN_BUT_40, np.full(SHAPE, 0.8), "disparity is not finite at 12248 of 12288"),
            (
                np.random.default_rng(0).random(SHAPE),
                np.full(SHAPE, 900.0),
                "0 sampled pixels with",
            ),
            (np.full(SHAPE, np.nan), np.full(SHAPE, np.nan), "no reading at any pixel"),
            (np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[1, 0.9], [0.8, 0.7]]), "4 sampled"),
            (np.array([[0.5]]), np.array([[0.5]]), "1 sampled"),
        ],
    )
    def test_no_scale(self, disparity: np.ndarray, raw: np.ndarray, words: str) -> None:
        alignment = Aligner().update(disparity.astype(np.float32), raw.astype(np.float32))
        assert alignment.state is UNALIGNED
        assert words in alignment.reason
        assert np.isnan([alignment.scale, alignment.shift]).all()
        assert np.isinf(alignment.uncertainty)

    def test_a_negative_scale(self) -> None:
        scene = glass_table(0)
        alignment = Aligner().update(1 - scene.disparity, scene.raw)
        assert alignment.state is UNALIGNED
        assert "no positive scale" in alignment.reason

    def test_millimetres_taken_for_metres(self) -> None:
        scene = glass_table(0)
        alignment = Aligner().update(scene.disparity, scene.raw * 1000)
        assert alignment.state is UNALIGNED
        assert "in metres" in alignment.reason

    def test_glass_alone_on_a_flat_table(self) -> None:
        """From above, with nothing else in sight: no pixel shows the scale."""
        truth = np.full(SHAPE, 0.6)
        truth[_middle(SHAPE, 0.2)] = 0.5
        inverse = 1 / truth
        disparity = (inverse - inverse.min()) / np.ptp(inverse)
        rng = np.random.default_rng(0)
        raw = 1 / (1 / 0.6 + 0.004 * rng.normal(size=SHAPE))
        assert Aligner().update(disparity, raw).state is UNALIGNED

    @pytest.mark.parametrize(
        ("disparity", "raw", "words"),
        [
            (np.zeros(SHAPE), np.ones(SHAPE, np.uint16), "millimetres"),
            (np.zeros(SHAPE, np.uint8), np.ones(SHAPE), "expected .* floats"),
            (np.zeros(SHAPE), np.ones((48, 64)), "expected the disparity's"),
            (np.zeros((1, *SHAPE)), np.ones(SHAPE), "height, width"),
            (None, np.ones(SHAPE), "disparity of None: expected an array"),
            ([[0.5]], np.ones(SHAPE), "disparity of type list: expected an array"),
            (np.zeros(SHAPE), [[1.0]], "raw depth of type list: expected a numpy array"),
        ],
    )
    def test_unusable_arrays(self, disparity: np.ndarray, raw: np.ndarray, words: str) -> None:
        with pytest.raises(DktError, match=words):
            Aligner().update(disparity, raw)

    @pytest.mark.parametrize(
        "change",
        [
            {"min_raw_depth": 2.0, "max_raw_depth": 1.0},
            {"min_raw_depth": 0.0},
            {"jump": -0.1},
            {"max_held_s": float("nan")},
            {"min_inliers": 2},
            {"max_samples": 10},
            {"jump_frames": 0},
        ],
    )
    def test_unusable_settings(self, change: dict[str, float]) -> None:
        with pytest.raises(DktError, match="alignment"):
            replace(AlignmentConfig(), **change)  # type: ignore[arg-type]


class TestTrust:
    def test_figures_of_a_good_fit(self) -> None:
        scene = glass_table(1)
        alignment = align(scene)
        assert alignment.reason == ""
        assert 0.5 < alignment.inlier_ratio < 0.65, "40% of the pixels see through"
        assert 1500 < alignment.inliers < 0.65 * AlignmentConfig().max_samples
        assert 0.0005 < alignment.residual_m < 0.005, "about the sensor's noise"
        assert alignment.uncertainty < 0.003
        rendered = table_with_glass(1)
        assert align(rendered).uncertainty >= 0.001, "no frame tells more, without noise either"

    def test_the_residual_grows_with_the_network_s_error(self) -> None:
        residuals = [
            align(with_network_error(glass_table(1, share=0.1), 1, share)).residual_m
            for share in (0.0, 0.01, 0.03)
        ]
        assert residuals[0] < residuals[1] < residuals[2]

    def test_copies_of_a_frame_are_no_evidence(self) -> None:
        scene = with_network_error(glass_table(1), 1, 0.02)
        aligner = Aligner()
        first, *copies = [aligner.update(scene.disparity, scene.raw) for _ in range(6)]
        assert [copy.uncertainty for copy in copies] == pytest.approx([first.uncertainty] * 5)
        # Readings anew of the same scene do tell more.
        again = with_holes(with_noise(scene, 7), 7)
        assert aligner.update(again.disparity, again.raw).uncertainty < 0.95 * first.uncertainty

    def test_uncertainty_covers_the_error(self) -> None:
        """Over many networks' errors the aligned table is off by as much as is claimed."""
        ratios = []
        for seed in range(20):
            scene = with_network_error(glass_table(1, share=0.1), seed, 0.02)
            alignment = align(scene)
            low, high = np.quantile(scene.disparity, (0.02, 0.98))
            errors = [
                (alignment.scale * d + alignment.shift) / (scene.scale * d + scene.shift) - 1
                for d in (low, high)
            ]
            ratios.append(np.max(np.abs(errors)) / alignment.uncertainty)
        assert 0.3 < np.median(ratios) < 3

    def test_a_demanding_configuration_refuses_what_another_takes(self) -> None:
        scene = with_network_error(glass_table(1, share=0.1), 1, 0.03)
        picky = AlignmentConfig(max_uncertainty=0.001)
        refused = Aligner(picky).update(scene.disparity, scene.raw)
        assert align(scene).state is OK
        assert refused.state is UNALIGNED
        assert "determines depth to" in refused.reason
        assert np.isnan(refused.scale)
        assert refused.rough == pytest.approx(_line(align(scene)), rel=1e-6)
        assert align(scene).rough is None

    def test_a_scene_nearly_flat_has_a_rough_line_and_a_flat_one_has_none(self) -> None:
        rng = np.random.default_rng(3)
        x = np.linspace(0, 1, SHAPE[1], dtype=np.float32) + np.zeros(SHAPE, np.float32)
        found = []
        for slope in (0.08, 0.0):
            raw = 1 / (1.5 + slope * x + 0.03 * rng.normal(size=SHAPE))
            found.append(Aligner().update(x, raw.astype(np.float32)))
        nearly, flat = found
        assert nearly.state is flat.state is UNALIGNED
        assert nearly.rough is not None
        assert nearly.rough[0] == pytest.approx(0.08, rel=0.2)
        assert flat.rough is None

    def test_one_corner_of_the_picture_tells_no_rough_line_either(self) -> None:
        scene, corner = with_noise(table_with_glass(1), 1), np.full_like(glass_table(1).raw, np.nan)
        height, width = corner.shape
        part = np.s_[: height // 6, : width // 8]
        corner[part] = scene.raw[part]
        found = Aligner().update(scene.disparity, corner)
        assert (found.state, found.rough) == (UNALIGNED, None)

    def test_min_inlier_ratio(self) -> None:
        scene = glass_table(1)
        refused = Aligner(AlignmentConfig(min_inlier_ratio=0.9)).update(scene.disparity, scene.raw)
        assert refused.state is UNALIGNED
        assert "agree with the best scale" in refused.reason

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (lambda raw: raw[:, ::-1].copy(), "depth and colour do not belong together"),
            (
                lambda raw: np.where(np.arange(raw.shape[1]) % 5 < 2, raw[:, ::-1], -1.0),
                "depth and colour do not belong together",
            ),
            (
                lambda raw: (
                    (np.nan_to_num(raw) * 1000).astype(np.uint16).byteswap().astype(np.float32)
                    / 1000
                ),
                "of the raw depth lies between 0.1 and 10 m: is its unit right",
            ),
        ],
    )
    def test_a_frame_that_no_line_fits_says_where_to_look(
        self, fault: Callable[[np.ndarray], np.ndarray], said: str
    ) -> None:
        scene = with_noise(glass_table(1), 1)
        picky = Aligner(AlignmentConfig(min_inlier_ratio=0.9))
        refused = picky.update(scene.disparity, fault(scene.raw))
        assert refused.state is UNALIGNED
        assert "agree with the best scale" in refused.reason
        assert said in refused.reason

    def test_raw_depth_outside_its_range_is_unknown(self) -> None:
        scene = with_noise(table_with_glass(1), 1)
        everywhere = align(scene)
        config = AlignmentConfig(min_raw_depth=0.5, max_raw_depth=0.6)
        inside = Aligner(config).update(scene.disparity, scene.raw)
        assert inside.inliers < 0.7 * everywhere.inliers
        assert_recovered(scene, inside)


class TestStream:
    """What one frame's alignment owes to the frames before it."""

    def started(self, frames: int = 3, config: AlignmentConfig | None = None) -> Aligner:
        aligner = Aligner(config)
        for seed in range(frames):
            scene = glass_table_frame(seed)
            assert aligner.update(scene.disparity, scene.raw, seed * 10**8).state is OK
        return aligner

    def test_steadier_than_single_frames(self) -> None:
        """A network whose error changes from frame to frame, on a scene that stands still."""
        frames = [with_network_error(glass_table_frame(s), s, 0.02) for s in range(30)]
        frames = [replace(f, disparity=_rescaled(f)) for f in frames]
        aligner = Aligner()
        single = np.array([_line(align(f)) for f in frames])
        followed = np.array([_line(aligner.update(f.disparity, f.raw)) for f in frames])
        at_near = [(line @ (1.0, 1.0)).std() for line in (single[5:], followed[5:])]
        assert at_near[1] < 0.75 * at_near[0]

    def test_follows_a_network_that_renormalises_every_clip(self) -> None:
        aligner = Aligner()
        for index in range(30):
            scene = glass_table_frame(index)
            gain = 0.8 + 0.15 * np.sin(index / 3)
            scene = scene.squeezed(gain, 0.03 * (1 + np.sin(index)))
            alignment = aligner.update(scene.disparity, scene.raw)
            assert alignment.state is OK
            assert scene.object_error(*_line(alignment)) < 0.002

    def test_follows_a_network_that_errs_and_renormalises_every_frame(self) -> None:
        """Another scale by a tenth or two, of the same surface: the old one explains much of it."""
        for seed in range(3):
            aligner, rng = Aligner(), np.random.default_rng(seed)
            states = []
            for index in range(30):
                scene = with_network_error(glass_table_frame(index), index + 100 * seed, 0.02)
                scene = scene.squeezed(rng.uniform(0.75, 0.95), rng.uniform(0, 0.05))
                alignment = aligner.update(scene.disparity, scene.raw)
                assert scene.object_error(*_line(alignment)) < 0.035
                states.append(alignment.state)
            assert states.count(HELD) <= 2

    def test_lines_are_searched_for_now_and_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And in the frame in which the one before no longer holds."""
        searched = []

        def counted(*given: Any) -> LineFit | None:
            searched.append(frame)
            return fit_line(*given)

        monkeypatch.setattr(alignment.aligner, "fit_line", counted)
        still = table_with_glass(3)
        changed = see_through(still, 3, 0.3)
        aligner = Aligner()
        for frame in range(2 * SEARCH_EVERY):
            scene = with_noise(still if frame < SEARCH_EVERY + 3 else changed, frame)
            assert_recovered(scene, aligner.update(scene.disparity, scene.raw))
        assert searched == [0, SEARCH_EVERY, SEARCH_EVERY + 3]

    def test_a_new_scene_is_believed_at_once(self) -> None:
        aligner = self.started()
        scene = with_noise(table_with_glass(77, near=0.7, far=2.0), 77)
        alignment = aligner.update(scene.disparity, scene.raw)
        assert_recovered(scene, alignment)

    def test_a_camera_that_nears_the_table(self) -> None:
        """The picture stays as it was, its depth shrinks fast."""
        aligner = self.started()
        for index in range(8):
            scene = glass_table_frame(index)
            nearer = np.float32(0.9**index)
            alignment = aligner.update(scene.disparity, scene.raw * nearer)
            assert alignment.state is OK
            assert alignment.scale == pytest.approx(scene.scale / nearer, rel=0.01)

    def test_a_scale_that_explains_the_frame_no_better_must_last(self) -> None:
        """Most of the table suddenly lies under a pane and reads too far by one disparity."""
        aligner = self.started()
        states = []
        pane = np.arange(SHAPE[1]) >= SHAPE[1] * 0.36
        for seed in range(10, 14):
            scene = with_noise(table_with_glass(1, SHAPE), seed)
            too_far = np.where(pane, np.float32(0.1) * scene.raw**2, np.float32(0))
            alignment = aligner.update(scene.disparity, scene.raw + too_far)
            states.append(alignment.state)
            if alignment.state is HELD:
                assert "jumped" in alignment.reason
                assert alignment.scale == pytest.approx(scene.scale, rel=0.005)
                assert 0.3 < alignment.inlier_ratio < 0.4
                # The old line may hold or be off by as much as the new one jumped.
                jump = int(alignment.reason.partition("jumped by ")[2].partition("%")[0]) / 100
                assert alignment.uncertainty == pytest.approx(jump / 2**0.5, rel=0.15)
            else:
                assert alignment.uncertainty < 0.02
        assert states == [HELD, HELD, OK, OK]

    @pytest.mark.parametrize(("panes", "states"), [("ff.ff", "HHOHH"), ("fnfn", "HHHH")])
    def test_only_frames_in_a_row_that_tell_the_same_scale_confirm_it(
        self, panes: str, states: str
    ) -> None:
        """Farther or nearer by a pane over most of the table, or as it was."""
        aligner = self.started()
        under, found = np.arange(SHAPE[1]) >= SHAPE[1] * 0.36, ""
        for seed, kind in enumerate(panes, start=10):
            scene = with_noise(table_with_glass(1, SHAPE), seed)
            off = {"f": -0.1, "n": 0.1, ".": 0.0}[kind]
            raw = np.where(under, 1 / (1 / scene.raw + np.float32(off)), scene.raw)
            found += aligner.update(scene.disparity, raw.astype(np.float32)).state.name[0]
        assert found == states

    def test_what_was_held_for_long_gives_way_sooner(self) -> None:
        *first, last = [with_network_error(glass_table_frame(s), 5, 0.02) for s in range(5)]
        moved = []
        for lost in (0, 10):
            aligner = Aligner()
            before = [aligner.update(scene.disparity, scene.raw) for scene in first][-1]
            for _ in range(lost):
                assert aligner.update(last.disparity, None).state is HELD
            after = aligner.update(last.disparity, last.raw * np.float32(0.97))
            assert before.state is after.state is OK
            moved.append(after.shift / before.shift - 1)  # 1/depth at the far end
        assert 0 < moved[0] < moved[1] - 0.005 < 0.03

    def test_one_bad_frame_leaves_no_trace(self) -> None:
        aligner = self.started()
        scene = glass_table_frame(20)
        noise = np.random.default_rng(0).uniform(0.3, 3, SHAPE).astype(np.float32)
        assert aligner.update(scene.disparity, noise).state is HELD
        assert_recovered(scene, aligner.update(scene.disparity, scene.raw))

    @settings(max_examples=20, deadline=None)
    @given(
        max_held=st.integers(0, 6),
        lost=st.integers(1, 9),
        kind=st.sampled_from(["holes", "none", "flat"]),
    )
    def test_held_for_so_many_frames_and_no_longer(
        self, max_held: int, lost: int, kind: str
    ) -> None:
        aligner = self.started(1, AlignmentConfig(max_held_frames=max_held))
        scene = glass_table_frame(0)
        raw = {
            "holes": np.full_like(scene.raw, np.nan),
            "none": None,
            "flat": np.full_like(scene.raw, 0.7),
        }[kind]
        for index in range(1, lost + 1):
            alignment = aligner.update(scene.disparity, raw)
            assert alignment.state is (HELD if index <= max_held else UNALIGNED)
            assert alignment.reason
            if alignment.state is HELD:
                assert alignment.scale == pytest.approx(scene.scale, rel=0.01)
        assert aligner.update(scene.disparity, scene.raw).state is OK

    def test_held_for_so_many_seconds_and_no_longer(self) -> None:
        aligner, now = Aligner(AlignmentConfig(max_held_s=2.0)), 1_700_000_000 * 10**9
        scene = glass_table_frame(0)
        disparity = scene.disparity
        assert aligner.update(disparity, scene.raw, now).state is OK
        assert aligner.update(disparity, None, now + 2 * 10**9).state is HELD
        alignment = aligner.update(disparity, None, now + 2 * 10**9 + 1)
        assert alignment.state is UNALIGNED
        assert "too old" in alignment.reason

    def test_holding_grows_less_certain(self) -> None:
        aligner = self.started()
        disparity = glass_table_frame(0).disparity
        held = [aligner.update(disparity, None).uncertainty for _ in range(5)]
        assert held == sorted(held)
        assert held[4] > 1.1 * held[0]

    def test_holding_tells_how_networks_wander_that_normalise_each_frame_anew(self) -> None:
        """The stated error is the true one within a factor of two, in the median."""
        scene, ratios = glass_table_frame(0), []
        for seed in range(8):
            random, aligner = np.random.default_rng(seed), Aligner()
            for number in range(12):
                low, high = random.normal(0, 0.04), 1 + random.normal(0, 0.04)
                disparity = (scene.disparity - low) / (high - low)
                raw = scene.raw if number < 8 else None
                alignment = aligner.update(disparity.astype(np.float32), raw)
                assert alignment.state is (HELD if raw is None else OK)
                if raw is None:
                    ends = np.quantile(disparity, (0.02, 0.98))
                    told = alignment.scale * ends + alignment.shift
                    true = scene.scale * (ends * (high - low) + low) + scene.shift
                    ratios.append(np.abs(true / told - 1).max() / alignment.uncertainty)
        assert 0.5 < np.median(ratios) < 2

    def test_holding_a_network_that_keeps_its_scale_is_hardly_less_certain(self) -> None:
        aligner = self.started(15)
        assert aligner.update(glass_table_frame(0).disparity, None).uncertainty < 0.015

    def test_reset_forgets(self) -> None:
        aligner = self.started()
        aligner.reset()
        scene = glass_table_frame(0)
        assert aligner.update(scene.disparity, None).state is UNALIGNED

    def test_another_image_size(self) -> None:
        aligner = self.started()
        scene = with_noise(table_with_glass(3, (120, 200)), 3)
        assert_recovered(scene, aligner.update(scene.disparity, scene.raw))


class TestRescaled:
    """The network's answers come on another scale, of the same scene."""

    scene = with_noise(table_with_glass(3), 3)
    other = (0.2 + 0.5 * scene.disparity).astype(np.float32)

    def begun(self, **config: float) -> Aligner:
        aligner = Aligner(AlignmentConfig(**config))  # type: ignore[arg-type]
        assert aligner.update(self.scene.disparity, self.scene.raw, 0).state is OK
        aligner.rescale()
        return aligner

    def test_without_raw_depth_the_depth_before_tells_the_new_scale(self) -> None:
        alignment = self.begun().update(self.other, None, 10**8)
        assert alignment.state is HELD
        assert alignment.scale == pytest.approx(2 * self.scene.scale, rel=0.02)
        depth = align_depth(self.other, alignment, 0.1, 10.0)
        assert np.nanmedian(np.abs(depth / self.scene.truth - 1)) < 0.01

    def test_it_is_held_no_longer_than_any_other(self) -> None:
        aligner = self.begun(max_held_frames=2)
        states = [aligner.update(self.other, None).state for _ in range(5)]
        assert states == [HELD, HELD, UNALIGNED, UNALIGNED, UNALIGNED]
        aligner = self.begun(max_held_s=1.0)
        assert aligner.update(self.other, None, int(1.5e9)).state is UNALIGNED

    @pytest.mark.parametrize("share", [1.0, 0.6])
    def test_another_picture_is_not_the_same_scene(self, share: float) -> None:
        noise = np.random.default_rng(0).random(self.other.shape, dtype=np.float32)
        columns = np.arange(noise.shape[1])
        other = np.where(columns < share * len(columns), noise, self.other)
        assert self.begun().update(other, None).state is UNALIGNED

    def test_it_is_no_surer_than_the_depth_that_told_it(self) -> None:
        aligner = Aligner()
        assert aligner.update(self.scene.disparity, self.scene.raw).state is OK
        pane = np.arange(self.scene.raw.shape[1]) >= 0.36 * self.scene.raw.shape[1]
        too_far = np.where(pane, np.float32(0.1) * self.scene.raw**2, np.float32(0))
        doubted = aligner.update(self.scene.disparity, self.scene.raw + too_far)
        assert doubted.state is HELD
        assert doubted.uncertainty > 0.04
        aligner.rescale()
        alignment = aligner.update(self.other, None)
        assert alignment.state is HELD
        assert alignment.uncertainty > doubted.uncertainty

    @pytest.mark.parametrize("left", ["rescaled", "reset", "too old"])
    def test_holding_is_as_certain_as_without_the_scale_that_was_left(self, left: str) -> None:
        aligner, fresh = Aligner(), Aligner()
        for _ in range(5):
            aligner.update(self.scene.disparity, self.scene.raw)
        if left == "too old":
            states = [aligner.update(self.scene.disparity, None).state for _ in range(12)]
            assert states[-1] is UNALIGNED
        elif left == "reset":
            aligner.reset()
        else:
            aligner.rescale()
        held = []
        for one in (aligner, fresh):
            for seed in range(5):
                again = with_noise(self.scene, seed)
                assert one.update(self.other, again.raw).state is OK
            held.append(one.update(self.other, None).uncertainty)
        assert held[0] == pytest.approx(held[1], rel=0.1)

    def test_where_there_is_raw_depth_it_tells_the_scale(self) -> None:
        nearer = self.scene.raw * np.float32(0.8)
        alignment = self.begun().update(self.other, nearer)
        assert alignment.state is OK
        assert alignment.scale == pytest.approx(2.5 * self.scene.scale, rel=0.02)

    def test_disparity_in_metres_needs_no_other_scale(self) -> None:
        metric = (1 / self.scene.truth).astype(np.float32)
        assert self.begun().update(metric, None, on_scale=True).state is UNALIGNED

    def test_forgotten_with_the_stream(self) -> None:
        aligner = self.begun()
        aligner.reset()
        assert aligner.update(self.other, None).state is UNALIGNED


class TestAlignDepth:
    alignment = Alignment(2.0, 0.5, 100, 1.0, 0.001, 0.001, OK, "")

    def test_formula_and_range(self) -> None:
        disparity = np.array([[0.0, 0.25, 0.5, 1.0, np.nan, -0.25, -1.0]])
        depth = align_depth(disparity, self.alignment, 0.45, 1.5)
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, [[np.nan, 1, 1 / 1.5] + [np.nan] * 4], rtol=1e-6)

    def test_the_range_includes_its_ends(self) -> None:
        depth = align_depth(np.array([[0.0, 0.75]], np.float32), self.alignment, 0.5, 2.0)
        np.testing.assert_array_equal(depth, [[2.0, 0.5]])

    def test_nothing_is_known_without_an_alignment(self) -> None:
        nan = float("nan")
        unaligned = Alignment(nan, nan, 0, 0.0, nan, np.inf, UNALIGNED, "no raw depth")
        assert np.isnan(align_depth(np.ones((3, 4), np.float32), unaligned, 0.1, 10)).all()

    def test_the_disparity_stays_as_it_was(self) -> None:
        disparity = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
        before = disparity.copy()
        align_depth(disparity, self.alignment, 0.1, 10)
        np.testing.assert_array_equal(disparity, before)

    @pytest.mark.parametrize("limits", [(0, 1), (2, 1), (-1, 1)])
    def test_an_impossible_range(self, limits: tuple[float, float]) -> None:
        with pytest.raises(DktError, match="depth range"):
            align_depth(np.ones((2, 2), np.float32), self.alignment, *limits)


def wall(factor: float) -> tuple[np.ndarray, np.ndarray]:
    """A network's disparity in 1/m of a wall, off by that factor, and a camera's depth of it."""
    rng = np.random.default_rng(4)
    depth = np.full(SHAPE, 0.8, np.float32) + 0.002 * rng.standard_normal(SHAPE)
    disparity = factor / 0.8 + 0.01 * rng.standard_normal(SHAPE)
    return disparity.astype(np.float32), depth.astype(np.float32)


def test_a_wall_is_taken_as_a_network_says_that_was_shown_raw_depth() -> None:
    disparity, raw = wall(1.03)
    assert Aligner().update(disparity, raw).state is UNALIGNED
    found = Aligner().update(disparity, raw, on_scale=True)
    assert (found.state, found.scale, found.shift) == (OK, 1.0, 0.0)
    assert found.uncertainty == pytest.approx(0.03, abs=0.005)
    assert found.residual_m == pytest.approx(0.8 * 0.03, abs=0.004)


def test_a_scale_is_not_older_for_walls_in_between_that_agreed_with_the_network() -> None:
    scene, aligner = small_scene(3), Aligner()
    metric = (1 / scene.truth).astype(np.float32)
    assert aligner.update(metric, scene.raw, 0, on_scale=True).state is OK
    for second in range(1, 9):
        assert aligner.update(*wall(1.0), second * 10**9, on_scale=True).state is OK
    held = aligner.update(wall(1.0)[0], None, 9 * 10**9, on_scale=True)
    assert held.state is HELD
    assert held.scale == pytest.approx(1.0, rel=0.02)


def test_a_few_readings_do_not_tell_that_a_network_is_right() -> None:
    disparity, raw = wall(1.0)
    raw[1:] = np.nan
    raw[0, 40:] = np.nan
    assert Aligner().update(disparity, raw, on_scale=True).state is UNALIGNED


def test_a_network_that_the_readings_contradict_is_not_taken_as_it_is() -> None:
    assert Aligner().update(*wall(1.3), on_scale=True).state is UNALIGNED


def test_where_a_line_is_told_it_is_fitted_all_the_same() -> None:
    scene = small_scene(3)
    aligner = Aligner()
    assert_recovered(scene, aligner.update(scene.disparity, scene.raw, on_scale=True), 0.02)


def small_scene(seed: int, shape: tuple[int, int] = SHAPE) -> GlassScene:
    scene = see_through(table_with_glass(seed, shape), seed, 0.3, (0.05, 0.2))
    return with_holes(with_noise(scene, seed, noise=0.002), seed, 0.3)


def glass_table_frame(seed: int) -> GlassScene:
    """One and the same scene, seen with other noise."""
    scene = see_through(table_with_glass(1, SHAPE), 1, 0.3)
    return with_holes(with_noise(scene, seed), seed, 0.3)


def _rescaled(scene: GlassScene) -> np.ndarray:
    """The disparity on the scale of the true scene's, whatever the error's extremes."""
    true = table_with_glass(1, SHAPE)
    inverse = scene.scale * scene.disparity + scene.shift
    return ((inverse - true.shift) / true.scale).astype(np.float32)


def _line(alignment: Alignment) -> tuple[float, float]:
    return alignment.scale, alignment.shift


def _middle(shape: tuple[int, ...], share: float) -> np.ndarray:
    height, width = shape
    v, u = np.mgrid[:height, :width]
    side = np.sqrt(share) / 2
    return (np.abs(v / height - 0.5) < side) & (np.abs(u / width - 0.5) < side)
