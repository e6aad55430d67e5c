"""Charts of confidence and of sweeps: what they draw, read back from the axes."""

import numpy as np
import pytest
from canvas import pixels
from matplotlib.figure import Figure

from lapjax.metrics import uncertainty
from lapjax.visualization import charts


@pytest.fixture
def ax():
    return Figure(figsize=(3, 3)).subplots()


def curves(ax):
    """The labelled curves, by their labels."""
    return {line.get_label(): line.get_data() for line in ax.lines if not line.get_label().startswith("_")}


def test_intervals_and_reliability_are_in_percent(ax):
    charts.intervals(ax, [0.5, 0.9], {"a": [0.4, 0.8], "b": [0.5, 0.9]})
    np.testing.assert_allclose(curves(ax)["a"], [[50, 90], [40, 80]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    other = Figure().subplots()
    bins = uncertainty.Reliability(np.array([0.2, 0.9]), np.array([0.3, 0.8]), np.array([5, 5]))
    charts.reliability(other, {"a": bins})
    np.testing.assert_allclose(curves(other)["a"], [[20, 90], [30, 80]])
    assert pixels(ax.figure).std() > 5


def test_sparsification_shows_the_curve_and_its_oracle(ax):
    random = np.random.default_rng(0)
    error = random.exponential(size=1000)
    charts.sparsification(ax, {"a": uncertainty.sparsification(error, error + random.normal(size=1000))})
    discarded, left = curves(ax)["a"]
    np.testing.assert_allclose([discarded[0], left[0]], [0, error.mean()])
    oracle = ax.lines[1].get_ydata()
    assert (oracle <= left + 1e-9).all() and oracle[-1] < 0.1 * left[0]


def test_failures_are_a_roc(ax):
    failed = [True, True, False, False]
    charts.failures(ax, {"good": ([4, 3, 2, 1], failed), "bad": ([1, 2, 3, 4], failed)})
    found = curves(ax)
    np.testing.assert_allclose(found["good: 1.00"], [[0, 0, 0, 50, 100], [0, 50, 100, 100, 100]])
    np.testing.assert_allclose(found["bad: 0.00"][1], [0, 0, 0, 50, 100])


def test_stress_names_what_grows(ax):
    charts.stress(ax, [0, 10], {"a": [3.5, 4.0]}, what="shift (%)")
    assert (ax.get_xlabel(), ax.get_ylim()[0]) == ("shift (%)", 0)
    np.testing.assert_allclose(curves(ax)["a"], [[0, 10], [3.5, 4.0]])


@pytest.mark.parametrize("log", [True, False])
def test_methods_of_a_sweep_can_be_told_apart(log):
    found = {f"method {i}": {5.0: [4.0, 6.0], 100.0: [3.0]} for i in range(20)}
    (ax,) = charts.sweeps({"": found}, what="labels (%)", log=log).axes
    lines = [line for line in ax.get_lines() if line.get_marker() in "os^Dv"]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(found)
    starts, ends = zip(*(line.get_xdata() for line in lines), strict=True)
    assert len(set(starts)) == len(found) and max(starts) < min(ends)
    middle = (lambda xs: np.exp(np.mean(np.log(xs)))) if log else np.mean
    assert middle(starts) == pytest.approx(5) and middle(ends) == pytest.approx(100)
    assert all(line.get_ydata().tolist() == [5, 3] for line in lines)
    ax.figure.draw_without_rendering()
    legend = ax.get_legend()
    assert len(legend.get_texts()) == len(found) and not legend.get_window_extent().overlaps(ax.bbox)
