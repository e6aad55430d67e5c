"""The losses against quadrature, SciPy's distributions, the closed forms of PAPER.md and their own limits."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from lapjax import heatmaps, losses
from lapjax.errors import LapjaxError

_distance, _scale = st.floats(0, 20), st.floats(0.05, 20)
_signed = st.floats(-20, 20)
DIRECTIONS = ["q||p", "p||q"]


def pair(x, y):
    """One landmark's (1, 2) array."""
    return jnp.array([[x, y]], jnp.float32)


def kl_by_quadrature(first, second):
    """KL(first || second) of two SciPy distributions, split where a Laplace has its corner."""
    corners = sorted({first.median(), second.median()})
    low, high = first.ppf(1e-13), first.isf(1e-13)
    borders = [low, *(c for c in corners if low < c < high), high]

    def integrand(x):
        return first.pdf(x) * (first.logpdf(x) - second.logpdf(x))

    return sum(scipy.integrate.quad(integrand, a, b, epsabs=1e-9)[0] for a, b in itertools.pairwise(borders))


@jax.jit
def slopes(distance, b, t):
    q_p = jax.grad(losses.laplace_kl, argnums=(0, 1))(distance, b, t)
    p_q = jax.grad(losses.laplace_kl, argnums=(0, 2))(distance, t, b)
    return dict(zip(DIRECTIONS, (q_p, p_q), strict=True))


def slope(direction, distance, b, t=1.0):
    """(dL/dD, dL/db) of one axis."""
    return slopes(jnp.float32(distance), jnp.float32(b), jnp.float32(t))[direction]


@pytest.mark.parametrize(
    ("m1", "b1", "m2", "b2", "expected"),
    [
        (0.3, 2.5, 1.7, 1.0, 0.911732),
        (1.7, 1.0, 0.3, 2.5, 0.574930),
        (-3.0, 0.4, 2.0, 1.0, 4.916292),
        (5.0, 12.0, 0.0, 1.0, 9.425981),
    ],
)
def test_kl_of_the_vectors(m1, b1, m2, b2, expected):
    np.testing.assert_allclose(losses.laplace_kl(abs(m1 - m2), b1, b2), expected, rtol=0, atol=2e-6)


@given(_signed, _signed, _scale, _scale)
def test_kl_is_the_integral(m1, m2, b1, b2):
    expected = kl_by_quadrature(scipy.stats.laplace(m1, b1), scipy.stats.laplace(m2, b2))
    np.testing.assert_allclose(losses.laplace_kl(abs(m1 - m2), b1, b2), expected, rtol=1e-5, atol=1e-5)


@given(_distance, _scale, _scale)
def test_kl_is_never_negative(distance, b, t):
    assert losses.laplace_kl(distance, b, t) >= -1e-6


@given(_scale)
def test_kl_is_zero_where_the_distributions_are_the_same(t):
    assert losses.laplace_kl(0.0, t, t) == 0


@given(_scale, st.sampled_from([-0.5, -0.1, -0.02, 0.02, 0.1, 0.5]), st.sampled_from([0.02, 0.1, 1.0]))
def test_kl_is_zero_nowhere_else(t, change, distance):
    # Its Taylor series: excess^2 / 2 in b, D^2 / 2 in the distance, in units of t.
    assert losses.laplace_kl(0.0, t * (1 + change), t) > 0.3 * change**2
    assert losses.laplace_kl(distance * t, t, t) > 0.3 * distance**2


def test_kl_keeps_its_digits_where_the_scales_are_far_apart():
    expected = kl_by_quadrature(scipy.stats.laplace(0, 1e-3), scipy.stats.laplace(0, 20))
    np.testing.assert_allclose(losses.laplace_kl(0.0, 1e-3, 20.0), expected, rtol=1e-6)


def test_kl_keeps_its_digits_near_the_minimum():
    d = np.array([1e-4, 1e-3, 1e-2])
    expected = d + np.exp(-d) - 1  # in float64, at b = t = 1
    np.testing.assert_allclose(losses.laplace_kl(d.astype(np.float32), 1.0, 1.0), expected, rtol=5e-3, atol=0)


