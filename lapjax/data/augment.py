"""Random crops of a whole batch of chips, on the device, inside the jitted step.

Every face has its own random key, folded from the step's key and the face's place in the global batch, so that the
same batch split over devices is augmented alike. Geometry is one similarity per face, chip px to input px; its inverse
takes predicted points back exactly.
"""

import functools
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from lapjax import geometry
from lapjax.config import Augmentation, Model

__all__ = ["Crops", "augment", "crop", "crop_matrices", "no_landmarks", "place", "to_bytes", "unit"]


class Crops(NamedTuple):
    """Network input with its labels."""

    images: Float[Array, "b s s 3"]
    """In [-1, 1]."""
    landmarks: Float[Array, "b k 2"]
    """Input px; zero where not visible."""
    visible: Bool[Array, "b k"]
    """Labelled and inside the crop."""
    chip_to_input: Float[Array, "b 2 3"]
    scale: Float[Array, "b k"] | None = None
    """Of the labels, input px; None where people gave them."""


def crop_matrices(chip_size: int, chip_factor: float, model: Model) -> Float[Array, "2 3"]:
    """Chip px to input px without augmentation: the central crop of `model.crop` landmark boxes."""
    side = chip_size * model.crop / chip_factor
    scale = model.input_size / side
    offset = (model.input_size - 1) / 2 - scale * (chip_size - 1) / 2
    return jnp.array([[scale, 0, offset], [0, scale, offset]], jnp.float32)


def no_landmarks(chips) -> tuple[Float[Array, "b 0 2"], Bool[Array, "b 0"]]:
    """The `landmarks` and `visible` of chips without labels."""
    return jnp.zeros((len(chips), 0, 2)), jnp.zeros((len(chips), 0), bool)


def crop(
    chips: UInt8[Array, "b c c 3"],
    landmarks: Float[Array, "b k 2"],
    visible: Bool[Array, "b k"],
    *,
    model: Model,
    chip_factor: float,
    change: Float[Array, "b 2 3"] | None = None,
) -> Crops:
    """The plain crop that evaluation uses, or with `change` that crop moved: a transform a face, input px to input px."""
    matrix = crop_matrices(chips.shape[1], chip_factor, model)
    matrices = jnp.broadcast_to(matrix, (len(chips), 2, 3))
    if change is not None:
        matrices = geometry.compose(change, matrices)
    images = jax.vmap(functools.partial(_warp, size=model.input_size))(unit(chips), matrices)
    return _labelled(images, landmarks, visible, matrices, model.input_size)


def augment(
    key: Key[Array, ""],
    chips: UInt8[Array, "b c c 3"],
    landmarks: Float[Array, "b k 2"],
    visible: Bool[Array, "b k"],
    *,
    model: Model,
    chip_factor: float,
    config: Augmentation,
    flip: tuple[int, ...] | None,
    places: Int[Array, " b"] | None = None,
    label_scale: Float[Array, "b k"] | None = None,
) -> Crops:
    """A random crop of every face.

    Args:
      key: of the step.
      chips: square face crops with context, side `chip_factor` landmark boxes.
      landmarks: chip px; k may be 0 for unlabelled faces.
      visible: which landmarks are labelled.
      model: gives the input's size and the crop's factor.
      chip_factor: side of the chip in landmark boxes.
      config: how much to change.
      flip: the scheme's mirror permutation; None never mirrors.
      places: of these faces in the global batch; 0 to b - 1 by default.
      label_scale: of the landmarks, chip px, where models gave them.

    Returns:
      Crops, whose `visible` leaves out points that the crop leaves out.
    """
    if not config.enabled:
        crops = crop(chips, landmarks, visible, model=model, chip_factor=chip_factor)
        return _scaled(crops, label_scale)
    places = jnp.arange(len(chips)) if places is None else places
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)
    size = model.input_size
    base = crop_matrices(chips.shape[1], chip_factor, model)

    def one(key, chip):
        warp_key, flip_key, look_key = jax.random.split(key, 3)
        matrix = geometry.compose(_random_similarity(warp_key, size, config), base)
        if config.flip and flip is not None:
            mirrored = geometry.compose(jnp.array([[-1.0, 0, size - 1], [0, 1, 0]]), matrix)
            matrix = jnp.where(jax.random.bernoulli(flip_key), mirrored, matrix)
        # Without the barrier XLA samples the chip again for every use of the image.
        image = jax.lax.optimization_barrier(_warp(unit(chip), matrix, size=size))
        return _look(look_key, image, config), matrix

    images, matrices = jax.vmap(one)(keys, chips)
    crops = Crops(images, landmarks, visible, matrices)
    lean = config.mirror_lean * chips.shape[1] / chip_factor
    return place(crops, landmarks, visible, flip=flip, lean=lean, label_scale=label_scale)


def place(
    crops: Crops,
    landmarks: Float[Array, "b k 2"],
    visible: Bool[Array, "b k"],
    *,
    flip: tuple[int, ...] | None,
    lean: float | Float[Array, ""] = 0.0,
    label_scale: Float[Array, "b k"] | None = None,
) -> Crops:
    """Crops with other labels, as random crops would have had them.

    Args:
      crops: whose images and transforms are kept; those with a negative determinant are mirrored.
      landmarks: chip px.
      visible: which of them are labelled.
      flip: the scheme's mirror permutation; None where nothing is mirrored.
      lean: how far labels sit to the right of what they mark, chip px; see `Augmentation.mirror_lean`.
      label_scale: of the landmarks, chip px, where models gave them.
    """
    matrices = crops.chip_to_input
    if flip is not None and landmarks.shape[1]:
        mirror = (geometry.determinant(matrices) < 0)[:, None]
        order = jnp.array(flip, jnp.int32)
        # A label right of its mark must stay right of it in the mirrored image, not change sides.
        moved = landmarks[:, order] - 2 * lean * jnp.array([[[1.0, 0.0]]])
        landmarks = jnp.where(mirror[..., None], moved, landmarks)
        visible = jnp.where(mirror, visible[:, order], visible)
        if label_scale is not None:
            label_scale = jnp.where(mirror, label_scale[:, order], label_scale)
    labelled = _labelled(crops.images, landmarks, visible, matrices, crops.images.shape[1])
    return _scaled(labelled, label_scale)


