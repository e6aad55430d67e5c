"""A run directory as an engine: it says what its file says."""

import sys

import numpy as np
import onnx
import pytest
import tiny
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax.checkpoints import onnx_graph, runtime
from lapjax.checkpoints.model_card import Card
from lapjax.deployment import run_engine
from lapjax.errors import LapjaxError

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
SIZES = np.array([20.0, 20.0])


def test_a_run_is_its_file(tmp_path):
    card, engine = run_engine.open_run(tiny.save_run(tmp_path / "a", tiny.POSTER))
    assert card.name == "a" and card.calibration is not None
    known = tiny.calibration(tiny.POSTER)
    proto = onnx_graph.build(tiny.POSTER, tiny.variables(tiny.POSTER), 4, calibration=known)
    onnx.helper.set_model_props(proto, Card("a", tiny.POSTER, tiny.EYES, known).to_properties())
    same = runtime.open_bytes(proto.SerializeToString(), "a")[1](IMAGES, SIZES)
    for name, value in engine(IMAGES, SIZES).items():
        np.testing.assert_allclose(value, same[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_without_a_calibration(tmp_path):
    card, engine = run_engine.open_run(tiny.save_run(tmp_path / "b", tiny.POSTER, calibrated=False))
    assert card.calibration is None and engine(IMAGES, SIZES).keys() == {"points", "scale"}


def test_refused(tmp_path, monkeypatch):
    with pytest.raises(LapjaxError, match="is not a run"):
        run_engine.open_run(tmp_path)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(LapjaxError, match=r"needs JAX: `pip install lapjax\[train\]`, or give a file"):
        run_engine.open_run(tmp_path)
