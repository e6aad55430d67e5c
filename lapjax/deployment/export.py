"""A trained run as one file that runs without it: ONNX, or a JAX program, with the decoder and the calibration inside.

Every file is opened again as its users will open it and measured beside the network it came from, before it is put
in its place.
"""

import dataclasses
import datetime
import functools
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from lapjax import data, geometry, metrics
from lapjax.calibration.scale import Calibration
from lapjax.checkpoints import runtime
from lapjax.checkpoints.model_card import Card, describe
from lapjax.checkpoints.run import Run, load_run
from lapjax.data import augment
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import check_crop, estimate, input_to_image, predict
from lapjax.files import replacing
from lapjax.metrics.scoring import truth
from lapjax.samples import Samples

__all__ = ["FORMATS", "PRECISIONS", "Exported", "default_path", "export"]

FORMATS = ("onnx", "jax")
PRECISIONS = ("float32", "float16", "int8")
# How far float32 may be from the network, input px.
_TOLERANCE = 0.01
# Faces that int8 takes the ranges of its activations from.
_RANGE_FACES = 208
_BATCH = 16


class Exported(NamedTuple):
    """A file that `export` wrote."""

    path: pathlib.Path
    size: int
    """Bytes."""
    card: Card


def export(
    source: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    name: str | None = None,
    format: str = "onnx",
    precision: str = "float32",
    calibration: Calibration | None = None,
    calibrated: bool = True,
    check: bool = True,
    dataset: str | None = None,
    split: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> Exported:
    """Writes the best model of a run directory as one file, for `Localizer.load` or any ONNX runtime.

    Args:
      source: the run directory, or what else `load_run` takes.
      out: the file; `NAME.PRECISION.onnx` (or `.jax`) by default, in the run directory or else where you are.
      name: that the file gives itself; the run's by default.
      format: "onnx", the one to keep, or "jax": a zip archive of card.json and a `jax.export` program for CPU, GPU and TPU, which
        later versions of JAX are promised to read for six months; its card says until when.
      precision: "float32"; "float16", which weights are kept in, computing in float32; or, as ONNX, "int8", whose ranges
        are measured on faces of the run's training split.
      calibration: in place of the run's own.
      calibrated: False exports a run without its calibration: points and scale alone.
      check: measure the file against the network on real faces; False skips that.
      dataset: a prepared set or a pack with the faces to measure on; the run's own by default.
      split: of it; the run's validation split by default.
      data_dir: where prepared sets lie, see `data.data_directory`.

    Raises:
      LapjaxError: no such run, format or precision, a run that was not calibrated, faces that cannot be had, a file that
        cannot be written, or one in float32 that does not say what the network says.

    Returns:
      The file's path, its size in bytes and its card.

    Examples:
      >>> import lapjax
      >>> done = lapjax.export("toy-68", "toy.onnx", precision="float16", check=False)
      >>> 90_000 < done.size < 110_000, done.card.precision
      (True, 'float16')
    """
    for option, value, known in (("format", format, FORMATS), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise LapjaxError(f"{option} {value!r}: choose one of {', '.join(known)}")
    if (format, precision) == ("jax", "int8"):
        raise LapjaxError("int8 is for ONNX, whose runtimes compute in it: choose float16, or format onnx")
    run = load_run(source)
    if calibration is not None:
        run = dataclasses.replace(run, calibration=calibration)
    if calibrated and run.calibration is None:
        raise LapjaxError(
            f"{source} is not calibrated, so its file could not say how far off a point may be: `lapjax calibrate "
            f"{source}` first, or leave radius and confidence out with --no-calibration"
        )
    path = default_path(source, precision, format) if out is None else pathlib.Path(out)
    card = describe(run, name=name or _name(source), precision=precision, calibrated=calibrated)
    if format == "jax":
        card = dataclasses.replace(card, provenance=card.provenance | _shelf_life())
    own, samples = run.config, None
    if check:
        samples = data.load_dataset(dataset or own.dataset, split or own.validation_split, data_dir=data_dir)
        if not samples.scheme.count:
            raise LapjaxError(
                f"{samples.meta.get('dataset')} has no points to measure against: choose another --dataset"
            )
    if format == "jax":
        content = _jax_file(run, card)
    else:
        ranges = ()
        if precision == "int8":
            known = data.load_dataset(
                own.dataset, own.train_split, limit=own.train_limit, data_dir=data_dir, encoded=True
            )
            ranges = _ranges(run, card, known)
        content = _onnx_file(run, card, ranges)
    if samples is not None:
        parity = _parity(run, content, str(path), samples)
        if precision == "float32" and not parity["points_px"]["max"] <= _TOLERANCE:
            raise LapjaxError(
                f"the file's points are up to {parity['points_px']['max']:.3g} px from the network's: nothing was "
                "written; please report this"
            )
        card = dataclasses.replace(card, parity=parity)
        content = _with_card(content, card)
    with replacing(
        path, "cannot write {path}: {reason}; free some space or choose another place", parents=True
    ) as part:
        part.write_bytes(content)
    return Exported(path, len(content), card)


def default_path(source: str | os.PathLike, precision: str, format: str) -> pathlib.Path:
    """Where `export` writes when it is not told: NAME.PRECISION.FORMAT, in the run directory or else where you are."""
    place = pathlib.Path(source)
    return (place if place.is_dir() else pathlib.Path()) / f"{_name(source)}.{precision}.{format}"


def _name(source) -> str:
    """Of a run directory its name, of a file that without its endings."""
    place = pathlib.Path(source).absolute()
    return place.name if place.is_dir() else place.name.partition(".")[0]


def _onnx_file(run: Run, card: Card, ranges=()) -> bytes:
    from lapjax.checkpoints import onnx_graph

    model = onnx_graph.build(
        card.model,
        run.variables,
        card.scheme.count,
        precision=card.precision,
        calibration=card.calibration,
        ranges=ranges,
    )
    return _with_card(model.SerializeToString(), card)


def _jax_file(run: Run, card: Card) -> bytes:
    """The program with its weights, in the form that any later JAX can run for some time (jax.export's promise)."""
    kept = np.float16 if card.precision == "float16" else np.float32
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, kept), run.variables)

    def points_and_scale(images):
        weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)
        return estimate(card.model, weights, augment.unit(images))._asdict()

    calibration = card.calibration

    def calibrated(images, box_size):
        assert calibration is not None
        found = points_and_scale(images)
        said = calibration.formula(found["points"], found["scale"], box_size, xp=jnp)
        return found | {"radius": said.radius, "confidence": said.confidence}

    (count,) = jax.export.symbolic_shape("n")
    size = card.model.input_size
    shapes = [jax.ShapeDtypeStruct((count, size, size, 3), np.uint8)]
    function = points_and_scale
    if calibration is not None:
        function = calibrated
        shapes.append(jax.ShapeDtypeStruct((count,), np.float32))
    program = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*shapes)
    return _archive({runtime.FUNCTION: bytes(program.serialize())}, card)


