"""Turns a folder of photos into a prepared set on disk: checked whole, then written whole or not at all."""

import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator

from lapjax.datasets import records
from lapjax.errors import LapjaxError, nearest
from lapjax.files import data_directory

BUILDERS = ("the300w", "aflw", "folder", "face_folder", "toy_faces")
STALE_S = 24 * 3600  # what a killed prepare left behind is cleared away after a day


@dataclasses.dataclass(frozen=True)
class Summary:
    """What was prepared; `print(summary)` shows it.

    Attributes:
      dataset: the name under which it is found.
      path: its folder.
      counts: split to subset to number of photos.
      notes: what a user should know, a sentence each.
      meta: what is stored beside the records, see `prepared.meta`.
    """

    dataset: str
    path: pathlib.Path
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    meta: dict

    def __str__(self) -> str:
        subsets = sorted({subset for counts in self.counts.values() for subset in counts} - {""})
        rows = [["split", *subsets, "all"]]
        for split, counts in self.counts.items():
            rows.append(
                [split, *(str(counts.get(subset, "")) for subset in subsets), str(sum(counts.values()))]
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        chips = "{chip_size} px chips at {chip_factor:g} x the box, JPEG quality {quality}".format(
            **self.meta
        )
        points = (
            "unlabelled" if self.meta["unlabelled"] else "{} points".format(len(self.meta["scheme"]["names"]))
        )
        notes = [f"- {note}" for note in (*self.notes, f"terms: {self.meta['terms']}")]
        return "\n".join([f"{self.dataset}: {points}, {chips}, in {self.path}", *table, *notes])


def prepare(
    name: str,
    *,
    source: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    chip_size: int | None = None,
    chip_factor: float = records.CHIP_FACTOR,
    quality: int = records.QUALITY,
    points: str | os.PathLike | None = None,
    scheme=None,
    boxes: str | os.PathLike | None = None,
    box: str | tuple[float, float, float] | None = None,
    keep_near_duplicates: bool | None = None,
    terms: str | None = None,
    dataset_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Prepares a data set; a set of that name prepared from the same source before is replaced.

    Everything is checked before anything is written, every image included; the set then appears in one rename.

    Args:
      name: which builder: "the300w", "aflw", "folder", "face_folder" or "toy_faces".
      source: the folder that holds the images; none for `toy_faces`, which is drawn.
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default.
      chip_size: side of the stored chips, px; 192 by default, 160 of drawn faces.
      chip_factor: side of a chip over the longer side of its box, in image px.
      quality: of the stored JPEG, 1 to 100.
      points: `folder`: the points.csv, in the source folder or a path.
      scheme: `folder`: a `Scheme`, the name of one or a JSON file.
      boxes: `folder`, `face_folder`: a boxes.csv, in the source folder or a path.
      box: `face_folder`: one box for every image, "SIDE,CX,CY" or (side, cx, cy) in px.
      keep_near_duplicates: `the300w`: keep the two training photos that nearly repeat test photos.
      terms: `folder`, `face_folder`: under which the images may be used, a sentence that goes with every model that
        learns from them.
      dataset_name: the name of the prepared set; the builder's by default.
      progress: called with (done, total) photos.

    Raises:
      LapjaxError: naming the file, option or place at fault and the remedy; nothing has been written.

    Examples:
      Of twenty pictures with two points each, in px from 0:

      >>> import pathlib, lapjax
      >>> from PIL import Image
      >>> folder = pathlib.Path("pictures")
      >>> folder.mkdir()
      >>> rows = ["path,x0,y0,x1,y1"]
      >>> for i in range(20):
      ...     Image.new("RGB", (64, 48), (9 * i, 90, 200)).save(folder / f"{i}.png")
      ...     rows.append(f"{i}.png,{10 + i},12,{40 + i},30")
      >>> _ = (folder / "points.csv").write_text("\\n".join(rows))
      >>> summary = lapjax.prepare(
      ...     "folder", source=folder, points="points.csv", dataset_name="mine", data_dir="data"
      ... )
      >>> len(lapjax.load_dataset("mine", "train", data_dir="data"))
      12
    """
    options = {
        "points": points,
        "scheme": scheme,
        "boxes": boxes,
        "box": box,
        "keep_near_duplicates": keep_near_duplicates,
        "terms": terms,
    }
    options = {option: value for option, value in options.items() if value is not None}
    cls = _builder_class(name, options)
    dataset = name if dataset_name is None else dataset_name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", dataset):
        raise LapjaxError(f"dataset name {dataset!r}: use lower-case letters, digits and _, a letter first")
    if dataset != cls.name:
        # TFDS takes the name of a set from its class.
        cls = type("Builder", (cls,), {"name": dataset, "__module__": cls.__module__}, skip_registration=True)
    data_dir = data_directory(data_dir).absolute()
    _check_place(data_dir, dataset, name, source)
    target = data_dir / dataset
    place = target.with_name(f".{dataset}.{os.getpid()}.incomplete")
    builder = cls(
        source=source,
        chip_size=chip_size,
        chip_factor=chip_factor,
        quality=quality,
        data_dir=place,
        **options,
    )
    builder.read(progress)
    _check_space(target, builder.nbytes)
    with _whole_or_nothing(place, target):
        _write(builder)
    meta = dict(builder.info.metadata)
    return Summary(
        dataset=dataset,
        path=data_dir / dataset / str(builder.version),
        counts=meta["counts"],
        notes=tuple(meta["notes"]),
        meta=meta,
    )


def _builder_class(name: str, options: dict):
    if name not in BUILDERS:
        raise LapjaxError(
            f"no data set {name!r} to prepare{nearest(name, BUILDERS, cutoff=0.5)}: choose {', '.join(BUILDERS)}"
        )
    try:
        module = importlib.import_module(f"lapjax.datasets.{name}.{name}_dataset_builder")
    except ImportError as error:
        raise LapjaxError(f"preparing data needs {error.name}: `pip install lapjax[train]`") from error
    known = [option for option in inspect.signature(module.Builder.survey).parameters if option != "source"]
    for option in options:
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise LapjaxError(f"{name} has no option {option!r}: {takes}")
    return module.Builder


def _check_place(data_dir: pathlib.Path, dataset: str, name: str, source) -> None:
    """Refuses a place that cannot be written, and one that holds another set of the same name."""
    standing = _standing(data_dir)
    if not standing.is_dir():
        raise LapjaxError(
            f"{standing} is a file, so {data_dir} cannot be made: choose another data directory"
        )
    if not os.access(standing, os.W_OK | os.X_OK):
        raise LapjaxError(
            f"{standing} cannot be written: choose another data directory, or change its permissions"
        )
    origin = None if source is None else os.path.abspath(os.path.expanduser(source))
    for path in sorted((data_dir / dataset).glob("*")):
        try:
            meta = json.loads((path / "metadata.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            meta = {}
        if meta.get("builder") != name or meta.get("source") != origin:
            made = f"{meta['builder']} from {meta['source']}" if meta.get("source") else "something else"
            raise LapjaxError(
                f"{path.parent} already holds a set made by {made}: give this one another name, or remove that one"
            )


def _check_space(target: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(_standing(target)).free
    if free < 1.2 * needed:
        raise LapjaxError(
            f"{target} needs {1.2 * needed / 1e6:.0f} MB and its disk has {free / 1e6:.0f} MB free: free space, or choose"
            " another data directory"
        )


def _standing(path: pathlib.Path) -> pathlib.Path:
    """The nearest folder or file on the way to `path` that is there."""
    return next(part for part in (path, *path.parents) if part.exists())


@contextlib.contextmanager
def _whole_or_nothing(place: pathlib.Path, target: pathlib.Path) -> Iterator[None]:
    """Makes the folder `place`; what is then written to `place/NAME` takes the place of `target`, called NAME too."""
    made = [path for path in (target.parent, *target.parent.parents) if not path.exists()]
    try:
        for old in target.parent.glob(f".{target.name}.*.incomplete"):
            if old == place or time.time() - old.stat().st_mtime > STALE_S:
                shutil.rmtree(old)
        place.mkdir(parents=True)
        yield
        replaced = place / ".replaced"
        if target.exists():
            target.rename(replaced)
        try:
            (place / target.name).rename(target)
        except OSError:
            if replaced.exists():
                replaced.rename(target)
            raise
    except (OSError, RuntimeError) as error:  # the record writer reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or error
        raise LapjaxError(
            f"cannot write {target} ({reason}): free space, or choose another data directory"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not target.exists():
            for path in made:
                with contextlib.suppress(OSError):
                    path.rmdir()


def _write(builder) -> None:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself with `print`
        builder.download_and_prepare()
