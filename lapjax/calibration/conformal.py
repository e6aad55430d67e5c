"""Fits a `Calibration` by conformal prediction, on images that neither trained nor chose the model.

Stage 1, the expected error s: a gamma regression, whose mean needs no model of the noise (McCullagh and Nelder, 1989,
ch. 8), with a Gaussian prior that only matters where images are few. Stage 2, the radius: split-conformal prediction
with the normalised score z = error / s (Lei et al., 2018, sec. 5.2; Angelopoulos and Bates, 2021), one quantile for
each facial part. Stage 3, the confidence: a Weibull distribution of z, of greatest likelihood.

What the radius guarantees. Points of one image are dependent and images are taken to be exchangeable, so every image
counts as one: the quantile is that of hierarchical conformal prediction (Lee, Barber and Willett, 2023), by which a
visible point of that part, drawn at random from a new image, is inside with a probability of at least the level.
This is marginal, over images and over the part's landmarks: it says nothing of one image or of one landmark, and
nothing once images come from elsewhere. The scores are out of fold, from scales fitted without their own image. That
spares holding out half of the images, and makes the guarantee nearly exact instead of exact (Barber et al., 2021).

References:
  Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference for regression", JASA 2018.
  Angelopoulos and Bates, "A gentle introduction to conformal prediction", arXiv:2107.07511, 2021.
  Barber, Candes, Ramdas and Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 2021.
  Lee, Barber and Willett, "Distribution-free inference with hierarchical data", arXiv:2306.06342, 2023.
"""

import math

import numpy as np

from lapjax.calibration.scale import Calibration, check_lengths, check_predictions, features_of, gridless
from lapjax.errors import LapjaxError
from lapjax.schemes import Scheme

MIN_IMAGES = 5

# The prior: errors grow with each b to the power 0.5 +- 0.5, landmarks differ by a factor of e^(+-0.3). Its weight is
# that of a dozen points, so a few dozen images outweigh it.
_WEIGHT, _WEIGHT_SD, _OFFSET_SD = 0.5, 0.5, 0.3
_FOLDS = 10


def fit(
    points,
    scale,
    error,
    *,
    input_to_image,
    scheme: Scheme,
    stride: int,
    visible=None,
    level: float = 0.9,
    tolerance: float = 0.05,
) -> Calibration:
    """Fits a calibration on images that neither trained nor chose the model.

    With few images less is promised: a facial part seen in too few takes the quantile of all points, and if even
    all images are too few for the level (9 are needed for 90 %), the largest score stands in, which n images make
    good for n / (n + 1). `notes` says so.

    Args:
      points: (N, K, 2) predicted, input px.
      scale: (N, K, 2) b_x and b_y, input px.
      error: (N, K) distances from the true points, image px; what stands where a point is hidden does not matter.
      input_to_image: (N,) image px per input px.
      scheme: names the landmarks and their parts.
      stride: input px per heatmap cell; 0 where b is not of a heatmap.
      visible: (N, K) bool, or None where all points are known. Images without a visible point do not count.
      level: the probability that the radius is to hold.
      tolerance: the error that the confidence is about, over sqrt(w * h) of the box.

    Raises:
      LapjaxError: fewer than 5 images with a visible point, shapes that do not match, numbers that are not finite,
        a level outside (0, 1).
    """
    points, scale = check_predictions(points, scale, scheme.count)
    if not 0 < level < 1 or not tolerance > 0:
        raise LapjaxError(f"calibration: level {level} must be in (0, 1) and tolerance {tolerance} above 0")
    if stride < 0:
        raise LapjaxError(f"calibration: stride {stride} must not be negative; 0 means no heatmap")
    to_image = check_lengths("input_to_image", input_to_image, len(points))
    error, visible = _errors(error, visible, points.shape[:2])
    seen = visible.any(axis=1)
    if seen.sum() < MIN_IMAGES:
        raise LapjaxError(
            f"calibration: {seen.sum()} images with a visible point are too few; hold out at least {MIN_IMAGES}"
        )
    groups, group = _groups(scheme)
    features = features_of(gridless(points, scale, stride=stride)[seen], group)
    error, visible = (error / to_image[:, None])[seen], visible[seen]
    if not error[visible].any():
        raise LapjaxError("calibration: every error is 0; these are not predictions on new images")

    fold = np.arange(len(error)) % _FOLDS
    score = np.empty_like(error)
    for held in np.unique(fold):
        offset, weights = _regress(features, error, visible & (fold != held)[:, None])
        own = fold == held
        score[own] = error[own] / np.exp(offset + features[own] @ weights)
    offset, weights = _regress(features, error, visible)
    quantile, notes = _quantiles(score, visible, groups, group, level)
    blind = [name for name, any_ in zip(scheme.names, np.any(visible, axis=0), strict=True) if not any_]
    if blind:
        notes.append(
            f"never visible in the calibration images, so taken for average points: {', '.join(blind)}"
        )
    return Calibration(
        scheme=scheme.name,
        stride=stride,
        groups=groups,
        group=tuple(group.tolist()),
        offset=tuple(offset.tolist()),
        weights=tuple(weights.tolist()),
        level=level,
        quantile=tuple(quantile),
        tolerance=tolerance,
        weibull=_weibull(score[visible]),
        images=len(error),
        notes=tuple(notes),
    )


