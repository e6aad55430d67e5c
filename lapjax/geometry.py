"""Transforms between image, chip and network input, on NumPy and JAX arrays alike.

A transform is a (..., 2, 3) matrix M with x_dst = M @ [x_src, y_src, 1]. Points are (x, y) in pixels whose
centres are at integers, so the left edge of an image is at x = -0.5.
"""

import math

import numpy as np
from PIL import Image

from lapjax.errors import LapjaxError

# A crop this many times wider than its image is nothing but repeated edges.
_MAX_OVERHANG = 16.0


def box_size(box):
    """sqrt(w * h) of boxes (..., 4), min x, min y, max x, max y: (...,), 0 for those without extent."""
    xp, (box,) = _floats(box)
    return xp.sqrt(xp.maximum(box[..., 2:] - box[..., :2], 0).prod(axis=-1))


def box_of(landmarks, visible=None):
    """The tight box of the visible landmarks' centres.

    Args:
      landmarks: (..., K, 2) pixels.
      visible: (..., K) bool, or None where all are.

    Returns:
      (..., 4): min x, min y, max x, max y.

    Raises:
      LapjaxError: no landmark is visible (NumPy arrays only; under JAX that box is infinite).
    """
    xp, (landmarks,) = _floats(landmarks)
    if visible is None:
        visible = np.ones(landmarks.shape[:-1], bool)
    if xp is np and not np.all(np.any(visible, axis=-1)):
        raise LapjaxError("box of the landmarks: none is visible; leave such images out or give their boxes")
    shown = xp.asarray(visible)[..., None]
    low = xp.min(xp.where(shown, landmarks, xp.inf), axis=-2)
    high = xp.max(xp.where(shown, landmarks, -xp.inf), axis=-2)
    return xp.concatenate([low, high], axis=-1)


def crop_matrix(box, *, factor, size):
    """The transform from an image to its square crop, side factor * max(w, h) at the box centre.

    Args:
      box: (..., 4) min x, min y, max x, max y of landmark centres, in image px.
      factor: the side of the square over the longer side of the box.
      size: the crop's side in its own pixels.

    Returns:
      (..., 2, 3); the box centre goes to ((size - 1) / 2, (size - 1) / 2).

    Raises:
      LapjaxError: a box that is not finite or has no extent (NumPy arrays only).
    """
    xp, (box,) = _floats(box)
    centre = (box[..., :2] + box[..., 2:]) / 2
    longest = xp.max(box[..., 2:] - box[..., :2], axis=-1)
    if xp is np and not (np.all(np.isfinite(box)) and np.all(longest > 0)):
        raise LapjaxError(
            f"box {box.tolist()}: needs finite min x, min y, max x, max y with an extent above 0; correct it"
        )
    scale = size / (factor * longest)
    # ((x + 0.5) - (cx + 0.5 - side / 2)) * scale - 0.5, gathered.
    shift = (size - 1) / 2 - scale[..., None] * centre
    zero = xp.zeros_like(scale)
    return _matrix(xp, scale, zero, shift[..., 0], zero, scale, shift[..., 1])


def apply(matrix, points):
    """Moves points: matrix (..., 2, 3) and points (..., K, 2) give (..., K, 2); leading axes broadcast."""
    xp, (matrix, points) = _floats(matrix, points)
    matrix, points = _same_rank(matrix, points)
    # Written out: a matrix product may run in TF32 or bfloat16, wrong by a tenth of a pixel at x = 200.
    x, y = points[..., 0], points[..., 1]
    rows = [
        matrix[..., i, 0, None] * x + matrix[..., i, 1, None] * y + matrix[..., i, 2, None] for i in (0, 1)
    ]
    return xp.stack(rows, axis=-1)


def invert(matrix):
    """The inverse transform, (..., 2, 3).

    Raises:
      LapjaxError: a matrix that is not finite or cannot be inverted (NumPy arrays only).
    """
    xp, (matrix,) = _floats(matrix)
    (a, b, tx), (c, d, ty) = ([matrix[..., i, j] for j in range(3)] for i in (0, 1))
    det = determinant(matrix)
    if xp is np and not (np.all(np.isfinite(matrix)) and np.all(det != 0)):
        raise LapjaxError(
            f"transform {matrix.tolist()}: cannot be inverted; its scale must be finite and not 0"
        )
    return _matrix(xp, d / det, -b / det, (b * ty - d * tx) / det, -c / det, a / det, (c * tx - a * ty) / det)


def compose(outer, inner):
    """The transform that applies `inner`, then `outer`; both (..., 2, 3), leading axes broadcast."""
    xp, (outer, inner) = _floats(outer, inner)
    outer, inner = _same_rank(outer, inner)
    columns = [
        [outer[..., i, 0] * inner[..., 0, j] + outer[..., i, 1] * inner[..., 1, j] for j in range(3)]
        for i in (0, 1)
    ]
    (a, b, tx), (c, d, ty) = columns
    return _matrix(xp, a, b, tx + outer[..., 0, 2], c, d, ty + outer[..., 1, 2])


