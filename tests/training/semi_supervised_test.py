"""Lessons: what unlabelled faces are shown as, and what is asked of the heatmaps that G makes of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import compiler  # noqa: F401

from lapjax import geometry, heatmaps
from lapjax.config import Augmentation, Config, Loss, Model, Semi, override
from lapjax.data import augment
from lapjax.schemes import get_scheme
from lapjax.training import game, semi_supervised
from lapjax.training.step import train_step
from lapjax.training.supervised import label_scale, supervise

N, CHIP, FACTOR, T, SIZE = 6, 72, 1.8, 1.5, 32
SCHEME = get_scheme("five")
MODEL = Model(network="poster", width=1 / 64, input_size=SIZE, crop=1.25)
CONFIG = Config(
    model=MODEL,
    loss=Loss(target_scale=T),
    augment=Augmentation(rotation=30.0, mirror_lean=0.02),
    unlabelled="faces",
)
KEY = jax.random.key(5)


class OneLayer(nn.Module):
    """A 1x1 convolution stands in for G."""

    @nn.compact
    def __call__(self, images, *, train=False):
        return nn.Dense(SCHEME.count, kernel_init=nn.initializers.normal(2.0))(images)


@pytest.fixture(autouse=True, scope="module")
def _one_layer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(game, "make_generator", lambda model, landmarks, *, axis=None: OneLayer())
        yield


def asks(method):
    """The semi-supervised options of a method."""
    return {"method": method, "models": ("a run",) if method == "heatmaps" else ()}


def three_times(images):
    """Heatmaps of a trained model: of its own, and sharper ones than any beta makes of G's."""
    return heatmaps.log_softmax(OneLayer().apply(OneLayer().init(jax.random.key(9), images), images) * 3)


def rules(method, **changes):
    config = override(CONFIG, semi=asks(method), **changes)
    generator = game.make_generator(MODEL, SCHEME.count)
    return semi_supervised.Rules(config, generator, SCHEME.flip, FACTOR, None, three_times)


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    points = np.array([(28, 30), (44, 30), (36, 38), (30, 44), (42, 44)], np.float32)
    made = {
        "images": rng.integers(0, 256, (N, CHIP, CHIP, 3), np.uint8),
        "landmarks": points[None] + rng.normal(0, 2, (N, 5, 2)).astype(np.float32),
        "visible": np.ones((N, 5), bool),
        "scale": rng.uniform(1, 3, (N, 5)).astype(np.float32),
    }
    return {name: jnp.asarray(column) for name, column in made.items()}


@pytest.fixture(scope="module")
def average():
    image = jnp.zeros((1, MODEL.input_size, MODEL.input_size, 3))
    return {"params": OneLayer().init(jax.random.key(1), image)["params"], "batch_stats": {}}


def varied(samples, *labels, **more):
    return augment.augment(
        KEY,
        samples["images"],
        *labels,
        model=MODEL,
        chip_factor=FACTOR,
        config=CONFIG.augment,
        flip=SCHEME.flip,
        **more,
    )


def plain(samples, *labels):
    return augment.crop(samples["images"], *labels, model=MODEL, chip_factor=FACTOR)


def some_of(images, places):
    """Logits whose heatmaps lie at `places` (n, k, 2), narrow."""
    assert len(images) == len(places)
    return jnp.log(heatmaps.render(places, SIZE, SIZE, scale=0.5) + 1e-9)


def test_the_weight_rises_to_its_own():
    assert semi_supervised.weight(Semi("teacher", 0.7), 0, 100) == 0.7
    rising = Semi("teacher", 0.7, ramp=0.5)
    values = [float(semi_supervised.weight(rising, jnp.int32(step), 100)) for step in (0, 25, 50, 99)]
    np.testing.assert_allclose(values, [0.7 * np.exp(-5), 0.7 * np.exp(-1.25), 0.7, 0.7], rtol=1e-5)


def test_labels_are_those_of_the_same_random_crops(samples):
    given = semi_supervised.lesson(KEY, samples, rules=rules("labels"), average={})
    crops = varied(samples, samples["landmarks"], samples["visible"], label_scale=samples["scale"])
    np.testing.assert_array_equal(given.images, crops.images)
    maps = jax.random.normal(jax.random.key(2), (N, SIZE, SIZE, 5))
    wanted, means = supervise(maps, crops, config=CONFIG, t=label_scale(CONFIG.loss, crops))
    loss, said = given.loss(maps)
    assert loss == pytest.approx(float(wanted), rel=1e-6) and said.keys() == means.keys()


def test_heatmaps_are_those_of_the_model_on_the_same_random_crops(samples):
    sharp = rules("heatmaps", model={"beta": 2.0})
    given = semi_supervised.lesson(KEY, {"images": samples["images"]}, rules=sharp, average={})
    np.testing.assert_array_equal(
        given.images, varied(samples, samples["landmarks"], samples["visible"]).images
    )
    theirs = three_times(given.images)
    loss, means = given.loss(theirs / 2)  # which beta doubles
    assert loss == pytest.approx(0, abs=1e-5) and means["error"] == pytest.approx(0, abs=1e-3)
    maps = jax.random.normal(jax.random.key(2), (N, SIZE, SIZE, 5))
    p, q = (np.asarray(heatmaps.softmax(each), np.float64) for each in (theirs, 2 * maps))
    expected = (p * np.log(np.maximum(p, 1e-300) / q)).sum((1, 2)).mean()
    loss, means = given.loss(maps)
    assert loss == pytest.approx(expected, rel=1e-4)
    apart = heatmaps.estimate(theirs).points - heatmaps.estimate(2 * maps).points
    assert means["error"] == pytest.approx(float(jnp.linalg.norm(apart, axis=-1).mean()), rel=1e-4)


