"""The poster's experiments and what followed them, each as one command that goes on where it was left.

    python -m lapjax.reproduce semisupervised --dataset 300w.npz --unlabelled lfw.npz

trains the cells of `lapjax.grids` that have no record yet, one after the other, and after each writes

    RESULTS/NAME.json                the records: configuration, seed, errors, seconds, commit, machine
    RESULTS/NAME-SPLIT.csv           the error of every image under every cell
    RUNS/NAME/CELL                   its run directory

Killed at any moment it goes on when it is called again. The same command may run several times at once, on one machine
or on several that share these folders: each takes cells that no other holds. This module needs what a training from a
pack needs and no more: JAX, Flax, optax, orbax, NumPy, pillow.
"""

import argparse
import dataclasses
import fnmatch
import functools
import os
import pathlib
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable

from lapjax import data
from lapjax.card import commit
from lapjax.checkpoints import load_run
from lapjax.config import override, to_dict
from lapjax.cpu import with_huge_pages
from lapjax.errors import LapjaxError, LapjaxWarning
from lapjax.evaluate import config_conditions, match
from lapjax.files import holding, replacing
from lapjax.grids import BUDGETS, EVERYTHING, EXPERIMENTS, SEEDS, Cell, Source, grid
from lapjax.labelling import label
from lapjax.networks import parameter_count
from lapjax.records import Place, log_read, machine, read_results, results_file
from lapjax.scoring import per_image, score
from lapjax.train import train
from lapjax.weights import write_weights

