"""The experiments of `lapjax reproduce`: which networks are trained, how, and where their numbers go in a table.

Each is a grid of cells, a cell one training. All seeds of a cell differ in everything random, the labelled faces drawn
for a fraction of them included. Budgets: "small" for a CPU of two cores, "full" for one GPU.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lapjax.config import Config, override
from lapjax.errors import LapjaxError, nearest
from lapjax.recipes import WIDTHS, get_recipe

__all__ = ["BUDGETS", "Cell", "EVERYTHING", "EXPERIMENTS", "Source", "choose", "grid", "with_teachers"]

BUDGETS = ("small", "full")
SEEDS = 3
LOSSES = {"sam": "SAM", "laplacekl": "LaplaceKL"}


@dataclasses.dataclass(frozen=True)
class Source:
    """The faces of an experiment."""

    dataset: str
    """A prepared set or a pack, with the splits train and validation."""
    labelled: int
    """Faces in its split train."""
    unlabelled: str | None = None
    """Likewise, its split train."""
    samples: int = 0
    """Without labels."""


# More than anybody has: the grid over it has every cell.
EVERYTHING = Source("any", 1_000_000, "any", samples=1_000_000)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of an experiment."""

    name: str
    """Of its run directory and its record."""
    places: tuple[tuple[str, str], ...]
    """(row, column) of the tables that it fills; all seeds of a place are one number with its spread."""
    config: Config
    teacher: str | None = None
    """The cell whose points for the other faces it learns, trained before it."""
    views: int = 1
    """How often its teacher looks at each of them, see `label`."""
    extra: bool = False
    """Trained only when it is asked for by name."""


def grid(experiment: str, source: Source, *, budget: str = "small", seeds: int = SEEDS) -> list[Cell]:
    """The cells of an experiment, in the order they are trained: teachers before their students, seed after seed.

    Cells that need more unlabelled faces than there are are left out.

    Raises:
      LapjaxError: no such experiment or budget; fewer than one seed.
    """
    if experiment not in EXPERIMENTS:
        hint = nearest(experiment, EXPERIMENTS, form="did you mean {!r}? ")
        raise LapjaxError(f"unknown experiment {experiment!r}: {hint}there are {', '.join(EXPERIMENTS)}")
    if budget not in BUDGETS:
        raise LapjaxError(f"unknown budget {budget!r}: choose one of {', '.join(BUDGETS)}")
    if seeds < 1:
        raise LapjaxError(f"seeds {seeds} must be at least 1")
    cells = []
    for seed in range(seeds):
        for cell in EXPERIMENTS[experiment](_Maker(source, budget, seed)):
            if (cell.config.unlabelled_limit or 0) <= source.samples:
                cells.append(cell)
    return cells


def choose(cells: list[Cell], only: str | None) -> list[Cell]:
    """The cells that a pattern names, those that nobody has to name without one; with the teachers of each.

    Raises:
      LapjaxError: none is called so.
    """
    known = {cell.name: cell for cell in cells}
    wanted = [
        name for name, cell in known.items() if (fnmatch.fnmatchcase(name, only) if only else not cell.extra)
    ]
    if not wanted:
        kinds = list(dict.fromkeys(name.rpartition("-s")[0] for name in known))
        hint = nearest(str(only).rpartition("-s")[0], kinds, form="did you mean {!r} with a seed? ")
        raise LapjaxError(
            f"no cell is called {only}: {hint}there are {', '.join(kinds)}, each with its seed, such as {cells[0].name}"
        )
    return with_teachers(cells, wanted)


def with_teachers(
    cells: Sequence[Cell], names: Iterable[str], needs: Callable[[str], bool] = lambda teacher: True
) -> list[Cell]:
    """The cells of these names with their teachers, and theirs, unless `needs` says no to a teacher."""
    wanted = set(names)
    for cell in reversed(cells):  # students come after their teachers, who may have teachers
        if cell.name in wanted and cell.teacher and needs(cell.teacher):
            wanted.add(cell.teacher)
    return [cell for cell in cells if cell.name in wanted]


