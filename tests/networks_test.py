"""The players: the paper's parameter counts, shapes for any K and size, and the layers against NumPy's."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from numpy.lib.stride_tricks import sliding_window_view

from lapjax import networks
from lapjax.errors import LapjaxError


def shapes(network, height=80, width=80):
    """The variables and the output of a network as shapes alone: nothing is computed."""
    images = jnp.zeros((2, height, width, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    return variables, jax.eval_shape(network.apply, variables, images)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(1 / 16, 17_408), (1 / 8, 39_828), (1 / 4, 128_060), (1 / 2, 478_092), (1.0, 1_872_428)],
)
def test_the_posters_parameter_counts(width, expected):
    variables, made = shapes(networks.Generator(68, width=width))
    assert networks.parameter_count(variables) == expected
    chex.assert_shape(made, (2, 80, 80, 68))


def fast_count(c, k):
    """The fast network's parameters, layer by layer from its description."""

    def separable(i, o):
        return 9 * i + 2 * i + i * o + 2 * o

    total, channels = 27 * c + 2 * c, c
    for features, blocks in ((2 * c, 2), (4 * c, 5), (6 * c, 5)):
        for _ in range(blocks):
            total, channels = total + separable(channels, features), features
    for features in (4 * c, 2 * c):
        total, channels = total + channels * features + features + separable(features, features), features
    return total + separable(channels, channels) + channels * k + k


@pytest.mark.parametrize(("channels", "about"), [(16, 92_000), (24, 198_000), (32, 339_000)])
def test_the_fast_parameter_counts(channels, about):
    variables, made = shapes(networks.FastGenerator(68, channels=channels), 112, 112)
    assert networks.parameter_count(variables["params"]) == fast_count(channels, 68)
    np.testing.assert_allclose(fast_count(channels, 68), about, rtol=0.03)
    chex.assert_shape(made, (2, 28, 28, 68))


