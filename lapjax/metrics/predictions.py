"""Predictions that anyone made: files of points, read, checked, and matched with their truth image by image.

A file is an .npz or a JSON object with these keys; all but the points are optional:

  prediction    (N, K, 2) points (x, y) in px of the original image, pixel centres at integers
  ground_truth  (N, K, 2) true points, in the same file or in one of its own
  scale         (N, K, 2) Laplace scales b_x and b_y of the predictions, or (N, K) one for both, in image px
  image         (N,) names; the rows of two files that both have them are matched by name, else they are in one order
  subset        (N,) names
  visible       (N, K) bool, with the truth: where it is known
  box           (N, 4) min x, min y, max x, max y in image px, with the truth; else the tight box of the true points
"""

import json
import os
import pathlib
import zipfile

import numpy as np

from lapjax import geometry
from lapjax.errors import LapjaxError
from lapjax.metrics import scoring
from lapjax.samples import Samples
from lapjax.schemes import SCHEMES, Scheme

__all__ = ["match"]

_KEYS = ("prediction", "ground_truth", "scale", "image", "subset", "visible", "box")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pts", ".webp", ".tif", ".tiff")


def match(
    predictions: str | os.PathLike, *, truth: str | os.PathLike | Samples | None = None, scheme: Scheme
) -> scoring.Matched:
    """Reads a file of predictions and matches it with the truth.

    Args:
      predictions: the file; the module's text says what it holds.
      truth: a file with `ground_truth`, labelled faces, or None for the `ground_truth` of the predictions' own file.
      scheme: what the K points are.

    Returns:
      All images in the order of the truth; the conditions say where both came from and how they were matched.

    Raises:
      LapjaxError: naming file, key and remedy: a file that cannot be read, a missing key, points of another scheme,
        NaN, different counts, or names that do not match.
    """
    guess = _read(predictions)
    prediction = _points(predictions, guess, "prediction", scheme)
    images = len(prediction)
    scale, guess_names = _scale(predictions, guess, prediction), _names(predictions, guess, images)
    if isinstance(truth, Samples):
        known, place = _labels(truth), f"{truth.meta['dataset']} {truth.meta['split']}"
    elif truth is not None:
        known, place = _read(truth), os.fspath(truth)
    else:
        known, place = guess, os.fspath(predictions)
    labels = _truth(place, known, scheme)
    true_images = len(labels["truth"])
    names = _names(place, known, true_images)
    if known is guess:
        rows, _ = _rows(predictions, None, images, place, None, true_images)
        how = "one file"
    else:
        rows, how = _rows(predictions, guess_names, images, place, names, true_images)
    if names is None:
        names = np.arange(images).astype(str) if guess_names is None else guess_names[rows]
    subset = None
    if "subset" in known:
        subset = _column(place, known, "subset", (images,)).astype(str)
    elif "subset" in guess:
        subset = _column(predictions, guess, "subset", (images,)).astype(str)[rows]
    conditions = {"predictions": os.fspath(predictions), "truth": place, "matched": how}
    if isinstance(truth, Samples):
        conditions |= {"dataset": truth.meta["dataset"], "split": truth.meta["split"]}
    return scoring.Matched(
        prediction=prediction[rows],
        **labels,
        image=names,
        subset=subset,
        scheme=scheme,
        scale=None if scale is None else scale[rows],
        scale_to_image=None if scale is None else np.ones(images),
        conditions=conditions | {"scale_unit": "image px"},
    )


def _labels(samples: Samples) -> dict:
    """Labelled faces as the keys of a file."""
    return {
        "ground_truth": np.where(samples.visible[..., None], scoring.truth(samples), 0),
        "visible": samples.visible,
        "box": samples.box,
        "image": samples.name,
        "subset": samples.subset,
    }


def _read(path) -> dict:
    """The known keys of a file as they come, and under "" the names of the others."""
    path = pathlib.Path(path)
    try:
        if path.suffix.lower() == ".npz":
            with open(path, "rb") as opened:
                file = np.load(opened, allow_pickle=False)
                if isinstance(file, np.ndarray):
                    raise ValueError("it holds one array without a name")
                found = {key: file[key] for key in _KEYS if key in file.files}
                rest = [key for key in file.files if key not in found]
        elif path.suffix.lower() == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise LapjaxError(
                    f"{path} holds a {type(content).__name__}: give a JSON object with `prediction`"
                )
            found = {key: content[key] for key in _KEYS if content.get(key) is not None}
            rest = [key for key in content if key not in found]
        else:
            raise LapjaxError(f"{path}: points come as an .npz or a .json file; convert it")
    except OSError as error:
        raise LapjaxError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, LapjaxError):
            raise
        raise LapjaxError(f"cannot read {path}: {error}; write it anew, without pickled objects") from error
    return found | {"": rest}


def _require(path, file: dict, key: str, remedy: str) -> None:
    if key not in file:
        others = ", ".join(f"`{other}`" for other in [*file, *file.get("", [])] if other)
        raise LapjaxError(f"{path} has no key `{key}`, only {others or 'none'}: {remedy}")


