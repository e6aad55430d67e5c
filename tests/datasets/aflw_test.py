"""AFLW from a made AFLWinfo_release.mat beside drawn images."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

from lapjax import geometry
from lapjax.datasets import prepared
from lapjax.datasets.aflw import aflw_dataset_builder
from lapjax.datasets.prepare import prepare
from lapjax.errors import LapjaxError

FACES, TRAIN = 30, 20


def table():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(20, 60, (FACES, 19)), rng.uniform(10, 40, (FACES, 19))
    mask = np.ones((FACES, 19))
    mask[::3, 4] = 0
    names = np.empty((FACES, 1), object)
    # Two faces in every photograph.
    names[:, 0] = [f"{row // 2 % 3}/image{row // 2:05d}.jpg" for row in range(FACES)]
    return {
        "data": np.concatenate([x, y], axis=1),
        "bbox": np.stack([x.min(1) - 5, x.max(1) + 5, y.min(1) - 6, y.max(1) + 6], axis=1),
        "mask_new": mask,
        "nameList": names,
        "ra": (rng.permutation(FACES) + 1)[None],
    }


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(aflw_dataset_builder, "TRAIN", TRAIN)
    root, fields = tmp_path / "aflw", table()
    for (name,) in fields["nameList"]:
        path = root / "data/flickr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 50), (100, 100, 50)).save(path)
    scipy.io.savemat(root / "AFLWinfo_release.mat", fields)
    return root


def refused(source, tmp_path, match):
    with pytest.raises(LapjaxError, match=match):
        prepare("aflw", source=source, data_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists(), "something was written before the error"


def rewrite(source, **changes):
    fields = {**table(), **changes}
    scipy.io.savemat(
        source / "AFLWinfo_release.mat", {key: value for key, value in fields.items() if value is not None}
    )


def test_prepares_the_release(source, tmp_path):
    fields = table()
    summary = prepare("aflw", source=source, data_dir=tmp_path / "out", chip_size=64)
    assert {split: sum(counts.values()) for split, counts in summary.counts.items()}["test"] == FACES - TRAIN
    assert "30 of the 24386 faces" in str(summary)
    order = fields["ra"][0] - 1
    expected = {f"{fields['nameList'][row, 0]}#{row + 1}" for row in order[TRAIN:]}
    records = {record["name"]: record for record in prepared.source("aflw", "test", tmp_path / "out")}
    assert set(records) == expected
    for name, record in records.items():
        row = int(name.split("#")[1]) - 1
        left, right, top, bottom = fields["bbox"][row]
        np.testing.assert_allclose(record["box"], [left, top, right, bottom], rtol=1e-6)
        np.testing.assert_array_equal(record["visible"], fields["mask_new"][row] > 0)
        assert record["subset"] == ("rest" if row % 3 == 0 else "frontal")
        back = geometry.apply(
            geometry.invert(record["image_to_chip"].astype(float)), record["landmarks"].astype(float)
        )
        points = np.stack([fields["data"][row, :19], fields["data"][row, 19:]], axis=-1)
        np.testing.assert_allclose(back[record["visible"]], points[record["visible"]], atol=1e-3)
    assert prepared.meta("aflw", tmp_path / "out")["scheme"]["name"] == "aflw"


def test_photographs_stay_together_within_training(source):
    splits = aflw_dataset_builder.Builder.survey(source).splits
    photographs = [
        {photo.path for photo in splits[split]} for split in ("train", "validation", "calibration")
    ]
    assert all(photographs)
    assert sum(map(len, photographs)) == len(set.union(*photographs))


def test_refuses_without_annotations(source, tmp_path):
    (source / "AFLWinfo_release.mat").unlink()
    refused(source, tmp_path, "AFLWinfo_release.mat: no such file")


def test_refuses_a_file_that_is_no_mat(source, tmp_path):
    (source / "AFLWinfo_release.mat").write_text("text")
    refused(source, tmp_path, "cannot be read as a .mat file")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"mask_new": None}, "has no mask_new"),
        ({"data": np.zeros((FACES, 42))}, r"data is \(30, 42\) and must be \(30, 38\)"),
        ({"bbox": np.full((FACES, 4), np.nan)}, "bbox is .* all finite"),
        ({"bbox": np.ones((FACES, 4))}, "bbox of face 1 has no extent"),
        ({"ra": np.arange(FACES)[None]}, "ra is not a permutation of 1 to 30"),
        ({"nameList": table()["nameList"][1:]}, "nameList has 29 names for 30 faces"),
    ],
)
def test_refuses_bad_fields(source, tmp_path, changes, match):
    rewrite(source, **changes)
    refused(source, tmp_path, match)


def test_refuses_missing_images(source, tmp_path):
    (source / "data/flickr/0/image00000.jpg").unlink()
    refused(source, tmp_path, "image00000.jpg, which AFLWinfo_release.mat names, is not there")


def test_refuses_a_part_of_the_faces(source, tmp_path, monkeypatch):
    monkeypatch.setattr(aflw_dataset_builder, "TRAIN", 20000)
    refused(source, tmp_path, "has 30 faces, and the first 20000 are for training")
