"""Predictions come back to image px, and an evaluation says every number that the command promises."""

import dataclasses
import importlib
import json

import jax
import numpy as np
import pytest
import tiny

from lapjax import data, heatmaps
from lapjax.config import Model
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import Predictions, config_conditions, evaluate, predict
from lapjax.metrics.scoring import truth
from lapjax.networks import landmark_count
from lapjax.samples import Samples
from lapjax.schemes import SCHEMES, anonymous

MODULE = importlib.import_module("lapjax.evaluation.evaluate")  # `lapjax.evaluate` is the function
# Heatmaps at stride 1 of 32 px inputs: 37.3 of a chip's 48 px.
MODEL = Model(network="poster", width=1 / 64, input_size=32)
NUMBERS = ("nme", "failure_rate", "auc", "scale_mean", "scale_mean_percent", "images")
NUMBERS += ("parts", "ced", "intervals")


def variables(landmarks):
    return {"params": {"Dense_0": {"bias": np.zeros(landmarks, np.float32)}}, "batch_stats": {}}


@pytest.fixture
def colours(monkeypatch):
    """A generator whose three heatmaps are the image's three colours."""

    class Colours:
        def apply(self, variables, images):
            return 8 * images

    MODULE._predictor.cache_clear()
    monkeypatch.setattr(MODULE, "make_generator", lambda model, landmarks: Colours())
    yield
    MODULE._predictor.cache_clear()


def spots(count=7) -> Samples:
    """Dark chips with a soft spot of each colour where its landmark is."""
    made = tiny.samples(count)
    grid = np.stack(np.meshgrid(*[np.arange(tiny.CHIP)] * 2), axis=-1)[None, :, :, None]
    far = np.square(grid - made.landmarks[:, None, None, :3]).sum(-1)
    return dataclasses.replace(
        made,
        images=np.uint8(np.round(255 * np.exp(-far / 18))),
        landmarks=made.landmarks[:, :3],
        visible=made.visible[:, :3],
        scheme=anonymous(3),
    )


