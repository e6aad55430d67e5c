"""The Localizer: a photograph and a face's box in; points, how far to trust each, and their names out.

From a file it needs NumPy, pillow and onnxruntime; nothing here imports JAX, but for a run directory or a JAX file.
"""

import dataclasses
import os

import numpy as np

from lapjax import geometry
from lapjax.checkpoints import pretrained
from lapjax.checkpoints.model_card import Card
from lapjax.checkpoints.runtime import Engine, open_file
from lapjax.deployment.run_engine import open_run
from lapjax.errors import LapjaxError
from lapjax.images import read_image
from lapjax.schemes import Scheme

__all__ = ["Localizer", "Result"]


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The K landmarks of one face.

    Attributes:
      points: (K, 2) float32, x and y in image px, pixel centres at integers.
      scale: (K, 2) float32, the Laplace scale b along x and y, image px.
      names: what the points are called.
    """

    points: np.ndarray
    scale: np.ndarray
    names: tuple[str, ...]
    _radius: np.ndarray | None = dataclasses.field(default=None, repr=False)
    _confidence: np.ndarray | None = dataclasses.field(default=None, repr=False)

    @property
    def radius(self) -> np.ndarray:
        """(K,) float32, image px: the circle that holds the true point with the probability `Localizer.level`.

        Raises:
          LapjaxError: the model was not calibrated.
        """
        return self._calibrated(self._radius, "radius")

    @property
    def confidence(self) -> np.ndarray:
        """(K,) float32 in [0, 1]: that the error is below `Localizer.tolerance` of sqrt(w * h) of the box.

        Raises:
          LapjaxError: the model was not calibrated.
        """
        return self._calibrated(self._confidence, "confidence")

    def _calibrated(self, value, name):
        if value is None:
            raise LapjaxError(
                f"this model has no calibration, hence no {name}: `lapjax calibrate DIR` its run, then export it again"
            )
        return value


class Localizer:
    """Finds the landmarks of faces whose boxes are known.

    Examples:
      >>> import lapjax
      >>> localizer = lapjax.Localizer.load("toy-68")
      >>> face = lapjax.load_dataset("toy_faces", "test", limit=1)
      >>> result = localizer(face.images[0], box=face.box[0])
      >>> result.points.shape, result.radius.shape  # image px
      ((68, 2), (68,))

    Raises:
      LapjaxError: as `load` and as a call.
    """

    def __init__(self, card: Card, engine: Engine):
        """As `load` makes it."""
        self.card = card
        self._engine = engine

    @classmethod
    def load(cls, source: str | os.PathLike | None = None, *, threads: int = 1) -> "Localizer":
        """A localizer from a file, from a run directory, or by the name of a shipped model.

        Args:
          source: a file that `lapjax export` wrote, the --out of `lapjax train` (which needs JAX), or a name of
            `list_pretrained`; None is the default one.
          threads: that onnxruntime may use; a tiny network is fastest on one.

        Raises:
          LapjaxError: there is no such thing, or it is of another kind.

        Warns:
          TermsWarning: a shipped model's training data bind its use.
        """
        path = pretrained.find(source)
        if path.is_dir():
            return cls(*open_run(path))
        card, engine = open_file(path, threads=threads)
        pretrained.tell_terms(path)
        return cls(card, engine)

    def __repr__(self) -> str:
        return (
            f"Localizer({self.card.name!r}: {len(self.names)} points, {self.card.model.input_size} px input, "
            f"{self.card.precision}{'' if self.calibrated else ', not calibrated'})"
        )

    @property
    def scheme(self) -> Scheme:
        """What the points are."""
        return self.card.scheme

    @property
    def names(self) -> tuple[str, ...]:
        """What the points are called."""
        return self.card.scheme.names

    @property
    def calibrated(self) -> bool:
        """Whether results have a radius and a confidence."""
        return self.card.calibration is not None

    @property
    def level(self) -> float | None:
        """The probability with which a radius holds the true point."""
        return self.card.calibration.level if self.card.calibration else None

    @property
    def tolerance(self) -> float | None:
        """The error that a confidence is about, over sqrt(w * h) of the box."""
        return self.card.calibration.tolerance if self.card.calibration else None

    def __call__(self, image, box=None):
        """The landmarks of one face or several.

        Args:
          image: (H, W, 3) uint8, RGB; or what `images.read_image` reads: a path, the bytes of a file, a PIL image. These
            are turned upright by their EXIF, and the box is in the px of the upright image.
          box: the tight box of the face's landmarks, (min x, min y, max x, max y) in image px; or a list of such.

        Returns:
          A `Result`; for a list of boxes, a list of them, the same as one by one.

        Raises:
          LapjaxError: an image of another shape or type, an unreadable one, or a box that is none or lies outside.
        """
        pixels = _pixels(image)
        boxes, single = _boxes(box, pixels)
        # One at a time: the same numbers however many there are, and on one thread as fast.
        results = [self._locate(pixels, each) for each in boxes]
        return results[0] if single else results

    def _locate(self, pixels, box) -> Result:
        model = self.card.model
        crop, image_to_input = geometry.crop_image(pixels, box, factor=model.crop, size=model.input_size)
        to_image = geometry.invert(image_to_input)
        unit = geometry.linear_scale(to_image)
        size = geometry.box_size(box) / unit
        found = {key: value[0] for key, value in self._engine(crop[None], size[None]).items()}
        points = geometry.apply(to_image, found["points"].astype(np.float64))
        calibrated = "radius" in found
        return Result(
            points.astype(np.float32),
            np.asarray(unit * found["scale"], np.float32),
            self.names,
            np.asarray(unit * found["radius"], np.float32) if calibrated else None,
            np.asarray(found["confidence"], np.float32) if calibrated else None,
        )


def _pixels(image) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        return read_image(image)
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        advice = {2: "repeat a grey image three times: np.stack([grey] * 3, axis=-1)"}.get(image.ndim, "")
        if image.ndim == 3 and image.shape[2] == 4:
            advice = "drop its fourth channel: image[..., :3]"
        raise LapjaxError(
            f"image: its shape is {image.shape}, and it must be (height, width, 3), RGB; {advice or 'reshape it'}"
        )
    if image.dtype != np.uint8:
        raise LapjaxError(
            f"image: its type is {image.dtype}, and it must be uint8, 0 to 255; scale it to that range and convert it"
        )
    return image


def _boxes(box, pixels) -> tuple[np.ndarray, bool]:
    """The boxes as (N, 4) float64 after every check, and whether it was a single one."""
    if box is None:
        raise LapjaxError(
            "box: say where the face is, box=(x0, y0, x1, y1) in image px; lapjax does not find faces by itself yet"
        )
    try:
        boxes = np.asarray(box, np.float64)
    except (TypeError, ValueError):
        boxes = np.zeros(1)  # no box either way
    if boxes.shape == (0,) and isinstance(box, list | np.ndarray):
        return np.zeros((0, 4)), False
    if boxes.ndim not in (1, 2) or boxes.shape[-1] != 4:
        raise LapjaxError(f"box: {box!r} is not four numbers x0, y0, x1, y1, nor a list of such")
    height, width = pixels.shape[:2]
    for x0, y0, x1, y1 in boxes.reshape(-1, 4):
        said = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not np.isfinite([x0, y0, x1, y1]).all():
            raise LapjaxError(f"{said}: has NaN or infinity; give four finite numbers")
        if x0 >= x1 or y0 >= y1:
            raise LapjaxError(
                f"{said}: has no extent; it is min x, min y, max x, max y, the second corner right of and below the "
                "first, not a width and a height"
            )
        if x0 > width - 0.5 or y0 > height - 0.5 or x1 < -0.5 or y1 < -0.5:
            raise LapjaxError(
                f"{said}: lies outside the image of {width} x {height} px; give it in px of this image, upright"
            )
    return boxes.reshape(-1, 4), boxes.ndim == 1
