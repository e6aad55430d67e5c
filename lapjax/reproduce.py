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
import contextlib
import csv
import dataclasses
import datetime
import fnmatch
import io
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import jax

from lapjax import data
from lapjax.checkpoints import load_run
from lapjax.config import override, to_dict
from lapjax.cpu import with_huge_pages
from lapjax.errors import LapjaxError, LapjaxWarning
from lapjax.evaluate import config_conditions, match
from lapjax.files import holding, read_json, replacing
from lapjax.grids import BUDGETS, EXPERIMENTS, SEEDS, Cell, Source, grid
from lapjax.labelling import label
from lapjax.networks import parameter_count
from lapjax.scoring import per_image, score, write_json
from lapjax.train import train

__all__ = [
    "Progress",
    "listing",
    "log_read",
    "main",
    "measure",
    "read_results",
    "reproduce",
    "results_file",
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
    place = _Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs) / experiment, data_dir)
    source = _source(dataset, unlabelled, data_dir)
    cells = _choose(grid(experiment, source, budget=budget, seeds=seeds), only)
    stopped, held = None, 0
    while stopped is None:
        records = place.read()
        left = [cell for cell in cells if cell.name not in records]
        done, held, trained = len(cells) - len(left), 0, 0
        for cell in left:
            with holding(place.runs / f"{cell.name}.lock") as ours:
                if not ours:
                    held += 1
                    continue
                if cell.name in place.read() or not place.teacher_ready(cell):
                    continue
                report(f"{cell.name}, {done + trained + 1} of {len(cells)}")
                stopped = _train(cell, source, place, deadline, report)
            if stopped is not None:
                break
            trained += 1
        if not trained or stopped is not None:
            break
    done = sum(cell.name in place.read() for cell in cells)
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


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where an experiment lies."""

    experiment: str
    budget: str
    results: pathlib.Path
    runs: pathlib.Path
    data_dir: str | os.PathLike | None

    def __post_init__(self):
        for folder in (self.results, self.runs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LapjaxError(
                    f"cannot make {folder}: {error.strerror or error}; choose other folders"
                ) from error

    @property
    def file(self) -> pathlib.Path:
        return results_file(self.experiment, self.budget, self.results)

    def errors_file(self, split: str) -> pathlib.Path:
        return self.file.with_name(f"{self.file.stem}-{split}.csv")

    def read(self) -> dict[str, dict]:
        return read_results(self.file)["cells"] if self.file.exists() else {}

    def teacher_ready(self, cell: Cell) -> bool:
        return cell.teacher is None or cell.teacher in self.read()

    def keep(self, name: str, record: dict, errors: dict[str, dict[str, float]]) -> None:
        """Adds to a cell's record and puts its errors, by split and image, into their tables; one process at a time."""
        with holding(self.file.with_name(f".{self.file.name}.lock"), wait=True):
            cells = self.read()
            cells[name] = cells.get(name, {}) | record
            content = {"experiment": self.experiment, "budget": self.budget, "cells": cells}
            for split, values in errors.items():
                _add_column(self.errors_file(split), name, values)
            write_json(self.file, content, option="--results")


def results_file(experiment: str, budget: str, results: str | os.PathLike) -> pathlib.Path:
    """Where the records of an experiment are, under the folder of all results."""
    # The numbers of two budgets are not to be put into one table.
    name = experiment if budget == "small" else f"{experiment}-{budget}"
    return pathlib.Path(results) / f"{name}.json"


def listing(experiment: str, budget: str, results, *, only: str | None, seeds: int, report) -> None:
    """A line for each cell of an experiment: its name, and its error or that it is still to do."""
    file = results_file(experiment, budget, results)
    records = read_results(file)["cells"] if file.exists() else {}
    everything = Source("any", 1_000_000, "any", faces=1_000_000)
    for cell in _choose(grid(experiment, everything, budget=budget, seeds=seeds), only or "*"):
        said = "only when it is named" if cell.extra else "to do"
        if cell.name in records:
            split = records[cell.name]["config"]["validation_split"]
            said = f"{records[cell.name][split]['nme']:.3f} % on {split}"
        report(f"{cell.name:32} {said}")


def read_results(path: str | os.PathLike) -> dict:
    """The records that `reproduce` wrote: {"experiment", "budget", "cells": {name: record}}.

    Raises:
      LapjaxError: no such file, or not one of its.
    """

    def check(content):
        if not isinstance(content, dict) or not isinstance(content.get("cells"), dict):
            raise LapjaxError("it has no cells: give a file that `lapjax reproduce` wrote")
        return content

    return read_json(path, check, what="results", remedy="give a file that `lapjax reproduce` wrote")


