"""The commands of training: `train` a run, list the `recipes`."""

import json as json_
import math
from pathlib import Path
from typing import Annotated

import tyro

from lapjax.cli.options import Flag, Folder, Name, Number, console
from lapjax.config import Config
from lapjax.errors import LapjaxError
from lapjax.recipes import RECIPES, published

__all__ = ["recipes", "train"]


def train(
    recipe: Annotated[str, tyro.conf.arg(metavar="RECIPE")],
    /,
    *,
    out: Path,
    resume: Flag = False,
    data_dir: Folder = None,
    scheme: Name = None,
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")] = None,
    processes: Number = None,
    process_index: Number = None,
    config: Annotated[Config, tyro.conf.arg(name="")],
) -> int:
    """Trains a network into a run directory: config.json, metrics.jsonl, best and last checkpoint.

    RECIPE comes first and sets the defaults of all that follows: `lapjax recipes` lists them all,
    `lapjax train RECIPE --help` shows one. Ctrl-C and SIGTERM finish the step, save and exit; the
    same command with --resume goes on from there, on a CPU to the very same parameters.

    Args:
      recipe: a name that `lapjax recipes` lists
      out: the run directory
      resume: go on with the run that is there
      data_dir: where prepared sets lie; $LAPJAX_DATA_DIR or ~/.cache/lapjax by default
      scheme: what the points of a TFDS set are that lapjax did not prepare, by name or as a JSON file
      coordinator: HOST:PORT of the first of several processes that train one run together
      processes: how many there are
      process_index: which one this is, from 0
    """
    from lapjax.cli.progress import duration, training
    from lapjax.training.sharding import start_processes
    from lapjax.training.train import train as train_run

    if not (coordinator is processes is process_index is None):
        start_processes(coordinator, processes, process_index)
    with training(recipe, console=console(stderr=True, quiet=bool(process_index))) as report:
        done = train_run(config, out, resume=resume, data_dir=data_dir, scheme=scheme, report=report)
    if not done.finished:
        saved = f"saved at step {done.step} of {done.steps}" if done.step else "stopped before the first step"
        print(f"{saved}, continue with --resume")
        return 128 + (done.stopped or 0)
    best = f"best validation NME {done.best_nme:.2f} %" if math.isfinite(done.best_nme) else "no validation"
    print(f"{out}: {done.steps} steps in {duration(done.seconds)}, {best}; `lapjax evaluate {out}` says more")
    if not process_index:
        _calibrate(config, out, data_dir)
    return 0


def _calibrate(config, out, data_dir) -> None:
    """Fits the run's confidence where the set has faces for it; a run without it is a run all the same."""
    from lapjax import data
    from lapjax.evaluation.calibrate import calibrate

    try:
        if "calibration" not in data.splits(config.dataset, data_dir=data_dir):
            return
        found = calibrate(out, data_dir=data_dir)
    except LapjaxError as error:
        print(f"no confidence was fitted: {error}")
        return
    for note in found.notes:
        print(f"note: {note}")
    print(f"confidence fitted on {found.images} images of the calibration split")


def recipes(*, json: Flag = False) -> None:
    """Lists the recipes with what they are expected to reach, where that is known.

    Args:
      json: as JSON, each with all its numbers
    """
    counts = _parameter_counts()
    if json:
        rows = [
            {
                "name": name,
                "network": config.model.network,
                "input_size": config.model.input_size,
                "parameters": counts[config.model],
                "loss": config.loss.name,
                "epochs": config.epochs,
                "dataset": config.dataset,
                "unlabelled": config.unlabelled_limit if config.game.adversary else 0,
                "reported": published(name),
            }
            for name, config in RECIPES.items()
        ]
        print(json_.dumps(rows, indent=2))
        return
    from rich import box
    from rich.table import Table

    games = [name.partition("+")[2] for name in RECIPES if name.startswith("poster-1-sam+")]
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption="Each poster-WIDTH and fast-SIZE recipe also comes with the game against D,\n"
        f"as NAME+{', +'.join(games)} by the number of unlabelled faces.\n"
        "Weights: for 68 landmarks. The poster's NME: percent, 300W common, trained on\n"
        "all of 300W; then the same with each D.",
        caption_justify="left",
    )
    numbers = ("input", "weights", "epochs")
    for head in ("recipe", *numbers, "poster's NME"):
        table.add_column(head, justify="right" if head in numbers else "left", no_wrap=True)
    for name, config in RECIPES.items():
        if "+" in name:
            continue
        reported = [published(one) for one in (name, *(f"{name}+{game}" for game in games))]
        table.add_row(
            name,
            f"{config.model.input_size} px",
            f"{counts[config.model]:,}",
            f"{config.epochs:g}",
            " ".join(f"{row['common']:.2f}" for row in reported if row),
        )
    console().print(table)


def _parameter_counts() -> dict:
    """Model -> parameters of its generator for 68 landmarks, from shapes alone."""
    from lapjax.networks import parameter_count, variable_shapes
    from lapjax.schemes import get_scheme

    landmarks = get_scheme("300w").count
    return {
        model: parameter_count(variable_shapes(model, landmarks)["params"])
        for model in {config.model for config in RECIPES.values()}
    }
