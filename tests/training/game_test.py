"""The step against hand-written gradients, read off the optimisers' first moments; one layer stands in for G."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lapjax import heatmaps, losses
from lapjax.config import Augmentation, Config, Game, Loss, Model, Optimiser, override
from lapjax.data import augment
from lapjax.schemes import get_scheme
from lapjax.training import game
from lapjax.training.step import heldout_accuracy, train_step

BATCH, FACES, CHIP, FACTOR, SIZE, STEPS = 4, 3, 48, 1.8, 32, 100
SCHEME = get_scheme("five")
K = SCHEME.count

# Optimising what runs once would take most of the time.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})


BASE = Config(
    model=Model(network="poster", width=1 / 32, input_size=SIZE, crop=1.25),
    loss=Loss(direction="p||q", target_scale=1.5),
    game=Game(features=(4,), learning_rate=1e-2),
    augment=Augmentation(enabled=False),
    optimiser=Optimiser(warmup_steps=0, weight_decay=0.0, clip=0.0, ema=0.0),
    batch_size=BATCH,
    unlabelled_batch_size=FACES,
)
PLAYED = override(BASE, unlabelled="faces", game={"adversary": True})


class OneLayer(nn.Module):
    """Averages the image to its stride, then one 1x1 convolution: each landmark has weights of its own."""

    landmarks: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images, *, train=False):
        b, h, w, c = images.shape
        s = self.stride
        small = images.reshape(b, h // s, s, w // s, s, c).mean((2, 4))
        kernel = nn.initializers.normal(2.0)
        return nn.Dense(self.landmarks, use_bias=False, kernel_init=kernel, dtype=self.dtype)(small)


def make_one_layer(model, landmarks, *, axis=None):
    return OneLayer(landmarks, model.stride, jnp.dtype(model.dtype))


@pytest.fixture
def one_layer(monkeypatch):
    monkeypatch.setattr(game, "make_generator", make_one_layer)


def players(config, steps=STEPS):
    return game.Players(config, K, SCHEME.flip, steps, FACTOR, FACTOR)


@functools.lru_cache
def _init(config, _networks):
    return quick(functools.partial(game.init, players=players(config)))(jax.random.key(0))


@functools.lru_cache
def _step(config, _networks):
    return quick(functools.partial(train_step, players=players(config), measure=True))


def networks():
    """What a test may put in the place of the networks is no part of a configuration."""
    return game.make_generator, game.Discriminator


def start(config):
    alike = {"adversary": config.game.adversary, "features": config.game.features}
    return _init(Config(model=config.model, game=Game(**alike), unlabelled=config.unlabelled), networks())


def step(config):
    return _step(config, networks())


def batches():
    """Labelled faces, with the third landmark of the first and the fifth of all hidden, and unlabelled ones."""
    rng = np.random.default_rng(0)
    visible = np.ones((BATCH, K), bool)
    visible[0, 2] = visible[:, 4] = False
    labelled = {
        "images": rng.integers(0, 256, (BATCH, CHIP, CHIP, 3), np.uint8),
        "landmarks": rng.uniform(12, 36, (BATCH, K, 2)).astype(np.float32) * visible[..., None],
        "visible": visible,
    }
    return labelled, {"images": rng.integers(0, 256, (FACES, CHIP, CHIP, 3), np.uint8)}


def first_moment(player):
    """The first moment of a player's Adam: after one step, 1 - b1 times the gradient that it was given."""
    return optax.tree.get(player.opt_state, "mu")


def given_gradients(state):
    """What one step gave the two optimisers, G's after clipping and with weight decay."""
    given = jax.tree.map(lambda mu: mu / (1 - 0.9), first_moment(state.generator))
    return given, jax.tree.map(lambda mu: mu / (1 - 0.5), first_moment(state.discriminator))


def cropped(config):
    """Labelled crops and unlabelled images, as the step sees them without augmentation."""
    labelled, samples = batches()
    crop = functools.partial(augment.crop, model=config.model, chip_factor=FACTOR)
    crops = crop(*map(jnp.asarray, (labelled["images"], labelled["landmarks"], labelled["visible"])))
    blank = jnp.zeros((FACES, 0, 2))
    return crops, crop(jnp.asarray(samples["images"]), blank, jnp.zeros((FACES, 0), bool)).images


