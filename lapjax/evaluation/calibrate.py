"""How far to trust a trained run: calibrates its confidence on held-out faces, and measures what that is worth.

`calibrate` belongs to the calibration split, which neither trained nor chose the model; `assess` to any other.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from lapjax import data, geometry, metrics
from lapjax.calibration import conformal
from lapjax.calibration.scale import Calibrated, Calibration, save_calibration
from lapjax.checkpoints.run import CALIBRATION, Run, load_run
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import Predictions, predict
from lapjax.metrics import bootstrap, uncertainty
from lapjax.metrics.scoring import truth
from lapjax.samples import Samples

__all__ = ["LEVELS", "Points", "assess", "calibrate", "calibrated", "points", "rank"]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def calibrate(
    run: Run | str | os.PathLike,
    samples: Samples | None = None,
    *,
    dataset: str | None = None,
    split: str = "calibration",
    data_dir: str | os.PathLike | None = None,
    level: float = 0.9,
    tolerance: float = 0.05,
) -> Calibration:
    """Fits the confidence of a trained model on samples that neither trained nor chose it; see `conformal.fit`.

    Args:
      run: a run directory, which keeps the calibration as calibration.json, for `load_run` to read; a `Run`, a file or a
        shipped model's name, whose calibration is given back alone (`export` writes a file with it).
      samples: labelled, to fit it on; None takes those of `dataset` and `split`.
      dataset: a prepared set or a pack; the one that the run was trained on by default.
      split: of that set; not the one that trained the run, nor the one that chose its best checkpoint.
      data_dir: where prepared sets lie, see `data.data_directory`.
      level: the probability that the radius of a point is to hold.
      tolerance: the error that the confidence is about, over sqrt(w * h) of the box.

    Returns:
      The calibration; its radii are in image px and its confidence is a probability.

    Raises:
      LapjaxError: as `predict`, `conformal.fit`, `load_run` and `load_dataset`, and a split that the run has learned from.

    Examples:
      >>> import lapjax
      >>> run = lapjax.load_run("toy-68")
      >>> found = lapjax.calibrate(run, lapjax.load_dataset("toy_faces", "calibration", limit=60))
      >>> found.level, found.images
      (0.9, 60)
    """
    source, run = run, run if isinstance(run, Run) else load_run(run)
    if samples is None:
        own = run.config.dataset if dataset is None else dataset
        learned = (run.config.train_split, run.config.validation_split)
        if own == run.config.dataset and split in learned:
            raise LapjaxError(
                f"the split {split} has trained or chosen this run, whose errors there are smaller than elsewhere: "
                "calibrate on one of its own, such as calibration"
            )
        samples = data.load_dataset(own, split, data_dir=data_dir)
    found = _fit(run, samples, level, tolerance)
    if not isinstance(source, Run) and pathlib.Path(source).is_dir():
        save_calibration(found, pathlib.Path(source) / CALIBRATION)
    return found


def _fit(run: Run, samples: Samples, level: float, tolerance: float) -> Calibration:
    guess = predict(run, samples)
    return conformal.fit(
        guess.input_points,
        guess.scale,
        metrics.point_errors(guess.points, truth(samples)),
        input_to_image=guess.input_to_image,
        scheme=samples.scheme,
        stride=run.config.model.stride,
        visible=samples.visible,
        level=level,
        tolerance=tolerance,
    )


def calibrated(run: Run, guess: Predictions, samples: Samples) -> Calibrated:
    """The expected error, radius and confidence of predictions, from the run's calibration.

    Raises:
      LapjaxError: the run has not been calibrated.
    """
    if run.calibration is None:
        raise LapjaxError(
            "this run has no calibration.json: `lapjax calibrate DIR` fits one on held-out faces"
        )
    return run.calibration.apply(
        guess.input_points,
        guess.scale,
        input_to_image=guess.input_to_image,
        box_size=geometry.box_size(samples.box),
    )


class Points(NamedTuple):
    """Errors and what was said of them, of N faces; lengths over the scheme's first normaliser."""

    error: np.ndarray
    """(N, K)."""
    doubt: np.ndarray
    """(N, K), the calibrated scale: the error to expect."""
    raw: np.ndarray
    """(N, K), the mean of b_x and b_y."""
    radius: np.ndarray
    """(N, K)."""
    confidence: np.ndarray
    """(N, K), that the point is close."""
    close: np.ndarray
    """(N, K) bool, whether it is."""
    miss: np.ndarray
    """(N, K, 2), the error per axis in input px."""
    scale: np.ndarray
    """(N, K, 2), b_x and b_y in input px."""
    nme: np.ndarray
    """(N,) percent."""