@given(_distance, _scale, _scale, st.sampled_from([0.25, 4.0, 3.7]))
def test_kl_does_not_know_the_unit(distance, b, t, unit):
    before, after = losses.laplace_kl(distance, b, t), losses.laplace_kl(unit * distance, unit * b, unit * t)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


TABLE = {
    "q||p": [1, 1.026, 1.085, 1.240, 1.571, 2.194, 3.299],
    "p||q": [1, 1.029, 1.107, 1.368, 2.135, 4.018, 8.000],
}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_best_scale_given_an_error(direction):
    found = [
        scipy.optimize.brentq(lambda b, d=distance: float(slope(direction, d, b)[1]), 0.5, 12, xtol=1e-5)
        for distance in (0, 0.25, 0.5, 1, 2, 4, 8)
    ]
    np.testing.assert_allclose(found, TABLE[direction], rtol=0, atol=8e-4)


@given(st.floats(0, 10), st.floats(0.1, 5), st.sampled_from([1.05, 1.5, 10.0]))
def test_the_scale_is_pushed_towards_the_best_from_both_sides(distance, t, factor):
    best = distance + t * np.exp(-distance / t)  # of p||q, in closed form
    assert slope("p||q", distance, best * factor, t)[1] > 0
    assert slope("p||q", distance, best / factor, t)[1] < 0
    # Of q||p it solves exp(-D/b) (1 + D/b) = t/b, whose left side grows with b and whose right side falls.
    best = scipy.optimize.brentq(
        lambda b: np.exp(-distance / b) * (1 + distance / b) - t / b, 0.99 * t, 1e4, xtol=1e-9
    )
    assert slope("q||p", distance, best * factor, t)[1] > 0
    assert slope("q||p", distance, best / factor, t)[1] < 0


@given(_distance, _scale, st.floats(0.1, 5))
def test_slopes_are_the_closed_forms(distance, b, t):
    decay = np.exp(-distance / b)
    expected = {
        "q||p": ((1 - decay) / t, decay * (1 + distance / b) / t - 1 / b),
        "p||q": (
            (1 - np.exp(-distance / t)) / b,
            1 / b - (distance + t * np.exp(-distance / t)) / b**2,
        ),
    }
    for direction in DIRECTIONS:
        found = slope(direction, distance, b, t)
        np.testing.assert_allclose(found, expected[direction], rtol=1e-4, atol=1e-4 * max(1, 1 / b**2))


@pytest.mark.parametrize(
    "options", [{"direction": d, "combine": c} for d in DIRECTIONS for c in ("axis", "sum")]
)
def test_gradients_of_the_loss_are_those_of_finite_differences(options, rng):
    target = rng.normal(0, 5, (2, 3, 2)).astype(np.float32)
    points = target + rng.choice([-1, 1], target.shape) * rng.uniform(0.3, 4, target.shape).astype(np.float32)
    scale = rng.uniform(0.5, 4, target.shape).astype(np.float32)

    @jax.jit
    def function(points, scale, t):
        return losses.laplace_kl_loss(points, scale, jnp.asarray(target), target_scale=t, **options)

    arguments = (points.astype(np.float32), scale, np.float32(1.3))
    check_grads(function, arguments, 1, eps=1e-2, atol=1e-2, rtol=1e-2)


def test_gradient_of_the_points_has_the_sign_of_the_error():
    gradient = jax.grad(
        lambda points: losses.laplace_kl_loss(points, pair(2, 2), pair(0, 0), direction="q||p").sum()
    )
    pull = 1 - np.exp(-3 / 2)
    np.testing.assert_allclose(gradient(pair(3, -3)), [[pull, -pull]], rtol=1e-5)
    np.testing.assert_array_equal(gradient(pair(0, 0)), [[0, 0]])


def test_the_posters_direction_takes_the_prediction_first():
    found = losses.laplace_kl_loss(pair(0.3, 5), pair(2.5, 12), pair(1.7, 0), direction="q||p")
    np.testing.assert_allclose(found, [0.911732 + 9.425981], atol=2e-5)


def test_neither_direction_is_the_default():
    with pytest.raises(TypeError, match="direction"):
        losses.laplace_kl_loss(pair(0, 0), pair(1, 1), pair(0, 0))