def _column(path, file: dict, key: str, shape: tuple, kind=None) -> np.ndarray:
    """One key as an array of that shape; None in the shape stands for any length."""
    _require(path, file, key, "add it, or rename the key that holds it")
    try:
        values = np.asarray(file[key], kind)
    except (ValueError, TypeError) as error:
        raise LapjaxError(
            f"{path}: `{key}` is not an array of numbers: give every row the same shape"
        ) from error
    fits = len(values.shape) == len(shape)
    if not fits or any(want not in (None, got) for want, got in zip(shape, values.shape, strict=True)):
        said = ", ".join("N" if length is None else str(length) for length in shape)
        raise LapjaxError(
            f"{path}: `{key}` has shape {values.shape}, expected ({said}): reshape or complete it"
        )
    return values


def _finite(path, key: str, values: np.ndarray, remedy: str) -> None:
    bad = ~np.all(np.isfinite(values.reshape(len(values), -1)), axis=1)
    if bad.any():
        raise LapjaxError(
            f"{path}: `{key}` has NaN or infinity in {np.count_nonzero(bad)} of {len(bad)} rows, first in row "
            f"{np.argmax(bad)} (from 0): {remedy}"
        )


def _points(path, file, key, scheme: Scheme) -> np.ndarray:
    points = _column(path, file, key, (None, None, 2), np.float64)
    if points.shape[1] != scheme.count:
        fitting = [known.name for known in SCHEMES.values() if known.count == points.shape[1]]
        hint = f" (of that many: {', '.join(fitting)})" if fitting else ""
        raise LapjaxError(
            f"{path}: `{key}` has {points.shape[1]} points an image and the scheme {scheme.name!r} has {scheme.count}: "
            f"say with --scheme what they are, by name or as a JSON file{hint}"
        )
    if not len(points):
        raise LapjaxError(f"{path}: `{key}` has no images: give at least one")
    if key == "prediction":
        _finite(path, key, points, "give every image its points, or leave the image out of the truth too")
    return points


def _truth(path, file: dict, scheme: Scheme) -> dict:
    """truth, visible and box of a file, checked."""
    _require(path, file, "ground_truth", "name the truth with --truth FILE or with --dataset and --split")
    points = _points(path, file, "ground_truth", scheme)
    visible = None
    if "visible" in file:
        visible = _column(path, file, "visible", points.shape[:2])
        if not np.isin(visible, (0, 1)).all():
            raise LapjaxError(f"{path}: `visible` holds more than true and false: make it boolean")
        visible = visible.astype(bool)
        points = np.where(visible[..., None], points, 0)
    _finite(path, "ground_truth", points, "mark such points as false in `visible`, (N, K) bool")
    if "box" in file:
        box = _column(path, file, "box", (len(points), 4), np.float64)
        _finite(path, "box", box, "correct it, or drop the key for tight boxes of the truth")
    else:
        box = geometry.box_of(points, visible)
    return {"truth": points, "visible": visible, "box": box}


def _scale(path, file: dict, prediction) -> np.ndarray | None:
    if "scale" not in file:
        return None
    one = np.ndim(file["scale"]) == 2
    scale = _column(path, file, "scale", prediction.shape[:2] if one else prediction.shape, np.float64)
    _finite(path, "scale", scale, "give every point its scale in image px, or drop the key")
    if (scale < 0).any():
        raise LapjaxError(f"{path}: `scale` has negative numbers: give Laplace scales b in image px")
    return np.broadcast_to(scale[..., None], prediction.shape) if one else scale


def _names(path, file: dict, images: int) -> np.ndarray | None:
    if "image" not in file:
        return None
    names = _column(path, file, "image", (images,)).astype(str)
    found, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        raise LapjaxError(
            f"{path}: `image` repeats {str(found[counts > 1][0])!r}: give every image its own name"
        )
    return names


def _rows(path, names, count: int, place, true_names, true_count: int) -> tuple[np.ndarray, str]:
    """The rows of the predictions in the order of the truth, and how they were found."""
    if names is None or true_names is None:
        if count != true_count:
            raise LapjaxError(
                f"{path}: `prediction` has {count} images and {place} has {true_count}: give the same images in the same "
                "order, or `image` names in both"
            )
        return np.arange(count), "in order, without names"
    for key, how in ((str, "by image name"), (_stem, "by image name without folder and suffix")):
        rows = {key(str(name)): row for row, name in enumerate(names)}
        wanted = [key(str(name)) for name in true_names]
        if len(rows) == count == true_count and rows.keys() == set(wanted):
            return np.array([rows[name] for name in wanted]), how
    missing, extra = set(true_names) - set(names), set(names) - set(true_names)
    raise LapjaxError(
        f"{path}: `image` does not name the images of {place}: {len(missing)} are missing"
        + (f" ({scoring.some(missing)})" if missing else "")
        + f" and {len(extra)} unknown"
        + (f" ({scoring.some(extra)})" if extra else "")
        + ": use the same names in both, each once"
    )


def _stem(name: str) -> str:
    path = pathlib.PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name
