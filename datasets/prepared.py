"""Reads prepared sets by name: those of lapjax, and any other TFDS set on disk that has an image and its points."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lapjax import geometry
from lapjax.datasets import records
from lapjax.datasets.photos import Photo
from lapjax.errors import LapjaxError, nearest, no_split
from lapjax.images import read_image, write_jpeg
from lapjax.schemes import Scheme, get_scheme

_NAME_FEATURES = ("name", "file_name", "filename", "image/filename", "id", "image_id")


def splits(name: str, data_dir: str | os.PathLike) -> dict[str, int]:
    """The splits of a prepared set and how many records each has. Raises LapjaxError where there is no such set."""
    return {split: info.num_examples for split, info in _open(name, data_dir).info.splits.items()}


def meta(name: str, data_dir: str | os.PathLike, *, scheme: Scheme | str | os.PathLike | None = None) -> dict:
    """What is known about a prepared set.

    Args:
      name: the set.
      data_dir: where prepared sets lie.
      scheme: what its landmarks are: required for a set that lapjax did not prepare, else takes the place of its own.

    Returns:
      dataset, chip_size, chip_factor, quality, terms, unlabelled and
      scheme, as `Scheme.to_dict` gives it.

    Raises:
      LapjaxError: no such set, no scheme where one is needed, or one with another number of points.
    """
    return _meta(_open(name, data_dir), scheme)


def source(
    name: str, split: str, data_dir: str | os.PathLike, *, scheme: Scheme | str | os.PathLike | None = None
) -> Sequence[dict]:
    """The records of one split, read one at a time.

    Returns:
      A sequence of dicts: image, the (S, S, 3) chip as JPEG bytes; landmarks (K, 2) float32 chip px; visible (K,)
      bool; box (4,) float32 image px; name and subset, str; image_to_chip (2, 3) float32. The images of a set that
      lapjax did not prepare are cropped to chips as they are read, and points that are not finite are not visible.

    Raises:
      LapjaxError: no such set or split, or as `meta`.
    """
    builder = _open(name, data_dir)
    if split not in builder.info.splits:
        raise no_split(name, split, builder.info.splits)
    known = _meta(builder, scheme)
    import tensorflow_datasets as tfds

    try:
        # Left encoded: packs copy the bytes, and images are decoded in one place, lapjax.images.
        stored = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    except NotImplementedError as error:
        raise LapjaxError(
            f"{name} in {builder.data_dir} is stored as {builder.info.file_format.value}: prepare it again with"
            ' file_format="array_record"'
        ) from error
    return _Records(stored, known, name=f"{name}/{split}", foreign=_stored_meta(builder) is None)


class _Records(Sequence):
    def __init__(self, stored, known: dict, *, name: str, foreign: bool):
        self._stored, self._known, self._name, self._foreign = stored, known, name, foreign

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> dict:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        record = self._stored[index % len(self)]
        if self._foreign:
            return self._crop(record, index % len(self))
        return record | {field: record[field].decode() for field in ("name", "subset")}

    def _crop(self, record: dict, index: int) -> dict:
        landmarks = np.asarray(record["landmarks"], np.float64)
        visible = np.all(np.isfinite(landmarks), axis=-1)
        if "visible" in record:
            visible &= np.asarray(record["visible"], bool)
        texts = [str(_text(record[field])) for field in _NAME_FEATURES if field in record]
        name = texts[0] if texts else f"{self._name}/{index}"
        photo = Photo(
            path=pathlib.Path(name),
            name=name,
            landmarks=np.where(visible[:, None], landmarks, 0.0),
            visible=visible,
            box=geometry.box_of(landmarks, visible) if visible.any() else None,
        )
        sizes = {field: self._known[field] for field in ("chip_size", "chip_factor")}
        record, _ = records.make_record(read_image(record["image"], name=name), photo, **sizes)
        return record | {"image": write_jpeg(record["image"], self._known["quality"])}


def _text(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _open(name: str, data_dir: str | os.PathLike) -> Any:  # TFDS's decorators hide the types of its builders
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.read_only_builder import builder_from_files
    except ImportError as error:
        raise LapjaxError(
            f"reading prepared sets needs {error.name}: `pip install lapjax[train]`, or give a pack (*.npz)"
        ) from error
    root = pathlib.Path(data_dir).expanduser()
    try:
        builder = builder_from_files(name, data_dir=os.fspath(root))
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        infos = [*root.glob("[!.]*/*/dataset_info.json"), *root.glob("[!.]*/*/*/dataset_info.json")]
        present = sorted({info.relative_to(root).parts[0] for info in infos})
        raise LapjaxError(
            f"no prepared set {name!r} in {root} (it has {', '.join(present) or 'none'}"
            f"{nearest(name, [*present, 'toy_faces'], form='; did you mean {!r}?')}): prepare it with `lapjax prepare`, or say where it is with --data-dir or LAPJAX_DATA_DIR"
        ) from error
    return builder


def _stored_meta(builder) -> dict | None:
    """What `ChipBuilder` stored; None for a set that lapjax did not prepare."""
    path = pathlib.Path(builder.data_dir) / "metadata.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LapjaxError(f"{path} cannot be read as JSON: prepare {builder.name} again") from error
    return known if isinstance(known, dict) and known.get("format") == records.FORMAT else None


def _meta(builder, scheme) -> dict:
    known = _stored_meta(builder)
    if scheme is not None and not isinstance(scheme, Scheme):
        scheme = get_scheme(scheme)
    if known is None:
        count = _foreign_count(builder)
        if scheme is None:
            raise LapjaxError(
                f"{builder.name} has {count} landmarks and does not say what they are: give a scheme, by name or as JSON"
            )
        known = {
            "dataset": builder.name,
            "chip_size": records.CHIP_SIZE,
            "chip_factor": records.CHIP_FACTOR,
            "quality": records.QUALITY,
            "terms": f"see the description of {builder.name}",
            "unlabelled": False,
        }
    count = builder.info.features["landmarks"].shape[0]
    if scheme is not None and scheme.count != count:
        raise LapjaxError(
            f"{builder.name} has {count} landmarks and scheme {scheme.name} {scheme.count}: give the scheme it was labelled with"
        )
    keys = ("dataset", "chip_size", "chip_factor", "quality", "terms", "unlabelled")
    return {key: known[key] for key in keys} | {"scheme": scheme.to_dict() if scheme else known["scheme"]}


def _foreign_count(builder) -> int:
    import tensorflow_datasets as tfds

    fields = builder.info.features
    fields = dict(fields.items()) if isinstance(fields, tfds.features.FeaturesDict) else {}
    points = fields.get("landmarks")
    count = _point_count(points) if isinstance(points, tfds.features.Tensor) else None
    if not count:
        raise LapjaxError(
            f"{builder.name} has no feature `landmarks` of shape (K, 2) and a float type, in pixels: it has"
            f" {', '.join(f'{key} {field.shape}' for key, field in fields.items())}"
        )
    if not isinstance(fields.get("image"), tfds.features.Image):
        raise LapjaxError(f"{builder.name} has no image feature `image`: prepare a set that has one")
    return count


def _point_count(feature: Any) -> int | None:
    """K of a tensor feature of shape (K, 2) and a float type, else None; TFDS types shapes as trees, hence Any."""
    shape = feature.shape
    fits = np.issubdtype(feature.np_dtype, np.floating) and len(shape) == 2 and shape[1] == 2
    return shape[0] if fits else None