def test_the_directions_swap_prediction_and_truth():
    # KL(p||q) with prediction (1.7, 1) and truth (0.3, 2.5) is the first vector of the table.
    found = losses.laplace_kl_loss(
        pair(1.7, 1.7), pair(1, 1), pair(0.3, 0.3), target_scale=2.5, direction="p||q"
    )
    np.testing.assert_allclose(found, [2 * 0.911732], atol=4e-6)


@pytest.mark.parametrize("balance", [0.5, 1.0])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_balance_scales_the_forces_and_leaves_the_optimum(direction, balance):
    points, scale, target = pair(1.0, -4.0), pair(0.6, 5.0), pair(0.2, 0.5)

    def forces(balance):
        def cost(points, scale):
            return losses.laplace_kl_loss(
                points, scale, target, target_scale=1.5, direction=direction, balance=balance
            ).sum()

        return jax.grad(cost, argnums=(0, 1))(points, scale)

    for even, plain in zip(forces(balance), forces(0.0), strict=True):
        np.testing.assert_allclose(even, plain * (scale / 1.5) ** balance, rtol=1e-5)


def test_full_balance_pulls_sure_and_unsure_points_alike():
    sure, unsure = (
        jax.grad(
            lambda x, b=b: losses.laplace_kl_loss(
                pair(x, 0), pair(b, b), pair(0, 0), direction="p||q", balance=1.0
            ).sum()
        )(3.0)
        for b in (0.5, 8.0)
    )
    np.testing.assert_allclose(sure, unsure, rtol=1e-5)
    np.testing.assert_allclose(sure, 1 - np.exp(-3.0), rtol=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_combined_axes_are_one_distribution_of_the_sums(direction):
    options = {"target_scale": 2.0, "direction": direction}
    found = losses.laplace_kl_loss(pair(3, -1), pair(1, 2), pair(1, 2), combine="sum", **options)
    scales = (3.0, 2.0) if direction == "q||p" else (2.0, 3.0)
    laws = [scipy.stats.laplace(m, b) for m, b in zip((0, 5), scales, strict=True)]
    np.testing.assert_allclose(found, [kl_by_quadrature(*laws)], rtol=1e-5)


@given(_signed, _signed, st.floats(0.1, 20), st.floats(0.1, 20))
def test_the_likelihood_is_scipys(dx, dy, bx, by):
    expected = -scipy.stats.laplace.logpdf([dx, dy], 0, [bx, by]).sum() - 2 * (1 + np.log(2))
    found = losses.laplace_nll(pair(dx + 3, dy - 2), pair(bx, by), pair(3, -2))
    np.testing.assert_allclose(found, [expected], rtol=1e-4, atol=1e-4)


@given(_distance, st.floats(0.3, 20))
def test_the_likelihood_is_the_limit_of_the_kl(distance, b):
    nll = losses.laplace_nll(pair(distance, 0), pair(b, 1), pair(0, 0))
    gaps = []
    for t in (1.0, 0.1, 0.01, 0.001):
        kl = losses.laplace_kl_loss(
            pair(distance, 0), pair(b, 1), pair(0, 0), target_scale=t, direction="p||q"
        )
        gaps.append(float(kl[0] + 2 * np.log(t) - nll[0]))
    expected = [t * np.exp(-distance / t) / b + t for t in (1.0, 0.1, 0.01, 0.001)]
    np.testing.assert_allclose(gaps, expected, rtol=1e-3, atol=3e-5)


def test_likelihood_combines_axes():
    found = losses.laplace_nll(pair(3, -1), pair(1, 2), pair(1, 2), combine="sum")
    np.testing.assert_allclose(found, [np.log(3) + 5 / 3 - 1], rtol=1e-6)


@given(_signed, _signed, st.floats(0.2, 10), st.floats(0.2, 10), st.floats(0.5, 4))
def test_gaussian_kl_is_the_integral(dx, dy, vx, vy, t):
    expected = sum(
        kl_by_quadrature(scipy.stats.norm(d, v), scipy.stats.norm(0, t)) for d, v in ((dx, vx), (dy, vy))
    )
    found = losses.gaussian_kl(pair(1 + dx, dy), pair(vx, vy), pair(1, 0), target_scale=t)
    np.testing.assert_allclose(found, [expected], rtol=1e-4, atol=1e-4)


@given(st.integers(0, 10_000))
def test_heatmap_kl_is_the_sum_over_all_cells(seed):
    rng = np.random.default_rng(seed)
    p, q = (rng.dirichlet(np.full(12, 0.5), 2).reshape(2, 3, 4) + 1e-6 for _ in range(2))
    expected = scipy.stats.entropy(p.reshape(2, 12), q.reshape(2, 12), axis=1)
    p, q = (np.log(each / each.sum((1, 2), keepdims=True)) for each in (p, q))
    p, q = (jnp.asarray(each.transpose(1, 2, 0), jnp.float32) for each in (p, q))
    np.testing.assert_allclose(losses.heatmap_kl(p, q), expected, rtol=1e-4, atol=1e-5)


def test_heatmap_kl_draws_the_logits_to_those_of_the_other():
    """By q - p, cell by cell, and where p is zero to the last digit as well."""
    rng = np.random.default_rng(0)
    wanted, own = (jnp.asarray(rng.normal(0, 3, (5, 4, 2)), jnp.float32) for _ in range(2))
    wanted = wanted.at[0].set(-1e5)
    log_p = heatmaps.log_softmax(wanted)
    assert (jnp.exp(log_p[0]) == 0).all()
    slope = jax.grad(lambda own: losses.heatmap_kl(log_p, heatmaps.log_softmax(own)).sum())(own)
    np.testing.assert_allclose(slope, heatmaps.softmax(own) - heatmaps.softmax(wanted), atol=1e-6)
    np.testing.assert_array_equal(losses.heatmap_kl(log_p, log_p), [0, 0])


@given(_signed, _signed)
def test_sam_is_the_euclidean_distance(dx, dy):
    found = losses.sam(pair(7 + dx, dy - 4), pair(7, -4))
    np.testing.assert_allclose(found, [np.hypot(dx, dy)], rtol=1e-4, atol=1e-5)


def test_sam_pulls_with_unit_force_and_rests_at_zero():
    gradient = jax.jit(jax.grad(lambda points: losses.sam(points, jnp.zeros((2, 2))).sum()))
    np.testing.assert_allclose(gradient(jnp.array([[3.0, -4.0], [0, 0]])), [[0.6, -0.8], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("b", [0.0, 1e-30, 1e-6])
def test_a_vanishing_scale_is_floored(b):
    def every(points, scale):
        truth = jnp.zeros((3, 2))
        yield from (losses.laplace_kl_loss(points, scale, truth, direction=d) for d in DIRECTIONS)
        yield losses.laplace_nll(points, scale, truth)
        yield losses.gaussian_kl(points, scale, truth)

    points = jnp.array([[0.0, 0], [1, -2], [100, 100]])
    value = jax.jit(lambda points, scale: list(every(points, scale)))
    floor = value(points, jnp.full((3, 2), losses.MINIMUM_SCALE))
    chex.assert_trees_all_close(value(points, jnp.full((3, 2), b)), floor)
    chex.assert_tree_all_finite(floor)
    gradient = jax.jit(
        jax.grad(lambda points, scale: sum(map(jnp.sum, every(points, scale))), argnums=(0, 1))
    )
    chex.assert_tree_all_finite(gradient(points, jnp.full((3, 2), b)))


def test_bfloat16_predictions_are_computed_in_float32():
    points, scale = pair(20.25, 40.5).astype(jnp.bfloat16), pair(1.25, 0.75).astype(jnp.bfloat16)
    target = pair(20.126, 40.4)
    laplace_kl_loss = functools.partial(losses.laplace_kl_loss, direction="q||p")
    for loss in (laplace_kl_loss, losses.laplace_nll, losses.gaussian_kl):
        found, expected = loss(points, scale, target), loss(*map(jnp.float32, (points, scale)), target)
        chex.assert_type(found, jnp.float32)
        np.testing.assert_array_equal(found, expected)
    chex.assert_type(losses.sam(points, target), jnp.float32)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_one_value_per_landmark(batch):
    points, scale, target = (jnp.full((*batch, 5, 2), value) for value in (1.0, 2.0, 3.0))
    made = [
        losses.laplace_kl_loss(points, scale, target, direction="q||p"),
        losses.laplace_kl_loss(points, scale, target, direction="q||p", combine="sum"),
        losses.laplace_nll(points, scale, target),
        losses.gaussian_kl(points, scale, target),
        losses.sam(points, target),
    ]
    chex.assert_shape(made, (*batch, 5))


def test_a_scheduled_target_scale_does_not_compile_again():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def loss(t):
        return losses.laplace_kl_loss(pair(1, 1), pair(1, 1), pair(1, 1), direction="q||p", target_scale=t)

    np.testing.assert_allclose(loss(jnp.float32(1)), [0], atol=1e-6)
    np.testing.assert_allclose(loss(jnp.float32(2)), [2 * (np.log(2) - 0.5)], rtol=1e-5)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.booleans()), min_size=1, max_size=6))
