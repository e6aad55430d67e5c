"""The commands of data: `prepare` a set, find the `boxes` of one, `label` one with trained models."""

import os
from pathlib import Path
from typing import Annotated

import tyro

from lapjax.cli.options import File, Flag, Folder, Name, Number, check_place, console
from lapjax.errors import LapjaxError

__all__ = ["boxes", "label", "prepare"]


def prepare(
    dataset: Annotated[str, tyro.conf.arg(metavar="DATASET")],
    /,
    *,
    source: Folder = None,
    name: Name = None,
    points: File = None,
    scheme: Name = None,
    boxes: File = None,
    box: Annotated[str | None, tyro.conf.arg(metavar="SIDE,CX,CY", help_behavior_hint="")] = None,
    keep_near_duplicates: Flag = False,
    terms: Annotated[str | None, tyro.conf.arg(metavar="SENTENCE", help_behavior_hint="")] = None,
    data_dir: Folder = None,
    chip_size: Number = None,
    chip_factor: float = 1.8,
    quality: int = 95,
    pack: File = None,
    pack_chip_size: Number = None,
    pack_quality: Number = None,
    limit: Number = None,
) -> None:
    """Turns a folder of photos into a prepared set: square chips around the faces, with points and
    boxes. Everything is checked before anything is written. DATASET says what the folder holds:

      the300w      300W as it is distributed, 68 points
      aflw         AFLW, with the 19 points of AFLWinfo_release.mat
      folder       your own images with your own points
      face_folder  any images without points
      toy_faces    faces that lapjax draws: no --source

    With --pack the set also becomes one file, from which a machine trains that has only JAX, NumPy
    and pillow. With --pack and no --source, DATASET names a set that is prepared already.

    Args:
      dataset: one of these; with --pack and no --source, any prepared set
      source: the folder that holds the images
      name: of the prepared set; DATASET by default
      points: (folder) points.csv: path,x0,y0,x1,y1,... in pixels; else .pts files beside the images
      scheme: (folder) what the points are: 300w, aflw, wflw, cofw, five or a JSON file
      boxes: (folder, face_folder) a boxes.csv
      box: (face_folder) one box for every image, in pixels
      keep_near_duplicates: (the300w) keep the training photos that nearly repeat test photos
      terms: (folder, face_folder) what binds the images' use; it goes with every model that learns from them
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
      chip_size: side of the stored chips, px; 192 by default, 160 of drawn faces
      chip_factor: side of a chip over the longer side of its box
      quality: of the stored JPEG
      pack: the .npz file to write
      pack_chip_size: smaller chips in the pack
      pack_quality: lower JPEG quality in the pack
      limit: only the first so many faces of each split in the pack
    """
    from lapjax import data
    from lapjax.cli.progress import counting
    from lapjax.datasets.prepare import BUILDERS
    from lapjax.datasets.prepare import prepare as prepare_set

    if pack is not None:
        check_place(pack, "--pack")
    elif (pack_chip_size, pack_quality, limit) != (None, None, None):
        raise LapjaxError(
            "--pack-chip-size, --pack-quality and --limit shape a pack: name it with --pack FILE"
        )
    place = data.data_directory(data_dir)
    if pack is None or source is not None:
        with counting(f"reading {source or dataset}") as progress:
            summary = prepare_set(
                dataset,
                source=source,
                data_dir=place,
                chip_size=chip_size,
                chip_factor=chip_factor,
                quality=quality,
                points=points,
                scheme=scheme,
                boxes=boxes,
                box=box,
                keep_near_duplicates=keep_near_duplicates or None,
                terms=terms,
                dataset_name=name,
                progress=progress,
            )
        print(summary)
    elif dataset in BUILDERS and name is not None:
        raise LapjaxError(f"to pack the prepared set {name}: `lapjax prepare {name} --pack {pack}`")
    if pack is not None:
        _write_pack(name or dataset, place, pack, pack_chip_size, pack_quality, limit)


