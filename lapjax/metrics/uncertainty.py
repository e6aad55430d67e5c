"""How good a confidence is: does it rank errors, does it find failures, does it happen as often as it says.

Scores grow with doubt: they are uncertainties, such as the Laplace scale b or a calibrated scale. Every function takes
a mask of what is visible and leaves the rest out; what stands there does not matter. float64.
"""

import math
from typing import NamedTuple

import numpy as np

from lapjax.errors import LapjaxError

__all__ = [
    "Reliability",
    "Sparsification",
    "ause",
    "auroc",
    "calibration_error",
    "coverage",
    "reliability",
    "sparsification",
    "spearman",
]


class Sparsification(NamedTuple):
    """The mean error of the points that are left once a share of them is discarded; all (M,) for M points.

    Attributes:
      discarded: the share, 0 to (M - 1) / M.
      by_uncertainty: the most uncertain discarded first.
      oracle: the worst discarded first, which no uncertainty can beat.
      random: any discarded, which leaves the mean error as it is.
    """

    discarded: np.ndarray
    by_uncertainty: np.ndarray
    oracle: np.ndarray
    random: np.ndarray


class Reliability(NamedTuple):
    """Bins of predictions with like probabilities, from low to high; all (bins,).

    Attributes:
      predicted: the mean probability that was said.
      observed: the share for which it came true.
      count: how many predictions there are.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray


def spearman(uncertainty, error, visible=None) -> float:
    """Spearman's rank correlation of an uncertainty with the error, all points pooled: 1 is a perfect order.

    Args:
      uncertainty: any shape; over the same normaliser as the error, if that differs between images.
      error: the same shape.
      visible: bool of that shape, or None where all count.

    Raises:
      LapjaxError: shapes that differ, NaN or infinity, fewer than two points, or a column that is constant.
    """
    uncertainty, error = _columns(visible, uncertainty=uncertainty, error=error)
    for name, column in (("uncertainty", uncertainty), ("error", error)):
        if np.ptp(column) == 0:
            raise LapjaxError(
                f"confidence: `{name}` is the same everywhere, so it has no order; pass another"
            )
    from scipy import stats

    return float(stats.spearmanr(uncertainty, error).statistic)  # pyright: ignore[reportAttributeAccessIssue]


def auroc(score, positive, visible=None) -> float:
    """Area under the ROC curve: the probability that a positive's score is above a negative's, ties one half.

    For failures, `score` is an image's mean uncertainty and `positive` says that its NME is above the threshold.

    Args:
      score: any shape.
      positive: bool of that shape.
      visible: bool of that shape, or None where all count.

    Raises:
      LapjaxError: shapes that differ, NaN or infinity, or only positives or only negatives.
    """
    score, positive = _columns(visible, score=score, positive=_truths("positive", positive))
    positive = positive.astype(bool)
    count = np.count_nonzero(positive)
    if count in (0, len(positive)):
        kind = "negatives" if count == 0 else "positives"
        raise LapjaxError(f"confidence: there are only {kind}; an ROC curve needs both: move the threshold")
    from scipy import stats

    # The Mann-Whitney U statistic, over its largest value.
    ranks = stats.rankdata(score)[positive].sum() - count * (count + 1) / 2
    return float(ranks / (count * (len(positive) - count)))


def sparsification(error, uncertainty, visible=None) -> Sparsification:
    """The sparsification curves of Ilg et al., "Uncertainty estimates and multi-hypotheses networks", ECCV 2018.

    Points of equal uncertainty leave in every order alike: each counts with the mean error of those it ties with.

    Args:
      error: any shape, not negative.
      uncertainty: the same shape.
      visible: bool of that shape, or None where all count.

    Raises:
      LapjaxError: shapes that differ, NaN or infinity, a negative error, or no point.
    """
    error, uncertainty = _columns(visible, error=error, uncertainty=uncertainty)
    if (error < 0).any():
        raise LapjaxError("confidence: `error` is negative somewhere; pass distances")
    _, tie = np.unique(uncertainty, return_inverse=True)
    shared = (np.bincount(tie, weights=error) / np.bincount(tie))[tie]
    left = np.arange(len(error), 0, -1)

    def curve(order):
        return np.cumsum(order)[::-1] / left

    return Sparsification(
        discarded=1 - left / len(error),
        by_uncertainty=curve(shared[np.argsort(uncertainty)]),
        oracle=curve(np.sort(error)),
        random=np.full(len(error), error.mean()),
    )


def ause(error, uncertainty, visible=None) -> float:
    """Area under the sparsification error curve (Ilg et al., 2018): 0 is the oracle's order, less is better.

    The mean, over the share discarded, of how far the curve by uncertainty lies above the oracle's, over the mean
    error of all points.

    Args:
      error: any shape, not negative.
      uncertainty: the same shape.
      visible: bool of that shape, or None where all count.

    Raises:
      LapjaxError: as `sparsification`, and where every error is 0.
    """
    curves = sparsification(error, uncertainty, visible)
    if curves.random[0] == 0:
        raise LapjaxError("confidence: every error is 0, so no order is better than another")
    return float(np.mean(curves.by_uncertainty - curves.oracle) / curves.random[0])


def coverage(error, scale, levels, visible=None) -> np.ndarray:
    """How often the errors lie in the central intervals of Laplace distributions; the levels, if b is calibrated.

    Args:
      error: (N, K, 2) differences per axis, in the unit of the scale.
      scale: (N, K, 2) b_x and b_y.
      levels: (L,) probabilities in (0, 1); the interval of level p is +- b log(1 / (1 - p)).
      visible: (N, K) bool, or None where all count.

    Returns:
      (L,) the shares of errors inside, over visible points and both axes.

    Raises:
      LapjaxError: shapes that differ, NaN or infinity, a negative scale, or a level outside (0, 1).
    """
    levels = np.asarray(levels, np.float64)
    if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
        raise LapjaxError(f"confidence: levels {levels.tolist()} must be a list of numbers between 0 and 1")
    error = np.asarray(error)
    if visible is not None:
        if np.shape(visible) != error.shape[:-1]:
            raise LapjaxError(
                f"confidence: `visible` has shape {np.shape(visible)}, expected {error.shape[:-1]}; one a point"
            )
        visible = np.broadcast_to(np.asarray(visible, bool)[..., None], error.shape)
    error, scale = _columns(visible, error=error, scale=scale)
    if (scale < 0).any():
        raise LapjaxError("confidence: `scale` is negative somewhere; check the model that made it")
    return np.array([np.mean(np.abs(error) <= -scale * math.log1p(-level)) for level in levels])


def reliability(probability, outcome, visible=None, *, bins: int = 10) -> Reliability:
    """The reliability diagram of probabilities, in bins of about equal counts.

    Equal counts rather than equal widths, for most probabilities of a good model lie near 1. Predictions of equal
    probability share a bin, so there may be fewer bins than asked for.

    Args:
      probability: any shape, in [0, 1].
      outcome: bool of that shape: what the probability was of.
      visible: bool of that shape, or None where all count.
      bins: how many.

    Raises:
      LapjaxError: shapes that differ, NaN, or probabilities outside [0, 1].
    """
    probability, outcome = _columns(visible, probability=probability, outcome=_truths("outcome", outcome))
    if probability.min() < 0 or probability.max() > 1:
        raise LapjaxError("confidence: `probability` leaves [0, 1]; pass probabilities")
    if bins < 1:
        raise LapjaxError(f"confidence: {bins} bins; ask for at least one")
    inner = np.quantile(probability, np.arange(1, bins) / bins, method="inverted_cdf")
    place = np.searchsorted(inner, probability)
    count = np.bincount(place, minlength=bins)
    full = count > 0
    predicted = np.bincount(place, weights=probability, minlength=bins)[full] / count[full]
    observed = np.bincount(place, weights=outcome, minlength=bins)[full] / count[full]
    return Reliability(predicted, observed, count[full])


def calibration_error(probability, outcome, visible=None, *, bins: int = 15) -> float:
    """The expected calibration error: the mean over points of |predicted - observed| of their bin of `reliability`.

    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015, with bins
    of equal counts. Chance alone gives about 0.8 sqrt(p (1 - p) bins / M) for M independent points.

    Raises:
      LapjaxError: as `reliability`.
    """
    found = reliability(probability, outcome, visible, bins=bins)
    return float(np.average(np.abs(found.predicted - found.observed), weights=found.count))


def _truths(name, value):
    value = np.asarray(value)
    if value.dtype != bool:
        raise LapjaxError(f"confidence: `{name}` must be bool, not {value.dtype}; compare with a threshold")
    return value


def _columns(visible, **arrays):
    """The visible entries of arrays of one shape, each as a flat float64 column."""
    arrays = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
    first, shape = next((name, value.shape) for name, value in arrays.items())
    visible = np.ones(shape, bool) if visible is None else np.asarray(visible, bool)
    for name, value in {**arrays, "visible": visible}.items():
        if value.shape != shape:
            raise LapjaxError(
                f"confidence: `{name}` has shape {value.shape} and `{first}` {shape}; pass matching arrays"
            )
    if not visible.any():
        raise LapjaxError("confidence: there is no visible point; check the split and its mask")
    columns = [value[visible] for value in arrays.values()]
    for name, column in zip(arrays, columns, strict=True):
        if not np.isfinite(column).all():
            raise LapjaxError(f"confidence: `{name}` has NaN or infinity; check what made it, or mask it")
    return columns
