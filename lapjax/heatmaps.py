"""From heatmaps to points with a scale, and from points to heatmaps (PAPER.md's eq. 1 and its b).

Heatmaps are (*b, h, w, k). Points are (x, y) and scales (b_x, b_y), both in network-input pixels with pixel
centres at integers: a heatmap cell i at stride s lies at s * (i + 0.5) - 0.5. Everything is computed in
float32, whatever the network's dtype, and all but the scales along other axes needs only the two marginals of a
heatmap, never a grid of coordinates per landmark.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lapjax.errors import LapjaxError

__all__ = [
    "Estimate",
    "Marginals",
    "cells",
    "estimate",
    "laplace_scale",
    "log_softmax",
    "marginals",
    "oriented_scale",
    "principal_axes",
    "render",
    "soft_argmax",
    "softmax",
]


class Marginals(NamedTuple):
    """The column and row sums of a probability map: how it spreads along x, and along y."""

    x: Float[Array, "*b w k"]
    y: Float[Array, "*b h k"]


class Estimate(NamedTuple):
    """Where each landmark is and how sure that is: E[x] and E|x - E[x]| per axis, in input px."""

    points: Float[Array, "*b k 2"]
    scale: Float[Array, "*b k 2"]


def softmax(heatmaps: Float[Array, "*b h w k"], *, beta: float = 1.0) -> Float[Array, "*b h w k"]:
    """`softmax(beta * h)` over all pixels of each landmark's heatmap (eq. 1), in float32.

    Args:
      heatmaps: logits of any floating dtype and any size: a constant added to a heatmap changes nothing.
      beta: multiplies the logits; larger is sharper.

    Returns:
      Probabilities that sum to one over h and w.
    """
    weights = jnp.exp(_below_peak(heatmaps, beta))
    return weights / _total(weights)


def log_softmax(heatmaps: Float[Array, "*b h w k"], *, beta: float = 1.0) -> Float[Array, "*b h w k"]:
    """The logarithm of `softmax`, finite where that is zero."""
    logits = _below_peak(heatmaps, beta)
    return logits - jnp.log(_total(jnp.exp(logits)))


def _below_peak(heatmaps, beta):
    logits = beta * heatmaps.astype(jnp.float32)
    # Two reductions of one axis each, here and below: the pair at once is not vectorised on a CPU.
    return logits - jax.lax.stop_gradient(logits.max(-3, keepdims=True).max(-2, keepdims=True))


def _total(weights):
    return weights.sum(-3, keepdims=True).sum(-2, keepdims=True)


def marginals(probability: Float[Array, "*b h w k"]) -> Marginals:
    """The sums of each map over its rows and over its columns."""
    probability = probability.astype(jnp.float32)
    return Marginals(x=probability.sum(-3), y=probability.sum(-2))


def cells(count: int, *, stride: int = 1) -> Float[Array, " count"]:
    """The centres of `count` heatmap cells in input px: stride * (i + 0.5) - 0.5."""
    return stride * (jnp.arange(count, dtype=jnp.float32) + 0.5) - 0.5


def _column(values: Float[Array, " n"], rank: int) -> Float[Array, "*ones n 1"]:
    """(n,) as an array of `rank` axes that varies along the last but one."""
    return values.reshape((1,) * (rank - 2) + (-1, 1))


def soft_argmax(margins: Marginals, *, stride: int = 1) -> Float[Array, "*b k 2"]:
    """`E[x]` of each map in input px (eq. 1)."""

    def mean(marginal: Float[Array, "*b n k"]) -> Float[Array, "*b k"]:
        return jnp.einsum(
            "...nk,n->...k", marginal, cells(marginal.shape[-2], stride=stride), precision="highest"
        )

    return jnp.stack([mean(margins.x), mean(margins.y)], axis=-1)


def laplace_scale(
    margins: Marginals, points: Float[Array, "*b k 2"], *, stride: int = 1
) -> Float[Array, "*b k 2"]:
    """The Laplace scale `b = E|x - E[x]|` of each map per axis, in input px.

    Args:
      margins: of probability maps.
      points: their means `E[x]`.
      stride: input pixels per heatmap cell.
    """

    def spread(marginal: Float[Array, "*b n k"], centre: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
        places = _column(cells(marginal.shape[-2], stride=stride), marginal.ndim)
        return (marginal * jnp.abs(places - jnp.expand_dims(centre, -2))).sum(-2)

    return jnp.stack([spread(margins.x, points[..., 0]), spread(margins.y, points[..., 1])], axis=-1)


def _offsets(probability, points, stride):
    """x - E[x] and y - E[y] of the cells of each map: (*b, 1, w, k) and (*b, h, 1, k)."""
    ones, (height, width) = (1,) * (probability.ndim - 3), probability.shape[-3:-1]
    x = cells(width, stride=stride).reshape(*ones, 1, width, 1)
    y = cells(height, stride=stride).reshape(*ones, height, 1, 1)
    return x - points[..., None, None, :, 0], y - points[..., None, None, :, 1]


def principal_axes(
    probability: Float[Array, "*b h w k"], points: Float[Array, "*b k 2"], *, stride: int = 1
) -> Float[Array, "*b k 2 2"]:
    """The axes along which each map spreads most and least: rows (x, y) of length one, the first the longer.

    Args:
      probability: maps of h x w cells.
      points: their means `E[x]`, input px.
      stride: input pixels per heatmap cell.
    """
    probability = probability.astype(jnp.float32)
    x, y = _offsets(probability, points, stride)
    differ = (probability * (jnp.square(x) - jnp.square(y))).sum((-3, -2))
    angle = jnp.arctan2(2 * (probability * x * y).sum((-3, -2)), differ) / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


def oriented_scale(
    probability: Float[Array, "*b h w k"],
    points: Float[Array, "*b k 2"],
    axes: Float[Array, "*b k 2 2"],
    *,
    stride: int = 1,
) -> Float[Array, "*b k 2"]:
    """The Laplace scale of each map along two axes of its own, in input px; along x and y it is `laplace_scale`.

    It needs the whole map, not its marginals.

    Args:
      probability: maps of h x w cells.
      points: their means `E[x]`, input px.
      axes: of each map, as of `principal_axes`.
      stride: input pixels per heatmap cell.
    """
    probability = probability.astype(jnp.float32)
    x, y = _offsets(probability, points, stride)

    def spread(axis: Float[Array, "*b k 2"]) -> Float[Array, "*b k"]:
        along = axis[..., None, None, :, 0] * x + axis[..., None, None, :, 1] * y
        return (probability * jnp.abs(along)).sum((-3, -2))

    return jnp.stack([spread(axes[..., 0, :]), spread(axes[..., 1, :])], axis=-1)


def estimate(heatmaps: Float[Array, "*b h w k"], *, beta: float = 1.0, stride: int = 1) -> Estimate:
    """Points and Laplace scales of a network's heatmaps (logits), in input px."""
    margins = marginals(softmax(heatmaps, beta=beta))
    points = soft_argmax(margins, stride=stride)
    return Estimate(points, laplace_scale(margins, points, stride=stride))


