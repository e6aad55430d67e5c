"""The face itself, painted feature by feature over a posed head."""

import dataclasses

import numpy as np

from lapjax.datasets.toy_faces.brush import Brush, curve, loop, mix, tone
from lapjax.datasets.toy_faces.head import Head

_SKINS = (
    (255, 224, 200),
    (246, 205, 172),
    (236, 188, 150),
    (222, 170, 130),
    (200, 144, 104),
    (172, 116, 78),
    (140, 90, 60),
    (108, 70, 50),
    (84, 55, 42),
)
_HAIRS = (
    (28, 24, 26),
    (48, 34, 28),
    (78, 50, 34),
    (110, 72, 44),
    (150, 102, 60),
    (204, 162, 98),
    (232, 202, 140),
    (160, 70, 36),
    (130, 130, 134),
    (214, 212, 208),
)
_DYES = ((214, 98, 140), (70, 130, 180), (60, 160, 140), (130, 90, 170))
_IRISES = (
    (60, 38, 26),
    (84, 54, 32),
    (112, 76, 40),
    (84, 110, 70),
    (80, 120, 150),
    (110, 140, 170),
    (90, 96, 100),
)


@dataclasses.dataclass(frozen=True)
class Look:
    """The colours of one person, (r, g, b) in 0..255."""

    skin: tuple
    hair: tuple
    brow: tuple
    iris: tuple
    lips: tuple
    cloth: tuple


def sample_look(rng, cloth) -> Look:
    """Draws a person's colours; the cloth's is given."""
    one, other = rng.integers(len(_SKINS), size=2)
    skin = mix(_SKINS[one], _SKINS[other], rng.uniform(0, 0.4))
    skin = tuple(np.clip(np.asarray(skin) + rng.normal(0, 5, 3), 20, 255))
    hair = _HAIRS[rng.integers(len(_HAIRS))] if rng.uniform() < 0.92 else _DYES[rng.integers(len(_DYES))]
    hair = tuple(np.clip(np.asarray(hair) + rng.normal(0, 8, 3), 12, 240))
    brow = mix(tone(mix(hair, (40, 28, 24), rng.uniform(0.2, 0.7)), 0.9), tone(skin, 0.4), 0.35)
    painted = rng.uniform() < 0.25
    lips = mix(tone(skin, 0.86), (200, 60, 70), rng.uniform(0.5, 0.85) if painted else rng.uniform(0.15, 0.4))
    return Look(skin, hair, brow, _IRISES[rng.integers(len(_IRISES))], lips, cloth)


def face_outline(head: Head) -> np.ndarray:
    """The face from ear to ear over the chin, closed along the hairline, in chip px."""
    w = head.width
    hairline = [
        (-0.80, -0.72, 0.38),
        (-0.45, -0.93, 0.68),
        (0.0, -1.0, 0.78),
        (0.45, -0.93, 0.68),
        (0.80, -0.72, 0.38),
    ]
    top = head.place(np.array(hairline) * (w, 1, 1))
    left, right = head.place(head.temples)
    return loop(np.concatenate([head.landmarks[:17], right, top[::-1], left[::-1]]), 4)


def paint_skin(body: Brush, pen: Brush, head: Head, look: Look, rng) -> None:
    """The face's skin, its jaw line, cheeks and sometimes freckles."""
    skin, p, u = look.skin, head.landmarks, head.unit
    body.fill(face_outline(head), skin)
    pen.line(curve(p[1:16], 4), 0.022 * u, (*tone(skin, 0.62), 120))
    blush = (*mix(skin, (220, 70, 60), 0.4), 26 + 20 * rng.uniform())
    for sign in (-1, 1):
        if head.facing((sign * 0.7, 0, 0.7)) > 0.35:
            for grow in (1.0, 0.8, 0.6):
                pen.fill(head.ring((sign * 0.58, 0.5, 0.62), 0.24 * grow, 0.17 * grow), blush)
    if rng.uniform() < 0.18:  # freckles
        spots = rng.normal(0, 1, (26, 2)) * (0.36, 0.13) + (0, 0.36)
        for x, y in spots[np.abs(spots[:, 0]) < 0.75]:
            pen.disc(head.place((x, y, 0.92 - 0.6 * x * x)), 0.016 * u, (*tone(skin, 0.62), 120))
    if rng.uniform() < 0.15:  # a mole
        x, y = rng.uniform((-0.5, 0.3), (0.5, 1.2))
        pen.disc(head.place((x, y, 0.92 - 0.6 * x * x)), 0.022 * u, tone(skin, 0.4))