def points(run: Run, samples: Samples, *, guess: Predictions | None = None) -> Points:
    """The errors of a calibrated run on labelled faces, beside what it said of them.

    Args:
      run: calibrated.
      samples: labelled.
      guess: the run's predictions of them, where they are known already.

    Raises:
      LapjaxError: as `calibrated` and `predict`.
    """
    guess = predict(run, samples) if guess is None else guess
    said = calibrated(run, guess, samples)
    where, visible = truth(samples), samples.visible
    distances = metrics.normalisers(where, samples.box, samples.scheme, visible=visible)
    unit, side = distances[metrics.primary_normaliser(samples.scheme)], distances["box"]
    # `calibrated` has refused a run without one, and every scheme has its first normaliser and the box.
    assert run.calibration is not None and unit is not None and side is not None
    unit = unit[:, None]
    error = metrics.point_errors(guess.points, where)
    return Points(
        error=error / unit,
        doubt=said.scale / unit,
        raw=guess.scale.mean(axis=-1) * guess.input_to_image[:, None] / unit,
        radius=said.radius / unit,
        confidence=said.confidence,
        close=error < run.calibration.tolerance * side[:, None],
        miss=(guess.points - where) / guess.input_to_image[:, None, None],
        scale=guess.scale,
        nme=metrics.image_nme(guess.points, where, visible, samples.box, samples.scheme),
    )


def assess(run: Run, samples: Samples, *, threshold: float = 8.0, facts: Points | None = None) -> dict:
    """What a run's confidence is worth on labelled faces, ready for JSON.

    Args:
      run: calibrated.
      samples: neither of its training, validation nor calibration.
      threshold: NME in percent above which an image has failed.
      facts: the `points` of both, where they are known already.

    Returns:
      `radius`: the share of points inside theirs, `level`, `overall`, its bootstrap `interval` over the images, and
      `parts`, the same of each facial part; `mean_percent`, the mean radius in percent of the normaliser.
      `confidence`: `calibration_error` of the probability, its mean `said` and the share that came true, `seen`.
      `laplace`: `levels` and the shares of errors inside the raw Laplace intervals, `observed`.
      `ranking`: of the calibrated scale and of the raw b, both over the normaliser: `spearman` with the error, `ause`,
      and `failure_auroc` of the image means, at `threshold` and at the model's 90th percentile, with intervals where
      there are failures. None where there are too few.

    Raises:
      LapjaxError: as `calibrated` and `predict`.
    """
    facts, visible = points(run, samples) if facts is None else facts, samples.visible
    assert run.calibration is not None  # `points` has refused a run without one
    inside = facts.radius >= facts.error
    return {
        "images": len(samples),
        "radius": {
            "level": run.calibration.level,
            "overall": float(inside[visible].mean()),
            "interval": _share_interval(inside, visible),
            "parts": {
                name: float(inside[:, list(members)][visible[:, list(members)]].mean())
                for name, members in samples.scheme.parts
                if visible[:, list(members)].any()
            },
            "mean_percent": float(100 * facts.radius[visible].mean()),
        },
        "confidence": {
            "calibration_error": uncertainty.calibration_error(facts.confidence, facts.close, visible),
            "said": float(facts.confidence[visible].mean()),
            "seen": float(facts.close[visible].mean()),
        },
        "laplace": {
            "levels": list(LEVELS),
            "observed": uncertainty.coverage(facts.miss, facts.scale, LEVELS, visible).tolist(),
        },
        "ranking": {
            name: rank(facts.error, doubt, facts.nme, visible, threshold=threshold)
            for name, doubt in (("calibrated", facts.doubt), ("raw", facts.raw))
        },
    }


def rank(error, doubt, nme, visible, *, threshold: float = 8.0) -> dict:
    """How well an uncertainty orders errors: points by Spearman and AUSE, failed images by AUROC.

    Args:
      error: (N, K), normalised.
      doubt: (N, K) in any unit that compares between images.
      nme: (N,) percent.
      visible: (N, K) bool.
      threshold: percent; the other one is the 90th percentile of `nme`.
    """
    mean = metrics.visible_mean(doubt, visible)
    failed = {f"{threshold:g}": nme > threshold, "90th percentile": nme > np.quantile(nme, 0.9)}
    return {
        "spearman": uncertainty.spearman(doubt, error, visible),
        "ause": uncertainty.ause(error, doubt, visible),
        "failure_auroc": {name: _auroc(mean, one) for name, one in failed.items()},
    }


def _auroc(doubt, failed) -> dict | None:
    def statistic(doubt, failed):
        return uncertainty.auroc(doubt, failed) if 0 < failed.sum() < len(failed) else np.nan

    if not 0 < failed.sum() < len(failed):
        return None
    interval = bootstrap.bootstrap(statistic, doubt, failed, samples=500)
    return {"value": statistic(doubt, failed), "interval": list(interval), "failures": int(failed.sum())}


def _share_interval(inside, visible) -> list[float]:
    hits, count = (inside & visible).sum(axis=1), visible.sum(axis=1)
    return list(bootstrap.bootstrap(lambda hits, count: hits.sum() / count.sum(), hits, count))
