"""Figures: what they show where, files written whole or not at all, and logs in any state."""

import json
import os
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lapjax import plots
from lapjax.datasets import toy_faces
from lapjax.errors import LapjaxError
from lapjax.schemes import get_scheme

SEGMENTS = get_scheme("300w").segments


def pixels(figure, dpi=80):
    """The figure as drawn, (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


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


def write_log(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def log_rows(count=200, *, game=False):
    rows = []
    for step in range(count):
        row = {
            "step": step,
            "epoch": step / 10,
            "loss": 2.0 / (1 + step),
            "scale": 3.0,
            "images_per_second": 90.0,
        }
        if step % 20 == 0:
            row["nme"] = 20.0 / (1 + step / 20)
        if game:
            row |= {"d_real_accuracy": 0.7, "d_fake_accuracy": 0.8, "d_real_logit": 1.0, "d_fake_logit": -1.0}
            row |= {"gradient_norm_supervised": 1.0, "gradient_norm_adversarial": 0.01}
        rows.append(row)
    return rows


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


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


def test_a_supervised_run_has_no_panels_of_the_game(tmp_path):
    log = write_log(tmp_path / "run" / "metrics.jsonl", log_rows())
    figure = plots.training_curves([log])
    assert titles(figure) == ["training loss", "validation NME", "scale b"]
    assert figure.axes[1].get_xlabel() == "epoch"
    np.testing.assert_allclose(figure.axes[1].lines[0].get_xdata(), np.arange(10) * 2.0)
    assert pixels(figure).std() > 5


def test_a_game_beside_a_supervised_run(tmp_path):
    game = write_log(tmp_path / "game" / "metrics.jsonl", log_rows(game=True))
    plain = write_log(tmp_path / "plain" / "metrics.jsonl", log_rows())
    figure = plots.training_curves([game, plain])
    assert titles(figure)[3:] == ["accuracy of D", "logits of D", "gradients of G"]
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert legends[0] == ["game", "plain"] and legends[5] == ["supervised", "adversarial"]
    both = plots.training_curves({"one": game, "two": game})
    named = [text.get_text() for text in both.axes[4].get_legend().get_texts()]
    assert named == ["one, real", "one, fake", "two, real", "two, fake"]
    styles = {
        (line.get_color(), str(line.get_linestyle()))
        for line in both.axes[4].lines
        if line.get_alpha() is None
    }
    assert len(styles) == 4
    pixels(both)


def test_a_log_may_be_cut_short_lack_epochs_and_hold_no_numbers(tmp_path):
    log = write_log(tmp_path / "metrics.jsonl", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")}])
    log.write_text(log.read_text() + '{"step": 3, "lo')
    figure = plots.training_curves({"killed": log})
    (ax,) = figure.axes
    assert ax.get_xlabel() == "step" and list(ax.lines[0].get_xdata()) == [1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot read.*metrics.jsonl"),
        ("", "nothing to draw"),
        ('{"step": 1}\n', "nothing to draw"),
        ("no\n{}\n", "line 1 is not"),
    ],
)
def test_logs_that_cannot_be_drawn(tmp_path, text, match):
    log = tmp_path / "metrics.jsonl"
    if text is not None:
        log.write_text(text)
    with pytest.raises(LapjaxError, match=match):
        plots.training_curves([log])


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


def test_the_style_stays_inside(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.training_curves([write_log(tmp_path / "metrics.jsonl", log_rows(5))])
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LapjaxError, match=r"lapjax\[train\]"):
        plots.ced(None, {"a": [1.0]})
