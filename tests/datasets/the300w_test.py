"""300W from a made folder in the official layout, and the exact counts of the real one."""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from lapjax import geometry
from lapjax.datasets import prepared
from lapjax.datasets.photos import hash_fraction
from lapjax.datasets.prepare import prepare
from lapjax.datasets.the300w.the300w_dataset_builder import Builder
from lapjax.errors import LapjaxError
from lapjax.images import read_image

REAL = (
    pathlib.Path(os.environ.get("LAPJAX_SHARED_DATA", pathlib.Path(__file__).parents[3] / "shared/data"))
    / "300w"
)

# Points of a made face in image px from 0; the first is the tight box's corner.
POINTS = np.stack([20 + np.arange(68) * 0.5, 30 + (np.arange(68) % 17) * 2.0], axis=-1)


def write_pts(path, points=POINTS, *, header=True):
    lines = [f"{x + 1:.4f} {y + 1:.4f}" for x, y in points]
    if header:
        lines = ["version: 1", f"n_points:  {len(points)}", "{", *lines, "}"]
    path.write_text("\n".join(lines) + "\n")


def write_face(folder, stem, *, suffix=".jpg", header=True, size=(100, 90), points=POINTS):
    folder.mkdir(parents=True, exist_ok=True)
    shade = int(hash_fraction(stem) * 200)
    Image.new("RGB", size, (shade, 90, 120)).save(folder / f"{stem}{suffix}")
    write_pts(folder / f"{stem}.pts", points, header=header)


@pytest.fixture
def source(tmp_path):
    """A dozen photographs a folder, two faces in each of AFW's and HELEN's."""
    root = tmp_path / "300w"
    for folder in ("afw", "helen/trainset", "helen/testset"):
        for photo in range(12):
            for face in (1, 2):
                write_face(root / folder, f"{folder[:3]}{'t' * folder.endswith('testset')}{photo}_{face}")
    for folder in ("lfpw/trainset", "lfpw/testset"):
        for photo in range(12):
            write_face(root / folder, f"image_{photo:04d}", suffix=".png", header=photo % 2 == 0)
    return root


def refused(source, tmp_path, match, **options):
    data_dir = tmp_path / "out"
    with pytest.raises(LapjaxError, match=match):
        prepare("the300w", source=source, data_dir=data_dir, **options)
    assert not data_dir.exists(), "something was written before the error"


def test_prepares_the_official_layout(source, tmp_path):
    write_face(source / "ibug", "image_003_1")
    done = []
    summary = prepare(
        "the300w",
        source=source,
        data_dir=tmp_path / "out",
        chip_size=64,
        progress=lambda *at: done.append(at),
    )
    total = 3 * 24 + 2 * 12 + 1
    assert done == [(i + 1, total) for i in range(total)]
    assert sum(sum(counts.values()) for counts in summary.counts.values()) == total
    assert summary.counts["common"] == {"helen": 24, "lfpw": 12}
    assert summary.counts["challenge"] == {"ibug": 1}
    assert "helen/trainset: 24 of the 2000 faces" in str(summary)
    assert prepared.splits("the300w", tmp_path / "out") == {
        split: sum(counts.values()) for split, counts in summary.counts.items()
    }
    records = prepared.source("the300w", "common", tmp_path / "out")
    record = next(record for record in records if record["name"] == "lfpw/testset/image_0001")
    assert record["subset"] == "lfpw"
    assert read_image(record["image"]).shape == (64, 64, 3)
    back = geometry.apply(
        geometry.invert(record["image_to_chip"].astype(float)), record["landmarks"].astype(float)
    )
    np.testing.assert_allclose(back, POINTS, atol=1e-3)
    np.testing.assert_allclose(record["box"], [*POINTS.min(0), *POINTS.max(0)])
    assert record["visible"].all() and record["visible"].shape == (68,)
    meta = prepared.meta("the300w", tmp_path / "out")
    assert meta["scheme"]["name"] == "300w" and not meta["unlabelled"] and meta["chip_size"] == 64
    json.dumps(meta)


def test_photographs_stay_together_and_hold_still(source):
    def split_of(survey):
        return {photo.name: split for split, photos in survey.splits.items() for photo in photos}

    before = split_of(Builder.survey(source))
    for name, split in before.items():
        if not name.startswith("lfpw"):
            assert before[name[:-1] + "1"] == split
    assert {split for name, split in before.items() if name.startswith("afw")} == {"train", "validation"}
    for photo in range(100, 160):
        write_face(source / "helen/trainset", f"hel{photo}_1")
    after = split_of(Builder.survey(source))
    key = "helen/trainset/hel{}_1"
    for photo in range(100, 160):
        fraction = hash_fraction(f"helen/hel{photo}")
        expected = "validation" if fraction < 0.1 else "calibration" if fraction < 0.2 else "train"
        assert after[key.format(photo)] == expected


