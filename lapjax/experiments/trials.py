"""Cells of an experiment trained and measured: one, or the seeds of one at once in one program."""

import signal
import time
from collections.abc import Sequence

import jax

from lapjax import data
from lapjax.checkpoints.model_card import commit
from lapjax.checkpoints.run import Run, load_run, saved_step
from lapjax.config import Config, override, to_dict
from lapjax.evaluation.evaluate import config_conditions, match
from lapjax.evaluation.pseudo_labels import label
from lapjax.experiments.grids import Cell, with_teachers
from lapjax.experiments.records import Place, machine
from lapjax.metrics.scoring import per_image, score
from lapjax.networks import parameter_count
from lapjax.training.train import Outcome, train_together

__all__ = ["companions", "errors", "left", "ready", "train_cells", "trained"]


def trained(name: str, place: Place, records: dict[str, dict]) -> bool:
    """Whether a cell has its record and its network here: records are passed on without networks."""
    return name in records and saved_step(place.folder / name) == records[name]["steps"]


def left(cells: Sequence[Cell], place: Place) -> list[Cell]:
    """Those without a record, and the teachers that they need whose networks are not here."""
    records = place.read()
    names = (cell.name for cell in cells if cell.name not in records)
    return with_teachers(cells, names, lambda teacher: not trained(teacher, place, records))


def companions(cell: Cell, todo: list[Cell], together: bool | None) -> list[Cell]:
    """A cell and its other seeds, to be trained at once with it, or the cell alone; `together` as of `reproduce`."""
    if together is None:
        alone = jax.device_count() > 1 or jax.default_backend() == "cpu"
        together = cell.config.model.network == "fast" and not alone
    others = [each for each in todo if each.places == cell.places and each != cell]
    return [cell, *others] if together else [cell]


def ready(cells: Sequence[Cell], first: Cell, place: Place) -> list[Cell]:
    """Those that can be trained at once with the first, or none if it cannot be trained.

    They are not finished, their teachers are, and they stand at its step. Hold their locks.
    """
    records = place.read()

    def waits(cell):
        taught = cell.teacher is None or trained(cell.teacher, place, records)
        return taught and not trained(cell.name, place, records)

    if not waits(first):
        return []
    step = saved_step(place.folder / first.name)
    return [cell for cell in cells if waits(cell) and saved_step(place.folder / cell.name) == step]


def train_cells(cells: Sequence[Cell], place: Place, *, deadline: float | None, report, read) -> int | None:
    """Trains a cell, or several at once, or goes on with them, and keeps their records.

    Args:
      cells: one, or `companions`.
      place: where it lies.
      deadline: the `time.monotonic` at which they are to be saved and left.
      report: called with every line to say.
      read: as of `train`.

    Returns:
      The signal that stopped it (SIGALRM: the deadline), None when they are done.
    """
    directories = [place.folder / cell.name for cell in cells]
    resumed = [(directory / "config.json").exists() for directory in directories]

    def line(which, said):
        if "nme" in said:
            name = f"{cells[which].name}  " if len(cells) > 1 else ""
            report(f"  {name}epoch {said['epoch']:.1f}  NME {said['nme']:.2f} %")

    def late(_step):
        return signal.SIGALRM if deadline is not None and time.monotonic() > deadline else None

    outcomes = train_together(
        [_taught(cell, place) for cell in cells],
        directories,
        resume=True,
        data_dir=place.data_dir,
        report=line,
        stop=late,
        read=read,
    )
    for cell, directory, outcome, again in zip(cells, directories, outcomes, resumed, strict=True):
        if not outcome.finished:
            return outcome.stopped
        _keep(cell, load_run(directory), outcome, place, report, resumed=again, together=len(cells))
        _told(cell, place).unlink(missing_ok=True)
    return None


def _told(cell: Cell, place: Place):
    """Where what a cell's teacher says of the unlabelled faces is while the cell trains."""
    return place.folder / f"{cell.name}.told.npz"


def _taught(cell: Cell, place: Place) -> Config:
    """A cell's configuration, with its teacher's labels in place of the unlabelled faces, if it has one."""
    if cell.teacher is None:
        return cell.config
    told = _told(cell, place)
    if not told.exists():
        config, teacher = cell.config, load_run(place.folder / cell.teacher)
        split, limit = config.unlabelled_split, config.unlabelled_limit
        assert config.unlabelled is not None  # `grids` gives every cell with a teacher some
        samples = data.load_dataset(
            config.unlabelled, split, data_dir=place.data_dir, limit=limit, encoded=True
        )
        data.write_pack(told, {"train": label([teacher], samples, views=cell.views)})
    return override(cell.config, unlabelled=str(told), unlabelled_split="train")


def _keep(cell: Cell, run: Run, outcome: Outcome, place: Place, report, **how) -> None:
    """Keeps the record of a finished cell, measured on its validation split."""
    config = cell.config
    validation, of_images = errors(run, config.validation_split, place.data_dir)
    record = {
        "places": [list(where) for where in cell.places],
        "seed": config.seed,
        "labelled": run.info["labelled"],
        "unlabelled": run.info["unlabelled"],
        "teacher": cell.teacher,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        **how,
        "parameters": parameter_count(run.variables["params"]),
        config.validation_split: validation,
        "commit": commit() or "not a checkout",
        "machine": machine(),
        "config": to_dict(cell.config),
    }
    place.keep(cell.name, record, {config.validation_split: of_images}, anew=True)
    report(f"{cell.name}: {validation['nme']:.3f} %, {outcome.seconds:.0f} s")


def errors(run: Run, split: str, data_dir) -> tuple[dict, dict[str, float]]:
    """The numbers of a run on a split, and the error of every image."""
    samples = data.load_dataset(run.config.dataset, split, data_dir=data_dir)
    found = match(run, samples, conditions=config_conditions(run.config))
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
