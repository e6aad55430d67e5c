"""Records as tables: means with their spread, changes over the baseline of the same seed, what was not run."""

import pytest

from lapjax.errors import LapjaxError
from lapjax.experiments import summary


def results(experiment, values, split="validation"):
    """`values`: (row, column, seed) -> NME."""
    cells = {
        f"{row}-{column}-{seed}": {"places": [[row, column]], "seed": seed, split: {"nme": nme}}
        for (row, column, seed), nme in values.items()
    }
    return {"experiment": experiment, "budget": "small", "cells": cells}


TABLE_1 = results(
    "table1",
    {
        ("SAM", "fast", 0): 5.0,
        ("SAM", "fast", 1): 4.0,
        ("LaplaceKL", "fast", 0): 4.5,
        ("LaplaceKL", "fast", 1): 3.8,
        ("SAM+D 3K", "fast", 1): 4.2,
        ("LaplaceKL+D 10K", "poster 1/4", 0): 6.0,
    },
)


def test_the_table_has_spreads_and_says_what_was_not_run():
    lines = summary.page(TABLE_1, "validation")
    assert "| SAM | 4.50 ± 0.71 (2) | not run | not run |" in lines
    assert "| SAM+D 3K | 4.20 | not run | not run |" in lines
    assert "| LaplaceKL+D 10K | not run | 6.00 | not run |" in lines
    assert "| SAM+D 13K | not run | not run | not run |" in lines
    assert any(line.startswith("| LaplaceKL+D 70K | - | 3.19") for line in lines)
    assert summary.page(TABLE_1, "common") == summary.page(results("table1", {}), "common")


def test_effects_pair_the_seeds():
    rows = {(row, column): rest for row, _, column, *rest in summary.effects(TABLE_1, "validation")}
    assert rows.keys() == {("LaplaceKL", "fast"), ("SAM+D 3K", "fast")}  # nothing to compare the others with
    # Changes of -10 and -5 %: Student's 97.5 % quantile for two is 12.706, the mean's deviation 2.5.
    assert rows["LaplaceKL", "fast"] == ["2", "-7.5 %", "-39.3 to +24.3 %"]
    assert rows["SAM+D 3K", "fast"] == ["1", "+5.0 %", "-"]


def test_no_effect_has_no_minus():
    made = results("table1", {("SAM", "fast", 0): 5.0, ("LaplaceKL", "fast", 0): 4.9999})
    ((*_, change, interval),) = summary.effects(made, "validation")
    assert (change, interval) == ("+0.0 %", "-")


def test_baselines():
    assert summary.baseline("table1", "SAM") is None
    assert summary.baseline("table1", "LaplaceKL") == "SAM"
    assert summary.baseline("table1", "LaplaceKL+ELT 10K") == "LaplaceKL"
    assert summary.baseline("table1", "Gaussian KL") == "LaplaceKL"
    assert summary.baseline("semisupervised", "ELT") == "labels alone"
    assert summary.baseline("semisupervised", "labels alone") is None


def test_sweeps_are_in_the_order_of_their_values():
    found = results("figure4", {("10", "beta", 0): 6.0, ("0.3", "beta", 0): 5.0, ("1", "beta", 0): 4.0})
    lines = summary.page(found, "validation")
    assert "| beta | 0.3 | 1 | 10 |" in lines and "| NME | 5.00 | 4.00 | 6.00 |" in lines


def test_the_columns_of_fractions_rise():
    lines = summary.page(results("semisupervised", {("ELT", "5 %", 0): 5.0}), "validation")
    assert "|  | 1 % | 5 % | 10 % | 20 % | 50 % | 100 % |" in lines


def test_common_is_shown_when_all_have_it():
    both = results("table1", {("SAM", "fast", 0): 5.0}, split="common")
    assert summary.common_split(both) == "common"
    assert summary.common_split(TABLE_1) == "validation"


@pytest.mark.parametrize(
    "experiment,values,panels",
    [
        ("table1", {("SAM", "fast", 0): 5, ("SAM", "fast", 1): 4, ("SAM+D 3K", "fast", 0): 4.5}, 1),
        ("figure4", {("0.3", "beta", 0): 5, ("1", "beta", 0): 4, ("1.2", "t, input px", 0): 4}, 2),
        ("semisupervised", {("ELT", "5 %", 0): 5, ("labels alone", "20 %", 0): 6}, 1),
    ],
)
def test_figures(experiment, values, panels):
    axes = summary.draw(results(experiment, values), "validation").axes
    assert len(axes) == panels and axes[0].get_ylabel() == "NME (%)"
    if experiment == "table1":
        (line,) = (line for line in axes[0].get_lines() if line.get_marker() == "o")
        assert line.get_xdata().tolist() == [0, 3000] and line.get_ydata().tolist() == [4.5, 4.5]


def test_nothing_to_draw():
    with pytest.raises(LapjaxError, match="table2 has no figure"):
        summary.draw(results("table2", {}), "validation")
    with pytest.raises(LapjaxError, match="no cell of figure4 was measured on common"):
        summary.draw(results("figure4", {("1", "beta", 0): 4}), "common")