def similarity(angle_rad, scale, shift, centre):
    """Rotates by an angle and scales about `centre`, then shifts.

    Args:
      angle_rad: (...,) radians; positive turns x towards y, clockwise on a screen.
      scale: (...,).
      shift: (..., 2) pixels.
      centre: (..., 2) pixels, the point that rotation and scale leave in place.

    Returns:
      (..., 2, 3).
    """
    xp, (angle, scale, shift, centre) = _floats(angle_rad, scale, shift, centre)
    rank = max(angle.ndim, scale.ndim, shift.ndim - 1, centre.ndim - 1)
    angle, scale = (_lead(value, rank) for value in (angle, scale))
    shift, centre = (_lead(value, rank + 1) for value in (shift, centre))
    cos, sin = scale * xp.cos(angle), scale * xp.sin(angle)
    x, y = centre[..., 0], centre[..., 1]
    tx = x + shift[..., 0] - cos * x + sin * y
    ty = y + shift[..., 1] - sin * x - cos * y
    return _matrix(xp, cos, -sin, tx, sin, cos, ty)


def determinant(matrix):
    """How much a transform (..., 2, 3) enlarges areas, negative where it mirrors: (...,)."""
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]


def linear_scale(matrix):
    """How much a transform (..., 2, 3) enlarges lengths, sqrt|det|: (...,)."""
    xp, (matrix,) = _floats(matrix)
    return xp.sqrt(xp.abs(determinant(matrix)))


def crop_image(image, box, *, factor, size):
    """Cuts the square of `crop_matrix` out of an image: bilinear, antialiased, edges repeated outside.

    Args:
      image: (H, W, 3) uint8.
      box: (4,) min x, min y, max x, max y, in image px.
      factor: the side of the square over the longer side of the box.
      size: the chip's side in px.

    Returns:
      The chip (size, size, 3) uint8 and image_to_chip (2, 3) float64.

    Raises:
      LapjaxError: not a uint8 RGB image, a bad box, or a box that has nothing to do with the image.
    """
    if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise LapjaxError("image: needs a (H, W, 3) uint8 array; read it with lapjax.images.read_image")
    box = np.asarray(box, np.float64)
    if box.shape != (4,) or not factor > 0 or not size > 0:
        raise LapjaxError(
            f"crop: needs a box of 4 numbers, factor > 0 and size > 0, got {box.tolist()}, {factor}, {size}"
        )
    matrix = crop_matrix(box, factor=factor, size=size)
    height, width = image.shape[:2]
    side = factor * float(max(box[2] - box[0], box[3] - box[1]))
    left, top = (box[:2] + box[2:]) / 2 + 0.5 - side / 2
    apart = left >= width or top >= height or left + side <= 0 or top + side <= 0
    if apart or side > _MAX_OVERHANG * max(height, width):
        raise LapjaxError(
            f"box {box.tolist()} does not belong to an image of {width} x {height} px: the crop, {side:.0f} "
            "px wide, holds next to nothing of it; check its points: x before y, in pixels of this image"
        )
    # The filter reaches one output pixel beyond the square; Pillow would drop what it does not find there.
    margin = math.ceil(max(1.0, side / size)) + 1
    x0, y0 = math.floor(left) - margin, math.floor(top) - margin
    x1, y1 = math.ceil(left + side) + margin, math.ceil(top + side) + margin
    region = image[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    beyond = (max(-y0, 0), max(y1 - height, 0)), (max(-x0, 0), max(x1 - width, 0)), (0, 0)
    if any(map(any, beyond)):
        region = np.pad(region, beyond, mode="edge")
    region = Image.fromarray(np.ascontiguousarray(region))
    square = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    chip = region.resize((size, size), Image.Resampling.BILINEAR, box=square)
    return np.asarray(chip), matrix


def _floats(*values):
    """The array namespace of the values (JAX's if any is JAX's) and the values as its floating arrays."""
    xp = np
    for value in values:
        namespace = getattr(value, "__array_namespace__", None)
        if namespace is not None and not isinstance(value, np.ndarray | np.generic):
            xp = namespace()
    arrays = [xp.asarray(value) for value in values]
    return xp, [x if xp.issubdtype(x.dtype, np.floating) else x.astype(float) for x in arrays]


def _lead(x, rank):
    # Explicit, because JAX may be told to refuse implicit rank promotion.
    return x[(None,) * (rank - x.ndim)]


def _same_rank(a, b):
    rank = max(a.ndim, b.ndim)
    return _lead(a, rank), _lead(b, rank)


def _matrix(xp, a, b, tx, c, d, ty):
    a, b, tx, c, d, ty = xp.broadcast_arrays(a, b, tx, c, d, ty)
    return xp.stack([xp.stack([a, b, tx], axis=-1), xp.stack([c, d, ty], axis=-1)], axis=-2)
