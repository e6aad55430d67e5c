"""The two players of the min-max game (eq. 4 and 5), G and D, each with its own optax state, and how a training begins.

    players = Players(config, landmarks=68, ...)
    state = init(key, players)

`lapjax.training.step` has the step that changes the state. Without unlabelled samples G plays alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from lapjax.config import Config
from lapjax.errors import LapjaxError
from lapjax.networks import Discriminator, landmark_count, make_generator

__all__ = [
    "Player",
    "Players",
    "State",
    "init",
    "start_from",
]


@struct.dataclass
class Player:
    """One side's parameters, its optimiser's state and, for G, its batch-norm statistics."""

    params: Any
    opt_state: Any
    batch_stats: Any


@struct.dataclass
class State:
    """All that a step changes. `average` holds G's moving average: {"params", "batch_stats"}."""

    step: jax.Array
    generator: Player
    discriminator: Player
    average: Any


@dataclasses.dataclass(frozen=True)
class Players:
    """What stays the same over a run: the modules, their optimisers and where the chips come from."""

    config: Config
    landmarks: int
    flip: tuple[int, ...] | None
    total_steps: int
    chip_factor: float
    unlabelled_chip_factor: float | None = None
    axis: str | None = None
    """The pmap axis over which means are taken; None under jit."""
    teacher: Callable[[jax.Array], jax.Array] | None = None
    """The trained models whose heatmaps are to be learned, as of `semi_supervised.Rules`."""

    @property
    def generator(self) -> nn.Module:
        return make_generator(self.config.model, self.landmarks, axis=self.axis)

    @property
    def discriminator(self) -> Discriminator:
        return Discriminator(self.config.game.features, jnp.dtype(self.config.model.dtype))

    @property
    def warmup_steps(self) -> int:
        """Steps of supervised training before D enters; other ways to learn from unlabelled faces begin at once."""
        return round(self.config.game.warmup * self.total_steps) if self.config.game.adversary else 0

    @property
    def generator_optimiser(self) -> optax.GradientTransformation:
        settings = self.config.optimiser
        warmup = min(settings.warmup_steps, self.total_steps // 2)
        schedule = optax.warmup_cosine_decay_schedule(
            settings.learning_rate / 100 if warmup else settings.learning_rate,
            settings.learning_rate,
            warmup,
            self.total_steps,
            settings.final * settings.learning_rate,
        )
        clip = optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity()
        return optax.chain(clip, optax.add_decayed_weights(settings.weight_decay), optax.adam(schedule))

    @property
    def discriminator_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.game.learning_rate, b1=0.5, b2=0.999)


def init(key: jax.Array, players: Players) -> State:
    """A fresh state; `key` is a typed random key. D has no parameters unless the game is on."""
    generator_key, discriminator_key = jax.random.split(key)
    model, game = players.config.model, players.config.game
    # Outside pmap there is no axis to take means over, and the parameters do not depend on it.
    generator = make_generator(model, players.landmarks)
    image = jnp.zeros((1, model.input_size, model.input_size, 3))
    variables = jax.jit(generator.init)(generator_key, image)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    discriminator = Player({}, (), {})
    if game.adversary:
        side = model.input_size // model.stride
        small = jnp.zeros((1, side, side, 3))
        maps = jnp.zeros((1, side, side, players.landmarks))
        judge = jax.jit(players.discriminator.init)(discriminator_key, small, maps)["params"]
        discriminator = Player(judge, players.discriminator_optimiser.init(judge), {})
    return State(
        step=jnp.zeros((), jnp.int32),
        generator=Player(params, players.generator_optimiser.init(params), batch_stats),
        discriminator=discriminator,
        average=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}),
    )


def start_from(state: State, variables) -> State:
    """A fresh state whose G, and its average, have the weights of a trained one.

    Layers of another shape, those of other landmarks, stay as they were.

    Args:
      state: as `init` gave it.
      variables: {"params", "batch_stats"} of a generator of the same network.

    Raises:
      LapjaxError: the networks have other layers, or layers of other shapes before those of the landmarks.
    """
    fresh = {"params": state.generator.params, "batch_stats": state.generator.batch_stats}
    if jax.tree.structure(fresh) != jax.tree.structure(variables):
        raise LapjaxError("it is of another network: start with the same model.network and model.blocks")
    landmarks = landmark_count(fresh), landmark_count(variables)

    def choose(path, ours, theirs):
        if ours.shape == theirs.shape:
            return jnp.asarray(theirs)
        if tuple(landmarks[0] if n == landmarks[1] else n for n in theirs.shape) == ours.shape:
            return ours
        name = ".".join(step.key for step in path)
        raise LapjaxError(
            f"its {name} has shape {theirs.shape} and this network's {ours.shape}: start with the same model.channels "
            "and model.width"
        )

    known = jax.tree_util.tree_map_with_path(choose, fresh, variables)
    generator = dataclasses.replace(state.generator, params=known["params"], batch_stats=known["batch_stats"])
    return dataclasses.replace(state, generator=generator, average=jax.tree.map(jnp.copy, known))
