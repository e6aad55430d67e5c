"""What unlabelled faces teach without D: where points for them come from, and what G has to make of them.

Each method gives a lesson: images for G to see beside the labelled ones, and a loss of the heatmaps it makes of them.

    labels          points of trained models, each learned as sure as they were: pseudo-labels and distillation
    heatmaps        the whole heatmaps that trained models make of the same crops (Hinton et al., 2015)
    teacher         the moving average of G finds points on plain crops; G is to find them on augmented ones, each as
                    sure as they were (the mean teacher of Tarvainen and Valpola, NeurIPS 2017)
    equivariance    an image moved must have its points moved: the ELT loss of RCN+ (Honari et al., CVPR 2018)

In each a face's plain crop is that of evaluation, and its augmented crop that of training.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lapjax import geometry, heatmaps, losses
from lapjax.config import Config, Semi
from lapjax.data import augment
from lapjax.data.augment import Crops
from lapjax.training.supervised import error_and_scale, label_scale, masked_mean, supervise

__all__ = ["Lesson", "Rules", "lesson", "weight"]


class Lesson(NamedTuple):
    """What one step's unlabelled faces have to teach."""

    images: Float[Array, "n s s 3"]
    """For G to make heatmaps of."""
    loss: Callable[[Float[Array, "n h w k"]], tuple[Array, dict]]
    """Of the logits of these heatmaps: a mean over all devices, and means to log, in input px."""


class Rules(NamedTuple):
    """What the lessons of a run have in common."""

    config: Config
    generator: nn.Module
    flip: tuple[int, ...] | None
    chip_factor: float
    """Of the unlabelled faces' chips."""
    axis: str | None
    """The pmap axis of the devices, None under jit."""
    teacher: Callable[[Array], Array] | None = None
    """The logarithm of the heatmaps (n, h, w, k) that trained models make of images (n, s, s, 3), for "heatmaps"."""


def weight(semi: Semi, step, total_steps: int):
    """Of a lesson at a step: `weight`, or on the way up to it (Laine and Aila, ICLR 2017)."""
    if not semi.ramp:
        return semi.weight
    left = 1 - jnp.minimum(step / (semi.ramp * total_steps), 1.0)
    return semi.weight * jnp.exp(-5 * jnp.square(left))


def lesson(key: jax.Array, samples: dict, *, rules: Rules, average: Any, places=None) -> Lesson:
    """The lesson of one step by the configured method.

    Args:
      key: of the step.
      samples: chips of this device, images (b, c, c, 3) uint8; for "labels" also landmarks (b, k, 2) and scale (b, k) in
        chip px, and visible (b, k).
      rules: of the run.
      average: the moving average of G, {"params", "batch_stats"}, which "teacher" asks.
      places: (b,) of these faces in the global batch, for their random keys.
    """
    config = rules.config
    vary = functools.partial(
        augment.augment,
        key,
        samples["images"],
        model=config.model,
        chip_factor=rules.chip_factor,
        config=config.augment,
        flip=rules.flip,
        places=places,
    )
    if config.semi.method == "labels":
        return _learn_labels(
            vary(samples["landmarks"], samples["visible"], label_scale=samples["scale"]), rules
        )
    nothing = augment.no_landmarks(samples["images"])
    if config.semi.method == "heatmaps":
        return _learn_heatmaps(vary(*nothing), rules)
    plain = augment.crop(samples["images"], *nothing, model=config.model, chip_factor=rules.chip_factor)
    teach = {"teacher": _follow_teacher, "equivariance": _move_with_image}[config.semi.method]
    return teach(plain, vary(*nothing), rules, average)


def _learn_labels(crops: Crops, rules: Rules) -> Lesson:
    t = label_scale(rules.config.loss, crops)
    return Lesson(
        crops.images, lambda maps: supervise(maps, crops, config=rules.config, t=t, axis=rules.axis)
    )


def _learn_heatmaps(crops: Crops, rules: Rules) -> Lesson:
    assert rules.teacher is not None  # `train` loads one for this method
    wanted = rules.teacher(crops.images)
    told = heatmaps.estimate(wanted, stride=rules.config.model.stride)
    told = crops._replace(landmarks=told.points, visible=jnp.ones(told.points.shape[:2], bool))

    def loss(maps):
        own = heatmaps.log_softmax(maps, beta=rules.config.model.beta)
        means = error_and_scale(_estimate(maps, rules), told, rules.axis)
        return masked_mean(losses.heatmap_kl(wanted, own), told.visible, rules.axis), means

    return Lesson(crops.images, loss)


def _follow_teacher(plain: Crops, crops: Crops, rules: Rules, average) -> Lesson:
    known = {name: tree for name, tree in average.items() if tree}
    told = _estimate(rules.generator.apply(known, plain.images), rules)
    return _learn_labels(_moved(told, plain, crops, rules), rules)


def _move_with_image(plain: Crops, crops: Crops, rules: Rules, _average) -> Lesson:
    def loss(maps):
        still, moved = (_estimate(part, rules) for part in jnp.split(maps, 2))
        expected = _moved(still, plain, crops, rules)
        apart = moved.points - expected.landmarks
        squared = jnp.square(apart / rules.config.loss.target_scale).sum(-1)
        means = error_and_scale(moved, expected, rules.axis)
        return masked_mean(squared, expected.visible, rules.axis), means

    return Lesson(jnp.concatenate([plain.images, crops.images]), loss)


def _estimate(maps, rules: Rules) -> heatmaps.Estimate:
    model = rules.config.model
    return heatmaps.estimate(maps, beta=model.beta, stride=model.stride)


def _moved(guess: heatmaps.Estimate, plain: Crops, crops: Crops, rules: Rules) -> Crops:
    """Augmented crops labelled with what was found on the plain ones."""
    to_chip = geometry.invert(plain.chip_to_input)
    landmarks, shrunk = (
        jnp.asarray(geometry.apply(to_chip, guess.points)),
        geometry.linear_scale(to_chip)[:, None],
    )
    box = rules.config.model.input_size / rules.config.model.crop * shrunk[0, 0]
    return augment.place(
        crops,
        landmarks,
        jnp.ones(landmarks.shape[:2], bool),
        flip=rules.flip,
        lean=rules.config.augment.mirror_lean * box,
        label_scale=guess.scale.mean(-1) * shrunk,
    )
