"""Unlabelled images: with a box, with boxes, with neither, and with files that cannot be read."""

import json

import numpy as np
import pytest
from PIL import Image

from lapjax.datasets import prepared
from lapjax.datasets.face_folder.face_folder_dataset_builder import Builder
from lapjax.datasets.prepare import prepare
from lapjax.errors import LapjaxError


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "faces"
    for name in ("a.jpg", "b.PNG", "deep/c.jpeg", "deep/er/d.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (200, 100, 50)).save(root / name)
    (root / "notes.txt").write_text("not an image")
    return root


def refused(source, tmp_path, match, **options):
    data_dir = tmp_path / "out"
    with pytest.raises(LapjaxError, match=match):
        prepare("face_folder", source=source, data_dir=data_dir, **options)
    assert not data_dir.exists(), "something was written before the error"


def read(tmp_path, source, **options):
    summary = prepare("face_folder", source=source, data_dir=tmp_path / "out", chip_size=32, **options)
    records = prepared.source("face_folder", "train", tmp_path / "out")
    return summary, {record["name"]: record for record in records}


def test_unlabelled_records(source, tmp_path):
    summary, records = read(tmp_path, source)
    assert sorted(records) == ["a.jpg", "b.PNG", "deep/c.jpeg", "deep/er/d.jpg"]
    record = records["a.jpg"]
    assert record["landmarks"].shape == (0, 2) and record["visible"].shape == (0,)
    np.testing.assert_allclose(record["box"], [10, 0, 69, 59])  # the centre square
    meta = prepared.meta("face_folder", tmp_path / "out")
    assert meta["unlabelled"] and not meta["scheme"]["names"]
    assert "face_folder: unlabelled" in str(summary)


def test_the_terms_of_its_images(source, tmp_path):
    for terms, kept in ((None, "those of your own images"), ("LFW: research use", "LFW: research use")):
        summary, _ = read(tmp_path, source, terms=terms)
        assert prepared.meta("face_folder", tmp_path / "out")["terms"] == kept
        assert f"terms: {kept}" in str(summary)


@pytest.mark.parametrize("box", ["30,40,25", (30, 40, 25)])
def test_one_box_for_all(source, tmp_path, box):
    _, records = read(tmp_path, source, box=box)
    for record in records.values():
        np.testing.assert_allclose(record["box"], [25, 10, 55, 40])


def test_boxes_file_with_two_faces_in_one_image(source, tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "path,x0,y0,x1,y1\na.jpg,0,0,20,20\na.jpg,30,0,50,20\ndeep/c.jpeg,1,1,9,9\n"
    )
    _, records = read(tmp_path, source, boxes=tmp_path / "boxes.csv")
    assert sorted(records) == ["a.jpg#0", "a.jpg#1", "deep/c.jpeg"]
    np.testing.assert_allclose(records["a.jpg#1"]["box"], [30, 0, 50, 20])


def test_unreadable_files_are_left_out_counted_and_named(source, tmp_path):
    path = source / "deep/c.jpeg"
    path.write_bytes(path.read_bytes()[:300])
    (source / "text.jpg").write_text("not an image")
    (source / "empty.jpg").touch()
    summary, records = read(tmp_path, source)
    assert sorted(records) == ["a.jpg", "b.PNG", "deep/er/d.jpg"]
    assert "3 unreadable images left out" in str(summary)
    stored = json.loads((summary.path / "metadata.json").read_text())
    assert [
        any(name in line for line in stored["unreadable"]) for name in ("c.jpeg", "text.jpg", "empty.jpg")
    ] == [True] * 3


def test_refuses_when_nothing_is_readable(tmp_path):
    (tmp_path / "bad").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "bad" / name).write_text("not an image")
    refused(tmp_path / "bad", tmp_path, r"a.jpg.*\(1 more such problem\)")


def test_refuses_a_folder_without_images(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/notes.txt").write_text("x")
    refused(tmp_path / "texts", tmp_path, "texts holds no images")


def test_refuses_a_file_for_a_folder(source, tmp_path):
    refused(source / "a.jpg", tmp_path, "a.jpg is not a folder")


@pytest.mark.parametrize("box", ["99,89", "a,b,c", "0,1,2", "nan,1,2", 7])
def test_refuses_a_bad_box(source, tmp_path, box):
    refused(source, tmp_path, "^box ", box=box)


def test_refuses_a_box_off_every_image(source, tmp_path):
    refused(source, tmp_path, "does not belong to an image", box="10,500,500")


def test_refuses_both_boxes_and_box(source, tmp_path):
    refused(source, tmp_path, "both given", box="9,9,9", boxes="boxes.csv")


def test_refuses_boxes_of_missing_images(source, tmp_path):
    (source / "boxes.csv").write_text("path,x0,y0,x1,y1\nz.jpg,0,0,20,20\n")
    refused(source, tmp_path, "lists z.jpg, which is not in", boxes="boxes.csv")


def test_survey_is_sorted(source):
    names = [photo.name for photo in Builder.survey(source).splits["train"]]
    assert names == sorted(names)
