"""What covers a face: beards, glasses, and things held in front of it; the landmarks under them stay."""

import numpy as np

from lapjax.datasets.toy_faces.brush import Brush, curve, hue, loop, mix, tone
from lapjax.datasets.toy_faces.face import Look
from lapjax.datasets.toy_faces.head import Head


def paint_beard(pen: Brush, head: Head, look: Look, rng) -> None:
    """Stubble, a moustache, a goatee or a full beard; the mouth is painted over it."""
    p, u = head.landmarks, head.unit
    kind = ("stubble", "moustache", "goatee", "full", "full")[rng.integers(5)]
    colour = tone(look.brow, 0.95)
    between = p[33] * 0.55 + p[50:53].mean(0) * 0.45
    if kind in ("stubble", "full"):
        first = rng.integers(1, 3)
        jaw, drop = p[first : 17 - first], np.array([0, 0.02 * u])
        right = [p[13] * 0.8 + p[54] * 0.2, p[54] * 0.72 + p[12] * 0.28 - drop, p[54] * 0.9 + p[35] * 0.1]
        left = [p[48] * 0.9 + p[31] * 0.1, p[48] * 0.72 + p[4] * 0.28 - drop, p[3] * 0.8 + p[48] * 0.2]
        if kind == "full":
            grown = rng.uniform(0.0, 0.12) * np.sin(np.linspace(0, np.pi, len(jaw)))
            jaw = jaw + (jaw - p[30]) * grown[:, None]
        edge = np.concatenate([jaw, right, [between], left])
        pen.fill(loop(edge, 4), (*colour, 235 if kind == "full" else 70))
    if kind == "goatee":
        chin, half = p[8] * 0.93 + p[57] * 0.07, np.array([0.16 * u, 0])
        left = [p[48] * 0.85 + p[5] * 0.15, p[6] * 0.45 + p[59] * 0.55, chin - half]
        right = [chin + half, p[10] * 0.45 + p[55] * 0.55, p[54] * 0.85 + p[11] * 0.15]
        pen.fill(loop([*left, *right, p[57] * 0.9 + p[8] * 0.1]), (*colour, 220))
    if kind != "stubble":
        droop = 0.9 if kind == "full" else rng.uniform(0.55, 0.85)
        left, right = p[48] * droop + p[31] * (1 - droop), p[54] * droop + p[35] * (1 - droop)
        rise = np.array([0, 0.05 * u])
        path = [left, (left + between) / 2 - rise, between, (right + between) / 2 - rise, right]
        pen.stroke(curve(path), 0.17 * u, (*colour, 230), (0.2, 1, 0.75, 1, 0.2))


def paint_glasses(pen: Brush, head: Head, rng) -> None:
    """Round or square glasses, one pair in four dark."""
    frame, width = hue(rng, (0.1, 0.8), (0.05, 0.6)), rng.uniform(0.03, 0.06) * head.unit
    half = np.array([rng.uniform(0.27, 0.33), rng.uniform(0.20, 0.29), 0])
    power = rng.choice([1.0, 0.55])  # a circle or a rounded square
    dark = (*hue(rng, (0.0, 0.5), (0.05, 0.25)), rng.uniform(190, 250))
    lens = dark if rng.uniform() < 0.25 else (225, 235, 245, 36)
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    shape = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
    shape = np.sign(shape) * np.abs(shape) ** power * half
    glint = np.array([(-0.44, -0.4, 0), (-0.12, -0.6, 0), (-0.36, 0.4, 0), (-0.6, 0.32, 0)]) * half
    rims = []
    for sign, eye in ((-1, slice(36, 42)), (1, slice(42, 48))):
        centre = np.array([head.solid[eye, 0].mean() + sign * 0.01, 0.03, 0.86])
        rim = centre + shape
        rim[:, 2] -= 0.35 * np.maximum(0, np.abs(rim[:, 0]) - 0.45)
        flat = head.place(rim)
        pen.fill(flat, lens)
        pen.fill(head.place(centre + glint), (255, 255, 255, 50))
        pen.line(np.concatenate([flat, flat[:2]]), width, frame)
        if head.facing((sign, 0, 0.25)) > 0:
            hinge = rim[np.argmax(sign * rim[:, 0])] - (0, 0.04, 0)
            pen.line(head.place([hinge, (sign * 1.04 * head.width, 0, -0.1)]), width, tone(frame, 0.8))
        rims.append(rim)
    inner = rims[0][rims[0][:, 0].argmax()], rims[1][rims[1][:, 0].argmin()]
    bridge = [inner[0], (inner[0] + inner[1]) / 2 + (0, -0.05, 0.08), inner[1]]
    pen.line(curve(head.place(bridge)), width, frame)


