"""How far off a point may be: a radius that holds 90 % of the time, and the probability of being close.

The network's Laplace scale b says which points are worse than others, but not how many px their error is. A
`Calibration` turns b into that, for a few multiplications a point. `conformal.fit` makes one; it has a handful
of numbers in three stages:

1. The expected error s of each point is log-linear in what a prediction knows already,
   log s = offset_k + w . log(b of the point, mean b of its facial part, mean b of the image),
   where b is freed of the heatmap's grid (`gridless`).
2. The radius is s times the conformal quantile of the point's facial part.
3. The confidence is P(error < t) = F(t / s), with F a Weibull distribution and t a share of the box.

NumPy only, for it runs wherever prediction runs.
"""

import dataclasses
import json
import math
import os
from typing import NamedTuple

import numpy as np

from lapjax.errors import LapjaxError
from lapjax.files import read_json, replacing

__all__ = ["Calibrated", "Calibration", "gridless", "load_calibration", "save_calibration"]

FORMAT = 1
# How much of the grid's own spread is taken off b^2. All of it would leave nothing of b where a heatmap fills two
# cells only; on 300W's validation images 0.7 to 0.9 rank errors alike, for b of LaplaceKL and of SAM.
GRID_SHARE = 0.8
# Added in quadrature, px: a heatmap of a single cell has b = 0, which has no logarithm.
LEAST = 0.1