def soft_light(relief: Brush, head: Head, light) -> None:
    """Marks on a grey map, neutral at 128, what the forms of a face darken or brighten."""
    p, solid, u = head.landmarks, head.solid, head.unit
    side = float(light @ head.rotation[:, 0])
    for eye, brow in ((p[36:42], p[17:22]), (p[42:48], p[22:27])):
        relief.fill(np.concatenate([brow * 0.75 + eye[:4].mean(0) * 0.25, eye[[3, 4, 5, 0]]]), 112)
    for sign, wing, lobe in ((-1, 31, 48), (1, 35, 54)):
        dark = 128 - int(28 * max(0.0, sign * -side + 0.25))
        relief.fill(
            np.concatenate([p[27:31], p[[33, wing]], head.place([solid[27] + (sign * 0.14, 0.06, -0.1)])]),
            dark,
        )
        fold = np.stack(
            [
                p[wing] + (p[wing] - p[33]) * 0.25,
                (p[wing] + p[lobe]) / 2 + (p[wing] - p[33]) * 0.35,
                p[lobe] + (p[wing] - p[33]) * 0.2,
            ]
        )
        relief.line(curve(fold), 0.06 * u, 128 - int(20 + 16 * max(head.smile, 0)))
    relief.fill(np.concatenate([p[31:36], ((p[50:53] + p[32:35]) / 2)[::-1]]), 112)
    relief.line(curve(p[27:31]), 0.07 * u, 150)
    relief.disc(p[30] - (0.02 * u, 0.03 * u), 0.09 * u, 156)
    relief.line(p[56:59] + 0.22 * (p[8] - p[57]), 0.10 * u, 110)
    relief.disc(p[8] * 0.72 + p[57] * 0.28, 0.13 * u, 140)
    for sign in (-1, 1):
        relief.disc(head.place((sign * 0.58, 0.34, 0.66)), 0.2 * u, 128 + int(8 * (1 + sign * side)))
    relief.fill(head.ring((0, -0.68, 0.86), 0.42, 0.17), 142)


def paint_eyes(pen: Brush, head: Head, look: Look, rng) -> None:
    """Whites, irises that look somewhere, lids and lashes."""
    u, lash = head.unit, rng.uniform(0.03, 0.062)
    gaze = np.clip(rng.normal(0, 0.5, 2), -1, 1) * (0.065, 0.028)
    radius, pupil = rng.uniform(0.098, 0.115), rng.uniform(0.038, 0.055)
    white = mix((250, 248, 244), look.skin, 0.1)
    shadowed = (*tone(look.skin, 0.55), 90)
    for sign, index in ((-1, [36, 37, 38, 39, 40, 41]), (1, [45, 44, 43, 42, 47, 46])):
        eye, solid = head.landmarks[index], head.solid[index]
        upper, lower = curve(eye[:4]), curve(eye[[3, 4, 5, 0]])
        opening = head.opening[0 if sign < 0 else 1]
        if opening > 0.15:
            centre = solid[[1, 2, 4, 5]].mean(0) * (1, 0, 1) + (gaze[0], gaze[1] - 0.012, 0.01)
            outline = np.concatenate([upper, lower[1:-1]])
            with pen.inside(outline) as eyeball:
                eyeball.fill(outline, white)
                eyeball.fill(head.ring(centre, radius, radius), tone(look.iris, 0.55))
                eyeball.fill(head.ring(centre, radius * 0.84, radius * 0.84), look.iris)
                eyeball.fill(
                    head.ring(centre + (0, 0.25 * radius, 0), radius * 0.6, radius * 0.5),
                    tone(look.iris, 1.35),
                )
                eyeball.fill(head.ring(centre, pupil, pupil), (14, 12, 14))
                eyeball.stroke(upper + (0, 0.025 * u), 0.06 * u, (40, 26, 30, 90), (1, 1))
                eyeball.disc(head.place(centre + (-0.035, -0.035, 0.02)), 0.022 * u, (255, 255, 255))
            corner = eye[3] + (eye[0] - eye[3]) * 0.05
            pen.disc(corner, 0.02 * u, mix(look.skin, (210, 110, 110), 0.6))
        pen.stroke(lower, 0.028 * u, (*tone(look.skin, 0.5), 190), (0.4, 1, 1))
        flick = eye[0] + (eye[0] - eye[1]) * 0.16
        pen.stroke(np.concatenate([flick[None], upper]), lash * u, (34, 24, 24), (0.3, 1, 0.9, 0.5))
        lift = (
            head.place(solid[:4] + (0, -0.075, 0))
            if opening > 0.15
            else head.place(solid[:4] + (0, -0.16, 0))
        )
        pen.stroke(curve(lift), 0.022 * u, shadowed, (0.2, 1, 1, 0.2))