def _write_pack(dataset, place, pack, chip_size, quality, limit) -> None:
    from lapjax import data

    with console(stderr=True).status(f"packing {dataset}"):
        samples = {
            split: data.load_dataset(dataset, split, data_dir=place, limit=limit, encoded=True)
            for split, count in data.splits(dataset, data_dir=place).items()
            if count
        }
        data.write_pack(pack, samples, chip_size=chip_size, quality=quality)
    counts = ", ".join(f"{split} {len(part)}" for split, part in samples.items())
    size = chip_size or next(iter(samples.values())).images.shape[1]
    print(f"{pack}: {counts}; {size} px chips, {os.path.getsize(pack) / 1e6:.1f} MB")


def boxes(
    run: Annotated[Path, tyro.conf.arg(metavar="RUN_OR_FILE")],
    /,
    *,
    dataset: Annotated[str, tyro.conf.arg(metavar="NAME_OR_PACK")],
    out: Annotated[Path, tyro.conf.arg(metavar="BOXES_CSV")],
    split: Annotated[str, tyro.conf.arg(metavar="SPLIT")] = "train",
    data_dir: Folder = None,
) -> None:
    """Writes the boxes that a trained run finds in unlabelled faces, the tight boxes of its points.

    Unlabelled faces are prepared twice: with one rough box for all, then with these, so that they
    are framed as the labelled ones and D has no framing to tell apart:

      lapjax boxes runs/a --dataset lfw --out boxes.csv
      lapjax prepare face_folder --source ~/lfw --name lfw --boxes boxes.csv

    Args:
      run: the --out of `lapjax train`, an ONNX file or a shipped model's name
      dataset: a prepared set or a pack (*.npz)
      out: the boxes.csv to write
      split: of the set
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
    """
    from lapjax import data
    from lapjax.checkpoints.run import load_run
    from lapjax.evaluation.boxes import find_boxes, write_boxes

    check_place(out, "--out")
    with console(stderr=True).status(f"looking for faces in {dataset}"):
        samples = data.load_dataset(dataset, split, data_dir=data_dir, encoded=True)
        write_boxes(out, samples, find_boxes(load_run(run), samples))
    print(f"{out}: {len(samples)} boxes")


def label(
    runs: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR...")],
    /,
    *,
    dataset: str,
    out: Path,
    split: str = "train",
    limit: int | None = None,
    views: int = 1,
    data_dir: Folder = None,
) -> None:
    """Labels faces with what trained runs find in them, as a pack to train other networks on.

    The points are the mean of all runs, and each keeps how sure they are of it. A smaller network,
    or one that has few labels, learns from them beside its own:

      lapjax label runs/a runs/b --dataset lfw --out told.npz
      lapjax train fast-small-laplacekl --out runs/c \\
          --unlabelled told.npz --semi.method labels

    Args:
      runs: the --out of `lapjax train`, ONNX files or shipped models, one or more of one scheme
      dataset: a prepared set or a pack (*.npz)
      out: the pack to write, a *.npz
      split: of the set; the pack's is called train
      limit: only the first so many faces
      views: how often each run looks at a face, slightly moved after the first time: 8 are worth more
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
    """
    from lapjax import data
    from lapjax.checkpoints.run import load_run
    from lapjax.evaluation.pseudo_labels import label as label_faces

    check_place(out, "--out")
    if out.suffix != ".npz":
        raise LapjaxError(f"--out {out} must end in .npz: it is a pack")
    with console(stderr=True).status(f"labelling {dataset}"):
        models = [load_run(run) for run in runs]
        samples = data.load_dataset(dataset, split, data_dir=data_dir, limit=limit, encoded=True)
        found = label_faces(models, samples, views=views)
        data.write_pack(out, {"train": found})
    print(f"{out}: {len(found)} faces, {found.scheme.count} points each")
