"""`lapjax export`, `lapjax locate`, `lapjax models` and what takes their files, from the command line to their last line."""

import json
import shlex

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax import Localizer
from lapjax.checkpoints import pretrained
from lapjax.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("using")
    tiny.save_run(folder / "a", tiny.POSTER, pack=tiny.write_pack(folder))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)).save(folder / "x.png")
    return folder


@pytest.fixture
def run(place, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(place)

    def run(line):
        status = main.main(shlex.split(line))
        return status, *capsys.readouterr()

    return run


def test_export_and_locate(run, place):
    status, out, err = run("export a --precision float16 --out a.onnx")
    assert status == 0, err
    size = (place / "a.onnx").stat().st_size
    assert out.startswith(f"a.onnx: {size:,} bytes, float16, 4 points\n")
    assert "on tiny validation (7 faces, boxes from the true landmarks)" in out
    assert "NME, the mean error over inter_ocular: " in out and "of the 90 % promised" in out

    status, out, err = run("locate a.onnx x.png --box 20 20 70 60")
    assert status == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:5]] == list(tiny.EYES.names)
    assert out.splitlines()[0].split() == ["x", "y", "b_x", "b_y", "radius", "confidence"]

    status, out, err = run("locate a.onnx x.png --box -5 20 70 60.5 --json")
    said = json.loads(out)
    assert said["model"] == "a" and said["unit"] == "image px" and said["box"] == [-5, 20, 70, 60.5]
    assert [point["name"] for point in said["points"]] == list(tiny.EYES.names)
    assert said["points"][0].keys() == {"name", "x", "y", "b_x", "b_y", "radius", "confidence"}


def test_without_a_calibration_or_a_check(run):
    assert run("export a --no-calibration --no-check --out b.onnx")[1].count("\n") == 1
    status, out, _ = run("locate b.onnx x.png --box 20 20 70 60")
    assert status == 0 and "radius" not in out
    assert json.loads(run("locate b.onnx x.png --box 20 20 70 60 --json")[1])["level"] is None


@pytest.mark.parametrize(
    "line, message",
    [
        ("export a --out .", "is a folder: give --out the name of a file"),
        ("export none", "no file or run directory none, and no shipped model"),
        ("export a --format jax --precision int8", "int8 is for ONNX"),
        ("locate none.onnx x.png --box 1 2 30 40", "no file or run directory none.onnx"),
        ("locate x.png x.png --box 1 2 30 40", "x.png is no ONNX file"),
        ("locate a x.png --box 30 2 1 40", "has no extent"),
        ("locate a none.png --box 1 2 30 40", "none.png: no such file"),
    ],
)
def test_refused(run, line, message):
    status, out, err = run(line)
    assert status == 2 and out == "" and message in err.replace("\n", " ")
    assert "Traceback" not in err


def test_models(run):
    status, out, err = run("models")
    assert status == 0, err
    for name, said in pretrained.list_pretrained().items():
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert f"{said['bytes']:,}" in line and f"{said['nme']['percent']:.2f} %" in line
    assert json.loads(run("models --json")[1]) == pretrained.list_pretrained()


def test_a_file_is_calibrated_into_another(run, place):
    assert run("export a --no-check --out c.onnx")[0] == 0
    before = (place / "c.onnx").read_bytes()
    options = "--dataset tiny.npz --split told --level 0.5"
    status, out, err = run(f"calibrate c.onnx {options} --out d.onnx")
    assert status == 0, err
    assert "d.onnx: confidence fitted on 9 images" in out
    assert (place / "c.onnx").read_bytes() == before
    assert Localizer.load(place / "d.onnx").level == 0.5 and Localizer.load(place / "c.onnx").level == 0.9
    assert "say with --out where" in run(f"calibrate c.onnx {options}")[2]
    assert "leave --out e.onnx out" in run(f"calibrate a {options} --out e.onnx")[2]


def test_a_file_does_where_a_run_is_asked_for(run, place):
    assert run("export a --no-check --out c.onnx")[0] == 0
    for line in (
        "evaluate c.onnx --dataset tiny.npz --split validation",
        "report c.onnx --dataset tiny.npz --split validation --out c.html",
        "export c.onnx --dataset tiny.npz --precision float16",
        "label c.onnx a --dataset tiny.npz --split unlabelled --out told.npz",
        "boxes c.onnx --dataset tiny.npz --split unlabelled --out boxes.csv",
    ):
        status, _, err = run(line)
        assert status == 0, f"{line}: {err}"
    assert Localizer.load(place / "c.float16.onnx").card.precision == "float16"