def _add_column(path: pathlib.Path, name: str, values: dict[str, float]) -> None:
    """A column of a table of images; images that it lacks so far become rows."""
    rows: dict[str, dict] = {}
    if path.exists():
        with open(path, newline="") as file:
            rows = {row["image"]: row for row in csv.DictReader(file)}
    for image, value in values.items():
        rows.setdefault(image, {"image": image})[name] = f"{value:.3f}"
    heads = list(dict.fromkeys(column for row in rows.values() for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[image] for image in sorted(rows))
    with replacing(path, "cannot write {path}: {reason}; choose another --results") as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _train(cell: Cell, source: Source, place: _Place, deadline, report) -> int | None:
    """Trains one cell, or goes on with it, and keeps its record; the signal that stopped it, if one did."""
    directory, config = place.runs / cell.name, cell.config
    resumed = (directory / "config.json").exists()
    told = place.runs / f"{cell.name}.told.npz"
    if cell.teacher:
        if not told.exists():
            _label(place.runs / cell.teacher, source, config.unlabelled_limit, told, place.data_dir)
        config = override(config, unlabelled=str(told), unlabelled_split="train")

    def line(said):
        if "nme" in said:
            report(f"  epoch {said['epoch']:.1f}  NME {said['nme']:.2f} %")

    def late(_step):
        return signal.SIGALRM if deadline is not None and time.monotonic() > deadline else None

    outcome = train(config, directory, resume=resumed, data_dir=place.data_dir, report=line, stop=late)
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
        "commit": _commit(),
        "machine": _machine(),
        "config": to_dict(cell.config),
    }
    place.keep(cell.name, record, {config.validation_split: errors})
    told.unlink(missing_ok=True)
    report(f"{cell.name}: {validation['nme']:.3f} %, {outcome.seconds:.0f} s")
    return None


def _label(teacher, source: Source, limit, told, data_dir) -> None:
    faces = data.load(
        source.unlabelled, source.unlabelled_split, data_dir=data_dir, limit=limit, encoded=True
    )
    data.write_pack(told, {"train": label([load_run(teacher)], faces)})


def _errors(run, split: str, data_dir) -> tuple[dict, dict[str, float]]:
    """The numbers of a run on a split, and the error of every image."""
    faces = data.load(run.config.dataset, split, data_dir=data_dir)
    found = match(run.config.model, run.variables, faces, conditions=config_conditions(run.config))
    whole, by = score(found), found.scheme
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
        "scheme": by.name,
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
    place = _Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs) / experiment, data_dir)
    records = place.read()
    if not records:
        raise LapjaxError(f"{place.file} has no finished cell: run `lapjax reproduce {experiment}` first")
    count = 0
    for name, record in records.items():
        if split in record:
            continue
        run = load_run(place.runs / name)
        log_read(place.results / "test_reads.jsonl", name, split=split, by=f"reproduce {experiment}")
        numbers, errors = _errors(run, split, data_dir)
        place.keep(name, {split: numbers}, {split: errors})
        report(f"{name}: {numbers['nme']:.3f} % on {split}")
        count += 1
    return count


def log_read(path: str | os.PathLike, run: str, *, split: str = "common", **more) -> None:
    """Appends one line to the log of what was read of a test set, before it is read."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"time": time, "run": run, "split": split, **more}
    with open(path, "a") as log:
        log.write(json.dumps(line) + "\n")


def _commit() -> str:
    """Of the code that runs, where it is a checkout."""
    here = pathlib.Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        asked = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(asked, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    return "not a checkout"


def _machine() -> dict:
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "architecture": platform.machine(),
        "jax": jax.__version__,
    }


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
    parser.add_argument("--measure", metavar="SPLIT", help="measure the finished cells on SPLIT and stop")
    said = vars(parser.parse_args(argv))
    experiment, split = said.pop("experiment"), said.pop("measure")
    try:
        if split is not None:
            some = {name: said[name] for name in ("budget", "data_dir", "results", "runs")}
            measure(experiment, split, **some)
            return 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LapjaxWarning)
            progress = reproduce(experiment, **said, report=lambda line: print(line, flush=True))
    except LapjaxError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    print(f"{progress.done} of {progress.cells} cells are done")
    return 0 if progress.stopped in (None, signal.SIGALRM) else 128 + progress.stopped


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
