"""points.csv and boxes.csv, good and bad; .pts files are tested with 300W."""

import numpy as np
import pytest

from lapjax.datasets.annotations import read_boxes, read_points, read_pts
from lapjax.errors import LapjaxError


def written(tmp_path, text, name="points.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_points(tmp_path):
    path = written(tmp_path, "path,x0,y0,x1,y1\na.jpg,1,2.5,,\n\nb/c d.jpg, 3 ,4,-1e1,6\n")
    names, landmarks, labelled = read_points(path)
    assert names == ["a.jpg", "b/c d.jpg"]
    np.testing.assert_array_equal(landmarks, [[[1, 2.5], [0, 0]], [[3, 4], [-10, 6]]])
    np.testing.assert_array_equal(labelled, [[True, False], [True, True]])


def test_reads_what_spreadsheets_write(tmp_path):
    path = written(tmp_path, b'\xef\xbb\xbfpath,x0,y0\r\n"a, b.jpg",1,2\r\n')
    assert read_points(path)[0] == ["a, b.jpg"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,x0,y0\n", "has no rows"),
        ("", "has no rows"),
        ("file,x0,y0\na.jpg,1,2\n", "column 'file' where 'path' belongs"),
        ("path,x0,y0,x1,z1\na.jpg,1,2,3,4\n", "column 'z1' where 'y1' belongs"),
        ("path,x0,y0,score\na.jpg,1,2,3\n", "column 'score' where 'x1' belongs"),
        ("path,x0\na.jpg,1\n", "no column 'y0'"),
        ("path;x0;y0\na.jpg;1;2\n", "column 'path;x0;y0' where 'path' belongs"),
        ("path,x0,y0\na.jpg,1\n", r"row 2 \(a.jpg\) has 2 fields and the header 3"),
        ("path,x0,y0\na.jpg,1,2,3\n", r"row 2 \(a.jpg\) has 4 fields and the header 3"),
        ("path,x0,y0\n,1,2\n", "row 2 names no image"),
        ("path,x0,y0\na.jpg,1,2\na.jpg,1,2\n", "more than one row for a.jpg"),
        ("path,x0,y0\na.jpg,1,\n", r"row 2 \(a.jpg\): '1 ' is not a point"),
        ("path,x0,y0\na.jpg,one,2\n", "'one 2' is not a point"),
        ("path,x0,y0\na.jpg,nan,2\n", "'nan 2' is not finite"),
        ("path,x0,y0\na.jpg,,\n", r"row 2 \(a.jpg\) has no point"),
        ("path,x0,y0\na.jpg,x,y\nb.jpg,x,y\nc.jpg,x,y\n", r"row 2 .*\(2 more such problems\)"),
        (b"path,x0,y0\n\xff\xfe.jpg,1,2\n", "cannot be read as CSV"),
    ],
)
def test_refuses_bad_points(tmp_path, text, match):
    path = written(tmp_path, text)
    with pytest.raises(LapjaxError, match=match) as error:
        read_points(path)
    assert str(path) in str(error.value)


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(LapjaxError, match="nowhere.csv: no such file"):
        read_points(tmp_path / "nowhere.csv")
    with pytest.raises(LapjaxError, match="nowhere.pts cannot be read"):
        read_pts(tmp_path / "nowhere.pts")


def test_reads_boxes(tmp_path):
    path = written(tmp_path, "path,x0,y0,x1,y1\na.jpg,0,0,5,6\na.jpg,10,0,15,6\n")
    names, boxes = read_boxes(path)
    assert names == ["a.jpg", "a.jpg"]
    np.testing.assert_array_equal(boxes, [[0, 0, 5, 6], [10, 0, 15, 6]])


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("a.jpg,0,0,5", "has 4 fields and the header 5"),
        ("a.jpg,0,0,5,", "'5 ' is not a point"),
        ("a.jpg,5,0,5,6", "is no box"),
        ("a.jpg,0,6,5,0", "is no box"),
        ("a.jpg,0,0,inf,6", "not finite"),
        ("a.jpg,0,0,5,6\na.jpg,0,0,5,6", "row 3 .* repeats row 2"),
    ],
)
def test_refuses_bad_boxes(tmp_path, row, match):
    with pytest.raises(LapjaxError, match=match):
        read_boxes(written(tmp_path, f"path,x0,y0,x1,y1\n{row}\n"))
    with pytest.raises(LapjaxError, match="unknown column 'w'"):
        read_boxes(written(tmp_path, "path,x0,y0,x1,y1,w\na.jpg,0,0,5,6,7\n"))
