"""Figures: points and heatmaps over faces, the spread under two losses, cumulative errors.

Functions that take `ax` draw into any Matplotlib axes; those that return a figure leave the rest to `save`.
Nothing here touches pyplot's global state, so all of it works without a display. Colours are Okabe and Ito's,
which colour-blind readers tell apart, and curves differ by their dashes too.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lapjax import metrics
from lapjax.errors import LapjaxError
from lapjax.files import replacing

BLUE, ORANGE, GREEN, SKY, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#222222"
AMBER = "#E69F00"
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, BLACK, AMBER)
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
COLUMN = 7.0  # inches: the width of a figure across a page
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Guess:
    """What one model says about N faces, in px of the images it is drawn on.

    Attributes:
      points: (N, K, 2).
      probability: (N, H, W), the heatmap of the one landmark that is shown, covering the whole image.
      scale: (N, K, 2), b_x and b_y, or None.
    """

    points: np.ndarray
    probability: np.ndarray
    scale: np.ndarray | None = None


def styled(function):
    """Runs a function under the house's style, without leaving it behind."""

    @functools.wraps(function)
    def wrapped(*args, **options):
        try:
            import matplotlib
        except ImportError as error:
            raise LapjaxError("figures need matplotlib: `pip install lapjax[train]`") from error
        with matplotlib.rc_context(_STYLE):
            return function(*args, **options)

    return wrapped


@styled
def landmarks(
    ax,
    image,
    points,
    *,
    truth=None,
    scale=None,
    segments=None,
    visible=None,
    colour: str = BLUE,
    size: float = 2.4,
) -> None:
    """Draws points over an image.

    Args:
      ax: Matplotlib axes; their limits become those of the image.
      image: (H, W, 3) uint8.
      points: (K, 2) predicted points, image px: filled dots.
      truth: (K, 2) true points: white outlines, or rings without `segments`, each with a yellow line to its
        prediction.
      scale: (K, 2) b_x and b_y, image px: ellipses of these half-axes.
      segments: polylines as `Scheme.segments` has them, through the true points, else the predicted ones.
      visible: (K,) bool, which points to draw; all by default.
      colour: of the predicted points.
      size: diameter of a dot, in points of 1/72 inch.
    """
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.patches import Ellipse

    points = np.asarray(points, float)
    shown = np.ones(len(points), bool) if visible is None else np.asarray(visible, bool)
    _picture(ax, image)
    if scale is not None:
        pairs = zip(points[shown], 2 * np.asarray(scale, float)[shown], strict=True)
        ellipses = [Ellipse(point, width, height) for point, (width, height) in pairs]
        ax.add_collection(PatchCollection(ellipses, color=colour, linewidths=0.5, alpha=0.3, zorder=2))
    if segments:
        through, tint = (points, colour) if truth is None else (np.asarray(truth, float), "white")
        lines = [through[[i for i in segment if shown[i]]] for segment in segments]
        ax.add_collection(LineCollection(lines, colors=tint, linewidths=0.7, alpha=0.85, zorder=3))
    if truth is not None:
        truth = np.asarray(truth, float)
        misses = np.stack([points, truth], axis=1)[shown]
        ax.add_collection(LineCollection(list(misses), colors="#F0E442", linewidths=0.9, zorder=4))
        if not segments:
            x, y = truth[shown].T
            ax.scatter(x, y, s=1.6 * size**2, facecolors="none", edgecolors="white", linewidths=0.6, zorder=5)
    x, y = points[shown].T
    ax.scatter(x, y, s=size**2, c=colour, edgecolors="white", linewidths=0.25, zorder=6)


@styled
def heatmap(ax, image, probability, *, point=None, truth=None, peak: float | None = None) -> None:
    """Lays a heatmap over an image that is turned grey, the more opaque the more probable.

    Args:
      ax: Matplotlib axes; their limits become those of the image.
      image: (S, S, 3) uint8.
      probability: (H, W) of one landmark, which covers the whole image at any stride.
      point: (2,) the prediction, image px: a blue dot.
      truth: (2,) the true point: a white ring.
      peak: the value drawn at full strength; the map's maximum by default, so that a wide map is seen too.
    """
    import matplotlib

    grey = np.asarray(image, float) @ (0.299, 0.587, 0.114)
    height, width = _picture(ax, np.repeat(grey[..., None], 3, axis=2).astype(np.uint8))
    strength = np.clip(np.asarray(probability, float) / (peak or max(np.max(probability), 1e-12)), 0, 1)
    overlay = matplotlib.colormaps["inferno"](0.25 + 0.7 * strength)
    # The square root keeps the tails in sight: a Laplace map has a sharp peak and long ones.
    overlay[..., 3] = 0.92 * np.sqrt(strength)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.imshow(overlay, extent=extent, interpolation="bilinear", zorder=2)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    if truth is not None:
        ax.scatter(*truth, s=34, facecolors="none", edgecolors="white", linewidths=1.0, zorder=4)
    if point is not None:
        ax.scatter(*point, s=9, c=SKY, edgecolors="black", linewidths=0.4, zorder=5)


