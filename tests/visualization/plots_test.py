"""Figures: what they show where, files written whole or not at all, and logs in any state."""

import os
import sys

import numpy as np
import pytest
from canvas import pixels, titles
from matplotlib.figure import Figure
from PIL import Image

from lapjax.datasets import toy_faces
from lapjax.errors import LapjaxError
from lapjax.schemes import get_scheme
from lapjax.visualization import plots

SEGMENTS = get_scheme("300w").segments


def full_axes(inches=2.0):
    """Axes that fill a square figure, so that the figure's pixels are the image's, enlarged."""
    figure = Figure(figsize=(inches, inches))
    return figure, figure.add_axes((0, 0, 1, 1))


def near(picture, colour):
    """(row, column) of the centre of what is drawn in a colour."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    hit = np.abs(picture.astype(int) - rgb).sum(axis=-1) < 60
    assert hit.any()
    return np.argwhere(hit).mean(axis=0)


def test_points_are_drawn_where_they_are():
    figure, ax = full_axes()
    image = np.full((40, 40, 3), 200, np.uint8)
    plots.landmarks(ax, image, [[29.5, 9.5], [3.0, 3.0]], visible=[True, False], size=8)
    row, column = near(pixels(figure), plots.BLUE)
    # Pixel centres are at integers, so 9.5 of 40 px is a quarter of the way: 40 of 160 px.
    np.testing.assert_allclose([row, column], [39.5, 119.5], atol=1.0)


def test_truth_scale_and_segments_each_leave_a_mark():
    image = np.full((160, 160, 3), 90, np.uint8)
    _, points, *_ = toy_faces.draw(0)
    pictures = []
    for options in (
        {},
        {"truth": points + 4},
        {"scale": np.full((68, 2), 5.0)},
        {"segments": SEGMENTS},
        {"truth": points + 4, "segments": SEGMENTS},
    ):
        figure, ax = full_axes()
        plots.landmarks(ax, image, points, **options)
        pictures.append(pixels(figure))
    for i, first in enumerate(pictures):
        assert all(not np.array_equal(first, second) for second in pictures[i + 1 :])


@pytest.mark.parametrize("stride", [1, 4])
def test_a_heatmap_covers_the_image_at_any_stride(stride):
    """A cell lies over the pixels it stands for: x_in = stride * (x_h + 0.5) - 0.5."""
    probability = np.zeros((40 // stride, 40 // stride))
    cell = 28 // stride
    probability[cell, cell // 2] = 1
    figure, ax = full_axes()
    plots.heatmap(ax, np.zeros((40, 40, 3), np.uint8), probability)
    light = pixels(figure).astype(float).sum(axis=-1)
    rows, columns = np.mgrid[: light.shape[0], : light.shape[1]]
    found = (light * rows).sum() / light.sum(), (light * columns).sum() / light.sum()
    wanted = (np.array([cell, cell // 2]) + 0.5) * stride * 4 - 0.5
    np.testing.assert_allclose(found, wanted, atol=1.5)


def test_a_wide_heatmap_is_seen_unless_a_peak_says_otherwise():
    image, flat = np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 1 / 1600)
    light = []
    for peak in (None, 1.0):
        figure, ax = full_axes()
        plots.heatmap(ax, image, flat, peak=peak)
        light.append(pixels(figure).mean())
    assert light[0] > 5 * light[1]


def guesses(truth, names=("LaplaceKL", "SAM")):
    maps = np.random.default_rng(0).dirichlet(np.ones(400), len(truth)).reshape(-1, 20, 20)
    return {name: plots.Guess(truth + 1, maps, np.full(truth.shape, 2.0)) for name in names}


def test_the_spread_figure_shows_every_face_under_every_loss(tmp_path):
    drawn = [toy_faces.draw(i, size=64) for i in range(3)]
    images, truth = np.stack([face[0] for face in drawn]), np.stack([face[1] for face in drawn])
    errors = {"LaplaceKL": [3.0] * 3, "SAM": [5.0] * 3}
    visible = np.ones((3, 68), bool)
    visible[0, 30] = False
    figure = plots.spread_figure(
        images, truth, guesses(truth), landmark=30, errors=errors, visible=visible, segments=SEGMENTS
    )
    assert len(figure.axes) == 3 * 4
    assert [title.split("\n")[0] for title in titles(figure)[:4]] == ["LaplaceKL", "SAM", "LaplaceKL", "SAM"]
    path = plots.save(figure, tmp_path / "deep" / "spread.png", dpi=60)
    with Image.open(path) as picture:
        assert picture.width == int(plots.COLUMN * 60)


def test_a_spread_figure_of_nothing_or_of_other_faces_is_refused():
    truth = np.zeros((2, 68, 2))
    images = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(LapjaxError, match="at least one"):
        plots.spread_figure(images, truth, {}, landmark=0)
    with pytest.raises(LapjaxError, match="SAM"):
        plots.spread_figure(images, truth, guesses(truth[:1], ("SAM",)), landmark=0)


def test_cumulative_errors_end_at_the_share_that_is_small_enough():
    figure, ax = full_axes()
    plots.ced(ax, {"a": [1.0, 2.0, 12.0, 30.0], "b": [1.0]})
    assert [line.get_ydata()[-1] for line in ax.lines] == [50, 100]
    assert "AUC" in ax.get_legend().get_texts()[0].get_text()
    pixels(figure)


def test_a_figure_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"before")

    class Broken(Figure):
        def savefig(self, name, **options):
            with open(name, "wb") as file:
                file.write(b"half")
            raise OSError(28, os.strerror(28))

    with pytest.raises(LapjaxError, match=r"cannot write.*figure\.png.*No space"):
        plots.save(Broken(), path)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["figure.png"]
    assert plots.save(full_axes()[0], path) == path
    with Image.open(path) as picture:
        assert picture.format == "PNG" and os.listdir(tmp_path) == ["figure.png"]


def test_a_folder_that_is_a_file_and_another_suffix_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LapjaxError, match="choose another folder"):
        plots.save(full_axes()[0], tmp_path / "file" / "figure.png")
    with pytest.raises(LapjaxError, match=r"\.png"):
        plots.save(full_axes()[0], tmp_path / "figure.pdf")


def test_the_style_stays_inside():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.ced(full_axes()[1], {"a": [1.0, 2.0]})
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LapjaxError, match=r"lapjax\[train\]"):
        plots.ced(None, {"a": [1.0]})
