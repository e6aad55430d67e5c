"""Schemes: flips against the pairs that public code uses, the eyes, and what a broken scheme says."""

import dataclasses
import json

import numpy as np
import pytest

from lapjax.errors import LapjaxError
from lapjax.schemes import SCHEMES, Scheme, anonymous, get_scheme, save_scheme

# An independent source: the mirrored pairs of HRNet-Facial-Landmark-Detection (1-based, but for WFLW).
_PAIRS = {
    "300w": "1 17 2 16 3 15 4 14 5 13 6 12 7 11 8 10 18 27 19 26 20 25 21 24 22 23 32 36 33 35 37 46 38 45 "
    "39 44 40 43 41 48 42 47 49 55 50 54 51 53 62 64 61 65 68 66 59 57 60 56",
    "aflw": "1 6 2 5 3 4 7 12 8 11 9 10 13 15 16 18",
    "cofw": "1 2 5 7 3 4 6 8 9 10 11 12 13 15 17 18 14 16 19 20 23 24",
    "wflw": "0 32 1 31 2 30 3 29 4 28 5 27 6 26 7 25 8 24 9 23 10 22 11 21 12 20 13 19 14 18 15 17 33 46 34 "
    "45 35 44 36 43 37 42 38 50 39 49 40 48 41 47 60 72 61 71 62 70 63 69 64 68 65 75 66 74 67 73 55 "
    "59 56 58 76 82 77 81 78 80 87 83 86 84 88 92 89 91 95 93 96 97",
    "five": "1 2 4 5",
}
_BASE = Scheme(name="pair", names=("a", "b"))


@pytest.mark.parametrize("name", SCHEMES)
def test_flip_is_the_published_one(name):
    scheme = SCHEMES[name]
    pairs = np.array(_PAIRS[name].split(), int).reshape(-1, 2) - (name != "wflw")
    flip = np.arange(scheme.count)
    flip[pairs[:, 0]], flip[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    assert scheme.flip == tuple(flip)


def test_counts_and_eyes():
    assert {name: scheme.count for name, scheme in SCHEMES.items()} == {
        "300w": 68,
        "aflw": 19,
        "wflw": 98,
        "cofw": 29,
        "five": 5,
    }
    corners = {name: scheme.eye_corners for name, scheme in SCHEMES.items()}
    assert corners == {"300w": (36, 45), "aflw": None, "wflw": (60, 72), "cofw": (8, 9), "five": None}
    assert SCHEMES["300w"].pupils == (tuple(range(36, 42)), tuple(range(42, 48)))
    assert SCHEMES["wflw"].pupils == ((96,), (97,)) and SCHEMES["cofw"].pupils == ((16,), (17,))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_what_is_drawn_and_grouped_is_symmetric(scheme):
    if scheme.eye_corners:
        left, right = scheme.eye_corners
        assert (scheme.names[left], scheme.names[right]) == ("eye_left_outer", "eye_right_outer")
        assert scheme.flip[left] == right
    if scheme.pupils:
        assert sorted(scheme.flip[i] for i in scheme.pupils[0]) == sorted(scheme.pupils[1])
    edges = {frozenset(edge) for line in scheme.segments for edge in zip(line, line[1:], strict=False)}
    assert {frozenset(scheme.flip[i] for i in edge) for edge in edges} == edges
    members = [i for _, part in scheme.parts for i in part]
    assert sorted(members) == list(range(scheme.count))
    for _, part in scheme.parts:
        assert {scheme.flip[i] for i in part} == set(part)


def test_names_follow_the_mark_up():
    names = SCHEMES["300w"].names
    expected = {
        0: "jaw_left_0",
        8: "jaw",
        16: "jaw_right_0",
        17: "brow_left_0",
        21: "brow_left_4",
        30: "nose_bridge_3",
    }
    expected |= {33: "nose_base", 39: "eye_left_inner", 41: "eye_left_lower_0", 42: "eye_right_inner"}
    expected |= {
        48: "mouth_outer_upper_left_0",
        57: "mouth_outer_lower",
        62: "mouth_inner_upper",
        66: "mouth_inner_lower",
    }
    assert {i: names[i] for i in expected} == expected


@pytest.mark.parametrize(
    "scheme", [*SCHEMES.values(), anonymous(0), anonymous(3, "mouse")], ids=lambda s: s.name
)
def test_saved_and_read_back(scheme, tmp_path):
    path = tmp_path / "scheme.json"
    save_scheme(scheme, path)
    assert get_scheme(path) == scheme == Scheme.from_dict(json.loads(path.read_text()))
    assert hash(get_scheme(str(path))) == hash(scheme)
    assert [p.name for p in tmp_path.iterdir()] == ["scheme.json"]


def test_anonymous_knows_nothing():
    scheme = anonymous(68)
    assert scheme.count == 68 and scheme.names[67] == "p67"
    assert scheme.flip is scheme.eye_corners is scheme.pupils is None
    assert scheme.segments == scheme.parts == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "`name`"),
        ({"names": "ab"}, "`names`"),
        ({"names": ("a", "a")}, "repeats 'a'"),
        ({"names": ("a", 1)}, "non-empty strings"),
        ({"flip": (0,)}, "1 entries for 2 landmarks"),
        ({"flip": (1, 1)}, "its own inverse"),
        ({"flip": (0, 2)}, "index 2"),
        ({"flip": (0, -1)}, "index -1"),
        ({"flip": (True, False)}, "whole numbers"),
        ({"flip": 3}, "give a list"),
        ({"eye_corners": (1, 1)}, "two different"),
        ({"eye_corners": (0, 0.5)}, "whole numbers"),
        ({"pupils": ((0,), ())}, "two non-empty groups"),
        ({"segments": ((0, 9),)}, "index 9"),
        ({"parts": (("eyes", (5,)),)}, "index 5"),
        ({"parts": ((0, 1),)}, "pairs of a name"),
    ],
)
def test_a_broken_scheme_names_itself_and_the_field(change, message):
    with pytest.raises(LapjaxError, match=message) as caught:
        dataclasses.replace(_BASE, **change)
    assert "name" in change or "'pair'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected an object"),
        ('{"name": "x"}', "`names` is missing"),
        ('{"name": "x", "names": ["a"], "flips": [0]}', "did you mean 'flip'"),
        ('{"name": "x", "names": ["a"], "flip": [1]}', "index 1"),
    ],
)
def test_a_broken_file_is_named(text, message, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(LapjaxError, match=message) as caught:
        get_scheme(path)
    assert str(path) in str(caught.value)


def test_unknown_names_suggest_the_nearest(tmp_path):
    with pytest.raises(LapjaxError, match="did you mean 'wflw'"):
        get_scheme("wlfw")
    with pytest.raises(LapjaxError, match="unknown scheme '68'"):
        get_scheme("68")
    with pytest.raises(LapjaxError, match="does not exist"):
        get_scheme(tmp_path / "none.json")
    with pytest.raises(LapjaxError, match="cannot write"):
        save_scheme(_BASE, tmp_path / "no" / "folder.json")
