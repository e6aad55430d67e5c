"""Anyone's predictions: published ones to their digits, every way to match them, and what is refused."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tiny

from lapjax.errors import LapjaxError
from lapjax.geometry import box_of
from lapjax.metrics import scoring
from lapjax.metrics.predictions import match
from lapjax.schemes import SCHEMES

_SHARED = Path(os.environ.get("LAPJAX_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data")
_GOLDEN = _SHARED / "golden" / "spiga_300w_public.npz"


@pytest.mark.skipif(not _GOLDEN.exists(), reason="needs the shared data")
def test_published_predictions_to_their_digits():
    case = match(_GOLDEN, scheme=SCHEMES["300w"])
    got = scoring.score(case)
    assert got["nme"]["inter_ocular"] == pytest.approx(2.993687267871, abs=5e-13)
    assert got["subsets"]["ibug"]["nme"]["inter_ocular"] == pytest.approx(4.662282219, abs=5e-10)
    assert got["failure_rate"]["8"] == pytest.approx(0.725689, abs=5e-7)
    assert got["auc"] == pytest.approx({"8": 0.627205, "10": 0.700858}, abs=5e-7)
    assert got["conditions"]["matched"] == "one file" and got["images"] == 689
    rows = scoring.per_image(case)
    assert np.mean([row["inter_ocular"] for row in rows if row["subset"] != "ibug"]) == pytest.approx(
        2.587080195, abs=5e-10
    )


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes predictions and their truth, as .npz or .json; of a keyword None the key is left out."""
    monkeypatch.chdir(tmp_path)
    samples = tiny.samples(6)
    points = scoring.truth(samples)
    known = {"ground_truth": points, "image": samples.name, "subset": samples.subset}
    guess = {"prediction": points + np.arange(6)[:, None, None], "image": samples.name}

    def write(name, keys):
        keys = {key: value for key, value in keys.items() if value is not None}
        if name.endswith(".json"):
            Path(name).write_text(
                json.dumps({key: np.asarray(value).tolist() for key, value in keys.items()})
            )
        else:
            np.savez(name, **keys)

    def make(suffix=".npz", truth=(), **prediction):
        write(f"truth{suffix}", known | dict(truth))
        write(f"mine{suffix}", guess | prediction)
        return f"mine{suffix}", f"truth{suffix}"

    make.samples, make.known, make.guess = samples, known, guess
    return make


def off(case):
    """How far off each image is, px along an axis, by name."""
    distance = (case.prediction - case.truth)[:, 0, 0]
    return {str(name): round(float(value), 6) for name, value in zip(case.image, distance, strict=True)}


EXPECTED = {f"train/{i}": i for i in range(6)}


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_two_files_are_matched_by_name(files, suffix):
    order = [3, 0, 5, 1, 2, 4]
    mine, truth = files(suffix, **{key: value[order] for key, value in files.guess.items()})
    case = match(mine, truth=truth, scheme=tiny.EYES)
    assert off(case) == EXPECTED and list(case.image) == list(files.samples.name)
    assert list(case.subset) == list(files.samples.subset) and case.scale is case.scale_to_image is None
    np.testing.assert_allclose(case.box, box_of(case.truth))
    assert case.conditions == {
        "predictions": mine,
        "truth": truth,
        "matched": "by image name",
        "scale_unit": "image px",
    }


def test_a_prepared_split_is_the_truth(files):
    mine, _ = files(prediction=files.guess["prediction"][::-1], image=files.samples.name[::-1])
    hidden = files.samples.visible.copy()
    hidden[2, 3] = False
    samples = dataclasses.replace(files.samples, visible=hidden)
    case = match(mine, truth=samples, scheme=tiny.EYES)
    assert off(case) == EXPECTED
    assert (case.conditions["truth"], case.conditions["dataset"]) == ("tiny train", "tiny")
    np.testing.assert_array_equal(case.box, samples.box)
    np.testing.assert_array_equal(case.visible, hidden)
    assert scoring.per_image(case)[0]["image"] == "train/5"


