"""The players: the poster's generator, a fast one for shipping, and the discriminator (PAPER.md 3 and 4).

Every generator turns (b, s, s, 3) images in [-1, 1] into heatmap logits (b, s / stride, s / stride, k).
Parameters are float32; `dtype` is what the layers compute in. 1x1 convolutions are `nn.Dense`: the same map,
and on a CPU its weight gradient runs ten times faster.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lapjax.config import Model
from lapjax.convolutions import depthwise, halving
from lapjax.errors import LapjaxError

__all__ = [
    "Discriminator",
    "FastGenerator",
    "Generator",
    "landmark_count",
    "make_generator",
    "parameter_count",
    "variable_shapes",
]

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
# The channels count into the fan-in here, though a depthwise kernel sums over none: batch norm follows, so the
# spread only sets the pace under Adam, and kernels that start small learn faster (results/foundation, `init`).
small_normal = nn.initializers.variance_scaling(
    2.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=()
)


def make_generator(model: Model, landmarks: int, *, axis: str | None = None) -> nn.Module:
    """The linen module that a `Model` describes, for `landmarks` heatmaps; `axis` names a pmap axis, if any."""
    dtype = jnp.dtype(model.dtype)
    if model.network == "poster":
        return Generator(landmarks, model.width, model.dropout, dtype)
    if model.network == "fast":
        return FastGenerator(landmarks, model.channels, model.blocks, model.dropout, dtype, axis)
    raise LapjaxError(f"model.network {model.network!r} is in no branch of networks.make_generator: add one")


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


def parameter_count(params) -> int:
    """How many numbers a pytree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _check_input(images, divisor: int, name: str) -> None:
    height, width = images.shape[-3:-1]
    if height % divisor or width % divisor:
        raise LapjaxError(f"{name} takes images whose sides divide by {divisor}, got {width}x{height}")


class Generator(nn.Module):
    """The poster's generator: an encoder-decoder with 5x5 convolutions and no batch norm.

    Its parameter counts are the paper's to the digit: 17,408 at width 1/16 to 1,872,428 at width 1 for 68
    landmarks. The K-sized layers of the head do not shrink with the width.
    """

    landmarks: int
    width: float = 1.0
    dropout: float = 0.0
    dtype: Any = jnp.float32

    stride = 1

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], *, train: bool = False) -> Float[Array, "b h w k"]:
        """Heatmap logits. With `train` and dropout, needs a `dropout` random key."""
        _check_input(images, 16, "Generator")
        channels = round(64 * self.width)

        def convolve(x, features, size):
            return nn.Conv(features, (size, size), kernel_init=he_normal, dtype=self.dtype)(x)

        def dense(x, features):
            return nn.Dense(features, kernel_init=he_normal, dtype=self.dtype)(x)

        def activate(x):
            return nn.leaky_relu(x, 0.1)

        def drop(x):
            return nn.Dropout(self.dropout, deterministic=not train)(x)

        x, skips = images.astype(self.dtype), []
        for _ in range(4):
            x = drop(activate(convolve(x, channels, 3)))
            skips.append(x)
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        for _ in range(2):
            x = activate(convolve(x, channels, 3))
        for skip in reversed(skips):
            x = drop(activate(dense(x, channels)))
            x = jnp.concatenate([_double(x), skip], axis=-1)
            x = activate(convolve(x, 2 * channels, 5))
        x = activate(dense(x, self.landmarks))
        x = activate(dense(x, self.landmarks))
        return dense(x, self.landmarks)