def _shelf_life() -> dict:
    """Which JAX wrote a program, and until when later ones are promised to read it (six months by jax.export)."""
    until = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=180)
    return {"jax": jax.__version__, "readable_until": until.isoformat(), "archive": "keep the ONNX file"}


def _with_card(content: bytes, card: Card) -> bytes:
    """A file with another card."""
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return _archive({runtime.FUNCTION: file.read(runtime.FUNCTION)}, card)
    import onnx

    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, card.to_properties())
    return model.SerializeToString()


def _archive(parts: dict[str, bytes], card: Card) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        text = json.dumps(card.to_properties(), indent=1)
        for name, part in {runtime.CARD: text, **parts}.items():
            # Without the time of day, so that the same run gives the same bytes.
            file.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _ranges(run: Run, card: Card, samples: Samples) -> list[tuple[float, float]]:
    """The range of each activation: the extremes within a batch, averaged over batches, as rare ones cost all precision."""
    from lapjax.checkpoints import onnx_graph

    check_crop(card.model, samples)
    some = samples.take(np.unique(np.linspace(0, len(samples) - 1, _RANGE_FACES).astype(int)))
    images = _crops(card, some)
    watched = onnx_graph.build(card.model, run.variables, card.scheme.count, watched=True)
    _, engine = runtime.open_bytes(_with_card(watched.SerializeToString(), card), "the network")
    extremes = []
    for rows in _batches(len(images)):
        found = engine(images[rows], np.ones(_BATCH))
        extremes.append([(value.min(), value.max()) for key, value in found.items() if "activation" in key])
    return [(float(low), float(high)) for low, high in np.mean(extremes, axis=0)]


