"""Engines: files and runs called alike, and what is said of files that are none."""

import io
import json
import sys
import zipfile

import numpy as np
import onnx
import pytest
import tiny
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax.checkpoints import onnx_graph, runtime
from lapjax.checkpoints.model_card import Card
from lapjax.errors import LapjaxError


def onnx_file(calibrated=True):
    known = tiny.calibration(tiny.POSTER) if calibrated else None
    proto = onnx_graph.build(tiny.POSTER, tiny.variables(tiny.POSTER), 4, calibration=known)
    onnx.helper.set_model_props(proto, Card("a", tiny.POSTER, tiny.EYES, known).to_properties())
    return proto


@pytest.fixture(scope="module")
def content():
    return onnx_file().SerializeToString()


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def test_an_onnx_file(tmp_path, content):
    (tmp_path / "named.anything").write_bytes(content)
    card, engine = runtime.open_file(tmp_path / "named.anything")
    assert card.scheme == tiny.EYES
    found = engine(IMAGES, np.array([20.0, 20.0]))
    assert {name: value.shape for name, value in found.items()} == {
        "points": (2, 4, 2),
        "scale": (2, 4, 2),
        "radius": (2, 4),
        "confidence": (2, 4),
    }
    more = runtime.open_bytes(content, "a", threads=2)[1](IMAGES, np.array([20.0, 20.0]))
    np.testing.assert_allclose(more["points"], found["points"], atol=1e-4)


def test_an_onnx_file_without_calibration():
    card, engine = runtime.open_bytes(onnx_file(calibrated=False).SerializeToString(), "a")
    assert card.calibration is None and engine(IMAGES, np.ones(2)).keys() == {"points", "scale"}


def broken_zip(**parts):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, part in parts.items():
            file.writestr(name.replace("_", "."), part)
    return out.getvalue()


def foreign():
    proto = onnx_file()
    del proto.metadata_props[:]
    return proto.SerializeToString()


def test_what_is_no_model_file(content):
    card = "{}"
    for wrong, message in [
        (b"", "is no ONNX file"),
        (b"hello", "is no ONNX file"),
        (content[: len(content) // 2], "is no ONNX file .*or only a part of one"),
        (foreign(), "was not written by lapjax"),
        (b"PK\x03\x04 and so on", "is no model file"),
        (broken_zip(other="x"), "is no model file"),
        (broken_zip(card_json=card, function_bin="x"), "was not written by lapjax"),
    ]:
        with pytest.raises(LapjaxError, match=f"^x.onnx {message}"):
            runtime.open_bytes(wrong, "x.onnx")


def test_a_damaged_jax_program():
    properties = Card("a", tiny.POSTER, tiny.EYES).to_properties()
    with pytest.raises(LapjaxError, match="x.jax cannot be run by this version of JAX"):
        runtime.open_bytes(broken_zip(card_json=json.dumps(properties), function_bin="x"), "x.jax")


def test_refused(tmp_path, content):
    with pytest.raises(LapjaxError, match="cannot read .*none.onnx: No such file"):
        runtime.open_file(tmp_path / "none.onnx")
    with pytest.raises(LapjaxError, match="threads 0 must be at least 1"):
        runtime.open_bytes(content, "x", threads=0)


def test_without_jax(monkeypatch, content):
    properties = runtime.open_bytes(content, "x")[0].to_properties()
    archive = broken_zip(card_json=json.dumps(properties), function_bin="x")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(LapjaxError, match="x.jax needs JAX: .*ask for the ONNX file"):
        runtime.open_bytes(archive, "x.jax")
    assert runtime.open_bytes(content, "x")[1](IMAGES, np.ones(2))["points"].shape == (2, 4, 2)