def _scaled(crops: Crops, label_scale) -> Crops:
    """With the scales of the labels, from chip to input px."""
    if label_scale is None:
        return crops
    return crops._replace(scale=label_scale * geometry.linear_scale(crops.chip_to_input)[:, None])


def _labelled(images, landmarks, visible, matrices, size) -> Crops:
    points = geometry.apply(matrices, landmarks)
    inside = ((points >= -0.5) & (points <= size - 0.5)).all(-1)
    visible = visible & inside
    return Crops(images, jnp.where(visible[..., None], points, 0.0), visible, matrices)


def unit(images):
    """Bytes (..., H, W, 3) as a network takes them, float32 in [-1, 1]; NumPy or JAX arrays alike."""
    return images.astype(jnp.float32) / 127.5 - 1


def to_bytes(images) -> np.ndarray:
    """The inverse of `unit`, rounded: (..., H, W, 3) uint8 on the host."""
    return np.round((np.asarray(images) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def _random_similarity(key, size, config):
    turn_key, whether_key, scale_key, shift_key = jax.random.split(key, 4)
    limit = jnp.deg2rad(config.rotation)
    angle = jax.random.uniform(turn_key, (), minval=-limit, maxval=limit)
    angle = jnp.where(jax.random.bernoulli(whether_key, config.rotation_probability), angle, 0.0)
    scale = jnp.exp(jax.random.uniform(scale_key, (), minval=-config.scale, maxval=config.scale))
    shift = size * jax.random.uniform(shift_key, (2,), minval=-config.shift, maxval=config.shift)
    centre = jnp.full((2,), (size - 1) / 2)
    return geometry.similarity(angle, scale, shift, centre)


def _warp(image, chip_to_input, *, size):
    """Bilinear sampling of one image under a matrix, edges replicated."""
    height, width, _ = image.shape
    grid = jnp.stack(jnp.meshgrid(jnp.arange(size), jnp.arange(size)), axis=-1).astype(jnp.float32)
    source = geometry.apply(geometry.invert(chip_to_input), grid.reshape(-1, 2))
    x = jnp.clip(source[:, 0], 0, width - 1)
    y = jnp.clip(source[:, 1], 0, height - 1)
    left, top = (jnp.minimum(jnp.floor(v), n - 2) for v, n in ((x, width), (y, height)))
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    corner = top.astype(jnp.int32) * width + left.astype(jnp.int32)
    pixels = image.reshape(-1, image.shape[-1])
    upper = pixels[corner] * (1 - fx) + pixels[corner + 1] * fx
    lower = pixels[corner + width] * (1 - fx) + pixels[corner + width + 1] * fx
    return (upper * (1 - fy) + lower * fy).reshape(size, size, -1)


def _look(key, image, config):
    """Colour, blur and occlusion of one image in [-1, 1]."""
    keys = jax.random.split(key, 6)
    amount = config.colour
    gain = jnp.exp(jax.random.uniform(keys[0], (3,), minval=-amount, maxval=amount) * 0.5)
    contrast, brightness = jax.random.uniform(keys[1], (2,), minval=-amount, maxval=amount)
    grey = jax.random.bernoulli(keys[2], config.grey)
    image = (image + 1) * gain[None, None] - 1
    image = jnp.where(grey, image.mean(-1, keepdims=True), image)
    image = image * jnp.exp(contrast) + brightness
    blurred = _blur(image)
    image = jnp.where(jax.random.bernoulli(keys[3], config.blur), blurred, image)
    return jnp.clip(_occlude(keys[4], image, config.occlusion), -1, 1)


def _blur(image):
    """A 5-tap binomial blur along both axes, edges replicated."""
    taps = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
    for axis in (0, 1):
        size = image.shape[axis]
        margins = [(2, 2) if axis == a else (0, 0) for a in range(3)]
        padded = jnp.pad(image, margins, mode="edge")
        parts = (tap * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i, tap in enumerate(taps))
        image = cast(Array, sum(parts))  # sum alone would be of type int, too
    return image


def _occlude(key, image, probability):
    """One box of a flat colour, half of the time noisy, over a tenth to a half of each side."""
    size = image.shape[0]
    whether, where, extent, colour, noisy, noise = jax.random.split(key, 6)
    centre = jax.random.uniform(where, (2,)) * size
    half = jax.random.uniform(extent, (2,), minval=0.05, maxval=0.25) * size
    places = jnp.arange(size, dtype=jnp.float32)
    columns, rows = jnp.abs(places - centre[0]) < half[0], jnp.abs(places - centre[1]) < half[1]
    inside = (rows[:, None] & columns[None, :])[..., None] & jax.random.bernoulli(whether, probability)
    # Coarse noise: a random number for every pixel would cost as much as all the rest.
    cells = -(-size // 8)
    grain = jax.random.uniform(noise, (cells, cells, 3), minval=-1) * jax.random.bernoulli(noisy)
    grain = grain.repeat(8, axis=0).repeat(8, axis=1)[:size, :size]
    cover = jax.random.uniform(colour, (3,), minval=-1, maxval=1)[None, None] + grain
    return jnp.where(inside, cover, image)