__all__ = [
    "Progress",
    "leave",
    "listing",
    "main",
    "measure",
    "reproduce",
]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far an experiment is."""

    done: int
    cells: int
    held: int
    """By other processes, when this one had nothing left to do."""
    stopped: int | None
    """The signal that stopped it, None when there was nothing left to do."""


def reproduce(
    experiment: str,
    *,
    budget: str = "small",
    dataset: str | os.PathLike = "the300w",
    unlabelled: str | os.PathLike | None = "lfw",
    data_dir: str | os.PathLike | None = None,
    results: str | os.PathLike = "results",
    runs: str | os.PathLike = "runs",
    seeds: int = SEEDS,
    only: str | None = None,
    minutes: float | None = None,
    report: Callable[[str], None] = print,
) -> Progress:
    """Trains what is left of an experiment.

    Args:
      experiment: one of `grids.EXPERIMENTS`.
      budget: "small" or "full".
      dataset: a prepared set or pack with the splits train and validation.
      unlabelled: a prepared set or pack of faces to learn from without labels, its split train; None for none.
      data_dir: where prepared sets are.
      results: the folder of the records.
      runs: the folder of the run directories.
      seeds: of each cell.
      only: a pattern of cell names, `*` for anything; it reaches the cells too that are not trained otherwise.
      minutes: stop after so long; what is not finished is saved and goes on in the next call.
      report: called with every line to say.

    Raises:
      LapjaxError: an unknown experiment, budget or pattern, or as `train`.
    """
    deadline = time.monotonic() + 60 * minutes if minutes else None
    source = _source(dataset, unlabelled, data_dir)
    every = grid(experiment, EVERYTHING, budget=budget, seeds=seeds)
    cells = grid(experiment, source, budget=budget, seeds=seeds)
    if len(cells) < len(every):
        report(
            f"{len(every) - len(cells)} cells need more than the {source.faces:,} unlabelled faces here: left out"
        )
    cells = _choose(cells, only)
    place = Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs), data_dir)
    stopped, held = None, 0
    # Decoding the faces again for every cell would take its time. A cell reads six times, two of its three sets each.
    read = functools.lru_cache(maxsize=8)(data.load)
    while stopped is None:
        records = place.read()
        left = [cell for cell in cells if cell.name not in records]
        done, held, trained = len(cells) - len(left), 0, 0
        for cell in left:
            with holding(place.folder / f"{cell.name}.lock") as ours:
                if not ours:
                    held += 1
                    continue
                known = place.read()
                if cell.name in known or not (cell.teacher is None or cell.teacher in known):
                    continue
                report(f"{cell.name}, {done + trained + 1} of {len(cells)}")
                stopped = _train(cell, source, place, deadline, report, read)
            if stopped is not None:
                break
            trained += 1
        if not trained or stopped is not None:
            break
    known = place.read()
    done = sum(cell.name in known for cell in cells)
    return Progress(done, len(cells), held, stopped)


def _source(dataset, unlabelled, data_dir) -> Source:
    labelled = data.splits(dataset, data_dir=data_dir)
    if "train" not in labelled:
        raise LapjaxError(f"{dataset} has no split train: name a labelled set or pack that has one")
    faces = 0
    if unlabelled is not None:
        faces = data.splits(unlabelled, data_dir=data_dir).get("train", 0)
    name = None if unlabelled is None else str(unlabelled)
    return Source(str(dataset), labelled["train"], name, faces=faces)


def _choose(cells: list[Cell], only: str | None) -> list[Cell]:
    """The cells that a pattern names, those that nobody has to name without one; with the teachers of each."""
    known = {cell.name: cell for cell in cells}
    wanted = [
        name for name, cell in known.items() if (fnmatch.fnmatchcase(name, only) if only else not cell.extra)
    ]
    if not wanted:
        raise LapjaxError(f"no cell is called {only}: there are {', '.join(known)}")
    wanted += [known[name].teacher for name in wanted if known[name].teacher]
    return [cell for cell in cells if cell.name in wanted]


def listing(experiment: str, budget: str, results, *, only: str | None, seeds: int, report) -> None:
    """A line for each cell of an experiment: its name, and its error or that it is still to do."""
    file = results_file(experiment, budget, results)
    records = read_results(file)["cells"] if file.exists() else {}
    for cell in _choose(grid(experiment, EVERYTHING, budget=budget, seeds=seeds), only or "*"):
        said = "only when it is named" if cell.extra else "to do"
        if cell.name in records:
            split = records[cell.name]["config"]["validation_split"]
            said = f"{records[cell.name][split]['nme']:.3f} % on {split}"
        report(f"{cell.name:32} {said}")


def _train(cell: Cell, source: Source, place: Place, deadline, report, read) -> int | None:
    """Trains one cell, or goes on with it, and keeps its record; the signal that stopped it, if one did."""
    directory, config = place.folder / cell.name, cell.config
    resumed = (directory / "config.json").exists()
    told = place.folder / f"{cell.name}.told.npz"
    if cell.teacher:
        if not told.exists():
            _label(place.folder / cell.teacher, source, config.unlabelled_limit, told, place.data_dir)
        config = override(config, unlabelled=str(told), unlabelled_split="train")

    def line(said):
        if "nme" in said:
            report(f"  epoch {said['epoch']:.1f}  NME {said['nme']:.2f} %")

    def late(_step):
        return signal.SIGALRM if deadline is not None and time.monotonic() > deadline else None

    outcome = train(
        config, directory, resume=resumed, data_dir=place.data_dir, report=line, stop=late, read=read
    )
    if not outcome.finished:
        return outcome.stopped
    run = load_run(directory)
    validation, errors = _errors(run, config.validation_split, place.data_dir)
    record = {
        "places": [list(where) for where in cell.places],
        "seed": config.seed,
        "labelled": run.info["labelled"],
        "unlabelled": run.info["unlabelled"],
        "teacher": cell.teacher,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "resumed": resumed,
        "parameters": parameter_count(run.variables["params"]),
        config.validation_split: validation,
        "commit": commit() or "not a checkout",
        "machine": machine(),
        "config": to_dict(cell.config),
    }
    place.keep(cell.name, record, {config.validation_split: errors})
    told.unlink(missing_ok=True)
    report(f"{cell.name}: {validation['nme']:.3f} %, {outcome.seconds:.0f} s")
    return None


def _label(teacher, source: Source, limit, told, data_dir) -> None:
    faces = data.load(source.unlabelled, "train", data_dir=data_dir, limit=limit, encoded=True)
    data.write_pack(told, {"train": label([load_run(teacher)], faces)})


def _errors(run, split: str, data_dir) -> tuple[dict, dict[str, float]]:
    """The numbers of a run on a split, and the error of every image."""
    faces = data.load(run.config.dataset, split, data_dir=data_dir)
    found = match(run.config.model, run.variables, faces, conditions=config_conditions(run.config))
    whole = score(found)
    normaliser = whole["conditions"]["normaliser"]
    numbers = {
        "nme": whole["nme"][normaliser],
        "interval": whole["intervals"]["nme"][normaliser],
        "normaliser": normaliser,
        "box": whole["conditions"]["box"],
        "failure_rate_8": whole["failure_rate"]["8"],
        "auc_8": whole["auc"]["8"],
        "scale_px": whole["scale_mean"],
        "images": whole["images"],
        "scheme": found.scheme.name,
    }
    return numbers, {row["image"]: row[normaliser] for row in per_image(found)}


def measure(
    experiment: str,
    split: str,
    *,
    budget: str = "small",
    data_dir: str | os.PathLike | None = None,
    results: str | os.PathLike = "results",
    runs: str | os.PathLike = "runs",
    report: Callable[[str], None] = print,
) -> int:
    """Measures the finished cells on another split, a test set for one; each reading is logged in test_reads.jsonl first.

    Returns:
      How many were measured; those that have it are left alone.

    Raises:
      LapjaxError: nothing is finished, a run directory is gone, or no such split.
    """
    place = Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs), data_dir)
    records = place.read()
    if not records:
        raise LapjaxError(f"{place.file} has no finished cell: run `lapjax reproduce {experiment}` first")
    count = 0
    for name, record in records.items():
        if split in record:
            continue
        run = load_run(place.folder / name)
        log_read(place.results / "test_reads.jsonl", name, split=split, by=f"reproduce {experiment}")
        numbers, errors = _errors(run, split, data_dir)
        place.keep(name, {split: numbers}, {split: errors})
        report(f"{name}: {numbers['nme']:.3f} % on {split}")
        count += 1
    return count


def leave(
    experiment: str,
    out: str | os.PathLike,
    *,
    budget: str = "small",
    results: str | os.PathLike = "results",
    runs: str | os.PathLike = "runs",
    networks: int = 6,
) -> list[pathlib.Path]:
    """Puts what is worth taking from a borrowed machine into one folder: the records, the errors and the best networks.

    Args:
      experiment: one of `grids.EXPERIMENTS`.
      out: the folder, made when missing.
      budget: as of `reproduce`, likewise `results` and `runs`.
      results: the folder of the records.
      runs: the folder of the run directories.
      networks: so many of the rows with the lowest validation error, of each its best seed, as `weights.write_weights`.

    Returns:
      The files.

    Raises:
      LapjaxError: nothing is finished, or the folder cannot be written.
    """
    place = Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs), None)
    records, out = place.read(), pathlib.Path(out)
    if not records:
        raise LapjaxError(f"{place.file} has no finished cell: run `lapjax reproduce {experiment}` first")

    def error(name):
        return records[name][records[name]["config"]["validation_split"]]["nme"]

    best: dict[str, str] = {}
    for name in sorted(records, key=error):
        best.setdefault(str(records[name]["places"]), name)
    files = []
    for name in [*best.values()][:networks]:
        run = load_run(place.folder / name)
        files.append(out / f"{name}.npz")
        known = {"config": run.config, "scheme": run.scheme, "step": run.step, "info": run.info}
        write_weights(files[-1], run.variables, **known)
    for file in [place.file, *place.results.glob(f"{place.file.stem}-*.csv")]:
        files.append(out / file.name)
        with replacing(
            files[-1], "cannot write {path}: {reason}; choose another folder", parents=True
        ) as part:
            shutil.copyfile(file, part)
    return files


def main(argv: list[str] | None = None) -> int:
    """Runs `python -m lapjax.reproduce`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lapjax.reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--budget", choices=BUDGETS, default="small")
    parser.add_argument("--dataset", default="the300w", help="a prepared set or a pack (*.npz)")
    parser.add_argument("--unlabelled", help="likewise, of faces without labels")
    parser.add_argument("--data-dir", help="where prepared sets lie")
    parser.add_argument("--results", default="results")
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", metavar="PATTERN", help="of cell names, such as 'laplacekl*-s0'")
    parser.add_argument("--minutes", type=float, help="stop after so long and go on in the next call")
    parser.add_argument(
        "--leave", metavar="DIR", help="afterwards put records and the best networks there, at most 8 files"
    )
    parser.add_argument("--measure", metavar="SPLIT", help="measure the finished cells on SPLIT and stop")
    said = vars(parser.parse_args(argv))
    experiment, split, out = (said.pop(name) for name in ("experiment", "measure", "leave"))
    try:
        if split is not None:
            some = {name: said[name] for name in ("budget", "data_dir", "results", "runs")}
            measure(experiment, split, **some)
            return 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LapjaxWarning)
            progress = reproduce(experiment, **said, report=lambda line: print(line, flush=True))
        if out is not None:
            leave(experiment, out, **{name: said[name] for name in ("budget", "results", "runs")})
    except LapjaxError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    print(f"{progress.done} of {progress.cells} cells are done")
    return 0 if progress.stopped in (None, signal.SIGALRM) else 128 + progress.stopped


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