def paint_occluder(body: Brush, head: Head, look: Look, rng) -> None:
    """A hand, a book, a cup or a medical mask in front of part of the face."""
    (_hand, _hand, _book, _cup, _mask)[rng.integers(5)](body, head, look, rng)


def _hand(body, head, look, rng):
    u, skin = head.unit, look.skin if rng.uniform() < 0.8 else tone(look.skin, rng.uniform(0.6, 1.2))
    target, along, across = _somewhere(head, rng)
    if along[1] < -0.3:  # hands come from below
        along, across = -along, -across
    size = rng.uniform(0.8, 1.05) * u
    wrist, knuckles, elbow = target + along * 1.15 * u, target + along * 0.3 * u, target + along * 4.05 * u
    side = across * size
    body.fill([wrist + 0.26 * side, wrist - 0.26 * side, elbow - 0.4 * side, elbow + 0.4 * side], skin)
    palm = [wrist + 0.3 * side, wrist - 0.3 * side, knuckles - 0.36 * side, knuckles + 0.36 * side]
    body.fill(loop(palm), skin)
    for i, reach in enumerate((0.62, 0.78, 0.74, 0.55)):
        root = target + along * 0.42 * u + side * (i - 1.5) * 0.2
        tip = root - along * reach * size + side * (i - 1.5) * 0.07
        body.stroke([root, tip], 0.22 * size, tone(skin, 0.62), (1, 0.9))
        body.disc(tip, 0.10 * size, tone(skin, 0.62))
        body.stroke([root + along * 0.1 * u, tip], 0.18 * size, skin, (1, 0.9))
        body.disc(tip, 0.08 * size, skin)
        body.fill(tip + _oval(along, across, 0.05 * size, 0.045 * size), mix(skin, (250, 215, 210), 0.5))
    thumb = target + along * 0.75 * u + 0.3 * side
    tip = thumb + (across - along * 0.8) * 0.42 * size
    body.stroke([thumb, tip], 0.2 * size, skin, (1, 0.8))
    body.disc(tip, 0.08 * size, skin)


def _book(body, head, look, rng):
    target, along, across = _somewhere(head, rng)
    frame = np.stack([along, across]) * rng.uniform(0.7, 1.3, (2, 1)) * head.unit
    centre, colour = target + frame[0] * 0.45, hue(rng)
    square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    body.fill(centre + square @ frame, colour)
    body.fill(centre + 0.72 * square @ frame, tone(colour, rng.choice([0.7, 1.25])))
    for t in rng.uniform(-0.3, 0.3, 3):
        body.line(centre + [(-0.25, t), (0.25, t)] @ frame, 0.05 * head.unit, tone(colour, 0.5))


def _cup(body, head, look, rng):
    colour, r = hue(rng, value=(0.5, 1.0)), rng.uniform(0.28, 0.4) * head.unit
    top = head.landmarks[57] + rng.normal(0, 0.3, 2) * head.unit
    body.disc(top + (r, r), 0.5 * r, tone(colour, 0.8))
    body.fill(top + np.array([(-1, 0), (1, 0), (0.8, 2.2), (-0.8, 2.2)]) * r, colour)
    body.fill(top + _oval(np.array([1, 0]), np.array([0, 1]), r, 0.25 * r), tone(colour, 0.7))
    body.line(top + np.array([(-0.88, 1.4), (0.88, 1.4)]) * r, 0.12 * head.unit, tone(colour, 1.3))


def _mask(body, head, look, rng):
    p = head.landmarks
    colour = ((120, 170, 200), (235, 235, 235), (40, 42, 50), (210, 150, 160))[rng.integers(4)]
    right = [p[15] * 0.97 + p[35] * 0.03, p[14] * 0.45 + p[28] * 0.55]
    left = [p[2] * 0.45 + p[28] * 0.55, p[1] * 0.97 + p[31] * 0.03]
    top = [*right, (p[28] + p[29]) / 2, *left]
    body.fill(np.concatenate([curve(p[3:14], 4), curve(top, 4)]), colour)
    for t in (0.35, 0.6):
        crease = [p[4] * (1 - t) + p[2] * t, p[57] * (1 - t) + p[33] * t, p[12] * (1 - t) + p[14] * t]
        body.stroke(curve(crease), 0.03 * head.unit, tone(colour, 0.8))


def _somewhere(head, rng):
    """A place near a random landmark, and two perpendicular directions."""
    target = head.landmarks[rng.integers(68)] + rng.normal(0, 0.15, 2) * head.unit
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    return target, along, np.array([-along[1], along[0]])


def _oval(along, across, a, b, count=14):
    angle = np.arange(count)[:, None] * 2 * np.pi / count
    return np.cos(angle) * along * a + np.sin(angle) * across * b
