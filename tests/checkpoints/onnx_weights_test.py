"""A run back from its file: the same network, batch norms folded or not."""

import pathlib

import jax
import numpy as np
import pytest
import tiny
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax import data
from lapjax.checkpoints.onnx_weights import with_statistics
from lapjax.checkpoints.run import load_run
from lapjax.config import Game, override
from lapjax.deployment.export import export
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import predict
from lapjax.networks import make_generator


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return tiny.write_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module", params=[tiny.FAST, tiny.POSTER], ids=["fast", "poster"])
def run(request, pack, tmp_path_factory):
    return tiny.save_run(tmp_path_factory.mktemp("runs") / "a", request.param, pack=pack)


# How far the points may be from the network's on average, input px: these weights are random.
@pytest.mark.parametrize("precision, off", [("float32", 1e-4), ("float16", 0.03), ("int8", 0.5)])
def test_a_file_is_its_run(run, pack, precision, off):
    file = export(run, precision=precision, check=False).path
    found, expected = load_run(file), load_run(run)
    # What the run left off, and where things lie on this machine, is not in the file.
    plain = {
        "unlabelled": None,
        "unlabelled_split": "train",
        "unlabelled_batch_size": 16,
        "game": vars(Game()),
    }
    shared = override(expected.config, dataset=pack.name, **plain)
    assert (found.config, found.scheme, found.step) == (shared, expected.scheme, expected.step)
    assert found.info == expected.info and found.terms == expected.terms
    samples = data.load_dataset(str(pack), "validation")
    theirs, ours = (predict(each, samples) for each in (expected, found))
    assert np.ptp(theirs.input_points, axis=(0, 1)).min() > 0.5, "the test would show nothing"
    assert np.abs(ours.input_points - theirs.input_points).mean() < off
    assert np.abs(ours.scale - theirs.scale).mean() < off
    assert found.calibration.formula(ours.input_points, ours.scale, np.ones(7)).radius.shape == (7, 4)


def test_a_file_exports_again(run, tmp_path):
    first = export(run, tmp_path / "b.x.onnx", check=False)
    again = export(first.path, tmp_path / "c.onnx", check=False)
    assert again.card.name == "b" and again.card.calibration == first.card.calibration
    a, b = (load_run(path) for path in (first.path, again.path))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a.variables, b.variables)


def test_refused(run, tmp_path):
    program = export(run, tmp_path / "a.jax", format="jax", check=False).path
    with pytest.raises(
        LapjaxError, match="a.jax is a JAX program, whose weights cannot be read: give the run"
    ):
        load_run(program)
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(LapjaxError, match="x.onnx is no ONNX file"):
        load_run(tmp_path / "x.onnx")
    file = export(run, tmp_path / "a.onnx", check=False).path
    with pytest.raises(LapjaxError, match="a.onnx holds one model: only a run directory"):
        load_run(file, which="last")
    with pytest.raises(LapjaxError, match="no file or run directory .*none"):
        load_run(pathlib.Path("runs/none"))


def test_norms_with_statistics_are_the_same_network_and_can_be_trained(run, pack):
    found = load_run(export(run, check=False).path)
    model = found.config.model
    generator = make_generator(model, tiny.EYES.count)
    images = jax.random.uniform(jax.random.key(0), (16, 32, 32, 3), minval=-1.0, maxval=1.0)
    folded = jax.device_put(found.variables)
    made = jax.device_put(with_statistics(model, folded, images))
    assert jax.tree.structure(made) == jax.tree.structure(folded)
    plain = generator.apply(folded, images)
    np.testing.assert_allclose(generator.apply(made, images), plain, atol=1e-3)
    if model.network == "fast":
        # In training each batch is normalised by its own statistics: with the identity's norms that is another network.
        trained, _ = generator.apply(made, images, train=True, mutable=["batch_stats"])
        np.testing.assert_allclose(trained, plain, atol=1e-2)
        other, _ = generator.apply(folded, images, train=True, mutable=["batch_stats"])
        assert np.abs(other - plain).mean() > 0.1
