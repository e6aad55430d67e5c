"""Statistics: against SciPy's own, by hand where few images allow it, and by what holds in the long run."""

import numpy as np
import pytest
from scipy import stats

from lapjax.errors import LapjaxError
from lapjax.metrics.bootstrap import PERMUTATIONS, bootstrap, paired


def test_bootstrap_against_scipy(rng):
    values = rng.gamma(3, 2, 300)
    low, high = bootstrap(np.mean, values)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=1, n_resamples=4000)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert (low, high) == pytest.approx(expected.confidence_interval, abs=0.1 * width)


def test_bootstrap_holds_the_truth_as_often_as_it_says(rng):
    held = 0
    for trial in range(200):
        low, high = bootstrap(np.mean, rng.normal(5, 1, 40), samples=200, seed=trial, level=0.9)
        held += low < 5 < high
    assert 0.83 <= held / 200 <= 0.95


def test_columns_are_drawn_together(rng):
    x = rng.normal(0, 1, 50)
    low, high = bootstrap(lambda a, b: np.corrcoef(a, b)[0, 1], x, 2 * x, samples=50)
    assert low == pytest.approx(1) and high == pytest.approx(1)


def test_several_statistics_at_once_are_those_one_by_one(rng):
    table = rng.normal(0, 1, (30, 3))
    low, high = bootstrap(lambda rows: rows.mean(axis=0), table, samples=100)
    assert low.shape == high.shape == (3,)
    for column in range(3):
        assert bootstrap(np.mean, table[:, column], samples=100) == pytest.approx((low[column], high[column]))


def test_the_seed_decides(rng):
    values = rng.normal(0, 1, 30)
    assert bootstrap(np.mean, values, seed=3) == bootstrap(np.mean, values, seed=3)
    assert bootstrap(np.mean, values, seed=3) != bootstrap(np.mean, values, seed=4)


def test_draws_without_a_value_do_not_count():
    values = np.array([1.0, 0, 0])

    def of_positives(x):
        return 7.0 if x.any() else np.nan

    assert bootstrap(of_positives, values) == (7, 7)
    low, high = bootstrap(lambda x: np.array([of_positives(x), np.nan, x.size]), values)
    np.testing.assert_array_equal(low, [7, np.nan, 3])
    np.testing.assert_array_equal(high, [7, np.nan, 3])


def test_paired_by_hand():
    # Five differences of one sign: of the 2^5 signs only the two extremes are as far out.
    found = paired([1, 2, 3, 4, 5], [2, 4, 4, 6, 9])
    assert found.difference == -2
    assert found.p_value == pytest.approx(2 / 32)
    assert (found.lower, found.equal) == (1, 0)
    assert found.interval[0] < -2 < found.interval[1] < 0
    mixed = paired([1, 2, 3, 4], [1, 3, 2, 4])
    assert (mixed.difference, mixed.lower, mixed.equal, mixed.p_value) == (0, 0.25, 0.5, 1)


def test_paired_finds_what_is_there_and_only_that(rng):
    hard = rng.gamma(3, 2, 300)  # some images are hard for both, which pairing takes out
    noise = rng.normal(0, 0.3, (2, 300))
    better = paired(hard + noise[0], hard + noise[1] + 0.1)
    assert better.p_value < 0.01 and better.interval[1] < 0 and better.lower > 0.5
    assert stats.ttest_ind(hard + noise[0], hard + noise[1] + 0.1).pvalue > 0.5
    t_test = stats.ttest_rel(hard + noise[0], hard + noise[1]).pvalue
    assert paired(hard + noise[0], hard + noise[1]).p_value == pytest.approx(t_test, abs=0.02)


def test_paired_is_antisymmetric(rng):
    a, b = rng.normal(0, 1, (2, 40))
    one, other = paired(a, b), paired(b, a)
    assert one.difference == -other.difference
    assert one.p_value == pytest.approx(other.p_value, abs=0.02)
    assert one.lower + one.equal + other.lower == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap(np.mean, []), "columns of .0. images"),
        (lambda: bootstrap(np.mean), "columns of"),
        (lambda: bootstrap(np.mean, [1, 2], [1]), r"columns of \[1, 2\] images"),
        (lambda: bootstrap(np.mean, 3.0), "columns of"),
        (lambda: bootstrap(np.mean, [1, 2], level=1), "0 < level < 1"),
        (lambda: bootstrap(np.mean, [1, 2], samples=0), "0 samples"),
        (lambda: paired([1], [2]), "at least two images"),
        (lambda: paired([1, 2], [2]), "columns of"),
        (lambda: paired([[1], [2]], [[2], [3]]), "one value an image"),
        (lambda: paired([1, 2, np.nan], [1, 2, 3]), "image 2 has NaN"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(LapjaxError, match=message):
        call()


def test_the_least_p_value_is_that_of_the_permutations():
    found = paired(np.zeros(40), np.ones(40))
    assert found.p_value == pytest.approx(2 / (PERMUTATIONS + 1))