def _crops(card: Card, samples: Samples) -> np.ndarray:
    """The faces as the network's input in bytes, (N, S, S, 3)."""
    cut = jax.jit(functools.partial(augment.crop, model=card.model, chip_factor=samples.meta["chip_factor"]))
    images = []
    for rows in _batches(len(samples)):
        chips = np.asarray(samples.take(rows).images)
        crops = cut(chips, *augment.no_landmarks(chips))
        images.append(augment.to_bytes(crops.images))
    return np.concatenate(images)[: len(samples)]


def _batches(count: int) -> Iterator[np.ndarray]:
    """The indices of `count` rows in batches of one size, so that JAX compiles once; the last repeats the last row."""
    for start in range(0, count, _BATCH):
        yield np.minimum(np.arange(start, start + _BATCH), count - 1)


def _parity(run: Run, content: bytes, name: str, samples: Samples) -> dict:
    """How far a file is from the network: on the same bytes, and in the error that either makes.

    Returns:
      `points_px` and `scale_px`, the largest and the mean difference in input px; `nme`, percent, of the network as
      `evaluate` measures it and of the file; `radius_holds`, the share of points inside theirs, percent, of both.
    """
    card, engine = runtime.open_bytes(content, name)
    guess = predict(run, samples)
    images, to_image = _crops(card, samples), input_to_image(card.model, samples)
    unit = guess.input_to_image
    box_size = geometry.box_size(samples.box) / unit
    say = jax.jit(functools.partial(estimate, card.model))
    parts, ours = [], []
    for rows in _batches(len(samples)):
        parts.append(engine(images[rows], box_size[rows]))
        ours.append(say(run.variables, augment.unit(images[rows])))
    found = {key: np.concatenate([part[key] for part in parts])[: len(samples)] for key in parts[0]}
    points, scale = (np.concatenate(column)[: len(samples)] for column in zip(*ours, strict=True))
    where = truth(samples)
    placed = geometry.apply(to_image, found["points"].astype(np.float64))

    def apart(a, b):
        off = np.linalg.norm(a.astype(np.float64) - b, axis=-1)
        return {"max": float(f"{off.max():.3g}"), "mean": float(f"{off.mean():.3g}")}

    def nme(prediction):
        errors = metrics.image_nme(prediction, where, samples.visible, samples.box, samples.scheme)
        return round(float(errors.mean()), 4)

    parity = {
        "data": f"{samples.meta.get('dataset')} {samples.meta.get('split')}",
        "faces": len(samples),
        "points_px": apart(found["points"], points),
        "scale_px": apart(found["scale"], scale),
        "nme": {"network": nme(guess.points), "file": nme(placed)},
    }
    if card.calibration is not None:

        def holds(prediction, radius):
            inside = metrics.point_errors(prediction, where) <= radius * unit[:, None]
            return round(100 * float(inside[samples.visible].mean()), 2)

        said = card.calibration.formula(guess.input_points, guess.scale, box_size)
        parity["radius_holds"] = {
            "network": holds(guess.points, said.radius),
            "file": holds(placed, found["radius"]),
        }
    return parity