def reference(config, params, judges, rival):
    """By hand: G's supervised loss, its adversarial one and D's, each with its gradient, and D's logits."""
    crops, samples = cropped(config)
    model, rules = config.model, config.game
    generator = game.make_generator(model, K)
    judge = players(config).discriminator
    stride = model.stride
    side = SIZE // stride

    def shrink(images):
        return images.reshape(len(images), side, stride, side, stride, 3).mean((2, 4))

    def maps(params, images):
        logits = generator.apply({"params": params}, images)
        flat = jax.nn.softmax(model.beta * logits.reshape(len(images), side * side, K), axis=1)
        return flat.reshape(len(images), side, side, K)

    # A Laplace(1) in a cell of `stride` px around its centre has the mass 1 - exp(-stride / 2), along each axis.
    unit = (1 - np.exp(-stride / 2)) ** -2
    ideal = heatmaps.render(crops.landmarks, side, side, stride=stride)
    real = unit * jnp.where(crops.visible[:, None, None, :], ideal, maps(params, crops.images))

    def supervised(params):
        logits = generator.apply({"params": params}, crops.images)
        guess = heatmaps.estimate(logits, beta=model.beta, stride=stride)
        values = losses.laplace_kl_loss(*guess, crops.landmarks, direction="p||q", target_scale=1.5)
        return jnp.where(crops.visible, values, 0).sum() / crops.visible.sum()

    def adversarial(params):
        logits = judge.apply({"params": rival}, shrink(samples), unit * maps(params, samples))
        opinion = jax.nn.sigmoid(logits)
        saturating = jnp.log(1 - opinion).mean()
        return rules.weight * (saturating if rules.form == "literal" else -jnp.log(opinion).mean())

    def logits(judges):
        on_real = judge.apply({"params": judges}, shrink(crops.images), real)
        return on_real, judge.apply({"params": judges}, shrink(samples), unit * maps(params, samples))

    def contest(judges):
        """Minus eq. (4), and half of R1: the mean over faces of the squared slope of the face's mean logit."""

        def logit(image, pairs):
            return judge.apply({"params": judges}, image[None], pairs[None]).mean()

        on_real, on_fake = map(jax.nn.sigmoid, logits(judges))
        slopes = jax.vmap(jax.grad(logit, argnums=1))(shrink(crops.images), real)
        penalty = jnp.square(slopes).reshape(BATCH, -1).sum(-1).mean()
        return -(jnp.log(on_real).mean() + jnp.log(1 - on_fake).mean()) + rules.r1 / 2 * penalty

    return (
        jax.value_and_grad(supervised)(params),
        jax.value_and_grad(adversarial)(params),
        jax.value_and_grad(contest)(judges),
        logits(judges),
    )