def _groups(scheme):
    """The names of the facial parts, and the index of each landmark's; landmarks of no part are one more."""
    names, group = [], np.full(scheme.count, -1)
    for name, members in scheme.parts:
        free = [k for k in members if group[k] < 0]
        if free:
            group[free] = len(names)
            names.append(name)
    if (group < 0).any():
        group[group < 0] = len(names)
        names.append("other" if names else "all")
    return tuple(names), group


def _regress(features, error, use):
    """The offset (K,) and weights (3,) of log s: the mode of the gamma likelihood sum(e / s + log s) and the prior."""
    count = features.shape[1]
    centre = features[use].mean(axis=0)
    features = np.where(use[..., None], features - centre, 0)
    # Parameters: one for all, one a landmark, the weights. That of all is free, the others have a prior.
    prior = np.concatenate([[np.log(max(error[use].mean(), 1e-6))], np.zeros(count), np.full(3, _WEIGHT)])
    precision = np.concatenate([[0], np.full(count, _OFFSET_SD**-2), np.full(3, _WEIGHT_SD**-2)])

    def back(values):
        """The gradient by the parameters, from that by log s."""
        return np.concatenate([[values.sum()], values.sum(axis=0), np.einsum("nk,nkf->f", values, features)])

    def look(at):
        """The loss, and what each point pulls log s up by."""
        linear = at[0] + at[1 : 1 + count] + features @ at[1 + count :]
        ratio = np.where(use, error * np.exp(-linear), 0)
        loss = ratio.sum() + linear[use].sum() + np.sum(precision * (at - prior) ** 2) / 2
        return loss, ratio - use

    information = np.diag(precision)
    information[0] += (first := back(use))
    information[1:, 0] += first[1:]
    information[1 : 1 + count, 1 : 1 + count] += np.diag(use.sum(axis=0))
    information[1 : 1 + count, 1 + count :] += features.sum(axis=0)
    information[1 + count :, 1 : 1 + count] += features.sum(axis=0).T
    information[1 + count :, 1 + count :] += np.einsum("nkf,nkg->fg", features, features)
    # Fisher scoring: the information does not depend on the parameters. The loss is convex, so halving a step that
    # goes too far is all the care it needs.
    at, (loss, pull) = prior, look(prior)
    for _ in range(100):
        move = np.linalg.solve(information, back(pull) - precision * (at - prior))
        while (found := look(at + move))[0] > loss and np.abs(move).max() > 1e-8:
            move = move / 2
        if np.abs(move).max() <= 1e-8:
            break
        at, (loss, pull) = at + move, found
    weights = at[1 + count :]
    return at[0] + at[1 : 1 + count] - centre @ weights, weights


def _quantiles(score, visible, groups, group, level):
    """The conformal quantile of each group, and notes on those that had to be found otherwise."""
    notes = []
    pooled = _quantile(score, visible, level)
    if pooled is None:
        images = len(score)
        notes.append(
            f"{images} images cannot promise {100 * level:g} %: the radius is that of the largest score, "
            f"good for {100 * images / (images + 1):.1f} %"
        )
        return [float(score[visible].max())] * len(groups), notes
    found = []
    for index, name in enumerate(groups):
        own = _quantile(score[:, group == index], visible[:, group == index], level)
        if own is None:
            notes.append(
                f"{name}: visible in too few calibration images, so it takes the radius of all points"
            )
        found.append(pooled if own is None else own)
    return found, notes


def _quantile(score, visible, level):
    """The smallest q with sum over images of (share of its points at most q) / (n + 1) >= level, or None."""
    counts = visible.sum(axis=1)
    weight = (visible / np.maximum(counts, 1)[:, None] / (np.count_nonzero(counts) + 1))[visible]
    order = np.argsort(score[visible])
    # The tolerance is for the sum of thousands of rounded weights.
    reached = np.cumsum(weight[order]) >= level - 1e-9
    return float(score[visible][order][np.argmax(reached)]) if reached.any() else None


def _weibull(score):
    """Shape and scale of greatest likelihood; the shape solves an equation whose left side grows with it."""
    # An error of exactly 0 has no likelihood; a hundredth of the expected error is as good as none.
    score = np.maximum(score, 0.01)
    log = np.log(score)
    low, high = 0.05, 50.0
    for _ in range(60):
        shape = math.sqrt(low * high)
        # Over the largest score, lest its power overflow; the ratio is the same.
        power = np.exp(shape * (log - log.max()))
        if power @ log / power.sum() - log.mean() < 1 / shape:
            low = shape
        else:
            high = shape
    return shape, float(np.exp(log.max()) * power.mean() ** (1 / shape))


def _errors(error, visible, shape):
    error = np.asarray(error, np.float64)
    visible = np.ones(shape, bool) if visible is None else np.asarray(visible, bool)
    for name, value in (("error", error), ("visible", visible)):
        if value.shape != shape:
            raise LapjaxError(f"calibration: `{name}` has shape {value.shape}, expected {shape}")
    error = np.where(visible, error, 0)
    if not (np.isfinite(error) & (error >= 0)).all():
        raise LapjaxError(
            "calibration: `error` must be finite and not negative; mark points without truth hidden"
        )
    return error, visible
