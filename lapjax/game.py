"""The min-max game as one pure step (eq. 4 and 5): G learns from labels, and from D's opinion of unlabelled faces.

In place of D, the unlabelled faces may teach in other ways (`lapjax.semi`).

    players = Players(config, landmarks=68, ...)
    state = init(key, players)
    state, metrics = step(state, labelled, unlabelled, players=players)

Each player has its own optax state. Without unlabelled faces the step is plain supervised training of G.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from lapjax import augment, heatmaps, losses, semi
from lapjax.config import Config, Model
from lapjax.errors import LapjaxError
from lapjax.networks import Discriminator, FastGenerator, Generator
from lapjax.supervision import mean_over_devices, supervise, target_scale

__all__ = [
    "Player",
    "Players",
    "State",
    "heldout_accuracy",
    "init",
    "landmark_count",
    "make_generator",
    "shrink",
    "start_from",
    "step",
    "variable_shapes",
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


def make_generator(model: Model, landmarks: int, *, axis: str | None = None) -> nn.Module:
    """The linen module that a `Model` describes, for `landmarks` heatmaps; `axis` names a pmap axis, if any."""
    dtype = jnp.dtype(model.dtype)
    if model.network == "poster":
        return Generator(landmarks, model.width, model.dropout, dtype)
    return FastGenerator(landmarks, model.channels, model.blocks, model.dropout, dtype, axis)


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
    """The trained models whose heatmaps are to be learned, as of `semi.Rules`."""

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


def variable_shapes(model: Model, landmarks: int) -> dict:
    """{"params", "batch_stats"} of a generator as shapes and types, without computing anything."""
    image = jax.ShapeDtypeStruct((1, model.input_size, model.input_size, 3), jnp.float32)
    shapes = jax.eval_shape(make_generator(model, landmarks).init, jax.random.key(0), image)
    return {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}


def landmark_count(variables) -> int:
    """K of a generator's variables, read off the last layer: both generators end in a dense layer to the landmarks."""
    names = [name for name in variables["params"] if name.startswith("Dense_")]
    last = max(names, key=lambda name: int(name.rpartition("_")[2]))
    return variables["params"][last]["bias"].shape[-1]


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
    generator = state.generator.replace(params=known["params"], batch_stats=known["batch_stats"])
    return state.replace(generator=generator, average=jax.tree.map(jnp.copy, known))


