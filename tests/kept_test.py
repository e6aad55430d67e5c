"""What lapjax 0.1 left on disks still loads: a run, a pack, weights and model files made by its code (commit c076063).

tests/kept/0.1 was written before the modules moved and names changed. Never make it again with newer code.
"""

import json
import pathlib
import zipfile

import numpy as np
import pytest
import tiny

import lapjax
from lapjax import data
from lapjax.checkpoints.run import RunDirectory
from lapjax.evaluation.calibrate import calibrated

KEPT = pathlib.Path(__file__).with_name("kept") / "0.1"
SAID = json.loads((KEPT / "expected.json").read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the run and its pack lie as they did, with the paths that its config.json names."""
    place = tmp_path / "tests" / "data" / "0.1"
    place.mkdir(parents=True)
    (place / "pack.npz").write_bytes((KEPT / "pack.npz").read_bytes())
    with zipfile.ZipFile(KEPT / "run.zip") as file:
        file.extractall(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pack_of_0_1_is_read_with_all_its_splits():
    assert data.splits(KEPT / "pack.npz") == {"train": 8, "validation": 5, "unlabelled": 4, "told": 3}
    samples = lapjax.load_dataset(KEPT / "pack.npz", "told")
    assert samples.scheme == tiny.EYES and (samples.scale == 2).all()
    assert lapjax.load_dataset(KEPT / "pack.npz", "unlabelled").scheme.count == 0


@pytest.mark.parametrize("kind", ["run", "weights.npz", "run.float16.onnx"])
def test_a_model_of_0_1_finds_the_points_that_it_found_then(folder, kind):
    run = lapjax.load_run(folder / "run" if kind == "run" else KEPT / kind)
    assert (run.step, run.scheme) == (SAID["step"], tiny.EYES)
    guess = lapjax.predict(run, lapjax.load_dataset(KEPT / "pack.npz", "validation"))
    # Weights in float16 move points a little; the rest is how processors round.
    tolerance = 0.2 if kind.endswith("onnx") else 1e-2
    np.testing.assert_allclose(guess.points, SAID["validation_points"], atol=tolerance)
    np.testing.assert_allclose(guess.scale, SAID["validation_scale"], atol=tolerance)


def test_the_calibration_of_a_run_of_0_1_gives_the_same_radii(folder):
    run = lapjax.load_run(folder / "run")
    samples = lapjax.load_dataset(KEPT / "pack.npz", "validation")
    said = calibrated(run, lapjax.predict(run, samples), samples)
    np.testing.assert_allclose(said.radius, SAID["radius"], rtol=1e-3)


@pytest.mark.parametrize("name", ["run.float16.onnx", "run.jax"])
def test_a_model_file_of_0_1_still_works_in_an_app(name):
    localizer = lapjax.Localizer.load(KEPT / name)
    image = (np.arange(64 * 64 * 3).reshape(64, 64, 3) % 251).astype(np.uint8)
    result = localizer(image, box=(10, 12, 50, 48))
    np.testing.assert_allclose(result.points, SAID["localizer_points"], atol=0.05)
    np.testing.assert_allclose(result.radius, SAID["localizer_radius"], rtol=1e-2)


def test_a_training_of_0_1_that_played_the_game_goes_on(folder):
    """Its last checkpoint holds G, D and both optimisers; a longer run of the same configuration would be another run."""
    config, scheme, info = RunDirectory(folder / "run").read()
    assert config.game.adversary and scheme == tiny.EYES and info["unlabelled"] == 4
    before = (folder / "run" / "metrics.jsonl").read_text()
    outcome = lapjax.train(config, folder / "run", resume=True)
    assert outcome.finished and outcome.step == SAID["step"]
    assert (folder / "run" / "metrics.jsonl").read_text() == before
