"""What a training starts with: the samples of a run, its players, its first state and the sources of its batches."""

import dataclasses

import jax

from lapjax import data
from lapjax.config import Config
from lapjax.errors import LapjaxError
from lapjax.samples import Samples
from lapjax.training import game
from lapjax.training.sharding import Placement

__all__ = ["Material", "fresh_state", "make_players", "sources"]


@dataclasses.dataclass
class Material:
    """The faces of a run."""

    labelled: Samples
    validation: Samples
    unlabelled: Samples | None


def make_players(config: Config, material: Material, steps: int, axis: str | None, teacher) -> game.Players:
    """The static description of a run on its samples."""
    labelled, unlabelled = material.labelled, material.unlabelled
    return game.Players(
        config,
        labelled.scheme.count,
        labelled.scheme.flip,
        steps,
        labelled.meta["chip_factor"],
        unlabelled.meta["chip_factor"] if unlabelled else None,
        axis,
        teacher,
    )


def fresh_state(players: game.Players, start: dict | None) -> game.State:
    """The state before the first step, from a trained network where `start` has its variables."""
    state = game.init(jax.random.key(players.config.seed), players)
    if start is None:
        return state
    try:
        return game.start_from(state, start)
    except LapjaxError as error:
        raise LapjaxError(f"cannot start from {players.config.start}: {error}") from error


def sources(config: Config, material: Material, placement: Placement):
    """Where the batches of labelled and of unlabelled samples, if any, come from."""
    labelled = data.source(material.labelled, config.batch_size, config.seed, put=placement.put)
    unlabelled = None
    if material.unlabelled:
        unlabelled = data.source(
            material.unlabelled, config.unlabelled_batch_size, config.seed + 1, put=placement.put
        )
    sources = [source for source in (labelled, unlabelled) if source]
    if config.dispatch > 1 and not all(isinstance(source, data.Resident) for source in sources):
        raise LapjaxError(
            f"dispatch {config.dispatch} needs all chips on the device, and these are too many: leave it at 1"
        )
    return labelled, unlabelled
