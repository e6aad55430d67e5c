"""The Localizer: units, boxes, images, names, and what it must not import."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import tiny
from PIL import Image
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax import geometry
from lapjax.checkpoints import onnx_graph
from lapjax.checkpoints.model_card import Card
from lapjax.data import augment
from lapjax.datasets.photos import Photo
from lapjax.datasets.records import make_record
from lapjax.deployment.localizer import Localizer, Result
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import input_to_image
from lapjax.images import read_image
from lapjax.samples import Samples

BOX = (30.0, 24.0, 70.5, 60.0)


def photograph(seed=0, width=120, height=90):
    """Smooth, so that how it is sampled makes no great difference."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write(path, calibrated=True):
    known = tiny.calibration(tiny.FAST) if calibrated else None
    proto = onnx_graph.build(tiny.FAST, tiny.variables(tiny.FAST), 4, calibration=known)
    onnx.helper.set_model_props(proto, Card("a", tiny.FAST, tiny.EYES, known).to_properties())
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("models") / "a.onnx")


@pytest.fixture(scope="module")
def locate(file):
    return Localizer.load(file)


def assert_same(a, b, **tolerance):
    assert a.names == b.names
    for name in ("points", "scale", "radius", "confidence"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), err_msg=name, **tolerance)


def test_a_result(locate):
    found = locate(photograph(), box=BOX)
    assert isinstance(found, Result) and found.names == locate.names == tiny.EYES.names
    shapes = {"points": (4, 2), "scale": (4, 2), "radius": (4,), "confidence": (4,)}
    for name, shape in shapes.items():
        value = getattr(found, name)
        assert (value.shape, value.dtype) == (shape, np.float32)
    assert (locate.calibrated, locate.level, locate.tolerance) == (True, 0.9, 0.05)
    assert repr(locate) == "Localizer('a': 4 points, 32 px input, float32)"
    assert (found.confidence >= 0).all() and (found.confidence <= 1).all() and (found.radius > 0).all()


def test_a_list_of_boxes_is_one_by_one(locate):
    boxes = [BOX, (10, 10, 60, 80), (-20, -10, 30, 40)]
    many = locate(photograph(), box=boxes)
    assert [type(each) for each in many] == [Result] * 3
    for one, box in zip(many, boxes, strict=True):
        assert_same(one, locate(photograph(), box=box), rtol=0)
    assert_same(locate(photograph(), box=np.array(boxes))[2], many[2], rtol=0)
    assert isinstance(locate(photograph(), [BOX]), list)
    assert locate(photograph(), box=[]) == locate(photograph(), box=np.zeros((0, 4))) == []


def test_lengths_are_in_pixels_of_the_image(locate):
    small = photograph()
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    # Pixel centres are at integers: the middle of the first three is 1.
    box = 3 * np.array(BOX) + 1
    a, b = locate(small, box=BOX), locate(large, box=box)
    np.testing.assert_allclose(b.points, 3 * a.points + 1, atol=1.5)
    np.testing.assert_allclose(b.scale, 3 * a.scale, rtol=0.1, atol=0.3)
    np.testing.assert_allclose(b.radius, 3 * a.radius, rtol=0.15)
    np.testing.assert_allclose(b.confidence, a.confidence, atol=0.02)


def test_the_confidence_is_about_the_box_that_was_given(locate):
    wide = locate(photograph(), box=BOX)
    middle = (BOX[1] + BOX[3]) / 2
    flat = locate(photograph(), box=(BOX[0], middle - 2, BOX[2], middle + 2))
    np.testing.assert_array_equal(flat.points, wide.points)
    assert (flat.confidence < wide.confidence).all()


def test_the_run_and_the_file_say_the_same(locate, tmp_path):
    run = Localizer.load(tiny.save_run(tmp_path / "a", tiny.FAST))
    assert run.names == locate.names and run.level == locate.level
    assert_same(run(photograph(), box=BOX), locate(photograph(), box=BOX), rtol=1e-3, atol=1e-3)


def test_the_map_is_that_of_a_prepared_record():
    image, model = photograph(), tiny.FAST
    points = np.array([[30, 30], [70.5, 24], [50, 60], [40, 50]])
    photo = Photo("x.png", "x", points, np.ones(4, bool), np.array(BOX))
    record, _ = make_record(image, photo, chip_size=160, chip_factor=1.8)
    columns = {name: np.asarray(value)[None] for name, value in record.items()}
    samples = Samples(
        images=columns.pop("image"), **columns, scheme=tiny.EYES, meta={"chip_factor": 1.8, "chip_size": 160}
    )
    crop, matrix = geometry.crop_image(image, BOX, factor=model.crop, size=model.input_size)
    np.testing.assert_allclose(input_to_image(model, samples)[0], geometry.invert(matrix), atol=1e-4)
    columns = (jnp.asarray(column) for column in (samples.images, samples.landmarks, samples.visible))
    seen = augment.crop(*columns, model=model, chip_factor=1.8).images[0]
    assert np.abs((np.asarray(seen) + 1) * 127.5 - crop).mean() < 2


