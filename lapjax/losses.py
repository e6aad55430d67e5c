"""The loss mathematics: Laplace KL, its limits and its rivals, and the two sides of the game.

q = Laplace(s_hat, b) is the prediction and p = Laplace(s, t) the truth with the target scale t, and
D = |s_hat - s|. Losses of landmarks return one value per landmark, (*b, k); `masked_mean` reduces them.
Points and scales are in input px and computed in float32. Numbered equations are the poster's ("Laplace
Landmark Localization", ICCV 2019).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lapjax.errors import LapjaxError

__all__ = [
    "MINIMUM_SCALE",
    "discriminator_loss",
    "gaussian_kl",
    "generator_loss",
    "heatmap_kl",
    "laplace_kl",
    "laplace_kl_loss",
    "laplace_nll",
    "masked_mean",
    "sam",
]

MINIMUM_SCALE = 1e-3  # px: b is floored here before logarithms and divisions


def _floor(scale):
    return jnp.maximum(jnp.asarray(scale, jnp.float32), MINIMUM_SCALE)


def laplace_kl(distance, scale_1, scale_2):
    """KL(Laplace(m1, b1) || Laplace(m2, b2)) with distance |m1 - m2|, elementwise, broadcasting.

    `log(b2/b1) + (D + b1 exp(-D/b1)) / b2 - 1` (eq. 2's closed form, checked by quadrature). Scales below
    `MINIMUM_SCALE` are raised to it. Written with expm1 so that it does not lose its digits near its minimum.

    Args:
      distance: D >= 0 in px.
      scale_1: b1 in px.
      scale_2: b2 in px.

    Returns:
      The divergence in nats, never below zero but by rounding.
    """
    b1, b2 = _floor(scale_1), _floor(scale_2)
    d = jnp.asarray(distance, jnp.float32)
    # (D + b1 e^(-D/b1))/b2 - 1 - log r  =  [r - 1 - log r] + (D + b1 expm1(-D/b1))/b2   with r = b1/b2
    ratio = b1 / b2
    return (ratio - 1) - jnp.log(ratio) + (d + b1 * jnp.expm1(-d / b1)) / b2


def _distances(points, target, scale, *, combine: str):
    """|s_hat - s| and b per axis, or their sums over the axes with a trailing axis of one."""
    distance = jnp.abs(points.astype(jnp.float32) - target.astype(jnp.float32))
    scale = scale.astype(jnp.float32)
    if combine == "axis":
        return distance, scale
    if combine == "sum":
        return distance.sum(-1, keepdims=True), scale.sum(-1, keepdims=True)
    raise LapjaxError(f'unknown scale {combine!r}: choose "axis" (b_x and b_y) or "sum" (b_x + b_y)')


def laplace_kl_loss(
    points: Float[Array, "*b k 2"],
    scale: Float[Array, "*b k 2"],
    target: Float[Array, "*b k 2"],
    *,
    direction: str,
    target_scale: float | Float[Array, ""] | Float[Array, "*b k 1"] = 1.0,
    combine: str = "axis",
    balance: float = 0.0,
) -> Float[Array, "*b k"]:
    """The LaplaceKL loss of each landmark (eq. 2 and 3).

    Args:
      points: predicted, input px.
      scale: predicted Laplace scale b per axis, input px.
      target: true points, input px.
      direction: "q||p", the poster's, or "p||q", the recipes' (`config.Loss`). They differ in what b an error asks for,
        so that none is the default.
      target_scale: t in input px: a number, a traced scalar (a schedule) or one for each landmark (labels that know
        how sure they are).
      combine: "axis" adds the divergences along x and y, the exact one of the separable 2-D model; "sum"
        takes one divergence of b_x + b_y and |dx| + |dy|, with t in that summed unit.
      balance: weighs each divergence with (b / t)^balance, held constant under differentiation. KL(p||q) pulls a
        point with the force 1/b, so that the hard ones, whose b is large, are learned last; 1 evens the forces, 0
        leaves the divergence as it is. The best point and scale stay where they were (Seitzer et al., "On the
        Pitfalls of Heteroscedastic Uncertainty Estimation", ICLR 2022, do so for a Gaussian likelihood).

    Raises:
      LapjaxError: an unknown direction or combine.
    """
    distance, b = _distances(points, target, scale, combine=combine)
    if direction == "q||p":
        divergence = laplace_kl(distance, b, target_scale)
    elif direction == "p||q":
        divergence = laplace_kl(distance, target_scale, b)
    else:
        raise LapjaxError(f'unknown direction {direction!r}: choose "q||p" (the poster\'s) or "p||q"')
    if balance:
        divergence *= jax.lax.stop_gradient((_floor(b) / target_scale) ** balance)
    return divergence.sum(-1)


def laplace_nll(
    points: Float[Array, "*b k 2"],
    scale: Float[Array, "*b k 2"],
    target: Float[Array, "*b k 2"],
    *,
    combine: str = "axis",
) -> Float[Array, "*b k"]:
    """`log b + D/b - 1`, summed over the axes: what KL(p||q) + log t tends to as t -> 0.

    The negative log-likelihood of a Laplace distribution less the constant 1 + log 2 per axis.
    """
    distance, b = _distances(points, target, scale, combine=combine)
    b = _floor(b)
    return (jnp.log(b) + distance / b - 1).sum(-1)


def sam(points: Float[Array, "*b k 2"], target: Float[Array, "*b k 2"]) -> Float[Array, "*b k"]:
    """The soft-argmax baseline: the Euclidean distance of each landmark, input px.

    Its gradient at distance zero is zero, not NaN.
    """
    squared = jnp.square(points.astype(jnp.float32) - target.astype(jnp.float32)).sum(-1)
    near = squared < 1e-12
    return jnp.where(near, 0.0, jnp.sqrt(jnp.where(near, 1.0, squared)))


def gaussian_kl(
    points: Float[Array, "*b k 2"],
    scale: Float[Array, "*b k 2"],
    target: Float[Array, "*b k 2"],
    *,
    target_scale: float | Float[Array, ""] | Float[Array, "*b k 1"] = 1.0,
) -> Float[Array, "*b k"]:
    """KL(N(s_hat, b^2) || N(s, t^2)), summed over the axes: `(v + D^2 - 1 - log v) / 2` per axis at t = 1.

    Args:
      points: predicted, input px.
      scale: taken as the standard deviation per axis, input px.
      target: true points, input px.
      target_scale: the standard deviation t of the truth, input px, as of `laplace_kl_loss`.
    """
    t = _floor(target_scale)
    variance = jnp.square(_floor(scale) / t)
    distance = (points.astype(jnp.float32) - target.astype(jnp.float32)) / t
    return 0.5 * (variance + jnp.square(distance) - 1 - jnp.log(variance)).sum(-1)


def heatmap_kl(log_p: Float[Array, "*b h w k"], log_q: Float[Array, "*b h w k"]) -> Float[Array, "*b k"]:
    """KL(p || q) over the cells of each landmark's heatmap, in nats; both as `heatmaps.log_softmax` gives them.

    With p a trained network's and q another's it is the distillation of Hinton, Vinyals and Dean (2015).
    """
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-3).sum(-2)


def masked_mean(values: Float[Array, "*b"], mask: Bool[Array, "*b"]) -> Float[Array, ""]:
    """The mean of `values` where `mask` holds, 0 where it holds nowhere; values elsewhere may be NaN."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def discriminator_loss(real: Float[Array, "*r"], fake: Float[Array, "*f"]) -> Float[Array, ""]:
    """D's side of eq. (4), to minimise: -mean log D(real) - mean log(1 - D(fake)), from logits."""
    return jax.nn.softplus(-real).mean() + jax.nn.softplus(fake).mean()


def generator_loss(fake: Float[Array, "*b"], *, form: str = "non-saturating") -> Float[Array, ""]:
    """G's side of eq. (4), to minimise, from D's logits on G's heatmaps.

    Args:
      fake: logits of any shape.
      form: "non-saturating", -mean log D(fake), or "literal", mean log(1 - D(fake)).

    Raises:
      LapjaxError: an unknown form.
    """
    if form == "non-saturating":
        return jax.nn.softplus(-fake).mean()
    if form == "literal":
        return -jax.nn.softplus(fake).mean()
    raise LapjaxError(f'unknown form {form!r}: choose "non-saturating" or "literal"')
