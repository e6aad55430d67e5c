"""How sure a number is: bootstrap intervals over images, and a paired test of two results on the same images.

Both resample images and nothing else: what another seed of the training would have given is not in them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lapjax.errors import LapjaxError

SAMPLES, PERMUTATIONS, LEVEL = 2000, 9999, 0.95


def bootstrap(
    statistic: Callable, *columns, samples: int = SAMPLES, seed: int = 0, level: float = LEVEL
) -> tuple:
    """The percentile bootstrap interval of a statistic of N images (Efron, Annals of Statistics 1979).

    Images are drawn with replacement, their values in all columns together. An interval has no width where all
    images agree: a failure rate of 0 % of 50 images comes out as 0 to 0, which says little about the next 50.

    Args:
      statistic: columns -> a number or an array, such as several means at once; draws where it is NaN (a rate of
        nothing) do not count.
      columns: arrays (N, ...), one row an image.
      samples: how many draws of N images.
      seed: of the draws; the same seed and N give the same draws.
      level: how much of the draws the interval holds.

    Returns:
      low, high: floats, or arrays where the statistic gives one; NaN where every draw is.

    Raises:
      LapjaxError: no images, columns of different lengths, no samples, or a level outside (0, 1).
    """
    columns = [np.asarray(column) for column in columns]
    count = _count(columns)
    if samples < 1 or not 0 < level < 1:
        raise LapjaxError(f"bootstrap: {samples} samples at level {level}; use 1 or more and 0 < level < 1")
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(samples):
        rows = generator.integers(count, size=count)
        draws.append(statistic(*(column[rows] for column in columns)))
    draws = np.asarray(draws, np.float64)
    edges = (1 - level) / 2, (1 + level) / 2
    if not np.isnan(draws).any():
        low, high = np.quantile(draws, edges, axis=0)
    else:
        low, high = np.apply_along_axis(_quantiles, 0, draws, edges)
    return (float(low), float(high)) if draws.ndim == 1 else (low, high)


class Paired(NamedTuple):
    """How two results on the same images differ; the difference is first minus second."""

    difference: float
    """The mean over the images."""
    interval: tuple[float, float]
    """Its bootstrap interval."""
    p_value: float
    """Of no difference, two-sided."""
    lower: float
    """The share of images in [0, 1] where the first is lower."""
    equal: float
    """The share of images where they are equal."""


def paired(
    first,
    second,
    *,
    samples: int = SAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Paired:
    """Tests whether two values of the same N images differ in their mean.

    The p-value is that of the paired permutation test: were there no difference, each image's could as well have the
    other sign. All 2^N signs are tried where that is no more than `permutations`, else that many at random, so that
    the smallest p-value is about 2 / permutations.

    Args:
      first: (N,), such as the NME of model A.
      second: (N,), of model B on the same images in the same order.
      samples: of the bootstrap.
      permutations: of the test.
      seed: of both.
      level: of the interval.

    Raises:
      LapjaxError: fewer than two images, different lengths, or NaN.
    """
    from scipy import stats

    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    count = _count([first, second])
    if first.ndim != 1 or second.ndim != 1 or count < 2:
        raise LapjaxError("paired test: needs one value an image and at least two images")
    difference = first - second
    if not np.isfinite(difference).all():
        raise LapjaxError(f"paired test: image {np.argmin(np.isfinite(difference))} has NaN or infinity")
    test = stats.permutation_test(
        (difference,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=max(1, 2**20 // count),
        rng=np.random.default_rng(seed),
    )
    return Paired(
        difference=float(difference.mean()),
        interval=bootstrap(np.mean, difference, samples=samples, seed=seed, level=level),
        p_value=float(test.pvalue),
        lower=float(np.mean(difference < 0)),
        equal=float(np.mean(difference == 0)),
    )


def _count(columns) -> int:
    lengths = {column.shape[0] if column.ndim else 0 for column in columns}
    if len(lengths) != 1 or 0 in lengths:
        raise LapjaxError(
            f"columns of {sorted(lengths)} images: give columns of the same images, at least one of each"
        )
    return lengths.pop()


def _quantiles(values, edges):
    values = values[~np.isnan(values)]
    return np.quantile(values, edges) if values.size else np.full(2, np.nan)
