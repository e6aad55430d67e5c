"""Metrics: published predictions to the digit, hand-computed cases, and errors that name the image."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from lapjax import metrics
from lapjax.errors import LapjaxError
from lapjax.geometry import box_of
from lapjax.metrics import bootstrap
from lapjax.schemes import SCHEMES, Scheme, anonymous

_SHARED = Path(os.environ.get("LAPJAX_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
_GOLDEN = _SHARED / "golden" / "spiga_300w_public.npz"

# Eye corners 10 apart, pupil groups 6 apart, box 10 x 4.
_SCHEME = Scheme(name="tiny", names=tuple("abcd"), eye_corners=(0, 1), pupils=((0, 2), (1, 2)))
_POINTS = np.array([[0.0, 0.0], [10.0, 0.0], [4.0, 4.0], [5.0, 2.0]])


def _case(images=4):
    truth = np.repeat(_POINTS[None], images, axis=0)
    prediction = truth.copy()
    prediction[:, 0, 0] += np.arange(images) * 4.0
    return prediction, truth, np.ones((images, 4), bool), box_of(truth)


@pytest.mark.skipif(not _GOLDEN.exists(), reason="needs the shared data")
def test_published_predictions_to_their_digits():
    with np.load(_GOLDEN) as golden:
        truth, prediction, subset = golden["ground_truth"], golden["prediction"], golden["subset"]
    scheme = SCHEMES["300w"]
    full = metrics.summary(prediction, truth, None, box_of(truth), subset, scheme)
    assert full["images"] == 689
    assert full["nme"]["inter_ocular"] == pytest.approx(2.993687267871, abs=5e-13)
    assert full["nme"]["inter_pupil"] == pytest.approx(4.20342, abs=5e-6)
    assert full["nme"]["box"] == pytest.approx(1.74167, abs=5e-6)
    assert full["nme"]["diagonal"] == pytest.approx(1.22938, abs=5e-6)
    assert full["failure_rate"]["8"] == pytest.approx(0.725689, abs=5e-7)
    assert full["failure_rate"]["10"] == pytest.approx(0.290276, abs=5e-7)
    assert full["auc"]["8"] == pytest.approx(0.627205, abs=5e-7)
    assert full["auc"]["10"] == pytest.approx(0.700858, abs=5e-7)
    common = subset != "ibug"
    values = metrics.image_nme(prediction, truth, None, box_of(truth), scheme)
    assert values[common].mean() == pytest.approx(2.587080195, abs=5e-10)
    assert full["subsets"]["ibug"]["nme"]["inter_ocular"] == pytest.approx(4.662282219, abs=5e-10)
    assert [full["subsets"][name]["images"] for name in ("helen", "ibug", "lfpw")] == [330, 135, 224]
    assert set(full["subsets"]) == {"helen", "ibug", "lfpw"}


def test_normalisers_by_hand():
    _, truth, _, box = _case(2)
    found = metrics.normalisers(truth, box, _SCHEME)
    assert list(found) == list(metrics.NORMALISERS)
    np.testing.assert_allclose(found["inter_ocular"], [10, 10])
    np.testing.assert_allclose(found["inter_pupil"], [5, 5])
    np.testing.assert_allclose(found["box"], np.sqrt([40, 40]))
    np.testing.assert_allclose(found["diagonal"], np.sqrt([116, 116]))
    without = metrics.normalisers(truth, box, anonymous(4))
    assert without["inter_ocular"] is without["inter_pupil"] is None
    assert metrics.primary_normaliser(_SCHEME) == "inter_ocular"
    assert metrics.primary_normaliser(SCHEMES["aflw"]) == "box"


def test_summary_by_hand():
    prediction, truth, visible, box = _case()
    scale = np.broadcast_to([1.0, 3.0], (4, 4, 2))
    got = metrics.summary(
        prediction,
        truth,
        visible,
        box,
        ["x", "x", "y", ""],
        _SCHEME,
        scale=scale,
        scale_to_image=np.array([1, 2, 3, 4]),
        conditions={"seed": 0},
    )
    # Errors of 0, 4, 8 and 12 px on one of four points: 0, 10, 20 and 30 % of the inter-ocular distance.
    assert got["nme"]["inter_ocular"] == pytest.approx(15)
    assert got["nme"]["box"] == pytest.approx(100 * 1.5 / np.sqrt(40))
    assert got["failure_rate"] == {"8": 75, "10": 50}
    assert got["auc"] == {"8": 0.25, "10": 0.25}
    assert got["scale_mean"] == pytest.approx(2)
    assert got["scale_mean_percent"] == pytest.approx(100 * 2 * 2.5 / 10)
    assert set(got["subsets"]) == {"x", "y"}
    assert got["subsets"]["x"]["nme"]["inter_ocular"] == pytest.approx(5)
    assert got["subsets"]["y"]["images"] == 1
    keys = ["nme", "failure_rate", "auc", "scale_mean", "scale_mean_percent", "images"]
    keys += ["parts", "ced", "intervals"]
    assert list(got) == [*keys, "subsets", "conditions"] and list(got["subsets"]["x"]) == keys
    assert json.loads(json.dumps(got, allow_nan=False)) == got


def test_any_thresholds():
    # 0, 10, 20 and 30 % of the inter-ocular distance.
    got = metrics.summary(*_case(), None, _SCHEME, thresholds=(5, 20, 12.5))
    assert got["failure_rate"] == {"5": 75, "20": 25, "12.5": 50}
    assert got["auc"] == pytest.approx({"5": 0.25, "20": 0.375, "12.5": 0.3})
    assert got["ced"]["nme"][0] == 0 and got["ced"]["nme"][-1] == 20
    assert (got["ced"]["fraction"][0], got["ced"]["fraction"][-1]) == (0.25, 0.75)
    assert got["ced"]["fraction"] == sorted(got["ced"]["fraction"])
    for key in got["auc"]:
        assert set(got["intervals"]["auc"]) == set(got["intervals"]["failure_rate"]) == set(got["auc"])
        low, high = got["intervals"]["auc"][key]
        assert low < got["auc"][key] < high


def test_parts_by_hand():
    scheme = dataclasses.replace(_SCHEME, parts=(("eyes", (0, 1)), ("mouth", (2, 3)), ("none", ())))
    prediction, truth, visible, box = _case()
    prediction[:, 2] += [0, 1]
    got = metrics.summary(prediction, truth, visible, box, None, scheme)
    # Means over two points, over a distance of 10: half of 0, 4, 8, 12 px, and half a pixel.
    assert got["parts"] == pytest.approx({"eyes": 30, "mouth": 5, "none": None})
    np.testing.assert_allclose(
        metrics.image_values(prediction, truth, visible, box, scheme).parts["eyes"], [0, 20, 40, 60]
    )
    # An image that shows none of a part says nothing of it.
    visible[1:, 2:] = False
    visible[0, 3] = False
    values = metrics.image_values(prediction, truth, visible, box, dataclasses.replace(scheme, pupils=None))
    np.testing.assert_allclose(values.parts["mouth"], [10, np.nan, np.nan, np.nan])
    got = metrics.summary(
        prediction, truth, visible, box, ["x", "y", "y", "y"], dataclasses.replace(scheme, pupils=None)
    )
    assert got["parts"]["mouth"] == got["subsets"]["x"]["parts"]["mouth"] == 10
    assert got["subsets"]["y"]["parts"]["mouth"] is None


def test_intervals_are_over_images():
    prediction, truth, visible, box = _case(100)
    subset = np.repeat(["x", "y"], 50)
    got = metrics.summary(prediction, truth, visible, box, subset, _SCHEME)
    values = metrics.image_nme(prediction, truth, visible, box, _SCHEME)
    assert got["intervals"]["nme"]["inter_ocular"] == pytest.approx(bootstrap.bootstrap(np.mean, values))
    assert got["subsets"]["x"]["intervals"]["nme"]["inter_ocular"] == pytest.approx(
        bootstrap.bootstrap(np.mean, values[:50])
    )
    assert got["intervals"]["failure_rate"]["8"] == pytest.approx(
        bootstrap.bootstrap(lambda x: metrics.failure_rate(x, 8), values)
    )
    assert (got["intervals"]["level"], got["intervals"]["samples"], got["intervals"]["seed"]) == (
        0.95,
        2000,
        0,
    )


def test_what_a_scheme_lacks_is_null():
    prediction, truth, visible, box = _case()
    got = metrics.summary(
        prediction,
        truth,
        visible,
        box,
        None,
        anonymous(4),
        scale=np.ones((4, 4, 2)),
        scale_to_image=np.ones(4),
    )
    assert got["nme"]["inter_ocular"] is got["nme"]["inter_pupil"] is got["scale_mean_percent"] is None
    assert got["scale_mean"] == 1 and got["subsets"] == got["parts"] == got["conditions"] == {}
    assert got["intervals"]["nme"]["inter_ocular"] is None
    # Failures and AUC then follow the box.
    values = metrics.image_nme(prediction, truth, visible, box, anonymous(4))
    assert got["failure_rate"]["10"] == metrics.failure_rate(values, 10)
    without = metrics.summary(prediction, truth, visible, box, None, _SCHEME, scale=np.ones((4, 4, 2)))
    assert without["scale_mean"] == 1 and without["scale_mean_percent"] is None


def test_only_visible_points_count():
    prediction, truth, visible, box = _case()
    visible[:, 3] = False
    truth[:, 3] = np.nan
    got = metrics.image_nme(prediction, truth, visible, box, _SCHEME)
    np.testing.assert_allclose(got, np.array([0, 4, 8, 12]) / 3 / 10 * 100)
    scale = np.ones((4, 4, 2))
    scale[:, 3] = 1000
    assert metrics.summary(prediction, truth, visible, box, None, _SCHEME, scale=scale)["scale_mean"] == 1


def test_auc_is_the_area_under_the_ced():
    values = np.random.default_rng(0).gamma(3, 2, 500)
    grid = np.linspace(0, 8, 200_001)
    area = np.trapezoid(metrics.ced(values, grid), grid) / 8
    assert metrics.auc(values, 8) == pytest.approx(area, abs=1e-5)
    assert metrics.failure_rate(values, 8) == pytest.approx(100 * (1 - metrics.ced(values, [8])[0]))
    np.testing.assert_allclose(metrics.ced([1, 2, 2, 5], [0, 1, 2, 5]), [0, 0.25, 0.75, 1])


def test_a_similarity_changes_no_percentage():
    prediction, truth, visible, _ = _case()
    before = metrics.image_nme(prediction, truth, visible, box_of(truth), _SCHEME)
    moved = [3 * x + [100, -40] for x in (prediction, truth)]
    np.testing.assert_allclose(metrics.image_nme(*moved, visible, box_of(moved[1]), _SCHEME), before)


def _spoil(field, index, value):
    def case():
        fields = dict(zip(("prediction", "truth", "visible", "box"), _case(), strict=True))
        fields[field][index] = value
        return metrics.summary(*fields.values(), None, _SCHEME)

    return case


def _summary(*, images=4, scheme=_SCHEME, subset=None, **options):
    return lambda: metrics.summary(*_case(images), subset, scheme, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (_spoil("prediction", (2, 1, 0), np.nan), "image 2: `prediction` has NaN"),
        (_spoil("prediction", (2, 1, 0), np.inf), "image 2: `prediction`"),
        (_spoil("truth", (3, 2, 1), np.nan), "image 3: `truth` has NaN"),
        (_spoil("truth", (1, 0), _POINTS[1]), "image 1: the normaliser `inter_ocular`"),
        (_spoil("box", 2, [5, 5, 5, 9]), "image 2: the normaliser `box`"),
        (_spoil("box", (0, 0), np.nan), "image 0: the normaliser `box`"),
        (_spoil("visible", 1, False), "image 1: an eye landmark is not visible"),
        (_spoil("visible", (slice(1, 3), 0), False), r"image 1: .*`inter_ocular`.*\(2 such images\)"),
        (_summary(scheme=anonymous(5)), r"`truth` has shape \(4, 4, 2\), expected \(4, 5, 2\)"),
        (_summary(images=0), "no images"),
        (_summary(thresholds=(8, 0)), "thresholds 8, 0: give percentages above 0"),
        (_summary(thresholds=(np.nan,)), "thresholds nan"),
        (_summary(thresholds=()), "thresholds of none"),
        (_summary(subset=["a"]), "`subset` has shape"),
        (_summary(scale=np.ones((4, 4))), "`scale` has shape"),
        (_summary(scale=np.full((4, 4, 2), np.nan)), "image 0: `scale` has NaN"),
        (_summary(scale=np.ones((4, 4, 2)), scale_to_image=np.ones(3)), "`scale_to_image` has shape"),
        (lambda: metrics.point_errors(np.ones((2, 4, 2)), np.ones((2, 5, 2))), "`prediction` has shape"),
        (
            lambda: metrics.nme(np.ones((2, 4)), np.zeros((2, 4)), np.ones(2)),
            "image 0: no landmark is visible",
        ),
        (lambda: metrics.nme(np.ones((2, 4)), None, np.array([1, 0])), "image 1: the normaliser"),
        (lambda: metrics.nme(np.ones((2, 4)), np.ones((2, 3)), np.ones(2)), "`visible` has shape"),
        (lambda: metrics.image_nme(*_case(), anonymous(4), normaliser="inter_pupil"), "has none"),
        (lambda: metrics.failure_rate([1, np.nan], 8), "image 1: the NME is NaN"),
        (lambda: metrics.auc([], 8), "at least one image"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(LapjaxError, match=message):
        call()
