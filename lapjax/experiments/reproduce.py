"""The poster's experiments and what followed them, each as one command that goes on where it was left.

    python -m lapjax.experiments.reproduce semisupervised --dataset 300w.npz --unlabelled lfw.npz

trains the cells of `grids` that have no record yet, one after the other, with the teachers that they need and
whose networks are not here, and after each writes

    RESULTS/NAME.json                the records: configuration, seed, errors, seconds, commit, machine
    RESULTS/NAME-SPLIT.csv           the error of every image under every cell
    RUNS/NAME/CELL                   its run directory

Killed at any moment it goes on when it is called again. The same command may run several times at once, on one machine
or on several that share these folders: each takes cells that no other holds. This module needs what a training from a
pack needs and no more: JAX, Flax, optax, orbax, NumPy, pillow.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable

import jax
from jax.experimental.compilation_cache import compilation_cache

from lapjax import data
from lapjax.cpu import with_huge_pages
from lapjax.errors import LapjaxError, LapjaxWarning
from lapjax.experiments.collect import leave, measure
from lapjax.experiments.grids import BUDGETS, EVERYTHING, EXPERIMENTS, SEEDS, Cell, Source, choose, grid
from lapjax.experiments.records import Place
from lapjax.experiments.trials import companions, left, ready, train_cells
from lapjax.files import holding

__all__ = ["TOGETHER", "Progress", "main", "reproduce"]

TOGETHER = {"auto": None, "yes": True, "no": False}
"""What the commands call `reproduce`'s `together`."""


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
    together: bool | None = None,
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
      together: train all seeds of a cell at once in one program (`train_together`); None: the fast family's, where
        there is one device and it is no CPU.
      report: called with every line to say.

    Raises:
      LapjaxError: an unknown experiment, budget or pattern, or as `train`.
    """
    deadline = time.monotonic() + 60 * minutes if minutes is not None else None
    source = _source(dataset, unlabelled, data_dir)
    every = grid(experiment, EVERYTHING, budget=budget, seeds=seeds)
    cells = grid(experiment, source, budget=budget, seeds=seeds)
    if len(cells) < len(every):
        report(
            f"{len(every) - len(cells)} cells need more than the {source.samples:,} unlabelled faces here: left out"
        )
    cells = choose(cells, only)
    place = Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs), data_dir)
    # Decoding the faces again for every cell would take its time. A cell reads six times, two of its three sets each.
    read = functools.lru_cache(maxsize=8)(data.load_dataset)
    stopped = None
    with _kept_programs(place.runs / ".compiled"):
        while True:
            todo = left(cells, place)
            trained, held = [], 0
            for cell in todo:
                with _taking(cell, todo, place, together) as ours:
                    held += ours is None
                    if not ours:
                        continue
                    trained += ours
                    names = " ".join(each.name for each in ours)
                    report(f"{names}, {len(cells) - len(todo) + len(trained)} of {len(cells)}")
                    stopped = train_cells(ours, place, deadline=deadline, report=report, read=read)
                if stopped is not None:
                    break
            # A cell that had to wait for its teacher gets its turn in the next round.
            if stopped is not None or not trained:
                break
    known = place.read()
    done = sum(cell.name in known for cell in cells)
    return Progress(done, len(cells), held, stopped)


@contextlib.contextmanager
def _taking(cell: Cell, todo: list[Cell], place: Place, together: bool | None):
    """Holds a cell and its companions: gives those that can be trained now, or None where another process has the cell."""
    with contextlib.ExitStack() as locks:
        held = [
            each
            for each in companions(cell, todo, together)
            if locks.enter_context(holding(place.folder / f"{each.name}.lock"))
        ]
        yield ready(held, cell, place) if cell in held else None


@contextlib.contextmanager
def _kept_programs(folder: pathlib.Path):
    """Keeps compiled programs, unless it has been said where: the seeds of a cell run the same ones."""
    name = "jax_compilation_cache_dir"
    if getattr(jax.config, name) is not None:
        yield
        return
    # A CPU's are for its kind alone.
    machine = f"{jax.devices()[0].device_kind}-{platform.node()}".replace("/", "-")
    try:
        jax.config.update(name, str(folder / machine))
        compilation_cache.reset_cache()
        yield
    finally:
        jax.config.update(name, None)
        compilation_cache.reset_cache()


def _source(dataset, unlabelled, data_dir) -> Source:
    labelled = data.splits(dataset, data_dir=data_dir)
    if "train" not in labelled:
        raise LapjaxError(f"{dataset} has no split train: name a labelled set or pack that has one")
    samples = 0
    if unlabelled is not None:
        samples = data.splits(unlabelled, data_dir=data_dir).get("train", 0)
    name = None if unlabelled is None else str(unlabelled)
    return Source(str(dataset), labelled["train"], name, samples=samples)


def main(argv: list[str] | None = None) -> int:
    """Runs `python -m lapjax.experiments.reproduce`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lapjax.experiments.reproduce",
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
        "--together",
        choices=TOGETHER,
        default="auto",
        help="all seeds of a cell at once in one program; auto: the fast family's on a single GPU",
    )
    parser.add_argument(
        "--leave", metavar="DIR", help="afterwards put records and the best networks there, at most 8 files"
    )
    parser.add_argument("--measure", metavar="SPLIT", help="measure the finished cells on SPLIT and stop")
    said = vars(parser.parse_args(argv))
    said["together"] = TOGETHER[said["together"]]
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
