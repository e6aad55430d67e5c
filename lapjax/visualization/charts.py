"""Curves about errors and confidence, several models over one another; the style is that of `plots`."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from lapjax.metrics.uncertainty import Reliability, Sparsification, auroc
from lapjax.visualization.plots import COLUMN, CYCLE, DASHES, styled

__all__ = ["failures", "intervals", "reliability", "sparsification", "stress", "sweeps"]

# Their number has no factor in common with that of the colours: no two of the first 35 methods look alike.
_MARKERS = "os^Dv"
_CHANCE = {"color": "#999999", "linewidth": 0.8, "linestyle": ":", "zorder": 1}


def _styles(named: Mapping):
    """(name, value, how to draw it) of every curve: its own colour and its own dashes."""
    for i, (name, value) in enumerate(named.items()):
        yield (
            name,
            value,
            {"color": CYCLE[i % len(CYCLE)], "linestyle": DASHES[i % len(DASHES)], "label": name},
        )


@styled
def intervals(ax, levels, covered: Mapping[str, Sequence[float]]) -> None:
    """How often errors lie in the intervals of the predicted Laplace distributions, against the intervals' levels.

    Args:
      ax: Matplotlib axes.
      levels: (L,) in (0, 1).
      covered: (L,) observed shares, by the name of the model; on the diagonal b is calibrated, below it too small.
    """
    percent = 100 * np.asarray(levels)
    ax.plot([0, 100], [0, 100], **_CHANCE)
    for _, observed, style in _styles(covered):
        ax.plot(percent, 100 * np.asarray(observed), marker="o", markersize=2.5, **style)
    ax.set(xlim=(0, 100), ylim=(0, 100), xlabel="level of the interval (%)", ylabel="errors inside (%)")
    ax.legend(loc="upper left")


@styled
def reliability(ax, found: Mapping[str, Reliability]) -> None:
    """The reliability diagram of a probability: what was said against what came true.

    Args:
      ax: Matplotlib axes.
      found: `uncertainty.reliability` by the name of the model.
    """
    ax.plot([0, 100], [0, 100], **_CHANCE)
    for _, bins, style in _styles(found):
        ax.plot(100 * bins.predicted, 100 * bins.observed, marker="o", markersize=2.5, **style)
    ax.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence (%)", ylabel="points that are close (%)")
    ax.legend(loc="upper left")


@styled
def sparsification(ax, found: Mapping[str, Sparsification], *, unit: str = "% of inter-ocular") -> None:
    """The error that is left when the least certain points are discarded; the oracle's order thin and dotted.

    Args:
      ax: Matplotlib axes.
      found: `uncertainty.sparsification` by the name of the model.
      unit: of the errors.
    """
    for _, curves, style in _styles(found):
        some = np.unique(np.linspace(0, len(curves.discarded) - 1, 400).astype(int))
        some = some[curves.discarded[some] <= 0.98]
        percent = 100 * curves.discarded[some]
        ax.plot(percent, curves.by_uncertainty[some], **style)
        ax.plot(percent, curves.oracle[some], color=style["color"], linewidth=0.7, linestyle=":")
    ax.set(
        xlim=(0, 100), xlabel="points discarded, least certain first (%)", ylabel=f"mean error left ({unit})"
    )
    ax.set_ylim(bottom=0)
    ax.legend(loc="lower left")


@styled
def failures(ax, found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """The receiver operating characteristic of finding failed images by their uncertainty.

    Args:
      ax: Matplotlib axes.
      found: (uncertainty (N,), failed (N,) bool) by the name of the model.
    """
    ax.plot([0, 100], [0, 100], **_CHANCE)
    for name, (uncertainty, failed), style in _styles(found):
        style["label"] = f"{name}: {auroc(uncertainty, failed):.2f}"
        failed = np.asarray(failed, bool)[np.argsort(-np.asarray(uncertainty), kind="stable")]
        caught = np.concatenate([[0], np.cumsum(failed) / failed.sum()])
        alarms = np.concatenate([[0], np.cumsum(~failed) / (~failed).sum()])
        ax.plot(100 * alarms, 100 * caught, **style)
    ax.set(xlim=(0, 100), ylim=(0, 100), xlabel="false alarms (%)", ylabel="failures found (%)")
    ax.legend(loc="lower right")


@styled
def stress(ax, limits, nme: Mapping[str, Sequence[float]], *, what: str) -> None:
    """NME against how far the input is from what the network was trained on.

    Args:
      ax: Matplotlib axes.
      limits: (L,) how far.
      nme: (L,) percent, by the name of the model.
      what: the limits are of, with their unit.
    """
    for _, values, style in _styles(nme):
        ax.plot(limits, values, marker="o", markersize=2.5, **style)
    ax.set(xlabel=what, ylabel="NME (%)", xlim=(min(limits), max(limits)))
    ax.set_ylim(0, 1.15 * max(map(max, nme.values())))
    ax.legend(loc="lower right")


@styled
def sweeps(panels: Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]], *, what: str = "", log: bool):
    """A figure of NME against a setting, a panel each: the means of the seeds, and as bars their extremes.

    Methods are drawn a little beside one another, so that their bars can be told apart.

    Args:
      panels: NME in percent of each seed, by the setting, by the name of the method ("" for no legend), by the panel.
      what: the setting is, with its unit, where the panels are titled; else their names say it.
      log: a logarithmic axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN, 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (name, found) in zip(axes, panels.items(), strict=True):
        ticks = sorted({at for series in found.values() for at in series})
        for i, (method, series, style) in enumerate(_styles(found)):
            settings = sorted(series)
            means = np.array([np.mean(series[at]) for at in settings])
            low, high = (np.array([end(series[at]) for at in settings]) for end in (min, max))
            aside = 0.008 * (i - (len(found) - 1) / 2)
            places = _aside(settings, ticks[0], ticks[-1], aside, log)
            label = textwrap.fill(method, 32) or "_"
            marker = {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 3.5, "label": label}
            ax.plot(places, means, **style | marker)
            if (high > low).any():
                bars = means - low, high - means
                ax.errorbar(places, means, bars, fmt="none", ecolor=style["color"], capsize=2, linewidth=0.8)
        if log:
            ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
        ax.minorticks_off()
        ax.set(xlabel=what or name, title=name if what else "")
        if any(found):
            beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
            ax.legend(**(beside if len(found) > 6 else {}))
    axes[0].set_ylabel("NME (%)")
    return figure


def _aside(values, low, high, share, log):
    """Values moved along their axis by a share of its extent."""
    if log:
        return [value * (high / low) ** share for value in values]
    return [value + (high - low) * share for value in values]
