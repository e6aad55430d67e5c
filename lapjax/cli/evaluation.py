"""The commands that measure: `evaluate` a run or a file of predictions, `compare` two, `calibrate` or `report` runs."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from lapjax.checkpoints import pretrained
from lapjax.cli.options import File, Folder, Name, check_place, console
from lapjax.errors import LapjaxError

__all__ = ["calibrate", "compare", "evaluate", "report"]


def evaluate(
    run: Annotated[Path | None, tyro.conf.arg(metavar="[DIR]", help_behavior_hint="")] = None,
    /,
    *,
    predictions: File = None,
    truth: File = None,
    scheme: Name = None,
    dataset: Name = None,
    split: Name = None,
    checkpoint: Literal["best", "last"] = "best",
    threshold: Annotated[tuple[float, ...], tyro.conf.arg(metavar="PERCENT...")] = (8.0, 10.0),
    json: File = None,
    per_image: File = None,
    data_dir: Folder = None,
) -> None:
    """Prints the errors of a trained run on a split, or of anyone's predictions: NME by every
    normaliser, failure rate and AUC with bootstrap intervals over the images, NME by facial part,
    the mean scale b; for each subset and for all; of a calibrated run also what its confidence is
    worth.

      lapjax evaluate runs/a --split test
      lapjax evaluate --predictions mine.npz --truth labels.npz --scheme 300w
      lapjax evaluate --predictions mine.npz --dataset the300w --split validation

    FILE of --predictions is an .npz or a JSON object with `prediction` (N, K, 2), points (x, y) in
    px of the original image, and as you have them `image` (N) names, `subset` (N) names, and `scale`
    (N, K, 2) or (N, K), Laplace scales b in image px. The truth is `ground_truth` (N, K, 2) in the
    same file, in the one of --truth, or the labels of a prepared split; with it may stand `visible`
    (N, K), where it is known, and `box` (N, 4) as min x, min y, max x, max y, else the tight box of
    the true points. Two files are matched by `image` where both have it, else row by row.

    Args:
      run: the --out of `lapjax train`, an ONNX file of `lapjax export` or a shipped model's name
      predictions: a file of predictions to score instead of a run
      truth: the file with their `ground_truth`
      scheme: what the points are: 300w, aflw, wflw, cofw, five or a JSON file; a prepared set knows
      dataset: a prepared set or a pack (*.npz); the one that the run was trained on by default
      split: of that set; for a run the one that chose the best checkpoint by default
      checkpoint: (run) the one with the lowest validation NME, or the newest
      threshold: of failure rate and AUC, percent of the normaliser; one or more
      json: write all numbers, the cumulative error curve and the conditions to this file too
      per_image: write a row for each image, worst first, to this .csv or .json; for `lapjax compare`
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
    """
    from lapjax import metrics
    from lapjax.cli import tables
    from lapjax.metrics import scoring

    if (run is None) == (predictions is None):
        raise LapjaxError("say what to evaluate: the directory of a run, or --predictions FILE")
    metrics.threshold_keys(threshold)
    for path, option in ((json, "--json"), (per_image, "--per-image")):
        if path is not None:
            check_place(path, option)
    if per_image is not None:
        scoring.table_suffix(per_image)
    with console(stderr=True).status(f"evaluating {run or predictions}"):
        if run is not None:
            if truth is not None:
                raise LapjaxError("--truth goes with --predictions; for a run name --dataset and --split")
            matched, worth = _of_run(run, dataset, split, checkpoint, data_dir, scheme)
        else:
            matched, worth = _of_file(predictions, truth, dataset, split, checkpoint, data_dir, scheme), {}
        result = scoring.score(matched, thresholds=threshold) | worth
    console().print(tables.table(result))
    if json is not None:
        scoring.write_json(json, result)
    if per_image is not None:
        scoring.write_per_image(per_image, matched)


def _of_run(run, dataset, split, checkpoint, data_dir, scheme):
    from lapjax import data
    from lapjax.checkpoints.run import load_run
    from lapjax.evaluation.calibrate import assess, points
    from lapjax.evaluation.evaluate import config_conditions, match, predict

    trained = load_run(run, which=checkpoint)
    samples = data.load_dataset(
        dataset or trained.config.dataset,
        split or trained.config.validation_split,
        data_dir=data_dir,
        scheme=scheme,
    )
    conditions = config_conditions(trained.config) | {
        "train_faces": trained.info["labelled"],
        "step": trained.step,
        "checkpoint": checkpoint,
    }
    guess = predict(trained, samples)
    matched = match(trained, samples, conditions=conditions, guess=guess)
    if trained.calibration is None:
        return matched, {}
    return matched, {"trust": assess(trained, samples, facts=points(trained, samples, guess=guess))}


def _of_file(predictions, truth, dataset, split, checkpoint, data_dir, scheme):
    from lapjax import data
    from lapjax.metrics.predictions import match
    from lapjax.schemes import get_scheme

    if checkpoint != "best":
        raise LapjaxError("--checkpoint goes with a run, not with --predictions; leave it out")
    if (dataset is None) != (split is None) or None not in (truth, dataset):
        raise LapjaxError("the truth of --predictions is --truth FILE, or --dataset NAME with --split NAME")
    if dataset is not None:
        samples = data.load_dataset(dataset, split, data_dir=data_dir, scheme=scheme, encoded=True)
        return match(predictions, truth=samples, scheme=samples.scheme)
    if scheme is None:
        raise LapjaxError(
            "say with --scheme what the points are: 300w, aflw, wflw, cofw, five or a JSON file"
        )
    return match(predictions, truth=truth, scheme=get_scheme(scheme))


def compare(
    a: Annotated[Path, tyro.conf.arg(metavar="A")],
    b: Annotated[Path, tyro.conf.arg(metavar="B")],
    /,
    *,
    normaliser: Annotated[
        Literal["inter_ocular", "inter_pupil", "box", "diagonal"] | None,
        tyro.conf.arg(metavar="NAME", help_behavior_hint=""),
    ] = None,
    json: File = None,
) -> None:
    """Says whether A is better than B on the same images, by how much, and how sure that is.

      lapjax evaluate runs/a --split test --per-image a.csv
      lapjax evaluate --predictions theirs.npz --truth labels.npz \\
          --scheme 300w --per-image b.csv
      lapjax compare a.csv b.csv

    The images are matched by name. The mean difference in NME comes with its bootstrap interval
    over the images, the p-value of a paired permutation test (were there no difference, each image
    could as well favour the other), and the share of images where A is better. The test tells two
    sets of points apart: how much another training of either would differ, only more runs can say.

    Args:
      a: a file that `lapjax evaluate --per-image` wrote, .csv or .json
      b: another on the same images
      normaliser: inter_ocular, inter_pupil, box or diagonal; inter_ocular by default, else box
      json: write the numbers and their conditions to this file too
    """
    from lapjax.metrics import scoring

    if json is not None:
        check_place(json, "--json")
    rows = [scoring.read_per_image(path) for path in (a, b)]
    result = scoring.compare(*rows, normaliser=normaliser)
    console().print(scoring.verdict(result, str(a), str(b)), highlight=False, markup=False)
    if json is not None:
        scoring.write_json(json, {"a": str(a), "b": str(b)} | result)


def calibrate(
    run: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    /,
    *,
    dataset: Name = None,
    split: str = "calibration",
    level: float = 0.9,
    tolerance: float = 0.05,
    out: File = None,
    data_dir: Folder = None,
) -> None:
    """Fits the confidence of a trained run on held-out faces and keeps it there: a radius in px for
    each point, and the probability that the point is close. `lapjax train` does so by itself where
    the set has a split named calibration.

    The radius holds the true point of a new image from the same source 9 times in 10, on average
    over images and landmarks. It promises nothing of images from elsewhere, so calibrate an
    exported file or a shipped model on faces like yours:

      lapjax calibrate face-68 --dataset mine --out mine.onnx

    Args:
      run: the --out of `lapjax train`, an ONNX file of `lapjax export` or a shipped model's name
      dataset: a prepared set or a pack (*.npz); the one it was trained on by default
      split: of that set; neither the one that trained the run nor the one that chose its checkpoint
      level: the probability that the radius is to hold
      tolerance: the error that counts as close, over sqrt(width * height) of the face's box
      out: the file to write, of a file or a shipped model, which stays as it is
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
    """
    from lapjax.checkpoints import runtime
    from lapjax.deployment.export import export
    from lapjax.evaluation import calibrate

    place = pretrained.find(run)
    if place.is_dir() and out is not None:
        raise LapjaxError(f"a run keeps its confidence itself: leave --out {out} out")
    if not place.is_dir() and out is None:
        raise LapjaxError(
            f"{run} is a file, which stays as it is: say with --out where the calibrated one goes"
        )
    if out is not None:
        check_place(out, "--out")
    with console(stderr=True).status(f"calibrating {run}"):
        found = calibrate.calibrate(
            run, dataset=dataset, split=split, data_dir=data_dir, level=level, tolerance=tolerance
        )
        if out is not None:
            card, _ = runtime.open_file(place)
            export(run, out, precision=card.precision, calibration=found, check=False, data_dir=data_dir)
    for note in found.notes:
        print(f"note: {note}")
    print(
        f"{out or run}: confidence fitted on {found.images} images; `lapjax evaluate {out or run} --split test` says what "
        "it is worth"
    )


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR...")],
    /,
    *,
    out: Path,
    dataset: Name = None,
    split: str = "test",
    data_dir: Folder = None,
    scheme: Name = None,
) -> None:
    """Writes one page about one trained run, or several side by side: errors, faces with points and
    scales, heatmaps, what the confidence is worth, other boxes, training. It opens offline, and it
    shows faces of the split: mind their terms before you pass it on.

      lapjax report runs/laplacekl runs/sam --split validation --out report.html

    Args:
      runs: the --out of each `lapjax train`, ONNX files or shipped models
      out: the .html to write
      dataset: a prepared set or a pack (*.npz); the one that the first run was trained on by default
      split: of that set
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
      scheme: what the points of a TFDS set are that lapjax did not prepare, by name or as a JSON file
    """
    from lapjax import data
    from lapjax.checkpoints.run import load_run
    from lapjax.visualization.report import report as write_page
    from lapjax.visualization.report import write_report

    if not runs:
        raise LapjaxError("name at least one run directory: `lapjax report runs/a --out report.html`")
    check_place(out, "--out")
    names = [path.resolve().name for path in runs]
    if len(set(names)) < len(names):
        names = [str(path) for path in runs]
    with console(stderr=True).status(f"looking at {', '.join(names)}"):
        own = load_run(runs[0]).config.dataset if dataset is None else dataset
        samples = data.load_dataset(own, split, data_dir=data_dir, scheme=scheme)
        write_report(out, write_page(dict(zip(names, runs, strict=True)), samples))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")
