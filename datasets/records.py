"""The record that every prepared set stores: one square chip with its points and its way back to the image."""

import concurrent.futures
import os
from collections.abc import Callable, Sequence

import numpy as np

from lapjax import geometry
from lapjax.datasets.photos import Photo, refuse
from lapjax.errors import LapjaxError
from lapjax.images import read_image, write_jpeg

FORMAT = "lapjax"  # marks the metadata of sets whose records are these
CHIP_SIZE = 192  # px: a crop of 1.25 boxes then has 133, more than most networks see
CHIP_FACTOR = 1.8  # side of the chip over the longer side of the box
QUALITY = 95  # of the stored JPEG

# Annotators do click beside the image where a chin is cut off; beyond half a box it is another image's annotation.
FAR_OUTSIDE = 0.5


def features(chip_size: int, count: int) -> dict:
    """The TFDS features of a record with `count` landmarks, as a `FeaturesDict`'s argument."""
    import tensorflow_datasets as tfds

    return {
        "image": tfds.features.Image(shape=(chip_size, chip_size, 3), encoding_format="jpeg"),
        "landmarks": tfds.features.Tensor(shape=(count, 2), dtype=np.float32),
        "visible": tfds.features.Tensor(shape=(count,), dtype=np.bool_),
        "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
        "name": tfds.features.Text(),
        "subset": tfds.features.Text(),
        "image_to_chip": tfds.features.Tensor(shape=(2, 3), dtype=np.float32),
    }


def make_record(
    image: np.ndarray, photo: Photo, *, chip_size: int = CHIP_SIZE, chip_factor: float = CHIP_FACTOR
) -> tuple[dict, float]:
    """Crops one photo to its chip.

    Args:
      image: (H, W, 3) uint8, the decoded photo, upright.
      photo: its points and box in image px.
      chip_size: side S of the chip in px.
      chip_factor: side of the chip over the longer side of the box.

    Returns:
      The record: image (S, S, 3) uint8, landmarks (K, 2) float32 chip px with zeros where not visible, visible (K,)
      bool, box (4,) float32 image px, name, subset, image_to_chip (2, 3) float32; and how far, in image px, its
      points lie outside the image (0 where none does).

    Raises:
      LapjaxError: a box without extent, or points so far outside that they belong to another image.
    """
    height, width = image.shape[:2]
    box = centre_square(width, height) if photo.box is None else np.asarray(photo.box, np.float64)
    side = max(box[2] - box[0], box[3] - box[1])
    if not side > 0:
        raise LapjaxError(
            f"{photo.path}: the points of {photo.name} span no box: label two different points at least, or give boxes"
        )
    outside = 0.0
    if photo.visible.any():
        x, y = photo.landmarks[photo.visible].T
        outside = float(
            max(0.0, -0.5 - min(x.min(), y.min()), x.max() - (width - 0.5), y.max() - (height - 0.5))
        )
    if outside > FAR_OUTSIDE * side:
        raise LapjaxError(
            f"{photo.path}: a point of {photo.name} lies {outside:.0f} px outside the {width} x {height} px image:"
            " check that the annotation belongs to this image, at this size"
        )
    try:
        chip, image_to_chip = geometry.crop_image(image, box, factor=chip_factor, size=chip_size)
    except LapjaxError as error:
        raise LapjaxError(f"{photo.path}: {error}") from error
    landmarks = geometry.apply(image_to_chip, np.asarray(photo.landmarks, np.float64))
    record = {
        "image": chip,
        "landmarks": np.where(photo.visible[:, None], landmarks, 0.0).astype(np.float32),
        "visible": photo.visible.astype(bool),
        "box": box.astype(np.float32),
        "name": photo.name,
        "subset": photo.subset,
        "image_to_chip": image_to_chip.astype(np.float32),
    }
    return record, outside


def centre_square(width: int, height: int) -> np.ndarray:
    """The box (4,) of the largest centred square of an image, in its px."""
    half = (min(width, height) - 1) / 2
    x, y = (width - 1) / 2, (height - 1) / 2
    return np.array([x - half, y - half, x + half, y + half])


def read_records(
    photos: Sequence[Photo],
    *,
    chip_size: int,
    chip_factor: float,
    quality: int,
    skip_unreadable: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[dict | None], list[str], list[str]]:
    """Decodes, crops and encodes the photos on a few threads; all in memory, about 10 kB a photo at the defaults.

    Args:
      photos: what to read.
      chip_size, chip_factor: see `make_record`.
      quality: of the chips' JPEG, 1 to 100.
      skip_unreadable: give None for photos that cannot be decoded instead of refusing.
      progress: called with (done, total) as photos are read.

    Returns:
      A record a photo, its image as JPEG bytes; what was wrong with the unreadable photos; and notes for the user.

    Raises:
      LapjaxError: the first bad photo by name, and how many more there are.
    """

    def one(photo: Photo):
        try:
            record, outside = make_record(
                read_image(photo.path), photo, chip_size=chip_size, chip_factor=chip_factor
            )
        except LapjaxError as error:
            return error, 0.0
        return record | {"image": write_jpeg(record["image"], quality)}, outside

    results = []
    # Pillow lets go of the interpreter lock while it decodes, resizes and encodes.
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for done, result in enumerate(pool.map(one, photos), start=1):
                results.append(result)
                if progress:
                    progress(done, len(photos))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    errors = [record for record, _ in results if isinstance(record, LapjaxError)]
    notes = []
    if not skip_unreadable or len(errors) == len(photos):
        refuse(errors)
    elif errors:
        notes.append(
            f"{len(errors)} unreadable images left out, all named in metadata.json; the first: {errors[0]}"
        )
    beyond = [outside for _, outside in results if outside]
    if beyond:
        notes.append(
            f"{len(beyond)} images have points outside them, by up to {max(beyond):.1f} px: kept and counted as visible"
        )
    kept = [None if isinstance(record, LapjaxError) else record for record, _ in results]
    return kept, [str(error) for error in errors], notes
