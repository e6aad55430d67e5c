"""Batches are a pure function of the step, the same from both sources."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from lapjax import data, geometry
from lapjax.datasets.prepare import prepare
from lapjax.errors import LapjaxError
from lapjax.samples import EncodedChips, Samples
from lapjax.schemes import anonymous

N, SIZE, K, BATCH = 11, 16, 3, 4


def samples(count=N, points=K):
    """Faces that differ from each other in every column."""
    rng = np.random.default_rng(0)
    return Samples(
        images=rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8),
        landmarks=rng.uniform(0, SIZE, (count, points, 2)).astype(np.float32),
        visible=rng.random((count, points)) < 0.7,
        box=rng.uniform(0, 99, (count, 4)).astype(np.float32),
        image_to_chip=np.zeros((count, 2, 3), np.float32),
        name=np.array([f"{i}" for i in range(count)]),
        subset=np.full(count, ""),
        scheme=anonymous(points),
        meta={"dataset": "made", "split": "train", "chip_size": SIZE, "quality": 95},
    )


def batch(source, step, **shard):
    return jax.tree.map(np.asarray, source.gather(source.send(step), **shard))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_order_is_a_permutation_an_epoch():
    stream = data.order(3, 0, 5 * N, count=N).reshape(5, N)
    np.testing.assert_array_equal(np.sort(stream, axis=1), np.tile(np.arange(N), (5, 1)))
    assert len({tuple(epoch) for epoch in stream}) == 5
    assert stream.dtype == np.int32
    assert not np.array_equal(stream[0], data.order(4, 0, N, count=N))


def test_order_is_the_same_wherever_it_starts():
    stream = data.order(0, 0, 100, count=N)
    for start, size in [(0, 1), (10, 2), (9, 30), (57, 43)]:
        np.testing.assert_array_equal(data.order(0, start, size, count=N), stream[start : start + size])
    # Far along the stream nothing before it is drawn.
    assert set(data.order(0, N * 10**9, N, count=N)) == set(range(N))


def test_order_is_pinned():
    # What a checkpoint resumes to: the stream of a seed must not move between versions.
    np.testing.assert_array_equal(data.order(0, 0, 8, count=8), [2, 4, 3, 6, 5, 0, 1, 7])


def test_batches_run_on_across_the_border_of_an_epoch():
    made = samples()
    source = data.Resident(made, BATCH, 7)
    rows = np.concatenate([batch(source, step)["landmarks"] for step in range(N)])
    np.testing.assert_array_equal(rows, made.landmarks[data.order(7, 0, N * BATCH, count=N)])


@pytest.mark.parametrize("kind", [data.Resident, data.Streamed])
def test_a_batch_has_images_landmarks_visible(kind):
    found = batch(kind(samples(), BATCH, 0), 5)
    shapes = {name: (value.shape, value.dtype.name) for name, value in found.items()}
    assert shapes == {
        "images": ((BATCH, SIZE, SIZE, 3), "uint8"),
        "landmarks": ((BATCH, K, 2), "float32"),
        "visible": ((BATCH, K), "bool"),
    }


@pytest.mark.parametrize("kind", [data.Resident, data.Streamed])
def test_labels_of_models_bring_their_scale(kind):
    made = dataclasses.replace(samples(), scale=np.arange(N * K, dtype=np.float32).reshape(N, K))
    source = kind(made, BATCH, 0)
    np.testing.assert_array_equal(batch(source, 1)["scale"], made.scale[data.order(0, BATCH, BATCH, count=N)])


@pytest.mark.parametrize("points", [0, K])
@pytest.mark.parametrize("batch_size", [1, BATCH, 2 * N + 3])
def test_streamed_and_resident_deliver_the_same_rows(points, batch_size):
    made = samples(points=points)
    resident, streamed = data.Resident(made, batch_size, 5), data.Streamed(made, batch_size, 5)
    for step in [0, 1, 2, 3, 30, 31, 2, 2, 0]:  # in order, ahead, back and again
        assert_same(batch(resident, step), batch(streamed, step))


def test_a_set_smaller_than_a_batch_repeats():
    found = batch(data.Resident(samples(3), 8, 0), 0)
    assert found["images"].shape[0] == 8


def test_another_seed_is_another_order():
    made = samples()
    first, second = batch(data.Resident(made, BATCH, 0), 0), batch(data.Resident(made, BATCH, 1), 0)
    assert not np.array_equal(first["landmarks"], second["landmarks"])


@pytest.mark.parametrize("kind", [data.Resident, data.Streamed])
def test_gather_under_jit_with_a_traced_shard(kind):
    source = kind(samples(), BATCH, 0)
    gather = jax.jit(source.gather, static_argnames="count")
    for step in (0, 4):
        whole = batch(source, step)
        assert_same(jax.tree.map(np.asarray, gather(source.send(step))), whole)
        halves = [gather(source.send(step), np.int32(offset), count=2) for offset in (0, 2)]
        assert_same(jax.tree.map(lambda *rows: np.concatenate(rows), *halves), whole)
    assert gather._cache_size() == 2


def test_resident_chips_are_sent_to_the_device_once():
    source = data.Resident(samples(), BATCH, 0)
    first, later = source.send(0), source.send(9)
    assert all(
        a is b for a, b in zip(jax.tree.leaves(first["faces"]), jax.tree.leaves(later["faces"]), strict=True)
    )
    assert first["indices"].shape == (BATCH,) and first["indices"].dtype == np.int32


def test_resident_chips_go_where_they_are_put():
    placed = []
    data.Resident(samples(), BATCH, 0, put=lambda tree: placed.append(tree) or tree)
    assert set(placed[0]) == {"images", "landmarks", "visible"}


def test_source_keeps_on_the_device_what_fits():
    made = samples()
    bytes_ = made.images.nbytes
    assert isinstance(data.source(made, BATCH, 0), data.Resident)
    assert isinstance(data.source(made, BATCH, 0, limit=bytes_), data.Resident)
    assert isinstance(data.source(made, BATCH, 0, limit=bytes_ - 1), data.Streamed)
    assert isinstance(data.source(made, BATCH, 0, resident=True, limit=0), data.Resident)
    assert isinstance(data.source(made, BATCH, 0, resident=False), data.Streamed)


def test_a_pack_streams_without_decoding_more_than_it_sends(tmp_path):
    path = tmp_path / "made.npz"
    data.write_pack(path, {"train": samples(200)})
    decoded, whole = [], data.load_dataset(path, "train")
    lazy = data.load_dataset(path, "train", encoded=True)
    read = lazy.images._read
    lazy.images._read = lambda row: decoded.append(row) or read(row)
    streamed = data.Streamed(lazy, BATCH, 1, ahead=2)
    assert_same(batch(streamed, 3), batch(data.Resident(whole, BATCH, 1), 3))
    assert len(decoded) < 100
    assert_same(batch(data.source(lazy, BATCH, 1), 3), batch(data.Resident(whole, BATCH, 1), 3))


@pytest.mark.parametrize("kind", [data.Resident, data.Streamed])
def test_bad_requests(kind):
    with pytest.raises(LapjaxError, match="no faces"):
        kind(samples().take(slice(0)), BATCH, 0)
    with pytest.raises(LapjaxError, match="batch_size 0"):
        kind(samples(), 0, 0)
    with pytest.raises(LapjaxError, match="seed -1"):
        kind(samples(), BATCH, -1)


def test_streaming_without_grain_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(LapjaxError, match="needs grain: .*resident=True"):
        data.Streamed(samples(), BATCH, 0)


def test_a_pack_by_name(tmp_path):
    path = tmp_path / "made.npz"
    data.write_pack(path, {"train": samples(), "test": samples(5)})
    assert data.splits(str(path)) == {"train": N, "test": 5}
    assert (
        len(data.load_dataset(path, "test")) == 5 and len(data.load_dataset(str(path), "train", limit=2)) == 2
    )
    with pytest.raises(LapjaxError, match="limit 0"):
        data.load_dataset(path, "train", limit=0)
    with pytest.raises(LapjaxError, match="no split 'common'"):
        data.load_dataset(path, "common")


@pytest.fixture
def prepared(tmp_path):
    """A data directory with `spots`, 30 images of four points of which the last is not always labelled."""
    rng, source = np.random.default_rng(0), tmp_path / "source"
    source.mkdir()
    rows = ["path,x0,y0,x1,y1,x2,y2,x3,y3"]
    for i in range(30):
        image = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(12, axis=0).repeat(12, axis=1)
        Image.fromarray(image).save(source / f"{i}.png")
        rows.append(f"{i}.png,20,20,{50 + i},25,40,60,{'' if i % 3 else 30},{'' if i % 3 else 40}")
    (source / "points.csv").write_text("\n".join(rows) + "\n")
    prepare(
        "folder", source=source, data_dir=tmp_path / "data", dataset_name="spots", chip_size=32, quality=90
    )
    return tmp_path / "data"


def test_a_prepared_set_by_name(prepared):
    counts = data.splits("spots", data_dir=prepared)
    assert sum(counts.values()) == 30
    found = data.load_dataset("spots", "train", data_dir=prepared)
    assert len(found) == counts["train"] and found.images.shape[1:] == (32, 32, 3)
    dtypes = [
        getattr(found, column).dtype.name for column in ("landmarks", "visible", "box", "image_to_chip")
    ]
    assert dtypes == ["float32", "bool", "float32", "float32"]
    assert found.name.dtype.kind == found.subset.dtype.kind == "U"
    assert found.scheme.count == 4 and not found.visible.all() and not found.landmarks[~found.visible].any()
    expected = {"dataset": "spots", "split": "train", "chip_size": 32, "quality": 90, "unlabelled": False}
    assert expected.items() <= found.meta.items() and found.meta["chip_factor"] > 1 and found.meta["terms"]
    # The points of the first chip are those of its row in the image.
    image_points = geometry.apply(geometry.invert(found.image_to_chip), found.landmarks)
    row = [int(name.split("/")[-1].split(".")[0]) for name in found.name]
    np.testing.assert_allclose(image_points[:, 1], [[50 + i, 25] for i in row], atol=1e-3)


def test_a_prepared_set_encoded_or_packed_is_the_same(prepared, tmp_path):
    whole = data.load_dataset("spots", "train", data_dir=prepared)
    lazy = data.load_dataset("spots", "train", data_dir=prepared, encoded=True)
    assert isinstance(lazy.images, EncodedChips)
    data.write_pack(tmp_path / "spots.npz", {"train": lazy})
    for other in (lazy, data.load_dataset(tmp_path / "spots.npz", "train")):
        for column in ("images", "landmarks", "visible", "box", "image_to_chip", "name", "subset"):
            np.testing.assert_array_equal(np.asarray(getattr(other, column)), getattr(whole, column))
        assert (other.scheme, other.meta) == (whole.scheme, whole.meta)
    resident, streamed = data.Resident(whole, BATCH, 0), data.Streamed(lazy, BATCH, 0)
    for step in (0, 1, 9):
        assert_same(batch(resident, step), batch(streamed, step))


def test_part_of_a_prepared_set_and_a_scheme_of_ones_own(prepared):
    part = data.load_dataset(
        "spots", "train", data_dir=prepared, limit=3, scheme=anonymous(4, name="corners")
    )
    assert len(part) == 3 and part.scheme.name == "corners"
    with pytest.raises(LapjaxError, match="4 landmarks"):
        data.load_dataset("spots", "train", data_dir=prepared, scheme="300w")


def test_an_unknown_set_or_split_names_those_present(prepared):
    with pytest.raises(LapjaxError, match="no prepared set 'dots'.*spots"):
        data.load_dataset("dots", "train", data_dir=prepared)
    with pytest.raises(LapjaxError, match="no prepared set 'dots'.*spots"):
        data.splits("dots", data_dir=prepared)
    with pytest.raises(LapjaxError, match="no split 'common': it has .*train"):
        data.load_dataset("spots", "common", data_dir=prepared)


def test_toy_faces_are_drawn_when_asked_for(tmp_path):
    counts = data.splits("toy_faces", data_dir=tmp_path)
    assert counts["train"] > 1000 and "test" in counts
    found = data.load_dataset("toy_faces", "test", data_dir=tmp_path, limit=2)
    assert len(found) == 2 and found.scheme.count == 68 and found.meta["split"] == "test"
    mine = data.load_dataset("toy_faces", "test", data_dir=tmp_path, limit=1, scheme=anonymous(68))
    assert mine.scheme.name == "points"
    with pytest.raises(LapjaxError, match="no split 'common': it has train"):
        data.load_dataset("toy_faces", "common", data_dir=tmp_path, limit=2)
    assert not list(tmp_path.iterdir())


def test_the_scheme_of_a_pack_can_be_replaced(tmp_path):
    path = tmp_path / "made.npz"
    data.write_pack(path, {"train": samples()})
    assert data.load_dataset(path, "train", scheme=anonymous(K, name="mine")).scheme.name == "mine"
    with pytest.raises(LapjaxError, match="landmarks has shape .*scheme 300w with 68"):
        data.load_dataset(path, "train", scheme="300w")


def test_the_data_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LAPJAX_DATA_DIR", raising=False)
    assert data.data_directory() == tmp_path / ".cache" / "lapjax"
    monkeypatch.setenv("LAPJAX_DATA_DIR", str(tmp_path / "a"))
    assert data.data_directory() == tmp_path / "a"
    assert data.data_directory("~/b") == tmp_path / "b"


def test_batches_of_a_pack_need_no_tfds_grain_tyro_or_beartype(tmp_path):
    path = tmp_path / "made.npz"
    data.write_pack(path, {"train": samples()})
    blocked = "tensorflow_datasets tensorflow grain tyro beartype array_record"
    code = f"""
import sys
sys.modules.update(dict.fromkeys({blocked.split()!r}))
from lapjax import data
source = data.source(data.load_dataset({str(path)!r}, "train"), 4, 0)
assert source.gather(source.send(2))["images"].shape == (4, {SIZE}, {SIZE}, 3)
assert len(data.load_dataset("toy_faces", "train", data_dir={str(tmp_path)!r}, limit=1)) == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
