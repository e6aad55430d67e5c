"""Whole or nothing: where sets are written, what happens when that fails, and that it is the same every time."""

import os
import pathlib
import subprocess
import sys
import time

import pytest
from PIL import Image
from tensorflow_datasets.core import dataset_metadata

from lapjax.datasets import prepare as module
from lapjax.datasets import prepared
from lapjax.datasets.aflw import aflw_dataset_builder
from lapjax.datasets.face_folder import face_folder_dataset_builder
from lapjax.datasets.folder import folder_dataset_builder
from lapjax.datasets.prepare import prepare
from lapjax.datasets.the300w import the300w_dataset_builder
from lapjax.errors import LapjaxError


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "faces"
    root.mkdir()
    for i in range(6):
        Image.new("RGB", (40, 40), (i * 40, 100, 50)).save(root / f"{i}.jpg")
    return root


def run(source, data_dir, **options):
    return prepare("face_folder", source=source, data_dir=data_dir, **{"chip_size": 32, **options})


def files(data_dir):
    return {
        path.relative_to(data_dir).as_posix(): path.read_bytes()
        for path in sorted(data_dir.rglob("*"))
        if path.is_file()
    }


def test_is_the_same_every_time(source, tmp_path):
    run(source, tmp_path / "a")
    run(source, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_prepares_again_in_place(source, tmp_path):
    run(source, tmp_path / "out")
    Image.new("RGB", (40, 40)).save(source / "more.jpg")
    summary = run(source, tmp_path / "out", chip_size=48)
    assert summary.counts == {"train": {"": 7}}
    assert prepared.splits("face_folder", tmp_path / "out") == {"train": 7}
    assert prepared.meta("face_folder", tmp_path / "out")["chip_size"] == 48
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["face_folder"]


def test_keeps_what_another_source_made(source, tmp_path):
    run(source, tmp_path / "out")
    before = files(tmp_path / "out")
    other = source.rename(tmp_path / "other")
    with pytest.raises(
        LapjaxError, match=r"already holds a set made by face_folder from .*faces: .*another name"
    ):
        run(other, tmp_path / "out")
    assert files(tmp_path / "out") == before
    run(other, tmp_path / "out", dataset_name="other")
    assert prepared.splits("other", tmp_path / "out") == {"train": 6}


def test_keeps_a_folder_that_it_did_not_make(source, tmp_path):
    (tmp_path / "out/face_folder/notes").mkdir(parents=True)
    with pytest.raises(LapjaxError, match="already holds a set made by something else"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("write() failed")])
def test_a_disk_that_fills_up_leaves_the_old_set(source, tmp_path, monkeypatch, error):
    def fail(builder):
        (pathlib.Path(builder.data_dir).parent / "half").mkdir(parents=True)
        raise error

    monkeypatch.setattr(module, "_write", fail)
    with pytest.raises(LapjaxError, match="cannot write .*face_folder.*free space"):
        run(source, tmp_path / "deep/out")
    assert not (tmp_path / "deep").exists()
    monkeypatch.undo()
    run(source, tmp_path / "deep/out")
    before = files(tmp_path / "deep/out")
    monkeypatch.setattr(module, "_write", fail)
    with pytest.raises(LapjaxError, match="cannot write"):
        run(source, tmp_path / "deep/out")
    assert files(tmp_path / "deep/out") == before


def test_an_interrupt_leaves_nothing(source, tmp_path, monkeypatch):
    def interrupt(builder):
        pathlib.Path(builder.data_dir).mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clears_away_what_a_killed_run_left(source, tmp_path):
    old, new = (tmp_path / f"out/.face_folder.{pid}.incomplete" for pid in ("1", "2"))
    for path in (old, new):
        (path / "face_folder").mkdir(parents=True)
    long_ago = time.time() - 2 * module.STALE_S
    os.utime(old, (long_ago, long_ago))
    run(source, tmp_path / "out")
    assert not old.exists() and new.exists()
    assert prepared.splits("face_folder", tmp_path / "out") == {"train": 6}


def test_refuses_a_full_disk_before_writing(source, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(LapjaxError, match="its disk has 0 MB free"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refuses_a_place_that_is_a_file(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LapjaxError, match="file is a file, so .*out cannot be made"):
        run(source, tmp_path / "file/out")


def test_refuses_a_read_only_place(source, tmp_path, monkeypatch):
    # Permissions do not bind the superuser, whom tests may run as.
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    with pytest.raises(LapjaxError, match="cannot be written: choose another data directory"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": "the300v"}, "no data set 'the300v' to prepare, did you mean 'the300w'"),
        ({"points": "points.csv"}, "face_folder has no option 'points': it takes boxes, box"),
        ({"dataset_name": "My Faces"}, "dataset name 'My Faces': use lower-case"),
        ({"dataset_name": "../up"}, "dataset name '../up'"),
        ({"chip_size": 4}, "chip_size 4 must be"),
        ({"chip_size": 64.0}, "chip_size 64.0 must be"),
        ({"chip_factor": 0.5}, "chip_factor 0.5 must be"),
        ({"chip_factor": float("nan")}, "chip_factor nan must be"),
        ({"quality": 101}, "quality 101 must be"),
        ({"source": None}, "no source folder given"),
    ],
)
def test_refuses_bad_options(source, tmp_path, options, match):
    arguments = {"name": "face_folder", "source": source, "data_dir": tmp_path / "out", **options}
    with pytest.raises(LapjaxError, match=match):
        prepare(arguments.pop("name"), **arguments)
    assert not (tmp_path / "out").exists()


def test_runs_without_tensorflow_from_any_folder(source, tmp_path):
    code = f"""
import sys
from lapjax.datasets import prepared
from lapjax.datasets.prepare import prepare
summary = prepare("face_folder", source={str(source)!r}, data_dir="out", dataset_name="lfw", chip_size=32)
records = prepared.source("lfw", "train", "out")
assert len([record["image"] for record in records]) == 6
assert "tensorflow" not in sys.modules
print(summary)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lfw: unlabelled, 32 px chips"), "TFDS printed something"


@pytest.mark.parametrize(
    "builder_module",
    [aflw_dataset_builder, face_folder_dataset_builder, folder_dataset_builder, the300w_dataset_builder],
)
def test_folders_carry_their_metadata(builder_module):
    builder = builder_module.Builder
    metadata = builder.get_metadata()
    assert metadata.description.startswith(f"# {builder.name}\n")
    assert metadata.citation
    valid = {tag.split("#")[0].strip() for tag in dataset_metadata.valid_tags()}
    assert metadata.tags and set(metadata.tags) <= valid
