"""One step of training as one pure function: G learns from labels, D from the game, or other lessons from unlabelled samples.

    state, metrics = train_step(state, labelled, unlabelled, players=players)

Without unlabelled samples the step is plain supervised training of G. With them they meet D in the min-max game (eq. 4
and 5) or, in its place, teach G in another way (`lapjax.training.semi_supervised`).
"""

from typing import cast

import jax
import jax.numpy as jnp
import optax

from lapjax import heatmaps, losses
from lapjax.config import Config
from lapjax.data import augment
from lapjax.training import semi_supervised
from lapjax.training.game import Player, Players, State
from lapjax.training.supervised import mean_over_devices, supervise, target_scale

__all__ = ["heldout_accuracy", "shrink", "train_step"]


def train_step(
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
      state: as `game.init` or the last step gave it.
      labelled: chips of this device: images (b, c, c, 3) uint8, landmarks (b, k, 2) chip px, visible (b, k).
      unlabelled: the unlabelled samples (b', c', c', 3): `images`; for the lesson "labels" also landmarks, visible and
        scale (b', k).
      players: the static description of the run.
      places: (b,) places of these samples in the global batch, for their random keys; 0 to b - 1 by default.
      unlabelled_places: (b',), likewise.
      measure: also measure the norms of the two gradients of G, at the cost of a second backward pass.
      seed: in place of the configuration's; it may be traced.

    Returns:
      The next state, and metrics: scalars in float32.
    """
    config, axis = players.config, players.axis
    label_key, other_key, drop_key, game_key = _step_keys(
        config.seed if seed is None else seed, state.step, axis
    )
    crops = augment.augment(
        label_key,
        chips=labelled["images"],
        landmarks=labelled["landmarks"],
        visible=labelled["visible"],
        chip_factor=players.chip_factor,
        places=places,
        **_how_to_crop(players),
    )
    count, images, lesson = len(crops.images), crops.images, None
    if unlabelled is not None:
        others, lesson = _unlabelled_images(other_key, state, unlabelled, unlabelled_places, players)
        images = jnp.concatenate([images, others])

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
        if lesson is None:
            name = "adversarial"
            discriminator, push, said = _contest(state, maps, crops, images, players, game_key)
        else:
            name = "semi"
            push, said = _teach(lesson, maps, count, state.step, players)
        metrics |= said
        if measure:
            apart = {"supervised": backward(pull)[0], name: backward(push)[0]}
            apart = mean_over_devices(apart, axis)
            metrics |= {f"gradient_norm_{key}": optax.tree.norm(tree) for key, tree in apart.items()}
        pull = pull + push
    gradient = mean_over_devices(backward(pull)[0], axis)
    metrics = mean_over_devices(metrics, axis) | {"gradient_norm": optax.tree.norm(gradient)}
    generator, average = _update(state, gradient, updates.get("batch_stats", {}), players)
    return State(state.step + 1, generator, discriminator, average), metrics


def _step_keys(seed, step, axis: str | None):
    """The random keys of a step: of the labelled crops, the unlabelled ones, dropout and the game."""
    label_key, other_key, drop_key, game_key = jax.random.split(
        jax.random.fold_in(jax.random.key(seed), step), 4
    )
    if axis is not None:  # else every device would drop and blur alike
        index = jax.lax.axis_index(axis)
        drop_key, game_key = (jax.random.fold_in(key, index) for key in (drop_key, game_key))
    return label_key, other_key, drop_key, game_key


def _how_to_crop(players: Players) -> dict:
    """What labelled and unlabelled crops share."""
    return {"model": players.config.model, "config": players.config.augment, "flip": players.flip}


def _unlabelled_images(key, state: State, unlabelled: dict, places, players: Players):
    """The crops of the unlabelled samples and, where D does not judge them, the lesson they are to teach."""
    config, chip_factor = players.config, players.unlabelled_chip_factor
    assert chip_factor is not None  # with unlabelled samples there is one
    if config.game.adversary:  # D judges what G makes of images alone
        chips = unlabelled["images"]
        crops = augment.augment(
            key,
            chips,
            *augment.no_landmarks(chips),
            chip_factor=chip_factor,
            places=places,
            **_how_to_crop(players),
        )
        return crops.images, None
    rules = semi_supervised.Rules(
        config, players.generator, players.flip, chip_factor, players.axis, players.teacher
    )
    lesson = semi_supervised.lesson(key, unlabelled, rules=rules, average=state.average, places=places)
    return lesson.images, lesson


def _teach(lesson, maps, count: int, step, players: Players):
    """The weighted gradient of a lesson with respect to the heatmap logits, and its metrics."""
    weight = semi_supervised.weight(players.config.semi, step, players.total_steps)
    (value, means), push = jax.value_and_grad(lambda maps: lesson.loss(maps[count:]), has_aux=True)(maps)
    return weight * push, {"semi_loss": value} | {f"semi_{key}": mean for key, mean in means.items()}


def _update(state: State, gradient, batch_stats, players: Players):
    """G after its optimiser's step, and its moving average."""
    changes, opt_state = players.generator_optimiser.update(
        gradient, state.generator.opt_state, state.generator.params
    )
    generator = Player(optax.apply_updates(state.generator.params, changes), opt_state, batch_stats)
    newest = {"params": generator.params, "batch_stats": generator.batch_stats}
    ema = players.config.optimiser.ema
    if not ema:
        return generator, newest
    # Young averages forget faster, else they would remember the initial weights.
    decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
    return generator, optax.incremental_update(newest, state.average, 1 - decay)


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


def _unit_peak(config: Config) -> jax.Array:
    """What brings the peak of a rendered heatmap to one: the mass of a cell around its own centre, inverted."""
    game, stride = config.game, config.model.stride
    half = jnp.full((1, 1, 2), 1.5 * stride - 0.5)
    peak = heatmaps.render(half, 3, 3, scale=game.render_scale, kind=game.render, stride=stride).max()
    return 1 / peak


def shrink(images, stride):
    """Area-resizes images (B, S, S, C) to the (B, S / stride, S / stride, C) of heatmaps at a stride."""
    b, height, width, c = images.shape
    return images.reshape(b, height // stride, stride, width // stride, stride, c).mean((2, 4))


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
    return (cast(jax.Array, logits) > 0).mean()
