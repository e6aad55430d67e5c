"""The convolutions: SciPy's correlation, with the same value and gradients on both paths."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from lapjax import convolutions

CASES = [(1, 3, (6, 8)), (2, 3, (6, 8)), (1, 5, (5, 7)), (2, 5, (4, 10))]  # stride, kernel, height and width


@pytest.fixture(params=CASES, ids=str)
def case(request, rng):
    """stride, images, kernel, and a gradient of the output's shape."""
    stride, size, (height, width) = request.param
    images = rng.normal(size=(3, height, width, 4)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 4)).astype(np.float32)
    gradient = rng.normal(size=(3, height // stride, width // stride, 4)).astype(np.float32)
    return stride, images, kernel, gradient


def test_every_channel_is_correlated_with_its_filter(case):
    stride, images, kernel, gradient = case
    found = jax.jit(lambda x, k: convolutions.depthwise(x, k, stride=stride))(images, kernel)
    chex.assert_equal_shape([found, gradient])
    for index, channel in np.ndindex(3, 4):
        dense = scipy.signal.correlate2d(images[index, ..., channel], kernel[..., channel], mode="same")
        np.testing.assert_allclose(
            np.asarray(found)[index, ..., channel], dense[::stride, ::stride], atol=1e-4
        )


def test_shifts_and_the_grouped_convolution_agree_in_value_and_gradients(case):
    stride, images, kernel, gradient = case

    @jax.jit
    def value_and_gradients(images, kernel):
        made = {}
        for path in (convolutions._by_shifts, convolutions._grouped):
            value, pull = jax.vjp(lambda x, k, path=path: path(x, k, stride=stride), images, kernel)
            made[path.__name__] = (value, *pull(gradient))
        return made

    made = value_and_gradients(images, kernel)
    chex.assert_trees_all_close(made["_by_shifts"], made["_grouped"], atol=2e-4, rtol=1e-5)


def test_gradients_through_depthwise_on_this_backend(case):
    stride, images, kernel, gradient = case

    @jax.jit
    @jax.grad
    def along(t, x, k):
        return jnp.vdot(convolutions.depthwise(x, k * t, stride=stride), gradient)

    # The convolution is linear in its kernel: the slope along the kernel itself is the value.
    value = convolutions._grouped(jnp.asarray(images), jnp.asarray(kernel), stride=stride)
    np.testing.assert_allclose(along(1.7, images, kernel), np.vdot(value, gradient), rtol=1e-4, atol=1e-3)


def test_bfloat16_stays_and_its_kernel_gradient_is_summed_in_float32(rng):
    images = jnp.asarray(rng.normal(size=(64, 4, 4, 2)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2)), jnp.bfloat16)

    @jax.jit
    def gradients(images, kernel):
        def total(path, x, k):
            return path(x, k).astype(jnp.float32).sum()

        found = jax.grad(lambda x, k: total(convolutions.depthwise, x, k), argnums=(0, 1))(images, kernel)
        exact = jax.grad(
            lambda x, k: total(lambda *a: convolutions._grouped(*a, stride=1), x, k), argnums=(0, 1)
        )(images.astype(jnp.float32), kernel.astype(jnp.float32))
        return convolutions.depthwise(images, kernel), found, exact

    value, found, exact = gradients(images, kernel)
    chex.assert_type([value, *found], jnp.bfloat16)
    # Half a unit in the last of bfloat16's eight digits, were every sum exact.
    np.testing.assert_allclose(np.float32(found[1]), exact[1], rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (7, 3), (1, 1)], ids=str)
def test_halving_by_blocks_is_the_strided_convolution(size, rng):
    """To the second derivative, which D's gradient penalty takes; sides may be odd."""
    images = rng.normal(size=(2, *size, 3)).astype(np.float32)
    kernel = rng.normal(size=(4, 4, 3, 5)).astype(np.float32)

    def slope(path, images, kernel):
        return jnp.square(jax.grad(lambda x: jnp.tanh(path(x, kernel)).sum())(images)).sum()

    made = []
    for path in (convolutions.halving, convolutions._by_blocks, convolutions._strided):
        value = jax.jit(path)(images, kernel)
        assert value.shape == (2, (size[0] + 1) // 2, (size[1] + 1) // 2, 5)
        made.append((value, jax.jit(jax.grad(functools.partial(slope, path), (0, 1)))(images, kernel)))
    for other in made[1:]:
        chex.assert_trees_all_close(made[0], other, atol=1e-3, rtol=1e-4)
