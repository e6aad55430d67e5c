"""What a model does when its input is not as trained: other boxes, turned faces, covered points.

A box that a detector gives is not the tight box of the true landmarks. `moves` draws such boxes as transforms of the
network's input, `predict(change=...)` sees the faces through them, and `stressed_nme` says what it costs.
"""

import dataclasses

import numpy as np

from lapjax import geometry, metrics
from lapjax.checkpoints.run import Run
from lapjax.config import Model
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import predict
from lapjax.metrics.scoring import truth
from lapjax.samples import Samples

__all__ = ["cover", "move_spread", "moves", "slight_moves", "stressed_nme"]


def moves(
    model: Model, count: int, *, shift=0.0, scale=0.0, rotation=0.0, seed: int = 0, exact: bool = False
) -> np.ndarray:
    """Random boxes around the true ones, as transforms of input px (count, 2, 3) for `predict`.

    Args:
      model: gives the input's size and the crop's factor.
      count: how many.
      shift: of the box's centre per axis, in sides of the box, uniform both ways.
      scale: the box's side is multiplied by 1 + u, u uniform both ways.
      rotation: degrees, uniform both ways.
      seed: of the draws.
      exact: every box at the very limit instead, its signs at random: a point of a curve against the limit.

    Raises:
      LapjaxError: a negative limit, or a scale of 1 or more.
    """
    if min(shift, scale, rotation) < 0 or scale >= 1:
        raise LapjaxError(
            f"moves: shift {shift}, scale {scale} and rotation {rotation} must be at least 0, scale < 1"
        )
    random = np.random.default_rng(seed)
    draw = random.uniform(-1, 1, (4, count))
    if exact:
        draw = np.sign(draw)
    size = 1 + scale * draw[0]
    centre = np.full((count, 2), (model.input_size - 1) / 2)
    offset = -shift * draw[1:3].T * model.input_size / model.crop / size[:, None]
    return geometry.similarity(np.deg2rad(rotation) * draw[3], 1 / size, offset, centre)


def slight_moves(model: Model, draws: int, count: int, *, seed: int = 0) -> np.ndarray:
    """Boxes about as far from the true ones as two people draw them, (draws, count, 2, 3): for test-time augmentation.

    Shift 3 %, scale 5 %, rotation 5 degrees; otherwise as `moves`.
    """
    change = moves(model, draws * count, shift=0.03, scale=0.05, rotation=5.0, seed=seed)
    return change.reshape(draws, count, 2, 3)


def stressed_nme(run: Run, samples: Samples, *, draws: int = 5, seed: int = 0, **limits) -> np.ndarray:
    """NME in percent, (draws, N), by the scheme's first normaliser, of faces seen through boxes from `moves`.

    Args:
      run: the trained model.
      samples: N labelled ones.
      draws: boxes a face.
      seed: of the boxes.
      **limits: as of `moves`.

    Raises:
      LapjaxError: as `predict` and `moves`.
    """
    shape = (draws, len(samples), 2, 3)
    change = moves(run.config.model, draws * len(samples), seed=seed, **limits).reshape(shape)
    where = truth(samples)
    return np.stack(
        [
            metrics.image_nme(
                predict(run, samples, change=one).points,
                where,
                samples.visible,
                samples.box,
                samples.scheme,
            )
            for one in change
        ]
    )


def cover(samples: Samples, *, extent: float = 0.25, seed: int = 0) -> tuple[Samples, np.ndarray]:
    """Lays one grey box over every chip, its centre on a random landmark.

    Args:
      samples: N labelled ones.
      extent: side of the square, in sides of the landmark box.
      seed: of the landmarks and the greys.

    Returns:
      The covered faces, and which landmarks lie under the box (N, K) bool.
    """
    random = np.random.default_rng(seed)
    chips = np.array(samples.images)
    half = extent / 2 * chips.shape[1] / samples.meta["chip_factor"]
    hidden = np.zeros(samples.visible.shape, bool)
    for index, (chip, points, visible) in enumerate(
        zip(chips, samples.landmarks, samples.visible, strict=True)
    ):
        x, y = points[random.choice(np.flatnonzero(visible))]
        rows = slice(max(0, round(y - half)), max(0, round(y + half) + 1))
        columns = slice(max(0, round(x - half)), max(0, round(x + half) + 1))
        chip[rows, columns] = random.integers(0, 256)
        hidden[index] = (np.abs(points - (x, y)) <= half).all(axis=-1) & visible
    return dataclasses.replace(samples, images=chips), hidden


def move_spread(run: Run, samples: Samples, *, draws: int = 4, seed: int = 0) -> np.ndarray:
    """How far the points of each face move, (N, K) input px, when its box does by a few percent.

    Test-time augmentation as a source of confidence: the root mean square distance of the points from their mean over
    `draws` boxes (`slight_moves`). It costs `draws` predictions.
    """
    changes = slight_moves(run.config.model, draws, len(samples), seed=seed)
    guesses = [predict(run, samples, change=change) for change in changes]
    points = np.stack([guess.points for guess in guesses])
    spread = np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=-1).mean(axis=0))
    return spread / guesses[0].input_to_image[:, None]
