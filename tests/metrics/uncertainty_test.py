"""Measures of a confidence against SciPy, hand-computed cases and brute force, and their errors."""

import numpy as np
import pytest
from scipy import stats

from lapjax.errors import LapjaxError
from lapjax.metrics import uncertainty

_RNG = np.random.default_rng(0)


def _hide(array, visible):
    """The array with NaN where nothing is visible: what is masked must not be read."""
    return np.where(visible, array, np.nan)


def test_spearman_by_hand():
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15).
    assert uncertainty.spearman([[1, 2], [3, 40]], [[0.1, 0.7], [0.6, 9]]) == pytest.approx(0.8)


def test_spearman_leaves_out_what_is_hidden():
    error, visible = _RNG.random((20, 7)), _RNG.random((20, 7)) < 0.6
    scale = error + _RNG.random((20, 7))
    expected = stats.spearmanr(scale[visible], error[visible]).statistic
    assert uncertainty.spearman(_hide(scale, visible), _hide(error, visible), visible) == pytest.approx(
        expected
    )
    assert abs(expected - uncertainty.spearman(scale, error)) > 1e-3


def test_auroc_counts_pairs():
    score, positive = _RNG.integers(0, 12, 60).astype(float), _RNG.random(60) < 0.3
    above = score[positive][:, None] - score[~positive]
    expected = np.mean((above > 0) + 0.5 * (above == 0))
    assert uncertainty.auroc(score, positive) == pytest.approx(expected, abs=1e-12)
    assert uncertainty.auroc(-score, positive) == pytest.approx(1 - expected, abs=1e-12)


def test_auroc_at_its_ends():
    assert uncertainty.auroc([1, 2, 3, 4], np.array([0, 0, 1, 1], bool)) == 1
    assert uncertainty.auroc([4, 3, 2, 1], np.array([0, 0, 1, 1], bool)) == 0
    assert uncertainty.auroc([5, 5, 5, 5], np.array([0, 0, 1, 1], bool)) == 0.5


def test_sparsification_by_hand():
    curves = uncertainty.sparsification([4.0, 1, 3, 0], [1.0, 4, 3, 2])
    np.testing.assert_allclose(curves.discarded, [0, 0.25, 0.5, 0.75])
    # The errors 1, 3, 0 leave in that order.
    np.testing.assert_allclose(curves.by_uncertainty, [2, 7 / 3, 2, 4])
    np.testing.assert_allclose(curves.oracle, [2, 4 / 3, 0.5, 0])
    np.testing.assert_allclose(curves.random, [2, 2, 2, 2])
    area = np.mean([0, 7 / 3 - 4 / 3, 2 - 0.5, 4 - 0])
    assert uncertainty.ause([4.0, 1, 3, 0], [1.0, 4, 3, 2]) == pytest.approx(area / 2)


def test_sparsification_of_ties_is_the_mean_over_their_orders():
    error, doubt = np.array([5.0, 1, 2, 7, 3]), np.array([1.0, 2, 2, 2, 0])
    curves = [
        uncertainty.sparsification(error, doubt + 1e-6 * np.array([0, *shift, 0])).by_uncertainty
        for shift in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    ]
    np.testing.assert_allclose(
        uncertainty.sparsification(error, doubt).by_uncertainty, np.mean(curves, axis=0)
    )
    flat = uncertainty.sparsification(error, np.ones(5))
    np.testing.assert_allclose(flat.by_uncertainty, flat.random)


def test_ause_orders_the_sources():
    truth = _RNG.gamma(2, size=(40, 5))
    error, visible = truth * _RNG.exponential(size=truth.shape), _RNG.random(truth.shape) < 0.8
    oracle, good, blind, wrong = (
        uncertainty.ause(_hide(error, visible), _hide(score, visible), visible)
        for score in (error, truth, _RNG.random(truth.shape), -error)
    )
    assert oracle == 0 < good < blind < wrong
    # No unit: the error's and the uncertainty's cancel.
    assert uncertainty.ause(9 * error, 3 * truth, visible) == pytest.approx(good)


def test_ause_of_a_constant_is_the_mean_gap_of_exponentials():
    # For exponential errors the oracle leaves, of the mean error, 1 + (u log u) / (1 - u) at the share u discarded:
    # the area above it is pi^2 / 6 - 1.
    error = -np.log1p(-(np.arange(20000) + 0.5) / 20000)
    assert uncertainty.ause(error, np.zeros(20000)) == pytest.approx(np.pi**2 / 6 - 1, abs=2e-3)