@pytest.mark.parametrize("key", ["prediction", "truth"])
def test_without_names_in_both_rows_are_in_order(files, key):
    mine, truth = files(image=None) if key == "prediction" else files(truth={"image": None})
    case = match(mine, truth=truth, scheme=tiny.EYES)
    assert off(case) == EXPECTED and case.conditions["matched"] == "in order, without names"
    mine, truth = files(image=None, truth={"image": None})
    assert list(match(mine, truth=truth, scheme=tiny.EYES).image) == list("012345")


def test_names_may_lack_folder_and_suffix(files):
    mine, truth = files(image=np.array([f"C:\\photos\\{i}.JPG" for i in range(6)])[::-1])
    case = match(mine, truth=truth, scheme=tiny.EYES)
    assert case.conditions["matched"] == "by image name without folder and suffix"
    assert list(off(case)) == list(EXPECTED)
    assert off(case)["train/0"] == pytest.approx(5 + (case.truth[5] - case.truth[0])[0, 0], abs=1e-5)


def test_everything_in_one_file(files):
    mine, _ = files(".json", **files.known)
    case = match(mine, scheme=tiny.EYES)
    assert off(case) == EXPECTED and case.conditions["matched"] == "one file"
    assert list(case.subset) == list(files.samples.subset)
    # A truth that is named wins over the file's own.
    mine, truth = files(ground_truth=files.known["ground_truth"] + 100, subset=np.array(list("aabbcc")))
    assert off(match(mine, truth=truth, scheme=tiny.EYES)) == EXPECTED
    mine, truth = files(subset=np.array(list("aabbcc")), truth={"subset": None})
    assert "".join(match(mine, truth=truth, scheme=tiny.EYES).subset) == "aabbcc"


def test_scales_are_image_px_of_one_or_two_axes(files):
    one = np.tile(np.arange(6.0)[:, None], (1, 4))
    two = np.stack([one - 0.5, one + 0.5], axis=-1) + 1
    eyes = np.linalg.norm(np.diff(files.known["ground_truth"][:, :2], axis=1)[:, 0], axis=-1)
    for scale, mean in ((one, np.arange(6)), (two, np.arange(6) + 1)):
        mine, truth = files(scale=scale[::-1], image=files.samples.name[::-1])
        got = scoring.score(match(mine, truth=truth, scheme=tiny.EYES))
        assert got["scale_mean"] == pytest.approx(mean.mean())
        assert got["scale_mean_percent"] == pytest.approx(np.mean(100 * mean / eyes))


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_hidden_points_and_boxes_of_the_truth(files, suffix):
    visible = np.ones((6, 4), bool)
    visible[:, 3] = False
    points = np.where(visible[..., None], files.known["ground_truth"], np.nan)
    box = np.tile([0.0, 0, 50, 40], (6, 1))
    mine, truth = files(suffix, truth={"ground_truth": points, "visible": visible, "box": box})
    case = match(mine, truth=truth, scheme=tiny.EYES)
    assert off(case) == EXPECTED
    got = scoring.score(case)
    assert got["conditions"]["box"] == "annotated box"
    assert got["nme"]["box"] == pytest.approx(100 * 2.5 * np.sqrt(2) / np.sqrt(2000))
    mine, truth = files(suffix, truth={"ground_truth": points, "visible": visible})
    np.testing.assert_allclose(
        match(mine, truth=truth, scheme=tiny.EYES).box, box_of(points[:, :3]), rtol=1e-6
    )


def _nan(shape, row=1):
    values = np.ones(shape)
    values[row] = np.nan
    return values


