"""A file is replaced whole or stays as it was, and nothing lies beside it."""

import errno
import os
import threading

import pytest

from lapjax.errors import LapjaxError
from lapjax.files import holding, read_json, replacing


def names(folder):
    return sorted(item.name for item in folder.iterdir())


def test_the_place_changes_when_all_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with replacing(path, "") as part:
        part.write_text("after")
        assert part.parent == tmp_path and path.read_text() == "before"
    assert path.read_text() == "after" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("problem", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path, problem):
    path = tmp_path / "a{1}.txt"
    path.write_text("before")
    expected = LapjaxError if isinstance(problem, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught, replacing(path, "cannot write {path}: {reason}; go on") as part:
        part.write_text("half")
        raise problem
    if expected is LapjaxError:
        assert str(caught.value) == f"cannot write {path}: No space left on device; go on"
    assert path.read_text() == "before" and names(tmp_path) == ["a{1}.txt"]


def test_folders_are_made_when_asked(tmp_path):
    with (
        pytest.raises(LapjaxError, match="no a at .*Errno 2"),
        replacing(tmp_path / "no" / "a", "no a at {path}: {error}") as part,
    ):
        part.write_text("")
    with replacing(tmp_path / "yes" / "a", "", parents=True) as part:
        part.write_text("")
    assert names(tmp_path) == ["yes"] and names(tmp_path / "yes") == ["a"]


def test_a_lone_writer_clears_what_a_killed_one_left(tmp_path):
    (tmp_path / ".a.part").write_text("ha")
    with replacing(tmp_path / "a", "", locked=True) as part:
        part.write_text("all")
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "all"


def test_json_is_read_or_the_error_says_why(tmp_path):
    def make(fields):
        if fields:
            return fields
        raise LapjaxError("it is empty")

    def read(name):
        return read_json(tmp_path / name, make, what="list", remedy="write it again")

    for name, text in {"good": "[1]", "cut": "[1", "empty": "[]"}.items():
        (tmp_path / name).write_text(text)
    assert read("good") == [1]
    for name, message in {
        "none": "list .*none does not exist; check the path",
        "cut": r"list .*cut cannot be read as JSON \(.*\); write it again",
        "empty": "empty: it is empty",
    }.items():
        with pytest.raises(LapjaxError, match=message):
            read(name)


def test_a_lock_has_one_holder(tmp_path):
    with holding(tmp_path / "a.lock") as ours:
        assert ours
        with holding(tmp_path / "a.lock") as again:
            assert not again
    with holding(tmp_path / "a.lock") as ours:
        assert ours


def test_a_lock_can_be_waited_for(tmp_path):
    order = []

    def wait():
        with holding(tmp_path / "a.lock", wait=True) as ours:
            order.append(("second", ours))

    second = threading.Thread(target=wait)
    with holding(tmp_path / "a.lock", wait=True) as ours:
        second.start()
        order.append(("first", ours))
    second.join(10)
    assert order == [("first", True), ("second", True)]


def test_a_lock_where_nothing_can_be_written(tmp_path):
    with (
        pytest.raises(LapjaxError, match="cannot write .*none/a.lock: No such file"),
        holding(tmp_path / "none/a.lock"),
    ):
        pass
