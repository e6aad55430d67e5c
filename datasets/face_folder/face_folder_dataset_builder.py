"""Any folder of unlabelled images, as the game's unlabelled faces."""

import os

import numpy as np
import tensorflow_datasets as tfds

from lapjax.datasets.annotations import read_boxes
from lapjax.datasets.builder import ChipBuilder
from lapjax.datasets.photos import (
    Photo,
    Survey,
    find_file,
    list_images,
    listed_images,
    repeated,
    source_folder,
)
from lapjax.errors import LapjaxError
from lapjax.schemes import anonymous


class Builder(ChipBuilder, skip_registration=True):
    """One split, train, of records without landmarks."""

    RELEASE_NOTES = {"1.0.0": "First release."}
    TERMS = "those of your own images"
    pkg_dir_path = tfds.core.Path(__file__).parent

    @classmethod
    def survey(
        cls,
        source: str | os.PathLike,
        *,
        boxes: str | os.PathLike | None = None,
        box: str | tuple[float, float, float] | None = None,
        terms: str | None = None,
    ) -> Survey:
        """Lists the images; see README.md. Images that cannot be decoded are left out later, counted and named.

        Args:
          source: a folder, searched with all folders in it.
          boxes: a boxes.csv, one row a face; images that it does not list are left out.
          box: one box for every image, "SIDE,CX,CY" or (side, cx, cy) in px; by default the centre square.
          terms: under which the images may be used, in a sentence.

        Raises:
          LapjaxError: no images, both `boxes` and `box`, or bad ones.
        """
        if boxes is not None and box is not None:
            raise LapjaxError("boxes and box were both given: give the one that says where the faces are")
        root = source_folder(source)
        if boxes is not None:
            table = find_file(root, boxes)
            names, corners = read_boxes(table)
            images = listed_images(root, names, table)
            # One image may hold several faces; its row number tells them apart.
            several = set(repeated(names))
            names = [f"{name}#{row}" if name in several else name for row, name in enumerate(names)]
        else:
            images = list_images(root, recursive=True)
            names = [image.relative_to(root).as_posix() for image in images]
            corners = [None if box is None else _square(box)] * len(images)
        if not images:
            raise LapjaxError(f"{root} holds no images (by their suffix): give the folder that does")
        points, visible = np.zeros((0, 2)), np.zeros(0, bool)
        photos = [
            Photo(image, name, points, visible, where)
            for image, name, where in zip(images, names, corners, strict=True)
        ]
        return Survey({"train": tuple(photos)}, anonymous(0), skip_unreadable=True, terms=terms)


def _square(box) -> np.ndarray:
    try:
        side, x, y = map(float, box.split(",") if isinstance(box, str) else box)
    except (TypeError, ValueError) as error:
        raise LapjaxError(
            f"box {box!r} is not SIDE,CX,CY: give three numbers in px, such as 99,89,102"
        ) from error
    if not (np.isfinite([side, x, y]).all() and side > 0):
        raise LapjaxError(f"box {box!r}: side must be above 0, and all three finite")
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
