"""How far off: normalised mean error, failure rate, area under the cumulative error curve, mean scale b.

Errors are in original-image pixels, everything that is normalised is in percent, AUC is in [0, 1]; float64.
"""

from typing import NamedTuple

import numpy as np

from lapjax import geometry
from lapjax.errors import LapjaxError
from lapjax.metrics import bootstrap
from lapjax.schemes import Scheme

NORMALISERS = ("inter_ocular", "inter_pupil", "box", "diagonal")
THRESHOLDS = (8.0, 10.0)


def normalisers(landmarks, box, scheme: Scheme, *, visible=None) -> dict[str, np.ndarray | None]:
    """The distances, in the pixels of the landmarks, that errors are divided by.

    Args:
      landmarks: (N, K, 2) true points.
      box: (N, 4) min x, min y, max x, max y: the tight landmark box, or the annotated one (AFLW).
      scheme: names the eyes.
      visible: (N, K) bool, or None where all points are known.

    Returns:
      inter_ocular (outer eye corners), inter_pupil (means of the two pupil groups), box (sqrt(w * h)) and
      diagonal (sqrt(w^2 + h^2)), each (N,); None where the scheme has no such distance.

    Raises:
      LapjaxError: shapes that do not match, an image whose eyes are not visible, or a distance of zero.
    """
    landmarks, box = np.asarray(landmarks, np.float64), np.asarray(box, np.float64)
    images = len(landmarks)
    _expect("truth", landmarks, (images, scheme.count, 2))
    _expect("box", box, (images, 4))
    visible = _mask(visible, landmarks.shape[:2])
    size = box[:, 2:] - box[:, :2]
    ends = {
        "inter_ocular": scheme.eye_corners and [[i] for i in scheme.eye_corners],
        "inter_pupil": scheme.pupils,
    }
    out = {}
    for field, groups in ends.items():
        if groups is None:
            out[field] = None
            continue
        first, second = (list(group) for group in groups)
        _refuse(
            ~visible[:, first + second].all(axis=1),
            f"an eye landmark is not visible, so `{field}` is unknown",
            "leave the image out, or use a scheme without eyes",
        )
        out[field] = np.linalg.norm(
            landmarks[:, first].mean(axis=1) - landmarks[:, second].mean(axis=1), axis=-1
        )
    out["box"] = geometry.box_size(box)
    out["diagonal"] = np.hypot(*size.T)
    for field, value in out.items():
        if value is not None:
            bad = ~(np.isfinite(value) & (value > 0))
            _refuse(
                bad, f"the normaliser `{field}` is not a positive number", "correct the points or the box"
            )
    return out


def primary_normaliser(scheme: Scheme) -> str:
    """The normaliser of the scheme's headline numbers: inter_ocular where it has one, else box."""
    return "inter_ocular" if scheme.eye_corners else "box"


def point_errors(prediction, truth) -> np.ndarray:
    """Euclidean distances of two (N, K, 2) arrays, (N, K).

    Raises:
      LapjaxError: shapes that differ.
    """
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    _expect("prediction", prediction, truth.shape)
    return np.linalg.norm(prediction - truth, axis=-1)


def visible_mean(values, visible) -> np.ndarray:
    """The mean (N,) of values (N, K) over the landmarks that `visible` (N, K) bool marks.

    Raises:
      LapjaxError: an image without a visible landmark.
    """
    _refuse(~visible.any(axis=1), "no landmark is visible", "leave the image out")
    return np.sum(np.where(visible, values, 0), axis=1) / np.count_nonzero(visible, axis=1)


def nme(errors, visible, normaliser) -> np.ndarray:
    """Normalised mean error of each image.

    Args:
      errors: (N, K) from `point_errors`; what stands where a point is not visible does not matter.
      visible: (N, K) bool, or None where all points count.
      normaliser: (N,) in the unit of the errors.

    Returns:
      (N,) percent: the mean over the visible landmarks over the normaliser.

    Raises:
      LapjaxError: shapes that do not match, an image without a visible landmark, a normaliser not above zero.
    """
    errors, normaliser = np.asarray(errors, np.float64), np.asarray(normaliser, np.float64)
    _expect("normaliser", normaliser, errors.shape[:1])
    _refuse(~(normaliser > 0), "the normaliser is not a positive number", "correct the points or the box")
    return 100 * visible_mean(errors, _mask(visible, errors.shape)) / normaliser


def image_nme(
    prediction, truth, visible, box, scheme: Scheme, *, normaliser: str | None = None
) -> np.ndarray:
    """Normalised mean error of each image, from the points themselves.

    Args:
      prediction: (N, K, 2) image px.
      truth: (N, K, 2) image px.
      visible: (N, K) bool, or None where all points count.
      box: (N, 4) image px.
      scheme: the scheme of the points.
      normaliser: one of NORMALISERS; by default the scheme's primary one.

    Returns:
      (N,) percent.

    Raises:
      LapjaxError: as `summary`, and a normaliser that the scheme lacks.
    """
    normaliser = normaliser or primary_normaliser(scheme)
    prediction, truth, visible = _checked(prediction, truth, visible, scheme)
    distance = normalisers(truth, box, scheme, visible=visible).get(normaliser)
    if distance is None:
        raise LapjaxError(
            f"normaliser {normaliser!r}: the scheme {scheme.name!r} has none; use box or diagonal"
        )
    return nme(point_errors(prediction, truth), visible, distance)


