"""The engine of a run directory: its network in JAX, not yet a file."""

import os
import pathlib

import numpy as np

from lapjax.checkpoints.model_card import Card, describe
from lapjax.checkpoints.runtime import Engine, demand_jax

__all__ = ["open_run"]


def open_run(directory: str | os.PathLike) -> tuple[Card, Engine]:
    """The card and the engine of a run directory's best model, which is JAX.

    Raises:
      LapjaxError: not a run, one without a checkpoint, or JAX is not installed.
    """
    demand_jax(f"the run {directory}", "give a file that `lapjax export` made of it")
    import jax

    from lapjax.checkpoints.run import load_run
    from lapjax.data.augment import unit
    from lapjax.evaluation.evaluate import estimate

    run = load_run(directory)
    card = describe(run, name=pathlib.Path(directory).absolute().name)
    variables = jax.device_put(run.variables)

    @jax.jit
    def call(variables, images):
        return estimate(card.model, variables, unit(images))

    def engine(images, box_size):
        points, scale = (np.asarray(value) for value in call(variables, images))
        found = {"points": points, "scale": scale}
        if run.calibration is not None:
            said = run.calibration.formula(points, scale, np.asarray(box_size, np.float64))
            found |= {"radius": said.radius, "confidence": said.confidence}
        return found

    return card, engine
