"""Labels from trained models: the mean of their points, and the deviation of their mixture from it."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from lapjax import data, geometry, heatmaps
from lapjax.checkpoints.run import Run
from lapjax.errors import LapjaxError
from lapjax.evaluation import pseudo_labels
from lapjax.evaluation.evaluate import Predictions, heatmap_logits, predict
from lapjax.schemes import SCHEMES


@pytest.fixture
def run(tmp_path):
    config = tiny.config(tmp_path / "x.npz")
    variables = jax.tree.map(lambda leaf: 1e-2 * leaf, tiny.state(config).average)
    return Run(config, tiny.EYES, variables, 3, {})


def says(monkeypatch, samples, points, scale):
    """Every model in turn says its `points` (chip px) and `scale` (chip px)."""
    to_image = geometry.invert(samples.image_to_chip.astype(np.float64))
    enlarged = geometry.linear_scale(to_image)
    answers = iter(zip(points, scale, strict=True))

    def predict(run, asked, *, change):
        assert change is None
        assert asked.landmarks.shape[1] == tiny.EYES.count and asked.scale is None
        point, b = next(answers)
        # One input px is half an image px here.
        return Predictions(
            geometry.apply(to_image, point),
            b * enlarged[:, None, None] / 0.5,
            np.full(len(samples), 0.5),
            None,
        )

    monkeypatch.setattr(pseudo_labels, "predict", predict)


def test_one_model_labels_with_what_it_says(monkeypatch, run):
    samples = tiny.samples(3, scheme="none")
    rng = np.random.default_rng(0)
    points, b = rng.uniform(5, 40, (1, 3, 4, 2)), rng.uniform(0.5, 3, (1, 3, 4, 2))
    says(monkeypatch, samples, points, b)
    found = pseudo_labels.label([run], samples)
    np.testing.assert_allclose(found.landmarks, points[0], rtol=1e-5)
    np.testing.assert_allclose(found.scale, b[0].mean(-1), rtol=1e-5)
    assert found.visible.all() and found.scheme == tiny.EYES and not found.meta["unlabelled"]
    assert found.images is samples.images


def test_the_heatmaps_of_several_are_their_mean(tmp_path):
    models = [tiny.config(tmp_path / "x.npz", model={"beta": beta}).model for beta in (1.0, 3.0)]
    runs = [
        Run(
            tiny.config(tmp_path / "x.npz", model={"beta": model.beta}),
            tiny.EYES,
            tiny.variables(model, seed=seed),
            3,
            {},
        )
        for seed, model in enumerate(models)
    ]
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3), minval=-1, maxval=1)
    expected = np.mean(
        [
            heatmaps.softmax(
                heatmap_logits(run.config.model, run.variables, images), beta=run.config.model.beta
            )
            for run in runs
        ],
        axis=0,
    )
    found = jax.jit(lambda images: pseudo_labels.mean_heatmaps(runs, images))(images)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-4, atol=1e-9)
    alone = pseudo_labels.mean_heatmaps(runs[1:], images)
    np.testing.assert_allclose(
        heatmaps.estimate(alone).points,
        heatmaps.estimate(3 * heatmap_logits(models[1], runs[1].variables, images)).points,
        atol=1e-3,
    )


def test_the_scale_of_several_is_the_deviation_of_their_mixture(monkeypatch, run):
    samples = tiny.samples(1, scheme="none")
    rng = np.random.default_rng(1)
    points, b = rng.uniform(15, 25, (3, 1, 4, 2)), rng.uniform(0.5, 3, (3, 1, 4, 2))
    says(monkeypatch, samples, points, b)
    found = pseudo_labels.label([run] * 3, samples)
    np.testing.assert_allclose(found.landmarks[0], points.mean(axis=0)[0], rtol=1e-5)
    which = rng.integers(0, 3, 200_000)
    drawn = rng.laplace(points[which, 0], b[which, 0])
    np.testing.assert_allclose(
        found.scale[0], np.abs(drawn - points.mean(axis=0)).mean(axis=(0, -1)), rtol=0.02
    )


def test_encoded_faces_of_another_scheme_and_back_from_a_pack(tmp_path, run):
    data.write_pack(tmp_path / "faces.npz", {"train": tiny.samples(3, scheme="five")})
    samples = data.load_dataset(tmp_path / "faces.npz", "train", encoded=True)
    found = pseudo_labels.label([run, run], samples)
    data.write_pack(tmp_path / "labelled.npz", {"train": found})
    back = data.load_dataset(tmp_path / "labelled.npz", "train")
    np.testing.assert_array_equal(back.scale, found.scale)
    np.testing.assert_array_equal(back.landmarks, found.landmarks)
    np.testing.assert_array_equal(back.images, np.asarray(samples.images))  # copied, not encoded again
    assert (back.scale > 0).all() and back.scheme == tiny.EYES


def test_more_views_are_more_models(monkeypatch, run):
    samples = tiny.samples(3, scheme="none")
    asked = []

    def noted(run, samples, *, change):
        asked.append(change)
        return predict(run, samples, change=change)

    monkeypatch.setattr(pseudo_labels, "predict", noted)
    found = pseudo_labels.label([run], samples, views=4)
    assert asked[0] is None and len(asked) == 4
    points, to_chip = [], samples.image_to_chip.astype(np.float64)
    for change in asked:
        guess = predict(run, samples, change=change)
        points.append(geometry.apply(to_chip, guess.points))
    assert np.ptp(points, axis=0).min() > 0  # every view is another
    np.testing.assert_allclose(found.landmarks, np.mean(points, axis=0), rtol=1e-5)
    plain = pseudo_labels.label([run], samples)
    np.testing.assert_allclose(plain.landmarks, points[0], rtol=1e-5)


def test_bad_requests(run):
    samples = tiny.samples(2, scheme="none")
    with pytest.raises(LapjaxError, match="views 0 must be at least 1"):
        pseudo_labels.label([run], samples, views=0)
    with pytest.raises(LapjaxError, match="name one or more run"):
        pseudo_labels.label([], samples)
    with pytest.raises(LapjaxError, match="different schemes, eyes and five"):
        pseudo_labels.label([run, dataclasses.replace(run, scheme=SCHEMES["five"])], samples)
