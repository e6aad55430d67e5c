"""A parametric head in three dimensions: 68 points with identity, expression and pose, projected into a chip.

Head units: half the width between the ears is about 1; x points to the image's right, y down, z to the
viewer; the origin lies between the eyes. Points are those of the 300W scheme.
"""

import dataclasses
import functools

import numpy as np

from lapjax import geometry

# The jaw's left half, ear to chin: x, y, z, and how far the cheek before the point reaches. Each level is an
# elliptic slice of the head; when the head turns away, the point slides along it to the visible contour.
_JAW = np.array(
    [
        [-1.00, -0.02, -0.10, 0.92],
        [-0.99, 0.24, -0.10, 0.95],
        [-0.95, 0.50, -0.08, 0.96],
        [-0.88, 0.75, -0.02, 0.92],
        [-0.77, 0.98, 0.10, 0.82],
        [-0.62, 1.18, 0.30, 0.62],
        [-0.43, 1.34, 0.54, 0.36],
        [-0.22, 1.44, 0.73, 0.13],
        [0.00, 1.47, 0.82, 0.00],
    ]
)
_BROW = np.array(
    [
        [-0.82, -0.33, 0.42],
        [-0.70, -0.43, 0.58],
        [-0.52, -0.47, 0.74],
        [-0.34, -0.45, 0.84],
        [-0.18, -0.40, 0.89],
    ]
)
_BRIDGE = np.array([[0.0, -0.10, 0.86], [0.0, 0.10, 0.97], [0.0, 0.30, 1.10], [0.0, 0.49, 1.22]])
_BASE = np.array(
    [[-0.22, 0.61, 0.88], [-0.11, 0.66, 0.98], [0.0, 0.69, 1.03], [0.11, 0.66, 0.98], [0.22, 0.61, 0.88]]
)
# The temples continue the jaw upwards; the painter closes the face with them.
_TEMPLE = np.array([[-1.00, -0.20, -0.08, 0.90], [-0.98, -0.42, -0.02, 0.84]])
_MIRROR = np.array([-1.0, 1.0, 1.0])
# Brow and eye of either side, in the order of `_BROW` and `_eye`.
_SIDES = (
    ([17, 18, 19, 20, 21], [36, 37, 38, 39, 40, 41]),
    ([26, 25, 24, 23, 22], [45, 44, 43, 42, 47, 46]),
)


@dataclasses.dataclass(frozen=True)
class Head:
    """A posed head in a chip.

    Attributes:
      landmarks: (68, 2) float64, chip px.
      solid: (68, 3), the same points in head units before the pose.
      temples: (2, 2, 3), left and right contour above the jaw, from the ear upwards.
      rotation: (3, 3), head to camera.
      angles: yaw, pitch, roll in radians; positive is to the image's right, up, clockwise.
      opening: how far the left and right eye are open, 1 is relaxed.
      mouth: how far the mouth is open, 0 to 1.
      smile: -1 to 1.
      width: face width relative to the mean.
      unit: chip px per head unit.
    """

    landmarks: np.ndarray
    solid: np.ndarray
    temples: np.ndarray
    rotation: np.ndarray
    angles: tuple[float, float, float]
    opening: tuple[float, float]
    mouth: float
    smile: float
    width: float
    unit: float
    _distance: float
    _shift: np.ndarray

    def place(self, points) -> np.ndarray:
        """Projects (..., 3) head units to (..., 2) chip px."""
        return (
            _project(np.asarray(points, np.float64) @ self.rotation.T, self._distance) * self.unit
            + self._shift
        )

    def facing(self, normal) -> float:
        """Cosine between a direction in head units and the viewer's: positive when it faces the viewer."""
        return float(self.rotation[2] @ np.asarray(normal)) / float(np.linalg.norm(normal))

    def ring(self, centre, rx: float, ry: float, count: int = 20) -> np.ndarray:
        """A flat ellipse parallel to the face around `centre` (3,), as (count, 2) chip px."""
        circle = _circle(count) * (rx, ry)
        return self.place(np.asarray(centre) + np.concatenate([circle, np.zeros((count, 1))], 1))

    def silhouette(self, centre, axes, count: int = 40) -> np.ndarray:
        """The outline of an ellipsoid of three half-axes around `centre` (3,), as (count, 2) chip px."""
        spread = (self.rotation * np.asarray(axes))[:2]
        reach = _circle(count) @ spread
        rim = reach @ spread.T / np.linalg.norm(reach, axis=1, keepdims=True)
        depth = self.rotation[2] @ np.asarray(centre)
        return self.place(centre) + rim * (self.unit * self._distance / (self._distance - depth))


