"""Calibrations applied: the grid's share of b, hand-computed radii and probabilities, and JSON."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from lapjax.calibration import scale as calibration
from lapjax.errors import LapjaxError

_MADE = calibration.Calibration(
    scheme="tiny",
    stride=0,
    groups=("left", "right"),
    group=(0, 0, 1),
    offset=(0.0, float(np.log(2)), 0.0),
    weights=(1.0, 0.5, -0.5),
    level=0.9,
    quantile=(1.5, 3.0),
    tolerance=0.05,
    weibull=(1.7, 1.1),
    images=20,
)


def _two_cells(fraction, stride=4):
    """A mean `fraction` of the way from cell 5 to cell 6 along both axes, and the b of that pair of cells."""
    point = stride * (5.5 + fraction) - 0.5
    return np.full((1, 1, 2), point), np.full((1, 1, 2), 2 * stride * fraction * (1 - fraction))


def test_gridless_takes_off_most_of_what_two_cells_spread():
    for fraction in (0.1, 0.5, 0.8):
        points, scale = _two_cells(fraction)
        left = calibration.gridless(points, scale, stride=4)
        assert left == pytest.approx(np.sqrt(0.2 * scale[..., 0] ** 2 + 0.01))


def test_gridless_leaves_cell_centres_and_other_scales_alone():
    points, _ = _two_cells(0)
    scale = np.array([[[3.0, 4.0]]])
    expected = np.sqrt((9 + 16) / 2 + 0.01)
    assert calibration.gridless(points, scale, stride=4) == pytest.approx(expected)
    assert calibration.gridless(points + 2, scale, stride=4) < expected
    assert calibration.gridless(points + 2, scale, stride=0) == pytest.approx(expected)
    assert calibration.gridless(points, np.zeros((1, 1, 2)), stride=4) > 0


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_gridless_steadies_the_scale_of_one_heatmap_that_moves(spread):
    # A Laplace density integrated over cells of 4 px, moved in steps through one cell.
    cells = 4 * (np.arange(32) + 0.5) - 0.5
    centres = np.linspace(61.5, 65.5, 41)
    edges = np.append(cells - 2, cells[-1] + 2)
    mass = np.diff(stats.laplace.cdf(edges, loc=centres[:, None], scale=spread), axis=1)
    mean = mass @ cells
    b = (mass * abs(cells - mean[:, None])).sum(axis=1)
    points, scale = (np.repeat(value[:, None, None], 2, axis=2) for value in (mean, b))
    corrected = calibration.gridless(points, scale, stride=4)[:, 0]
    assert np.ptp(corrected) < 0.75 * np.ptp(b)


def test_apply_by_hand():
    # b of 2, 6 and 4 px in the image: means 4 in the left group, 4 in the right one, 4 over all.
    scale = np.broadcast_to(np.array([2.0, 6, 4])[:, None], (1, 3, 2))
    got = _MADE.apply(np.zeros((1, 3, 2)), scale, input_to_image=[10.0], box_size=[400.0])
    np.testing.assert_allclose(got.scale, [[20, 120, 40]], rtol=2e-3)
    np.testing.assert_allclose(got.radius, [[30, 180, 120]], rtol=2e-3)
    expected = stats.weibull_min.cdf(0.05 * 400 / got.scale, 1.7, scale=1.1)
    np.testing.assert_allclose(got.confidence, expected, rtol=1e-12)


def test_apply_weighs_group_and_image_means():
    scale = np.broadcast_to(np.array([2.0, 6, 1])[:, None], (1, 3, 2))
    got = _MADE.apply(np.zeros((1, 3, 2)), scale, input_to_image=[1.0], box_size=[40.0]).scale
    np.testing.assert_allclose(got, [[2 * (4 / 3) ** 0.5, 12 * (4 / 3) ** 0.5, 3**-0.5]], rtol=1e-2)


def test_apply_follows_the_image_and_not_the_batch():
    rng = np.random.default_rng(1)
    points, scale = rng.uniform(0, 100, (6, 3, 2)), rng.uniform(0.5, 5, (6, 3, 2))
    made = dataclasses.replace(_MADE, stride=4)
    small = made.apply(points, scale, input_to_image=np.full(6, 1.5), box_size=np.full(6, 90.0))
    large = made.apply(points, scale, input_to_image=np.full(6, 3.0), box_size=np.full(6, 180.0))
    np.testing.assert_allclose(large.radius, 2 * small.radius)
    np.testing.assert_allclose(large.confidence, small.confidence)
    one = made.apply(points[3:4], scale[3:4], input_to_image=[1.5], box_size=[90.0])
    np.testing.assert_allclose(one.radius, small.radius[3:4])
    # The order of confidence is that of the scale, reversed.
    order = np.argsort(small.scale, axis=None)
    assert (np.diff(small.confidence.ravel()[order]) <= 0).all()
    assert (small.confidence >= 0).all() and (small.confidence <= 1).all()


def test_prediction_needs_numpy_only():
    code = "import sys, lapjax.calibration.scale; print({'jax', 'scipy', 'flax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "set()\n"


def test_json_gives_back_the_very_same(tmp_path):
    path = tmp_path / "calibration.json"
    made = dataclasses.replace(_MADE, notes=("nose: rare",), offset=(0.1, 1 / 3, -2e-17))
    calibration.save_calibration(made, path)
    assert calibration.load_calibration(path) == made
    assert json.loads(path.read_text())["format"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, and this version reads 1"),
        ({"level": None}, "`level` is None, not finite numbers"),
        ({"colour": 3}, r"unknown \['colour'\]"),
        ({"offset": [0.0]}, "`offset` needs 3 numbers"),
        ({"offset": 3}, "`offset` is 3, not a list"),
        ({"quantile": [1.0, 0.0]}, "must be above 0"),
        ({"quantile": [1.0, float("nan")]}, "not finite"),
        ({"group": [0, 0, 2]}, "`group` holds no index"),
        ({"level": 1.0}, "level between 0 and 1"),
        ({"stride": -4}, "stride not below 0"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, change, message):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(_MADE.to_dict() | change))
    with pytest.raises(LapjaxError, match=message) as error:
        calibration.load_calibration(path)
    assert str(path) in str(error.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(LapjaxError, match="does not exist"):
        calibration.load_calibration(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text(json.dumps(_MADE.to_dict())[:-9])
    with pytest.raises(LapjaxError, match="cannot be read as JSON"):
        calibration.load_calibration(tmp_path / "cut.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(LapjaxError, match="expected an object"):
        calibration.load_calibration(tmp_path / "list.json")
    fields = _MADE.to_dict()
    del fields["weibull"]
    with pytest.raises(LapjaxError, match=r"missing \['weibull'\]"):
        calibration.Calibration.from_dict(fields)
    with pytest.raises(LapjaxError, match="cannot write"):
        calibration.save_calibration(_MADE, tmp_path / "no" / "folder.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((2, 4, 2))}, r"`points` has shape \(2, 4, 2\), expected \(2, 3, 2\)"),
        ({"scale": np.ones((2, 3))}, "`scale` has shape"),
        ({"scale": np.full((2, 3, 2), np.nan)}, "`scale` has NaN"),
        ({"scale": -np.ones((2, 3, 2))}, "`scale` is negative"),
        ({"input_to_image": np.ones(3)}, "`input_to_image` has shape"),
        ({"box_size": np.array([1.0, 0])}, "`box_size` must be finite and above 0"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(change, message):
    given = {
        "points": np.zeros((2, 3, 2)),
        "scale": np.ones((2, 3, 2)),
        "input_to_image": np.ones(2),
        "box_size": np.ones(2),
    } | change
    with pytest.raises(LapjaxError, match=message):
        _MADE.apply(given.pop("points"), given.pop("scale"), **given)