@pytest.mark.parametrize("kind", [networks.Generator, networks.FastGenerator])
@pytest.mark.parametrize(("landmarks", "height", "width"), [(1, 16, 16), (5, 48, 32), (98, 112, 160)])
def test_any_number_of_landmarks_and_any_size_that_16_divides(kind, landmarks, height, width):
    _, made = shapes(kind(landmarks), height, width)
    chex.assert_shape(made, (2, height // kind.stride, width // kind.stride, landmarks))


@pytest.mark.parametrize("kind", [networks.Generator, networks.FastGenerator])
@pytest.mark.parametrize(("height", "width"), [(40, 32), (32, 40), (8, 16), (33, 33)])
def test_other_sizes_are_refused(kind, height, width):
    with pytest.raises(LapjaxError, match=f"divide by 16, got {width}x{height}"):
        shapes(kind(5), height, width)


@pytest.mark.parametrize("kind", [networks.Generator, networks.FastGenerator])
def test_the_heads_width_is_that_of_the_landmarks(kind):
    leaves = [jax.tree.leaves(shapes(kind(k))[0]["params"]) for k in (7, 68)]
    changed = [(a.shape, b.shape) for a, b in zip(*leaves, strict=True) if a.shape != b.shape]
    assert all(7 in a and 68 in b for a, b in changed)
    assert len(changed) == (6 if kind is networks.Generator else 2)  # kernels and biases


@pytest.mark.parametrize(
    "network",
    [
        networks.Generator(5, width=1 / 8, dtype=jnp.bfloat16),
        networks.FastGenerator(5, channels=8, dtype=jnp.bfloat16),
    ],
)
def test_compute_in_bfloat16_keeps_float32_parameters(network):
    variables, made = shapes(network, 32, 32)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    chex.assert_type(made, jnp.bfloat16)


def drawn(variables, rng):
    """Values for variables that are shapes alone: compiling the initialisers takes long."""

    def draw(leaf):
        fan_in = np.prod(leaf.shape[:-1]) or 1
        return rng.normal(0, np.sqrt(2 / fan_in), leaf.shape).astype(np.float32)

    return jax.tree.map(draw, variables)


def poster_in_numpy(parameters, x):
    """PAPER.md's section 4 for one (h, w, 3) image in float64; Flax numbers the layers in their order."""
    layers = {name: iter(sorted(n for n in parameters if name in n)) for name in ("Conv", "Dense")}

    def layer(name):
        found = parameters[next(layers[name])]
        return np.float64(found["kernel"]), np.float64(found["bias"])

    def activate(x):
        return np.where(x > 0, x, 0.1 * x)

    def convolve(x):
        kernel, bias = layer("Conv")
        n = kernel.shape[0] // 2
        windows = sliding_window_view(np.pad(x, ((n, n), (n, n), (0, 0))), kernel.shape[:2], (0, 1))
        return activate(np.einsum("hwiyx,yxio->hwo", windows, kernel) + bias)

    def dense(x):
        kernel, bias = layer("Dense")
        return x @ kernel + bias

    skips = []
    for _ in range(4):
        skips.append(convolve(x))
        h, w, c = skips[-1].shape
        x = skips[-1].reshape(h // 2, 2, w // 2, 2, c).max((1, 3))
    x = convolve(convolve(x))
    for skip in skips[::-1]:
        x = activate(dense(x))
        x = scipy.ndimage.zoom(x, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
        x = convolve(np.concatenate([x, skip], axis=-1))
    return dense(activate(dense(activate(dense(x)))))


def test_the_posters_network_is_its_description(rng):
    network = networks.Generator(5, width=1 / 16, dropout=0.2)
    images = rng.uniform(-1, 1, (1, 32, 16, 3)).astype(np.float32)
    variables = drawn(shapes(network, 32, 16)[0], rng)
    found = jax.jit(network.apply)(variables, images)
    expected = poster_in_numpy(variables["params"], images[0])
    np.testing.assert_allclose(found[0], expected, atol=1e-4 * np.abs(expected).max())


def test_dropout_needs_training_and_a_key(rng):
    network = networks.Generator(3, width=1 / 16, dropout=0.5)
    images = rng.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    variables = drawn(shapes(network, 16, 16)[0], rng)

    @jax.jit
    def run(images, key):
        return network.apply(variables, images, train=True, rngs={"dropout": key})

    first, again, other = (run(images, jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.subtract(first, other)).max() > 1e-3


def test_he_normal_starts_with_the_variance_of_two_over_the_fan_in():
    kernel = networks.he_normal(jax.random.key(0), (3, 3, 16, 64))
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (3 * 3 * 16)), rtol=0.03)


def test_every_kernel_starts_he_normal_and_every_bias_at_zero(monkeypatch):
    # At lecun-normal the first heatmaps of the poster's network are seven times flatter.
    monkeypatch.setattr(networks, "he_normal", nn.initializers.constant(0.125))
    images = jnp.zeros((1, 16, 16, 3))
    poster, game = networks.Generator(5, width=1 / 8), networks.Discriminator((4, 8))
    made = jax.jit(lambda key: (poster.init(key, images), game.init(key, images, images)))(jax.random.key(0))
    for variables in made:
        for layer in variables["params"].values():
            assert set(np.unique(layer["kernel"])) == {0.125}
            assert not np.any(layer["bias"])


def test_the_fast_network_updates_every_statistic_in_training():
    network = networks.FastGenerator(3, channels=2)
    variables, _ = shapes(network, 32, 32)

    def train(variables, images):
        return network.apply(variables, images, train=True, mutable=["batch_stats"])

    made, updated = jax.eval_shape(train, variables, jnp.zeros((2, 32, 32, 3)))
    chex.assert_shape(made, (2, 8, 8, 3))
    chex.assert_trees_all_equal_structs(updated["batch_stats"], variables["batch_stats"])
    # The stem's norm, and two in each of the 15 blocks.
    assert len(jax.tree.leaves(updated)) == 2 * (1 + 2 * 15)


def test_norm_uses_running_statistics_outside_training(rng):
    x = rng.normal(3, 2, (4, 3, 3, 5)).astype(np.float32)
    norm = networks.Norm()
    variables = {"batch_stats": {"BatchNorm_0": {"mean": np.full(5, 2.0), "var": np.full(5, 9.0)}}}
    variables["params"] = {"BatchNorm_0": {"scale": np.ones(5), "bias": np.full(5, 0.5)}}
    variables = jax.tree.map(jnp.float32, variables)
    still = jax.jit(functools.partial(norm.apply, train=False))(variables, x)
    np.testing.assert_allclose(still, (x - 2) / 3 + 0.5, atol=1e-4)
    train = functools.partial(norm.apply, train=True, mutable=["batch_stats"])
    _, updated = jax.jit(train)(variables, x)
    mean = updated["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, 0.95 * 2 + 0.05 * x.mean((0, 1, 2)), rtol=1e-5)


def test_norm_over_an_axis_sees_the_batches_of_all_devices(rng):
    x = rng.normal(3, 2, (2, 4, 3, 3, 5)).astype(np.float32)
    variables = networks.Norm().init(jax.random.key(0), x[0], train=False)

    def run(x, axis):
        return networks.Norm(axis=axis).apply(variables, x, train=True, mutable=["batch_stats"])

    made, updated = jax.jit(jax.vmap(lambda x: run(x, "devices"), axis_name="devices"))(x)
    whole, expected = jax.jit(lambda x: run(x, None))(x.reshape(8, 3, 3, 5))
    np.testing.assert_allclose(np.reshape(made, whole.shape), whole, atol=1e-4)
    jax.tree.map(
        lambda found, one: np.testing.assert_allclose(found, np.stack([one, one]), rtol=1e-4),
        updated,
        expected,
    )
    flat = x.reshape(-1, 5)
    np.testing.assert_allclose(whole.reshape(-1, 5), (flat - flat.mean(0)) / flat.std(0), atol=1e-3)


def test_a_separable_block_is_residual_where_shapes_allow(rng):
    x = np.abs(rng.normal(size=(2, 4, 4, 6))).astype(np.float32)
    for features, stride, residual in ((6, 1, True), (6, 2, False), (8, 1, False)):
        block = networks.Separable(features, stride)
        variables = jax.eval_shape(functools.partial(block.init, train=False), jax.random.key(0), x)
        # With filters of zeros nothing but the residual is left.
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), variables)
        made = jax.jit(functools.partial(block.apply, train=False))(zeros, x)
        chex.assert_shape(made, (2, 4 // stride, 4 // stride, features))
        np.testing.assert_allclose(made, x if residual else np.zeros(made.shape), atol=1e-6)


def test_a_residual_block_starts_as_the_identity(rng):
    x = jnp.asarray(np.abs(rng.normal(size=(2, 4, 4, 6))), jnp.float32)
    made, _ = jax.jit(lambda x: networks.Separable(6).init_with_output(jax.random.key(0), x, train=True))(x)
    np.testing.assert_allclose(made, x, atol=1e-6)
    made, _ = jax.jit(lambda x: networks.Separable(8).init_with_output(jax.random.key(0), x, train=True))(x)
    assert np.std(made) > 0.1


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 4, 2), (1, 2, 1, 1)])
def test_doubling_is_bilinear_resizing(shape, rng):
    x = rng.normal(size=shape).astype(np.float32)
    batch, height, width, channels = shape
    expected = jax.image.resize(x, (batch, 2 * height, 2 * width, channels), "bilinear")
    np.testing.assert_allclose(jax.jit(networks._double)(x), expected, atol=1e-6)


def test_the_stem_is_a_strided_convolution(rng):
    x = rng.normal(size=(2, 6, 8, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(
        networks._stem_patches(jnp.asarray(x)) @ kernel.reshape(27, 4), expected, atol=1e-4
    )


@pytest.mark.parametrize(("features", "side"), [((8,), 16), ((8, 16, 32), 4), ((8, 16, 32, 64), 2)])
def test_the_discriminator_is_a_map_of_float32_logits(features, side):
    network = networks.Discriminator(features, dtype=jnp.bfloat16)
    images, maps = jnp.zeros((2, 32, 32, 3)), jnp.zeros((2, 32, 32, 7))
    variables = jax.eval_shape(network.init, jax.random.key(0), images, maps)
    made = jax.eval_shape(network.apply, variables, images, maps)
    chex.assert_shape(made, (2, side, side))
    chex.assert_type([made, *jax.tree.leaves(variables)], jnp.float32)
    inputs = (3 + 7, *features)
    counts = [16 * i * o + o for i, o in zip(inputs, features, strict=False)]
    assert networks.parameter_count(variables) == sum(counts) + 9 * features[-1] + 1


def test_the_discriminator_looks_at_every_channel_of_both(rng):
    network = networks.Discriminator((4,))
    images, maps = (rng.uniform(-1, 1, (2, 8, 8, n)).astype(np.float32) for n in (3, 2))
    variables = drawn(jax.eval_shape(network.init, jax.random.key(0), images, maps), rng)
    gradients = jax.jit(jax.grad(lambda *x: network.apply(variables, *x).sum(), argnums=(0, 1)))
    for gradient in gradients(images, maps):
        assert np.all(np.abs(gradient).max((0, 1, 2)) > 1e-4)