def test_near_duplicates_are_left_out_by_default(source):
    write_face(source / "lfpw/trainset", "image_0862", suffix=".png")
    names = [photo.name for photos in Builder.survey(source).splits.values() for photo in photos]
    assert "lfpw/trainset/image_0862" not in names
    survey = Builder.survey(source, keep_near_duplicates=True)
    assert "lfpw/trainset/image_0862" in [photo.name for photos in survey.splits.values() for photo in photos]


def test_points_just_outside_are_kept_and_counted(source, tmp_path):
    write_face(source / "afw", "edge_1", size=(50, 90))  # x reaches 53.5
    summary = prepare("the300w", source=source, data_dir=tmp_path / "out", chip_size=32)
    assert any("1 images have points outside them, by up to 4.0 px" in note for note in summary.notes)


def test_refuses_points_of_another_image(source, tmp_path):
    write_face(source / "afw", "far_1", size=(20, 20))
    refused(source, tmp_path, r"far_1.jpg: a point of afw/far_1 lies .* px outside the 20 x 20 px image")


def test_refuses_a_missing_source(tmp_path):
    refused(tmp_path / "nowhere", tmp_path, "nowhere: no such folder")


def test_refuses_an_empty_source(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path, "empty is empty")


def test_says_what_is_missing_and_what_was_found(source, tmp_path):
    for path in (source / "lfpw").rglob("*.*"):
        path.unlink()
    (source / "lfpw/trainset").rmdir()
    refused(
        source,
        tmp_path,
        r"lfpw/trainset missing and lfpw/testset empty; found afw \(24 faces\), helen/trainset \(24 faces\)",
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (lambda lines: lines[:-2] + lines[-1:], r"afw0_1.pts says n_points: 68 and has 67"),
        (lambda lines: lines[3:-2], r"afw0_1.pts has 67 points, not 68"),
        (lambda lines: [*lines[:3], "nan 4.0", *lines[4:]], r"afw0_1.pts, line 4: 'nan 4.0' is not finite"),
        (
            lambda lines: [*lines[:3], "left eye", *lines[4:]],
            r"afw0_1.pts, line 4: 'left eye' is not a point",
        ),
        (lambda lines: [*lines[:3], "1 2 3", *lines[4:]], r"line 4: '1 2 3' is not a point"),
        (lambda lines: [], r"afw0_1.pts has 0 points, not 68"),
    ],
)
def test_refuses_bad_points(source, tmp_path, text, match):
    path = source / "afw/afw0_1.pts"
    path.write_text("\n".join(text(path.read_text().splitlines())))
    refused(source, tmp_path, match)


def test_counts_further_problems(source, tmp_path):
    for face in (1, 2):
        (source / f"afw/afw0_{face}.pts").write_text("text")
    refused(source, tmp_path, r"afw0_1.pts, line 1.*\(1 more such problem\)")


def test_refuses_binary_points(source, tmp_path):
    (source / "afw/afw0_1.pts").write_bytes(b"\xff\xfe\x00\x81")
    refused(source, tmp_path, "afw0_1.pts cannot be read as text")


def test_refuses_a_truncated_image(source, tmp_path):
    path = source / "afw/afw0_1.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    refused(source, tmp_path, "afw0_1.jpg")


def test_refuses_two_images_with_one_stem(source, tmp_path):
    Image.new("RGB", (90, 90)).save(source / "afw/afw0_1.png")
    refused(source, tmp_path, r"afw holds both afw0_1.jpg and afw0_1.png")


def test_refuses_an_image_without_points(source, tmp_path):
    (source / "afw/afw0_1.pts").unlink()
    refused(source, tmp_path, r"afw0_1.jpg has no annotation")


def test_refuses_points_without_an_image(source, tmp_path):
    (source / "afw/afw0_1.jpg").unlink()
    refused(source, tmp_path, r"afw0_1.pts has no image beside it")


def test_passes_over_the_files_that_systems_leave(source):
    (source / "afw/._afw0_1.jpg").write_bytes(b"resource fork")
    (source / "afw/Thumbs.db").write_bytes(b"")
    Builder.survey(source)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real 300W is not here")
def test_counts_of_the_real_data():
    survey = Builder.survey(REAL)
    counts = {
        split: {
            subset: sum(photo.subset == subset for photo in photos) for subset in ("afw", "helen", "lfpw")
        }
        for split, photos in survey.splits.items()
    }
    assert counts == {
        "train": {"afw": 295, "helen": 697, "lfpw": 648},
        "validation": {"afw": 42, "helen": 86, "lfpw": 70},
        "calibration": {"afw": 0, "helen": 87, "lfpw": 85},
        "common": {"afw": 0, "helen": 330, "lfpw": 224},
    }
    kept = Builder.survey(REAL, keep_near_duplicates=True)
    assert sum(map(len, kept.splits.values())) == 2012 + 554