def step(
    state: State,
    labelled: dict,
    unlabelled: dict | None = None,
    *,
    players: Players,
    places=None,
    unlabelled_places=None,
    measure: bool = False,
    seed=None,
) -> tuple[State, dict]:
    """One step of supervised training, or with `unlabelled` one round of the game or with a lesson of theirs.

    Args:
      state: as `init` or the last step gave it.
      labelled: chips of this device: images (b, c, c, 3) uint8, landmarks (b, k, 2) chip px, visible (b, k).
      unlabelled: the unlabelled faces (b', c', c', 3): `images`; for the lesson "labels" also landmarks, visible and
        scale (b', k).
      players: the static description of the run.
      places: (b,) places of these faces in the global batch, for their random keys; 0 to b - 1 by default.
      unlabelled_places: (b',), likewise.
      measure: also measure the norms of the two gradients of G, at the cost of a second backward pass.
      seed: in place of the configuration's; it may be traced.

    Returns:
      The next state, and metrics: scalars in float32.
    """
    config, axis = players.config, players.axis
    key = jax.random.fold_in(jax.random.key(config.seed if seed is None else seed), state.step)
    label_key, face_key, drop_key, game_key = jax.random.split(key, 4)
    if axis is not None:  # else every device would drop and blur alike
        index = jax.lax.axis_index(axis)
        drop_key, game_key = (jax.random.fold_in(key, index) for key in (drop_key, game_key))
    shared = {"model": config.model, "config": config.augment, "flip": players.flip}
    crops = augment.augment(
        label_key, **_columns(labelled), chip_factor=players.chip_factor, places=places, **shared
    )
    count, images = len(crops.images), crops.images
    if unlabelled is not None and config.game.adversary:  # D judges what G makes of images alone
        samples = augment.augment(
            face_key,
            unlabelled["images"],
            *augment.no_landmarks(unlabelled["images"]),
            chip_factor=players.unlabelled_chip_factor,
            places=unlabelled_places,
            **shared,
        )
        images = jnp.concatenate([images, samples.images])
    elif unlabelled is not None:
        chip_factor = players.unlabelled_chip_factor
        rules = semi.Rules(config, players.generator, players.flip, chip_factor, axis, players.teacher)
        lesson = semi.lesson(
            face_key, unlabelled, rules=rules, average=state.average, places=unlabelled_places
        )
        images = jnp.concatenate([images, lesson.images])

    def generate(params):
        return players.generator.apply(
            {"params": params, "batch_stats": state.generator.batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": drop_key},
        )

    maps, backward, updates = jax.vjp(generate, state.generator.params, has_aux=True)
    t = target_scale(config.loss, state.step, players.total_steps)

    def learn(maps):
        return supervise(maps[:count], crops, config=config, t=t, axis=axis)

    (loss, metrics), pull = jax.value_and_grad(learn, has_aux=True)(maps)
    metrics = {"loss": loss, **metrics}
    discriminator = state.discriminator
    if unlabelled is not None:
        if config.game.adversary:
            name = "adversarial"
            discriminator, push, opinion = _contest(state, maps, crops, images, players, game_key)
        else:
            name = "semi"
            weight = semi.weight(config.semi, state.step, players.total_steps)
            teach = jax.value_and_grad(lambda maps: lesson.loss(maps[count:]), has_aux=True)
            (value, means), push = teach(maps)
            push = weight * push
            opinion = {"semi_loss": value} | {f"semi_{key}": mean for key, mean in means.items()}
        metrics |= opinion
        if measure:
            apart = {"supervised": backward(pull)[0], name: backward(push)[0]}
            apart = mean_over_devices(apart, axis)
            metrics |= {f"gradient_norm_{key}": optax.tree.norm(tree) for key, tree in apart.items()}
        pull = pull + push
    (gradient,) = backward(pull)
    gradient = mean_over_devices(gradient, axis)
    metrics = mean_over_devices(metrics, axis) | {"gradient_norm": optax.tree.norm(gradient)}
    changes, opt_state = players.generator_optimiser.update(
        gradient, state.generator.opt_state, state.generator.params
    )
    generator = Player(
        optax.apply_updates(state.generator.params, changes), opt_state, updates.get("batch_stats", {})
    )
    # Young averages forget faster, else they would remember the initial weights.
    decay = jnp.minimum(config.optimiser.ema, (1 + state.step) / (10 + state.step))
    newest = {"params": generator.params, "batch_stats": generator.batch_stats}
    average = (
        newest if not config.optimiser.ema else optax.incremental_update(newest, state.average, 1 - decay)
    )
    return State(state.step + 1, generator, discriminator, average), metrics


def _columns(batch):
    return {"chips": batch["images"], "landmarks": batch["landmarks"], "visible": batch["visible"]}


def _unit_peak(config: Config) -> float:
    """What brings the peak of a rendered heatmap to one: the mass of a cell around its own centre, inverted."""
    game, stride = config.game, config.model.stride
    half = jnp.full((1, 1, 2), 1.5 * stride - 0.5)
    peak = heatmaps.render(half, 3, 3, scale=game.render_scale, kind=game.render, stride=stride).max()
    return 1 / peak


def shrink(images, stride):
    """Area-resizes images (B, S, S, C) to the (B, S / stride, S / stride, C) of heatmaps at a stride."""
    b, height, width, c = images.shape
    return images.reshape(b, height // stride, stride, width // stride, stride, c).mean((2, 4))


def _contest(state, maps, crops, images, players, key):
    """D's update, and the gradient of lambda times G's side of the game with respect to the heatmap logits."""
    config, game, axis = players.config, players.config.game, players.axis
    count, stride = len(crops.images), config.model.stride
    unit = _unit_peak(config)
    small = shrink(images, stride)
    own = heatmaps.softmax(maps, beta=config.model.beta)
    side = own.shape[1]
    ideal = heatmaps.render(
        crops.landmarks, side, side, scale=game.render_scale, kind=game.render, stride=stride
    )
    # A landmark without a label keeps G's own heatmap, else an empty one would tell D that the pair is real.
    real = jax.lax.stop_gradient(unit * jnp.where(crops.visible[:, None, None, :], ideal, own[:count]))
    real_key, fake_key = jax.random.split(key)

    def blur(key, pairs):
        if not game.instance_noise:
            return pairs
        return pairs + game.instance_noise * jax.random.normal(key, pairs.shape)

    def judge(params, images, pairs):
        return players.discriminator.apply({"params": params}, images, pairs)

    fake = jax.lax.stop_gradient(unit * own[count:])

    def discriminate(params):
        noisy = blur(real_key, real)
        on_real = judge(params, small[:count], noisy)
        on_fake = judge(params, small[count:], blur(fake_key, fake))
        loss = losses.discriminator_loss(on_real, on_fake)
        if game.r1:
            slope = jax.grad(lambda pairs: judge(params, small[:count], pairs).mean((1, 2)).sum())(noisy)
            loss += 0.5 * game.r1 * jnp.square(slope).sum((1, 2, 3)).mean()
        return loss, (on_real, on_fake)

    before = state.discriminator
    (loss, (on_real, on_fake)), gradient = jax.value_and_grad(discriminate, has_aux=True)(before.params)
    gradient = mean_over_devices(gradient, axis)
    changes, opt_state = players.discriminator_optimiser.update(gradient, before.opt_state, before.params)
    after = Player(optax.apply_updates(before.params, changes), opt_state, {})
    rival = after if game.order == "before" else before

    def fool(maps):
        pairs = unit * heatmaps.softmax(maps[count:], beta=config.model.beta)
        return game.weight * losses.generator_loss(
            judge(rival.params, small[count:], blur(fake_key, pairs)), form=game.form
        )

    adversarial, push = jax.value_and_grad(fool)(maps)
    opinion = {
        "d_loss": loss,
        "d_real_accuracy": (on_real > 0).mean(),
        "d_fake_accuracy": (on_fake < 0).mean(),
        "d_real_logit": on_real.mean(),
        "d_fake_logit": on_fake.mean(),
        "adversarial_loss": adversarial,
    }
    return after, push, opinion


def heldout_accuracy(params, crops: augment.Crops, players: Players):
    """The share of D's logits above zero on labelled pairs that it was not trained on.

    Args:
      params: of D.
      crops: of held-out faces.
      players: of the run.
    """
    config, game, stride = players.config, players.config.game, players.config.model.stride
    side = config.model.input_size // stride
    ideal = heatmaps.render(
        crops.landmarks, side, side, scale=game.render_scale, kind=game.render, stride=stride
    )
    pairs = _unit_peak(config) * ideal * crops.visible[:, None, None, :]
    logits = players.discriminator.apply({"params": params}, shrink(crops.images, stride), pairs)
    return (logits > 0).mean()