def sample(rng: np.random.Generator, *, size: int, factor: float) -> Head:
    """Draws a head, in the chip of side `factor` * max(w, h) around the tight box of its landmarks."""
    limit = np.deg2rad([45, 20, 25])
    yaw, pitch, roll = np.clip(rng.normal(0, 0.5, 3), -1, 1) * limit
    rotation = _rotation(yaw, pitch, roll)
    points, traits = _shape(rng)
    width = traits["width"]
    points[:17], temples = _contour(points, yaw, width)
    distance = rng.uniform(6.0, 14.0)
    flat = _project(points @ rotation.T, distance)
    matrix = geometry.crop_matrix(geometry.box_of(flat), factor=factor, size=size)
    return Head(
        landmarks=geometry.apply(matrix, flat),
        solid=points,
        temples=temples,
        rotation=rotation,
        angles=(yaw, pitch, roll),
        unit=float(matrix[0, 0]),
        _distance=distance,
        _shift=matrix[:, 2],
        **traits,
    )


def _shape(rng) -> tuple[np.ndarray, dict]:
    """(68, 3) points of one person making one face, and what the painter must know of them."""
    width, jaw, chin = rng.normal(1.0, 0.06), rng.normal(0.0, 0.07), rng.normal(0.0, 0.05)
    eye_gap, eye_size, eye_tilt = rng.normal(0.45, 0.02), rng.normal(0.205, 0.012), rng.normal(0.0, 0.02)
    brow_height, brow_arch = rng.normal(0.0, 0.04), rng.normal(1.0, 0.3)
    nose_length, nose_width, nose_depth = rng.normal(0.0, 0.04), rng.normal(1.0, 0.14), rng.normal(1.0, 0.12)
    mouth_width, upper_lip, lower_lip = (
        rng.normal(0.40, 0.035),
        rng.normal(0.10, 0.02),
        rng.normal(0.11, 0.025),
    )

    # Four in ten mouths stand open, one eye pair in sixteen is closed, one face in sixteen winks.
    mood = rng.uniform(size=3)
    mouth = rng.beta(1.2, 1.5) if mood[0] < 0.4 else 0.0
    smile = float(np.clip(rng.normal(0.45, 0.45), -0.7, 1.0))
    parted = 0.22 * max(smile, 0.0) if mood[1] < 0.6 else 0.0
    raised = np.clip(rng.normal(0.25 + 0.25 * mouth, 0.4), -0.8, 1.2) + rng.normal(0.0, 0.12, 2)
    relaxed = 1.15 - 0.22 * max(smile, 0) + 0.2 * max(raised.mean(), 0)
    opening = np.full(2, np.clip(rng.normal(relaxed, 0.2), 0.3, 1.5))
    if mood[2] < 0.06:
        opening[:] = 0.06
    elif mood[2] < 0.12:
        opening[int(mood[2] < 0.09)] = 0.06
    frown = max(0.0, -raised.mean())

    points = np.zeros((68, 3))
    fall = 0.30 * mouth
    rim = _JAW[:, :3].copy()
    low = np.clip((rim[:, 1] - 0.3) / 1.1, 0, 1)
    rim[:, 0] *= width * (1 + jaw * low)
    rim[:, 1] += chin * low**2 * 1.5 + fall * np.clip((rim[:, 1] - 0.6) / 0.8, 0, 1)
    points[:9], points[9:17] = rim, rim[7::-1] * _MIRROR

    for side, (brow, eye) in enumerate(_SIDES):
        sign = _MIRROR if side else np.ones(3)
        arch = _BROW.copy()
        arch[:, 0] *= width
        arch[:, 1] = -0.36 + (arch[:, 1] + 0.36) * brow_arch + brow_height - 0.13 * raised[side]
        arch[3:, 1] += frown * np.array([0.06, 0.13])
        arch[4, 0] += 0.05 * frown
        points[brow] = arch * sign
        points[eye] = _eye(eye_gap * width, eye_size * width, eye_tilt, opening[side], smile) * sign

    points[27:31], points[31:36] = _BRIDGE, _BASE
    points[27:36, 1] += nose_length * (points[27:36, 1] + 0.1) / 0.6
    points[28:36, 2] = 0.84 + (points[28:36, 2] - 0.84) * nose_depth
    points[31:36, 0] *= nose_width * (1 + 0.12 * max(smile, 0))

    points[48:68] = _mouth(mouth_width, upper_lip, lower_lip, fall, parted, smile, rng.normal(0, 0.15))
    points[48:68, 1] += 0.6 * nose_length + 0.4 * chin
    points[17:, 0] += rng.normal(0, 0.008)  # no face is quite symmetric
    traits = {
        "opening": (float(opening[0]), float(opening[1])),
        "mouth": float(max(mouth, parted)),
        "smile": smile,
        "width": float(width),
    }
    return points, traits