def failure_rate(nme, threshold: float) -> float:
    """The percentage of images whose NME (N,) exceeds the threshold, both in percent."""
    return float(np.mean(_failures(_some(nme), threshold)))


def auc(nme, threshold: float) -> float:
    """Area under the cumulative error curve up to the threshold, over the threshold: in [0, 1].

    mean(max(0, 1 - nme / threshold)) is the exact integral of the empirical curve, with no grid to choose.
    """
    return float(np.mean(_areas(_some(nme), threshold)))


def ced(nme, grid) -> np.ndarray:
    """Cumulative error distribution: the fraction of images with NME (N,) at most each grid value (G,)."""
    nme = np.sort(_some(nme))
    return np.searchsorted(nme, np.asarray(grid, np.float64), side="right") / len(nme)


class ImageValues(NamedTuple):
    """What a summary averages, image by image."""

    nme: dict[str, np.ndarray | None]
    """Normaliser -> (N,) percent; None where the scheme lacks it."""
    parts: dict[str, np.ndarray]
    """Facial part -> NME (N,) of its landmarks by the primary normaliser, percent; NaN where none is visible."""
    scale: np.ndarray | None
    """(N,) mean of b_x and b_y over the visible landmarks, px of the scale."""
    scale_percent: np.ndarray | None
    """(N,) the same in percent of the inter-ocular distance."""


def image_values(
    prediction, truth, visible, box, scheme: Scheme, *, scale=None, scale_to_image=None
) -> ImageValues:
    """Every number of each image; arguments and errors as in `summary`."""
    prediction, truth, visible = _checked(prediction, truth, visible, scheme)
    distances = normalisers(truth, box, scheme, visible=visible)
    errors = point_errors(prediction, truth)
    primary = distances[primary_normaliser(scheme)]
    assert primary is not None  # every scheme has its first one
    parts = {}
    for name, indices in scheme.parts:
        seen, values = visible[:, list(indices)], errors[:, list(indices)]
        some = seen.any(axis=1)
        parts[name] = np.full(len(truth), np.nan)
        parts[name][some] = nme(values[some], seen[some], primary[some])
    spread = relative = None
    if scale is not None:
        scale = np.asarray(scale, np.float64)
        _expect("scale", scale, truth.shape)
        bad = ~np.isfinite(scale).all(axis=(1, 2))
        _refuse(bad, "`scale` has NaN or infinity", "check the model that made it")
        spread = visible_mean(scale.mean(axis=-1), visible)
        if scale_to_image is not None and distances["inter_ocular"] is not None:
            scale_to_image = np.asarray(scale_to_image, np.float64)
            _expect("scale_to_image", scale_to_image, truth.shape[:1])
            relative = 100 * spread * scale_to_image / distances["inter_ocular"]
    by = {field: None if d is None else nme(errors, visible, d) for field, d in distances.items()}
    return ImageValues(by, parts, spread, relative)


def summary(
    prediction,
    truth,
    visible,
    box,
    subset,
    scheme: Scheme,
    *,
    scale=None,
    scale_to_image=None,
    thresholds=THRESHOLDS,
    conditions: dict | None = None,
) -> dict:
    """Every number of an evaluation, ready for JSON.

    Args:
      prediction: (N, K, 2) image px.
      truth: (N, K, 2) image px; anything where not visible.
      visible: (N, K) bool, or None where all points count.
      box: (N, 4) image px.
      subset: (N,) str names, "" for none; or None.
      scheme: the scheme of the points.
      scale: (N, K, 2) Laplace scales b_x, b_y in input px, or None.
      scale_to_image: (N,) factor from input px to image px; needed for `scale_mean_percent`.
      thresholds: of failure rate and AUC, percent.
      conditions: how it was measured (split, box rule, seeds); copied through.

    Returns:
      `nme` {inter_ocular, inter_pupil, box, diagonal}, and on the primary normaliser `failure_rate` and `auc` {"8",
      "10"}, `parts` {jaw, brows, ...: NME} and `ced` {nme: the grid, fraction}; `scale_mean` (mean of b_x and b_y
      over visible landmarks, then images; in px of the scale), `scale_mean_percent` (of the inter-ocular distance),
      `images`, `intervals` (low and high of nme, failure_rate and auc, by `bootstrap.bootstrap` over the images, and
      its level, samples and seed), `subsets` (the same keys for each subset present) and `conditions`. Percent except
      AUC and fraction; None where a normaliser, a part or the scale is missing.

    Raises:
      LapjaxError: no images, shapes that do not match, a threshold not above 0, or, naming the image, NaN or a
        distance of zero.
    """
    thresholds = threshold_keys(thresholds)
    values = image_values(prediction, truth, visible, box, scheme, scale=scale, scale_to_image=scale_to_image)
    images, primary = len(np.asarray(truth)), primary_normaliser(scheme)
    subset = np.full(images, "") if subset is None else np.asarray(subset, str)
    _expect("subset", subset, (images,))
    present = [name for name in np.unique(subset).tolist() if name]
    return {
        **_numbers(values, np.ones(images, bool), primary, thresholds),
        "subsets": {name: _numbers(values, subset == name, primary, thresholds) for name in present},
        "conditions": dict(conditions or {}),
    }