@styled
def spread_figure(
    images,
    truth,
    guesses: Mapping[str, Guess],
    *,
    landmark: int,
    landmark_name: str | None = None,
    errors: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    visible=None,
    segments=None,
):
    """A face a row: predicted against true points under each loss, then the heatmaps of one landmark.

    Args:
      images: (N, S, S, 3) uint8.
      truth: (N, K, 2) px of the images.
      guesses: what each model says, by the name of its loss, such as {"LaplaceKL": ..., "SAM": ...}.
      landmark: whose heatmap `Guess.probability` holds.
      landmark_name: what to call it; "landmark 30" by default.
      errors: NME of each face in percent by loss, written into the picture.
      visible: (N, K) bool, which points to draw.
      segments: polylines to draw, as `Scheme.segments` has them.

    Returns:
      The figure, for `save`.

    Raises:
      LapjaxError: nothing to draw, or guesses for another number of faces.
    """
    from matplotlib.figure import Figure

    images, truth = np.asarray(images), np.asarray(truth)
    if not len(images) or not guesses:
        raise LapjaxError("spread figure: give at least one face and one model's guesses")
    for name, guess in guesses.items():
        if not len(guess.points) == len(guess.probability) == len(truth) == len(images):
            raise LapjaxError(f"spread figure: {name} has guesses for another number of faces than images")
    rows, columns = len(images), 2 * len(guesses)
    cell, head = COLUMN / columns, 0.42
    figure = Figure(figsize=(COLUMN, rows * cell + head))
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.003, 0.003, 0.997, 1 - head / (rows * cell + head), wspace=0.03, hspace=0.03)
    called = landmark_name or f"landmark {landmark}"
    colours = dict(zip(guesses, CYCLE, strict=False))
    for row in range(rows):
        shown = None if visible is None else visible[row]
        for column, (name, guess) in enumerate(guesses.items()):
            left, right = grid[row, column], grid[row, column + len(guesses)]
            landmarks(
                left,
                images[row],
                guess.points[row],
                truth=truth[row],
                visible=shown,
                segments=segments,
                colour=colours[name],
                size=2.0,
            )
            there = truth[row, landmark] if shown is None or shown[landmark] else None
            heatmap(
                right, images[row], guess.probability[row], point=guess.points[row, landmark], truth=there
            )
            if errors is not None:
                caption(left, f"NME {errors[name][row]:.1f} %")
            if guess.scale is not None:
                caption(right, f"b {np.mean(guess.scale[row, landmark]):.1f} px")
            if row == 0:
                left.set_title(f"{name}\npredicted and true points", color=colours[name], pad=4)
                right.set_title(f"{name}\nheatmap of {called}", color=colours[name], pad=4)
    return figure


@styled
def ced(ax, errors: Mapping[str, Sequence[float] | np.ndarray], *, threshold: float = 10.0) -> None:
    """Draws the cumulative error distribution, the share of images up to each NME.

    Args:
      ax: Matplotlib axes.
      errors: (N,) NME of the images in percent, by the name of the model.
      threshold: where the axis ends, percent.
    """
    grid = np.linspace(0, threshold, 400)
    for i, (name, values) in enumerate(errors.items()):
        area = metrics.auc(np.asarray(values), threshold)
        label = f"{name}: AUC {area:.3f}"
        ax.plot(
            grid, 100 * metrics.ced(values, grid), color=CYCLE[i % 6], linestyle=DASHES[i % 4], label=label
        )
    ax.set(xlim=(0, threshold), ylim=(0, 100), xlabel="NME (%)", ylabel="images (%)")
    ax.legend(loc="lower right")


def save(figure, path: str | os.PathLike, *, dpi: int = 200) -> pathlib.Path:
    """Writes a figure as PNG, beside first and then renamed.

    Args:
      figure: a Matplotlib figure.
      path: where to, ending in .png; missing folders are made.
      dpi: pixels an inch.

    Returns:
      The path written.

    Raises:
      LapjaxError: another suffix, or a place that cannot be written.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != ".png":
        raise LapjaxError(f"figure {path}: figures are written as PNG; end the name in .png")
    message = "cannot write the figure {path} ({reason}): choose another folder"
    with replacing(path, message, parents=True) as part:
        figure.savefig(part, format="png", dpi=dpi)
    return path


def _picture(ax, image) -> tuple[int, int]:
    """Shows an image without axes; returns its height and width."""
    image = np.asarray(image)
    ax.imshow(image, interpolation="bicubic", zorder=1)
    ax.set_axis_off()
    height, width = image.shape[:2]
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return height, width


def caption(ax, text: str) -> None:
    """Writes a few words into the lower left corner of an image."""
    box = {"boxstyle": "round,pad=0.25", "facecolor": "black", "edgecolor": "none", "alpha": 0.55}
    ax.text(0.035, 0.035, text, transform=ax.transAxes, color="white", fontsize=7, bbox=box, zorder=9)
