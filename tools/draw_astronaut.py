"""Draws docs/astronaut.jpg: a photograph under the network `face-68`, each point with its 90 % circle.

    python tools/draw_astronaut.py [--out docs/astronaut.jpg]

The photograph is NASA's portrait of Eileen Collins, in the public domain, as scikit-image has it
(`pip install scikit-image`).
"""

import argparse
import pathlib
import warnings

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import lapjax
from lapjax.errors import TermsWarning

# The tight box of the face's points, found in two rounds from a rough one: a box around what the network found.
ROUGH = (172.0, 80.0, 275.0, 192.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="docs/astronaut.jpg", type=pathlib.Path)
    arguments = parser.parse_args()
    image = data.astronaut()
    warnings.simplefilter("ignore", TermsWarning)
    localizer = lapjax.Localizer.load("face-68")
    result = localizer(image, box=ROUGH)
    for _ in range(2):
        result = localizer(image, box=(*result.points.min(axis=0), *result.points.max(axis=0)))
    figure = draw(image, result, localizer.scheme.segments)
    figure.savefig(arguments.out, dpi=150, bbox_inches="tight", pil_kwargs={"quality": 88})


def draw(image, result, segments):
    """The whole photograph with the box, and the face enlarged with the points and their circles."""
    low, high = result.points.min(axis=0) - 22, result.points.max(axis=0) + 22
    figure, (whole, near) = plt.subplots(1, 2, figsize=(8, 4.25), width_ratios=(1, 1), layout="constrained")
    whole.imshow(image)
    corner, extent = result.points.min(axis=0), np.ptp(result.points, axis=0)
    whole.add_patch(plt.Rectangle(corner, *extent, fill=False, edgecolor="#00b8a9", linewidth=1.5))
    near.imshow(image, interpolation="bicubic")
    for segment in segments:
        near.plot(*result.points[list(segment)].T, color="white", linewidth=0.7, alpha=0.8)
    for point, radius in zip(result.points, result.radius, strict=True):
        near.add_patch(plt.Circle(point, radius, facecolor="#00b8a9", alpha=0.16, edgecolor="none"))
        near.add_patch(plt.Circle(point, radius, fill=False, edgecolor="#00b8a9", linewidth=0.6))
    near.plot(*result.points.T, ".", color="#ff5a36", markersize=3.5)
    near.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]))
    for ax in (whole, near):
        ax.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