def _numbers(values: ImageValues, chosen, primary: str, thresholds: dict) -> dict:
    """The part of a summary that every subset has, over the chosen images."""

    def mean(value):
        value = None if value is None else value[chosen]
        return None if value is None or np.isnan(value).all() else float(np.nanmean(value))

    headline = values.nme[primary]
    assert headline is not None  # every scheme has its first normaliser
    headline = headline[chosen]
    grid = np.linspace(0, max(thresholds.values()), 51)
    return {
        "nme": {field: mean(values.nme[field]) for field in NORMALISERS},
        "failure_rate": {key: failure_rate(headline, t) for key, t in thresholds.items()},
        "auc": {key: auc(headline, t) for key, t in thresholds.items()},
        "scale_mean": mean(values.scale),
        "scale_mean_percent": mean(values.scale_percent),
        "images": int(np.count_nonzero(chosen)),
        "parts": {name: mean(value) for name, value in values.parts.items()},
        "ced": {"nme": grid.round(6).tolist(), "fraction": ced(headline, grid).round(6).tolist()},
        "intervals": _intervals(values, chosen, headline, thresholds),
    }


def _intervals(values, chosen, headline, thresholds) -> dict:
    columns = {("nme", field): one[chosen] for field, one in values.nme.items() if one is not None}
    columns |= {("failure_rate", key): _failures(headline, t) for key, t in thresholds.items()}
    columns |= {("auc", key): _areas(headline, t) for key, t in thresholds.items()}
    lows, highs = bootstrap.bootstrap(lambda x: x.mean(axis=0), np.stack(list(columns.values()), axis=1))
    out = {"level": bootstrap.LEVEL, "samples": bootstrap.SAMPLES, "seed": 0}
    out |= {"nme": dict.fromkeys(NORMALISERS), "failure_rate": {}, "auc": {}}
    for (kind, key), low, high in zip(columns, lows.tolist(), highs.tolist(), strict=True):
        out[kind][key] = [low, high]
    return out


def threshold_keys(thresholds) -> dict[str, float]:
    """JSON key -> threshold, in percent.

    Raises:
      LapjaxError: none, or one that is not above 0.
    """
    thresholds = {f"{t:g}": float(t) for t in thresholds}
    if not thresholds or not all(0 < t < np.inf for t in thresholds.values()):
        raise LapjaxError(f"thresholds {', '.join(thresholds) or 'of none'}: give percentages above 0")
    return thresholds


def _failures(nme, threshold):
    return 100.0 * (nme > threshold)


def _areas(nme, threshold):
    return np.maximum(0, 1 - nme / threshold)


def _checked(prediction, truth, visible, scheme):
    """Points as float64 and the mask as bool, after every check; hidden points are set to 0 in both."""
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    if not len(truth):
        raise LapjaxError("evaluation: there are no images; check the split and its subset")
    _expect("truth", truth, (len(truth), scheme.count, 2))
    _expect("prediction", prediction, truth.shape)
    visible = _mask(visible, truth.shape[:2])
    truth = np.where(visible[..., None], truth, 0)
    _refuse(~np.isfinite(prediction).all(axis=(1, 2)), "`prediction` has NaN or infinity", "check the model")
    _refuse(
        ~np.isfinite(truth).all(axis=(1, 2)), "`truth` has NaN or infinity", "mark the point as not visible"
    )
    return np.where(visible[..., None], prediction, 0), truth, visible


def _mask(visible, shape):
    visible = np.ones(shape, bool) if visible is None else np.asarray(visible, bool)
    _expect("visible", visible, shape)
    return visible


def _some(nme):
    nme = np.asarray(nme, np.float64)
    if nme.ndim != 1 or not nme.size:
        raise LapjaxError(f"nme: needs one value an image and at least one image, got shape {nme.shape}")
    _refuse(np.isnan(nme), "the NME is NaN", "check the predictions")
    return nme


def _expect(field, array, shape):
    if array.shape != tuple(shape):
        raise LapjaxError(f"`{field}` has shape {array.shape}, expected {tuple(shape)}; pass matching arrays")


def _refuse(bad, problem, remedy):
    if bad.any():
        first = int(np.argmax(bad))
        more = f" ({np.count_nonzero(bad)} such images)" if np.count_nonzero(bad) > 1 else ""
        raise LapjaxError(f"image {first}: {problem}{more}; {remedy}")
