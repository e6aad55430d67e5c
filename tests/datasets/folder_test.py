"""Your own images: points.csv, .pts, schemes, boxes, splits, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from lapjax import geometry
from lapjax.datasets import prepared
from lapjax.datasets.folder.folder_dataset_builder import Builder
from lapjax.datasets.photos import hash_fraction
from lapjax.datasets.prepare import prepare
from lapjax.errors import LapjaxError
from lapjax.schemes import Scheme, save_scheme

PAW = Scheme(name="paw", names=("left", "right", "heel"), flip=(1, 0, 2))
POINTS = ((10, 12), (40, 14), (25, 33))


def row(name, points=POINTS):
    return ",".join([name, *("" if value is None else f"{value}" for point in points for value in point)])


def make(root, names, *, rows=None):
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 50), (shade % 256, 100, 50)).save(root / name)
    rows = [row(name) for name in names] if rows is None else rows
    (root / "points.csv").write_text("path,x0,y0,x1,y1,x2,y2\n" + "\n".join(rows) + "\n")
    return root


@pytest.fixture
def source(tmp_path):
    return make(tmp_path / "paws", [f"{i}.png" for i in range(40)])


def refused(source, tmp_path, match, **options):
    data_dir = tmp_path / "out"
    with pytest.raises(LapjaxError, match=match):
        prepare("folder", source=source, data_dir=data_dir, **options)
    assert not data_dir.exists(), "something was written before the error"


def split_of(survey):
    return {photo.name: split for split, photos in survey.splits.items() for photo in photos}


def test_prepares_points_with_gaps(source, tmp_path):
    names = [f"{i}.png" for i in range(40)]
    make(source, names, rows=[row(names[0], (POINTS[0], (None, None), POINTS[2])), *map(row, names[1:])])
    summary = prepare(
        "folder",
        source=source,
        data_dir=tmp_path / "out",
        dataset_name="paws",
        chip_size=40,
        chip_factor=2,
        terms="our own paws",
    )
    assert sum(prepared.splits("paws", tmp_path / "out").values()) == 40
    assert "paws: 3 points, 40 px chips at 2 x the box" in str(summary)
    assert prepared.meta("paws", tmp_path / "out")["terms"] == "our own paws"
    by_name = {
        record["name"]: record
        for split in summary.counts
        for record in prepared.source("paws", split, tmp_path / "out")
    }
    record = by_name["0.png"]
    np.testing.assert_array_equal(record["visible"], [True, False, True])
    np.testing.assert_array_equal(record["landmarks"][1], [0, 0])
    np.testing.assert_array_equal(record["box"], [10, 12, 25, 33])
    back = geometry.apply(
        geometry.invert(record["image_to_chip"].astype(float)), record["landmarks"].astype(float)
    )
    np.testing.assert_allclose(back[[0, 2]], [POINTS[0], POINTS[2]], atol=1e-4)
    assert prepared.meta("paws", tmp_path / "out")["scheme"]["names"] == ["p0", "p1", "p2"]


def test_a_68_point_folder_is_not_a_face(tmp_path):
    points = [(5 + i % 9, 5 + i // 9) for i in range(68)]
    root = make(tmp_path / "spine", [f"{i}.png" for i in range(8)], rows=[])
    header = ",".join(f"x{i},y{i}" for i in range(68))
    (root / "points.csv").write_text(
        "\n".join([f"path,{header}", *(row(f"{i}.png", points) for i in range(8))])
    )
    scheme = Builder.survey(root).scheme
    assert scheme.count == 68 and scheme.flip is None and scheme.eye_corners is None


def test_points_follow_the_exif_rotation(source, tmp_path):
    turned = Image.new("RGB", (50, 60))
    turned.paste((255, 255, 255), (14, 40 - 30, 20, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise: 60 wide, 50 high
    turned.save(source / "0.jpg", exif=exif)
    make(
        source,
        [f"{i}.png" for i in range(40)],
        rows=[row("0.jpg", ((9, 14), (49, 14), (9, 19))), *(row(f"{i}.png") for i in range(1, 40))],
    )
    (source / "0.png").unlink()
    summary = prepare("folder", source=source, data_dir=tmp_path / "out", chip_size=32)
    assert not any(
        "outside" in note for note in summary.notes
    )  # x = 49 would be outside the stored 50 x 60 px


def test_scheme_from_the_folder_a_file_or_an_object(source, tmp_path):
    save_scheme(PAW, tmp_path / "paw.json")
    assert Builder.survey(source, scheme=PAW).scheme == PAW
    assert Builder.survey(source, scheme=tmp_path / "paw.json").scheme == PAW
    save_scheme(PAW, source / "other.json")
    assert Builder.survey(source, scheme="other.json").scheme == PAW
    save_scheme(PAW, source / "scheme.json")
    assert Builder.survey(source).scheme == PAW
    prepare("folder", source=source, data_dir=tmp_path / "out", chip_size=32)
    meta = prepared.meta("folder", tmp_path / "out")
    assert Scheme.from_dict(meta["scheme"]) == PAW
    assert Scheme.from_dict(json.loads(json.dumps(meta))["scheme"]) == PAW


def test_boxes_take_the_place_of_tight_boxes(source):
    rows = [f"{i}.png,1,2,50,40" for i in range(40)]
    (source / "boxes.csv").write_text("\n".join(["path,x0,y0,x1,y1", *rows]))
    photos = Builder.survey(source, boxes="boxes.csv").splits["train"]
    np.testing.assert_array_equal(photos[0].box, [1, 2, 50, 40])


def test_splits_by_hash_and_holds_still(source):
    before = split_of(Builder.survey(source))
    for name, split in before.items():
        fraction = hash_fraction(name)
        bins = ["validation", "calibration", "test", *["train"] * 7]
        assert split == bins[int(fraction * 10)]
    make(source, [f"{i}.png" for i in range(200)])
    after = split_of(Builder.survey(source))
    assert {name: after[name] for name in before} == before
    assert set(after.values()) == {"train", "validation", "calibration", "test"}


def test_official_folders_decide_the_test_split(tmp_path):
    names = [f"{split}/{i}.png" for split in ("train", "test") for i in range(30)]
    survey = Builder.survey(make(tmp_path / "spine", names))
    assert {photo.name for photo in survey.splits["test"]} == {f"test/{i}.png" for i in range(30)}
    assert all(survey.splits[split] for split in ("train", "validation", "calibration"))


def test_small_sets_have_every_split(tmp_path):
    survey = Builder.survey(make(tmp_path / "four", [f"{i}.png" for i in range(4)]))
    assert {split: len(photos) for split, photos in survey.splits.items()} == dict.fromkeys(
        ("train", "validation", "calibration", "test"), 1
    )


def test_refuses_a_set_too_small_to_split(tmp_path):
    refused(make(tmp_path / "three", ["a.png", "b.png", "c.png"]), tmp_path, "3 photos cannot be split")


def test_reads_pts_beside_the_images(source, tmp_path):
    (source / "points.csv").unlink()
    for i in range(30):
        (source / f"{i}.pts").write_text("".join(f"{x + 1} {y + 1}\n" for x, y in POINTS))
    survey = Builder.survey(source)
    np.testing.assert_array_equal(survey.splits["train"][0].landmarks, POINTS)
    assert any("10 images without points left out" in note for note in survey.notes)
    (source / "3.pts").write_text("1 2\n3 4\n")
    refused(source, tmp_path, "3.pts has 2 points, not 3")


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (["nowhere.png,1,2,3,4,5,6"], "lists nowhere.png, which is not in"),
        (["../x.png,1,2,3,4,5,6"], r"lists ../x.png: write paths as they are below"),
        (["/etc/x.png,1,2,3,4,5,6"], "lists /etc/x.png: write paths"),
        (["0.png,1,2,,,,"], "0.png: its points span no box"),
        (["0.png,1,2,1,2,1,2"], "0.png: its points span no box"),
        (["0.png,1,2"], r"row 2 \(0.png\) has 3 fields and the header 7"),
    ],
)
def test_refuses_bad_rows(source, tmp_path, rows, match):
    names = [f"{i}.png" for i in range(1, 40)]
    make(source, names, rows=[*rows, *map(row, names)])
    refused(source, tmp_path, match)


def test_refuses_points_of_another_image(source, tmp_path):
    names = [f"{i}.png" for i in range(40)]
    make(source, names, rows=[row("0.png", ((10, 10), (20, 20), (150, 10))), *map(row, names[1:])])
    refused(source, tmp_path, r"0.png: a point of 0.png lies 90 px outside the 60 x 50 px image")


def test_refuses_a_folder_without_points(source, tmp_path):
    (source / "points.csv").unlink()
    refused(source, tmp_path, "has no points.csv and no .pts files")


def test_refuses_a_missing_points_file(source, tmp_path):
    refused(source, tmp_path, "labels.csv: no such file, neither in", points="labels.csv")


def test_refuses_a_scheme_of_another_size(source, tmp_path):
    refused(source, tmp_path, "scheme 300w has 68 points and the images in .* have 3", scheme="300w")


def test_refuses_an_unknown_scheme(source, tmp_path):
    refused(source, tmp_path, "unknown scheme '300v'", scheme="300v")


def test_refuses_boxes_that_do_not_fit(source, tmp_path):
    (source / "boxes.csv").write_text("path,x0,y0,x1,y1\n0.png,1,2,50,40\n")
    refused(source, tmp_path, r"has no box for 1.png.*\(38 more", boxes="boxes.csv")
    rows = [f"{i}.png,1,2,50,40" for i in range(40)]
    (source / "boxes.csv").write_text("\n".join(["path,x0,y0,x1,y1", *rows, "0.png,1,2,50,41"]))
    refused(source, tmp_path, "has several boxes for 0.png", boxes="boxes.csv")


def test_refuses_a_truncated_image(source, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (50, 60, 3), np.uint8)).save(source / "7.png")
    (source / "7.png").write_bytes((source / "7.png").read_bytes()[:2000])
    refused(source, tmp_path, "7.png")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_takes_images_of_every_mode(source, tmp_path, mode):
    if mode == "CMYK":
        Image.new("RGB", (60, 50)).convert("CMYK").save(source / "0.png", format="TIFF")
    elif mode == "I;16":
        Image.fromarray(np.full((50, 60), 30000, np.uint16)).save(source / "0.png")
    else:
        Image.new("RGB", (60, 50)).convert(mode).save(source / "0.png")
    summary = prepare("folder", source=source, data_dir=tmp_path / "out", chip_size=32)
    assert sum(sum(counts.values()) for counts in summary.counts.values()) == 40
