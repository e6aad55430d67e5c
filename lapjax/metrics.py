"""How far off: normalised mean error, failure rate, area under the cumulative error curve, mean scale b.

Errors are in original-image pixels, everything that is normalised is in percent, AUC is in [0, 1]; float64.
"""

import numpy as np

from lapjax.errors import LapjaxError
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
    out["box"] = np.sqrt(np.prod(np.maximum(size, 0), axis=-1))
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
    return 100 * _visible_mean(errors, _mask(visible, errors.shape)) / normaliser


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
    return float(100 * np.mean(_some(nme) > threshold))


def auc(nme, threshold: float) -> float:
    """Area under the cumulative error curve up to the threshold, over the threshold: in [0, 1].

    mean(max(0, 1 - nme / threshold)) is the exact integral of the empirical curve, with no grid to choose.
    """
    return float(np.mean(np.maximum(0, 1 - _some(nme) / threshold)))


def ced(nme, grid) -> np.ndarray:
    """Cumulative error distribution: the fraction of images with NME (N,) at most each grid value (G,)."""
    nme = np.sort(_some(nme))
    return np.searchsorted(nme, np.asarray(grid, np.float64), side="right") / len(nme)


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
      conditions: how it was measured (split, box rule, seeds); copied through.

    Returns:
      `nme` {inter_ocular, inter_pupil, box, diagonal}, `failure_rate` and `auc` {"8", "10"} on the primary
      normaliser, `scale_mean` (mean of b_x and b_y over visible landmarks, then images; input px),
      `scale_mean_percent` (of the inter-ocular distance), `images`, `subsets` (the same keys for each subset
      present) and `conditions`. Percent except AUC; None where a normaliser or the scale is missing.

    Raises:
      LapjaxError: no images, shapes that do not match, or, naming the image, NaN or a distance of zero.
    """
    prediction, truth, visible = _checked(prediction, truth, visible, scheme)
    images = len(truth)
    distances = normalisers(truth, box, scheme, visible=visible)
    errors = point_errors(prediction, truth)
    values = {field: None if d is None else nme(errors, visible, d) for field, d in distances.items()}
    spread = relative = None
    if scale is not None:
        scale = np.asarray(scale, np.float64)
        _expect("scale", scale, truth.shape)
        _refuse(
            ~np.isfinite(scale).all(axis=(1, 2)),
            "`scale` has NaN or infinity",
            "check the model that made it",
        )
        spread = _visible_mean(scale.mean(axis=-1), visible)
        if scale_to_image is not None and distances["inter_ocular"] is not None:
            scale_to_image = np.asarray(scale_to_image, np.float64)
            _expect("scale_to_image", scale_to_image, (images,))
            relative = 100 * spread * scale_to_image / distances["inter_ocular"]
    headline = values[primary_normaliser(scheme)]

    def numbers(chosen):
        def mean(value):
            return None if value is None else float(np.mean(value[chosen]))

        return {
            "nme": {field: mean(values[field]) for field in NORMALISERS},
            "failure_rate": {f"{t:g}": failure_rate(headline[chosen], t) for t in THRESHOLDS},
            "auc": {f"{t:g}": auc(headline[chosen], t) for t in THRESHOLDS},
            "scale_mean": mean(spread),
            "scale_mean_percent": mean(relative),
            "images": int(np.count_nonzero(chosen)),
        }

    subset = np.full(images, "") if subset is None else np.asarray(subset, str)
    _expect("subset", subset, (images,))
    present = [name for name in np.unique(subset).tolist() if name]
    return {
        **numbers(np.ones(images, bool)),
        "subsets": {name: numbers(subset == name) for name in present},
        "conditions": dict(conditions or {}),
    }


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


def _visible_mean(values, visible):
    _refuse(~visible.any(axis=1), "no landmark is visible", "leave the image out")
    return np.sum(np.where(visible, values, 0), axis=1) / np.count_nonzero(visible, axis=1)


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