VARIANTS = {
    "before": override(PLAYED, game={"weight": 0.5}, optimiser={"clip": 0.01, "weight_decay": 0.1}),
    "with": override(
        PLAYED, model={"network": "fast"}, game={"weight": 0.5, "order": "with", "form": "literal"}
    ),
    "r1": override(PLAYED, model={"network": "fast"}, game={"weight": 0.5, "r1": 3.0}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_both_players_get_their_hand_written_gradients(name, one_layer):
    config = VARIANTS[name]
    before = start(config)
    after, metrics = step(config)(before, *batches())
    judges = before.discriminator.params
    rival = judges if config.game.order == "with" else after.discriminator.params
    (loss, pull), (adversarial, push), (contest, against), logits = quick(
        functools.partial(reference, config)
    )(before.generator.params, judges, rival)
    given, given_judge = given_gradients(after)
    total = jax.tree.map(jnp.add, pull, push)
    norm = optax.tree.norm(total)
    clip = min(1.0, config.optimiser.clip / float(norm)) if config.optimiser.clip else 1.0
    decay = config.optimiser.weight_decay
    expected = jax.tree.map(lambda g, p: clip * g + decay * p, total, before.generator.params)
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-3, atol=1e-6)
    close(given, expected)
    close(given_judge, against)
    assert optax.tree.norm(push) > 1e-5  # else nothing was compared
    close(
        {key: metrics[key] for key in ("loss", "adversarial_loss", "d_loss", "gradient_norm")},
        {"loss": loss, "adversarial_loss": adversarial, "d_loss": contest, "gradient_norm": norm},
    )
    close(metrics["gradient_norm_supervised"], optax.tree.norm(pull))
    close(metrics["gradient_norm_adversarial"], optax.tree.norm(push))
    real, fake = (np.asarray(leaf, np.float64) for leaf in logits)
    if not config.game.r1:
        equation_4 = np.log(1 / (1 + np.exp(-real))).mean() + np.log(1 - 1 / (1 + np.exp(-fake))).mean()
        assert metrics["d_loss"] == pytest.approx(-equation_4, rel=1e-4)
    expected = {
        "d_real_accuracy": (real > 0).mean(),
        "d_fake_accuracy": (fake < 0).mean(),
        "d_real_logit": real.mean(),
        "d_fake_logit": fake.mean(),
    }
    assert {name: float(metrics[name]) for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_lambda_scales_the_adversarial_gradient_and_none_other(one_layer):
    def measured(weight):
        config = override(VARIANTS["before"], game={"weight": weight})
        _, metrics = step(config)(start(config), *batches())
        return {name: float(value) for name, value in metrics.items()}

    once, twice = measured(0.5), measured(1.0)
    assert once["gradient_norm_adversarial"] > 0
    for name in ("gradient_norm_adversarial", "adversarial_loss"):
        assert twice[name] == pytest.approx(2 * once[name], rel=1e-4)
    for name in ("gradient_norm_supervised", "loss", "d_loss"):
        assert twice[name] == pytest.approx(once[name], rel=1e-5)


def test_each_player_has_a_state_of_its_own(one_layer):
    labelled, samples = batches()
    config = override(PLAYED, game={"weight": 0.0})
    state = start(config)
    alone, _ = step(config)(state, labelled)
    chex.assert_trees_all_equal(alone.discriminator, state.discriminator)
    played, metrics = step(config)(state, labelled, samples)
    assert metrics["gradient_norm_adversarial"] == 0
    chex.assert_trees_all_close(played.generator, alone.generator, rtol=1e-4, atol=1e-7)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), played.discriminator, state.discriminator)
    assert all(change > 0 for change in jax.tree.leaves(moved))
    assert int(played.step) == int(alone.step) == 1


def test_without_the_game_there_is_no_discriminator(one_layer):
    state = start(BASE)
    assert not jax.tree.leaves(state.discriminator)
    _, metrics = step(BASE)(state, batches()[0])
    assert set(metrics) == {"loss", "error", "scale", "gradient_norm"}
    assert metrics["error"] > 0 and metrics["scale"] > 0


def test_an_update_of_d_lowers_its_loss(one_layer):
    config = VARIANTS["before"]
    play, state = step(config), start(config)
    seen = []
    for _ in range(10):
        after, metrics = play(state, *batches())
        seen.append(float(metrics["d_loss"]))
        # The same step of the same G: only D moves on.
        state = state.replace(discriminator=after.discriminator)
    assert seen == sorted(seen, reverse=True) and seen[-1] < 0.97 * seen[0]


class Energy(nn.Module):
    """A D whose mean logit is the mean square of the heatmaps."""

    features: tuple
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images, pairs):
        return self.param("weight", nn.initializers.ones, ()) * jnp.square(pairs).mean(-1)


def test_instance_noise_has_its_deviation_on_both_kinds_of_heatmap(one_layer, monkeypatch):
    monkeypatch.setattr(game, "Discriminator", Energy)
    sigma, seen = 0.3, {}
    for noise in (0.0, sigma):
        config = override(PLAYED, game={"instance_noise": noise})
        after, seen[noise] = step(config)(start(config), *batches())
        seen[noise]["gradient"] = given_gradients(after)[1]["weight"]
    for name in ("d_real_logit", "d_fake_logit"):
        # The mean square of 15,360 values or more: known to about 1 %, and their noise is not that of the heatmaps.
        assert seen[sigma][name] - seen[0.0][name] == pytest.approx(sigma**2, rel=0.06)
    assert abs(seen[sigma]["gradient"] - seen[0.0]["gradient"]) > 1e-4


