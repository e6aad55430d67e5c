"""Landmark schemes: what each point is called, how a mirror permutes them, where the eyes are, what to draw.

"left" and "right" in names are the sides of the image of an upright face that looks at the camera, so a
mirror exchanges the two words, and the built-in flip permutations are derived from the names.
Nothing infers a scheme from the number of points: 68 points can be a face or a spine.
"""

import dataclasses
import json
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lapjax.errors import LapjaxError, nearest
from lapjax.files import read_json, replacing


@dataclasses.dataclass(frozen=True)
class Scheme:
    """One landmark scheme of K points; hashable, so it can be a static argument of a jitted function.

    Attributes:
      name: what the scheme is called.
      names: K distinct landmark names.
      flip: K indices; after a horizontal mirror, landmark i of the mirrored image is landmark flip[i] of the
        original. None: the points have no mirror, never flip.
      eye_corners: outer corners of the image-left and the image-right eye, whose distance is the inter-ocular
        normaliser. None: the scheme has no such normaliser.
      pupils: landmarks of the image-left and of the image-right eye; inter-pupil is their means' distance.
      segments: polylines to draw; a closed one repeats its first index.
      parts: (part name, indices) pairs, such as jaw, brows, nose, eyes, mouth.

    Raises:
      LapjaxError: an index out of range, a flip that is not its own inverse, names that repeat.

    Examples:
      Three points of a mouse whose ears swap in a mirror:

      >>> import lapjax
      >>> lapjax.Scheme("mouse", ("snout", "left ear", "right ear"), flip=(0, 2, 1)).count
      3
    """

    name: str
    names: tuple[str, ...]
    flip: tuple[int, ...] | None = None
    eye_corners: tuple[int, int] | None = None
    pupils: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    segments: tuple[tuple[int, ...], ...] = ()
    parts: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name:
            raise LapjaxError(f"scheme: `name` is {self.name!r}; give it a non-empty string")
        try:
            self._freeze()
        except (TypeError, ValueError) as error:
            raise LapjaxError(f"scheme {self.name!r}: {error}") from error

    def _freeze(self):
        """Checks every field and stores it as nested tuples, whatever sequences it came as."""
        names = _sequence("names", self.names)
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError("`names` must be non-empty strings, one a landmark")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"`names` repeats {repeated[0]!r}; give every landmark its own name")
        count = len(names)
        fields: dict[str, Any] = {"names": names}
        if self.flip is not None:
            flip = _indices("flip", self.flip, count)
            if len(flip) != count:
                raise ValueError(f"`flip` has {len(flip)} entries for {count} landmarks; give one for each")
            for i, j in enumerate(flip):
                if flip[j] != i:
                    raise ValueError(
                        f"`flip` is not its own inverse: {i} -> {j} -> {flip[j]}; pair the points or use null"
                    )
            fields["flip"] = flip
        if self.eye_corners is not None:
            corners = _indices("eye_corners", self.eye_corners, count)
            if len(corners) != 2 or corners[0] == corners[1]:
                raise ValueError(f"`eye_corners` is {corners}; give two different indices, or null")
            fields["eye_corners"] = corners
        if self.pupils is not None:
            pupils = tuple(_indices("pupils", group, count) for group in _sequence("pupils", self.pupils))
            if len(pupils) != 2 or not all(pupils):
                raise ValueError(f"`pupils` is {pupils}; give two non-empty groups of indices, or null")
            fields["pupils"] = pupils
        fields["segments"] = tuple(
            _indices("segments", segment, count) for segment in _sequence("segments", self.segments)
        )
        parts = []
        for part in _sequence("parts", self.parts):
            pair = _sequence("parts", part)
            if len(pair) != 2 or not isinstance(pair[0], str):
                raise ValueError(f"`parts` has {part!r}; give pairs of a name and a list of indices")
            parts.append((pair[0], _indices("parts", pair[1], count)))
        fields["parts"] = tuple(parts)
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    @property
    def count(self) -> int:
        """The number of landmarks, K."""
        return len(self.names)

    def to_dict(self) -> dict:
        """The fields as a dict that JSON can hold; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "Scheme":
        """A scheme from `to_dict` or parsed JSON; `name` and `names` are required.

        Raises:
          LapjaxError: not a dict, a missing or unknown field, or contents that do not fit each other.
        """
        if not isinstance(fields, dict):
            raise LapjaxError(
                f"scheme: expected an object with `name` and `names`, got {type(fields).__name__}"
            )
        known = [field.name for field in dataclasses.fields(cls)]
        for field in fields:
            if field not in known:
                raise LapjaxError(
                    f"scheme: unknown field {field!r}{nearest(str(field), known, cutoff=0.4)}; use {', '.join(known)}"
                )
        for field in ("name", "names"):
            if field not in fields:
                raise LapjaxError(f"scheme: the field `{field}` is missing; add it")
        return cls(**fields)


def _sequence(field, value):
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ValueError(f"`{field}` is {value!r}; give a list")
    return tuple(value)


def _indices(field, values, count):
    values = _sequence(field, values)
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"`{field}` holds {value!r}; indices are whole numbers from 0")
        if not 0 <= value < count:
            raise ValueError(
                f"`{field}` holds the index {value}; {count} landmarks have indices 0 to {count - 1}"
            )
    return tuple(operator.index(value) for value in values)


def _mirror(names: Sequence[str]) -> tuple[int, ...]:
    swap = {"left": "right", "right": "left"}
    mirrored = ["_".join(swap.get(word, word) for word in name.split("_")) for name in names]
    return tuple(names.index(name) for name in mirrored)


def _face(name, names, *, segments, eye_corners=None, pupils=None, **parts):
    """A scheme whose mirror follows from its names and whose parts are the remaining keywords."""
    parts = tuple(parts.items())
    return Scheme(name, tuple(names), _mirror(names), eye_corners, pupils, segments, parts)


def _across(stem, count):
    """Names of `count` points that run from image left to image right, numbered from the outside inwards."""
    half = range(count // 2)
    middle = [stem] if count % 2 else []
    return [f"{stem}_left_{i}" for i in half] + middle + [f"{stem}_right_{i}" for i in reversed(half)]


def _nose():
    """The 9 nose points that 300W and WFLW share: down the bridge, then along the base."""
    return [f"nose_bridge_{i}" for i in range(4)] + _across("nose_base", 5)


def _eyes(lid):
    """Names of both eyes clockwise, `lid` points a lid: the left eye from outside, the right from inside."""
    out, back = range(lid), range(lid - 1, -1, -1)
    left = ["eye_left_outer", *(f"eye_left_upper_{i}" for i in out)]
    left += ["eye_left_inner", *(f"eye_left_lower_{i}" for i in back)]
    right = ["eye_right_inner", *(f"eye_right_upper_{i}" for i in back)]
    right += ["eye_right_outer", *(f"eye_right_lower_{i}" for i in out)]
    return left + right


def _mouth():
    """The 20 mouth points that 300W and WFLW share: outer contour clockwise from image left, then inner."""
    outer = _across("mouth_outer_upper", 7) + _across("mouth_outer_lower", 5)[::-1]
    return outer + _across("mouth_inner_upper", 5) + _across("mouth_inner_lower", 3)[::-1]


def _run(first, last):
    return tuple(range(first, last + 1))


def _loop(first, last):
    return (*_run(first, last), first)


# Sagonas et al., "300 Faces in-the-Wild Challenge", ICCV workshops 2013 (the Multi-PIE 68-point mark-up).
_W300 = _face(
    "300w",
    _across("jaw", 17) + _across("brow", 10) + _nose() + _eyes(2) + _mouth(),
    eye_corners=(36, 45),
    pupils=(_run(36, 41), _run(42, 47)),
    segments=(_run(0, 16), _run(17, 21), _run(22, 26), _run(27, 30), _run(31, 35))
    + (_loop(36, 41), _loop(42, 47), _loop(48, 59), _loop(60, 67)),
    jaw=_run(0, 16),
    brows=_run(17, 26),
    nose=_run(27, 35),
    eyes=_run(36, 47),
    mouth=_run(48, 67),
)

# Koestinger et al., ICCV workshops 2011, without the ears, as in Zhu et al., CVPR 2016. Many faces are near
# profile, where eye distances vanish, so the normaliser is the annotated box.
_AFLW = _face(
    "aflw",
    ["brow_left_outer", "brow_left_centre", "brow_left_inner"]
    + ["brow_right_inner", "brow_right_centre", "brow_right_outer"]
    + ["eye_left_outer", "eye_left_centre", "eye_left_inner"]
    + ["eye_right_inner", "eye_right_centre", "eye_right_outer"]
    + ["nose_left", "nose_centre", "nose_right", "mouth_left", "mouth_centre", "mouth_right", "chin"],
    segments=(_run(0, 2), _run(3, 5), _run(6, 8), _run(9, 11), _run(12, 14), _run(15, 17)),
    jaw=(18,),
    brows=_run(0, 5),
    nose=_run(12, 14),
    eyes=_run(6, 11),
    mouth=_run(15, 17),
)

# Wu et al., "Look at Boundary", CVPR 2018. Each brow is a closed contour, five points above and four below.
_WFLW = _face(
    "wflw",
    _across("jaw", 33)
    + [f"brow_left_upper_{i}" for i in range(5)]
    + [f"brow_left_lower_{i}" for i in reversed(range(4))]
    + [f"brow_right_upper_{i}" for i in reversed(range(5))]
    + [f"brow_right_lower_{i}" for i in range(4)]
    + _nose()
    + _eyes(3)
    + _mouth()
    + ["pupil_left", "pupil_right"],
    eye_corners=(60, 72),
    pupils=((96,), (97,)),
    segments=(_run(0, 32), _loop(33, 41), _loop(42, 50), _run(51, 54), _run(55, 59))
    + (_loop(60, 67), _loop(68, 75), _loop(76, 87), _loop(88, 95)),
    jaw=_run(0, 32),
    brows=_run(33, 50),
    nose=_run(51, 59),
    eyes=_run(60, 75) + (96, 97),
    mouth=_run(76, 95),
)

# Burgos-Artizzu et al., "Robust face landmark estimation under occlusion", ICCV 2013.
_COFW = _face(
    "cofw",
    ["brow_left_outer", "brow_right_outer", "brow_left_inner", "brow_right_inner"]
    + ["brow_left_upper", "brow_left_lower", "brow_right_upper", "brow_right_lower"]
    + ["eye_left_outer", "eye_right_outer", "eye_left_inner", "eye_right_inner"]
    + ["eye_left_upper", "eye_left_lower", "eye_right_upper", "eye_right_lower"]
    + ["pupil_left", "pupil_right", "nose_left", "nose_right", "nose_tip", "nose_base"]
    + ["mouth_left", "mouth_right"]
    + ["lip_upper_top", "lip_upper_bottom", "lip_lower_top", "lip_lower_bottom", "chin"],
    eye_corners=(8, 9),
    pupils=((16,), (17,)),
    segments=((0, 4, 2, 5, 0), (1, 6, 3, 7, 1), (8, 12, 10, 13, 8), (9, 14, 11, 15, 9))
    + ((18, 20, 19, 21, 18), (22, 24, 23, 27, 22), (22, 25, 23, 26, 22)),
    jaw=(28,),
    brows=_run(0, 7),
    nose=_run(18, 21),
    eyes=_run(8, 17),
    mouth=_run(22, 27),
)

# The order of MTFL, MTCNN and RetinaFace. Its eyes are centres, so inter-pupil is its only eye distance.
_FIVE = _face(
    "five",
    ["eye_left", "eye_right", "nose", "mouth_left", "mouth_right"],
    pupils=((0,), (1,)),
    segments=((0, 2, 1), (3, 4)),
    nose=(2,),
    eyes=(0, 1),
    mouth=(3, 4),
)

SCHEMES = {scheme.name: scheme for scheme in (_W300, _AFLW, _WFLW, _COFW, _FIVE)}


def get_scheme(name_or_json_path: str | os.PathLike) -> Scheme:
    """The built-in scheme of that name, or the one in that JSON file (by `save_scheme` or by hand).

    Raises:
      LapjaxError: an unknown name (suggests the nearest), an unreadable file, or contents that do not fit.

    Examples:
      >>> import lapjax
      >>> scheme = lapjax.get_scheme("300w")
      >>> scheme.count, scheme.names[36]
      (68, 'eye_left_outer')
    """
    text = os.fspath(name_or_json_path)
    if text in SCHEMES:
        return SCHEMES[text]
    path = Path(text)
    if path.suffix != ".json" and not path.is_file():
        hint = nearest(text, SCHEMES, cutoff=0.4)
        raise LapjaxError(f"unknown scheme {text!r}{hint}; use {', '.join(SCHEMES)} or a .json file")
    return read_json(path, Scheme.from_dict, what="scheme file", remedy="rewrite it with save_scheme")


def anonymous(k: int, name: str = "points") -> Scheme:
    """A scheme of `k` points about which nothing is known: p0, p1, ...; no flip, no eyes, nothing to draw."""
    return Scheme(name=name, names=tuple(f"p{i}" for i in range(k)))


def save_scheme(scheme: Scheme, path: str | os.PathLike) -> None:
    """Writes the scheme as JSON, beside first and then renamed.

    Raises:
      LapjaxError: the file cannot be written.
    """
    message = "cannot write the scheme to {path} ({error}); check the folder and its space"
    with replacing(path, message) as part:
        part.write_text(json.dumps(scheme.to_dict(), indent=1) + "\n", encoding="utf-8")
