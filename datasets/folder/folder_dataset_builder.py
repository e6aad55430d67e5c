"""Your own images with your own points, from a points.csv or from .pts files beside the images."""

import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from lapjax import geometry
from lapjax.datasets.annotations import read_boxes, read_points, read_pts
from lapjax.datasets.builder import ChipBuilder
from lapjax.datasets.photos import (
    Photo,
    Survey,
    find_file,
    hash_splits,
    list_images,
    listed_images,
    pair_with_pts,
    refuse,
    repeated,
    source_folder,
)
from lapjax.errors import LapjaxError
from lapjax.schemes import Scheme, anonymous, get_scheme

POINTS_FILE, SCHEME_FILE = "points.csv", "scheme.json"
CARVED = ("validation", "calibration")


class Builder(ChipBuilder, skip_registration=True):
    """Splits train, validation, calibration and test."""

    RELEASE_NOTES = {"1.0.0": "First release."}
    TERMS = "those of your own images"
    pkg_dir_path = tfds.core.Path(__file__).parent

    @classmethod
    def survey(
        cls,
        source: str | os.PathLike,
        *,
        points: str | os.PathLike | None = None,
        scheme: Scheme | str | os.PathLike | None = None,
        boxes: str | os.PathLike | None = None,
        terms: str | None = None,
    ) -> Survey:
        """Reads the annotations; see README.md.

        Args:
          source: the folder of the images.
          points: a points.csv; by default the one in the folder, or else the .pts files beside the images.
          scheme: what the points are; by default scheme.json of the folder, or else points of which nothing is known.
          boxes: a boxes.csv, one row an image; by default the tight box of an image's points.
          terms: under which the images may be used, in a sentence.

        Raises:
          LapjaxError: bad annotations, a missing image, or a scheme with another number of points.
        """
        root = source_folder(source)
        if points is None and (root / POINTS_FILE).is_file():
            points = POINTS_FILE
        if points is None:
            images, names, landmarks, labelled = _read_pts_files(root)
        else:
            table = find_file(root, points)
            names, landmarks, labelled = read_points(table)
            images = listed_images(root, names, table)
        if boxes is None:
            corners = _tight_boxes(images, landmarks, labelled)
        else:
            corners = _given_boxes(root, boxes, names)
        photos = [Photo(*row) for row in zip(images, names, landmarks, labelled, corners, strict=True)]
        notes = []
        if bare := len(set(list_images(root, recursive=True)) - set(images)):
            notes.append(f"{bare} images without points left out")
        splits, how = _splits(photos)
        found = _scheme(root, scheme, landmarks.shape[1])
        return Survey(splits=splits, scheme=found, notes=(*notes, how), terms=terms)


def _read_pts_files(root):
    pairs, _ = pair_with_pts(root, recursive=True)
    if not pairs:
        raise LapjaxError(
            f"{root} has no {POINTS_FILE} and no .pts files beside its images: give the points with --points FILE"
        )
    points, problems, count = [], [], None
    for path in pairs.values():
        try:
            points.append(read_pts(path, count=count))
            count = count or len(points[0])
        except LapjaxError as error:
            problems.append(error)
    refuse(problems)
    landmarks = np.stack(points)
    names = [image.relative_to(root).as_posix() for image in pairs]
    return list(pairs), names, landmarks, np.ones(landmarks.shape[:2], bool)


def _tight_boxes(images, landmarks, labelled):
    boxes = geometry.box_of(landmarks, labelled)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(-1)
    refuse(
        [
            f"{image}: its points span no box: label two different points at least, or give boxes with --boxes FILE"
            for image, side in zip(images, sides, strict=True)
            if not side > 0
        ]
    )
    return boxes


def _given_boxes(root, given, names):
    table = find_file(root, given)
    listed, boxes = read_boxes(table)
    by_name = dict(zip(listed, boxes, strict=True))
    problems = [f"{table} has no box for {name}: add its row" for name in names if name not in by_name]
    problems += [
        f"{table} has several boxes for {name}: keep the one of its points" for name in repeated(listed)
    ]
    refuse(problems)
    return np.stack([by_name[name] for name in names])


def _scheme(root: pathlib.Path, given, count: int) -> Scheme:
    if given is None:
        given = root / SCHEME_FILE if (root / SCHEME_FILE).is_file() else anonymous(count)
    if isinstance(given, Scheme):
        scheme = given
    else:
        scheme = get_scheme(root / given if (root / given).is_file() else given)
    if scheme.count != count:
        raise LapjaxError(
            f"scheme {scheme.name} has {scheme.count} points and the images in {root} have {count}:"
            " give the scheme they were labelled with"
        )
    return scheme


def _splits(photos):
    """The splits, and a sentence that says how they were made."""
    top = [photo.name.split("/")[0] for photo in photos]
    if "train" in top and "test" in top:
        test = tuple(photo for photo, folder in zip(photos, top, strict=True) if folder == "test")
        rest = [photo for photo, folder in zip(photos, top, strict=True) if folder != "test"]
        how = "test is the folder test; by the hash of their names, about a tenth each of the others is validation and calibration"
        return hash_splits(rest, CARVED) | {"test": test}, how
    how = "by the hash of their names, about a tenth each of the images is validation, calibration and test"
    return hash_splits(photos, (*CARVED, "test")), how
