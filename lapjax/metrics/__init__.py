"""The ruler: NME and its relatives, their intervals, how good an uncertainty is, and anyone's points against the truth.

The functions of `normalised_error` and `uncertainty` are here by name: `lapjax.metrics.image_nme`. `scoring` makes the tables of a split,
`predictions` reads the files of others, and `bootstrap` has the intervals.
"""

from lapjax.metrics.normalised_error import (
    NORMALISERS,
    THRESHOLDS,
    ImageValues,
    auc,
    ced,
    failure_rate,
    image_nme,
    image_values,
    nme,
    normalisers,
    point_errors,
    primary_normaliser,
    summary,
    threshold_keys,
    visible_mean,
)
from lapjax.metrics.uncertainty import (
    Reliability,
    Sparsification,
    auroc,
    ause,
    calibration_error,
    coverage,
    reliability,
    sparsification,
    spearman,
)

__all__ = [
    "ImageValues",
    "NORMALISERS",
    "Reliability",
    "Sparsification",
    "THRESHOLDS",
    "auc",
    "auroc",
    "ause",
    "calibration_error",
    "ced",
    "coverage",
    "failure_rate",
    "image_nme",
    "image_values",
    "nme",
    "normalisers",
    "point_errors",
    "primary_normaliser",
    "reliability",
    "sparsification",
    "spearman",
    "summary",
    "threshold_keys",
    "visible_mean",
]