def test_masked_mean_is_the_mean_of_what_is_there(pairs):
    values, mask = (np.array(column) for column in zip(*pairs, strict=True))
    values, mask = np.resize(values, 6).astype(np.float32), np.resize(mask, 6)
    expected = values[mask].mean() if mask.any() else 0.0
    found = losses.masked_mean(jnp.asarray(values), jnp.asarray(mask))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_masked_mean_never_sees_what_is_missing(junk):
    values = jnp.array([[1.0, junk], [2.0, 6.0]])
    mask = jnp.array([[True, False], [True, True]])
    value, gradient = jax.value_and_grad(losses.masked_mean)(values, mask)
    assert value == 3
    np.testing.assert_allclose(gradient, np.array([[1, 0], [1, 1]]) / 3, rtol=1e-6)
    value, gradient = jax.value_and_grad(losses.masked_mean)(values, jnp.zeros_like(mask))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))


_logits = st.lists(st.floats(-15, 15, width=32), min_size=4, max_size=4).map(np.float32)


@given(_logits, _logits)
def test_the_game_is_its_logarithms(real, fake):
    d_real, d_fake = (scipy.special.expit(x.astype(np.float64)) for x in (real, fake))
    expected = -np.log(d_real).mean() - np.log(1 - d_fake).mean()
    found = losses.discriminator_loss(jnp.asarray(real), jnp.asarray(fake))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    found = losses.generator_loss(jnp.asarray(fake))
    np.testing.assert_allclose(found, -np.log(d_fake).mean(), rtol=1e-4, atol=1e-5)
    found = losses.generator_loss(jnp.asarray(fake), form="literal")
    np.testing.assert_allclose(found, np.log(1 - d_fake).mean(), rtol=1e-4, atol=1e-5)


