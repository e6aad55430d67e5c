"""Labels from trained models, for faces that nobody labelled: the mean of their points, and how sure they are of it.

Several models are a better teacher than each of them alone, and learning from them is free of their cost:

    runs = [lapjax.load_run("runs/a"), lapjax.load_run("runs/b")]
    told = lapjax.label(runs, lapjax.load_dataset("lfw", "train"))
    lapjax.data.write_pack("told.npz", {"train": told})  # lapjax train ... --semi.method labels --unlabelled told.npz
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lapjax import geometry, heatmaps
from lapjax.checkpoints.run import Run
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import heatmap_logits, predict
from lapjax.evaluation.robustness import slight_moves
from lapjax.images import join_terms
from lapjax.losses import MINIMUM_SCALE
from lapjax.samples import Samples

__all__ = ["label", "mean_heatmaps"]


def label(runs: Sequence[Run], samples: Samples, *, views: int = 1) -> Samples:
    """Faces with the points that trained models find, instead of what labels they have.

    A model says Laplace(m_i, b_i) along each axis. The mean point m of all is the label; its scale is the mean absolute
    deviation of their mixture from it: D + b exp(-D / b) with D = |m_i - m|, a mean over models, views and axes.

    Args:
      runs: one or more, of one scheme.
      samples: any; encoded chips stay encoded.
      views: how often each model looks at a face, the first time at the plain crop, then at slightly moved ones (data
        distillation, Radosavovic et al., CVPR 2018).

    Returns:
      The same faces with `landmarks` (N, K, 2) and `scale` (N, K), chip px, the models' scheme, and the terms of the
      faces and of what the models were trained on.

    Raises:
      LapjaxError: no runs, runs of different schemes, fewer than one view, or as `predict`.

    Examples:
      >>> import lapjax
      >>> run = lapjax.load_run("toy-68")
      >>> told = lapjax.label([run], lapjax.load_dataset("toy_faces", "unlabelled", limit=2))
      >>> told.landmarks.shape, told.scale.shape  # chip px
      ((2, 68, 2), (2, 68))
    """
    if views < 1:
        raise LapjaxError(f"views {views} must be at least 1")
    if not runs:
        raise LapjaxError("no model to label with: name one or more run directories")
    scheme = runs[0].scheme
    for run in runs[1:]:
        if run.scheme != scheme:
            raise LapjaxError(
                f"the models are of different schemes, {scheme.name} and {run.scheme.name}: label with models of one"
            )
    blank = dataclasses.replace(
        samples,
        landmarks=np.zeros((len(samples), scheme.count, 2), np.float32),
        visible=np.ones((len(samples), scheme.count), bool),
        scheme=scheme,
        scale=None,
    )
    points, scales = [], []
    to_chip = samples.image_to_chip.astype(np.float64)
    for run in runs:
        model = run.config.model
        for change in [None, *slight_moves(model, views - 1, len(samples))]:
            guess = predict(run, blank, change=change)
            points.append(geometry.apply(to_chip, guess.points))
            enlarged = guess.input_to_image * geometry.linear_scale(to_chip)
            scales.append(guess.scale * enlarged[:, None, None])
    points, b = np.array(points), np.maximum(scales, MINIMUM_SCALE)
    mean = points.mean(axis=0)
    distance = np.abs(points - mean)
    scale = distance + b * np.exp(-distance / b)
    return dataclasses.replace(
        blank,
        landmarks=mean.astype(np.float32),
        scale=scale.mean(axis=(0, -1)).astype(np.float32),
        meta={
            **samples.meta,
            "unlabelled": False,
            # What a model was trained on binds its labels, too.
            "terms": join_terms(samples.meta.get("terms"), *(run.terms for run in runs)),
        },
    )


def mean_heatmaps(runs: Sequence[Run], images):
    """The mean of the heatmaps that trained models make of the same images; may be jitted.

    Args:
      runs: one or more, of one scheme, input size, crop and stride.
      images: (n, s, s, 3) in [-1, 1].

    Returns:
      Its logarithm, (n, h, w, k), which serves as logits.
    """
    maps = [
        heatmaps.log_softmax(
            heatmap_logits(run.config.model, run.variables, images), beta=run.config.model.beta
        )
        for run in runs
    ]
    return jax.nn.logsumexp(jnp.stack(maps), axis=0) - math.log(len(runs))