def test_a_hidden_landmark_gives_no_gradient_even_if_its_label_is_nan(one_layer):
    labelled, _ = batches()
    train = step(BASE)
    clean, metrics = train(start(BASE), labelled)
    poisoned = np.where(labelled["visible"][..., None], labelled["landmarks"], np.nan)
    chex.assert_trees_all_equal(train(start(BASE), labelled | {"landmarks": poisoned}), (clean, metrics))
    for leaf in jax.tree.leaves(first_moment(clean.generator)):
        np.testing.assert_array_equal(leaf[..., 4], 0)
    (kernel,) = (leaf for leaf in jax.tree.leaves(first_moment(clean.generator)) if leaf.ndim == 2)
    assert (np.abs(kernel[:, :4]).max(0) > 0).all()


def test_a_batch_without_any_label_changes_nothing(one_layer):
    labelled, _ = batches()
    state = start(BASE)
    after, metrics = step(BASE)(state, labelled | {"visible": np.zeros((BATCH, K), bool)})
    assert metrics["loss"] == 0 and metrics["gradient_norm"] == 0
    chex.assert_trees_all_equal(after.generator.params, state.generator.params)


def test_the_average_is_a_moving_one_that_starts_fast(one_layer):
    config = override(BASE, optimiser={"ema": 0.15, "learning_rate": 0.1})
    train, state = step(config), start(config)
    expected = np.asarray(state.generator.params["Dense_0"]["kernel"], np.float64)
    for decay in (1 / 10, 0.15, 0.15, 0.15):
        state, _ = train(state, batches()[0])
        newest = np.asarray(state.generator.params["Dense_0"]["kernel"], np.float64)
        expected = decay * expected + (1 - decay) * newest
        np.testing.assert_allclose(state.average["params"]["Dense_0"]["kernel"], expected, rtol=1e-5)
    assert np.abs(expected - newest).max() > 1e-3


def test_without_an_average_it_is_the_newest(one_layer):
    after, _ = step(BASE)(start(BASE), batches()[0])
    chex.assert_trees_all_equal(after.average["params"], after.generator.params)


def test_labels_of_models_are_learned_beside_those_of_people(one_layer):
    """With both sets the same faces, and the models as sure as t, it is (1 + weight) times the supervised gradient."""
    labelled, _ = batches()
    zoom = SIZE / (CHIP * BASE.model.crop / FACTOR)
    sure = np.full((BATCH, K), BASE.loss.target_scale / zoom, np.float32)
    config = override(
        BASE, unlabelled="labelled", unlabelled_batch_size=BATCH, semi={"method": "labels", "weight": 0.5}
    )
    before = start(BASE)
    alone, measured = step(BASE)(before, labelled)
    after, taught = step(config)(before, labelled, labelled | {"scale": sure})
    # The one layer keeps no batch statistics, so that the two halves of the batch do not meet.
    chex.assert_trees_all_close(
        given_gradients(after)[0],
        jax.tree.map(lambda g: 1.5 * g, given_gradients(alone)[0]),
        rtol=1e-4,
        atol=1e-6,
    )
    assert taught["semi_loss"] == pytest.approx(float(measured["loss"]), rel=1e-5)
    assert taught["semi_error"] == pytest.approx(float(measured["error"]), rel=1e-5)
    assert taught["gradient_norm_semi"] == pytest.approx(0.5 * float(measured["gradient_norm"]), rel=1e-4)


def test_unsure_labels_of_models_pull_less(one_layer):
    labelled, _ = batches()
    config = override(BASE, unlabelled="labelled", unlabelled_batch_size=BATCH, semi={"method": "labels"})
    pulls = []
    for sure in (1.0, 20.0):
        scale = np.full((BATCH, K), sure, np.float32)
        _, measured = step(config)(start(BASE), labelled, labelled | {"scale": scale})
        pulls.append(float(measured["semi_loss"]))
    assert pulls[1] < 0.5 * pulls[0]


