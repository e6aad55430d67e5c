"""Anti-aliased drawing in chip pixels, and the colours to do it with."""

import colorsys
import contextlib
import functools

import numpy as np
from PIL import Image, ImageDraw


class Brush:
    """Draws shapes given in chip px on a canvas `scale` times finer, and the same shapes into `mask`, if any.

    Colours are (r, g, b) or (r, g, b, alpha) in 0..255, or one level on a grey canvas.
    """

    def __init__(self, canvas: Image.Image, scale: float, mask: Image.Image | None = None):
        self.canvas, self.scale = canvas, scale
        self._draw = ImageDraw.Draw(canvas, "RGBA" if canvas.mode == "RGB" else None)
        self._mask = ImageDraw.Draw(mask) if mask is not None else None

    def fill(self, points, colour) -> None:
        """A polygon of (N, 2) chip px."""
        points = self._fine(points)
        self._draw.polygon(points, fill=_ink(colour))
        if self._mask:
            self._mask.polygon(points, fill=255)

    def disc(self, centre, radius: float, colour) -> None:
        """A circle."""
        ((x, y),), r = self._fine([centre]), radius * self.scale
        box = (x - r, y - r, x + r, y + r)
        self._draw.ellipse(box, fill=_ink(colour))
        if self._mask:
            self._mask.ellipse(box, fill=255)

    def line(self, points, width: float, colour) -> None:
        """A polyline of even width with joints."""
        self._draw.line(
            self._fine(points), fill=_ink(colour), width=max(1, round(width * self.scale)), joint="curve"
        )

    def stroke(self, curve, width: float, colour, taper=(0.35, 1.0, 0.35)) -> None:
        """A pen stroke along (N, 2), its width following `taper` from start to end."""
        curve = np.asarray(curve, np.float64)
        along = np.empty_like(curve)
        along[1:-1], along[0], along[-1] = curve[2:] - curve[:-2], curve[1] - curve[0], curve[-1] - curve[-2]
        length = np.hypot(along[:, 0], along[:, 1]) + 1e-9
        across = along[:, ::-1] * (-1.0, 1.0) * (_taper(taper, len(curve)) * (width / 2) / length)[:, None]
        self.fill(np.concatenate([curve + across, (curve - across)[::-1]]), colour)

    def _fine(self, points) -> list[tuple[float, float]]:
        return list(map(tuple, _to_canvas(points, self.scale).tolist()))

    @contextlib.contextmanager
    def inside(self, polygon):
        """A brush whose marks end at the border of a polygon of (N, 2) chip px."""
        outline = self._fine(polygon)
        xs, ys = [p[0] for p in outline], [p[1] for p in outline]
        left, top = max(0, int(min(xs)) - 1), max(0, int(min(ys)) - 1)
        right, bottom = min(self.canvas.width, int(max(xs)) + 3), min(self.canvas.height, int(max(ys)) + 3)
        if right <= left or bottom <= top:
            yield Brush(Image.new("RGB", (1, 1)), self.scale)
            return
        part = _Part(self, (left, top, right, bottom))
        yield part
        stencil = Image.new("L", part.canvas.size)
        ImageDraw.Draw(stencil).polygon([(x - left, y - top) for x, y in outline], fill=255)
        self.canvas.paste(part.canvas, (left, top), stencil)


class _Part(Brush):
    """A brush on a copy of part of another's canvas, in the same chip px."""

    def __init__(self, whole: Brush, area: tuple[int, int, int, int]):
        super().__init__(whole.canvas.crop(area), whole.scale)
        self._origin = np.asarray(area[:2])

    def _fine(self, points):
        return list(map(tuple, (_to_canvas(points, self.scale) - self._origin).tolist()))


def _to_canvas(points, scale) -> np.ndarray:
    # Chip px have their centres at integers; Pillow's shapes have theirs at halves.
    return (np.asarray(points, np.float64) + 0.5) * scale


@functools.lru_cache(maxsize=256)
def _taper(taper: tuple[float, ...], count: int) -> np.ndarray:
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(taper)), taper)


def _ink(colour):
    if isinstance(colour, int):
        return colour
    return tuple(min(255, max(0, int(c))) for c in colour)


def mix(a, b, amount: float) -> tuple[float, float, float]:
    """The colour `amount` of the way from a to b."""
    red, green, blue = (x + (y - x) * amount for x, y in zip(a, b, strict=True))
    return red, green, blue


def tone(colour, factor: float) -> tuple[float, float, float]:
    """A colour made darker (< 1) or lighter (> 1); darker skin, hair and cloth also turn warmer."""
    red, green, blue = colour
    return min(255.0, red * factor**0.85), min(255.0, green * factor), min(255.0, blue * factor**1.1)


def hue(rng, saturation=(0.2, 0.8), value=(0.3, 0.95)) -> tuple[float, float, float]:
    """Any hue, with saturation and value from the given ranges."""
    red, green, blue = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
    return 255 * red, 255 * green, 255 * blue


def curve(points, samples: int = 6) -> np.ndarray:
    """A smooth open curve (Catmull-Rom) through (N, 2) points, `samples` a span."""
    points = np.asarray(points)
    return _spline(len(points), samples, False) @ points


def loop(points, samples: int = 5) -> np.ndarray:
    """A smooth closed curve (Catmull-Rom) through (N, 2) points."""
    points = np.asarray(points)
    return _spline(len(points), samples, True) @ points


@functools.lru_cache(maxsize=64)
def _spline(count: int, samples: int, closed: bool) -> np.ndarray:
    """The matrix from control points to points of the curve."""
    t = np.arange(samples) / samples
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], 1
    )
    spans = count if closed else count - 1
    matrix = np.zeros((spans * samples + (not closed), count))
    for span in range(spans):
        for offset in range(4):
            index = span + offset - 1
            index = index % count if closed else min(max(index, 0), count - 1)
            matrix[span * samples : (span + 1) * samples, index] += basis[:, offset]
    if not closed:
        matrix[-1, -1] = 1
    return matrix