def test_the_game_is_zero_sum_in_the_literal_form():
    fake = jnp.array([[0.3, -2.0]])
    sure = losses.discriminator_loss(jnp.full((1, 2), 100.0), fake)
    np.testing.assert_allclose(sure + losses.generator_loss(fake, form="literal"), 0, atol=1e-6)


@pytest.mark.parametrize("form", ["non-saturating", "literal"])
def test_the_game_is_safe_at_huge_logits(form):
    logits = jnp.array([-1e4, 1e4])
    chex.assert_tree_all_finite(losses.discriminator_loss(logits, logits))
    gradient = jax.grad(lambda x: losses.generator_loss(x, form=form))(logits)
    # Both forms push G's logits up; far below zero only the non-saturating one still does.
    np.testing.assert_allclose(gradient, [-0.5, 0] if form == "non-saturating" else [0, -0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: losses.laplace_kl_loss(p, p, p, direction="q|p"), "'q|p'"),
        (lambda p: losses.laplace_kl_loss(p, p, p, direction="q||p", combine="xy"), "'xy'"),
        (lambda p: losses.laplace_nll(p, p, p, combine="axes"), "'axes'"),
        (lambda p: losses.generator_loss(p, form="hinge"), "'hinge'"),
    ],
)
def test_unknown_options_are_named(call, said):
    with pytest.raises(LapjaxError, match=f"unknown .*{said.replace('|', '.')}.*: choose"):
        call(pair(1, 1))