def render(
    points: Float[Array, "*b k 2"],
    height: int,
    width: int,
    *,
    scale: float = 1.0,
    kind: str = "laplace",
    stride: int = 1,
) -> Float[Array, "*b h w k"]:
    """omega(s): the heatmaps that points in input px ought to have, each summing to one.

    A separable Laplace or Gaussian, integrated over each cell (sampling a sharp one biases its mean by up to
    0.2 px). The outermost cells hold the tails, so a point outside the map still gives a map that sums to
    one.

    Args:
      points: (*b, k, 2) in input px.
      height: of the heatmap in cells.
      width: of the heatmap in cells.
      scale: the Laplace scale b, or the Gaussian's standard deviation, in input px.
      kind: "laplace" or "gaussian".
      stride: input pixels per cell.

    Raises:
      LapjaxError: an unknown kind or a scale that is not positive.
    """
    if scale <= 0:
        raise LapjaxError(f"render: scale {scale} must be above 0 px")
    if kind not in ("laplace", "gaussian"):
        raise LapjaxError(f'render: unknown kind {kind!r}: choose "laplace" or "gaussian"')

    def below(distance):
        """The distribution function at a signed distance in units of the scale."""
        if kind == "gaussian":
            return jax.scipy.stats.norm.cdf(distance)
        tail = 0.5 * jnp.exp(-jnp.abs(distance))
        return jnp.where(distance < 0, tail, 1 - tail)

    def mass(centre: Float[Array, "*b k"], count: int) -> Float[Array, "*b n k"]:
        centre = jnp.expand_dims(centre.astype(jnp.float32), -2)
        borders = _column(stride * jnp.arange(1, count, dtype=jnp.float32) - 0.5, centre.ndim)
        inner = below((borders - centre) / scale)
        ends = jnp.zeros_like(inner[..., :1, :])
        return jnp.diff(jnp.concatenate([ends, inner, ends + 1], axis=-2), axis=-2)

    rows, columns = mass(points[..., 1], height), mass(points[..., 0], width)
    return rows[..., :, None, :] * columns[..., None, :, :]
