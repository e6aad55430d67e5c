"""Figures of several faces under several models: points with their scale, and heatmaps of several landmarks."""

from collections.abc import Mapping, Sequence

import numpy as np

from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import View
from lapjax.schemes import Scheme
from lapjax.visualization.plots import COLUMN, CYCLE, caption, heatmap, landmarks, styled

__all__ = ["heatmaps_figure", "points_figure", "telling_landmarks"]

_WINDOW = 0.4  # how much of the input's side is shown around a landmark


@styled
def points_figure(views: Mapping[str, View], scheme: Scheme, *, truth: bool = True):
    """A model a row, a face a column: the predicted points, their scales as ellipses, and lines to the true points.

    Args:
      views: what each model sees in the same N faces, by its name.
      scheme: of the points; its segments are drawn through the true ones.
      truth: draw the true points; without them the scales stand alone.

    Returns:
      The figure, for `plots.save`.

    Raises:
      LapjaxError: no models or no faces.
    """
    figure, grid = _grid(views, len(_first(views).images))
    for row, (name, seen) in zip(grid, views.items(), strict=True):
        for index, ax in enumerate(row):
            landmarks(
                ax,
                seen.images[index],
                seen.points[index],
                truth=seen.truth[index] if truth else None,
                scale=None if truth else seen.scale[index],
                segments=scheme.segments if truth else None,
                visible=seen.visible[index],
                colour=CYCLE[list(views).index(name) % len(CYCLE)],
                size=2.0,
            )
            spread = np.where(seen.visible[index, :, None], seen.scale[index], np.nan)
            said = f"NME {seen.nme[index]:.1f} %" if truth else f"mean b {np.nanmean(spread):.1f} px"
            ax.set_title(said, fontsize=7.5, pad=2)
    return figure


@styled
def heatmaps_figure(views: Mapping[str, View], *, face: int, chosen: Sequence[int], names: Sequence[str]):
    """A model a row, a landmark a column: heatmaps over one face around the predicted and the true point.

    Args:
      views: what each model sees in the same faces, by its name.
      face: which of them.
      chosen: indices of landmarks.
      names: of all landmarks.

    Returns:
      The figure, for `plots.save`.

    Raises:
      LapjaxError: no models or no landmarks.
    """
    figure, grid = _grid(views, len(chosen))
    for ax, index in zip(grid[0], chosen, strict=True):
        ax.set_title(names[index].replace("_", " "), fontsize=7, pad=2)
    for row, seen in zip(grid, views.values(), strict=True):
        for index, ax in zip(chosen, row, strict=True):
            there = seen.truth[face, index] if seen.visible[face, index] else None
            heatmap(
                ax,
                seen.images[face],
                seen.probability[face, ..., index],
                point=seen.points[face, index],
                truth=there,
            )
            middle = seen.points[face, index] if there is None else there
            reach = max(
                _WINDOW * seen.images.shape[1] / 2, 2 * np.abs(seen.points[face, index] - middle).max()
            )
            ax.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
            caption(ax, f"b {seen.scale[face, index].mean():.1f} px")
    return figure


def telling_landmarks(scheme: Scheme, count: int = 5) -> list[int]:
    """A few landmarks that differ in kind: the middle one of each facial part, else evenly spaced ones."""
    if scheme.parts:
        return [members[len(members) // 2] for _, members in scheme.parts[:count]]
    return sorted(
        set(np.linspace(0, scheme.count - 1, min(count, scheme.count)).round().astype(int).tolist())
    )


def _first(views):
    if not views:
        raise LapjaxError("figure: give what at least one model sees")
    return next(iter(views.values()))


def _grid(views, columns):
    """A figure across the page of square cells, a row for each model with its name on the left."""
    from matplotlib.figure import Figure

    _first(views)
    if not columns:
        raise LapjaxError("figure: give at least one face and one landmark")
    head, margin = 0.2, 0.18
    cell = (COLUMN - margin) / columns
    height = len(views) * (cell + head)
    figure = Figure(figsize=(COLUMN, height))
    grid = figure.subplots(len(views), columns, squeeze=False)
    figure.subplots_adjust(margin / COLUMN, 0.003, 0.997, 1 - head / height, 0.03, head / cell)
    for row, name in zip(grid, views, strict=True):
        place = row[0].get_position()
        # A letter is about 0.6 of its size wide: a long name is set as small as it takes to stay beside its row.
        size = min(7.5, 72 * (cell + head) / (0.6 * max(len(name), 1)))
        x, y = margin / COLUMN / 2, (place.y0 + place.y1) / 2
        figure.text(x, y, name, rotation=90, ha="center", va="center", fontsize=size)
    return figure, grid
