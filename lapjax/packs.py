"""A set of faces, and the one NumPy file that holds it for a machine that has numpy and pillow only.

A pack is an uncompressed `.npz`: a JSON header (`header`) with the format's version and, per split, the scheme, the
meta and a sha256; then the columns of every split as `SPLIT/COLUMN`, the chips as JPEG bytes end to end (`jpeg`) with
N + 1 `offsets`.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from lapjax import geometry
from lapjax.errors import LapjaxError
from lapjax.files import replacing
from lapjax.images import read_image, write_jpeg
from lapjax.schemes import Scheme

FORMAT, VERSION = "lapjax-pack", 1
COLUMNS = ("landmarks", "visible", "box", "image_to_chip", "name", "subset")


class EncodedChips:
    """Chips that stay encoded until one is asked for: the `images` of a `Faces` too big to sit decoded in memory.

    Indexing with an integer decodes one chip, (S, S, 3) uint8; with a slice or an array it selects without decoding;
    `np.asarray` decodes them all.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, read: Callable[[int], bytes], rows: np.ndarray, size: int):
        """Chips of a store.

        Args:
          read: gives the encoded bytes of one row of the store.
          rows: (N,) int, the rows of this set in its order.
          size: the chips' side S in px.
        """
        self._read, self._rows, self._size = read, np.asarray(rows), size

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self._size, self._size, 3

    def stored(self, index: int) -> bytes:
        """The bytes of one chip as they are stored."""
        return self._read(int(self._rows[index]))

    def __getitem__(self, index):
        if not isinstance(index, int | np.integer):
            return EncodedChips(self._read, self._rows[index], self._size)
        chip = read_image(self.stored(index), name=f"chip {index}")
        if chip.shape != self.shape[1:]:
            raise LapjaxError(f"chip {index} is {chip.shape}, not {self.shape[1:]}: prepare the data again")
        return chip

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        chips = np.empty(self.shape, np.uint8)
        for index in range(len(self)):
            chips[index] = self[index]
        return chips if dtype is None else chips.astype(dtype, copy=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Faces:
    """N prepared faces with K landmarks; `faces.take(indices)` is a part of them.

    Attributes:
      images: (N, S, S, 3) uint8 chips, or `EncodedChips` of that shape.
      landmarks: (N, K, 2) float32, chip px, zeros where not visible.
      visible: (N, K) bool.
      box: (N, 4) float32, image px: min x, min y, max x, max y.
      image_to_chip: (N, 2, 3) float32, chip = M @ [x, y, 1].
      name: (N,) str.
      subset: (N,) str, "" where a set has none.
      scheme: what the K landmarks are.
      meta: dataset, split, chip_size, chip_factor, quality, terms and unlabelled.
      scale: (N, K) float32, chip px, how sure the labels are where models gave them (`labelling.label`); None where
        people did. A run reads it of its `unlabelled` faces; labels of its own `dataset` count as people's.

    Raises:
      LapjaxError: columns of different lengths or shapes, or a K that is not the scheme's.
    """

    images: np.ndarray | EncodedChips
    landmarks: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    image_to_chip: np.ndarray
    name: np.ndarray
    subset: np.ndarray
    scheme: Scheme
    meta: dict
    scale: np.ndarray | None = None

    def __post_init__(self):
        count, points, size = len(self.images), self.scheme.count, self.images.shape[1]
        expected = {
            "images": (count, size, size, 3),
            "landmarks": (count, points, 2),
            "visible": (count, points),
            "box": (count, 4),
            "image_to_chip": (count, 2, 3),
            "name": (count,),
            "subset": (count,),
        }
        if self.scale is not None:
            expected["scale"] = (count, points)
        for column, shape in expected.items():
            found = getattr(self, column).shape
            if tuple(found) != shape:
                raise LapjaxError(
                    f"{column} has shape {tuple(found)}, not {shape}, for {count} faces of scheme {self.scheme.name}"
                    f" with {points} landmarks: give the scheme that the data was labelled with"
                )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices) -> "Faces":
        """The faces at `indices` (a slice, integers or a mask), in that order; encoded chips stay encoded."""
        return dataclasses.replace(
            self, images=self.images[indices], **{name: getattr(self, name)[indices] for name in self.columns}
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are there, beside the images."""
        return COLUMNS if self.scale is None else (*COLUMNS, "scale")


def write_pack(
    path: str | os.PathLike,
    splits: Mapping[str, Faces],
    *,
    chip_size: int | None = None,
    quality: int | None = None,
) -> None:
    """Writes the splits as one file, whole or not at all.

    Args:
      path: the `.npz` file, replaced if it is there; missing folders are made.
      splits: name to faces, at least one, none empty.
      chip_size: px; smaller than the data's own shrinks chips, landmarks and `image_to_chip` alike; None keeps it.
      quality: of the JPEG files; None keeps the data's own. Encoded chips that change neither are copied as they are.

    Raises:
      LapjaxError: nothing to write, a larger chip than there is, or a place that cannot be written.
    """
    path = pathlib.Path(path)
    if not splits:
        raise LapjaxError(f"no split to write to {path}: name at least one")
    header, columns = {"format": FORMAT, "version": VERSION, "splits": {}}, {}
    for split, faces in splits.items():
        part, meta = _packed(split, faces, chip_size, quality)
        header["splits"][split] = {
            "count": len(faces),
            "scheme": faces.scheme.to_dict(),
            "meta": meta,
            "sha256": _sha256(part),
        }
        columns |= {f"{split}/{column}": value for column, value in part.items()}
    columns["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    message = "cannot write the pack {path} ({reason}): choose another place or free space"
    with replacing(path, message, parents=True) as part, open(part, "wb") as file:
        np.savez(file, **columns)
        file.flush()
        os.fsync(file.fileno())


def read_pack(
    path: str | os.PathLike, split: str, *, limit: int | None = None, encoded: bool = False
) -> Faces:
    """One split of a pack, or its first `limit` faces; with `encoded` the chips are decoded only on access.

    Raises:
      LapjaxError: no such file, not a pack, another version, truncated or altered, or no such split.
    """
    with _open_pack(path) as (file, header):
        if split not in header["splits"]:
            present = ", ".join(sorted(header["splits"]))
            raise LapjaxError(f"{path} has no split {split!r}: it has {present}")
        entry = header["splits"][split]
        there = [column for column in ("scale",) if f"{split}/{column}" in file]
        part = {column: file[f"{split}/{column}"] for column in ("jpeg", "offsets", *COLUMNS, *there)}
    if _sha256(part) != entry["sha256"]:
        raise LapjaxError(f"{path}: split {split!r} does not match its sha256: copy or write the pack again")
    jpeg, offsets = part.pop("jpeg"), part.pop("offsets")
    rows = np.arange(entry["count"])[:limit]
    chips = EncodedChips(
        lambda row: jpeg[offsets[row] : offsets[row + 1]].tobytes(), rows, entry["meta"]["chip_size"]
    )
    return Faces(
        images=chips if encoded else np.asarray(chips),
        **{column: value[:limit] for column, value in part.items()},
        scheme=Scheme.from_dict(entry["scheme"]),
        meta=entry["meta"],
    )


def pack_splits(path: str | os.PathLike) -> dict[str, int]:
    """The splits of a pack and how many faces each has. Raises as `read_pack`."""
    with _open_pack(path) as (_, header):
        return {split: entry["count"] for split, entry in header["splits"].items()}


@contextlib.contextmanager
def _open_pack(path):
    try:
        # Opened here, since np.load leaves a broken file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]))
            if header["format"] != FORMAT:
                raise LapjaxError(f"{path} is not a lapjax pack: give one that `lapjax prepare` wrote")
            if header["version"] != VERSION:
                version = header["version"]
                raise LapjaxError(
                    f"{path} has version {version}, not {VERSION}: write it again with this lapjax"
                )
            yield file, header
    except LapjaxError:
        raise
    except FileNotFoundError as error:
        raise LapjaxError(f"no pack at {path}: write one with `lapjax prepare NAME --pack {path}`") from error
    except (PermissionError, IsADirectoryError) as error:
        raise LapjaxError(f"cannot read the pack {path} ({error.strerror}): give a readable file") from error
    except Exception as error:  # what zipfile, numpy and json raise depends on where the damage is
        raise LapjaxError(f"{path} is not a lapjax pack, or only a part of one: write it again") from error


def _packed(split: str, faces: Faces, chip_size: int | None, quality: int | None) -> tuple[dict, dict]:
    """The columns of one split at the wanted size and quality, and its meta."""
    if not len(faces):
        raise LapjaxError(f"split {split!r} has no faces: leave it out of the pack")
    stored = faces.images.shape[1]
    size = stored if chip_size is None else chip_size
    quality = faces.meta.get("quality") or 95 if quality is None else quality
    if not 1 <= size <= stored:
        raise LapjaxError(
            f"chip_size {size} of split {split!r} must be 1 to {stored}, its own size: prepare it with larger chips"
        )
    if not 1 <= quality <= 100:
        raise LapjaxError(f"quality {quality} must be 1 to 100")
    same = size == stored and quality == faces.meta.get("quality") and isinstance(faces.images, EncodedChips)
    files = [
        faces.images.stored(index) if same else write_jpeg(_shrink(faces.images[index], size), quality)
        for index in range(len(faces))
    ]
    scale = size / stored
    # Pixel centres are at integers, so it is the corner at -0.5 that stays where it is.
    shrink = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]])
    part = {column: np.asarray(getattr(faces, column)) for column in faces.columns}
    if size != stored:
        if faces.scale is not None:
            part["scale"] = (scale * part["scale"]).astype(np.float32)
        points = geometry.apply(shrink, part["landmarks"].astype(np.float64))
        part["landmarks"] = np.where(part["visible"][..., None], points, 0).astype(np.float32)
        matrices = part["image_to_chip"].astype(np.float64)
        part["image_to_chip"] = geometry.compose(shrink, matrices).astype(np.float32)
    part["jpeg"] = np.frombuffer(b"".join(files), np.uint8)
    part["offsets"] = np.cumsum([0, *map(len, files)], dtype=np.int64)
    return part, {**faces.meta, "split": split, "chip_size": size, "quality": quality}


def _shrink(chip: np.ndarray, size: int) -> np.ndarray:
    if size == chip.shape[0]:
        return chip
    # pillow widens the bilinear kernel by the scale, which is the antialiasing.
    return np.asarray(Image.fromarray(chip).resize((size, size), Image.Resampling.BILINEAR))


def _sha256(part: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for column in sorted(part):
        value = np.ascontiguousarray(part[column])
        digest.update(f"{column} {value.dtype.str} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
