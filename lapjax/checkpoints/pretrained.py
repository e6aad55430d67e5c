"""The trained networks that come with lapjax, and what a name, a file or a run directory refers to. No JAX."""

import json
import os
import pathlib
import warnings

from lapjax.errors import LapjaxError, TermsWarning, nearest

__all__ = ["DEFAULT", "files", "find", "list_pretrained", "tell_terms"]

# The one that is meant when none is named.
DEFAULT = "face-68"
_MODELS = pathlib.Path(__file__).with_name("pretrained_files")


def files() -> dict[str, pathlib.Path]:
    """The models that come with lapjax, the smallest first: name -> ONNX file."""
    return {path.stem: path for path in sorted(_MODELS.glob("*.onnx"), key=lambda path: path.stat().st_size)}


def list_pretrained() -> dict[str, dict]:
    """The models that come with lapjax, the smallest first, with what was measured of each through its very file.

    Returns:
      Name -> record: `bytes`, `parameters`, `landmarks`, `input_size` (px), `nme` (percent, with the normaliser, set, split and box
      rule), `radius_holds_percent` and `terms`, what binds its use (None where nothing does).

    Examples:
      >>> import lapjax
      >>> list(lapjax.list_pretrained())
      ['toy-68', 'face-68-tiny', 'face-68', 'face-68-large']
      >>> lapjax.list_pretrained()["face-68"]["landmarks"]
      68
    """
    return json.loads((_MODELS / "models.json").read_text())


def find(source: str | os.PathLike | None) -> pathlib.Path:
    """The file or the run directory that is meant: a path that exists, or a name of `files`; None is the default.

    Raises:
      LapjaxError: there is no such thing.
    """
    known = files()
    if source is None:
        return known[DEFAULT]
    if not isinstance(source, str | os.PathLike):
        raise LapjaxError(f"{source!r} is no file, no run directory and no name of a shipped model")
    path = pathlib.Path(source)
    if path.exists():
        return path
    name = os.fspath(source)
    if name in known:
        return known[name]
    hint = nearest(name, known, form="did you mean {!r}?") or f"there are {', '.join(known)}"
    raise LapjaxError(f"no file or run directory {name}, and no shipped model of that name: {hint}")


def tell_terms(path: pathlib.Path) -> None:
    """Warns of the terms that a shipped model inherits from the data of others, where it does."""
    if path in files().values() and (terms := list_pretrained()[path.stem]["terms"]):
        warnings.warn(f"{path.stem}: {terms}", TermsWarning, stacklevel=3)