def _double(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Bilinear x2 with half-pixel centres and edge replication, by repeats and sums alone.

    The same as `jax.image.resize`, which does not export to ONNX with a free batch size.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        before = jnp.concatenate(
            [jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis
        )
        after = jnp.concatenate(
            [jax.lax.slice_in_dim(x, 1, size, axis=axis), jax.lax.slice_in_dim(x, size - 1, size, axis=axis)],
            axis,
        )
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


class Norm(nn.Module):
    """Batch norm in float32 statistics; over all devices of `axis` when that names a pmap axis."""

    dtype: Any = jnp.float32
    axis: str | None = None
    scale_init: Any = nn.initializers.ones

    @nn.compact
    def __call__(self, x, *, train: bool):
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.95,
            dtype=self.dtype,
            scale_init=self.scale_init,
            axis_name=self.axis if train and not self.is_initializing() else None,
        )(x)


class Separable(nn.Module):
    """A depthwise 3x3, then 1x1, each with batch norm; residual where the shape allows."""

    features: int
    stride: int = 1
    dtype: Any = jnp.float32
    axis: str | None = None

    @nn.compact
    def __call__(self, x, *, train: bool):
        kernel = self.param(
            "depthwise",
            small_normal,
            (3, 3, x.shape[-1]),
        )
        y = depthwise(x, kernel.astype(self.dtype), stride=self.stride)
        y = nn.relu(Norm(self.dtype, self.axis)(y, train=train))
        y = nn.Dense(self.features, use_bias=False, kernel_init=he_normal, dtype=self.dtype)(y)
        residual = x.shape == y.shape
        # A residual block starts as the identity: heatmaps that start peaked take 150 steps to flatten first.
        start = nn.initializers.zeros if residual else nn.initializers.ones
        y = Norm(self.dtype, self.axis, start)(y, train=train)
        return nn.relu(x + y if residual else y)


class FastGenerator(nn.Module):
    """A depthwise-separable residual encoder-decoder with heatmaps at a quarter of the input's side.

    Stem of c channels at stride 2; stages of 2c, 4c and 6c at strides 4, 8 and 16, each of some separable blocks; two
    additive skips on the way back to stride 4. Named sizes are in `recipes.FAST_SIZES`.
    """

    landmarks: int
    channels: int = 24
    blocks: tuple[int, int, int] = (2, 5, 5)
    dropout: float = 0.0
    dtype: Any = jnp.float32
    axis: str | None = None

    stride = 4

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], *, train: bool = False) -> Float[Array, "b h4 w4 k"]:
        """Heatmap logits. Training updates the collection `batch_stats`."""
        _check_input(images, 16, "FastGenerator")

        def block(x, features, stride=1):
            return Separable(features, stride, self.dtype, self.axis)(x, train=train)

        x = _stem_patches(images.astype(self.dtype))
        x = nn.Dense(self.channels, use_bias=False, kernel_init=he_normal, dtype=self.dtype)(x)
        x = nn.relu(Norm(self.dtype, self.axis)(x, train=train))
        skips = []
        for factor, blocks in zip((2, 4, 6), self.blocks, strict=True):
            for index in range(blocks):
                x = block(x, factor * self.channels, 2 if index == 0 else 1)
            skips.append(x)
        for skip in (skips[1], skips[0]):
            features = skip.shape[-1]
            x = nn.Dense(features, kernel_init=he_normal, dtype=self.dtype)(x)
            x = block(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2) + skip, features)
        x = block(x, x.shape[-1])
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        flat = nn.initializers.normal(0.01)
        return nn.Dense(self.landmarks, kernel_init=flat, dtype=self.dtype)(x)


def _stem_patches(images: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 27"]:
    """The 3x3 neighbourhoods at every second pixel, so that the stem is a matrix product."""
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)))
    taps = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, axis=-1)


class Discriminator(nn.Module):
    """D of eq. (4): is this image with these K heatmaps a labelled pair, or G's work? A map of logits.

    Strided 4x4 convolutions with LeakyReLU 0.2 on the image in [-1, 1] and the heatmaps on its channels.
    """

    features: tuple[int, ...] = (64, 128, 256)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], heatmaps: Float[Array, "b h w k"]
    ) -> Float[Array, "b u v"]:
        """Logits in float32; `images` and `heatmaps` have the same height and width."""
        x = jnp.concatenate([images, heatmaps], axis=-1).astype(self.dtype)
        for features in self.features:
            x = nn.Conv(
                features,
                (4, 4),
                (2, 2),
                kernel_init=he_normal,
                dtype=self.dtype,
                conv_general_dilated=lambda images, kernel, *_, **__: halving(images, kernel),
            )(x)
            x = nn.leaky_relu(x, 0.2)
        return nn.Conv(1, (3, 3), kernel_init=he_normal, dtype=self.dtype)(x)[..., 0].astype(jnp.float32)
