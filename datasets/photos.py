"""What a source folder holds, found and checked before any image is decoded: photos, their points and their split."""

import collections
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from lapjax.errors import LapjaxError
from lapjax.schemes import Scheme

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """One object (a face, a spine, a mouse) in one image file.

    Attributes:
      path: the image file.
      name: unique within the set and the same on every machine; for several objects in one file each has its own.
      landmarks: (K, 2) float, image px, pixel centres at integers; any value where not visible.
      visible: (K,) bool.
      box: (4,) min x, min y, max x, max y in image px; None: the centre square of the image.
      subset: which part of the set it comes from, "" where there are none.
    """

    path: pathlib.Path
    name: str
    landmarks: np.ndarray
    visible: np.ndarray
    box: np.ndarray | None
    subset: str = ""


@dataclasses.dataclass(frozen=True)
class Survey:
    """A checked source folder: the photos of every split, and what a user should be told about them.

    Attributes:
      splits: split name to photos; no split is empty.
      scheme: what the landmarks are; of 0 points for unlabelled photos.
      notes: sentences for the summary.
      skip_unreadable: leave out images that cannot be decoded, counted and named, instead of refusing the set.
      terms: under which the photos may be used, where whoever has them said so.
    """

    splits: dict[str, tuple[Photo, ...]]
    scheme: Scheme
    notes: tuple[str, ...] = ()
    skip_unreadable: bool = False
    terms: str | None = None

    def __post_init__(self):
        names = [photo.name for photos in self.splits.values() for photo in photos]
        refuse([f"two photos are called {name!r}: rename one" for name in repeated(names)])


def hash_fraction(key: str) -> float:
    """Where `key` falls in [0, 1): the first 64 bits of its SHA-256. It never moves when other photos come or go."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def hash_splits(
    photos: Sequence[Photo], carved: Sequence[str], *, groups=None
) -> dict[str, tuple[Photo, ...]]:
    """Splits photos by the hash of their name: a tenth to each split in `carved`, the rest to train.

    Args:
      photos: whatever is to be split.
      carved: split names; the first takes hashes below 0.1, the second below 0.2, and so on.
      groups: one key a photo; photos with the same key stay together. Their names by default.

    Raises:
      LapjaxError: too few photos for every split to have one.
    """
    groups = [photo.name for photo in photos] if groups is None else groups
    fractions = {key: hash_fraction(key) for key in groups}
    if len(fractions) <= len(carved):
        raise LapjaxError(
            f"{len(fractions)} photos cannot be split into train, {', '.join(carved)}: give at least {len(carved) + 1}"
        )
    split_of = {
        key: carved[int(10 * fraction)] if 10 * fraction < len(carved) else "train"
        for key, fraction in fractions.items()
    }
    # A set of a dozen photos may leave a tenth empty: it then takes the next photo in hash order from the fullest split.
    for split in ("train", *carved):
        while split not in split_of.values():
            held = list(split_of.values())
            fullest = max(("train", *carved), key=held.count)
            split_of[min((f, key) for key, f in fractions.items() if split_of[key] == fullest)[1]] = split
    found: dict[str, list[Photo]] = {split: [] for split in ("train", *carved)}
    for key, photo in zip(groups, photos, strict=True):
        found[split_of[key]].append(photo)
    return {split: tuple(members) for split, members in found.items()}


def source_folder(source: str | os.PathLike | None) -> pathlib.Path:
    """The folder at `source`. Raises LapjaxError where there is none, or an empty one."""
    if source is None:
        raise LapjaxError("no source folder given: say where the images are with --source DIR")
    folder = pathlib.Path(source).expanduser()
    if not folder.exists():
        raise LapjaxError(f"{folder}: no such folder; check the path given as source")
    if not folder.is_dir():
        raise LapjaxError(f"{folder} is not a folder; give the folder that holds the images")
    if not any(folder.iterdir()):
        raise LapjaxError(f"{folder} is empty; give the folder that holds the images")
    return folder


def find_file(folder: pathlib.Path, given: str | os.PathLike) -> pathlib.Path:
    """The file `given`, looked for in the source folder and then as a path. Raises LapjaxError where neither is one."""
    for path in (folder / given, pathlib.Path(given).expanduser()):
        if path.is_file():
            return path
    raise LapjaxError(f"{given}: no such file, neither in {folder} nor as a path of its own; check its name")


def listed_images(folder: pathlib.Path, names: Sequence[str], table: pathlib.Path) -> list[pathlib.Path]:
    """The images that `table` lists by their path in the folder.

    Raises:
      LapjaxError: a path that leaves the folder, or no file there.
    """
    problems = []
    for name in dict.fromkeys(names):
        path = pathlib.PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            problems.append(f"{table} lists {name}: write paths as they are below {folder}")
        elif not (folder / path).is_file():
            problems.append(
                f"{table} lists {name}, which is not in {folder}: add the image, or remove its row"
            )
    refuse(problems)
    return [folder / name for name in names]


def list_images(folder: pathlib.Path, *, recursive: bool = False) -> list[pathlib.Path]:
    """The image files of a folder by suffix, sorted; hidden files and folders (such as `._x.jpg`) are passed over."""
    files = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in files
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def pair_with_pts(
    folder: pathlib.Path, *, recursive: bool = False
) -> tuple[dict[pathlib.Path, pathlib.Path], list]:
    """The images of a folder that have a `.pts` file beside them, and those that have none.

    Returns:
      Image path to .pts path, and the list of images without one.

    Raises:
      LapjaxError: two images with one stem, or a .pts file without its image.
    """
    images, problems = {}, []
    for path in list_images(folder, recursive=recursive):
        other = images.setdefault(path.with_suffix(""), path)
        if other is not path:
            problems.append(
                f"{path.parent} holds both {other.name} and {path.name}, and one .pts file cannot serve both: remove one"
            )
    points = folder.rglob("*.pts") if recursive else folder.glob("*.pts")
    beside = {path.with_suffix(""): path for path in sorted(points) if not path.name.startswith(".")}
    problems += [
        f"{path} has no image beside it (such as {path.stem}.jpg or {path.stem}.png): add the image or remove the file"
        for stem, path in beside.items()
        if stem not in images
    ]
    refuse(problems)
    return (
        {image: beside[stem] for stem, image in images.items() if stem in beside},
        [image for stem, image in images.items() if stem not in beside],
    )


def refuse(problems: Sequence[str | LapjaxError]) -> None:
    """Raises the first of the problems as a LapjaxError that says how many more there are; none, nothing happens."""
    if problems:
        more = (
            f" ({len(problems) - 1} more such problem{'s' * (len(problems) > 2)})"
            if len(problems) > 1
            else ""
        )
        raise LapjaxError(f"{problems[0]}{more}")


def repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, each once, in order."""
    return [name for name, times in collections.Counter(names).items() if times > 1]
