"""The commands that put a trained run to use, `export`, `locate` and `models`, as tyro reads them off each signature."""

import json as json_
from pathlib import Path
from typing import Annotated, Literal, cast

import tyro

from lapjax.cli.options import File, Flag, Folder, Name, check_place, console, say

__all__ = ["export", "locate", "models"]


def export(
    run: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    /,
    *,
    format: Literal["onnx", "jax"] = "onnx",
    precision: Literal["float32", "float16", "int8"] = "float32",
    out: File = None,
    no_calibration: Flag = False,
    no_check: Flag = False,
    dataset: Name = None,
    split: Name = None,
    data_dir: Folder = None,
) -> None:
    """Writes a run's best model as one file: decoder and calibration inside, any number of faces at
    a time, with all that is needed to use it in its metadata. The file is measured against the
    network on real faces before it is put in place.

    Args:
      run: the --out of `lapjax train`, an ONNX file of lapjax or a shipped model's name
      format: onnx, which runs without JAX; jax, a program for jax.export, readable for six months
      precision: of the weights; float16 halves the file, int8 (onnx) halves it again
      out: the file to write; in DIR by default
      no_calibration: leave radius and confidence out
      no_check: do not measure the file against the network
      dataset: with the faces to measure on; the run's own by default
      split: of that set; the run's validation split by default
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
    """
    from lapjax.deployment.export import export as export_run

    if out is not None:
        check_place(out, "--out")
    with console(stderr=True).status(f"exporting {run}"):
        done = export_run(
            run,
            out,
            format=format,
            precision=precision,
            calibrated=not no_calibration,
            check=not no_check,
            dataset=dataset,
            split=split,
            data_dir=data_dir,
        )
    print(f"{done.path}: {done.size:,} bytes, {precision}, {done.card.scheme.count} points")
    if done.card.parity is not None:
        print(_said(done.card))


def _said(card) -> str:
    """A parity report in words."""
    found = card.parity
    points, scale, error = found["points_px"], found["scale_px"], found["nme"]
    text = (
        f"Against the network, on {found['data']} ({found['faces']} faces, boxes from the true landmarks):\n"
        f"  points are {points['mean']:g} input px apart on average, {points['max']:g} at most; "
        f"b {scale['mean']:g} and {scale['max']:g}\n"
        f"  {card.provenance['metric']}: {error['file']:.3f} %, the network's {error['network']:.3f} %"
    )
    if "radius_holds" in found:
        held = found["radius_holds"]
        text += (
            f"\n  the radius holds {held['file']:.1f} % of the points, the network's {held['network']:.1f} %, "
            f"of the {100 * card.calibration.level:g} % promised"
        )
    return text


def locate(
    model: Annotated[str, tyro.conf.arg(metavar="FILE_OR_DIR")],
    image: Annotated[Path, tyro.conf.arg(metavar="IMAGE")],
    /,
    *,
    box: Annotated[tuple[float, float, float, float], tyro.conf.arg(metavar="X0 Y0 X1 Y1")],
    json: Flag = False,
) -> None:
    """Finds the points of one face in a photograph, in pixels of the upright image.

    Args:
      model: a file that `lapjax export` wrote, the --out of `lapjax train`, or a shipped model's name
      image: the photograph
      box: the tight box of the face's landmarks in image px: left, top, right, bottom
      json: as JSON
    """
    from lapjax.deployment.localizer import Localizer, Result

    localizer = Localizer.load(model)
    found = cast(Result, localizer(image, box=box))
    columns = {"x": found.points[:, 0], "y": found.points[:, 1]}
    columns |= {"b_x": found.scale[:, 0], "b_y": found.scale[:, 1]}
    if localizer.calibrated:
        columns |= {"radius": found.radius, "confidence": found.confidence}
    if json:
        rows = [
            dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        said = {"model": localizer.card.name, "image": str(image), "box": list(box), "unit": "image px"}
        said |= {"level": localizer.level, "tolerance": localizer.tolerance}
        points = [{"name": name} | row for name, row in zip(found.names, rows, strict=True)]
        print(json_.dumps(said | {"points": points}, indent=2))
        return
    width = max(map(len, found.names))
    print(f"{'':{width}}" + "".join(f"{column:>11}" for column in columns))
    for name, *row in zip(found.names, *columns.values(), strict=True):
        print(f"{name:{width}}" + "".join(f"{value:11.2f}" for value in row))
    if localizer.level is not None and localizer.tolerance is not None:
        say(
            f"In image px. The radius holds the true point {100 * localizer.level:g} % of the time; the confidence is the "
            f"probability of an error below {100 * localizer.tolerance:g} % of the box's size."
        )


def models(*, json: Flag = False) -> None:
    """Lists the trained networks that come with lapjax. Every command that takes a run directory
    takes their names too; `lapjax.Localizer.load(NAME)` needs no more than NumPy, pillow and
    onnxruntime.

    Args:
      json: as JSON, with all that was measured and how
    """
    from rich import box
    from rich.table import Table

    from lapjax.checkpoints import pretrained

    known = pretrained.list_pretrained()
    if json:
        print(json_.dumps(known, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = ("bytes", "weights", "points", "input", "NME")
    for head in ("model", *numbers, "measured on"):
        table.add_column(head, justify="right" if head in numbers else "left", no_wrap=True)
    for name, said in known.items():
        numbers = [f"{said[key]:,}" for key in ("bytes", "parameters", "landmarks")]
        nme = said["nme"]
        where = f"{nme['dataset']} {nme['split']}"
        table.add_row(name, *numbers, f"{said['input_size']} px", f"{nme['percent']:.2f} %", where)
    console().print(table)
    say("NME: mean error over the inter-ocular distance, through the file, boxes from the true landmarks.")
    for name, said in known.items():
        say(f"{name}: {said['terms'] or 'free of terms of others'}")
