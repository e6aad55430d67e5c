"""AFLW: 19 points on faces of every pose, as Zhu et al. (CVPR 2016) re-annotated them."""

import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from lapjax.datasets.builder import ChipBuilder
from lapjax.datasets.photos import Photo, Survey, hash_splits, refuse, source_folder
from lapjax.errors import LapjaxError
from lapjax.schemes import get_scheme

ANNOTATIONS = "AFLWinfo_release.mat"
IMAGES = "data/flickr"
OFFICIAL = 24386
TRAIN = 20000  # the first so many of `ra`


class Builder(ChipBuilder, skip_registration=True):
    """Splits train, validation, calibration and test."""

    RELEASE_NOTES = {"1.0.0": "First release."}
    TERMS = "AFLW: research, non-commercial use only; images and annotations may not be passed on"
    pkg_dir_path = tfds.core.Path(__file__).parent

    @classmethod
    def survey(cls, source: str | os.PathLike) -> Survey:
        """Reads AFLWinfo_release.mat and checks that every image it names is below data/flickr; see README.md.

        Raises:
          LapjaxError: no or a bad .mat file, or missing images.
        """
        root, scheme = source_folder(source), get_scheme("aflw")
        table = root / ANNOTATIONS
        fields = _read_mat(table, scheme.count)
        images = [root / IMAGES / name for name in fields["names"]]
        refuse(
            [
                f"{image}, which {table.name} names, is not there: restore {IMAGES} of the official release"
                for image in dict.fromkeys(images)
                if not image.is_file()
            ]
        )
        photos = [
            Photo(
                path=image,
                name=f"{name}#{row + 1}",
                landmarks=landmarks,
                visible=visible,
                box=box,
                subset="frontal" if visible.all() else "rest",
            )
            for row, (image, name, landmarks, visible, box) in enumerate(
                zip(images, *(fields[key] for key in ("names", "landmarks", "visible", "boxes")), strict=True)
            )
        ]
        train, test = ([photos[row] for row in part] for part in np.split(fields["order"], [TRAIN]))
        splits = hash_splits(
            train, ("validation", "calibration"), groups=[photo.name.split("#")[0] for photo in train]
        )
        notes = () if len(photos) == OFFICIAL else (f"{len(photos)} of the {OFFICIAL} faces of the release",)
        return Survey(splits=splits | {"test": tuple(test)}, scheme=scheme, notes=notes)


def _read_mat(path: pathlib.Path, count: int) -> dict:
    """names (N,), landmarks (N, K, 2) and boxes (N, 4) in image px, visible (N, K), order (N,) from 0."""
    import scipy.io

    if not path.is_file():
        raise LapjaxError(
            f"{path}: no such file; get {path.name} of Zhu et al. (2016) and put it beside the folder {IMAGES}"
        )
    try:
        table = scipy.io.loadmat(path)
    except Exception as error:  # what it raises on bytes that are no .mat file depends on the bytes
        raise LapjaxError(f"{path} cannot be read as a .mat file ({error}): get it again") from error
    missing = [key for key in ("data", "bbox", "mask_new", "nameList", "ra") if key not in table]
    if missing:
        raise LapjaxError(f"{path} has no {', '.join(missing)}: get the file of the release again")
    rows = len(table["data"])
    for key, shape in {"data": (rows, 2 * count), "bbox": (rows, 4), "mask_new": (rows, count)}.items():
        if table[key].shape != shape or not np.isfinite(table[key]).all():
            raise LapjaxError(
                f"{path}: {key} is {table[key].shape} and must be {shape}, all finite: get the file again"
            )
    order = table["ra"].ravel().astype(np.int64) - 1
    if not np.array_equal(np.sort(order), np.arange(rows)):
        raise LapjaxError(f"{path}: ra is not a permutation of 1 to {rows}: get the file again")
    if table["nameList"].size != rows:
        raise LapjaxError(
            f"{path}: nameList has {table['nameList'].size} names for {rows} faces: get the file again"
        )
    if rows <= TRAIN:
        raise LapjaxError(
            f"{path} has {rows} faces, and the first {TRAIN} are for training: get the whole file"
        )
    left, right, top, bottom = table["bbox"].astype(np.float64).T
    empty = np.flatnonzero(~((right > left) & (bottom > top)))
    refuse([f"{path}: bbox of face {row + 1} has no extent: correct or remove it" for row in empty])
    return {
        "names": [str(cell.ravel()[0]) for cell in table["nameList"].ravel()],
        "landmarks": np.stack(np.split(table["data"].astype(np.float64), 2, axis=1), axis=-1),
        "boxes": np.stack([left, top, right, bottom], axis=-1),
        "visible": table["mask_new"] > 0,
        "order": order,
    }
