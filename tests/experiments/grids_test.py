"""The cells of the experiments: what differs between them, what they share, and that teachers come first."""

import dataclasses

import pytest

from lapjax.config import to_dict
from lapjax.errors import LapjaxError
from lapjax.experiments import grids
from lapjax.experiments.grids import Source, grid

SOURCE = Source("the300w", 1640, "lfw", samples=13_233)


@pytest.mark.parametrize("budget", grids.BUDGETS)
@pytest.mark.parametrize("name", grids.EXPERIMENTS)
def test_every_cell_is_a_training_of_its_own(name, budget):
    cells = grid(name, SOURCE, budget=budget)
    assert len({cell.name for cell in cells}) == len(cells)
    made = [(str(to_dict(cell.config)), cell.teacher) for cell in cells]
    assert len(set(made)) == len(made)
    seen = set()
    for cell in cells:
        assert cell.teacher is None or cell.teacher in seen, cell.name
        assert (cell.teacher is None) == (cell.config.semi.method != "labels")
        seen.add(cell.name)
        assert cell.config.model.dtype == ("bfloat16" if budget == "full" else "float32")


def test_table_1_has_the_rows_of_the_poster_and_more():
    rows = {place[0] for cell in grid("table1", SOURCE) for place in cell.places}
    for loss in ("SAM", "LaplaceKL"):
        assert {loss, *(f"{loss}+D {count}K" for count in (3, 10, 13))} <= rows
    assert {"Gaussian KL", "LaplaceKL, KL(q‖p)", "LaplaceKL+ELT 10K"} <= rows


def test_cells_that_need_more_faces_than_there_are_are_left_out():
    few = {cell.name for cell in grid("table1", dataclasses.replace(SOURCE, samples=10_000))}
    every = {cell.name for cell in grid("table1", SOURCE)}
    assert every - few == {f"fast-{loss}+d-13k-s{s}" for loss in ("sam", "laplacekl") for s in range(3)}
    none = grid("table1", Source("x.npz", 100))
    assert none and not any(cell.config.uses_unlabelled for cell in none)


def test_semisupervised_methods_share_labels_steps_and_network():
    cells = [cell for cell in grid("semisupervised", SOURCE) if not cell.extra]
    assert len(cells) == 3 * (3 * 7 + 4)  # the set's other faces and the two rounds at 5 % alone
    for cell in cells:
        percent = int(cell.places[0][1].rstrip(" %"))
        assert cell.config.train_limit == round(16.4 * percent)
        steps = cell.config.epochs * cell.config.train_limit / cell.config.batch_size
        assert steps == pytest.approx(2_000)
        assert cell.config.model.blocks == ((2, 5, 5) if cell.name.startswith("larg") else (2, 2, 2))
    students = {cell.name: cell.teacher for cell in cells if cell.teacher}
    assert students["pseudo-5-s1"] == "supervised-5-s1" and students["distilled-20-s2"] == "larger-20-s2"


def test_the_faces_whose_labels_are_withheld_need_no_other_set():
    cells = [cell for cell in grid("semisupervised", Source("x.npz", 1_640)) if cell.config.uses_unlabelled]
    assert {cell.name.partition("-5-")[0] for cell in cells if "-5-" in cell.name} == {
        "pseudo-own",
        "largest-taught",
        "distilled-twice",
    }
    assert {(cell.config.unlabelled, cell.config.unlabelled_limit) for cell in cells} == {("x.npz", None)}
    assert {cell.views for cell in cells if cell.name.startswith("pseudo")} == {1}
    assert {cell.views for cell in cells if not cell.name.startswith("pseudo")} == {8}


def test_a_chosen_cell_brings_its_teachers_and_theirs():
    names = [
        cell.name for cell in grids.choose(grid("semisupervised", SOURCE, seeds=1), "distilled-twice-5-*")
    ]
    assert names == ["largest-5-s0", "largest-taught-5-s0", "distilled-twice-5-s0"]


def test_the_middle_of_both_sweeps_is_one_cell():
    cells = grid("figure4", SOURCE)
    places = [place for cell in cells for place in cell.places]
    assert len(cells) == 9 and len(places) == 10
    assert sorted(float(row) for row, column in places if column == "beta") == [0.1, 0.3, 1, 3, 10]
    (middle,) = (cell for cell in cells if len(cell.places) == 2)
    assert (middle.config.loss.target_scale, middle.config.model.beta) == (1.2, 1.0)


def test_bad_requests():
    with pytest.raises(LapjaxError, match="unknown experiment 'tabel1': did you mean 'table1'"):
        grid("tabel1", SOURCE)
    with pytest.raises(LapjaxError, match="unknown budget 'huge'"):
        grid("table1", SOURCE, budget="huge")
    with pytest.raises(LapjaxError, match="seeds 0"):
        grid("table1", SOURCE, seeds=0)
