"""Fitted calibrations: what made the data is found again, radii cover new images, probabilities come true."""

import numpy as np
import pytest
from scipy import optimize, stats

from lapjax.calibration import conformal
from lapjax.errors import LapjaxError
from lapjax.metrics import uncertainty
from lapjax.schemes import Scheme, anonymous

_FACE = Scheme(name="face", names=tuple("abcdef"), parts=(("top", (0, 1, 2)), ("low", (3, 4))))
_OFFSET = np.array([0.3, -0.2, 0.0, 0.5, -0.4, 0.1])


def _draw(rng, images, *, count=6, weights=(0.7, 0.0, 0.6), noise=1.7, dependence=0.0):
    """Images whose expected error is a known function of b, and whose points share a part of their luck.

    Returns points, scale, error and the keywords of `fit`; and the expected error in input px.
    """
    scale = np.exp(rng.normal(0.5, 0.4, (images, count, 1)) + rng.normal(0, 0.3, (images, 1, 1)))
    scale = scale * np.exp(rng.normal(0, 0.1, (images, count, 2)))
    points, to_image = rng.uniform(0, 100, (images, count, 2)), rng.uniform(1, 3, images)
    b = np.sqrt((scale**2).mean(-1) + 0.01)
    log = np.log(b) * weights[0] + np.log(b.mean(1, keepdims=True)) * weights[2] + _OFFSET[:count]
    luck = stats.norm.cdf(
        np.sqrt(dependence) * rng.normal(size=(images, 1))
        + np.sqrt(1 - dependence) * rng.normal(size=(images, count))
    )
    expected = np.exp(log)
    draws = stats.weibull_min(noise)
    error = expected * draws.ppf(luck) / draws.mean()
    return (
        (points, scale, error * to_image[:, None]),
        {
            "input_to_image": to_image,
            "visible": rng.random((images, count)) < rng.uniform(0.3, 1, (images, 1)),
        },
        expected,
    )


def test_the_expected_error_is_found_again():
    data, given, expected = _draw(np.random.default_rng(0), 1500)
    given["visible"] = None
    fitted = conformal.fit(*data, **given, scheme=anonymous(6), stride=0)
    got = fitted.apply(*data[:2], input_to_image=given["input_to_image"], box_size=np.ones(1500))
    ratio = got.scale / given["input_to_image"][:, None] / expected
    assert abs(np.log(ratio)).max() < 0.12
    assert fitted.weights[0] == pytest.approx(0.7, abs=0.06)
    # Without parts the image's mean comes twice, and only the sum of both weights means something.
    assert sum(fitted.weights[1:]) == pytest.approx(0.6, abs=0.12)
    assert (fitted.groups, fitted.group, fitted.images, fitted.notes) == (("all",), (0,) * 6, 1500, ())


def test_the_regression_is_the_mode_that_a_general_optimiser_finds():
    rng = np.random.default_rng(1)
    features, use = rng.normal(size=(25, 4, 3)), rng.random((25, 4)) < 0.7
    error = rng.exponential(size=(25, 4)) * np.exp(features @ [0.5, 0.2, -0.3])
    offset, weights = conformal._regress(features, np.where(use, error, 1e6), use)
    centre = features[use].mean(axis=0)

    def loss(at):
        log = (at[0] + at[1:5] + (features - centre) @ at[5:])[use]
        prior = np.sum((at[1:5] / 0.3) ** 2) / 2 + np.sum(((at[5:] - 0.5) / 0.5) ** 2) / 2
        return -np.sum(stats.gamma.logpdf(error[use], 1, scale=np.exp(log))) + prior

    best = optimize.minimize(loss, np.zeros(8), options={"gtol": 1e-7}).x
    np.testing.assert_allclose(weights, best[5:], atol=1e-4)
    np.testing.assert_allclose(offset, best[0] + best[1:5] - centre @ best[5:], atol=1e-4)


def test_the_regression_survives_an_outlier():
    features, use = np.zeros((20, 2, 3)), np.ones((20, 2), bool)
    error = np.full((20, 2), 1e-3)
    error[7, 1] = 1e5
    offset, _ = conformal._regress(features, error, use)
    assert np.isfinite(offset).all() and offset[1] > offset[0]


