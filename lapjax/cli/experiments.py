"""The command `reproduce`: an experiment's cells, its table on a page, its figure."""

import signal
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lapjax.cli.options import File, Flag, Folder, Name, check_place, console
from lapjax.errors import LapjaxError, nearest
from lapjax.experiments.grids import EXPERIMENTS

__all__ = ["reproduce"]


def reproduce(
    experiment: Annotated[str, tyro.conf.arg(metavar="EXPERIMENT")],
    /,
    *,
    budget: Literal["small", "full"] = "small",
    dataset: str = "the300w",
    unlabelled: str = "lfw",
    data_dir: Folder = None,
    results: Path = Path("results"),
    runs: Path = Path("runs"),
    seeds: int = 3,
    only: Annotated[str | None, tyro.conf.arg(metavar="PATTERN", help_behavior_hint="")] = None,
    minutes: Annotated[float | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None,
    together: Literal["auto", "yes", "no"] = "auto",
    measure: Annotated[str | None, tyro.conf.arg(metavar="SPLIT", help_behavior_hint="")] = None,
    show: Flag = False,
    split: Name = None,
    page: File = None,
    figure: File = None,
) -> int:
    """Trains what is left of an experiment, keeps a record of every cell, and prints its table.

      table1           SAM and LaplaceKL, alone and in the game with more
                       and more unlabelled faces; other losses, both
                       directions of the KL, ELT
      table2           the poster's network at its widths
      figure4          sweeps of the target scale and of beta
      semisupervised   six ways to learn from 5, 20 and 100 % of the labels
                       and 10,000 other faces

    Ctrl-C saves, and the same command goes on; it skips what is done. Started several times it
    shares the work, also between machines that share its folders. RESULTS/EXPERIMENT.json holds the
    records and RESULTS/EXPERIMENT-SPLIT.csv the error of every image. Records come without networks:
    a teacher whose network is not in RUNS is trained again before its student, and only networks
    that are there can be measured.

      lapjax reproduce semisupervised --only '*-5-s0'
      lapjax reproduce semisupervised --show --page docs/experiments.md

    A test split is read by --measure alone, and each reading is logged in RESULTS/test_reads.jsonl.

    Args:
      experiment: one of those above
      budget: small: for a CPU of two cores, minutes a cell; full: for one GPU
      dataset: a prepared set or a pack (*.npz) with the splits train and validation
      unlabelled: likewise, of faces without labels, its split train; "none" for none
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
      results: the folder of the records
      runs: the folder of the run directories, in one folder an experiment
      seeds: of each cell
      only: a pattern of cell names, such as '*laplacekl*-s0'; --show lists them
      minutes: stop after so long, saved, to go on in the next call
      together: all seeds of a cell at once in one program; auto: the fast family's on a single GPU
      measure: train nothing, measure the finished cells on this split
      show: train nothing, list the cells and print the table of what is there
      split: whose errors the table shows: common where all cells have it, else validation
      page: put the table between the markers <!-- EXPERIMENT --> of this Markdown page
      figure: draw the figure into this file
    """
    if experiment not in EXPERIMENTS:
        near = nearest(experiment, EXPERIMENTS, form="did you mean {!r}? ")
        raise LapjaxError(f"no experiment {experiment!r}: {near}there are {', '.join(EXPERIMENTS)}")
    from lapjax.experiments import collect, records, summary
    from lapjax.experiments import reproduce as experiments
    from lapjax.visualization import markdown, plots

    for path, option in ((page, "--page"), (figure, "--figure")):
        if path is not None:
            check_place(path, option)
    where = {"budget": budget, "data_dir": data_dir, "results": results, "runs": runs}
    screen = console(stderr=True)
    samples = {"dataset": dataset, "unlabelled": None if unlabelled == "none" else unlabelled, "seeds": seeds}

    def say(line):
        screen.print(line, highlight=False, soft_wrap=True)

    status = 0
    if measure is not None:
        collect.measure(experiment, measure, **where, report=say)
    elif not show:
        how = {"only": only, "minutes": minutes, "together": experiments.TOGETHER[together]}
        progress = experiments.reproduce(experiment, **where, **samples, **how, report=say)
        held = f", {progress.held} in other processes" if progress.held else ""
        print(f"{progress.done} of {progress.cells} cells are done{held}")
        if progress.stopped not in (None, signal.SIGALRM):
            status = 128 + progress.stopped
    file = records.results_file(experiment, budget, results)
    found = records.read_results(file) if file.exists() else None
    if show:
        print("\n".join(summary.listing(experiment, found, budget=budget, only=only, seeds=seeds)))
    if found is None:
        if page or figure:
            raise LapjaxError(f"{file} is not there yet: train a cell first, `lapjax reproduce {experiment}`")
        return status
    split = split or summary.common_split(found)
    lines = summary.page(found, split)
    print("\n".join(lines))
    if page is not None:
        markdown.write_between(page, experiment, lines)
    if figure is not None:
        plots.save(summary.draw(found, split), figure)
    return status
