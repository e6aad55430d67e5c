"""Prepared sets by name, and TFDS sets that lapjax did not prepare."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from lapjax import geometry
from lapjax.datasets import prepared
from lapjax.errors import LapjaxError
from lapjax.images import read_image
from lapjax.schemes import anonymous

POINTS = np.array([[10.0, 8], [30, 9], [20, 25]], np.float32)
SCHEME = anonymous(3, "three")


class Other(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS set of somebody else's: images of any size, points in their pixels."""

    VERSION = tfds.core.Version("2.0.0")
    FEATURES = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "landmarks": tfds.features.Tensor(shape=(3, 2), dtype=np.float32),
        "filename": tfds.features.Text(),
    }

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, description="three points", features=tfds.features.FeaturesDict(self.FEATURES)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(4), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for i in range(count):
            image = io.BytesIO()
            Image.new("RGB", (50 + i, 40), (200, 50 * i, 0)).save(image, "PNG")
            points = POINTS.copy()
            if i == 1:
                points[2] = np.nan
            values = {"image": image.getvalue(), "landmarks": points, "filename": f"{i}.png", "label": i}
            yield i, {key: value for key, value in values.items() if key in self.FEATURES}


def write(tmp_path, features=None, name="other"):
    tfds.disable_progress_bar()
    cls = type(
        "Builder", (Other,), {"name": name, "FEATURES": features or Other.FEATURES}, skip_registration=True
    )
    cls(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    return tmp_path


def test_reads_a_set_of_somebody_else_by_name(tmp_path):
    write(tmp_path)
    assert prepared.splits("other", tmp_path) == {"train": 4, "test": 2}
    meta = prepared.meta("other", tmp_path, scheme=SCHEME)
    assert (meta["dataset"], meta["chip_size"], meta["unlabelled"]) == ("other", 192, False)
    records = prepared.source("other", "train", tmp_path, scheme=SCHEME)
    assert len(records) == 4
    by_name = {record["name"]: record for record in records}
    assert sorted(by_name) == ["0.png", "1.png", "2.png", "3.png"]
    record = by_name["1.png"]
    np.testing.assert_array_equal(record["visible"], [True, True, False])
    np.testing.assert_array_equal(record["landmarks"][2], [0, 0])
    np.testing.assert_allclose(record["box"], [10, 8, 30, 9])
    back = geometry.apply(
        geometry.invert(record["image_to_chip"].astype(float)), record["landmarks"].astype(float)
    )
    np.testing.assert_allclose(back[:2], POINTS[:2], atol=1e-4)
    chip = read_image(record["image"])
    assert chip.shape == (192, 192, 3)
    np.testing.assert_allclose(chip.reshape(-1, 3).mean(0), [200, 50, 0], atol=3)


def test_names_the_records_of_a_set_without_names(tmp_path):
    features = {key: Other.FEATURES[key] for key in ("image", "landmarks")}
    write(tmp_path, features)
    records = prepared.source("other", "test", tmp_path, scheme=SCHEME)
    assert [record["name"] for record in records] == ["other/test/0", "other/test/1"]
    assert records[-1]["name"] == "other/test/1"
    with pytest.raises(IndexError):
        records[2]


def test_a_set_of_somebody_else_needs_a_scheme_that_fits(tmp_path):
    write(tmp_path)
    with pytest.raises(
        LapjaxError, match="other has 3 landmarks and does not say what they are: give a scheme"
    ):
        prepared.meta("other", tmp_path)
    with pytest.raises(LapjaxError, match="other has 3 landmarks and scheme five 5"):
        prepared.source("other", "train", tmp_path, scheme="five")


@pytest.mark.parametrize(
    ("features", "match"),
    [
        (
            {"image": Other.FEATURES["image"]},
            r"has no feature `landmarks` of shape \(K, 2\).* image \(None, None, 3\)",
        ),
        (
            {**Other.FEATURES, "landmarks": tfds.features.Tensor(shape=(6,), dtype=np.float32)},
            r"has no feature `landmarks` of shape \(K, 2\)",
        ),
        (
            {**Other.FEATURES, "landmarks": tfds.features.Tensor(shape=(3, 2), dtype=np.int64)},
            r"a float type",
        ),
        ({"landmarks": Other.FEATURES["landmarks"]}, "has no image feature `image`"),
    ],
)
def test_refuses_sets_without_landmarks_or_images(tmp_path, features, match):
    builder = type("Builder", (Other,), {"name": "other", "FEATURES": features}, skip_registration=True)(
        data_dir=tmp_path
    )
    with pytest.raises(LapjaxError, match=match):
        prepared._meta(builder, SCHEME)


def test_unknown_names_and_splits(tmp_path):
    write(tmp_path)
    with pytest.raises(LapjaxError, match=r"no prepared set 'lfw' in .* \(it has other\): prepare it"):
        prepared.splits("lfw", tmp_path)
    for name in ("", "../other", "Other set!"):
        with pytest.raises(LapjaxError, match="no prepared set"):
            prepared.splits(name, tmp_path)
    with pytest.raises(LapjaxError, match="other has no split 'val': it has train, test"):
        prepared.source("other", "val", tmp_path, scheme=SCHEME)
    with pytest.raises(LapjaxError, match=r"\(it has none\)"):
        prepared.splits("other", tmp_path / "nowhere")
