"""What the records of `lapjax reproduce` say: tables for a page, the effect of each method over its baseline, a figure."""

import math
import statistics
from collections.abc import Mapping

from lapjax.errors import LapjaxError
from lapjax.experiments.grids import EVERYTHING, SUPERVISED, choose, grid
from lapjax.recipes import PUBLISHED
from lapjax.visualization.markdown import spread, table

__all__ = ["common_split", "draw", "effects", "listing", "numbers", "page"]

NOT_RUN = "not run"


def listing(
    experiment: str, results: Mapping | None, *, budget: str, only: str | None, seeds: int
) -> list[str]:
    """A line for each cell of an experiment: its name, and its error or that it is still to do.

    Args:
      experiment: one of `grids.EXPERIMENTS`.
      results: as `records.read_results` gives them, None before the first cell.
      budget: of the grid.
      only: a pattern of cell names.
      seeds: of each cell.
    """
    records = results["cells"] if results else {}

    def state(cell):
        if cell.name in records:
            split = cell.config.validation_split
            return f"{records[cell.name][split]['nme']:.3f} % on {split}"
        return "only when it is named" if cell.extra else "to do"

    cells = choose(grid(experiment, EVERYTHING, budget=budget, seeds=seeds), only or "*")
    return [f"{cell.name:32} {state(cell)}" for cell in cells]


def common_split(results: Mapping) -> str:
    """common where every cell was measured on it, else validation."""
    return "common" if all("common" in record for record in results["cells"].values()) else "validation"


