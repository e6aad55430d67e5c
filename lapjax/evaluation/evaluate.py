"""A model on a split: points and scales in, the table of errors out."""

import dataclasses
import functools
import math
import warnings
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from lapjax import geometry, heatmaps, metrics
from lapjax.checkpoints.run import Run
from lapjax.config import Model
from lapjax.data import augment
from lapjax.errors import LapjaxError, LapjaxWarning
from lapjax.metrics import scoring
from lapjax.networks import landmark_count, make_generator
from lapjax.samples import Samples

__all__ = [
    "Predictions",
    "View",
    "check_crop",
    "config_conditions",
    "estimate",
    "evaluate",
    "heatmap_logits",
    "input_to_image",
    "match",
    "predict",
    "predict_variables",
    "view",
]


class Predictions(NamedTuple):
    """What a model says of N faces."""

    points: np.ndarray
    """(N, K, 2) in image px."""
    scale: np.ndarray
    """(N, K, 2), b_x and b_y in input px."""
    input_to_image: np.ndarray
    """(N,) image px per input px."""
    input_points: np.ndarray
    """(N, K, 2) in input px, as the network gives them."""


def heatmap_logits(model: Model, variables, images) -> jax.Array:
    """What a generator makes of images (B, S, S, 3) in [-1, 1]: heatmap logits (B, H, W, K); may be jitted."""
    variables = {name: tree for name, tree in variables.items() if tree}
    return cast(jax.Array, make_generator(model, landmark_count(variables)).apply(variables, images))


def estimate(model: Model, variables, images) -> heatmaps.Estimate:
    """The points and scales of a generator for images (B, S, S, 3) in [-1, 1], in input px; may be jitted."""
    return heatmaps.estimate(heatmap_logits(model, variables, images), beta=model.beta, stride=model.stride)


@functools.lru_cache(maxsize=8)
def _predictor(model: Model, chip_factor: float):
    @jax.jit
    def run(variables, chips, change):
        crops = augment.crop(
            chips, *augment.no_landmarks(chips), model=model, chip_factor=chip_factor, change=change
        )
        return estimate(model, variables, crops.images)

    return run


def predict(
    run: Run, samples: Samples, *, batch_size: int = 64, change: np.ndarray | None = None
) -> Predictions:
    """Points and scales of all samples, from their plain central crops.

    Args:
      run: the trained model, as `load_run` gives it.
      samples: N of them, with the model's number of landmarks or unlabelled.
      batch_size: faces at a time; the last batch is padded and its padding dropped.
      change: (N, 2, 3), moves each crop by a transform of input px, as another box would; none by default.

    Raises:
      LapjaxError: no faces, faces with another number of landmarks than the model, or chips that show less than its
        crop.

    Examples:
      >>> import lapjax
      >>> run = lapjax.load_run("toy-68")
      >>> samples = lapjax.load_dataset("toy_faces", "test", limit=2)
      >>> lapjax.predict(run, samples).points.shape
      (2, 68, 2)
    """
    return predict_variables(run.config.model, run.variables, samples, batch_size=batch_size, change=change)


def predict_variables(
    model: Model, variables, samples: Samples, *, batch_size: int = 64, change: np.ndarray | None = None
) -> Predictions:
    """As `predict`, of variables {"params", "batch_stats"} that are not a run yet, such as those of a training.

    Raises:
      LapjaxError: as `predict`.
    """
    landmarks = landmark_count(variables)
    if samples.scheme.count not in (0, landmarks):
        raise LapjaxError(
            f"the model has {landmarks} landmarks and {samples.meta.get('dataset', 'the data')} has "
            f"{samples.scheme.count}: evaluate it on a set of its own scheme"
        )
    check_crop(model, samples)
    if not len(samples):
        raise LapjaxError(
            f"{samples.meta.get('dataset', 'the data')} has no faces here: choose a split that has some"
        )
    compute = _predictor(model, samples.meta["chip_factor"])
    variables = jax.device_put(variables)
    points, scales = [], []
    for start in range(0, len(samples), batch_size):
        chips = np.asarray(samples.images[start : start + batch_size])
        count = len(chips)
        moves = (
            None if change is None else _padded(np.asarray(change[start : start + batch_size]), batch_size)
        )
        guess = compute(variables, _padded(chips, batch_size), moves)
        points.append(np.asarray(guess.points)[:count])
        scales.append(np.asarray(guess.scale)[:count])
    to_image, input_points = input_to_image(model, samples, change), np.concatenate(points)
    return Predictions(
        geometry.apply(to_image, input_points.astype(np.float64)),
        np.concatenate(scales),
        geometry.linear_scale(to_image),
        input_points,
    )


