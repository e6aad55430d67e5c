"""What lies over the forehead: fringes, locks, hats and the edge of a scarf."""

import numpy as np

from lapjax.datasets.toy_faces.body import SKULL, SKULL_AXES
from lapjax.datasets.toy_faces.brush import Brush, curve, hue, loop, tone
from lapjax.datasets.toy_faces.face import Look
from lapjax.datasets.toy_faces.head import Head

# From the left temple over the forehead to the right one, and how far the two fringes hang below it.
_HAIRLINE = np.array(
    [
        (-1.01, -0.30, 0.02),
        (-0.90, -0.60, 0.30),
        (-0.50, -0.86, 0.66),
        (0.00, -0.93, 0.80),
        (0.50, -0.86, 0.66),
        (0.90, -0.60, 0.30),
        (1.01, -0.30, 0.02),
    ]
)
_SWEPT = np.array([0.0, 0.22, 0.22, 0.12, -0.02, -0.06, 0.0])
_STRAIGHT = np.array([0.0, 0.12, 0.26, 0.30, 0.26, 0.12, 0.0])

# A hat's lower edge, its height added, and how far a cap's bill stands out.
_BAND = np.array(
    [
        (-1.06, 0.14, 0.0),
        (-0.80, 0.02, 0.5),
        (-0.40, 0.00, 0.82),
        (0.00, 0.00, 0.93),
        (0.40, 0.00, 0.82),
        (0.80, 0.02, 0.5),
        (1.06, 0.14, 0.0),
    ]
)
_BILL = np.array([(0, 0.02, 0.1), (0, 0.05, 0.5), (0, 0.06, 0.62), (0, 0.05, 0.5), (0, 0.02, 0.1)])


def paint_hair(body: Brush, pen: Brush, head: Head, look: Look, style: str, rng) -> None:
    """Paints over the forehead what goes with the `style`, one of `body.STYLES`."""
    if style == "bald":
        return
    if style in ("beanie", "cap"):
        _hat(body, pen, head, style, rng)
        return
    edge = _HAIRLINE * (head.width, 1, 1)
    if style == "scarf":
        _dome(body, head, curve(head.place(edge), 5), 1.05, tone(look.cloth, 1.2))
        return
    kind = "none" if style == "crop" else ("none", "swept", "swept", "straight", "spiky")[rng.integers(5)]
    drop = np.zeros(7)
    if kind == "swept":
        drop = _SWEPT[:: rng.choice([-1, 1])] * rng.uniform(0.4, 1.5)
    elif kind == "straight":
        drop = _STRAIGHT * rng.uniform(0.6, 1.5)
    edge = edge + drop[:, None] * (0, 1, 0.4)
    fringe = curve(head.place(edge), 5)
    if kind == "spiky":
        down = head.place((0, 0.16, 0.8)) - head.place((0, 0, 0.8))
        fringe[1::2] += down * rng.uniform(0.4, 1.2, (len(fringe[1::2]), 1))
    _dome(body, head, fringe, 1.05, look.hair)
    _strands(pen, head, edge, look.hair, rng)
    if style == "long" and rng.uniform() < 0.8:
        _locks(body, head, look, rng)


def _dome(body, head, rim, volume, colour):
    """Fills what lies between a curve across the forehead and the top of the skull."""
    crown = head.silhouette(SKULL, SKULL_AXES * volume, 36)
    up = head.place((0, -2, 0)) - head.place((0, 0, 0))
    right = np.array([-up[1], up[0]])
    over = crown[(crown - (rim[0] + rim[-1]) / 2) @ up > 0]
    body.fill(np.concatenate([rim, over[np.argsort(over @ -right)]]), colour)


def _strands(pen, head, edge, colour, rng):
    """Strands combed from the crown of the head to the hairline and to the nape."""
    axes = SKULL_AXES * 1.06
    at = rng.uniform(0, 6, 20)
    low = at.astype(int)
    front = (edge[low] + (edge[low + 1] - edge[low]) * (at - low)[:, None] - SKULL) / axes
    angle = rng.uniform(-0.35, np.pi + 0.35, 24)
    back = np.stack([np.cos(angle), rng.uniform(0.1, 0.5, 24), -np.sin(angle)], 1)
    ends = np.concatenate([front, back])
    whorl = np.array([rng.uniform(-0.35, 0.35), -1.0, -0.35])
    t = np.linspace(0.08, 0.97, 7)[:, None]
    path = whorl * (1 - t) + ends[:, None] * t
    path += rng.normal(0, 0.03, (len(ends), 1, 3)) * np.sin(np.pi * t)
    path /= np.linalg.norm(path, axis=2, keepdims=True)
    seen = (path / axes) @ head.rotation[2] > 0.02
    tones = rng.choice([0.72, 0.84, 1.18, 1.35], len(ends))
    for strand, visible, factor in zip(head.place(SKULL + path * axes), seen, tones, strict=True):
        if visible.sum() > 2:
            pen.line(strand[visible], 0.03 * head.unit, (*tone(colour, factor), 120))


def _locks(body, head, look, rng):
    """Hair that falls in front of the ears, on the sides that face the viewer."""
    for sign in (-1, 1):
        if rng.uniform() > 0.85 or head.facing((sign, 0, 0.45)) < 0:
            continue
        depth, inner = rng.uniform(0.7, 1.8), rng.uniform(0.95, 1.05)
        lock = [(0.80, -0.75, 0.36), (1.02, -0.2, 0.02), (inner, 0.5, 0.0), (1.02, 0.5 + depth * 0.5, 0.0)]
        lock += [(1.16, 0.5 + depth, -0.1), (1.30, 0.6, -0.2), (1.22, -0.3, -0.2)]
        body.fill(loop(head.place(lock * np.array([sign * head.width, 1, 1]))), tone(look.hair, 0.92))


def _hat(body, pen, head, style, rng):
    u, colour = head.unit, hue(rng)
    low = rng.uniform(-0.72, -0.55)
    band = (_BAND + (0, low, 0)) * (head.width, 1, 1)
    rim = head.place(band)
    _dome(body, head, curve(rim, 5), 1.12, colour)
    if style == "cap":
        bill = head.place(band[1:6] * (0.95, 1, 1) + _BILL)
        body.fill(np.concatenate([curve(rim[1:6], 5), curve(bill, 5)[::-1]]), tone(colour, 0.65))
        return
    cuff = curve(head.place(band + (0, -0.24, 0.03)), 5)
    body.fill(np.concatenate([curve(rim, 5), cuff[::-1]]), tone(colour, 0.8))
    for x in np.linspace(-0.9, 0.9, 9):
        rib = [(x * head.width, low + dy + 0.08 * x * x, 0.93 - 0.8 * x * x) for dy in (-0.24, 0)]
        pen.line(head.place(rib), 0.02 * u, (*tone(colour, 0.6), 120))