def paint_brows(pen: Brush, head: Head, look: Look, rng) -> None:
    """Brows along their five points, thick at the nose and thin at the temple."""
    thick = rng.uniform(0.07, 0.14) * head.unit
    for points in (head.landmarks[17:22], head.landmarks[26:21:-1]):
        line = curve(points)
        pen.stroke(line, thick, (*look.brow, 215), (0.25, 0.75, 1.0, 0.85))
        pen.stroke(line, thick * 0.5, tone(look.brow, 0.8), (0.25, 0.75, 1.0, 0.7))


def paint_nose(pen: Brush, head: Head, look: Look, light) -> None:
    """The nose: one side of the bridge in shade, its outline where it stands out, wings and nostrils."""
    p, solid, u, skin = head.landmarks, head.solid, head.unit, look.skin
    away = -1 if light[0] > 0 else 1
    far = -1 if head.rotation[0, 2] < 0 else 1
    turned = min(1.0, abs(head.rotation[0, 2]) / 0.6)
    wing = p[31] if away < 0 else p[35]
    root = head.place(solid[27] + (away * 0.10, 0.0, -0.08))
    pen.fill(
        np.concatenate([curve(p[27:31], 4), p[33][None], wing[None], root[None]]), (*tone(skin, 0.72), 60)
    )
    if turned > 0.15:
        tip = p[33] * 0.5 + p[31 if far < 0 else 35] * 0.5
        edge = curve(np.concatenate([p[27:31], tip[None]]), 5)
        pen.stroke(edge, 0.035 * u, (*tone(skin, 0.5), 60 + 140 * turned), (0.2, 0.6, 1, 0.8))
    for sign, outer, inner in ((-1, 31, 32), (1, 35, 34)):
        nostril = solid[outer] * 0.45 + solid[inner] * 0.55 - (0, 0.025, 0)
        if head.facing((sign * 0.45, 0.35, 0.8)) > 0.15:
            pen.fill(head.ring(nostril, 0.055, 0.026), tone(skin, 0.32))
        wing = head.place(
            solid[outer]
            + np.array(
                [
                    (-sign * 0.01, 0.015, 0),
                    (sign * 0.03, -0.03, 0),
                    (sign * 0.02, -0.11, 0.02),
                    (-sign * 0.03, -0.16, 0.06),
                ]
            )
        )
        pen.stroke(curve(wing), 0.032 * u, (*tone(skin, 0.52), 200), (0.6, 1, 0.7, 0.1))
    pen.stroke(curve(p[31:36]), 0.03 * u, (*tone(skin, 0.5), 170), (0.5, 0.9, 1, 0.9, 0.5))


def paint_mouth(pen: Brush, head: Head, look: Look, rng) -> None:
    """Lips, and what an open mouth shows."""
    p, u, lips = head.landmarks, head.unit, look.lips
    top, bottom = curve(p[48:55], 4), curve(p[[54, 55, 56, 57, 58, 59, 48]], 4)
    upper, lower = curve(p[60:65], 5), curve(p[[64, 65, 66, 67, 60]], 5)
    pen.fill(np.concatenate([top, bottom[1:-1]]), lips)
    pen.fill(np.concatenate([top, upper[::-1]]), tone(lips, 0.82))
    shine = curve(p[[67, 66, 65]] * 0.5 + p[[58, 57, 56]] * 0.5, 4)
    pen.stroke(shine, 0.05 * u, (*mix(lips, (255, 240, 235), 0.6), 110), (0.2, 1, 0.2))
    if head.mouth > 0.04:
        outline = np.concatenate([upper, lower[1:-1]])
        with pen.inside(outline) as hole:
            hole.fill(outline, (58, 18, 22))
            if head.mouth > 0.3:
                hole.fill(
                    head.ring(head.solid[[57, 66]].mean(0) + (0, -0.02, -0.2), 0.22, 0.12), (196, 88, 90)
                )
            teeth = rng.uniform(0.07, 0.11)
            if rng.uniform() < 0.85:
                edge = head.place(head.solid[60:65] + (0, teeth, -0.04))
                hole.fill(np.concatenate([upper - (0, 0.1 * u), curve(edge, 5)[::-1]]), (246, 242, 232))
            hole.stroke(upper, 0.05 * u, (50, 14, 18, 110), (1, 1))
    else:
        seam = curve(np.concatenate([p[48:49], p[60:65], p[54:55]]), 4)
        pen.stroke(seam, 0.034 * u, tone(lips, 0.42), (0.5, 1, 0.8, 1, 0.5))
    for corner, inner in ((p[48], p[60]), (p[54], p[64])):
        pen.disc(corner + (inner - corner) * 0.15, 0.02 * u, tone(lips, 0.45))
    pen.stroke(bottom, 0.02 * u, (*tone(lips, 0.6), 110), (0.2, 1, 0.2))
    pen.stroke(top, 0.02 * u, (*tone(lips, 0.55), 120), (0.4, 1, 0.4))