def input_to_image(model: Model, samples: Samples, change: np.ndarray | None = None) -> np.ndarray:
    """The transforms (N, 2, 3) from the input px of the faces' crops, moved by `change`, to image px."""
    side, factor = samples.images.shape[1], samples.meta["chip_factor"]
    to_input = np.asarray(augment.crop_matrices(side, factor, model), np.float64)
    if change is not None:
        to_input = geometry.compose(np.asarray(change, np.float64), to_input)
    return geometry.invert(geometry.compose(to_input, samples.image_to_chip.astype(np.float64)))


def _padded(rows, size):
    """At least `size` rows, the last one repeated."""
    return np.concatenate([rows, np.repeat(rows[-1:], max(0, size - len(rows)), axis=0)])


def check_crop(model: Model, samples: Samples) -> None:
    """Raises LapjaxError when the chips of `samples` show less of the image than the model's crop.

    Warns:
      LapjaxWarning: they show it with fewer pixels than the network's input has.
    """
    if samples.meta["chip_factor"] < model.crop:
        raise LapjaxError(
            f"the model crops {model.crop} landmark boxes and the chips of {samples.meta.get('dataset', 'this set')} "
            f"show {samples.meta['chip_factor']}: prepare them with --chip-factor {model.crop} or more"
        )
    per_box = samples.images.shape[1] / samples.meta["chip_factor"]
    if per_box * model.crop < 0.95 * model.input_size:
        enough = math.ceil(model.input_size / model.crop * samples.meta["chip_factor"])
        warnings.warn(
            f"{samples.meta.get('dataset', 'this set')}: of its chips {per_box * model.crop:.0f} px are stretched to the "
            f"{model.input_size} that the network sees; prepare it with --chip-size {enough} for what it can do",
            LapjaxWarning,
            stacklevel=3,
        )


def match(
    run: Run,
    samples: Samples,
    *,
    conditions: dict | None = None,
    guess: Predictions | None = None,
) -> scoring.Matched:
    """What a model says of labelled faces beside their labels, to be scored.

    Arguments and errors are those of `evaluate`; `guess` is what `predict` gave, where that is known already.
    """
    guess = predict(run, samples) if guess is None else guess
    known = {
        "dataset": samples.meta.get("dataset"),
        "split": samples.meta.get("split"),
        "crop": run.config.model.crop,
        "scale_unit": "input px",
    }
    return scoring.Matched(
        prediction=guess.points,
        truth=scoring.truth(samples),
        visible=samples.visible,
        box=samples.box,
        image=samples.name,
        subset=samples.subset,
        scheme=samples.scheme,
        scale=guess.scale,
        scale_to_image=guess.input_to_image,
        conditions=known | (conditions or {}),
    )


def evaluate(
    run: Run,
    samples: Samples,
    *,
    thresholds=metrics.THRESHOLDS,
    conditions: dict | None = None,
) -> dict:
    """The errors of a trained model on labelled samples: `scoring.score`, percent but for AUC.

    Args:
      run: the trained model, as `load_run` gives it.
      samples: of one split.
      thresholds: of failure rate and AUC, percent.
      conditions: said beside the numbers (run, seed, ...), added to those known here.

    Raises:
      LapjaxError: as `predict`.

    Examples:
      >>> import lapjax
      >>> run = lapjax.load_run("toy-68")
      >>> result = lapjax.evaluate(run, lapjax.load_dataset("toy_faces", "test", limit=20))
      >>> result["images"], 2 < result["nme"]["inter_ocular"] < 6  # percent
      (20, True)
    """
    return scoring.score(match(run, samples, conditions=conditions), thresholds=thresholds)


def config_conditions(config) -> dict:
    """What a printed number of a run must say of its training."""
    return {
        "train": f"{config.dataset} {config.train_split}",
        "seed": config.seed,
        "epochs": config.epochs,
        "loss": dataclasses.asdict(config.loss),
    }


class View(NamedTuple):
    """What a trained model sees in N samples, of side S input px: the crops, the heatmaps and what is read off them."""

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
    """A trained model's view of labelled samples; all at once, so few of them.

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
