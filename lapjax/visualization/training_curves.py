"""Training curves: what one or several metrics.jsonl hold, a panel for each quantity."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from lapjax.errors import LapjaxError
from lapjax.visualization.plots import COLUMN, CYCLE, DASHES, styled

# Panel title, the unit of its axis, whether logarithmic, and its curves: (key, label).
_PANELS = (
    ("training loss", "loss", False, (("loss", "loss"),)),
    ("validation NME", "percent", True, (("nme", "NME"),)),
    ("scale b", "input px", True, (("scale", "mean b"),)),
    (
        "accuracy of D",
        "fraction",
        False,
        (
            ("d_real_accuracy", "real"),
            ("d_fake_accuracy", "fake"),
            ("d_heldout_accuracy", "held-out real"),
        ),
    ),
    ("logits of D", "mean logit", False, (("d_real_logit", "real"), ("d_fake_logit", "fake"))),
    (
        "gradients of G",
        "norm",
        True,
        (("gradient_norm_supervised", "supervised"), ("gradient_norm_adversarial", "adversarial")),
    ),
)


@styled
def training_curves(runs: Mapping[str, str | os.PathLike] | Sequence[str | os.PathLike]):
    """Draws what the metrics.jsonl of one or several runs hold: a panel for each quantity that is there.

    Loss, validation NME and mean scale; for the game D's accuracy on real, fake and held-out real faces, its
    logits, and the norm of G's adversarial gradient beside that of the supervised loss. Noisy curves are faint,
    with their running mean on top.

    Args:
      runs: the files by the name of the run, or just the files, named by their folders.

    Returns:
      The figure, for `save`.

    Raises:
      LapjaxError: a file that is missing, is not JSON lines, or holds nothing to draw.
    """
    from matplotlib.figure import Figure

    if not isinstance(runs, Mapping):
        paths = [pathlib.Path(path) for path in runs]
        short = [path.parent.name or path.stem for path in paths]
        distinct = len(set(short)) == len(short)
        runs = dict(zip(short if distinct else map(str, paths), paths, strict=True))
    histories = {name: _columns(path) for name, path in runs.items()}
    panels = [
        panel for panel in _PANELS if any(key in found for key, _ in panel[3] for found in histories.values())
    ]
    if not panels:
        listed = ", ".join(map(str, runs.values())) or "no file"
        raise LapjaxError(f"nothing to draw in {listed}: give the metrics.jsonl of a training run")
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(COLUMN * max(across, 2) / 3, 2.1 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    unit = "epoch" if all("epoch" in found for found in histories.values()) else "step"
    for ax, (title, quantity, logarithmic, curves) in zip(axes, panels, strict=False):
        drawn = [(name, found) for name, found in histories.items() if any(key in found for key, _ in curves)]
        lowest = np.inf
        for i, (name, found) in enumerate(drawn):
            for j, (key, label) in enumerate(curves):
                if key not in found:
                    continue
                rows, values = found[key]
                x = found[unit][1][np.searchsorted(found[unit][0], rows)]
                named = f"{name}, {label}"
                if len(curves) == 1 or len(drawn) == 1:
                    named = name if len(curves) == 1 else label
                style = {
                    "color": CYCLE[(i if len(curves) == 1 else j) % len(CYCLE)],
                    "linestyle": DASHES[(i if len(drawn) > 1 else j) % len(DASHES)],
                    "label": named,
                }
                _curve(ax, x, values, style, sparse=key in ("nme", "d_heldout_accuracy"))
                lowest = min(lowest, values.min())
        ax.set(title=title, xlabel=unit, ylabel=quantity)
        if logarithmic and 0 < lowest < np.inf:
            _log_scale(ax)
        if "accuracy" in title:
            ax.set_ylim(-0.02, 1.02)
            ax.axhline(0.5, color="#999999", linewidth=0.8, linestyle=":", zorder=1)
        if len(curves) > 1 or len(drawn) > 1:
            ax.legend()
    for ax in axes[len(panels) :]:
        ax.remove()
    return figure


def _curve(ax, x, values, style: dict, *, sparse: bool) -> None:
    """A curve; many noisy values faintly, with their running mean on top."""
    window = len(values) // 40
    if sparse or window < 2:
        ax.plot(x, values, marker="o" if len(values) <= 30 else None, markersize=2.5, **style)
        return
    ax.plot(x, values, color=style["color"], linewidth=0.6, alpha=0.22)
    total = np.cumsum(np.insert(values, 0, 0.0))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    ax.plot(x, (total[last] - total[first]) / (last - first), **style)


def _log_scale(ax) -> None:
    """A logarithmic axis with plain numbers on it, also where it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    narrow = high / low < 30
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _columns(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Key -> (rows that have it, their values), of the finite numbers in a metrics.jsonl."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LapjaxError(
            f"cannot read {path} ({reason}): give the metrics.jsonl of a training run"
        ) from error
    found: dict[str, tuple[list, list]] = {}
    for number, line in enumerate(lines):
        try:
            row = dict(json.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines) - 1:  # a run that was killed may leave half a line
                break
            raise LapjaxError(
                f"{path} line {number + 1} is not a JSON object: repair or remove it"
            ) from error
        row.setdefault("step", number)
        for key, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
                rows, values = found.setdefault(key, ([], []))
                rows.append(number)
                values.append(value)
    if "epoch" in found and len(found["epoch"][0]) < len(found.get("step", ((),))[0]):
        del found["epoch"]
    return {key: (np.array(rows), np.array(values, float)) for key, (rows, values) in found.items()}
