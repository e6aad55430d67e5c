"""Toy faces: framing, points that lie where they are drawn, determinism, splits, and the prepared set."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from lapjax import geometry
from lapjax.datasets import prepared, toy_faces
from lapjax.datasets.toy_faces import head, sets, toy_faces_dataset_builder
from lapjax.datasets.toy_faces.brush import Brush
from lapjax.errors import LapjaxError
from lapjax.images import read_image
from lapjax.metrics.normalised_error import nme, normalisers, point_errors
from lapjax.schemes import get_scheme


@pytest.fixture(scope="module")
def drawn():
    return [toy_faces.draw(index) for index in range(40)]


def heads(count, size=160):
    return [head.sample(np.random.default_rng((1, i)), size=size, factor=1.8) for i in range(count)]


def test_a_face_is_framed_as_chips_of_photographs_are(drawn):
    for chip, landmarks, visible, box in drawn:
        assert chip.shape == (160, 160, 3) and chip.dtype == np.uint8
        assert landmarks.shape == (68, 2) and landmarks.dtype == np.float32
        assert visible.shape == (68,) and visible.all()
        np.testing.assert_allclose(box, geometry.box_of(landmarks))
        np.testing.assert_allclose((box[:2] + box[2:]) / 2, 79.5, atol=1e-3)
        np.testing.assert_allclose(max(box[2:] - box[:2]), 160 / 1.8, rtol=1e-5)


def test_seed_and_index_decide_everything(drawn):
    for index in (0, 17):
        for first, again in zip(drawn[index], toy_faces.draw(index), strict=True):
            np.testing.assert_array_equal(first, again)
    other = toy_faces.draw(0, seed=1)
    assert not np.array_equal(other[0], drawn[0][0]) and not np.array_equal(other[1], drawn[0][1])


def test_chip_size_and_factor_change_the_scale_and_nothing_else(drawn):
    chip, landmarks, *_ = toy_faces.draw(3, size=81, factor=1.25)
    assert chip.shape == (81, 81, 3)
    scale = (81 / 1.25) / (160 / 1.8)
    np.testing.assert_allclose(landmarks - 40, (drawn[3][1] - 79.5) * scale, atol=1e-3)


def test_pictures_are_neither_empty_nor_saturated(drawn):
    chips = np.stack([chip for chip, *_ in drawn])
    assert (chips.std(axis=(1, 2, 3)) > 15).all()
    assert np.mean((chips == 0) | (chips == 255)) < 0.1


def test_points_follow_the_300w_scheme():
    scheme = get_scheme("300w")
    shapes = np.stack([posed.landmarks for posed in heads(400)])
    mean = shapes.mean(axis=0)
    mirrored = (np.array([159, 0]) + mean * (-1, 1))[list(scheme.flip)]
    np.testing.assert_allclose(mirrored, mean, atol=3.0)  # identities and poses have no preferred side
    parts = dict(scheme.parts)
    height = {part: mean[list(members), 1].mean() for part, members in parts.items()}
    assert height["brows"] < height["eyes"] < height["nose"] < height["mouth"] < mean[8, 1]
    left, right = scheme.eye_corners
    assert mean[left, 0] < mean[right, 0]


def test_jaw_outlines_the_face_on_both_sides():
    for posed in heads(200):
        cos, sin = np.cos(posed.angles[2]), np.sin(posed.angles[2])
        upright = posed.landmarks @ np.array([[cos, -sin], [sin, cos]])
        eyes, jaw = upright[36:48, 0], upright[:17, 0]
        # Within two pixels: at 45 degrees the far eye reaches the contour.
        assert jaw.min() < eyes.min() + 2 and jaw.max() > eyes.max() - 2


def test_the_mean_shape_is_a_bad_guess():
    shapes = np.stack([posed.landmarks for posed in heads(300)])
    boxes = geometry.box_of(shapes)
    truth, guess = shapes[150:], np.broadcast_to(shapes[:150].mean(axis=0), shapes[150:].shape)
    distance = normalisers(truth, boxes[150:], get_scheme("300w"))["inter_ocular"]
    errors = nme(point_errors(guess, truth), np.ones(truth.shape[:2], bool), distance)
    assert 15 < errors.mean() < 35


@pytest.mark.parametrize("paint", ["disc", "fill", "line"])
def test_drawing_is_not_displaced(paint):
    """A landmark must not lie beside what was drawn for it: Pillow has its pixel centres at halves."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40]
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    errors = []
    for centre in rng.uniform(15, 25, (200, 2)):
        canvas = Image.new("RGB", (80, 80))
        brush = Brush(canvas, 2)
        if paint == "disc":
            brush.disc(centre, 8, (255, 255, 255))
        elif paint == "fill":
            brush.fill(centre + 8 * circle, (255, 255, 255))
        else:
            end = 8 * circle[rng.integers(64)]
            brush.line([centre - end, centre + end], 1.5, (255, 255, 255))
        weight = np.asarray(canvas.reduce(2), float)[..., 0]
        found = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
        errors.append(found - centre)
    np.testing.assert_allclose(np.mean(errors, axis=0), 0, atol=0.04)
    assert np.abs(errors).max() < 0.35