def numbers(results: Mapping, split: str) -> dict[tuple[str, str], dict[int, float]]:
    """(row, column) -> seed -> NME in percent, of the cells that were measured on a split, in the order of their grid."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for record in results["cells"].values():
        if split in record:
            for row, column in record["places"]:
                found.setdefault((row, column), {})[record["seed"]] = record[split]["nme"]
    rows, columns = _axes(results["experiment"], results["budget"], found)
    return {(row, column): found[row, column] for row in rows for column in columns if (row, column) in found}


def _axes(experiment: str, budget: str, found) -> tuple[list[str], list[str]]:
    """All rows and columns of an experiment in their order, those that nobody has run included."""
    places = [place for cell in grid(experiment, EVERYTHING, budget=budget, seeds=1) for place in cell.places]
    places += found
    columns = dict.fromkeys(column for _, column in places)
    if experiment == "semisupervised":
        columns = sorted(columns, key=lambda column: float(column.rstrip(" %")))
    return list(dict.fromkeys(row for row, _ in places)), list(columns)


def page(results: Mapping, split: str) -> list[str]:
    """The Markdown lines of an experiment: its table, what each method gains, and for Table 1 what others published.

    Args:
      results: as `records.read_results` gives them.
      split: of whose errors.
    """
    experiment, budget = results["experiment"], results["budget"]
    found = numbers(results, split)
    rows, columns = _axes(experiment, budget, found)
    if experiment == "table1":
        columns.append("AFLW")  # the poster's other column, of a set that nobody had here
    if experiment == "figure4":
        lines = [line for column in columns for line in (*_sweep(column, rows, found), "")][:-1]
    else:
        lines = table(
            ["", *columns],
            [[row, *(_cell(found.get((row, column))) for column in columns)] for row in rows],
        )
    gains = effects(results, split)
    if gains:
        heads = ["", "against", "", "seeds", "change of the NME", "95 % interval"]
        lines += ["", *table(heads, gains)]
    if experiment == "table1":
        heads = ["as published, all 3,148 training faces", "AFLW", "common", "challenging", "full"]
        lines += ["", *table(heads, _published_rows())]
    return [f"NME in percent, {split}, budget {budget}; ± over seeds.", "", *lines]


def _sweep(column, rows, found) -> list[str]:
    known = sorted((row for row in rows if (row, column) in found), key=float)
    return table([column, *known], [["NME", *(_cell(found[row, column]) for row in known)]])


def _cell(values: Mapping[int, float] | None) -> str:
    if not values:
        return NOT_RUN
    return spread(list(values.values())) + (f" ({len(values)})" if len(values) > 1 else "")


def baseline(experiment: str, row: str) -> str | None:
    """The row that another is an addition to."""
    if experiment == "semisupervised":
        return SUPERVISED if row != SUPERVISED else None
    if experiment == "table1":
        before, plus, _ = row.partition("+")
        if plus:
            return before
        return {"SAM": None, "LaplaceKL": "SAM"}.get(row, "LaplaceKL")
    return None


def effects(results: Mapping, split: str) -> list[list[str]]:
    """What each row changes relative to its baseline, percent of the baseline's NME, over the seeds that both have.

    The interval is Student's, for the mean of the seeds' own changes; with one seed there is none.

    Returns:
      rows of [row, baseline, column, seeds, change, interval].
    """
    found, lines = numbers(results, split), []
    for (row, column), values in found.items():
        against = baseline(results["experiment"], row)
        base = {} if against is None else found.get((against, column), {})
        changes = [100 * (values[seed] / base[seed] - 1) for seed in sorted(values.keys() & base.keys())]
        if changes:
            lines.append(
                [
                    row,
                    against,
                    column,
                    str(len(changes)),
                    f"{_signed(statistics.mean(changes))} %",
                    _interval(changes),
                ]
            )
    return lines


def _interval(values) -> str:
    if len(values) < 2:
        return "-"
    from scipy import stats

    mean, count = statistics.mean(values), len(values)
    half = stats.t.ppf(0.975, count - 1) * statistics.stdev(values) / math.sqrt(count)
    return f"{_signed(mean - half)} to {_signed(mean + half)} %"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # without it what rounds to zero from below is -0.0


def draw(results: Mapping, split: str):
    """The figure of an experiment: error against unlabelled faces, t and beta, or the share of labels.

    Raises:
      LapjaxError: an experiment that has no figure, or nothing to draw yet.
    """
    from lapjax.visualization import charts

    experiment = results["experiment"]
    if experiment not in _FIGURES:
        raise LapjaxError(f"{experiment} has no figure: one of {', '.join(_FIGURES)} has")
    what, arrange = _FIGURES[experiment]
    panels = arrange(numbers(results, split))
    if not panels:
        raise LapjaxError(f"no cell of {experiment} was measured on {split}: run it first")
    return charts.sweeps(panels, what=what, log=experiment != "table1")


def _by_faces(found) -> dict:
    panels: dict = {}
    for (row, column), values in found.items():
        loss, _, count = row.partition("+D ")
        if loss in ("SAM", "LaplaceKL"):
            samples = int(count.rstrip("K") or 0) * 1000
            panels.setdefault(column, {}).setdefault(loss, {})[samples] = list(values.values())
    return panels


def _by_setting(found) -> dict:
    panels: dict = {}
    for (row, column), values in found.items():
        panels.setdefault(column, {}).setdefault("", {})[float(row)] = list(values.values())
    return panels


def _by_labels(found) -> dict:
    series: dict = {}
    for (row, column), values in found.items():
        series.setdefault(row, {})[float(column.rstrip(" %"))] = list(values.values())
    return {"": series} if series else {}


# What their axes are called, and how their numbers are laid out: panel -> method -> setting -> seeds.
_FIGURES = {
    "table1": ("unlabelled faces", _by_faces),
    "figure4": ("", _by_setting),
    "semisupervised": ("labelled faces (%)", _by_labels),
}


def _published_rows() -> list[list[str]]:
    """The poster's Table 1, of its games those with the fewest and with the most unlabelled faces."""
    return [
        [name, *("-" if value is None else f"{value:.2f}" for value in row)]
        for name, row in PUBLISHED.items()
        if not name.endswith((" 30K", " 50K"))
    ]
