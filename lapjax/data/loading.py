"""Prepared samples by name: those of a pack, of a prepared set or of one that lapjax draws."""

import dataclasses
import os
import pathlib

import numpy as np

from lapjax.data.packs import pack_splits, read_pack
from lapjax.errors import LapjaxError
from lapjax.files import data_directory
from lapjax.samples import COLUMNS, EncodedChips, Samples
from lapjax.schemes import Scheme, get_scheme

__all__ = ["data_directory", "load_dataset", "splits"]


def splits(name: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> dict[str, int]:
    """The splits of a pack (a path `*.npz`) or of a prepared set, with how many faces each has.

    Raises:
      LapjaxError: no such set, or one that cannot be read.
    """
    if _is_pack(name):
        return pack_splits(name)
    from lapjax.datasets import prepared, toy_faces

    place = data_directory(data_dir)
    return dict(toy_faces.SPLITS) if _is_drawn(name, place) else prepared.splits(str(name), place)


def load_dataset(
    name: str | os.PathLike,
    split: str,
    *,
    data_dir: str | os.PathLike | None = None,
    scheme: Scheme | str | os.PathLike | None = None,
    limit: int | None = None,
    encoded: bool = False,
) -> Samples:
    """The faces of one split of a pack or of a prepared set; "toy_faces" need not be prepared.

    Args:
      name: a path `*.npz` to a pack, or the name of a prepared set ("the300w", "toy_faces", ...).
      split: as `splits` lists them.
      data_dir: see `data_directory`; not used for a pack.
      scheme: what the landmarks are, a `Scheme`, its name or a JSON file: for a TFDS set that lapjax did not prepare,
        or in place of a set's own.
      limit: only the first so many.
      encoded: leave the chips encoded, decoded on access, for sets too big to sit decoded in memory.

    Raises:
      LapjaxError: no such set or split, or one that cannot be read.

    Examples:
      >>> import lapjax
      >>> samples = lapjax.load_dataset("toy_faces", "test", limit=3)
      >>> samples.images.shape, samples.landmarks.shape
      ((3, 160, 160, 3), (3, 68, 2))
    """
    if limit is not None and limit < 1:
        raise LapjaxError(f"limit {limit} must be at least 1")
    if _is_pack(name):
        samples = read_pack(name, split, limit=limit, encoded=encoded)
        return _with_scheme(samples, scheme)
    from lapjax.datasets import prepared, toy_faces

    place = data_directory(data_dir)
    if _is_drawn(name, place):
        whole = toy_faces.SPLITS
        count = min(limit, whole[split]) if limit and split in whole else None
        return _with_scheme(toy_faces.generate(split, count), scheme)
    records = prepared.source(str(name), split, place, scheme=scheme)
    meta = prepared.meta(str(name), place, scheme=scheme)
    return _faces(records, split, meta, limit, encoded)


def _is_pack(name) -> bool:
    return pathlib.Path(name).suffix == ".npz"


def _is_drawn(name, place: pathlib.Path) -> bool:
    """Toy faces are drawn when they are asked for, unless there is a prepared set of that name."""
    return str(name) == "toy_faces" and not (place / "toy_faces").is_dir()


def _with_scheme(samples: Samples, scheme) -> Samples:
    if scheme is None:
        return samples
    return dataclasses.replace(samples, scheme=scheme if isinstance(scheme, Scheme) else get_scheme(scheme))


def _faces(records, split: str, meta: dict, limit: int | None, encoded: bool) -> Samples:
    """The records of `lapjax.datasets` as columns, read once; with `encoded` the chips again when asked for."""
    rows = range(len(records))[:limit]
    if not rows:
        raise LapjaxError(
            f"split {split!r} of {meta['dataset']} has no faces: choose another or prepare it again"
        )
    images, columns = [], {column: [] for column in COLUMNS}
    for row in rows:
        record = records[row]
        for column, values in columns.items():
            values.append(record[column])
        if not encoded:
            images.append(record["image"])
    read = (lambda row: records[row]["image"]) if encoded else images.__getitem__
    chips = EncodedChips(read, np.array(rows, int), meta["chip_size"])
    return Samples(
        images=chips if encoded else np.asarray(chips),
        **{column: np.array(values) for column, values in columns.items()},
        scheme=Scheme.from_dict(meta["scheme"]),
        meta={key: value for key, value in meta.items() if key != "scheme"} | {"split": split},
    )
