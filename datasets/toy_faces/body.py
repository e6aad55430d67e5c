"""What is behind the face: long hair, neck, clothes, skull and ears."""

import numpy as np

from lapjax.datasets.toy_faces.brush import Brush, curve, hue, loop, tone
from lapjax.datasets.toy_faces.face import Look
from lapjax.datasets.toy_faces.head import Head

STYLES = ("bald", "short", "short", "crop", "long", "long", "curly", "bun", "beanie", "scarf", "cap")

# The skull is an ellipsoid: centre and half-axes in head units.
SKULL = (0.0, -0.22, -0.33)
SKULL_AXES = np.array([1.03, 1.22, 1.16])

_SHOULDERS = np.array([(1.0, 1.0), (0.75, 0.35)])


def paint_body(body: Brush, head: Head, look: Look, style: str, rng) -> None:
    """Paints everything behind the face, from back to front; `style` is one of `STYLES`."""
    u, skin = head.unit, look.skin
    nape = head.place((0, 0.95, -0.45))
    # The neck follows half of the head's roll.
    lean = np.array([-0.5 * np.sin(head.angles[2]), 1.0])
    base = nape + lean * rng.uniform(0.95, 1.25) * u
    if style == "long":
        _long_hair(body, head, look, base, rng)
    neck = np.array([0.56 * head.width * u * rng.uniform(0.9, 1.15), 0])
    column = [nape - neck, nape + neck, base + 1.1 * neck, base + 1.15 * neck + (0, 2 * u)]
    column += [base - 1.15 * neck + (0, 2 * u), base - 1.1 * neck]
    body.fill(column, tone(skin, 0.74))
    _clothes(body, base, neck[0], u, look, rng)
    # The chin's shadow on the neck.
    jaw, chin = head.landmarks[1:16], head.landmarks[8]
    edge = jaw * 0.97 + chin * 0.03, jaw[::-1] * 0.9 + chin * 0.1 + lean * 0.2 * u
    body.fill(np.concatenate(edge), tone(skin, 0.6))
    if style == "scarf":
        _scarf(body, head, look, nape, base)
        return
    _skull(body, head, look, style, rng)
    if style != "long" or rng.uniform() < 0.3:
        _ears(body, head, look, rng)


def _long_hair(body, head, look, base, rng):
    spread, fall = rng.uniform(1.12, 1.35) * head.unit, rng.uniform(-0.1, 1.4) * head.unit
    crown = head.silhouette(SKULL, SKULL_AXES * 1.1)
    upper = crown[crown[:, 1] < crown[:, 1].mean() + 0.3 * np.ptp(crown[:, 1])]
    left = upper[:, 0] < crown[:, 0].mean()
    # From the right temple down, along the shoulders, and up again.
    right_side, left_side = upper[~left], upper[left]
    right_side = right_side[np.argsort(right_side[:, 1])]
    left_side = left_side[np.argsort(-left_side[:, 1])]
    outline = np.concatenate([right_side, base + [(spread, fall), (-spread, fall)], left_side])
    body.fill(loop(outline, 3), tone(look.hair, 0.72))


def _clothes(body, base, neck, u, look, rng):
    drop, wide = rng.uniform(-0.25, 0.1) * u, rng.uniform(1.9, 2.5)
    top = base + (0, drop)
    collar = [top - (neck * 1.05, 0), top + (0, 0.32 * u), top + (neck * 1.05, 0)]
    left, right = (top + _SHOULDERS * (sign * wide * u, u) for sign in (-1, 1))
    hem = [top + (wide * u, 4 * u), top + (-wide * u, 4 * u)]
    body.fill(loop(np.concatenate([left, collar, right[::-1], hem]), 4), look.cloth)
    if rng.uniform() < 0.5:
        body.stroke(curve(collar), 0.13 * u, tone(look.cloth, rng.uniform(0.6, 1.3)), (1, 1))
        return
    for sign in (-1, 1):
        flap = top + [(0, 0.3 * u), (sign * neck * 1.1, -0.12 * u), (sign * neck * 1.25, 0.4 * u)]
        body.fill(flap, tone(look.cloth, 1.25))


def _scarf(body, head, look, nape, base):
    """A scarf around head and neck; `paint_hair` lays its edge over the forehead."""
    u, cloth = head.unit, tone(look.cloth, 1.2)
    outline = head.silhouette(SKULL, SKULL_AXES * 1.12, 36)
    left, right = outline[outline[:, 0].argmin()], outline[outline[:, 0].argmax()]
    hem = np.array([(1.15, 0.5), (0.75, 0.9), (-0.75, 0.9), (-1.15, 0.5)]) * u
    drape = np.concatenate([[left, (left + right) / 2 - (0, 0.4 * u), right], nape * 0.3 + base * 0.7 + hem])
    body.fill(outline, cloth)
    body.fill(loop(drape, 4), cloth)
    for start, sign in ((left, -1), (right, 1)):
        fold = [start, nape + (sign * 0.5 * u, 0.6 * u), base + (-sign * 0.2 * u, 0.5 * u)]
        body.stroke(curve(fold), 0.06 * u, tone(cloth, 0.75), (0.1, 1, 0.5))


def _skull(body, head, look, style, rng):
    if style == "bald":
        body.fill(head.silhouette(SKULL, SKULL_AXES), tone(look.skin, 0.9))
        return
    volume = 1.03 if style == "crop" else rng.uniform(1.06, 1.16)
    if style == "curly":
        volume = rng.uniform(1.15, 1.4)
        for centre in head.silhouette(SKULL, SKULL_AXES * volume, 26):
            body.disc(centre, rng.uniform(0.14, 0.26) * head.unit, look.hair)
    if style == "bun":
        knot = (0, rng.uniform(-1.6, -1.3), rng.uniform(-0.7, -0.2))
        body.fill(head.silhouette(knot, (0.42, 0.4, 0.42), 20), tone(look.hair, 0.9))
    body.fill(head.silhouette(SKULL, SKULL_AXES * volume, 36), look.hair)


def _ears(body, head, look, rng):
    ringed = rng.uniform() < 0.15
    metal = hue(rng, (0.1, 0.6), (0.7, 1.0))
    for sign in (-1, 1):
        x = sign * head.width
        body.fill(head.silhouette((1.03 * x, 0.16, -0.24), (0.09, 0.27, 0.17), 20), tone(look.skin, 0.9))
        body.fill(head.silhouette((1.07 * x, 0.13, -0.23), (0.04, 0.17, 0.10), 16), tone(look.skin, 0.7))
        if ringed:
            body.disc(head.place((1.07 * x, 0.46, -0.2)), 0.055 * head.unit, metal)
