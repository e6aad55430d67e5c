"""Boxes of unlabelled faces from a model's own points, so that they are framed as the labelled faces are.

A set of unlabelled faces is prepared twice: first with a rough box for every image, then, once a supervised model is
there, with the tight box of the points that it finds. D is then not shown two framings to tell apart.
"""

import csv
import os

import numpy as np

from lapjax import geometry
from lapjax.checkpoints.run import Run
from lapjax.evaluation.evaluate import predict
from lapjax.files import replacing
from lapjax.samples import Samples

__all__ = ["find_boxes", "write_boxes"]


def find_boxes(run: Run, samples: Samples) -> np.ndarray:
    """The tight boxes (N, 4) of the points that a trained model finds, image px: min x, min y, max x, max y.

    Raises:
      LapjaxError: as `predict`.
    """
    points = predict(run, samples).points
    return geometry.box_of(points, np.ones(points.shape[:2], bool))


def write_boxes(path: str | os.PathLike, samples: Samples, boxes: np.ndarray) -> None:
    """Writes a boxes.csv as `prepare("face_folder", boxes=...)` reads it, beside its place and then renamed.

    Args:
      path: of the CSV.
      samples: N of them, named by their paths.
      boxes: (N, 4) image px.

    Raises:
      LapjaxError: the file cannot be written.
    """
    with (
        replacing(path, "cannot write {path}: {reason}; choose another --out") as part,
        open(part, "w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(["path", "x0", "y0", "x1", "y1"])
        for name, box in zip(samples.name, boxes, strict=True):
            # Where one image holds several faces, their names end in the row they came from.
            rows.writerow([str(name).partition("#")[0], *(f"{value:.2f}" for value in box)])
