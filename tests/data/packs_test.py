"""Packs: what goes in comes out, smaller chips keep their points, and a damaged file is refused."""

import dataclasses
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from lapjax import geometry
from lapjax.data.packs import pack_splits, read_pack, write_pack
from lapjax.errors import LapjaxError
from lapjax.samples import EncodedChips, Samples
from lapjax.schemes import anonymous


def samples(count=5, points=3, size=32, seed=0, split="train"):
    """Smooth chips with a bright dot on every visible landmark."""
    rng = np.random.default_rng(seed)
    landmarks = rng.uniform(6, size - 7, (count, points, 2)).astype(np.float32)
    visible = rng.random((count, points)) < 0.8
    y, x = np.mgrid[:size, :size]
    images = np.full((count, size, size), 20.0)
    for i, k in np.argwhere(visible):
        images[i] += 200 * np.exp(-((x - landmarks[i, k, 0]) ** 2 + (y - landmarks[i, k, 1]) ** 2) / 8)
    matrix = np.array([[0.5, 0, 3], [0, 0.5, -2]], np.float32)
    return Samples(
        images=np.repeat(images.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1),
        landmarks=np.where(visible[..., None], landmarks, 0).astype(np.float32),
        visible=visible,
        box=rng.uniform(0, 100, (count, 4)).astype(np.float32),
        image_to_chip=np.repeat(matrix[None], count, axis=0),
        name=np.array([f"dir/face_{i}é" for i in range(count)]),
        subset=np.array(["a", "bcd"])[np.arange(count) % 2],
        scheme=anonymous(points),
        meta={
            "dataset": "made",
            "split": split,
            "chip_size": size,
            "chip_factor": 1.8,
            "quality": 95,
            "terms": "none",
            "unlabelled": points == 0,
        },
    )


@pytest.fixture
def pack(tmp_path):
    path = tmp_path / "made.npz"
    write_pack(path, {"train": samples(), "test": samples(2, seed=1, split="test")})
    return path


def test_every_column_comes_back(pack):
    written, found = samples(), read_pack(pack, "train")
    for column in ("landmarks", "visible", "box", "image_to_chip", "name", "subset"):
        np.testing.assert_array_equal(getattr(found, column), getattr(written, column))
        assert getattr(found, column).dtype == getattr(written, column).dtype
    assert found.images.dtype == np.uint8
    assert np.abs(found.images.astype(float) - written.images).max() < 12  # JPEG at quality 95
    assert (found.scheme, found.meta) == (written.scheme, written.meta)
    assert pack_splits(pack) == {"train": 5, "test": 2}


def test_unlabelled_faces_have_no_landmarks(tmp_path):
    write_pack(tmp_path / "u.npz", {"train": samples(points=0)})
    found = read_pack(tmp_path / "u.npz", "train")
    assert found.landmarks.shape == (5, 0, 2) and found.scheme.count == 0 and found.meta["unlabelled"]


def test_encoded_chips_decode_on_access(pack):
    whole, lazy = read_pack(pack, "train"), read_pack(pack, "train", encoded=True)
    assert isinstance(lazy.images, EncodedChips) and lazy.images.shape == whole.images.shape
    np.testing.assert_array_equal(lazy.images[3], whole.images[3])
    part = lazy.take(np.array([4, 1]))
    assert isinstance(part.images, EncodedChips) and list(part.name) == list(whole.name[[4, 1]])
    np.testing.assert_array_equal(np.asarray(part.images), whole.images[[4, 1]])
    np.testing.assert_array_equal(np.asarray(lazy.take(slice(2)).images, np.float32), whole.images[:2])


def test_limit_takes_the_first(pack):
    whole, part = read_pack(pack, "train"), read_pack(pack, "train", limit=2)
    assert len(part) == 2
    np.testing.assert_array_equal(part.images, whole.images[:2])
    assert len(read_pack(pack, "train", limit=99)) == 5


def test_take_by_mask(pack):
    whole = read_pack(pack, "train")
    part = whole.take(whole.subset == "a")
    assert len(part) == 3 and set(part.subset) == {"a"}


def test_unchanged_encoded_chips_are_copied_not_encoded_again(pack, tmp_path):
    lazy = read_pack(pack, "train", encoded=True)
    write_pack(tmp_path / "copy.npz", {"train": lazy})
    copy = read_pack(tmp_path / "copy.npz", "train", encoded=True)
    assert [copy.images.stored(i) for i in range(5)] == [lazy.images.stored(i) for i in range(5)]


def test_the_same_faces_give_the_same_file(pack, tmp_path):
    write_pack(tmp_path / "again.npz", {"train": samples(), "test": samples(2, seed=1, split="test")})
    assert (tmp_path / "again.npz").read_bytes() == pack.read_bytes()


