"""The one NumPy file that holds a set of samples, for a machine that has numpy and pillow only.

A pack is an uncompressed `.npz`: a JSON header (`header`) with the format's version and, per split, the scheme, the
meta and a sha256; then the columns of every split as `SPLIT/COLUMN`, the chips as JPEG bytes end to end (`jpeg`) with
N + 1 `offsets`.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from PIL import Image

from lapjax import geometry
from lapjax.errors import LapjaxError, no_split
from lapjax.files import replacing
from lapjax.images import write_jpeg
from lapjax.samples import COLUMNS, EncodedChips, Samples
from lapjax.schemes import Scheme

FORMAT, VERSION = "lapjax-pack", 1


def write_pack(
    path: str | os.PathLike,
    splits: Mapping[str, Samples],
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
    for split, samples in splits.items():
        part, meta = _packed(split, samples, chip_size, quality)
        header["splits"][split] = {
            "count": len(samples),
            "scheme": samples.scheme.to_dict(),
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
) -> Samples:
    """One split of a pack, or its first `limit` faces; with `encoded` the chips are decoded only on access.

    Raises:
      LapjaxError: no such file, not a pack, another version, truncated or altered, or no such split.
    """
    with _open_pack(path) as (file, header):
        if split not in header["splits"]:
            raise no_split(path, split, sorted(header["splits"]))
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
    return Samples(
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


def _packed(split: str, samples: Samples, chip_size: int | None, quality: int | None) -> tuple[dict, dict]:
    """The columns of one split at the wanted size and quality, and its meta."""
    if not len(samples):
        raise LapjaxError(f"split {split!r} has no faces: leave it out of the pack")
    stored = samples.images.shape[1]
    size = stored if chip_size is None else chip_size
    quality = samples.meta.get("quality") or 95 if quality is None else quality
    if not 1 <= size <= stored:
        raise LapjaxError(
            f"chip_size {size} of split {split!r} must be 1 to {stored}, its own size: prepare it with larger chips"
        )
    if not 1 <= quality <= 100:
        raise LapjaxError(f"quality {quality} must be 1 to 100")
    images, as_stored = samples.images, size == stored and quality == samples.meta.get("quality")
    if as_stored and isinstance(images, EncodedChips):
        files = [images.stored(index) for index in range(len(images))]
    else:
        chips = (np.asarray(images[index]) for index in range(len(images)))
        files = [write_jpeg(_shrink(chip, size), quality) for chip in chips]
    scale = size / stored
    # Pixel centres are at integers, so it is the corner at -0.5 that stays where it is.
    shrink = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]])
    part = {column: np.asarray(getattr(samples, column)) for column in samples.columns}
    if size != stored:
        if samples.scale is not None:
            part["scale"] = (scale * part["scale"]).astype(np.float32)
        points = geometry.apply(shrink, part["landmarks"].astype(np.float64))
        part["landmarks"] = np.where(part["visible"][..., None], points, 0).astype(np.float32)
        matrices = part["image_to_chip"].astype(np.float64)
        part["image_to_chip"] = geometry.compose(shrink, matrices).astype(np.float32)
    part["jpeg"] = np.frombuffer(b"".join(files), np.uint8)
    part["offsets"] = np.cumsum([0, *map(len, files)], dtype=np.int64)
    return part, {**samples.meta, "split": split, "chip_size": size, "quality": quality}


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
