"""The report: one page that holds everything it shows, of one run or of several; and the galleries in it."""

import base64
import importlib
import io
import re

import numpy as np
import pytest
import tiny
from PIL import Image

from lapjax import data
from lapjax.errors import LapjaxError
from lapjax.evaluation import calibrate
from lapjax.evaluation.evaluate import View, predict, view
from lapjax.schemes import anonymous, get_scheme
from lapjax.training.train import train
from lapjax.visualization import galleries, report


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs, of which one is calibrated."""
    folder = tmp_path_factory.mktemp("runs")
    splits = {"train": 24, "validation": 7, "calibration": 12}
    pack = folder / "tiny.npz"
    data.write_pack(pack, {name: tiny.samples(count, name) for name, count in splits.items()})
    for name, change in (("kl", {}), ("sam <1>", {"loss": {"name": "sam"}})):
        train(tiny.config(pack, **change), folder / name)
    calibrate.calibrate(folder / "kl")
    return {name: folder / name for name in ("kl", "sam <1>")}


def pictures(page):
    return [
        Image.open(io.BytesIO(base64.b64decode(code)))
        for code in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]


def test_a_page_of_two_runs_stands_alone(runs, tmp_path, monkeypatch):
    samples, calls = tiny.samples(30, "test"), []
    for module in (report, calibrate, importlib.import_module("lapjax.evaluation.evaluate")):
        monkeypatch.setattr(module, "predict", lambda *given: calls.append(given) or predict(*given))
    page = report.report(runs, samples)
    assert len(calls) == 2  # once a run
    assert "sam &lt;1&gt;" in page and "sam <1>" not in page
    assert "http" not in page and "<script" not in page and "<link" not in page
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert heads == [
        "Errors",
        "Cumulative errors",
        "Points",
        "Points with their scale",
        "Heatmaps",
        "Confidence",
        "Other boxes",
        "Training",
    ]
    shown = pictures(page)
    assert len(shown) == 7 and all(np.asarray(picture).std() > 5 for picture in shown)
    worth = calibrate.assess(report.load_run(runs["kl"]), samples)
    assert f"{100 * worth['radius']['overall']:.1f} %" in page
    report.write_report(tmp_path / "a.html", page)
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page


def test_a_run_without_calibration_says_how_to_get_one(runs):
    page = report.report({"sam": runs["sam <1>"]}, tiny.samples(12, "test"))
    assert "<code>lapjax calibrate DIR</code>" in page


def test_no_runs_and_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(LapjaxError, match="name at least one run"):
        report.report({}, tiny.samples(3))
    with pytest.raises(LapjaxError, match="cannot write .*choose another --out"):
        report.write_report(tmp_path / "no" / "a.html", "page")


def test_a_view_is_what_the_network_gets(runs):
    run, samples = report.load_run(runs["kl"]), tiny.samples(3)
    seen = view(run, samples)
    size = run.config.model.input_size
    assert seen.images.shape == (3, size, size, 3) and seen.images.dtype == np.uint8
    np.testing.assert_allclose(seen.probability.sum((1, 2)), 1, rtol=1e-4)
    columns = np.arange(size) @ seen.probability.sum(axis=1)[0]
    np.testing.assert_allclose(seen.points[0, :, 0], columns, atol=1e-2)
    assert (seen.nme > 0).all()


def test_galleries_have_a_row_for_each_model():
    seen = View(
        images=np.zeros((2, 32, 32, 3), np.uint8),
        truth=np.full((2, 5, 2), 12.0),
        visible=np.ones((2, 5), bool),
        points=np.full((2, 5, 2), 14.0),
        scale=np.full((2, 5, 2), 2.0),
        probability=np.full((2, 8, 8, 5), 1 / 64),
        nme=np.array([3.0, 12.0]),
    )
    views = {"a": seen, "b": seen}
    assert len(galleries.points_figure(views, get_scheme("five")).axes) == 4
    figure = galleries.heatmaps_figure(views, face=1, chosen=[0, 2, 4], names=get_scheme("five").names)
    assert len(figure.axes) == 6
    assert np.ptp(figure.axes[0].get_xlim()) == pytest.approx(0.4 * 32)
    with pytest.raises(LapjaxError, match="at least one model"):
        galleries.points_figure({}, get_scheme("five"))


def test_telling_landmarks_are_of_every_part():
    scheme = get_scheme("300w")
    chosen = galleries.telling_landmarks(scheme)
    assert [name for name, members in scheme.parts if set(members) & set(chosen)] == [
        name for name, _ in scheme.parts
    ]
    assert galleries.telling_landmarks(anonymous(3)) == [0, 1, 2]
