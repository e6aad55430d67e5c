"""The ruler: one score for all, tables of images, and the comparison of two."""

import csv
import errno
import json
import os
import pathlib
import re

import numpy as np
import pytest
import rich.console
import tiny

from lapjax import metrics
from lapjax.cli import tables
from lapjax.errors import LapjaxError
from lapjax.geometry import box_of
from lapjax.metrics import scoring
from lapjax.metrics.scoring import (
    Matched,
    compare,
    per_image,
    read_per_image,
    verdict,
    write_json,
    write_per_image,
)
from lapjax.schemes import SCHEMES, anonymous


def matched(images=5, *, off=None, scheme=tiny.EYES, **fields):
    """Faces `off` px (N,) to the right of their truth, image i by i px by default, with eyes 20 px apart."""
    truth = np.tile(np.array([[0.0, 0], [20, 0], [10, 10], [10, 25]]), (images, 1, 1))
    off = np.arange(images, dtype=float) if off is None else np.asarray(off)
    known = {
        "prediction": truth + off[:, None, None] * [1, 0],
        "truth": truth,
        "visible": None,
        "box": box_of(truth),
        "image": np.array([f"face_{i}" for i in range(images)]),
        "subset": np.array(["odd" if i % 2 else "even" for i in range(images)]),
        "scheme": scheme,
        "conditions": {"predictions": "a.npz", "truth": "b.npz", "matched": "by image name"},
    }
    return Matched(**(known | fields))


def test_a_score_is_the_summary_with_its_conditions():
    got = scoring.score(matched(), thresholds=(7, 12))
    assert got["nme"]["inter_ocular"] == pytest.approx(10)
    assert got["failure_rate"] == {"7": 60, "12": 40}
    assert got["conditions"] == {
        "scheme": "eyes",
        "box": "tight box of the true landmarks",
        "normaliser": "inter_ocular",
        "predictions": "a.npz",
        "truth": "b.npz",
        "matched": "by image name",
    }
    wide = scoring.score(matched(box=box_of(matched().truth) + [-5, -5, 5, 5]))
    assert wide["conditions"]["box"] == "annotated box"


def test_images_are_listed_worst_first():
    case = matched(scale=np.full((5, 4, 2), 3.0))
    rows = per_image(case)
    assert [row["image"] for row in rows] == [f"face_{i}" for i in (4, 3, 2, 1, 0)]
    assert rows[0] == {
        "image": "face_4",
        "subset": "even",
        "inter_ocular": pytest.approx(20),
        "inter_pupil": pytest.approx(20),
        "box": pytest.approx(100 * 4 / np.sqrt(20 * 25)),
        "diagonal": pytest.approx(100 * 4 / np.hypot(20, 25)),
        "scale": 3,
    }
    bare = per_image(matched(scheme=anonymous(4), subset=None))
    assert bare[0]["inter_ocular"] is bare[0]["scale"] is None and bare[0]["subset"] == ""
    assert bare[0]["image"] == "face_4"