def test_smaller_chips_keep_their_points(tmp_path):
    written = samples(count=8, points=1, size=64)
    write_pack(tmp_path / "small.npz", {"train": written}, chip_size=32, quality=90)
    found = read_pack(tmp_path / "small.npz", "train")
    assert found.images.shape == (8, 32, 32, 3)
    assert (found.meta["chip_size"], found.meta["quality"]) == (32, 90)
    y, x = np.mgrid[:32, :32]
    for i in range(8):
        if not found.visible[i, 0]:
            np.testing.assert_array_equal(found.landmarks[i, 0], 0)
            continue
        # The dot is still under its landmark, and both transforms name the same place in the image.
        weight = (found.images[i, ..., 0].astype(float) - 25).clip(0)
        centre = [(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()]
        np.testing.assert_allclose(found.landmarks[i, 0], centre, atol=0.15)
        before = geometry.apply(geometry.invert(written.image_to_chip[i]), written.landmarks[i])
        after = geometry.apply(geometry.invert(found.image_to_chip[i]), found.landmarks[i])
        np.testing.assert_allclose(after, before, atol=1e-4)


def test_the_scale_of_models_labels_is_kept_and_shrinks_with_the_chips(tmp_path):
    scale = np.random.default_rng(0).uniform(1, 5, (5, 3)).astype(np.float32)
    written = dataclasses.replace(samples(), scale=scale)
    write_pack(tmp_path / "whole.npz", {"train": written})
    np.testing.assert_array_equal(read_pack(tmp_path / "whole.npz", "train", limit=2).scale, scale[:2])
    write_pack(tmp_path / "small.npz", {"train": written.take([3, 1])}, chip_size=16)
    np.testing.assert_allclose(read_pack(tmp_path / "small.npz", "train").scale, scale[[3, 1]] / 2, rtol=1e-6)
    with pytest.raises(LapjaxError, match="scale has shape"):
        dataclasses.replace(written, scale=scale[:, 0])


def test_shrinking_is_antialiased(tmp_path):
    stripes = samples(count=1)
    stripes.images[:] = (np.arange(32) % 2 * 255).astype(np.uint8)[None, None, :, None]
    write_pack(tmp_path / "s.npz", {"train": stripes}, chip_size=8)
    assert read_pack(tmp_path / "s.npz", "train").images[0, :, 1:-1].std() < 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chip_size": 33}, "chip_size 33"),
        ({"chip_size": 0}, "chip_size 0"),
        ({"quality": 101}, "quality 101"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, words):
    with pytest.raises(LapjaxError, match=words):
        write_pack(tmp_path / "a.npz", {"train": samples()}, **options)
    assert not list(tmp_path.iterdir())


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(LapjaxError, match="at least one"):
        write_pack(tmp_path / "a.npz", {})
    with pytest.raises(LapjaxError, match="'test' has no faces"):
        write_pack(tmp_path / "a.npz", {"train": samples(), "test": samples().take(slice(0))})
    assert not list(tmp_path.iterdir())


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(LapjaxError, match=r"no pack at .*none\.npz.*lapjax prepare"):
        read_pack(tmp_path / "none.npz", "train")


def test_an_unknown_split_names_those_present(pack):
    with pytest.raises(LapjaxError, match=r"no split 'common': it has test, train"):
        read_pack(pack, "common")


@pytest.mark.parametrize("size", [0, 1, 3000])
def test_a_truncated_file_is_refused(pack, size):
    pack.write_bytes(pack.read_bytes()[:size])
    with pytest.raises(LapjaxError, match="not a lapjax pack, or only a part"):
        read_pack(pack, "train")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    for write in (
        lambda: path.write_text("hello"),
        lambda: np.savez(path, ground_truth=np.zeros(3)),
        lambda: np.savez(path, header=np.frombuffer(b"[1]", np.uint8)),
        lambda: np.savez(path, header=np.frombuffer(b'{"format": "x"}', np.uint8)),
        lambda: os.replace(_npy(tmp_path), path),
    ):
        write()
        with pytest.raises(LapjaxError, match="not a lapjax pack"):
            read_pack(path, "train")
    with pytest.raises(LapjaxError, match="cannot read the pack"):
        read_pack(tmp_path, "train")


def _npy(folder):
    np.save(folder / "array.npy", np.zeros(3))
    return folder / "array.npy"


def _altered(path, change):
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}
    change(columns)
    np.savez(path, **columns)


@pytest.mark.parametrize("column", ["jpeg", "landmarks", "name"])
def test_altered_contents_do_not_match_their_sha256(pack, column):
    def change(columns):
        columns[f"train/{column}"] = columns[f"train/{column}"][::-1]

    _altered(pack, change)
    with pytest.raises(LapjaxError, match="'train' does not match its sha256"):
        read_pack(pack, "train")
    assert len(read_pack(pack, "test")) == 2


def test_another_version_is_named(pack):
    def change(columns):
        header = json.loads(bytes(columns["header"])) | {"version": 7}
        columns["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)

    _altered(pack, change)
    with pytest.raises(LapjaxError, match="version 7.*write it again"):
        read_pack(pack, "train")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LapjaxError, match=r"cannot write the pack .*made\.npz"):
        write_pack(tmp_path / "file" / "made.npz", {"train": samples()})


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(LapjaxError, match="cannot write the pack"):
        write_pack(tmp_path / "made.npz", {"train": samples()})


def test_a_full_disk_leaves_the_old_pack(pack):
    before = pack.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2048, hard)
    )  # a write beyond it fails part-way, as on a full disk
    try:
        with pytest.raises(LapjaxError, match="cannot write the pack"):
            write_pack(pack, {"train": samples(20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert pack.read_bytes() == before and list(pack.parent.iterdir()) == [pack]


def test_columns_that_do_not_fit_are_named():
    with pytest.raises(LapjaxError, match=r"landmarks has shape \(5, 3, 2\), not \(5, 4, 2\).*scheme"):
        dataclasses.replace(samples(), scheme=anonymous(4))
    with pytest.raises(LapjaxError, match="box has shape"):
        dataclasses.replace(samples(), box=np.zeros((4, 4), np.float32))


def test_packs_need_numpy_and_pillow_only(pack):
    blocked = (
        "jax jaxlib flax tensorflow_datasets tensorflow grain tyro beartype jaxtyping array_record scipy rich"
    )
    code = f"""
import sys
sys.modules.update(dict.fromkeys({blocked.split()!r}))
from lapjax import data
assert len(data.load_dataset({str(pack)!r}, "train")) == 5
assert data.splits({str(pack)!r}) == {{"train": 5, "test": 2}}
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
