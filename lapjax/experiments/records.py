"""The records of an experiment: one JSON of its cells, the error of every image beside it, and who reads a test set when."""

import csv
import dataclasses
import datetime
import io
import json
import os
import pathlib
import platform

import jax

from lapjax.errors import LapjaxError
from lapjax.files import holding, read_json, replacing
from lapjax.metrics.scoring import write_json

__all__ = ["Place", "log_read", "machine", "read_results", "results_file"]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an experiment lies; both folders are made.

    Raises:
      LapjaxError: one cannot be made.
    """

    experiment: str
    budget: str
    results: pathlib.Path
    runs: pathlib.Path
    data_dir: str | os.PathLike | None

    def __post_init__(self):
        for folder in (self.results, self.folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LapjaxError(
                    f"cannot make {folder}: {error.strerror or error}; choose other folders"
                ) from error

    @property
    def file(self) -> pathlib.Path:
        return results_file(self.experiment, self.budget, self.results)

    @property
    def folder(self) -> pathlib.Path:
        return self.runs / self.file.stem

    def errors_file(self, split: str) -> pathlib.Path:
        """Where the errors of a split's images are."""
        return self.file.with_name(f"{self.file.stem}-{split}.csv")

    def read(self) -> dict[str, dict]:
        """The records so far, by the names of their cells."""
        return read_results(self.file)["cells"] if self.file.exists() else {}

    def finished(self) -> dict[str, dict]:
        """The records, of which there must be one.

        Raises:
          LapjaxError: nothing is finished yet.
        """
        records = self.read()
        if not records:
            raise LapjaxError(
                f"{self.file} has no finished cell: run `lapjax reproduce {self.experiment}` first"
            )
        return records

    def keep(
        self, name: str, record: dict, errors: dict[str, dict[str, float]], *, anew: bool = False
    ) -> None:
        """Adds to a cell's record, or makes it anew, and puts its errors, by split and image, into their tables.

        One process at a time.
        """
        with holding(self.file.with_name(f".{self.file.name}.lock"), wait=True):
            cells = self.read()
            cells[name] = record if anew else cells.get(name, {}) | record
            content = {"experiment": self.experiment, "budget": self.budget, "cells": cells}
            for split, values in errors.items():
                _add_column(self.errors_file(split), name, values)
            write_json(self.file, content, option="--results")


def results_file(experiment: str, budget: str, results: str | os.PathLike) -> pathlib.Path:
    """Where the records of an experiment are, under the folder of all results."""
    # The numbers of two budgets are not to be put into one table.
    name = experiment if budget == "small" else f"{experiment}-{budget}"
    return pathlib.Path(results) / f"{name}.json"


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


def log_read(path: str | os.PathLike, run: str, *, split: str = "common", **more) -> None:
    """Appends one line to the log of what was read of a test set, before it is read."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"time": time, "run": run, "split": split, **more}
    with open(path, "a") as log:
        log.write(json.dumps(line) + "\n")


def machine() -> dict:
    """What this process runs on."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "architecture": platform.machine(),
        "jax": jax.__version__,
    }
