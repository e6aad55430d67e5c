"""Readers of annotation files: `.pts`, points.csv and boxes.csv."""

import csv
import math
import os
import pathlib

import numpy as np

from lapjax.datasets.photos import refuse, repeated
from lapjax.errors import LapjaxError, nearest


def read_pts(path: str | os.PathLike, *, count: int | None = None) -> np.ndarray:
    """Reads a `.pts` file of 300W: with `version`, `n_points` and braces, or the bare lines of numbers.

    Args:
      path: the file; its coordinates count from 1, as in the official release.
      count: how many points it must have; None takes any number.

    Returns:
      (K, 2) float64 x, y in image px that count from 0.

    Raises:
      LapjaxError: unreadable, another number of points, or a line that is not two finite numbers.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LapjaxError(f"{path} cannot be read as text ({error}): replace it by a .pts file") from error
    points, promised = [], None
    for number, line in enumerate(lines, start=1):
        line = line.strip().strip("{}").strip()
        key, colon, value = line.partition(":")
        if colon and key.strip() == "n_points":
            promised = value.strip()
        elif line and not (colon and key.strip() == "version"):
            points.append(_point(line.split(), f"{path}, line {number}"))
    if promised is not None and promised != str(len(points)):
        raise LapjaxError(f"{path} says n_points: {promised} and has {len(points)}: restore the whole file")
    if not points or len(points) != (count or len(points)):
        raise LapjaxError(
            f"{path} has {len(points)} points, not {count or 'at least one'}: restore the whole file"
        )
    return np.array(points) - 1.0


def read_points(path: str | os.PathLike) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Reads points.csv: a header `path,x0,y0,x1,y1,...`, then a row an image; pixels from 0, empty = not labelled.

    Returns:
      The paths, landmarks (N, K, 2) float64 with zeros where not labelled, and labelled (N, K) bool.

    Raises:
      LapjaxError: unreadable, a column that does not belong, a row of another length, a repeated path, half a point,
        something that is not a finite number, or a row without any point.
    """
    header, rows = _read_csv(path)
    count = max(1, len(header) // 2)
    _check_header(path, header, ["path", *(f"{axis}{i}" for i in range(count) for axis in "xy")])
    problems, names, points = [], [], []
    for number, row in rows:
        where = f"{path}, row {number} ({row[0]})"
        pairs = list(zip(row[1::2], row[2::2], strict=True))
        try:
            points.append([(math.nan,) * 2 if pair == ("", "") else _point(pair, where) for pair in pairs])
            if all(pair == ("", "") for pair in pairs):
                raise LapjaxError(f"{where} has no point: label at least two, or remove the row")
        except LapjaxError as error:
            problems.append(error)
        names.append(row[0])
    problems += [f"{path} has more than one row for {name}: keep one" for name in repeated(names)]
    refuse(problems)
    landmarks = np.array(points)
    labelled = np.all(np.isfinite(landmarks), axis=-1)
    return names, np.where(labelled[..., None], landmarks, 0.0), labelled


def read_boxes(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """Reads a boxes file: a header `path,x0,y0,x1,y1`, then a row a face; pixels from 0, corners top left, bottom right.

    Returns:
      The paths, of which one may come several times, and boxes (N, 4) float64.

    Raises:
      LapjaxError: unreadable, a column that does not belong, a row of another length, something that is not a finite
        number, a box without extent, or the same row twice.
    """
    header, rows = _read_csv(path)
    _check_header(path, header, ["path", "x0", "y0", "x1", "y1"])
    problems, boxes, seen = [], [], {}
    for number, row in rows:
        where = f"{path}, row {number} ({row[0]})"
        try:
            box = (*_point(row[1:3], where), *_point(row[3:5], where))
            if not (box[2] > box[0] and box[3] > box[1]):
                raise LapjaxError(f"{where} is no box: x1 must be above x0, and y1 above y0")
            if (first := seen.setdefault((row[0], box), number)) != number:
                raise LapjaxError(f"{where} repeats row {first}: remove one")
            boxes.append(box)
        except LapjaxError as error:
            problems.append(error)
    refuse(problems)
    return [row[0] for _, row in rows], np.array(boxes)


def _read_csv(path):
    """The header and the numbered rows, each as long as the header; rows count as an editor counts lines."""
    try:
        # utf-8-sig: spreadsheets put a byte-order mark in front of the first column's name.
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            table = [
                (reader.line_num, [cell.strip() for cell in row])
                for row in reader
                if any(map(str.strip, row))
            ]
    except FileNotFoundError as error:
        raise LapjaxError(f"{path}: no such file; check the path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LapjaxError(
            f"{path} cannot be read as CSV ({error}): save it as comma-separated UTF-8"
        ) from error
    if len(table) < 2:
        raise LapjaxError(f"{path} has no rows below a header: write one row an image")
    (_, header), *rows = table
    refuse(
        [
            f"{path}, row {number} ({row[0]}) has {len(row)} fields and the header {len(header)}: correct the row"
            for number, row in rows
            if len(row) != len(header)
        ]
        + [f"{path}, row {number} names no image: fill in its path" for number, row in rows if not row[0]]
    )
    return header, rows


def _check_header(path, header, expected):
    for column, name in zip(header, expected, strict=False):
        if column != name:
            raise LapjaxError(
                f"{path} has the column {column!r} where {name!r} belongs{nearest(column, expected, cutoff=0.5)}: the header must be"
                f" {','.join(expected[:5])}{',...' * (len(expected) > 5)}"
            )
    if len(header) != len(expected):
        extra = [*header[len(expected) :], *expected[len(header) :]][0]
        verb = "an unknown column" if len(header) > len(expected) else "no column"
        raise LapjaxError(f"{path} has {verb} {extra!r}: the header must be {','.join(expected[:5])}...")


def _point(texts, where):
    try:
        x, y = map(float, texts)
    except ValueError as error:
        raise LapjaxError(
            f"{where}: {' '.join(texts)!r} is not a point: write two numbers, x and y"
        ) from error
    if not (math.isfinite(x) and math.isfinite(y)):
        raise LapjaxError(f"{where}: {' '.join(texts)!r} is not finite: write two numbers, x and y")
    return x, y
