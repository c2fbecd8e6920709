"""The line of greatest likelihood, and the covariance that smooth errors give it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dkt_ros.alignment import line_fit
from dkt_ros.alignment.line_fit import LineFit, fit_line, follow_line, line_covariance


def points(
    seed: int, count: int = 2000, noise: float = 0.004, under: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """d, y = 1.5 d + 0.7 with noise, and which points lie under the line."""
    rng = np.random.default_rng(seed)
    d = rng.random(count)
    y = 1.5 * d + 0.7 + noise * rng.normal(size=count)
    low = rng.random(count) < under
    y[low] -= rng.uniform(0.05, 0.4, low.sum())
    return d, y, low


def fitted(d: np.ndarray, y: np.ndarray, **options: tuple[float, float]) -> LineFit:
    fit = fit_line(d, y, **options)
    assert fit is not None
    return fit


class TestLine:
    @pytest.mark.parametrize("under", [0.0, 0.2, 0.4, 0.6])
    def test_points_under_the_line_do_not_pull_it(self, under: float) -> None:
        fit = fitted(*points(0, under=under)[:2])
        assert fit.scale == pytest.approx(1.5, rel=0.002)
        assert fit.shift == pytest.approx(0.7, rel=0.002)

    def test_weights_tell_the_points_on_the_line(self) -> None:
        d, y, low = points(1, under=0.3)
        weights = fitted(d, y).weights
        assert weights.shape == d.shape
        assert ((weights > 0.5) == ~low).mean() > 0.99

    @pytest.mark.parametrize(
        ("noise", "low", "high"), [(0.004, 0.0035, 0.006), (0.03, 0.025, 0.036)]
    )
    def test_sigma_is_the_noise(self, noise: float, low: float, high: float) -> None:
        assert low < fitted(*points(2, noise=noise, under=0.3)[:2]).sigma < high

    @pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
    def test_noise_that_grows_with_disparity(self, power: float) -> None:
        rng = np.random.default_rng(3)
        d = rng.random(6000)
        line = 1.5 * d + 0.7
        y = line + 0.01 * (line / 1.4) ** power * rng.normal(size=6000)
        fit = fitted(d, y)
        assert fit.power == pytest.approx(power, abs=0.15)
        for at in (0.9, 2.0):
            expected = 0.01 * (at / 1.4) ** power
            assert fit.sigma_at(np.array([at]))[0] == pytest.approx(expected, rel=0.15)

    def test_noise_free_points(self) -> None:
        fit = fitted(*points(4, noise=0)[:2])
        assert fit.scale == pytest.approx(1.5, rel=1e-5)
        assert fit.shift == pytest.approx(0.7, rel=1e-5)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 1000))
    def test_order_does_not_matter(self, seed: int) -> None:
        d, y, _ = points(seed, 500, under=0.4)
        order = np.random.default_rng(seed).permutation(len(d))
        first, second = fitted(d, y), fitted(d[order], y[order])
        assert (second.scale, second.shift) == pytest.approx((first.scale, first.shift), rel=1e-6)
        np.testing.assert_allclose(second.weights, first.weights[order], atol=1e-4)

    def test_a_guess_is_tried_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        d, y, _ = points(5, under=0.4)
        monkeypatch.setattr(line_fit, "PROPOSALS", 0)
        assert fit_line(d, y) is None
        assert fitted(d, y, guess=(1.4, 0.8)).scale == pytest.approx(1.5, rel=0.002)

    def test_a_line_that_falls_after_all_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        d, y, _ = points(5)
        monkeypatch.setattr(line_fit, "_weighted_line", lambda *_: (-0.1, 1.5))
        assert fit_line(d, y) is None

    def test_a_wrong_guess_does_no_harm(self) -> None:
        d, y, _ = points(6, under=0.4)
        alone, led = fitted(d, y), fitted(d, y, guess=(5.0, -2.0))
        assert led.scale == pytest.approx(alone.scale, rel=1e-4)

    @pytest.mark.parametrize(
        ("d", "y"),
        [
            (np.empty(0), np.empty(0)),
            (np.array([0.1, 0.9]), np.array([1.0, 2.0])),
            (np.full(100, 0.5), np.linspace(1, 2, 100)),
            (np.linspace(0, 1, 100), np.ones(100)),
            (np.linspace(0, 1, 100), np.linspace(2, 1, 100)),
            (np.linspace(0, 1, 100), np.linspace(1, 1.001, 100)),
        ],
    )
    def test_no_rising_line(self, d: np.ndarray, y: np.ndarray) -> None:
        assert fit_line(d, y) is None

    def test_unequal_points(self) -> None:
        with pytest.raises(ValueError, match="two equal"):
            fit_line(np.ones(3), np.ones(4))


class TestFollowing:
    def test_leads_to_what_a_search_finds(self) -> None:
        d, y, _ = points(11, under=0.3)
        before = fitted(d, y)
        for seed in range(12, 17):
            d, y, _ = points(seed, under=0.3)
            y *= 1.01
            found, followed = fitted(d, y), follow_line(d, y, before)
            assert followed is not None
            assert followed.scale == pytest.approx(found.scale, rel=1e-3)
            assert followed.shift == pytest.approx(found.shift, rel=1e-3)
            assert followed.sigma == pytest.approx(found.sigma, rel=0.05)
            assert followed.weights.shape == d.shape

    @pytest.mark.parametrize(
        ("noise", "under", "factor"), [(0.004, 0.4, 1.0), (0.012, 0.2, 1.0), (0.004, 0.2, 1.2)]
    )
    def test_not_where_it_explains_the_points_worse(
        self, noise: float, under: float, factor: float
    ) -> None:
        """Fewer of them, less tightly, or none since all has moved."""
        before = fitted(*points(11, under=0.2)[:2])
        d, y, _ = points(12, noise=noise, under=under)
        assert follow_line(d, y * factor, before) is None

    def test_not_where_there_is_no_line(self) -> None:
        before = fitted(*points(11)[:2])
        d, y, _ = points(12)
        assert follow_line(d[:2], y[:2], before) is None
        assert follow_line(np.ones(100), y[:100], before) is None
        assert follow_line(d, y[::-1].copy(), before) is None


class TestCovariance:
    def spread(self, correlated: bool) -> tuple[np.ndarray, np.ndarray]:
        """Standard deviations of (scale, shift): measured over many draws, and as claimed."""
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(48), 50)
        d = rng.random(len(groups))
        lines, claims = [], []
        for _ in range(200):
            error = 0.01 * rng.normal(size=48)[groups] if correlated else 0.0
            y = 1.5 * d + 0.7 + error + 0.01 * rng.normal(size=len(d))
            scale, shift = np.polyfit(d, y, 1)
            lines.append((scale, shift))
            residuals = y - scale * d - shift
            claims.append(np.diag(line_covariance(d, residuals, np.ones(len(d)), groups)))
        return np.std(lines, axis=0), np.sqrt(np.mean(claims, axis=0))

    @pytest.mark.parametrize("correlated", [False, True])
    def test_it_is_what_repeated_fits_show(self, correlated: bool) -> None:
        measured, claimed = self.spread(correlated)
        np.testing.assert_allclose(claimed, measured, rtol=0.25)

    def test_smooth_errors_make_it_larger(self) -> None:
        assert self.spread(True)[1][1] > 2 * self.spread(False)[1][1]

    def test_unknown_from_one_corner_or_one_disparity(self) -> None:
        d, ones = np.linspace(0, 1, 100), np.ones(100)
        assert np.isinf(line_covariance(d, 0 * d, ones, np.arange(100) % 3)).all()
        assert np.isinf(line_covariance(0 * d, d, ones, np.arange(100) % 8)).all()
        assert np.isinf(line_covariance(d, 0 * d, 0 * ones, np.arange(100) % 8)).all()