def _eye(gap, size, tilt, opening, smile) -> np.ndarray:
    """(6, 3) of a left eye: outer corner, upper lid, inner corner, lower lid."""
    x = np.array([-1.0, -0.36, 0.36, 1.0, 0.36, -0.36]) * size - gap
    lid = np.array([0.0, -0.105, -0.11, 0.0, 0.055, 0.06]) * opening
    lid[4:] -= 0.02 * max(smile, 0.0)
    y = lid + np.array([-1.0, -0.4, 0.4, 1.0, 0.4, -0.4]) * tilt + 0.02 * (opening < 0.1)
    return np.stack([x, y, [0.54, 0.68, 0.76, 0.70, 0.74, 0.66]], 1)


def _mouth(width, upper, lower, fall, parted, smile, skew) -> np.ndarray:
    """(20, 3): outer lips clockwise from the left corner, then inner lips."""
    half = width * (1 + 0.22 * max(smile, 0) - 0.25 * fall / 0.3)
    middle = 0.955
    lift = -0.10 * smile + 0.45 * fall
    gap = 0.9 * fall + 0.5 * parted
    u = np.array([-1, -0.64, -0.25, 0, 0.25, 0.64, 1, 0.66, 0.28, 0, -0.28, -0.66])
    v = np.array([-0.86, -0.31, 0, 0.31, 0.86, 0.31, 0, -0.31])
    bow = np.array([0, -0.78, -1.08, -0.94, -1.08, -0.78, 0]) * upper
    sag = np.array([0.66, 1.0, 1.06, 1.0, 0.66]) * lower

    def bend(x):
        return lift * np.abs(x) ** 1.5 + skew * lift * x

    def fall_open(x):
        return gap * np.sqrt(np.clip(1 - (np.abs(x) / 0.9) ** 2, 0, 1))

    outer = middle + bend(u) + np.concatenate([bow, sag + fall_open(u[7:])])
    inner = middle + bend(v) + np.concatenate([np.zeros(5), np.maximum(fall_open(v[5:]), 0.012)])
    points = np.zeros((20, 3))
    points[:12, 0], points[12:, 0] = u * half, v * half
    points[:12, 1], points[12:, 1] = outer, inner
    points[:, 2] = (
        0.98 - 1.25 * points[:, 0] ** 2 - 0.15 * np.abs(points[:, 1] - middle) - 0.06 * max(smile, 0)
    )
    points[12:, 2] -= 0.03
    return points


def _contour(points, yaw, width) -> tuple[np.ndarray, np.ndarray]:
    """Slides jaw and temples to the visible outline: ((17, 3), (2, 2, 3))."""
    temple = _TEMPLE.copy()
    temple[:, 0] *= width
    halves = []
    for sign in (1.0, -1.0):
        rim = (points[:9] if sign > 0 else points[16:7:-1]).copy()
        levels = np.concatenate([rim * (sign, 1, 1), temple[:, :3]])
        reach = np.concatenate([_JAW[:, 3], temple[:, 3]])
        half = -levels[:, 0]
        # Where the slice's normal is perpendicular to the view; on the near side that is the jaw itself.
        turned = max(0.0, -sign * np.sin(yaw))
        angle = np.where(half > 1e-6, np.arctan2(half * np.cos(yaw), reach * turned + 1e-9), 0.0)
        levels[:, 0], levels[:, 2] = -half * np.sin(angle), levels[:, 2] + reach * np.cos(angle)
        halves.append(levels * (sign, 1, 1))
    left, right = halves
    return np.concatenate([left[:9], right[7::-1]]), np.stack([left[9:], right[9:]])


def _rotation(yaw, pitch, roll) -> np.ndarray:
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch, roll))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ nod @ turn


def _project(points, distance) -> np.ndarray:
    return points[..., :2] * (distance / (distance - points[..., 2:]))


@functools.lru_cache(maxsize=16)
def _circle(count: int) -> np.ndarray:
    angle = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angle), np.sin(angle)], 1)