def test_coverage_of_laplace_draws_is_their_level():
    scale = _RNG.uniform(0.5, 4, size=(4000, 5, 2))
    error, levels = _RNG.laplace(scale=scale), np.array([0.1, 0.5, 0.9, 0.99])
    deviation = 4 * np.sqrt(levels * (1 - levels) / error.size)
    assert (abs(uncertainty.coverage(error, scale, levels) - levels) < deviation).all()
    inside = stats.laplace.cdf(np.log(10)) - stats.laplace.cdf(-np.log(10))
    assert uncertainty.coverage(np.full((1, 1, 2), 2.30), np.ones((1, 1, 2)), [inside])[0] == 1
    assert uncertainty.coverage(np.full((1, 1, 2), -2.31), np.ones((1, 1, 2)), [inside])[0] == 0


def test_coverage_masks_points():
    error, visible = np.array([[[0.0, 9], [np.nan, 0]]]), np.array([[True, False]])
    assert uncertainty.coverage(error, np.ones((1, 2, 2)), [0.5], visible) == 0.5


def test_reliability_by_hand():
    probability = np.array([0.9, 0.1, 0.3, 0.9, 0.2, 0.6])
    outcome = np.array([1, 0, 1, 1, 0, 0], bool)
    found = uncertainty.reliability(probability, outcome, bins=3)
    np.testing.assert_allclose(found.predicted, [0.15, 0.45, 0.9])
    np.testing.assert_allclose(found.observed, [0, 0.5, 1])
    np.testing.assert_array_equal(found.count, [2, 2, 2])
    assert uncertainty.calibration_error(probability, outcome, bins=3) == pytest.approx(
        (0.15 + 0.05 + 0.1) / 3
    )


def test_reliability_keeps_ties_together():
    outcome = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)
    for order in (np.arange(8), np.arange(8)[::-1]):
        found = uncertainty.reliability(np.full(8, 0.5), outcome[order], bins=4)
        assert found.count.tolist() == [8] and found.observed.tolist() == [0.5]


def test_calibration_error_sees_overconfidence_and_a_mask():
    probability, visible = _RNG.uniform(0, 1, (5000, 4)), _RNG.random((5000, 4)) < 0.5
    outcome = _RNG.random(probability.shape) < probability
    assert uncertainty.calibration_error(probability, outcome) < 0.015
    assert uncertainty.calibration_error(probability**2, outcome) == pytest.approx(1 / 6, abs=0.02)
    only = np.where(visible, outcome, False)
    assert uncertainty.calibration_error(_hide(probability, visible), only, visible) < 0.02
    assert uncertainty.calibration_error(probability, only) > 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: uncertainty.spearman([1, 2, 3], [1, 2]),
            r"`error` has shape \(2,\) and `uncertainty` \(3,\)",
        ),
        (lambda: uncertainty.spearman([1, 2], [1, 2], [True]), r"`visible` has shape \(1,\)"),
        (lambda: uncertainty.spearman([1, np.nan], [1, 2]), "`uncertainty` has NaN"),
        (lambda: uncertainty.spearman([1, 1], [1, 2]), "`uncertainty` is the same everywhere"),
        (lambda: uncertainty.spearman([], []), "no visible point"),
        (lambda: uncertainty.auroc([1, 2], np.array([True, True])), "only positives"),
        (lambda: uncertainty.auroc([1, 2], np.array([False, False])), "only negatives"),
        (lambda: uncertainty.auroc([1, 2], np.array([0.0, 1.0])), "`positive` must be bool"),
        (lambda: uncertainty.ause([0, 0], [1, 2]), "every error is 0"),
        (lambda: uncertainty.ause([-1, 0], [1, 2]), "`error` is negative"),
        (lambda: uncertainty.ause([1, np.inf], [1, 2]), "`error` has NaN or infinity"),
        (lambda: uncertainty.coverage(np.ones((1, 1, 2)), -np.ones((1, 1, 2)), [0.5]), "`scale` is negative"),
        (lambda: uncertainty.coverage(np.ones((1, 1, 2)), np.ones((1, 1)), [0.5]), "`scale` has shape"),
        (lambda: uncertainty.coverage(np.ones((1, 1, 2)), np.ones((1, 1, 2)), [1.0]), "levels"),
        (lambda: uncertainty.coverage(np.ones((1, 1, 2)), np.ones((1, 1, 2)), [0.5], [[1, 1]]), "`visible`"),
        (lambda: uncertainty.reliability([0.5, 1.2], np.array([True, False])), r"leaves \[0, 1\]"),
        (lambda: uncertainty.reliability([0.5], np.array([True]), bins=0), "0 bins"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(LapjaxError, match=message):
        call()
