"""300W: 68 points on the faces of AFW, HELEN, LFPW and iBUG, read from the official folders."""

import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from lapjax import geometry
from lapjax.datasets.annotations import read_pts
from lapjax.datasets.builder import ChipBuilder
from lapjax.datasets.photos import Photo, Survey, hash_splits, pair_with_pts, refuse, source_folder
from lapjax.errors import LapjaxError
from lapjax.schemes import get_scheme

# Folder to the number of faces in the official release.
OFFICIAL = {
    "afw": 337,
    "helen/trainset": 2000,
    "helen/testset": 330,
    "lfpw/trainset": 811,
    "lfpw/testset": 224,
    "ibug": 135,
}
COMMON = ("helen/testset", "lfpw/testset")
CHALLENGE = "ibug"

# Training photos that nearly repeat a photo of the common test set (lfpw/testset/image_0007 and image_0096).
NEAR_DUPLICATES = ("lfpw/trainset/image_0862", "lfpw/trainset/image_0828")


class Builder(ChipBuilder, skip_registration=True):
    """Splits train, validation, calibration and common, and challenge where `ibug` is present."""

    RELEASE_NOTES = {"1.0.0": "First release."}
    TERMS = (
        "300W and its parts: research, non-commercial use only; images and annotations may not be passed on"
    )
    pkg_dir_path = tfds.core.Path(__file__).parent

    @classmethod
    def survey(cls, source: str | os.PathLike, *, keep_near_duplicates: bool = False) -> Survey:
        """Reads the official layout; see README.md. `keep_near_duplicates` keeps `NEAR_DUPLICATES` in train.

        Raises:
          LapjaxError: a missing or empty folder, a photo without points or points without a photo, two photos with
            one stem, or a bad .pts file.
        """
        root, scheme = source_folder(source), get_scheme("300w")
        pairs = {folder: pair_with_pts(root / folder) for folder in OFFICIAL if (root / folder).is_dir()}
        _check_folders(root, pairs)
        refuse(
            [
                f"{image} has no annotation: add {image.stem}.pts beside it, or remove the image"
                for _, bare in pairs.values()
                for image in bare
            ]
        )
        photos, problems = {}, []
        for folder, (files, _) in pairs.items():
            photos[folder] = []
            for image, annotation in files.items():
                try:
                    photos[folder].append(_photo(folder, image, read_pts(annotation, count=scheme.count)))
                except LapjaxError as error:
                    problems.append(error)
        refuse(problems)
        notes = [
            f"{folder}: {len(members)} of the {OFFICIAL[folder]} faces of the official release"
            for folder, members in photos.items()
            if len(members) != OFFICIAL[folder]
        ]
        if CHALLENGE not in photos:
            notes.append("ibug is not there: no challenge split, and no full set")
        if not keep_near_duplicates:
            members = photos["lfpw/trainset"]
            photos["lfpw/trainset"] = [photo for photo in members if photo.name not in NEAR_DUPLICATES]
            if left_out := len(members) - len(photos["lfpw/trainset"]):
                notes.append(
                    f"left out of training: {left_out} near-duplicates of photos of the common test set"
                )
        return Survey(splits=_splits(photos), scheme=scheme, notes=tuple(notes))


def _check_folders(root, pairs):
    missing = [folder for folder in OFFICIAL if folder not in pairs and folder != CHALLENGE]
    empty = [folder for folder, (files, bare) in pairs.items() if not files and not bare]
    if missing or empty:
        found = [f"{folder} ({len(files)} faces)" for folder, (files, _) in pairs.items() if files]
        others = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))[:8]
        problems = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(empty)} empty"] * bool(
            empty
        )
        raise LapjaxError(
            f"{root} is not the 300W layout: {' and '.join(problems)}; found {', '.join(found) or ', '.join(others)}."
            f" Give the folder that holds {', '.join(OFFICIAL)} (ibug may be absent)"
        )


def _photo(folder: str, image: pathlib.Path, landmarks: np.ndarray) -> Photo:
    return Photo(
        path=image,
        # 200 file names of LFPW occur in both its folders: only with the folder is a name unique.
        name=f"{folder}/{image.stem}",
        landmarks=landmarks,
        visible=np.ones(len(landmarks), bool),
        box=geometry.box_of(landmarks),
        subset=folder.split("/")[0],
    )


def _group(photo: Photo) -> str:
    """One key a photograph: AFW and HELEN number the faces of one as `_1`, `_2`, ..."""
    stem = photo.name.rsplit("/", 1)[-1]
    return f"{photo.subset}/{stem if photo.subset == 'lfpw' else stem.rsplit('_', 1)[0]}"


def _splits(photos: dict[str, list[Photo]]) -> dict[str, tuple[Photo, ...]]:
    splits: dict[str, tuple[Photo, ...]] = {"train": (), "validation": (), "calibration": ()}
    for folder in ("afw", "helen/trainset", "lfpw/trainset"):
        # AFW, the smallest, gives no calibration photos.
        carved = ("validation",) if folder == "afw" else ("validation", "calibration")
        members = photos[folder]
        for split, part in hash_splits(members, carved, groups=[_group(photo) for photo in members]).items():
            splits[split] += part
    splits["common"] = tuple(photo for folder in COMMON for photo in photos[folder])
    if CHALLENGE in photos:
        splits["challenge"] = tuple(photos[CHALLENGE])
    return splits
