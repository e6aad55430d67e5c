"""Convolutions whose gradients are fast on a CPU: depthwise ones for G, strided ones for D.

XLA's CPU backend runs a grouped convolution's weight gradient thirty times slower than its forward pass, and
when a depthwise convolution is written as nine shifted products it keeps all nine shifted copies of the input
for the backward pass. Here the backward pass is written out: it shifts again instead of remembering, and sums
over the batch in a loop that stays in the cache; benchmarks/train_step.py measures what that brings to the fast
net's train step. A 4x4 convolution of stride 2 is written as one of 2x2 over blocks of 2x2 pixels, four products of
matrices, whose gradients are such products too: forward and backward together take less than half the time. On a GPU
or TPU the ordinary convolutions are used.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = ["depthwise", "halving"]


def depthwise(
    images: Float[Array, "b h w c"], kernel: Float[Array, "n n c"], *, stride: int = 1
) -> Float[Array, "b h2 w2 c"]:
    """A depthwise convolution with zero padding of n // 2 on every side.

    Args:
      images: (b, h, w, c), h and w divisible by the stride.
      kernel: (n, n, c), n odd; one n x n filter per channel.
      stride: of both axes.

    Returns:
      (b, h / stride, w / stride, c).
    """
    return lax.platform_dependent(
        images,
        kernel,
        cpu=functools.partial(_by_shifts, stride=stride),
        default=functools.partial(_grouped, stride=stride),
    )


def _grouped(images, kernel, *, stride):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        images,
        kernel[:, :, None, :],
        (stride, stride),
        [(pad, pad), (pad, pad)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=images.shape[-1],
    )


def _taps(padded, size, stride):
    """The strided views of a padded (..., h, w, c) array, one for each place of the kernel, row by row."""
    height, width = padded.shape[-3] - size + 1, padded.shape[-2] - size + 1
    return [
        padded[..., i : i + height : stride, j : j + width : stride, :]
        for i in range(size)
        for j in range(size)
    ]


def _pad(images, size):
    margin = (size // 2, size // 2)
    return jnp.pad(images, ((0, 0), margin, margin, (0, 0)))


def _shifted_sum(images, kernel, stride):
    size = kernel.shape[0]
    taps = _taps(_pad(images, size), size, stride)
    return sum(
        tap * weight for tap, weight in zip(taps, kernel.reshape(size * size, 1, 1, 1, -1), strict=True)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise_cpu(images, kernel, stride):
    return _shifted_sum(images, kernel, stride)


def _forward(images, kernel, stride):
    return _shifted_sum(images, kernel, stride), (images, kernel)


def _backward(stride, saved, gradient):
    images, kernel = saved
    size = kernel.shape[0]
    spread = gradient
    if stride > 1:
        spread = jnp.zeros(images.shape, gradient.dtype).at[:, ::stride, ::stride].set(gradient)
    image_gradient = _shifted_sum(spread, kernel[::-1, ::-1], 1)

    # Without the barrier XLA shares the forward pass's shifted copies, and stores all of them until here.
    images, gradient = lax.optimization_barrier((images, gradient))

    def add_image(sums, pair):
        image, change = (x.astype(jnp.float32) for x in pair)
        return [
            total + tap * change for total, tap in zip(sums, _taps(image, size, stride), strict=True)
        ], None

    start = [jnp.zeros(gradient.shape[1:], jnp.float32)] * size**2
    sums, _ = lax.scan(add_image, start, (_pad(images, size), gradient))
    kernel_gradient = jnp.stack([total.sum((0, 1)) for total in sums])
    return image_gradient, kernel_gradient.reshape(kernel.shape).astype(kernel.dtype)


_depthwise_cpu.defvjp(_forward, _backward)


def _by_shifts(images, kernel, *, stride):
    return _depthwise_cpu(images, kernel, stride)


def halving(images: Float[Array, "b h w c"], kernel: Float[Array, "4 4 c f"]) -> Float[Array, "b h2 w2 f"]:
    """A 4x4 convolution of stride 2 with the zero padding that TensorFlow calls SAME.

    Args:
      images: (b, h, w, c).
      kernel: (4, 4, c, f).

    Returns:
      (b, h / 2, w / 2, f), rounded up.
    """
    return lax.platform_dependent(images, kernel, cpu=_by_blocks, default=_strided)


def _strided(images, kernel):
    return lax.conv_general_dilated(
        images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _by_blocks(images, kernel):
    b, h, w, c = images.shape
    rows, columns = (h + 1) // 2, (w + 1) // 2
    margins = [(0, 0), (1, 2 * rows + 1 - h), (1, 2 * columns + 1 - w), (0, 0)]
    blocks = jnp.pad(images, margins).reshape(b, rows + 1, 2, columns + 1, 2, c)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, rows + 1, columns + 1, 4 * c)
    weights = kernel.reshape(2, 2, 2, 2, c, -1).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * c, -1)
    parts = (blocks[:, i : i + rows, j : j + columns] @ weights[i, j] for i in range(2) for j in range(2))
    return cast(Array, sum(parts))  # sum alone would be of type int, too
