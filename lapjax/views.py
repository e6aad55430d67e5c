"""What a trained model sees in a few faces, in input px: the crops, the heatmaps and what is read off them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from lapjax import augment, geometry, heatmaps, metrics
from lapjax.checkpoints import Run
from lapjax.evaluate import check_crop, heatmap_logits
from lapjax.samples import Samples

__all__ = ["View", "view"]


class View(NamedTuple):
    """N faces as the network gets them, of side S input px."""

    images: np.ndarray
    """(N, S, S, 3) uint8."""
    truth: np.ndarray
    """(N, K, 2)."""
    visible: np.ndarray
    """(N, K) bool."""
    points: np.ndarray
    """(N, K, 2)."""
    scale: np.ndarray
    """(N, K, 2), b_x and b_y."""
    probability: np.ndarray
    """(N, H, W, K), each heatmap summing to one."""
    nme: np.ndarray
    """(N,) percent, by the scheme's first normaliser."""


def view(run: Run, samples: Samples) -> View:
    """A model's view of labelled faces; all at once, so few of them.

    Raises:
      LapjaxError: chips that show less than the model's crop.
    """
    model = run.config.model
    check_crop(model, samples)
    crops = augment.crop(
        *map(jnp.asarray, (np.asarray(samples.images), samples.landmarks, samples.visible)),
        model=model,
        chip_factor=samples.meta["chip_factor"],
    )
    maps = heatmap_logits(model, run.variables, crops.images)
    guess = heatmaps.estimate(maps, beta=model.beta, stride=model.stride)
    points, truth, visible = (np.asarray(part) for part in (guess.points, crops.landmarks, crops.visible))
    return View(
        images=augment.to_bytes(crops.images),
        truth=truth,
        visible=visible,
        points=points,
        scale=np.asarray(guess.scale),
        probability=np.asarray(heatmaps.softmax(maps, beta=model.beta)),
        # A ratio of lengths: the same in input px as in image px.
        nme=metrics.image_nme(points, truth, visible, geometry.box_of(truth, visible), samples.scheme),
    )
