"""Transforms: exact, the same under NumPy and JAX, and in agreement with the pixels that Pillow cuts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapjax import geometry
from lapjax.errors import LapjaxError

_coordinate = st.floats(-500, 500)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _random_matrix(rng, *batch):
    angle, scale = rng.uniform(-3, 3, batch), rng.uniform(0.2, 5, batch)
    return geometry.similarity(angle, scale, rng.normal(0, 50, (*batch, 2)), rng.normal(0, 50, (*batch, 2)))


def test_crop_matrix_is_the_definition():
    box, factor, size = np.array([10.0, 20.0, 50.0, 100.0]), 1.25, 80
    matrix = geometry.crop_matrix(box, factor=factor, size=size)
    side, (cx, cy) = factor * 80, (30, 60)
    x, y = 17.0, 3.5
    expected = [((x + 0.5) - (cx + 0.5 - side / 2)) * size / side - 0.5]
    expected += [((y + 0.5) - (cy + 0.5 - side / 2)) * size / side - 0.5]
    np.testing.assert_allclose(geometry.apply(matrix, [[x, y]]), [expected], rtol=0, atol=1e-12)
    np.testing.assert_allclose(geometry.apply(matrix, [[cx, cy]]), [[39.5, 39.5]], rtol=0, atol=1e-12)
    assert geometry.linear_scale(matrix) == pytest.approx(size / side, rel=1e-14)


def test_similarity_turns_x_towards_y_about_its_centre():
    quarter = geometry.similarity(np.pi / 2, 2.0, [10.0, 20.0], [1.0, 1.0])
    np.testing.assert_allclose(
        geometry.apply(quarter, [[1.0, 1.0], [2.0, 1.0]]), [[11, 21], [11, 23]], atol=1e-12
    )


@settings(deadline=None, max_examples=50)
@given(
    st.floats(-4, 4),
    st.floats(0.05, 20),
    st.tuples(_coordinate, _coordinate),
    st.tuples(_coordinate, _coordinate),
)
def test_inverse_and_composition(angle, scale, shift, centre):
    matrix = geometry.similarity(angle, scale, shift, centre)
    points = np.array([[0.0, 0.0], [159.0, 3.0], [-40.0, 80.0]])
    back = geometry.apply(geometry.invert(matrix), geometry.apply(matrix, points))
    np.testing.assert_allclose(back, points, rtol=0, atol=1e-9)
    identity = geometry.compose(geometry.invert(matrix), matrix)
    np.testing.assert_allclose(identity, [[1, 0, 0], [0, 1, 0]], rtol=0, atol=1e-8)
    np.testing.assert_allclose(geometry.linear_scale(matrix), scale, rtol=1e-12)


def test_composition_is_the_product_of_homogeneous_matrices(rng):
    outer, inner = rng.normal(size=(2, 5, 2, 3))
    last = np.broadcast_to([[[0.0, 0.0, 1.0]]], (5, 1, 3))
    product = np.concatenate([outer, last], 1) @ np.concatenate([inner, last], 1)
    np.testing.assert_allclose(geometry.compose(outer, inner), product[:, :2], rtol=1e-12)
    points = rng.normal(size=(5, 7, 2))
    twice = geometry.apply(outer, geometry.apply(inner, points))
    np.testing.assert_allclose(geometry.apply(geometry.compose(outer, inner), points), twice, rtol=1e-9)


def test_leading_axes_broadcast(rng):
    matrices, points = _random_matrix(rng, 4), rng.normal(size=(6, 2))
    many = geometry.apply(matrices, points)
    assert many.shape == (4, 6, 2)
    np.testing.assert_array_equal(many[2], geometry.apply(matrices[2], points))
    assert geometry.apply(matrices[0], rng.normal(size=(3, 6, 2))).shape == (3, 6, 2)
    assert geometry.compose(matrices[0], matrices).shape == (4, 2, 3)
    assert geometry.crop_matrix(rng.uniform(0, 9, (3, 4, 4)).cumsum(-1), factor=1.5, size=8).shape == (
        3,
        4,
        2,
        3,
    )
    assert geometry.similarity(0.1, np.ones(4), np.zeros(2), np.zeros((4, 2))).shape == (4, 2, 3)


def test_jax_agrees_with_numpy_under_jit_without_rank_promotion(rng):
    box = np.array([[10, 20, 90, 75], [-5, 3, 60, 200]], np.float32)
    points = rng.uniform(0, 200, (2, 5, 2)).astype(np.float32)
    visible = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0]], bool)

    def everything(box, points, angle):
        crop = geometry.crop_matrix(box, factor=1.4, size=80)
        turn = geometry.similarity(angle, 1.1, points[:, 0], points[0, 0])
        both = geometry.compose(turn, crop)
        moved = geometry.apply(both, points)
        return moved, geometry.invert(both), geometry.linear_scale(both), geometry.box_of(moved, visible)

    expected = everything(box, points, np.float32(0.3))
    with jax.numpy_rank_promotion("raise"):
        got = jax.jit(everything)(jnp.asarray(box), jnp.asarray(points), jnp.float32(0.3))
        geometry.apply(jnp.eye(2, 3), jnp.asarray(points))
    for one, other in zip(got, expected, strict=True):
        assert isinstance(one, jax.Array) and isinstance(other, np.ndarray)
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-4)


def test_points_move_without_a_matrix_product():
    """A product would run in TF32 on a GPU, which is wrong by a tenth of a pixel."""
    jaxpr = str(
        jax.make_jaxpr(lambda m, p: geometry.apply(geometry.compose(m, m), p))(
            jnp.eye(2, 3), jnp.ones((4, 2))
        )
    )
    assert "dot_general" not in jaxpr


def test_box_of_visible_landmarks():
    points = np.array([[1.0, 8.0], [5.0, -2.0], [100.0, 100.0]])
    np.testing.assert_array_equal(geometry.box_of(points, np.array([True, True, False])), [1, -2, 5, 8])
    np.testing.assert_array_equal(geometry.box_of(points), [1, -2, 100, 100])
    assert geometry.box_of(np.zeros((3, 2), np.float32)).dtype == np.float32


def _ramp(height, width, slope_x, slope_y):
    y, x = np.mgrid[:height, :width]
    return np.repeat((20 + slope_x * x + slope_y * y)[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("size", [40, 64, 160, 300])
def test_crop_image_agrees_with_its_matrix(size):
    """A linear ramp survives bilinear resampling, so each chip pixel tells where it came from."""
    image = _ramp(120, 160, 1, 0.5)
    box = np.array([50.3, 41.7, 91.9, 70.2])
    chip, matrix = geometry.crop_image(image, box, factor=1.3, size=size)
    assert chip.shape == (size, size, 3) and chip.dtype == np.uint8
    np.testing.assert_array_equal(matrix, geometry.crop_matrix(box, factor=1.3, size=size))
    j, i = np.meshgrid(np.arange(size), np.arange(size))
    where = geometry.apply(geometry.invert(matrix), np.stack([j, i], -1).reshape(-1, 2)).reshape(
        size, size, 2
    )
    expected = 20 + where[..., 0] + 0.5 * where[..., 1]
    # Half a grey level for each of uint8's three roundings: of the image, of the rows, of the columns.
    assert np.abs(chip[..., 0] - expected).max() <= 1.5
    assert abs(np.mean(chip[..., 0] - expected)) < 0.3


def test_whole_image_at_its_own_size_is_untouched(rng):
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    chip, matrix = geometry.crop_image(image, [0, 0, 31, 31], factor=32 / 31, size=32)
    np.testing.assert_array_equal(chip, image)
    np.testing.assert_allclose(matrix, np.eye(2, 3), atol=1e-12)


def test_beyond_the_image_its_edge_repeats():
    image = _ramp(20, 30, 3, 0)
    chip, matrix = geometry.crop_image(image, [0, 0, 29, 19], factor=3.0, size=90)
    left, right = geometry.apply(matrix, [[0.0, 0.0], [29.0, 19.0]])
    assert (chip[:, : int(left[0]) - 1] == image[0, 0]).all()
    assert (chip[:, int(right[0]) + 2 :] == image[0, -1]).all()
    np.testing.assert_array_equal(chip[0], chip[-1])


def test_shrinking_is_antialiased():
    image = np.zeros((128, 128, 3), np.uint8)
    image[:, ::2] = 200
    chip, _ = geometry.crop_image(image, [20, 20, 100, 100], factor=1.2, size=24)
    assert np.ptp(chip[..., 0].astype(int)) <= 12 and abs(chip.mean() - 100) < 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.box_of(np.ones((3, 2)), np.zeros(3, bool)), "none is visible"),
        (lambda: geometry.crop_matrix(np.array([1, 1, 1, 1]), factor=1.2, size=8), "extent above 0"),
        (lambda: geometry.crop_matrix(np.array([0, 0, np.nan, 1]), factor=1.2, size=8), "finite"),
        (lambda: geometry.invert(np.zeros((2, 3))), "cannot be inverted"),
        (lambda: geometry.crop_image(np.zeros((8, 8)), [0, 0, 4, 4], factor=1, size=8), "uint8"),
        (lambda: _crop([0, 0, 4], 1), "4 numbers"),
        (lambda: _crop([0, 0, 4, 4], 0), "factor > 0"),
        (lambda: _crop([900, 900, 950, 950], 1.5), "does not belong to an image of 12 x 10 px"),
        (lambda: _crop([-1e6, -1e6, 1e6, 1e6], 1.5), "does not belong"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(LapjaxError, match=message):
        call()


def _crop(box, factor):
    return geometry.crop_image(np.zeros((10, 12, 3), np.uint8), box, factor=factor, size=8)
