"""Confidence of a run: fitted on its own split, kept with it, dropped when it learns more, and measured."""

import dataclasses

import numpy as np
import pytest
import tiny

from lapjax import data
from lapjax.checkpoints.run import Run, load_run
from lapjax.errors import LapjaxError
from lapjax.evaluation import calibrate
from lapjax.evaluation.evaluate import Predictions
from lapjax.metrics.scoring import truth
from lapjax.training.train import train


def guesses(samples, seed=0):
    """Predictions whose errors are as large as their scale says, per axis, and their calibration's stage is known."""
    random = np.random.default_rng(seed)
    count, points = samples.visible.shape
    scale = random.uniform(0.5, 4, (count, points, 1)).repeat(2, axis=2)
    unit = np.full(count, 2.0)
    off = random.laplace(size=(count, points, 2)) * scale
    where = truth(samples) + off * unit[:, None, None]
    return Predictions(where, scale, unit, np.full_like(where, 1.5))


@pytest.fixture
def run(tmp_path, monkeypatch):
    config = tiny.config(tmp_path / "x.npz")
    monkeypatch.setattr(calibrate, "predict", lambda run, samples: guesses(samples, len(samples)))
    return Run(config, tiny.EYES, {}, 3, {})


def test_the_radius_holds_and_the_scale_ranks(run):
    calibration = calibrate.calibrate(run, tiny.samples(400))
    known = dataclasses.replace(run, calibration=calibration)
    worth = calibrate.assess(known, tiny.samples(300, "test"))
    assert abs(worth["radius"]["overall"] - 0.9) < 0.03
    low, high = worth["radius"]["interval"]
    assert low < worth["radius"]["overall"] < high
    assert abs(worth["confidence"]["said"] - worth["confidence"]["seen"]) < 0.03
    assert worth["confidence"]["calibration_error"] < 0.05
    np.testing.assert_allclose(worth["laplace"]["observed"], calibrate.LEVELS, atol=0.03)
    for kind in ("calibrated", "raw"):
        assert worth["ranking"][kind]["spearman"] > 0.3
        found = worth["ranking"][kind]["failure_auroc"]["90th percentile"]
        assert found["failures"] == 30 and found["interval"][0] < found["value"] < found["interval"][1]


def test_another_level_and_hidden_points(run):
    samples = tiny.samples(400)
    visible = samples.visible.copy()
    visible[::2, 3] = False
    calibration = calibrate.calibrate(run, dataclasses.replace(samples, visible=visible), level=0.5)
    known = dataclasses.replace(run, calibration=calibration)
    worth = calibrate.assess(known, dataclasses.replace(samples, visible=visible))
    assert worth["radius"]["level"] == 0.5 and abs(worth["radius"]["overall"] - 0.5) < 0.03


def test_without_failures_there_is_nothing_to_find(run):
    known = dataclasses.replace(run, calibration=calibrate.calibrate(run, tiny.samples(50)))
    worth = calibrate.assess(known, tiny.samples(50), threshold=1e6)
    assert worth["ranking"]["raw"]["failure_auroc"]["1e+06"] is None


def test_a_run_that_was_not_calibrated(run):
    with pytest.raises(LapjaxError, match="has no calibration.json: `lapjax calibrate DIR`"):
        calibrate.assess(run, tiny.samples(3))


def test_a_run_keeps_its_calibration_until_it_learns_more(tmp_path):
    splits = {
        "train": tiny.samples(24),
        "validation": tiny.samples(7, "validation"),
        "calibration": tiny.samples(12, "calibration"),
    }
    data.write_pack(tmp_path / "tiny.npz", splits)
    config = tiny.config(tmp_path / "tiny.npz")
    out = tmp_path / "run"
    train(config, out, stop=lambda step: 15 if step == 7 else None)
    for split in ("train", "validation"):
        with pytest.raises(LapjaxError, match=f"the split {split} has trained or chosen this run"):
            calibrate.calibrate(out, split=split)
    made = calibrate.calibrate(out)
    assert made.images == 12 and load_run(out).calibration == made
    assert load_run(out, which="last").calibration is None
    best = load_run(out).step
    train(config, out, resume=True)
    assert (load_run(out).calibration == made) == (load_run(out).step == best)
