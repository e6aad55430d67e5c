"""Boxes from a model's points: tight around them, and read back by what prepares faces."""

import dataclasses

import numpy as np
import pytest
import tiny

from lapjax.checkpoints.run import Run
from lapjax.datasets.annotations import read_boxes
from lapjax.errors import LapjaxError
from lapjax.evaluation import boxes
from lapjax.evaluation.evaluate import predict


@pytest.fixture
def run(tmp_path):
    config = tiny.config(tmp_path / "x.npz")
    return Run(config, tiny.EYES, tiny.state(config).average, 3, {})


def test_boxes_are_tight_around_the_points_of_unlabelled_faces(run):
    samples = tiny.samples(3, scheme="none")
    found = boxes.find_boxes(run, samples)
    points = predict(run, samples).points
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found[:, :2], points.min(axis=1))
    np.testing.assert_allclose(found[:, 2:], points.max(axis=1))


def test_the_file_reads_back(tmp_path):
    samples = dataclasses.replace(
        tiny.samples(3, scheme="none"), name=np.array(["a b.jpg", "deep/two.png#1", "deep/two.png#2"])
    )
    made = np.array([[1.25, 2, 30, 40.5], [0, 0, 5, 6], [-3, 4, 9, 10]])
    boxes.write_boxes(tmp_path / "boxes.csv", samples, made)
    names, back = read_boxes(tmp_path / "boxes.csv")
    assert names == ["a b.jpg", "deep/two.png", "deep/two.png"]
    np.testing.assert_allclose(back, made, atol=0.005)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(LapjaxError, match="cannot write .*choose another --out"):
        boxes.write_boxes(tmp_path / "no" / "boxes.csv", tiny.samples(1, scheme="none"), np.zeros((1, 4)))
    assert not list(tmp_path.iterdir())