def test_the_quantile_of_single_points_is_the_order_statistic_of_split_conformal():
    scores = np.random.default_rng(2).exponential(size=(99, 1))
    seen = np.ones((99, 1), bool)
    for level in (0.5, 0.9, 0.99):
        rank = int(np.ceil(100 * level - 1e-9))
        assert conformal._quantile(scores, seen, level) == np.sort(scores[:, 0])[rank - 1]
    assert conformal._quantile(scores, seen, 0.991) is None
    assert conformal._quantile(scores[:8], seen[:8], 0.9) is None
    assert conformal._quantile(scores[:9], seen[:9], 0.9) == scores[:9].max()


def test_the_quantile_weighs_images_alike():
    # Three images count; (n + 1) = 4. Their points weigh 1/4, 1/4 and twice 1/8.
    score = np.array([[1.0, 50, 70], [2, 60, 80], [4, 3, 90], [5, 5, 5]])
    seen = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    levels = {0.25: 1, 0.26: 2, 0.5: 2, 0.51: 3, 0.625: 3, 0.63: 4, 0.75: 4, 0.76: None}
    assert {level: conformal._quantile(score, seen, level) for level in levels} == levels


@pytest.mark.parametrize("dependence", [0.0, 0.7])
def test_radii_cover_a_random_point_of_a_new_image(dependence):
    rng, level, covered = np.random.default_rng(3), 0.8, []
    for _ in range(40):
        data, given, _ = _draw(rng, 30 + 200, dependence=dependence)
        few = [value[:30] for value in data], {key: value[:30] for key, value in given.items()}
        fitted = conformal.fit(*few[0], **few[1], scheme=_FACE, stride=4, level=level)
        to_image, seen = given["input_to_image"][30:], given["visible"][30:]
        got = fitted.apply(data[0][30:], data[1][30:], input_to_image=to_image, box_size=np.ones(200))
        inside = data[2][30:] <= got.radius
        parts = []
        for group in range(3):
            member = seen & (np.asarray(fitted.group) == group)
            share = (inside & member).sum(axis=1) / np.maximum(member.sum(axis=1), 1)
            parts.append(share[member.any(axis=1)].mean())
        covered.append(parts)
    # At least the level, and above it by no more than the finite-sample correction asks for, some 1 in 20 images.
    error = np.std(covered, axis=0) / np.sqrt(len(covered))
    mean = np.mean(covered, axis=0)
    assert (mean > level - 3 * error - 0.01).all(), mean
    assert (mean < level + 3 * error + 0.06).all(), mean


def test_weibull_is_that_of_scipy():
    draws = stats.weibull_min(1.4, scale=0.7).rvs(400, random_state=4)
    shape, _, scale = stats.weibull_min.fit(draws, floc=0)
    assert conformal._weibull(draws) == pytest.approx((shape, scale), rel=1e-3)
    assert np.isfinite(conformal._weibull(np.append(draws, [0.0, 1e9]))).all()


def test_probabilities_come_true_and_are_sharp():
    rng = np.random.default_rng(5)
    data, given, expected = _draw(rng, 400, noise=1.3)
    fitted = conformal.fit(*data, **given, scheme=_FACE, stride=0, tolerance=0.04)
    data, given, expected = _draw(rng, 2000, noise=1.3)
    size = 50 * given["input_to_image"]
    got = fitted.apply(*data[:2], input_to_image=given["input_to_image"], box_size=size).confidence
    close = data[2] < 0.04 * size[:, None]
    truth = stats.weibull_min.cdf(2 / expected * stats.weibull_min(1.3).mean(), 1.3)
    assert abs(got - truth)[given["visible"]].max() < 0.1
    assert uncertainty.calibration_error(got, close, given["visible"], bins=5) < 0.03
    assert np.ptp(got) > 0.5


def test_the_level_and_the_tolerance_are_chosen_at_the_fit():
    data, given, _ = _draw(np.random.default_rng(6), 60)
    size = 40 * given["input_to_image"]

    def apply(**options):
        fitted = conformal.fit(*data, **given, scheme=_FACE, stride=4, **options)
        return fitted.apply(*data[:2], input_to_image=given["input_to_image"], box_size=size)

    plain, wide, loose = apply(), apply(level=0.95), apply(tolerance=0.1)
    assert (wide.radius > plain.radius).all() and (wide.confidence == plain.confidence).all()
    assert (loose.radius == plain.radius).all() and (loose.confidence > plain.confidence).all()