def test_points_come_back_to_the_spots_of_the_photographs(colours):
    samples = spots()
    guess = predict(tiny.run(MODEL, variables(3)), samples)
    assert guess.points.shape == guess.scale.shape == (7, 3, 2)
    # A tenth of an input px.
    off = np.abs(guess.points - truth(samples)) / guess.input_to_image[:, None, None]
    assert off.max() < 0.1


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_padded_tail_is_dropped(colours, batch_size):
    samples = spots()
    whole, parts = (
        predict(tiny.run(MODEL, variables(3)), samples, batch_size=size) for size in (7, batch_size)
    )
    for a, b in zip(whole, parts, strict=True):
        assert len(b) == 7
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_encoded_chips_are_decoded_as_they_come(colours, tmp_path):
    data.write_pack(tmp_path / "a.npz", {"train": spots()})
    decoded, encoded = (data.load_dataset(tmp_path / "a.npz", "train", encoded=it) for it in (False, True))
    for a, b in zip(
        *(predict(tiny.run(MODEL, variables(3)), it, batch_size=3) for it in (decoded, encoded)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_points_are_mapped_by_the_inverse_of_both_crops(colours, monkeypatch):
    """Against matrices written out by hand, in float64."""
    known = np.array([[0, 0], [31, 31], [15.5, 4.25]], np.float32)

    def estimate(maps, *, beta, stride):
        points = jax.numpy.broadcast_to(known, (len(maps), 3, 2))
        return heatmaps.Estimate(points, jax.numpy.full_like(points, 2.0))

    monkeypatch.setattr(heatmaps, "estimate", estimate)
    samples = spots(5)
    guess = predict(tiny.run(MODEL, variables(3)), samples)
    # The crop's side, 48 * 1.4 / 1.8 chip px about the middle of the chip, is 32 input px.
    shrink = 32 / (48 * 1.4 / 1.8)
    to_chip = np.array(
        [[1 / shrink, 0, 23.5 - 15.5 / shrink], [0, 1 / shrink, 23.5 - 15.5 / shrink], [0, 0, 1]]
    )
    for index, matrix in enumerate(samples.image_to_chip):
        to_image = np.linalg.inv(np.vstack([matrix, [0, 0, 1]])) @ to_chip
        expected = np.column_stack([known, np.ones(3)]) @ to_image.T
        np.testing.assert_allclose(guess.points[index], expected[:, :2], rtol=0, atol=1e-4)
        np.testing.assert_allclose(guess.input_to_image[index], to_image[0, 0], rtol=1e-6)
    assert (guess.scale == 2).all()


@pytest.mark.parametrize("network", ["poster", "fast"])
def test_the_number_of_landmarks_is_read_off_the_model(network):
    shapes = tiny.state(tiny.config("x.npz", model={"network": network}), landmarks=11).average
    assert landmark_count(shapes) == 11


def test_another_number_of_landmarks():
    with pytest.raises(LapjaxError, match="the model has 68 landmarks and tiny has 4"):
        predict(tiny.run(MODEL, variables(68)), tiny.samples(3))


def test_chips_narrower_than_the_crop():
    with pytest.raises(
        LapjaxError, match=r"crops 1.4 .* show 1.2: prepare them with --chip-factor 1.4 or more"
    ):
        predict(tiny.run(MODEL, variables(4)), tiny.samples(3, factor=1.2))


def test_no_faces():
    with pytest.raises(LapjaxError, match="no faces"):
        predict(tiny.run(MODEL, variables(4)), tiny.samples(3).take(slice(0)))


def off_by(monkeypatch, samples, distance=2.0, scale=1.5):
    """Predictions that are `distance` image px too far right, at 1.25 image px an input px."""
    count, points = samples.visible.shape
    guess = Predictions(
        truth(samples) + [distance, 0],
        np.full((count, points, 2), scale, np.float32),
        np.full(count, 1.25),
        samples.landmarks,
    )
    monkeypatch.setattr(MODULE, "predict", lambda *_: guess)


def test_evaluation_says_all_of_it(monkeypatch):
    samples = tiny.samples(9)
    off_by(monkeypatch, samples)
    result = evaluate(tiny.run(MODEL, variables(4)), samples, conditions={"seed": 3, "run": "a"})
    assert set(result) == {*NUMBERS, "subsets", "conditions"}
    assert set(result["subsets"]) == {"even", "odd"}
    for part in (result, *result["subsets"].values()):
        assert set(NUMBERS) <= set(part)
        assert set(part["nme"]) == {"inter_ocular", "inter_pupil", "box", "diagonal"}
        assert set(part["failure_rate"]) == set(part["auc"]) == {"8", "10"}
    assert (result["images"], result["subsets"]["even"]["images"], result["subsets"]["odd"]["images"]) == (
        9,
        5,
        4,
    )
    assert result["conditions"] == {
        "dataset": "tiny",
        "split": "train",
        "scheme": "eyes",
        "box": "tight box of the true landmarks",
        "crop": 1.4,
        "scale_unit": "input px",
        "normaliser": "inter_ocular",
        "seed": 3,
        "run": "a",
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_numbers_of_an_evaluation(monkeypatch):
    samples = tiny.samples(9)
    off_by(monkeypatch, samples)
    result = evaluate(tiny.run(MODEL, variables(4)), samples)
    points = truth(samples)
    eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=-1)
    width, height = (samples.box[:, 2:] - samples.box[:, :2]).T
    expected = {"inter_ocular": eyes, "inter_pupil": eyes, "box": np.sqrt(width * height)}
    expected["diagonal"] = np.sqrt(width**2 + height**2)
    for name, distance in expected.items():
        np.testing.assert_allclose(result["nme"][name], np.mean(200 / distance), rtol=1e-6)
    assert result["scale_mean"] == 1.5
    np.testing.assert_allclose(result["scale_mean_percent"], np.mean(100 * 1.5 * 1.25 / eyes), rtol=1e-6)


def test_a_scheme_without_eye_corners(monkeypatch):
    samples = tiny.samples(4, scheme="five")
    off_by(monkeypatch, samples)
    result = evaluate(tiny.run(MODEL, variables(5)), samples)
    assert result["nme"]["inter_ocular"] is None and result["nme"]["inter_pupil"] > 0
    assert result["conditions"]["normaliser"] == "box"
    bare = dataclasses.replace(samples, scheme=anonymous(5))
    result = evaluate(tiny.run(MODEL, variables(5)), bare)
    assert result["nme"]["inter_pupil"] is None and result["scale_mean_percent"] is None
    assert SCHEMES["five"].count == 5


def test_boxes_that_are_not_the_landmarks(monkeypatch):
    samples = tiny.samples(4)
    off_by(monkeypatch, samples)
    wide = dataclasses.replace(samples, box=samples.box + np.float32([-5, -5, 5, 5]))
    assert evaluate(tiny.run(MODEL, variables(4)), wide)["conditions"]["box"] == "annotated box"
    hidden = dataclasses.replace(samples, visible=samples.visible & (np.arange(4) != 3), scheme=anonymous(4))
    inner = truth(hidden)[:, :3]
    box = np.concatenate([inner.min(1), inner.max(1)], axis=-1).astype(np.float32)
    result = evaluate(tiny.run(MODEL, variables(4)), dataclasses.replace(hidden, box=box))
    assert result["conditions"]["box"] == "tight box of the true landmarks"


def test_config_conditions():
    config = tiny.config("x.npz", seed=5)
    found = config_conditions(config)
    assert (found["train"], found["seed"], found["epochs"]) == ("x.npz train", 5, 2.0)
    assert found["loss"]["direction"] == "p||q"