_NAMES = np.array(list("abcdef"))


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ({"prediction": None}, {}, r"mine.npz has no key `prediction`, only `image`: add it, or rename"),
        ({}, {"ground_truth": None}, r"truth.npz has no key `ground_truth`, only .*name the truth with --truth"),
        ({"prediction": None, "points": np.ones(3)}, {}, "only `image`, `points`"),
        ({"prediction": np.ones((6, 8))}, {}, r"mine.npz: `prediction` has shape \(6, 8\), expected \(N, N, 2\)"),
        ({"prediction": np.ones((6, 4, 3))}, {}, r"`prediction` has shape \(6, 4, 3\)"),
        ({"prediction": np.ones((6, 98, 2))}, {}, r"`prediction` has 98 points .*'eyes' has 4: .*--scheme.*wflw"),
        ({}, {"ground_truth": np.ones((6, 5, 2))}, r"truth.npz: `ground_truth` has 5 points .*five"),
        ({"prediction": np.ones((0, 4, 2))}, {}, "`prediction` has no images"),
        ({"prediction": np.full((6, 4, 2), "x")}, {}, "`prediction` is not an array of numbers"),
        ({"prediction": _nan((6, 4, 2))}, {}, r"mine.npz: `prediction` has NaN .* in 1 of 6 rows, first in row 1"),
        ({}, {"ground_truth": _nan((6, 4, 2))}, "truth.npz: `ground_truth` has NaN .*false in `visible`"),
        ({"scale": _nan((6, 4))}, {}, "mine.npz: `scale` has NaN"),
        ({"scale": np.ones((6, 3))}, {}, r"`scale` has shape \(6, 3\), expected \(6, 4\)"),
        ({"scale": -np.ones((6, 4, 2))}, {}, "`scale` has negative numbers"),
        ({}, {"box": np.ones((6, 2))}, r"truth.npz: `box` has shape \(6, 2\), expected \(6, 4\)"),
        ({}, {"box": _nan((6, 4))}, "truth.npz: `box` has NaN"),
        ({}, {"visible": np.ones((6, 3))}, r"`visible` has shape \(6, 3\)"),
        ({}, {"visible": np.full((6, 4), 2)}, "`visible` holds more than true and false"),
        ({"image": _NAMES[:5]}, {}, r"mine.npz: `image` has shape \(5,\), expected \(6\)"),
        ({"image": np.array(list("aabcde"))}, {}, "mine.npz: `image` repeats 'a'"),
        ({}, {"subset": _NAMES[:5]}, r"truth.npz: `subset` has shape"),
        ({"image": _NAMES}, {}, r"mine.npz: `image` does not name the images of truth.npz: 6 are missing "
            r"\('train/0', 'train/1', 'train/2' and 3 more\) and 6 unknown \('a', 'b', 'c' and 3 more\)"),
        ({"prediction": np.ones((5, 4, 2)), "image": np.array([f"train/{i}" for i in range(5)])}, {},
            r"1 are missing \('train/5'\) and 0 unknown: use the same names"),
        ({"prediction": np.ones((5, 4, 2)), "image": None}, {}, "`prediction` has 5 images and truth.npz has 6"),
    ],
)  # fmt: skip
def test_bad_input_is_named(files, prediction, truth, message):
    mine, labels = files(truth=truth, **prediction)
    with pytest.raises(LapjaxError, match=message):
        match(mine, truth=labels, scheme=tiny.EYES)


def test_one_file_needs_as_many_of_both(files):
    mine, _ = files(image=None, ground_truth=files.known["ground_truth"][:5])
    with pytest.raises(LapjaxError, match="`prediction` has 6 images and mine.npz has 5"):
        match(mine, scheme=tiny.EYES)
    mine, _ = files()
    with pytest.raises(LapjaxError, match="mine.npz has no key `ground_truth`, only `prediction`, `image`"):
        match(mine, scheme=tiny.EYES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.npz", None, "cannot read no.npz: No such file or directory; check the path"),
        ("a.npz", b"not a zip", "cannot read a.npz"),
        ("a.npz", b"", "cannot read a.npz"),
        ("a.npz", b"PK\x03\x04 cut", "cannot read a.npz"),
        ("a.json", b"{", "cannot read a.json"),
        ("a.json", b"\xff", "cannot read a.json"),
        ("a.json", b"[[1, 2]]", "a.json holds a list: give a JSON object"),
        ("a.json", b'{"prediction": [[[1, 2]], [[1]]]}', "a.json: `prediction` is not an array of numbers"),
        ("a.json", b'{"prediction": null}', "has no key `prediction`"),
        ("a.csv", b"1,2", "a.csv: points come as an .npz or a .json file"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(LapjaxError, match=message):
        match(name, scheme=tiny.EYES)


def test_pickled_objects_and_bare_arrays_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", prediction=np.array([{}], object))
    with open(tmp_path / "b.npz", "wb") as file:
        np.save(file, np.ones((3, 4, 2)))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(LapjaxError, match=f"cannot read .*{name}"):
            match(tmp_path / name, scheme=tiny.EYES)
