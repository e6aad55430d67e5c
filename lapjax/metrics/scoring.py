"""The neutral ruler: anyone's points matched with the truth, one score for all, and who is better than whom.

`lapjax evaluate` measures a trained run and a file of predictions by the same `score`. NumPy alone: no JAX.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
import re

import numpy as np

from lapjax import geometry, metrics
from lapjax.errors import LapjaxError
from lapjax.files import replacing
from lapjax.metrics import bootstrap
from lapjax.samples import Samples
from lapjax.schemes import Scheme

__all__ = [
    "Matched",
    "compare",
    "per_image",
    "read_per_image",
    "score",
    "table_suffix",
    "truth",
    "verdict",
    "write_json",
    "write_per_image",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Matched:
    """Predictions of N images with their truth, row by row.

    Attributes:
      prediction: (N, K, 2), image px.
      truth: (N, K, 2), image px; anything where not visible.
      visible: (N, K) bool, or None where all points count.
      box: (N, 4), image px: min x, min y, max x, max y.
      image: (N,) str names.
      subset: (N,) str, "" for none; or None.
      scheme: what the K points are.
      scale: (N, K, 2) b_x and b_y, or None.
      scale_to_image: (N,) image px per px of the scale, or None without a scale.
      conditions: what was measured, and how, for all that is printed or written.
    """

    prediction: np.ndarray
    truth: np.ndarray
    visible: np.ndarray | None
    box: np.ndarray
    image: np.ndarray
    subset: np.ndarray | None
    scheme: Scheme
    scale: np.ndarray | None = None
    scale_to_image: np.ndarray | None = None
    conditions: dict = dataclasses.field(default_factory=dict)


def truth(samples: Samples) -> np.ndarray:
    """The labels of `samples` in image px, (N, K, 2) float64."""
    to_image = geometry.invert(samples.image_to_chip.astype(np.float64))
    return geometry.apply(to_image, samples.landmarks.astype(np.float64))


def score(matched: Matched, *, thresholds=metrics.THRESHOLDS) -> dict:
    """Every number of matched predictions: `metrics.summary`, with the box rule and the normaliser among its conditions.

    Raises:
      LapjaxError: as `metrics.summary`.

    Examples:
      Of two faces whose points are all 3 px off:

      >>> import lapjax
      >>> from lapjax.metrics.scoring import Matched, truth
      >>> samples = lapjax.load_dataset("toy_faces", "test", limit=2)
      >>> true = truth(samples)  # (2, 68, 2) image px
      >>> scheme = samples.scheme
      >>> matched = Matched(true + [3, 0], true, samples.visible, samples.box, samples.name, None, scheme)
      >>> result = lapjax.score(matched)
      >>> result["images"], result["failure_rate"]["8"] in (0.0, 50.0, 100.0)
      (2, True)
    """
    return metrics.summary(
        matched.prediction,
        matched.truth,
        matched.visible,
        matched.box,
        matched.subset,
        matched.scheme,
        scale=matched.scale,
        scale_to_image=matched.scale_to_image,
        thresholds=thresholds,
        conditions=_conditions(matched),
    )


def _conditions(matched: Matched) -> dict:
    known = {
        "scheme": matched.scheme.name,
        "box": _box_rule(matched.truth, matched.visible, matched.box),
        "normaliser": metrics.primary_normaliser(matched.scheme),
    }
    return known | matched.conditions


def _box_rule(truth, visible, box) -> str:
    """How boxes (N, 4) came about, judged by the boxes themselves: most sets keep the tight one of the truth."""
    tight = geometry.box_of(truth, visible)
    off = np.abs(tight - box).max(axis=1)
    close = off <= 0.01 * (tight[:, 2:] - tight[:, :2]).max(axis=1)
    return "tight box of the true landmarks" if close.all() else "annotated box"


def per_image(matched: Matched) -> list[dict]:
    """One row an image, by the primary normaliser the worst first.

    Returns:
      rows of `image`, `subset`, NME in percent by each of `metrics.NORMALISERS` (None where the scheme lacks it) and
      `scale`, the mean of b_x and b_y over the visible points in px of the scale (None without one).

    Raises:
      LapjaxError: as `metrics.summary`.
    """
    values = metrics.image_values(
        matched.prediction,
        matched.truth,
        matched.visible,
        matched.box,
        matched.scheme,
        scale=matched.scale,
    )
    columns = {field: values.nme[field] for field in metrics.NORMALISERS} | {"scale": values.scale}
    worst = values.nme[metrics.primary_normaliser(matched.scheme)]
    assert worst is not None  # every scheme has its first normaliser
    subset = np.full(len(matched.image), "") if matched.subset is None else matched.subset
    return [
        {"image": str(matched.image[row]), "subset": str(subset[row])}
        | {field: None if column is None else float(column[row]) for field, column in columns.items()}
        for row in np.argsort(-worst, kind="stable")
    ]


def write_per_image(path: str | os.PathLike, matched: Matched) -> None:
    """Writes `per_image` as .csv, or as .json with the conditions, by the path's suffix; `compare` takes either.

    Raises:
      LapjaxError: another suffix, a file that cannot be written, or as `metrics.summary`.
    """
    suffix, rows = table_suffix(path), per_image(matched)
    if suffix == ".json":
        write_json(path, {"conditions": _conditions(matched), "images": rows}, option="--per-image")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(path, text.getvalue(), "--per-image")


def read_per_image(path: str | os.PathLike) -> list[dict]:
    """The rows that `write_per_image` wrote.

    Raises:
      LapjaxError: a file that is not one of its.
    """
    path, remedy = pathlib.Path(path), "give a file that `lapjax evaluate --per-image FILE` wrote"
    suffix = table_suffix(path)
    try:
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text)["images"] if suffix == ".json" else [*csv.DictReader(io.StringIO(text))]
        rows = [_row(row) for row in rows]
    except OSError as error:
        raise LapjaxError(f"cannot read {path}: {error.strerror or error}; {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LapjaxError(f"{path} is not a table of images; {remedy}") from error
    names = [row["image"] for row in rows]
    if len(set(names)) != len(names) or not names:
        raise LapjaxError(f"{path} has {'an image twice' if names else 'no images'}; {remedy}")
    return rows


def _row(row: dict) -> dict:
    numbers = {field: row[field] for field in (*metrics.NORMALISERS, "scale")}
    out = {field: None if value in (None, "") else float(value) for field, value in numbers.items()}
    if not all(value is None or np.isfinite(value) for value in out.values()):
        raise ValueError("not finite")
    return {"image": str(row["image"]), "subset": str(row["subset"])} | out


def table_suffix(path: str | os.PathLike) -> str:
    """Of a table of images: .csv or .json, else LapjaxError."""
    suffix = pathlib.Path(path).suffix.lower()
    if suffix not in (".csv", ".json"):
        raise LapjaxError(f"{path}: a table of images is a .csv or a .json file; name it so")
    return suffix


def compare(a: list[dict], b: list[dict], *, normaliser: str | None = None, seed: int = 0) -> dict:
    """Whether A is better than B on the same images, by how much and how sure: `bootstrap.paired` of their NMEs.

    Args:
      a: rows of `per_image`, in any order.
      b: rows of the same images.
      normaliser: one of `metrics.NORMALISERS`; by default inter_ocular where both have it, else box.
      seed: of the bootstrap and the permutations.

    Returns:
      `nme` {a, b}, `difference` (a - b, percent of the normaliser: negative where A is better), `interval`, `p_value`,
      `better` and `equal` (shares of images in [0, 1]), `images`, and `conditions`.

    Raises:
      LapjaxError: images in one of the two only, a normaliser that one lacks, or different truths or boxes.

    Examples:
      >>> import lapjax
      >>> a = [{"image": str(i), "inter_ocular": 3.0 + 0.1 * i} for i in range(9)]
      >>> b = [row | {"inter_ocular": row["inter_ocular"] + 1} for row in a]
      >>> said = lapjax.compare(a, b)
      >>> round(said["difference"], 6), said["better"]  # percent; A is better on every image
      (-1.0, 1.0)
    """
    of_a, of_b = ({row["image"]: row for row in rows} for rows in (a, b))
    for name, only in (("A", of_a.keys() - of_b.keys()), ("B", of_b.keys() - of_a.keys())):
        if only:
            raise LapjaxError(f"{len(only)} images are in {name} only, {some(only)}: score both on the same")
    known = {
        field: (
            np.array([row[field] for row in of_a.values()], float),
            np.array([of_b[image][field] for image in of_a], float),
        )
        for field in metrics.NORMALISERS
        if all(row.get(field) is not None for row in (*a, *b))
    }
    normaliser = normaliser or ("inter_ocular" if "inter_ocular" in known else "box")
    if normaliser not in known:
        raise LapjaxError(f"normaliser {normaliser!r} is not in both files; use one of {', '.join(known)}")
    _same_truth(known, list(of_a))
    first, second = known[normaliser]
    found = bootstrap.paired(first, second, seed=seed)
    return {
        "nme": {"a": float(first.mean()), "b": float(second.mean())},
        "difference": found.difference,
        "interval": list(found.interval),
        "p_value": found.p_value,
        "better": found.lower,
        "equal": found.equal,
        "images": len(first),
        "conditions": {
            "normaliser": normaliser,
            "test": "paired over images: sign-flip permutation test, two-sided",
            "interval": "percentile bootstrap over images",
            "level": bootstrap.LEVEL,
            "samples": bootstrap.SAMPLES,
            "permutations": bootstrap.PERMUTATIONS,
            "seed": seed,
        },
    }


def _same_truth(known: dict, images: list[str]) -> None:
    """The NMEs of one image by two normalisers have a ratio that the truth and the box alone decide."""
    fields = list(known)
    for field in fields[1:]:
        (a, b), (first_a, first_b) = known[field], known[fields[0]]
        # Labels that came as float32 differ from their float64 originals in the seventh digit.
        off = np.abs(a * first_b - b * first_a) > 1e-3 * np.maximum(a * first_b, b * first_a)
        if off.any():
            raise LapjaxError(
                f"A and B were measured against different points or boxes ({np.count_nonzero(off)} images, first "
                f"{images[int(np.argmax(off))]!r}): score both with the same truth"
            )


def verdict(comparison: dict, a: str = "A", b: str = "B") -> str:
    """A comparison in words: which is better, by how much, how sure, and under which conditions."""
    found, said = comparison, comparison["conditions"]
    low, high = found["interval"]
    level = f"{100 * said['level']:g} %"
    numbers = f"mean NME {found['nme']['a']:.3f} against {found['nme']['b']:.3f} % by {said['normaliser']}"
    if found["p_value"] >= 1 - said["level"]:
        head = f"No sure difference between {a} and {b}"
    elif found["difference"] < 0:
        head = f"{a} is better than {b}"
    else:
        head = f"{a} is worse than {b}"
    return (
        f"{head}: {numbers}, a difference of {found['difference']:+.3f} ({level} interval {low:+.3f} to {high:+.3f}, "
        f"p = {found['p_value']:.2g}). {a} is better on {100 * found['better']:.1f} % of the {found['images']} images.\n"
        f"Paired over the images: two-sided sign-flip test, {said['permutations']:,} permutations; bootstrap, "
        f"{said['samples']:,} draws; seed {said['seed']}. It tells these two sets of points apart; how much another "
        "training of either would differ is not in it."
    )


def some(names, limit: int = 3) -> str:
    """A few names of many, for a message."""
    names = sorted(map(str, names))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more


def write_json(path: str | os.PathLike, result: dict, *, option: str = "--json") -> None:
    """Writes a result beside its place and renames it there; a list of numbers stays on one line.

    Raises:
      LapjaxError: the file cannot be written (choose another `option`), or the result holds NaN or infinity.
    """
    try:
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise LapjaxError(
            f"cannot write {path}: a number of the result is not finite; check the model"
        ) from error
    _write(path, re.sub(r"\[\n[^\[\]{}\"]*\]", _one_line, text), option)


def _one_line(found: re.Match) -> str:
    return "[" + " ".join(found[0][1:-1].split()) + "]"


def _write(path, text: str, option: str) -> None:
    with replacing(path, "cannot write {path}: {reason}; choose another " + option) as part:
        part.write_text(text, encoding="utf-8")
