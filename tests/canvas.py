"""A figure as a reader would see it: its pixels and its titles."""

import numpy as np


def pixels(figure, dpi=80):
    """The figure as drawn, (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def titles(figure):
    """Of its panels, in order."""
    return [ax.get_title() for ax in figure.axes]
