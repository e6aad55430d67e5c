"""What is done with finished cells: a test set is read, or the best of them are taken from a borrowed machine."""

import os
import pathlib
import shutil
from collections.abc import Callable

from lapjax.checkpoints.npz import write_weights
from lapjax.checkpoints.run import load_run
from lapjax.experiments.records import Place, log_read
from lapjax.experiments.trials import errors, trained
from lapjax.files import replacing

__all__ = ["leave", "measure"]


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
      How many were measured; those that have it are left alone, and so are those whose networks are not here.

    Raises:
      LapjaxError: nothing is finished, or no such split.
    """
    place = Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs), data_dir)
    records = place.finished()
    count, gone = 0, []
    for name, record in records.items():
        if split in record:
            continue
        if not trained(name, place, records):
            gone.append(name)
            continue
        run = load_run(place.folder / name)
        log_read(place.results / "test_reads.jsonl", name, split=split, by=f"reproduce {experiment}")
        numbers, of_images = errors(run, split, data_dir)
        place.keep(name, {split: numbers}, {split: of_images})
        report(f"{name}: {numbers['nme']:.3f} % on {split}")
        count += 1
    if gone:
        report(
            f"{place.folder} lacks {len(gone)} of the networks, not measured on {split}: {', '.join(gone)}"
        )
    return count


def leave(
    experiment: str,
    out: str | os.PathLike,
    *,
    budget: str = "small",
    results: str | os.PathLike = "results",
    runs: str | os.PathLike = "runs",
    most: int = 8,
) -> list[pathlib.Path]:
    """Puts what is worth taking from a borrowed machine into one folder: the records, the errors and the best networks.

    Args:
      experiment: one of `grids.EXPERIMENTS`.
      out: the folder, made when missing.
      budget: as of `reproduce`, likewise `results` and `runs`.
      results: the folder of the records.
      runs: the folder of the run directories.
      most: files. What the records leave are the networks here of the rows with the lowest validation error, of each
        its best seed, as `npz.write_weights`.

    Returns:
      The files.

    Raises:
      LapjaxError: nothing is finished, or the folder cannot be written.
    """
    place = Place(experiment, budget, pathlib.Path(results), pathlib.Path(runs), None)
    records, out = place.finished(), pathlib.Path(out)
    tables = [place.file, *place.results.glob(f"{place.file.stem}-*.csv")]

    def error(name):
        return records[name][records[name]["config"]["validation_split"]]["nme"]

    best: dict[str, str] = {}
    for name in sorted(records, key=error):
        if trained(name, place, records):
            best.setdefault(str(records[name]["places"]), name)
    files = []
    for name in [*best.values()][: most - len(tables)]:
        run = load_run(place.folder / name)
        files.append(out / f"{name}.npz")
        known = {"config": run.config, "scheme": run.scheme, "step": run.step, "info": run.info}
        write_weights(files[-1], run.variables, **known)
    for file in tables:
        files.append(out / file.name)
        with replacing(
            files[-1], "cannot write {path}: {reason}; choose another folder", parents=True
        ) as part:
            shutil.copyfile(file, part)
    return files