class Calibrated(NamedTuple):
    """What a calibration says of predicted points, each (N, K).

    Attributes:
      scale: the expected error, image px.
      radius: of the circle that holds the true point with the probability `level`, image px.
      confidence: the probability, in [0, 1], that the error is below `tolerance` of sqrt(w * h) of the box.
    """

    scale: np.ndarray
    radius: np.ndarray
    confidence: np.ndarray


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A fitted calibration of K landmarks in G groups, the facial parts; `conformal.fit` makes it, JSON keeps it.

    Attributes:
      scheme: the name of the landmark scheme.
      stride: input px per heatmap cell; 0 where b is not of a heatmap.
      groups: the names of the G groups.
      group: the group of each landmark, K indices.
      offset: of log s, K numbers.
      weights: of log b of the point, of its group's mean and of the image's mean.
      level: the probability that the radius promises.
      quantile: radius over expected error, of each group.
      tolerance: the error that `confidence` is about, over sqrt(w * h) of the box.
      weibull: shape and scale of the distribution of error over expected error.
      images: how many it was fitted on.
      notes: what was wanted and could not be had, in sentences; empty when all is well.

    Raises:
      LapjaxError: fields that do not fit each other, or numbers that are not finite.
    """

    scheme: str
    stride: int
    groups: tuple[str, ...]
    group: tuple[int, ...]
    offset: tuple[float, ...]
    weights: tuple[float, float, float]
    level: float
    quantile: tuple[float, ...]
    tolerance: float
    weibull: tuple[float, float]
    images: int
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("groups", "group", "offset", "weights", "quantile", "weibull", "notes"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise LapjaxError(f"calibration: `{name}` is {value!r}, not a list; fit it again")
            object.__setattr__(self, name, tuple(value))
        for name in ("stride", "group", "offset", "weights", "level", "quantile", "tolerance", "weibull"):
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
                raise LapjaxError(f"calibration: `{name}` is {value!r}, not finite numbers; fit it again")
        lengths = {"offset": self.count, "quantile": len(self.groups), "weights": 3, "weibull": 2}
        for name, length in lengths.items():
            if len(getattr(self, name)) != length:
                raise LapjaxError(f"calibration: `{name}` needs {length} numbers; fit it again")
        if not self.group or not set(self.group) <= set(range(len(self.groups))):
            raise LapjaxError(f"calibration: `group` holds no index into {self.groups}; fit it again")
        positive = (*self.quantile, *self.weibull, self.tolerance, self.level, 1 - self.level)
        if min(positive) <= 0 or self.stride < 0:
            raise LapjaxError(
                "calibration: quantiles, weibull and tolerance must be above 0, level between 0 and 1 and "
                "stride not below 0; fit it again"
            )

    @property
    def count(self) -> int:
        """The number of landmarks, K."""
        return len(self.group)

    def apply(self, points, scale, *, input_to_image, box_size) -> Calibrated:
        """What is to be said of predictions.

        Args:
          points: (N, K, 2) input px; only their place between heatmap cells matters.
          scale: (N, K, 2) b_x and b_y, input px.
          input_to_image: (N,) image px per input px.
          box_size: (N,) sqrt(w * h) of the box that was given for each face, image px.

        Raises:
          LapjaxError: shapes that do not match, or numbers that are not finite and above 0.
        """
        points, scale = check_predictions(points, scale, self.count)
        to_image = check_lengths("input_to_image", input_to_image, len(points))
        size = check_lengths("box_size", box_size, len(points))
        said, to_image = self.formula(points, scale, size / to_image), to_image[:, None]
        return Calibrated(to_image * said.scale, to_image * said.radius, said.confidence)

    def formula(self, points, scale, box_size, *, xp=np) -> Calibrated:
        """What `apply` says, with every length in input px, unchecked; under JAX with `xp` its `jax.numpy`."""
        group = np.asarray(self.group)
        features = features_of(gridless(points, scale, stride=self.stride, xp=xp), group, xp=xp)
        terms = [weight * features[..., index] for index, weight in enumerate(self.weights)]
        error = xp.exp(xp.asarray(self.offset)[None] + sum(terms))
        radius = xp.asarray(np.asarray(self.quantile)[group])[None] * error
        shape, unit = self.weibull
        reach = self.tolerance * box_size[:, None] / (unit * error)
        return Calibrated(error, radius, -xp.expm1(-(reach**shape)))

    def to_dict(self) -> dict:
        """The fields as a dict that JSON can hold; `from_dict` reads it back."""
        return {"format": FORMAT} | dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "Calibration":
        """A calibration from `to_dict` or parsed JSON.

        Raises:
          LapjaxError: not a dict, another format version, a field missing or unknown, or contents that do not fit.
        """
        if not isinstance(fields, dict):
            raise LapjaxError(f"calibration: expected an object, got {type(fields).__name__}; fit it again")
        if fields.get("format") != FORMAT:
            raise LapjaxError(
                f"calibration: format {fields.get('format')!r}, and this version reads {FORMAT}; fit it again"
            )
        given, known = set(fields) - {"format"}, {field.name for field in dataclasses.fields(cls)}
        if given != known:
            raise LapjaxError(
                f"calibration: missing {sorted(known - given)}, unknown {sorted(given - known)}; fit it again"
            )
        return cls(**{name: fields[name] for name in given})


def gridless(points, scale, *, stride: int, xp=np):
    """The scale b of points without the part of it that the heatmap's grid makes.

    A heatmap whose mean lies between two cells, at the fraction f of the way, has E|x - E[x]| >= 2 f (1 - f) cells,
    however sure it is: at stride 4 up to 2 px that come and go with the place of the point. Most of it is taken
    off in quadrature, as an independent spread.

    Args:
      points: (N, K, 2) input px.
      scale: (N, K, 2) b_x and b_y, input px.
      stride: input px per heatmap cell; 0 takes nothing off.
      xp: whose arrays they are, numpy or jax.numpy.

    Returns:
      (N, K) input px, the root mean square of the two axes.
    """
    square = xp.square(xp.asarray(scale, float))
    if stride:
        fraction = ((xp.asarray(points, float) + 0.5) / stride - 0.5) % 1
        grid = 2 * stride * fraction * (1 - fraction)
        square = xp.maximum(square - GRID_SHARE * grid**2, 0)
    return xp.sqrt(square.mean(axis=-1) + LEAST**2)


def features_of(scale, group, *, xp=np):
    """What log s is linear in, (N, K, 3): log b of the point, its group's mean and the image's, from b (N, K)."""
    groups, place = np.unique(group, return_inverse=True)
    means = xp.stack([scale[:, group == index].mean(axis=1) for index in groups], axis=1)
    image = xp.broadcast_to(scale.mean(axis=1, keepdims=True), scale.shape)
    return xp.log(xp.stack([scale, means[:, place], image], axis=-1))


def check_predictions(points, scale, count):
    """Both as float64, after every check.

    Raises:
      LapjaxError: not (N, count, 2), not finite, or a negative scale.
    """
    points, scale = np.asarray(points, np.float64), np.asarray(scale, np.float64)
    for name, value in (("points", points), ("scale", scale)):
        if value.shape != (len(points), count, 2):
            raise LapjaxError(
                f"calibration: `{name}` has shape {value.shape}, expected ({len(points)}, {count}, 2); "
                "pass predictions of the scheme that the calibration is of"
            )
        if not np.isfinite(value).all():
            raise LapjaxError(f"calibration: `{name}` has NaN or infinity; check the model that made it")
    if (scale < 0).any():
        raise LapjaxError("calibration: `scale` is negative somewhere; check the model that made it")
    return points, scale


def check_lengths(name, value, images):
    """One length an image as float64, after every check.

    Raises:
      LapjaxError: not (images,), or not finite and above 0.
    """
    value = np.asarray(value, np.float64)
    if value.shape != (images,):
        raise LapjaxError(
            f"calibration: `{name}` has shape {value.shape}, expected ({images},); one an image"
        )
    if not (np.isfinite(value) & (value > 0)).all():
        raise LapjaxError(f"calibration: `{name}` must be finite and above 0; correct the boxes")
    return value


def save_calibration(calibration: Calibration, path: str | os.PathLike) -> None:
    """Writes it as JSON, beside first and then renamed.

    Raises:
      LapjaxError: the file cannot be written.
    """
    text = json.dumps(calibration.to_dict(), indent=1, allow_nan=False) + "\n"
    with replacing(path, "cannot write {path}: {reason}; choose another place") as part:
        part.write_text(text, encoding="utf-8")


def load_calibration(path: str | os.PathLike) -> Calibration:
    """Reads what `save_calibration` wrote.

    Raises:
      LapjaxError: an unreadable file, or contents that do not fit.
    """
    return read_json(path, Calibration.from_dict, what="calibration file", remedy="fit it again")