def test_the_teacher_is_the_average_on_plain_crops(samples, average):
    """What it finds there is what a file of labels would have held."""
    given = semi_supervised.lesson(
        KEY, {"images": samples["images"]}, rules=rules("teacher"), average=average
    )
    shown = plain(samples, *augment.no_landmarks(samples["images"]))
    maps = rules("teacher").generator.apply({"params": average["params"]}, shown.images)
    found = heatmaps.estimate(maps)
    to_chip = geometry.invert(shown.chip_to_input)
    told = {
        "images": samples["images"],
        "landmarks": geometry.apply(to_chip, found.points),
        "visible": jnp.ones((N, 5), bool),
        "scale": found.scale.mean(-1) * geometry.linear_scale(to_chip)[:, None],
    }
    as_labels = semi_supervised.lesson(KEY, told, rules=rules("labels"), average={})
    np.testing.assert_array_equal(given.images, as_labels.images)
    maps = jax.random.normal(jax.random.key(2), (N, SIZE, SIZE, 5))
    (loss, means), (wanted, same) = given.loss(maps), as_labels.loss(maps)
    assert loss == pytest.approx(float(wanted), rel=1e-4)
    assert means["error"] == pytest.approx(float(same["error"]), rel=1e-4)


def test_the_teacher_does_not_learn(samples, average):
    def loss(params):
        known = {"params": params, "batch_stats": {}}
        given = semi_supervised.lesson(
            KEY, {"images": samples["images"]}, rules=rules("teacher"), average=known
        )
        return given.loss(jnp.zeros((N, SIZE, SIZE, 5)))[0]

    moved = jax.tree.map(lambda leaf: 1.5 * leaf, average["params"])
    assert loss(moved) != loss(average["params"])  # it is asked
    state = game.init(KEY, _players("teacher"))
    step = jax.jit(
        lambda state: train_step(state, _batch(samples), _batch(samples), players=_players("teacher"))
    )
    after, _ = step(state)
    # The average moves by its decay alone: 1 / 10 of the new parameters at the first step.
    expected = jax.tree.map(
        lambda old, new: 0.1 * old + 0.9 * new, state.average["params"], after.generator.params
    )
    for a, b in zip(jax.tree.leaves(after.average["params"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def _players(method):
    config = override(CONFIG, semi=asks(method), batch_size=N, unlabelled_batch_size=N)
    return game.Players(config, SCHEME.count, SCHEME.flip, 100, FACTOR, FACTOR, teacher=three_times)


def _batch(samples):
    return {name: samples[name] for name in ("images", "landmarks", "visible")}


@pytest.fixture(scope="module")
def both(samples):
    """The true points on the plain and on the augmented crops, and which are inside both."""
    still = plain(samples, samples["landmarks"], samples["visible"])
    moved = varied(samples, samples["landmarks"], samples["visible"])
    assert (np.linalg.det(np.asarray(moved.chip_to_input)[:, :, :2]) < 0).any()
    return still, moved


def test_points_that_move_with_the_image_cost_nothing(samples, both):
    """Mirrored faces, their swapped landmarks and their leaning labels included."""
    still, moved = both
    given = semi_supervised.lesson(
        KEY, {"images": samples["images"]}, rules=rules("equivariance"), average={}
    )
    np.testing.assert_array_equal(given.images, jnp.concatenate([still.images, moved.images]))
    places = jnp.concatenate([still.landmarks, moved.landmarks])
    loss, means = given.loss(some_of(given.images, places))
    assert loss < 1e-3 and means["error"] < 0.05
    off = places.at[N:].add(jnp.array([[[0.6, -0.8]]]))
    loss, means = given.loss(some_of(given.images, off))
    assert loss == pytest.approx(1 / T**2, rel=0.05)  # one px, squared, in units of t
    assert means["error"] == pytest.approx(1.0, rel=0.05)


def test_both_sides_of_the_equivariance_learn(samples):
    given = semi_supervised.lesson(
        KEY, {"images": samples["images"]}, rules=rules("equivariance"), average={}
    )
    maps = jax.random.normal(jax.random.key(3), (2 * N, SIZE, SIZE, 5))
    slopes = jnp.abs(jax.grad(lambda maps: given.loss(maps)[0])(maps)).sum((1, 2, 3))
    assert (slopes > 0).all()


@pytest.mark.parametrize("method", ["heatmaps", "teacher", "equivariance"])
def test_a_step_with_a_lesson(samples, method):
    step = jax.jit(
        lambda state: train_step(state, _batch(samples), _batch(samples), players=_players(method))
    )
    state = game.init(KEY, _players(method))
    _, metrics = step(state)
    assert all(np.isfinite(value) for value in metrics.values())
    assert {"semi_loss", "semi_error", "semi_scale"} < metrics.keys()
