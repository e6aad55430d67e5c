"""Heatmaps to points and scales, and back, against float64 sums over all pixels and SciPy's distributions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from lapjax import heatmaps
from lapjax.errors import LapjaxError

SHAPE = (6, 10, 3)  # h, w, k: one for most tests, so that JAX compiles each operation once
_seed = st.integers(0, 10_000)


def logits(seed, *shape, spread=3.0):
    return np.random.default_rng(seed).normal(0, spread, shape).astype(np.float32)


def direct(h, *, beta=1.0, stride=1):
    """E[x] and E|x - E[x]| of (h, w, k) logits by the double sum over all pixels, (k, 2) float64 each."""
    height, width, _ = h.shape
    p = scipy.special.softmax(beta * h.astype(np.float64), axis=(0, 1))
    y, x = np.mgrid[:height, :width]
    grid = stride * (np.stack([x, y], axis=-1) + 0.5) - 0.5  # (h, w, 2)
    points = np.einsum("hwk,hwc->kc", p, grid)
    return points, np.einsum("hwk,hwkc->kc", p, np.abs(grid[:, :, None] - points))


def blob(seed, height, width, *, margin):
    """Logits of one landmark that are negligible within `margin` of the border."""
    h = np.full((height, width, 1), -1e4, np.float32)
    inside = (height - 2 * margin, width - 2 * margin, 1)
    h[margin : height - margin, margin : width - margin] = logits(seed, *inside)
    return h


@given(_seed, st.floats(0.05, 20))
def test_softmax_is_over_all_pixels_of_beta_times_the_logits(seed, beta):
    h = logits(seed, *SHAPE)
    expected = scipy.special.softmax(beta * h.astype(np.float64), axis=(0, 1))
    np.testing.assert_allclose(heatmaps.softmax(jnp.asarray(h), beta=beta), expected, rtol=1e-4, atol=1e-7)


@given(_seed, st.floats(0.05, 20))
def test_log_softmax_is_its_logarithm_however_small(seed, beta):
    h = logits(seed, *SHAPE)
    h[0, 0] = -1e4
    expected = scipy.special.log_softmax(beta * h.astype(np.float64), axis=(0, 1))
    np.testing.assert_allclose(
        heatmaps.log_softmax(jnp.asarray(h), beta=beta), expected, rtol=1e-5, atol=1e-4
    )


def test_marginals_are_the_column_and_row_sums(rng):
    p = rng.dirichlet(np.ones(20), (2, 3)).reshape(2, 3, 4, 5).transpose(0, 2, 3, 1).astype(np.float32)
    margins = heatmaps.marginals(jnp.asarray(p))
    chex.assert_shape(margins, [(2, 5, 3), (2, 4, 3)])
    np.testing.assert_allclose(margins.x, p.sum(1), atol=1e-6)
    np.testing.assert_allclose(margins.y, p.sum(2), atol=1e-6)


@given(_seed, st.floats(0.1, 5), st.sampled_from([1, 2, 4]))
def test_estimate_is_the_direct_double_sum(seed, beta, stride):
    h = logits(seed, *SHAPE)
    found = heatmaps.estimate(jnp.asarray(h), beta=beta, stride=stride)
    points, scale = direct(h, beta=beta, stride=stride)
    np.testing.assert_allclose(found.points, points, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scale, scale, rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_any_batch_shape(batch):
    h = logits(0, *batch, *SHAPE)
    found = jax.jit(heatmaps.estimate)(h)
    chex.assert_shape(found, (*batch, 3, 2))
    last = direct(h.reshape(-1, *SHAPE)[-1])
    np.testing.assert_allclose(found.points.reshape(-1, 3, 2)[-1], last[0], atol=1e-5)
    np.testing.assert_allclose(found.scale.reshape(-1, 3, 2)[-1], last[1], atol=1e-5)


@pytest.mark.parametrize(("stride", "expected"), [(1, [0, 1, 2, 3]), (2, [0.5, 2.5, 4.5]), (4, [1.5, 5.5])])
def test_cells_in_input_px(stride, expected):
    # Four input pixels 0..3 make the first cell of stride 4: its centre is 1.5.
    np.testing.assert_array_equal(heatmaps.cells(len(expected), stride=stride), np.float32(expected))


@given(_seed, st.sampled_from([2, 4, 8]))
def test_estimates_at_a_stride_are_those_at_stride_one_in_input_px(seed, stride):
    h = jnp.asarray(logits(seed, *SHAPE))
    cells, pixels = heatmaps.estimate(h), heatmaps.estimate(h, stride=stride)
    np.testing.assert_allclose(pixels.points, stride * (cells.points + 0.5) - 0.5, rtol=1e-5)
    np.testing.assert_allclose(pixels.scale, stride * cells.scale, rtol=1e-4)


@pytest.mark.parametrize(("side", "stride"), [(80, 1), (20, 4)])
def test_a_uniform_map_of_80_px_is_unsure_by_20_px(side, stride):
    found = jax.jit(lambda h: heatmaps.estimate(h, stride=stride))(jnp.zeros((side, side, 2)))
    np.testing.assert_allclose(found.points, np.full((2, 2), 39.5), rtol=1e-5)
    np.testing.assert_allclose(found.scale, np.full((2, 2), 20.0), rtol=1e-5)


@given(_seed, st.integers(-9_000, 9_000))
def test_a_constant_added_to_a_heatmap_changes_nothing(seed, constant):
    # On a grid of 1/64 the float32 sums are exact, and so must be the answer.
    h = np.round(logits(seed, *SHAPE) * 64) / 64
    shifted = h + np.float32([constant, 0, -constant])
    chex.assert_trees_all_equal(heatmaps.estimate(jnp.asarray(shifted)), heatmaps.estimate(jnp.asarray(h)))


@given(_seed, st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([1, 4]))
def test_a_translated_heatmap_translates_the_point_alone(seed, dx, dy, stride):
    h = blob(seed, 9, 11, margin=3)
    before = heatmaps.estimate(jnp.asarray(h), stride=stride)
    after = heatmaps.estimate(jnp.asarray(np.roll(h, (dy, dx), axis=(0, 1))), stride=stride)
    moved = np.subtract(after.points, before.points)
    np.testing.assert_allclose(moved, [[stride * dx, stride * dy]], atol=2e-5 * stride)
    np.testing.assert_allclose(after.scale, before.scale, atol=2e-5 * stride)


@given(_seed, st.sampled_from([1, 4]))
def test_a_mirrored_heatmap_mirrors_x_alone(seed, stride):
    h = logits(seed, *SHAPE)
    before = heatmaps.estimate(jnp.asarray(h), stride=stride)
    after = heatmaps.estimate(jnp.asarray(h[:, ::-1].copy()), stride=stride)
    np.testing.assert_allclose(after.points[:, 0], stride * 10 - 1 - before.points[:, 0], atol=1e-4)
    np.testing.assert_allclose(after.points[:, 1], before.points[:, 1], atol=1e-4)
    np.testing.assert_allclose(after.scale, before.scale, atol=1e-4)


@given(_seed)
def test_a_transposed_heatmap_swaps_x_and_y(seed):
    h = logits(seed, *SHAPE)
    before = heatmaps.estimate(jnp.asarray(h))
    after = heatmaps.estimate(jnp.asarray(h.swapaxes(0, 1)))
    swapped = jax.tree.map(lambda leaf: np.asarray(leaf)[:, ::-1], before)
    chex.assert_trees_all_close(jax.tree.map(np.asarray, after), swapped, atol=1e-5)


@given(_seed, st.floats(0.1, 10), st.sampled_from([1, 4]))
def test_a_point_between_two_cells_forces_a_scale(seed, beta, stride):
    found = heatmaps.estimate(jnp.asarray(logits(seed, *SHAPE)), beta=beta, stride=stride)
    fraction = np.mod((np.asarray(found.points) + 0.5) / stride - 0.5, 1)
    assert np.all(np.asarray(found.scale) >= stride * 2 * fraction * (1 - fraction) - 1e-5 * stride)


@given(st.floats(0.01, 0.99))
def test_two_cells_reach_the_least_scale(f):
    h = np.full((3, 4, 1), -1e4, np.float32)
    h[1, 1:3, 0] = np.log([1 - f, f])
    found = heatmaps.estimate(jnp.asarray(h))
    np.testing.assert_allclose(found.points, [[1 + f, 1]], atol=1e-6)
    np.testing.assert_allclose(found.scale, [[2 * f * (1 - f), 0]], atol=1e-6)


@jax.jit
@jax.jacrev
def gradients_of_x(h):
    found = heatmaps.estimate(h)
    return found.points[0, 0], found.scale[0, 0]


@given(_seed)
def test_gradients_are_the_closed_form(seed):
    h = logits(seed, 4, 5, 1, spread=1.0)
    p = scipy.special.softmax(h[..., 0].astype(np.float64))
    (mean, _), (scale, _) = (value[0] for value in direct(h))
    away = np.arange(5) - mean
    # dp_i/dh_j = p_i (delta_ij - p_j), and d|x - E|/dE = -sign(x - E).
    d_mean = p * away
    d_scale = p * (np.abs(away) - scale) - (p * np.sign(away)).sum() * d_mean

    gradients = gradients_of_x(h)
    np.testing.assert_allclose(gradients[0][..., 0], d_mean, atol=1e-6)
    np.testing.assert_allclose(gradients[1][..., 0], d_scale, atol=1e-6)


def test_gradients_are_those_of_finite_differences():
    # Unlike its value, the scale's slope jumps where E[x] meets the centre of a cell: stay clear of those.
    h = logits(0, 4, 5, 2, spread=1.0)
    assert np.all(np.abs(direct(h)[0] - np.round(direct(h)[0])) > 0.05)
    function = jax.jit(lambda h: heatmaps.estimate(h, beta=1.5, stride=4))
    check_grads(function, (h,), 1, eps=1e-2, atol=2e-3, rtol=2e-3)


def test_huge_logits_are_safe():
    h = np.zeros((6, 6, 3), np.float32)
    h[2, 3, 0], h[:, :, 1], h[4, 1, 2] = 1e4, -1e4, 3e38
    found = heatmaps.estimate(jnp.asarray(h))
    np.testing.assert_array_equal(found.points, np.float32([[3, 2], [2.5, 2.5], [1, 4]]))
    np.testing.assert_allclose(found.scale, [[0, 0], [1.5, 1.5], [0, 0]], atol=1e-6)
    gradient = jax.jit(jax.grad(lambda h: sum(map(jnp.sum, heatmaps.estimate(h, beta=10.0)))))
    chex.assert_tree_all_finite(gradient(h.clip(-1e4, 1e4)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_heatmaps_are_summed_in_float32(dtype):
    h = jnp.asarray(logits(0, 16, 16, 3)).astype(dtype)
    found = jax.jit(heatmaps.estimate)(h)
    chex.assert_type(jax.tree.leaves(found), jnp.float32)
    points, scale = direct(np.asarray(h, np.float64))
    np.testing.assert_allclose(found.points, points, atol=1e-4)
    np.testing.assert_allclose(found.scale, scale, atol=1e-4)
    chex.assert_type(heatmaps.render(jnp.zeros((1, 2), dtype), 4, 4), jnp.float32)


_place = st.floats(-30, 60)


@given(_place, _place, st.floats(0.2, 6), st.sampled_from(["laplace", "gaussian"]), st.sampled_from([1, 4]))
def test_renders_sum_to_one_even_of_points_outside(x, y, scale, kind, stride):
    made = heatmaps.render(jnp.array([[x, y]]), 8, 9, scale=scale, kind=kind, stride=stride)
    chex.assert_shape(made, (8, 9, 1))
    np.testing.assert_allclose(np.asarray(made, np.float64).sum(), 1, atol=1e-5)
    assert np.min(made) >= 0


@given(st.floats(0, 23), st.floats(0, 31), st.floats(0.3, 4), st.sampled_from([1, 4]))
def test_renders_are_the_mass_over_each_cell(x, y, scale, stride):
    for kind, law in (("laplace", scipy.stats.laplace), ("gaussian", scipy.stats.norm)):
        made = heatmaps.render(jnp.array([[x, y]]), 8, 9, scale=scale, kind=kind, stride=stride)[..., 0]

        def mass(centre, count, law=law):
            borders = np.concatenate([[-np.inf], stride * np.arange(1, count) - 0.5, [np.inf]])
            return np.diff(law.cdf(borders, centre, scale))

        np.testing.assert_allclose(made, np.outer(mass(y, 8), mass(x, 9)), atol=2e-6)


@given(st.floats(9.5, 30.5), st.floats(9.5, 30.5), st.sampled_from(["laplace", "gaussian"]))
def test_renders_are_unbiased_inside(x, y, kind):
    made = heatmaps.render(jnp.array([[x, y]]), 40, 40, kind=kind)
    found = heatmaps.soft_argmax(heatmaps.marginals(made))
    np.testing.assert_allclose(found, [[x, y]], rtol=0, atol=0.02)


def test_the_scale_of_a_rendered_laplace():
    # Sum over n >= 1 of 2 n times the mass of [n - 1/2, n + 1/2] under Laplace(1), in closed form.
    made = heatmaps.render(jnp.array([[20.0, 20.0]]), 41, 41)
    found = jax.jit(heatmaps.estimate)(jnp.log(made + 1e-30))
    np.testing.assert_allclose(found.points, [[20, 20]], atol=1e-4)
    np.testing.assert_allclose(found.scale, np.full((1, 2), 1 / (2 * np.sinh(0.5))), rtol=1e-4)


def test_renders_of_a_batch(rng):
    points = rng.uniform(0, 8, (2, 3, 2)).astype(np.float32)
    made = heatmaps.render(jnp.asarray(points), 8, 9)
    chex.assert_shape(made, (2, 8, 9, 3))
    one = heatmaps.render(jnp.asarray(points[1, 2:]), 8, 9)
    np.testing.assert_allclose(np.asarray(made)[1, ..., 2:], one, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"scale": 0.0}, "above 0 px"), ({"scale": -1.0}, "-1.0"), ({"kind": "cauchy"}, "cauchy")],
)
def test_render_names_what_is_wrong(options, said):
    with pytest.raises(LapjaxError, match=said):
        heatmaps.render(jnp.zeros((1, 2)), 4, 4, **options)


@given(seed=_seed, stride=st.sampled_from([1, 4]))
def test_principal_axes_are_those_of_the_covariance(seed, stride):
    h = logits(seed, *SHAPE)
    p = scipy.special.softmax(h.astype(np.float64), axis=(0, 1))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    grid = stride * (np.stack([x, y], axis=-1) + 0.5) - 0.5
    points, _ = direct(h, stride=stride)
    given = jnp.asarray(p, jnp.float32), jnp.asarray(points, jnp.float32)
    axes = heatmaps.principal_axes(*given, stride=stride)
    scale = heatmaps.oriented_scale(*given, axes, stride=stride)
    for k in range(SHAPE[2]):
        offset = grid - points[k]
        covariance = np.einsum("hw,hwi,hwj->ij", p[..., k], offset, offset)
        found = np.asarray(axes[k], np.float64)
        np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-5)
        turned = found @ covariance @ found.T
        assert turned[0, 0] >= turned[1, 1] - 1e-3 and abs(turned[0, 1]) < 1e-3 * np.trace(turned)
        along = np.abs(offset @ found.T)
        np.testing.assert_allclose(scale[k], np.einsum("hw,hwi->i", p[..., k], along), rtol=1e-4)


def test_oriented_scales_along_x_and_y_are_those_of_the_marginals():
    maps = jnp.asarray(logits(0, 2, *SHAPE))
    probability, guess = heatmaps.softmax(maps), heatmaps.estimate(maps)
    axes = jnp.broadcast_to(jnp.eye(2), (2, SHAPE[2], 2, 2))
    found = heatmaps.oriented_scale(probability, guess.points, axes)
    np.testing.assert_allclose(found, guess.scale, rtol=1e-5)
