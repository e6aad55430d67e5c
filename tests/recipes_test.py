"""Recipes: one for every row and width, under one budget, found by their nearest name."""

import dataclasses

import pytest

from lapjax.errors import LapjaxError
from lapjax.recipes import RECIPES, get_recipe

WIDTHS = {"poster-1_16": 4, "poster-1_8": 8, "poster-1_4": 16, "poster-1_2": 32, "poster-1": 64}
EXTRA = ["", "+d-10k", "+d-30k", "+d-50k", "+d-70k"]


@pytest.mark.parametrize("base", [*WIDTHS, "fast-small", "fast-medium", "fast-large"])
@pytest.mark.parametrize(("label", "loss"), [("sam", "sam"), ("laplacekl", "laplace_kl")])
def test_a_recipe_for_every_row_and_width(base, label, loss):
    for extra in EXTRA:
        found = RECIPES[f"{base}-{label}{extra}"]
        assert found.loss.name == loss
        assert found.game.adversary == bool(extra)
        assert found.unlabelled_limit == (1000 * int(extra[3:-1]) if extra else None)
        if base in WIDTHS:
            assert (found.model.network, 64 * found.model.width) == ("poster", WIDTHS[base])
            assert (found.model.input_size, found.model.stride) == (80, 1)
        else:
            assert (found.model.network, found.model.stride) == ("fast", 4)
            assert found.model.channels == {"small": 16, "medium": 24, "large": 32}[base[5:]]
            assert found.model.crop == 1.25 and found.model.input_size in (128, 160)


@pytest.mark.parametrize("base", [*WIDTHS, "fast-medium", "toy"])
def test_the_losses_are_compared_under_one_budget(base):
    kl, sam = RECIPES[f"{base}-laplacekl"], RECIPES[f"{base}-sam"]
    assert dataclasses.replace(sam, loss=kl.loss) == kl


def test_the_papers_recipe():
    paper = RECIPES["poster-paper-laplacekl"]
    assert (paper.loss.direction, paper.loss.target_scale, paper.loss.target_start) == ("q||p", 1.0, None)
    assert (paper.model.width, paper.model.beta, paper.augment.enabled) == (1.0, 1.0, False)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("poster-1_4-laplacelk", "poster-1_4-laplacekl"),
        ("fast-medum-sam", "fast-medium-sam"),
        ("toy-laplace", "toy-laplacekl"),
    ],
)
def test_an_unknown_recipe_suggests_the_nearest(name, nearest):
    with pytest.raises(LapjaxError, match=f"{name}.*did you mean '{nearest}'.*`lapjax recipes`"):
        get_recipe(name)


def test_an_unknown_recipe_like_no_other():
    with pytest.raises(LapjaxError, match="'@@': `lapjax recipes`"):
        get_recipe("@@")
    assert get_recipe("fast-large-sam") is RECIPES["fast-large-sam"]