def test_images_of_every_kind(locate, tmp_path):
    image = photograph()
    expected = locate(image, box=BOX)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert_same(locate(tmp_path / "a.png", box=BOX), expected, rtol=0)
    assert_same(locate(str(tmp_path / "a.png"), box=BOX), expected, rtol=0)
    assert_same(locate((tmp_path / "a.png").read_bytes(), box=BOX), expected, rtol=0)
    assert_same(locate(Image.fromarray(image), box=BOX), expected, rtol=0)
    assert_same(locate(image[:, ::-1][:, ::-1], box=BOX), expected, rtol=0)

    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(np.rot90(image)).save(tmp_path / "turned.png", exif=exif)
    assert_same(locate(tmp_path / "turned.png", box=BOX), expected, rtol=0)

    grey = image[..., 0]
    expected = locate(np.stack([grey] * 3, axis=-1), box=BOX)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name in ("grey.png", "deep.png"):
        assert_same(locate(tmp_path / name, box=BOX), expected, rtol=0)
    Image.fromarray(image).convert("CMYK").save(tmp_path / "print.tif")
    same = locate(read_image(tmp_path / "print.tif"), box=BOX)
    assert_same(locate(tmp_path / "print.tif", box=BOX), same, rtol=0)


@pytest.mark.parametrize(
    "box, message",
    [
        (None, "box: say where the face is, .*does not find faces by itself yet"),
        ((1, 2, 3), "is not four numbers"),
        ("face", "is not four numbers"),
        ([(1, 2, 3, 4), (1, 2, 3)], "is not four numbers"),
        ((np.nan, 2, 30, 40), "has NaN or infinity"),
        ((0, 0, np.inf, 40), "has NaN or infinity"),
        ((30, 20, 30, 40), r"box \(30, 20, 30, 40\): has no extent"),
        ((30, 40, 60, 20), "has no extent; it is min x, min y, max x, max y"),
        ([BOX, (60, 20, 30, 40)], "has no extent"),
        ((130, 20, 160, 40), r"lies outside the image of 120 x 90 px"),
        ((-50, 20, -1, 40), "lies outside the image"),
        ((-5000, -5000, 5000, 5000), "holds next to nothing of it"),
    ],
)
def test_boxes_that_are_none(locate, box, message):
    with pytest.raises(LapjaxError, match=message):
        locate(photograph(), box=box)


@pytest.mark.parametrize(
    "image, message",
    [
        (photograph()[..., 0], r"shape is \(90, 120\).*RGB; repeat a grey image"),
        (np.zeros((9, 9, 4), np.uint8), "drop its fourth channel"),
        (np.zeros((0, 9, 3), np.uint8), r"must be \(height, width, 3\)"),
        (photograph() / 255, "type is float64, and it must be uint8"),
        (photograph().astype(np.int64), "type is int64"),
        ("none.jpg", "none.jpg: no such file"),
        (b"junk", "not an image that Pillow can read"),
        (3, "int: cannot be read as an image"),
    ],
)
def test_images_that_are_none(locate, image, message):
    with pytest.raises(LapjaxError, match=message):
        locate(image, box=BOX)


def test_without_a_calibration_there_is_no_radius(tmp_path):
    bare = Localizer.load(write(tmp_path / "bare.onnx", calibrated=False))
    assert (bare.calibrated, bare.level, bare.tolerance) == (False, None, None)
    assert repr(bare).endswith(", not calibrated)")
    found = bare(photograph(), box=BOX)
    assert found.points.shape == found.scale.shape == (4, 2)
    for name in ("radius", "confidence"):
        with pytest.raises(LapjaxError, match=f"no calibration, hence no {name}: `lapjax calibrate DIR`"):
            getattr(found, name)


def test_a_file_needs_neither_jax_nor_anything_else(file, locate):
    """What is loaded by a first result: NumPy, pillow, onnxruntime and lapjax, of all that is installed."""
    code = (
        "import json, sys, numpy\nimport lapjax\n"
        f"locate = lapjax.Localizer.load({str(file)!r})\n"
        "image = numpy.full((90, 120, 3), 128, numpy.uint8)\n"
        f"points = locate(image, box={BOX}).points.tolist()\n"
        "print(json.dumps([points, sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    points, modules = json.loads(done.stdout)
    heavy = {
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax",
        "matplotlib",
        "scipy",
        "onnx",
        "tyro",
        "rich",
        "grain",
    }
    assert not heavy & set(modules)
    assert {"numpy", "PIL", "onnxruntime", "lapjax"} <= set(modules)
    expected = locate(np.full((90, 120, 3), 128, np.uint8), box=BOX).points
    np.testing.assert_allclose(points, expected, atol=1e-4)