class _Maker:
    """Makes the configurations of one budget and seed over the faces at hand."""

    def __init__(self, source: Source, budget: str, seed: int):
        self.source, self.budget, self.seed = source, budget, seed

    def config(self, recipe: str, *, steps: int | None = None, limit: int | None = None, **changes) -> Config:
        """A recipe on these faces, for `steps` steps; validated and saved five times on the way."""
        config = override(get_recipe(recipe), dataset=self.source.dataset, seed=self.seed, **changes)
        if limit is not None:
            config = override(config, train_limit=limit)
        if steps is not None:
            config = override(config, epochs=steps * config.batch_size / (limit or self.source.labelled))
        if self.budget == "full":
            config = override(config, model={"dtype": "bfloat16"}, dispatch=20)
        return override(config, evaluate_every=config.epochs / 5)

    def beside(self, config: Config, count: int, **changes) -> Config:
        """The same with so many unlabelled faces besides."""
        # Without such a set the cell is made all the same, and then left out.
        name = self.source.unlabelled or "none"
        return override(config, unlabelled=name, unlabelled_split="train", unlabelled_limit=count, **changes)

    def among(self, config: Config, **changes) -> Config:
        """The same with all training faces of the labelled set besides, as if none of them had labels."""
        return override(config, unlabelled=self.source.dataset, unlabelled_split="train", **changes)

    def cell(self, name: str, places, config: Config, **more) -> Cell:
        return Cell(f"{name}-s{self.seed}", tuple(places), config, **more)


# The smallest fast network, at a resolution that leaves a cell minutes on a CPU.
FAST: dict[str, Any] = {"model": {"input_size": 96}}
GAME_FACES = (3_000, 10_000, 13_000)
LESSONS = {
    "teacher": {"method": "teacher", "weight": 1.0, "ramp": 0.3},
    "equivariance": {"method": "equivariance", "weight": 0.1, "ramp": 0.3},
    "labels": {"method": "labels"},
}


def _table1(make: _Maker) -> list[Cell]:
    """SAM and LaplaceKL, alone and in the game; other losses and directions; ELT."""
    small = make.budget == "small"
    # Whole calls of the steps of a dispatch between what is logged and validated: a program less to compile.
    networks = {
        "fast": ("fast-small", {"steps": 3_000, **FAST}) if small else ("fast-large", {"steps": 6_000}),
        "poster 1/4" if small else "poster 1": (
            ("poster-1_4", {"steps": 2_000}) if small else ("poster-1", {"steps": 6_000})
        ),
    }
    cells = []
    for column, (recipe, how) in networks.items():
        name, poster = column.partition(" ")[0], column.startswith("poster")
        for loss, said in LOSSES.items():
            alone = make.config(f"{recipe}-{loss}", **how)
            cells.append(make.cell(f"{name}-{loss}", [(said, column)], alone))
            for count in (10_000,) if poster else GAME_FACES:
                played = make.beside(alone, count, game={"adversary": True})
                row = f"{said}+D {count // 1000}K"
                cells.append(make.cell(f"{name}-{loss}+d-{count // 1000}k", [(row, column)], played))
        if poster:
            continue
        plain = make.config(f"{recipe}-laplacekl", **how)
        others = {
            "qp": ("LaplaceKL, KL(q‖p)", {"direction": "q||p"}),
            "qp-annealed": (
                "LaplaceKL, KL(q‖p), t falling from 8 px",
                {"direction": "q||p", "target_start": 8.0},
            ),
            "nll": ("the likelihood, t to 0", {"name": "laplace_nll"}),
            "gaussian": ("Gaussian KL", {"name": "gaussian_kl"}),
            "oriented": ("LaplaceKL along each heatmap's axes", {"combine": "oriented"}),
        }
        for label, (row, loss) in others.items():
            cells.append(make.cell(f"{name}-{label}", [(row, column)], override(plain, loss=loss)))
        moved = make.beside(plain, 10_000, semi=LESSONS["equivariance"])
        cells.append(make.cell(f"{name}-elt-10k", [("LaplaceKL+ELT 10K", column)], moved))
    return cells


