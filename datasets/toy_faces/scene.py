"""From an index to a chip: background, one lit and painted head, and what a camera does to it."""

import io

import numpy as np
from PIL import Image, ImageFilter

from lapjax import geometry
from lapjax.datasets.toy_faces import face, props
from lapjax.datasets.toy_faces.body import STYLES, paint_body
from lapjax.datasets.toy_faces.brush import Brush, hue, tone
from lapjax.datasets.toy_faces.hair import paint_hair
from lapjax.datasets.toy_faces.head import Head, sample
from lapjax.errors import LapjaxError

OVERSAMPLE = 2


def draw(
    index: int, *, seed: int = 0, size: int = 160, factor: float = 1.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draws one face; the same (seed, index) gives the same picture.

    Args:
      index: which face, from 0.
      seed: another seed, other faces.
      size: side of the chip in px.
      factor: side of the chip over the longer side of the tight box of the landmarks.

    Returns:
      chip: (size, size, 3) uint8.
      landmarks: (68, 2) float32, chip px, scheme 300w.
      visible: (68,) bool, all true, also behind glasses, hands and hair.
      box: (4,) float32, chip px: min x, min y, max x, max y of the landmarks.

    Raises:
      LapjaxError: an index or seed below 0, a chip under 32 px or a factor outside 1.2 to 4.
    """
    if index < 0 or seed < 0:
        raise LapjaxError(f"toy face {index} of seed {seed}: index and seed must not be negative")
    if size < 32 or not 1.2 <= factor <= 4:
        raise LapjaxError(f"toy face of {size} px at factor {factor}: needs size >= 32 and factor 1.2 to 4")
    rng = np.random.default_rng((seed, index))
    head = sample(rng, size=size, factor=factor)
    light = _light(rng)
    style = STYLES[rng.integers(len(STYLES))]
    look = face.sample_look(rng, hue(rng))

    side = size * OVERSAMPLE
    canvas = _background(rng, size, look).resize((side, side), Image.Resampling.NEAREST)
    mask = Image.new("L", canvas.size)
    body, pen = Brush(canvas, OVERSAMPLE, mask), Brush(canvas, OVERSAMPLE)
    paint_body(body, head, look, style, rng)
    face.paint_skin(body, pen, head, look, rng)
    if style != "scarf" and rng.uniform() < 0.27:
        props.paint_beard(pen, head, look, rng)
    face.paint_mouth(pen, head, look, rng)
    face.paint_eyes(pen, head, look, rng)
    face.paint_nose(pen, head, look, light)
    face.paint_brows(pen, head, look, rng)
    paint_hair(body, pen, head, look, style, rng)
    if rng.uniform() < 0.2:
        props.paint_glasses(pen, head, rng)
    if rng.uniform() < 0.15:
        props.paint_occluder(body, head, look, rng)

    # Planar from here on: NumPy broadcasts along a last axis of 3 thirty times slower.
    picture = np.ascontiguousarray(np.asarray(canvas.reduce(OVERSAMPLE)).transpose(2, 0, 1), np.float32)
    lit = np.asarray(mask.reduce(OVERSAMPLE), np.float32) * np.float32(1 / 255)
    # Shadows on skin turn red before they turn black.
    picture *= (
        1 + lit * (_shading(head, light, size) - 1) * np.array([0.88, 1.0, 1.06], np.float32)[:, None, None]
    )
    chip = _camera(picture, rng, size)
    landmarks = head.landmarks.astype(np.float32)
    return chip, landmarks, np.ones(68, bool), geometry.box_of(landmarks).astype(np.float32)


def _light(rng) -> np.ndarray:
    """A unit vector towards the light, in camera axes: mostly from above and in front."""
    light = np.array([rng.uniform(-1, 1), rng.uniform(-0.9, 0.25), rng.uniform(0.5, 1.0)])
    return light / np.linalg.norm(light)


def _background(rng, size, look) -> Image.Image:
    """Gradients, shapes and skin-coloured blobs, more or less out of focus."""
    half = size // 2
    angle, steps = rng.uniform(0, 2 * np.pi), np.arange(half)
    ramp = np.cos(angle) * steps + np.sin(angle) * steps[:, None]
    ramp = ((ramp - ramp.min()) / np.ptp(ramp))[..., None].astype(np.float32)
    first, second = hue(rng, (0.05, 0.55), (0.4, 1.0)), hue(rng, (0.05, 0.55), (0.4, 1.0))
    image = Image.fromarray((np.asarray(first) * (1 - ramp) + np.asarray(second) * ramp).astype(np.uint8))
    pen = Brush(image, 0.5)
    for _ in range(rng.integers(0, 16)):
        centre, extent = rng.uniform(0, size, 2), rng.uniform(0.04, 0.35, 2) * size
        colour = hue(rng, (0.0, 0.7), (0.1, 1.0))
        if rng.uniform() < 0.25:
            colour = tone(look.skin, rng.uniform(0.6, 1.1))
        kind = rng.integers(5)
        if kind == 0:
            pen.disc(centre, extent[0], (*colour, 200))
        elif kind == 1:
            pen.fill(centre + np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * extent, colour)
        elif kind == 2:
            pen.fill(centre + rng.normal(0, 1, (rng.integers(3, 7), 2)) * extent, (*colour, 210))
        elif kind == 3:
            pen.line(rng.uniform(-0.1 * size, 1.1 * size, (2, 2)), 0.2 * extent[0], colour)
        else:
            # A face that is none: an oval with two dark spots.
            pen.disc(centre, extent[0] * 0.6, tone(look.skin, rng.uniform(0.7, 1.1)))
            for sign in (-1, 1):
                pen.disc(centre + (sign * 0.2 * extent[0], -0.1 * extent[0]), 0.08 * extent[0], (30, 24, 24))
    focus = rng.uniform(0, 0.03) * half
    if focus > 0.3:
        image = image.filter(ImageFilter.GaussianBlur(focus))
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _shading(head: Head, light, size: int) -> np.ndarray:
    """(size, size) factors: Lambert's law on an ellipsoid for the head, times the soft relief of the face."""
    half = size // 2
    relief = Image.new("L", (half, half), 128)
    face.soft_light(Brush(relief, 0.5), head, light)
    relief = relief.filter(ImageFilter.GaussianBlur(0.027 * head.unit))

    axes = np.array([1.05 * head.width, 1.45, 1.15])
    form = ((head.rotation / axes**2) @ head.rotation.T).astype(np.float32)
    grid = np.arange(half, dtype=np.float32) * 2 + 0.5
    x, y = ((grid - np.float32(c)) / np.float32(head.unit) for c in head.place((0, 0.2, -0.2)))
    x, y = x[None, :], y[:, None]
    a, b = form[2, 2], form[2, 0] * x + form[2, 1] * y
    c = form[0, 0] * x * x + 2 * form[0, 1] * x * y + form[1, 1] * y * y - 1
    # Beside the ellipsoid the root is clipped, which carries on the brightness of its rim.
    z = (np.sqrt(np.maximum(b * b - a * c, 0)) - b) / a
    normal = [form[i, 0] * x + form[i, 1] * y + form[i, 2] * z for i in range(3)]
    length = np.sqrt(sum(n * n for n in normal))
    toward = sum(n * component for n, component in zip(normal, light.astype(np.float32), strict=True))
    lambert = np.maximum(toward / length, 0)
    shade = (0.66 + 0.52 * lambert) * (np.asarray(relief, np.float32) / 128)
    return np.asarray(Image.fromarray(shade).resize((size, size), Image.Resampling.BILINEAR))


def _camera(picture, rng, size: int) -> np.ndarray:
    """Exposure, colour cast, a gradient of light, grain, blur and JPEG: (3, S, S) to (S, S, 3) uint8."""
    across = np.arange(size, dtype=np.float32) / size - 0.5
    slope = rng.normal(0, 0.22, 2).astype(np.float32)
    contrast = rng.uniform(0.75, 1.2) if rng.uniform() < 0.5 else 1.0
    gain = rng.uniform(0.8, 1.1) * rng.normal(1, 0.04, 3) * contrast
    picture *= (1 + slope[0] * across + slope[1] * across[:, None]) * gain.astype(np.float32)[:, None, None]
    if rng.uniform() < 0.06:
        picture[:] = 0.3 * picture[0] + 0.59 * picture[1] + 0.11 * picture[2]
    # One field of grain at three strengths: a normal deviate a channel would cost as much as the face.
    grain = rng.standard_normal((size, size), np.float32) * np.float32(min(rng.exponential(2.0), 8))
    picture += grain * rng.uniform(0.7, 1.3, 3).astype(np.float32)[:, None, None]
    picture += np.float32(120 * (1 - contrast))
    for softness in rng.uniform(-0.3, 0.33, 2).astype(np.float32):
        if softness > 0:
            for rows in (picture, picture.transpose(0, 2, 1)):
                rows[:, 1:-1] += softness * (rows[:, 2:] + rows[:, :-2] - 2 * rows[:, 1:-1])
    np.clip(picture, 0, 255, out=picture)
    image = Image.fromarray(np.ascontiguousarray(picture.astype(np.uint8).transpose(1, 2, 0)))
    quality = int(rng.integers(30, 130))
    if quality <= 95:
        image.save(buffer := io.BytesIO(), "JPEG", quality=quality)
        image = Image.open(buffer)
    return np.array(image)
