"""Runs exported and opened again: what is written, what it is measured against, what is refused."""

import dataclasses
import datetime
import errno
import importlib
import os
import pathlib

import numpy as np
import onnx
import pytest
import tiny
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax import data
from lapjax.calibration.scale import save_calibration
from lapjax.checkpoints import runtime
from lapjax.checkpoints.run import CALIBRATION
from lapjax.config import override
from lapjax.deployment import run_engine
from lapjax.deployment.export import default_path, export
from lapjax.errors import LapjaxError

# `lapjax.export` is the function; this is its module.
exporting = importlib.import_module("lapjax.deployment.export")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
SIZES = np.full(5, 20.0)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return tiny.write_pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module", params=[tiny.FAST, tiny.POSTER], ids=["fast", "poster"])
def run(request, pack, tmp_path_factory):
    return tiny.save_run(tmp_path_factory.mktemp("runs") / "a", request.param, pack=pack)


@pytest.fixture(scope="module")
def poster(pack, tmp_path_factory):
    return tiny.save_run(tmp_path_factory.mktemp("runs") / "a", tiny.POSTER, pack=pack)


@pytest.mark.parametrize("format", ["onnx", "jax"])
def test_float32_is_the_network(run, format):
    done = export(run, format=format)
    assert done.path == run / f"a.float32.{format}" == default_path(run, "float32", format)
    assert done.size == done.path.stat().st_size
    parity = done.card.parity
    assert (parity["data"], parity["faces"]) == ("tiny validation", 7)
    assert parity["points_px"]["mean"] <= parity["points_px"]["max"] < 1e-3
    # The network sees the crop itself, the file its nearest bytes.
    assert parity["nme"]["file"] == pytest.approx(parity["nme"]["network"], rel=0.01)
    assert parity["radius_holds"].keys() == {"network", "file"}

    card, engine = runtime.open_file(done.path)
    assert card == done.card
    assert card.scheme == tiny.EYES and card.provenance["terms"] == "none"
    _, expected = run_engine.open_run(run)
    for count in (5, 1):
        for name, value in expected(IMAGES[:count], SIZES[:count]).items():
            found = engine(IMAGES[:count], SIZES[:count])[name]
            np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-3, err_msg=name)


def test_less_precise_and_smaller(run):
    exact, half, bytes_ = (export(run, precision=name) for name in exporting.PRECISIONS)
    assert exact.size > half.size
    assert exact.card.parity["points_px"]["max"] < half.card.parity["points_px"]["max"] < 0.5
    assert bytes_.card.parity["points_px"]["mean"] < 1
    kinds = {each.data_type for each in onnx.load(bytes_.path).graph.initializer}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32} <= kinds
    assert runtime.open_file(bytes_.path)[0].precision == "int8"


def test_a_jax_file_says_until_when_it_can_be_read(poster):
    said = export(poster, format="jax", check=False).card.provenance
    left = datetime.date.fromisoformat(said["readable_until"]) - datetime.datetime.now(datetime.UTC).date()
    assert 178 <= left.days <= 180 and said["archive"] == "keep the ONNX file"
    assert "readable_until" not in export(poster, check=False).card.provenance


def test_float16_of_jax(poster):
    exact, half = (export(poster, format="jax", precision=name) for name in ("float32", "float16"))
    assert exact.size > half.size
    assert 1e-5 < half.card.parity["points_px"]["max"] < 0.5


def test_the_same_run_gives_the_same_bytes(poster, tmp_path):
    for format, precision in (("onnx", "float16"), ("onnx", "int8"), ("jax", "float32")):
        one, two = (
            export(poster, tmp_path / name, format=format, precision=precision).path.read_bytes()
            for name in ("one", "two")
        )
        assert one == two, (format, precision)


def test_an_onnx_file_says_how_to_use_it(poster, tmp_path):
    proto = onnx.load(export(poster, tmp_path / "new" / "a.onnx", check=False).path)
    said = {each.key: each.value for each in proto.metadata_props}
    assert said.keys() >= {"usage", "model", "scheme", "calibration", "provenance", "parity"}
    assert said["parity"] == "null" and "left" in said["scheme"] and "RGB" in said["usage"]
    assert proto.producer_name == "lapjax"


def test_without_a_calibration(pack, tmp_path):
    run = tiny.save_run(tmp_path / "b", tiny.POSTER, pack=pack, calibrated=False)
    with pytest.raises(
        LapjaxError, match="b is not calibrated.*`lapjax calibrate .*b` first.*--no-calibration"
    ):
        export(run)
    for format in exporting.FORMATS:
        done = export(run, format=format, calibrated=False)
        assert "radius_holds" not in done.card.parity
        card, engine = runtime.open_file(done.path)
        assert card.calibration is None
        assert engine(IMAGES, SIZES).keys() == {"points", "scale"}
    save_calibration(tiny.calibration(tiny.POSTER), run / CALIBRATION)
    assert export(run, check=False).card.calibration is not None


def test_another_set_to_measure_on(poster, tmp_path):
    data.write_pack(tmp_path / "other.npz", {"far": tiny.samples(3, "far"), "train": tiny.samples(9)})
    done = export(poster, tmp_path / "a", precision="int8", dataset=str(tmp_path / "other.npz"), split="far")
    assert done.card.parity["faces"] == 3


def test_refused(poster, pack, tmp_path):
    for options, message in [
        ({"format": "tflite"}, "format 'tflite': choose one of onnx, jax"),
        ({"precision": "int4"}, "precision 'int4': choose one of float32, float16, int8"),
        ({"format": "jax", "precision": "int8"}, "int8 is for ONNX"),
        ({"split": "nowhere"}, "has no split 'nowhere'"),
        ({"dataset": str(tmp_path / "none.npz")}, "no pack at"),
    ]:
        with pytest.raises(LapjaxError, match=message):
            export(poster, tmp_path / "x.onnx", **options)
    with pytest.raises(LapjaxError, match="is not a run"):
        export(tmp_path, tmp_path / "x.onnx")
    with pytest.raises(LapjaxError, match="unlabelled has no points to measure against"):
        data.write_pack(tmp_path / "unlabelled.npz", {"validation": unlabelled()})
        export(poster, tmp_path / "x.onnx", dataset=str(tmp_path / "unlabelled.npz"))
    assert not (tmp_path / "x.onnx").exists()


def unlabelled():
    samples = tiny.samples(3, scheme="none")
    return dataclasses.replace(samples, meta=samples.meta | {"dataset": "unlabelled"})


def test_a_file_that_says_other_than_the_network_is_not_written(poster, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_TOLERANCE", -1.0)
    with pytest.raises(LapjaxError, match="nothing was written; please report this"):
        export(poster, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(poster, tmp_path, monkeypatch):
    (tmp_path / "x.onnx").write_text("before")

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(LapjaxError, match=r"cannot write .*x.onnx: No space left on device; free some space"):
        export(poster, tmp_path / "x.onnx", check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").read_text() == "before"


def test_a_bfloat16_run_is_exported_in_float32(pack, tmp_path):
    run = tiny.save_run(tmp_path / "a", override(tiny.POSTER, dtype="bfloat16"), pack=pack)
    assert export(run).card.parity["points_px"]["max"] < 1e-3
