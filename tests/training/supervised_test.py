"""What labels ask of heatmaps: the schedule of t, the scale of models' labels, one mean over all that is visible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lapjax import heatmaps, losses
from lapjax.config import Config, Loss, Model
from lapjax.data.augment import Crops
from lapjax.training.supervised import label_scale, supervise, target_scale

B, K, SIDE = 3, 4, 8


def crops(*, scale=None, seed=0):
    rng = np.random.default_rng(seed)
    visible = np.ones((B, K), bool)
    visible[0, 1] = visible[2, 2:] = False
    return Crops(
        jnp.zeros((B, SIDE, SIDE, 3)),
        jnp.asarray(rng.uniform(0, SIDE - 1, (B, K, 2)), jnp.float32),
        jnp.asarray(visible),
        jnp.tile(jnp.eye(2, 3), (B, 1, 1)),
        scale,
    )


def config(**loss):
    return Config(model=Model(network="poster", input_size=32), loss=Loss(**loss))


def maps(seed=1):
    return jax.random.normal(jax.random.key(seed), (B, SIDE, SIDE, K))


def test_target_scale_falls_geometrically():
    assert target_scale(Loss(target_scale=1.3), 7, 100) == 1.3
    loss = Loss(target_scale=1.0, target_start=8.0, anneal=0.6)
    expected = {0: 8.0, 20: 4.0, 30: 8**0.5, 40: 2.0, 60: 1.0, 99: 1.0}
    for at, t in expected.items():
        assert target_scale(loss, jnp.int32(at), 100) == pytest.approx(t, rel=1e-5)


def test_the_loss_is_the_mean_over_visible_landmarks():
    made, guess = crops(), heatmaps.estimate(maps())
    loss, means = supervise(maps(), made, config=config(direction="q||p"), t=2.0)
    values = losses.laplace_kl_loss(*guess, made.landmarks, target_scale=2.0, direction="q||p")
    assert loss == pytest.approx(np.asarray(values)[np.asarray(made.visible)].mean(), rel=1e-5)
    b = np.asarray(guess.scale).mean(-1)[np.asarray(made.visible)].mean()
    assert means["scale"] == pytest.approx(b, rel=1e-5)
    error = np.linalg.norm(guess.points - made.landmarks, axis=-1)[np.asarray(made.visible)].mean()
    assert means["error"] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("name", ["laplace_kl", "laplace_nll", "gaussian_kl", "sam"])
def test_every_loss_takes_labels_that_know_how_sure_they_are(name):
    made = crops(scale=jnp.full((B, K), 1.7))
    rules = config(name=name)
    t = label_scale(rules.loss, made)
    assert t.shape == (B, K, 1)
    own, _ = supervise(maps(), made, config=rules, t=t)
    plain, _ = supervise(maps(), made, config=rules, t=1.7)
    assert own == pytest.approx(float(plain), rel=1e-6)


def test_a_prediction_as_the_label_says_costs_nothing():
    guess = heatmaps.estimate(maps())
    b = guess.scale.mean(-1)
    made = crops(scale=b)._replace(landmarks=guess.points)
    for combine in ("axis", "sum"):
        # Along one axis alone the scale would have to be that of the other, too.
        rules = config(combine=combine)
        loss, _ = supervise(maps(), made, config=rules, t=label_scale(rules.loss, made))
        assert 0 <= float(loss) < (1e-6 if combine == "sum" else 0.05)


def ridge(angle):
    """Logits of one landmark, long along an angle (from x to y) and narrow across."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return jnp.asarray(-(along**2) / 6 - across**2)[None, :, :, None]


@pytest.mark.parametrize("name", ["laplace_kl", "laplace_nll", "gaussian_kl", "sam"])
def test_oriented_losses_see_the_landmark_along_and_across_its_heatmap(name):
    """A quarter turn and a diagonal: the error lies along the heatmap, where it is unsure, or across, where it is not."""
    rules, plain = config(name=name, combine="oriented"), config(name=name)
    centre, visible = np.full(2, (SIDE - 1) / 2), jnp.ones((1, 1), bool)

    def loss(angle, direction, rules):
        to = centre + 2 * np.array([np.cos(direction), np.sin(direction)])
        made = Crops(
            jnp.zeros((1, SIDE, SIDE, 3)), jnp.asarray(to, jnp.float32).reshape(1, 1, 2), visible, None, None
        )
        return float(supervise(ridge(angle), made, config=rules, t=1.0)[0])

    along, across = (loss(0.0, direction, plain) for direction in (0.0, np.pi / 2))
    for turned in (0.0, np.pi / 2):
        assert loss(turned, turned, rules) == pytest.approx(along, rel=1e-3)
        assert loss(turned, turned + np.pi / 2, rules) == pytest.approx(across, rel=1e-3)
    if name.startswith("laplace"):  # the pull of the others does not know the scale
        assert along < across
        assert loss(np.pi / 4, np.pi / 4, rules) < loss(np.pi / 4, -np.pi / 4, rules)
    # A heatmap without a direction of its own has a gradient all the same.
    even = jnp.zeros((1, SIDE, SIDE, 1))
    made = Crops(even, jnp.asarray([[centre]], jnp.float32), visible, None, None)
    slope = jax.grad(lambda maps: supervise(maps, made, config=rules, t=1.0)[0])(even)
    assert np.isfinite(slope).all()