def _table2(make: _Maker) -> list[Cell]:
    """The poster's network at its widths, both losses, alone and in the game; one seed."""
    if make.seed:
        return []
    small, cells = make.budget == "small", []
    for width in WIDTHS:
        recipe = f"poster-{width.replace('/', '_')}"
        for loss, said in LOSSES.items():
            alone = make.config(f"{recipe}-{loss}", epochs=30.0)
            name = f"{loss}-{width.replace('/', '_')}"
            # Hours on a CPU.
            extra = small and width == "1"
            cells.append(make.cell(name, [(width, said)], alone, extra=extra))
            played = make.beside(alone, 10_000, game={"adversary": True})
            cells.append(make.cell(f"{name}+d-10k", [(width, f"{said}+D 10K")], played, extra=small))
    return cells


def _figure4(make: _Maker) -> list[Cell]:
    """Sweeps of the target scale t and of beta through the recipe's own; one seed."""
    if make.seed:
        return []
    plain = make.config("fast-small-laplacekl", steps=3_000, **FAST)
    cells = []
    for t in (0.3, 0.6, 1.2, 2.4, 4.8):
        places = [(f"{t:g}", "t, input px")] + ([("1", "beta")] if t == plain.loss.target_scale else [])
        cells.append(make.cell(f"t{t:g}", places, override(plain, loss={"target_scale": t})))
    for beta in (0.1, 0.3, 3.0, 10.0):
        cells.append(
            make.cell(f"beta{beta:g}", [(f"{beta:g}", "beta")], override(plain, model={"beta": beta}))
        )
    return cells


VIEWS = 8
SUPERVISED, LARGER, LARGEST = "labels alone", "the larger network alone", "the largest network, 128 px"


def _semisupervised(make: _Maker) -> list[Cell]:
    """Ways to train one network on some of the labels and on faces without, in equal steps."""
    small = make.budget == "small"
    how: dict[str, Any] = {"steps": 2_000, **FAST} if small else {"steps": 20_000}
    finer: dict[str, Any] = how | ({"model": {"input_size": 128}} if small else {})
    # The most telling first.
    cells = []
    for percent in (5, 20, 100, 1, 10, 50):
        limit = max(1, round(make.source.labelled * percent / 100))
        column = f"{percent} %"
        plain = make.config("fast-small-laplacekl", limit=limit, **how)
        larger = make.config("fast-medium-laplacekl", limit=limit, **how)
        largest = make.config("fast-large-laplacekl", limit=limit, **finer)
        game = make.beside(plain, 10_000, game={"adversary": True})
        lessons = {name: make.beside(plain, 10_000, semi=lesson) for name, lesson in LESSONS.items()}
        # A name, its row, its configuration and its teacher.
        ways = [
            ("supervised", SUPERVISED, plain, None),
            ("game", "LaplaceKL+D", game, None),
            ("equivariance", "ELT", lessons["equivariance"], None),
            ("teacher", "EMA teacher, consistency", lessons["teacher"], None),
            ("pseudo", "pseudo-labels, by their b", lessons["labels"], "supervised"),
            ("larger", LARGER, larger, None),
            ("distilled", "distilled from the larger network", lessons["labels"], "larger"),
        ]
        # Where labels are few: the faces whose labels were withheld; and two rounds over a network that takes as long as
        # all of the above together.
        own = make.among(plain, semi=LESSONS["labels"])
        taught = make.among(largest, semi={**LESSONS["labels"], "weight": 3.0})
        crowd = override(own, unlabelled_batch_size=48, semi={"weight": 3.0})
        withheld = [("pseudo-own", "pseudo-labels of the set's other faces", own, "supervised")]
        rounds = [
            ("largest", LARGEST, largest, None),
            ("largest-taught", f"{LARGEST}, taught by itself, the set's other faces", taught, "largest"),
            ("distilled-twice", "distilled from that, three faces a label", crowd, "largest-taught"),
        ]
        few = percent == 5
        for some, extra, views in (
            (ways, percent in (1, 10, 50), 1),
            (withheld, not few, 1),
            (rounds, not few, VIEWS),
        ):
            for name, row, config, teacher in some:
                teacher = teacher and f"{teacher}-{percent}-s{make.seed}"
                where, how_taught = [(row, column)], {"teacher": teacher, "views": views, "extra": extra}
                cells.append(make.cell(f"{name}-{percent}", where, config, **how_taught))
    return cells


EXPERIMENTS: dict[str, Callable[[_Maker], list[Cell]]] = {
    "table1": _table1,
    "table2": _table2,
    "figure4": _figure4,
    "semisupervised": _semisupervised,
}
