"""What labelled faces ask of heatmaps: the configured loss of every landmark, reduced over all devices."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lapjax import heatmaps, losses
from lapjax.config import Config, Loss, Model
from lapjax.data.augment import Crops
from lapjax.errors import LapjaxError

__all__ = ["error_and_scale", "label_scale", "masked_mean", "mean_over_devices", "supervise", "target_scale"]


def target_scale(loss: Loss, step, total_steps: int):
    """t at a step, input px: constant, or falling geometrically over the first `anneal` of training."""
    if loss.target_start is None:
        return loss.target_scale
    done = jnp.minimum(step / (loss.anneal * total_steps), 1.0)
    return loss.target_start * (loss.target_scale / loss.target_start) ** done


def label_scale(loss: Loss, crops: Crops) -> Float[Array, "b k 1"]:
    """t of each landmark where models gave the labels: the whole of what they said is learned, point and scale.

    In input px; doubled where the loss is one divergence of b_x + b_y, whose t is in that summed unit. SAM and the
    likelihood have no t and learn the points alone.

    Args:
      loss: of the run.
      crops: whose `scale` is there.
    """
    assert crops.scale is not None
    summed = (loss.name, loss.combine) == ("laplace_kl", "sum")
    return crops.scale[..., None] * (2 if summed else 1)


def supervise(
    maps: Float[Array, "b h w k"], crops: Crops, *, config: Config, t, axis: str | None = None
) -> tuple[Float[Array, ""], dict]:
    """The loss of heatmap logits against labels, a mean over all visible landmarks of all devices.

    Args:
      maps: of these crops.
      crops: with their labels.
      config: gives the loss and what the heatmaps mean.
      t: the target scale in input px, as of `losses.laplace_kl_loss`.
      axis: the pmap axis of the devices, None under jit.

    Returns:
      The loss, and `error` (the distance, as of SAM) and `scale` b, both means in input px.
    """
    guess = heatmaps.estimate(maps, beta=config.model.beta, stride=config.model.stride)
    seen, target = guess, crops.landmarks
    if config.loss.combine == "oriented":
        seen, target = _turned(maps, guess, target, config.model)
    values = _landmark_loss(config.loss, seen, target, t)
    return masked_mean(values, crops.visible, axis), error_and_scale(guess, crops, axis)


def _turned(maps, guess: heatmaps.Estimate, target, model: Model):
    """The estimate and the true points along the principal axes of each heatmap, which are taken as given."""
    probability = heatmaps.softmax(maps, beta=model.beta)
    axes = heatmaps.principal_axes(probability, guess.points, stride=model.stride)
    axes = jax.lax.stop_gradient(axes)
    scale = heatmaps.oriented_scale(probability, guess.points, axes, stride=model.stride)
    points, target = (jnp.einsum("...ij,...j->...i", axes, each) for each in (guess.points, target))
    return heatmaps.Estimate(points, scale), target


def error_and_scale(guess: heatmaps.Estimate, crops: Crops, axis: str | None) -> dict:
    """The distance from the labels as of SAM and b, means over all that is visible on all devices, in input px."""
    values = {"error": losses.sam(guess.points, crops.landmarks), "scale": guess.scale.mean(-1)}
    return {name: masked_mean(value, crops.visible, axis) for name, value in values.items()}


def mean_over_devices(tree, axis: str | None):
    """The mean over a pmap axis; under jit, where a mean is already that of all, the tree itself."""
    return tree if axis is None else jax.lax.pmean(tree, axis)


def _landmark_loss(loss: Loss, estimate: heatmaps.Estimate, target, t):
    combine = "axis" if loss.combine == "oriented" else loss.combine
    if loss.name == "sam":
        return losses.sam(estimate.points, target)
    if loss.name == "laplace_nll":
        return losses.laplace_nll(*estimate, target, combine=combine)
    if loss.name == "gaussian_kl":
        return losses.gaussian_kl(*estimate, target, target_scale=t)
    if loss.name == "laplace_kl":
        return losses.laplace_kl_loss(
            *estimate,
            target,
            target_scale=t,
            direction=loss.direction,
            combine=combine,
            balance=loss.balance,
        )
    raise LapjaxError(f"loss.name {loss.name!r} is in no branch of training/supervised.py: add one")


def masked_mean(values, mask, axis):
    """`losses.masked_mean` whose count is that of all devices, so that the mean over devices is the global one."""
    if axis is None:
        return losses.masked_mean(values, mask)
    count = jnp.maximum(jax.lax.psum(mask.sum(), axis), 1) / jax.lax.axis_size(axis)
    return jnp.where(mask, values, 0.0).sum() / count