def test_what_is_hidden_does_not_matter():
    (points, scale, error), given, _ = _draw(np.random.default_rng(7), 40)
    given["visible"][3] = False
    garbled = np.where(given["visible"], error, np.nan)
    fits = [
        conformal.fit(points, scale, value, **given, scheme=_FACE, stride=4) for value in (error, garbled)
    ]
    assert fits[0] == fits[1] and fits[0].images == given["visible"].any(axis=1).sum() < 40
    everything = conformal.fit(points, scale, error, **given | {"visible": None}, scheme=_FACE, stride=4)
    assert everything != fits[0]


def test_groups_are_the_parts_and_a_rest():
    data, given, _ = _draw(np.random.default_rng(8), 40)
    fitted = conformal.fit(*data, **given, scheme=_FACE, stride=4)
    assert (fitted.groups, fitted.group) == (("top", "low", "other"), (0, 0, 0, 1, 1, 2))
    assert len(set(fitted.quantile)) == 3


def test_seven_images_of_four_points_promise_less_and_say_so():
    data, given, _ = _draw(np.random.default_rng(9), 7, count=4)
    given["visible"] = None
    fitted = conformal.fit(*data, **given, scheme=anonymous(4), stride=4)
    assert fitted.notes == (
        "7 images cannot promise 90 %: the radius is that of the largest score, good for 87.5 %",
    )
    assert conformal.fit(*data, **given, scheme=anonymous(4), stride=4, level=0.85).notes == ()


def test_scores_are_of_images_that_the_scale_was_not_fitted_on():
    (points, scale, error), given, _ = _draw(np.random.default_rng(12), 7, count=4)
    given["visible"] = None
    scores = []
    for image in range(7):
        rest = np.delete(np.arange(7), image)
        fitted = conformal.fit(
            *(value[rest] for value in (points, scale, error)),
            input_to_image=given["input_to_image"][rest],
            scheme=anonymous(4),
            stride=4,
        )
        to_image = given["input_to_image"][[image]]
        got = fitted.apply(points[[image]], scale[[image]], input_to_image=to_image, box_size=[1.0])
        scores.append(error[image] / got.scale[0])
    fitted = conformal.fit(points, scale, error, **given, scheme=anonymous(4), stride=4)
    assert fitted.quantile[0] == pytest.approx(np.max(scores), rel=1e-6)


def test_rare_parts_and_unseen_landmarks_are_noted():
    data, given, _ = _draw(np.random.default_rng(10), 40)
    given["visible"][:, :3] = True
    given["visible"][:, 3] = False
    given["visible"][6:, 4] = False
    fitted = conformal.fit(*data, **given, scheme=_FACE, stride=4)
    rare, unseen = fitted.notes
    assert rare.startswith("low: visible in too few") and unseen.endswith("average points: d")
    pooled = conformal.fit(*data, **given, scheme=anonymous(6), stride=4)
    assert fitted.quantile[1] == pytest.approx(pooled.quantile[0], rel=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 4}, "4 images with a visible point are too few; hold out at least 5"),
        ({"level": 1.0}, r"level 1.0 must be in \(0, 1\)"),
        ({"tolerance": 0.0}, "tolerance 0.0 above 0"),
        ({"stride": -1}, "stride -1"),
        ({"scheme": anonymous(5)}, r"expected \(10, 5, 2\)"),
        ({"visible": np.ones((10, 5), bool)}, "`visible` has shape"),
        ({"error": np.full((10, 6), np.nan)}, "`error` must be finite"),
        ({"error": np.zeros((10, 6))}, "every error is 0"),
        ({"error": np.ones((10, 2))}, "`error` has shape"),
    ],
)
def test_errors_say_what_is_wrong(change, message):
    images = change.pop("images", 10)
    (points, scale, error), given, _ = _draw(np.random.default_rng(11), images)
    given |= {"visible": None, "scheme": _FACE, "stride": 4, "error": error} | change
    with pytest.raises(LapjaxError, match=message):
        conformal.fit(points, scale, given.pop("error"), **given)