def test_the_learning_rate_warms_up_and_falls_to_its_last_share():
    config = override(BASE, optimiser={"learning_rate": 0.5, "warmup_steps": 10, "final": 0.1})
    optimiser = players(config).generator_optimiser
    params = {"x": jnp.zeros(1)}

    def update(state, _):
        changes, state = optimiser.update({"x": jnp.ones(1)}, state, params)
        return state, -changes["x"][0]

    _, rates = jax.lax.scan(update, optimiser.init(params), None, length=STEPS)
    assert rates[0] == pytest.approx(0.005, rel=1e-3)
    assert rates[10] == pytest.approx(0.5, rel=1e-3) and int(rates.argmax()) == 10
    assert rates[-1] == pytest.approx(0.05, rel=0.05)
    assert (jnp.diff(rates[:11]) > 0).all() and (jnp.diff(rates[10:]) < 0).all()
    # A run shorter than two warm-ups still reaches its peak.
    assert players(config, steps=1).generator_optimiser.init(params)


def test_d_enters_after_its_share_of_the_training():
    assert players(override(PLAYED, game={"warmup": 0.25})).warmup_steps == 25
    assert players(override(PLAYED, game={"warmup": 0.0})).warmup_steps == 0


def test_every_step_draws_its_own_augmentation_and_none_other(one_layer):
    config = override(BASE, augment={"enabled": True})
    train, state, labelled = step(config), start(config), batches()[0]
    first, again = train(state, labelled), train(state, labelled)
    chex.assert_trees_all_equal(first, again)
    later = train(state.replace(step=state.step + 1), labelled)
    assert abs(later[1]["loss"] - first[1]["loss"]) > 1e-3


def test_heldout_accuracy_is_ds_opinion_of_true_pairs(one_layer):
    judge = players(PLAYED).discriminator

    @quick
    def both(params):
        crops, _ = cropped(PLAYED)
        ideal = heatmaps.render(crops.landmarks, SIZE, SIZE) * crops.visible[:, None, None]
        logits = judge.apply({"params": params}, crops.images, ideal / (1 - np.exp(-0.5)) ** 2)
        return heldout_accuracy(params, crops, players(PLAYED)), (logits > 0).mean()

    found, expected = both(start(PLAYED).discriminator.params)
    assert 0 < expected < 1 and found == expected


@pytest.mark.parametrize("change", [{"name": "sam"}, {"name": "laplace_nll"}, {"name": "gaussian_kl"}])
def test_the_other_losses_fall_too(change, one_layer):
    config = override(BASE, loss=change, optimiser={"learning_rate": 0.1})
    train, state = step(config), start(config)
    values = []
    for _ in range(10):
        state, metrics = train(state, batches()[0])
        values.append(float(metrics["loss"]))
    assert values[-1] < values[0]


def test_supervised_steps_of_the_posters_network_lower_the_loss():
    config = override(BASE, optimiser={"learning_rate": 1e-2, "clip": 1.0})
    train, state, labelled = step(config), start(config), batches()[0]
    values = []
    for _ in range(40):
        state, metrics = train(state, labelled)
        values.append(float(metrics["loss"]))
    assert values[-1] < 0.8 * values[0]
    assert np.isfinite(values).all()


def test_the_game_in_bfloat16_keeps_float32_players(one_layer):
    config = override(PLAYED, model={"dtype": "bfloat16"})
    state = start(config)
    after, metrics = step(config)(state, *batches())
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    floating = [
        leaf for leaf in jax.tree.leaves((after, metrics)) if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    chex.assert_type(floating, jnp.float32)
    chex.assert_tree_all_finite(floating)
    assert metrics["loss"] > 0 and metrics["gradient_norm"] > 0
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.generator.params, state.generator.params)
    assert sum(change > 0 for change in jax.tree.leaves(moved)) > 0.8 * len(jax.tree.leaves(moved))