@pytest.mark.parametrize("suffix", [".csv", ".json", ".CSV"])
@pytest.mark.parametrize("scheme", [tiny.EYES, anonymous(4)])
def test_a_table_of_images_comes_back_to_the_digit(tmp_path, suffix, scheme):
    case = matched(scheme=scheme, image=np.array(["a", 'b, "c"', "ö/d e", "007", "1"]))
    write_per_image(tmp_path / f"a{suffix}", case)
    assert read_per_image(tmp_path / f"a{suffix}") == per_image(case)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_the_files_look_like(tmp_path):
    write_per_image(tmp_path / "a.csv", matched())
    with open(tmp_path / "a.csv", newline="") as file:
        head, first, *rest = csv.reader(file)
    assert head == ["image", "subset", *metrics.NORMALISERS, "scale"]
    assert first[:3] == ["face_4", "even", "20.0"] and first[-1] == "" and len(rest) == 4
    write_per_image(tmp_path / "a.json", matched())
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["conditions"]["box"] == "tight box of the true landmarks"
    assert content["images"] == per_image(matched())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", None, "cannot read .*a.csv: No such file"),
        ("a.txt", "", r"a.txt: a table of images is a .csv or a .json file"),
        ("a.csv", "", "a.csv has no images"),
        ("a.csv", "path,nme\nx,3\n", "a.csv is not a table of images; give a file that"),
        ("a.csv", "image,subset,inter_ocular,inter_pupil,box,diagonal,scale\na,,x,,1,1,\n", "not a table"),
        ("a.csv", "image,subset,inter_ocular,inter_pupil,box,diagonal,scale\na,,nan,,1,1,\n", "not a table"),
        ("a.csv", "image,subset,inter_ocular,inter_pupil,box,diagonal,scale\n" + "a,,1,,1,1,\n" * 2, "twice"),
        ("a.json", "[1]", "not a table"),
        ("a.json", '{"nme": {}}', "not a table"),
        ("a.json", "{", "not a table"),
    ],
)
def test_a_file_that_is_no_table_of_images(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(LapjaxError, match=message):
        read_per_image(tmp_path / name)


def test_a_clear_difference(rng):
    off = rng.gamma(3, 1, 60)
    a, b = per_image(matched(60, off=off)), per_image(matched(60, off=off + rng.normal(0.5, 0.2, 60)))
    found = compare(a, b)
    # Half a pixel of 20.
    assert found["difference"] == pytest.approx(-2.5, abs=0.5)
    assert found["nme"]["a"] - found["nme"]["b"] == pytest.approx(found["difference"])
    assert found["interval"][0] < found["difference"] < found["interval"][1] < 0
    assert found["p_value"] < 0.001 and found["better"] > 0.9 and found["images"] == 60
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    said = verdict(found, "a.csv", "b.csv")
    assert said.startswith("a.csv is better than b.csv: mean NME ") and "% by inter_ocular" in said
    assert f"a difference of {found['difference']:+.3f}" in said and "of the 60 images" in said
    assert verdict(compare(b, a)).startswith("A is worse than B")
    assert compare(b, a)["difference"] == pytest.approx(-found["difference"])


def test_no_difference_to_tell(rng):
    off = rng.gamma(3, 1, 60)
    rows = [per_image(matched(60, off=off + rng.normal(0, 0.2, 60))) for _ in range(2)]
    found = compare(*rows, normaliser="diagonal")
    assert found["p_value"] > 0.05 and found["conditions"]["normaliser"] == "diagonal"
    assert verdict(found).startswith("No sure difference between A and B")
    same = compare(rows[0], rows[0])
    assert (same["difference"], same["p_value"], same["better"], same["equal"]) == (0, 1, 0, 1)


def test_a_scheme_without_eyes_is_compared_by_the_box():
    a, b = per_image(matched(scheme=anonymous(4))), per_image(matched(off=np.ones(5)))
    assert compare(a, b)["conditions"]["normaliser"] == "box"
    with pytest.raises(LapjaxError, match="'inter_ocular' is not in both files; use one of box, diagonal"):
        compare(a, b, normaliser="inter_ocular")


def test_only_the_same_images_and_truth_compare():
    five, six = per_image(matched(5)), per_image(matched(6))
    with pytest.raises(LapjaxError, match="1 images are in B only, 'face_5': score both on the same"):
        compare(five, six)
    with pytest.raises(LapjaxError, match="in A only, 'face_5'"):
        compare(six, five)
    case = matched(5)
    wide = per_image(matched(5, box=case.box + [-5, 0, 5, 0]))
    with pytest.raises(LapjaxError, match=r"different points or boxes \(4 images, first 'face_4'\)"):
        compare(per_image(case), wide)
    with pytest.raises(LapjaxError, match="at least two images"):
        compare(per_image(matched(1)), per_image(matched(1)))


def shown(result):
    with open(os.devnull, "w") as nowhere:
        console = rich.console.Console(file=nowhere, record=True, width=100)
        console.print(tables.table(result))
    return console.export_text()


@pytest.mark.parametrize("scheme", [tiny.EYES, anonymous(4)])
def test_the_table(scheme):
    conditions = matched().conditions | {"scale_unit": "image px"}
    case = matched(scheme=scheme, scale=np.full((5, 4, 2), 1.5), conditions=conditions)
    result = scoring.score(case, thresholds=(5, 8, 10))
    text = shown(result)
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip() and "," not in line}
    assert "a.npz against b.npz, matched by image name." in text
    assert "box: tight box of the true landmarks" in text and "image px" in text
    for name, images in (("even", "3"), ("odd", "2"), ("all", "5")):
        assert lines[name][1] == images
        assert ("-" in lines[name]) == (scheme != tiny.EYES)
    assert f"{result['nme']['diagonal']:.2f}" in lines["all"] and lines["all"][-1] == "1.50"
    low, high = result["intervals"]["nme"]["diagonal"]
    assert f"{low:.2f}–{high:.2f}" in text.split("all, 95 %")[1].splitlines()[0]
    for threshold, rate in result["failure_rate"].items():
        assert re.search(rf"failures over {threshold} % .* {rate:.2f} ", text)
    assert "…" not in text and max(map(len, text.splitlines())) <= 100


def test_the_table_of_a_run_and_of_parts():
    face = SCHEMES["300w"]
    truth = np.tile(np.random.default_rng(0).uniform(0, 100, (1, 68, 2)), (4, 1, 1))
    conditions = {"dataset": "tiny", "split": "test", "train": "tiny train", "train_faces": 12, "seed": 3}
    case = matched(
        4, scheme=face, prediction=truth + 1, truth=truth, box=box_of(truth), conditions=conditions
    )
    text = shown(scoring.score(case))
    assert "tiny test." in text and "Trained on 12 faces of tiny train, seed 3." in text
    assert "by inter-ocular" in text
    lines = [line.split() for line in text.splitlines()]
    parts = {line[2]: line[3:] for line in lines if line[:2] == ["NME", "of"]}
    assert list(parts) == ["jaw", "brows", "nose", "eyes", "mouth"]
    # Two subsets and all of them, every point off by the same.
    assert all(len(cells) == 3 and len(set(cells)) == 1 for cells in parts.values())


def test_json_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_json(file, {"nme": 3.5})
    assert json.loads(file.read_text()) == {"nme": 3.5}

    def full(self, text, **_):
        with open(self, "w") as half:
            half.write(text[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(
        LapjaxError, match="cannot write .*a.json: No space left on device; choose another --json"
    ):
        write_json(file, {"nme": 1.0})
    with pytest.raises(LapjaxError, match="not finite"):
        write_json(file, {"nme": float("nan")})
    monkeypatch.undo()
    assert json.loads(file.read_text()) == {"nme": 3.5}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_json_where_no_file_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    for place, problem in [
        ("no/a.json", "No such file"),
        ("file/a.json", "Not a directory"),
        ("", "Is a directory"),
    ]:
        with pytest.raises(LapjaxError, match=f"cannot write .*: {problem}"):
            write_json(tmp_path / place, {})
    assert [item.name for item in tmp_path.iterdir()] == ["file"]