def test_an_iris_is_drawn_at_its_eye():
    """The picture and the points agree: eyes hold more contrast than the cheeks below them."""
    inside, below = [], []
    for index in range(60):
        chip, landmarks, *_ = toy_faces.draw(index)
        grey = chip.mean(axis=-1)
        for eye in (slice(36, 42), slice(42, 48)):
            x, y = landmarks[eye].mean(axis=0).round().astype(int)
            inside.append(grey[y - 3 : y + 4, x - 4 : x + 5].std())
            below.append(grey[y + 11 : y + 18, x - 4 : x + 5].std())
    assert np.median(inside) > 2 * np.median(below)


@pytest.mark.parametrize("bad", [{"index": -1}, {"seed": -1}, {"size": 8}, {"factor": 1.0}])
def test_bad_arguments_are_refused(bad):
    with pytest.raises(LapjaxError, match="toy face"):
        toy_faces.draw(bad.pop("index", 0), **bad)


def test_splits_are_disjoint_and_grow_from_the_front():
    few = {split: toy_faces.generate(split, 3, size=48) for split in toy_faces.SPLITS}
    chips = [chip.tobytes() for samples in few.values() for chip in samples.images]
    names = [name for samples in few.values() for name in samples.name]
    assert len(set(chips)) == len(set(names)) == 3 * len(few)
    more = toy_faces.generate("train", 5, size=48)
    np.testing.assert_array_equal(more.images[:3], few["train"].images)
    assert few["train"].scheme == get_scheme("300w") and few["train"].meta["chip_size"] == 48
    assert few["unlabelled"].landmarks.shape == (3, 0, 2) and few["unlabelled"].meta["unlabelled"]
    calls = []
    toy_faces.generate("test", 2, size=48, progress=lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]


def test_unknown_splits_and_counts_are_refused():
    with pytest.raises(LapjaxError, match="no split 'common'.*train"):
        toy_faces.generate("common")
    with pytest.raises(LapjaxError, match="no split 'common'.*train"):
        toy_faces.generate("common", 3)
    with pytest.raises(LapjaxError, match="count 0"):
        toy_faces.generate("train", 0)


def test_a_prepared_set_holds_the_same_faces(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "SPLITS", dict.fromkeys(sets.SPLITS, 2))
    monkeypatch.setattr(toy_faces_dataset_builder, "SPLITS", sets.SPLITS)
    builder = toy_faces_dataset_builder.Builder(data_dir=tmp_path, chip_size=64)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    assert prepared.splits("toy_faces", tmp_path) == dict(sets.SPLITS)
    assert prepared.meta("toy_faces", tmp_path)["chip_size"] == 64
    records = prepared.source("toy_faces", "train", tmp_path)
    samples = toy_faces.generate("train", 2, size=64)
    found = {record["name"]: record for record in records}
    for i, name in enumerate(samples.name):
        record = found[str(name)]
        for column in ("landmarks", "visible", "box", "image_to_chip"):
            np.testing.assert_array_equal(record[column], getattr(samples, column)[i])
        assert record["subset"] == "toy"
        difference = read_image(record["image"]).astype(int) - samples.images[i]
        assert np.abs(difference).mean() < 4
    assert not prepared.source("toy_faces", "unlabelled", tmp_path)[0]["visible"].any()


def test_a_source_is_refused(tmp_path):
    with pytest.raises(LapjaxError, match="drawn"):
        toy_faces_dataset_builder.Builder(source=tmp_path, data_dir=tmp_path)
