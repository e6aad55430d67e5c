"""A trained network as one NumPy file, for machines that have no ONNX: what it is, and its averaged weights.

An uncompressed `.npz`: a JSON `header` (configuration, scheme, step and data description) and one array a variable, called
by its path, such as params/Dense_0/kernel.
"""

import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lapjax.config import Config, from_dict, to_dict
from lapjax.errors import LapjaxError
from lapjax.files import replacing
from lapjax.schemes import Scheme

__all__ = ["read_weights", "write_weights"]

_FORMAT, _VERSION = "lapjax-weights", 1


def write_weights(
    path: str | os.PathLike, variables: Mapping, *, config: Config, scheme: Scheme, step: int, info: dict
) -> None:
    """Writes a network, whole or not at all; missing folders are made.

    Args:
      path: the `.npz` file.
      variables: {"params", "batch_stats"}, trees of dicts of arrays.
      config: it was trained with.
      scheme: of its landmarks.
      step: it was trained to.
      info: what is said of its data.

    Raises:
      LapjaxError: the file cannot be written.
    """
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "config": to_dict(config),
        "scheme": scheme.to_dict(),
        "step": step,
        "info": info,
    }
    arrays = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        **flatten_dict(variables, sep="/"),
    }
    with (
        replacing(path, "cannot write {path}: {reason}; choose another place", parents=True) as part,
        open(part, "wb") as file,
    ):
        np.savez(file, **arrays)


def read_weights(path: str | os.PathLike) -> tuple[Config, Scheme, dict, int, dict]:
    """What `write_weights` was given: configuration, scheme, variables, step and data description.

    Raises:
      LapjaxError: no such file, or not one of its.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]))
            if (header["format"], header["version"]) != (_FORMAT, _VERSION):
                raise LapjaxError(
                    f"{path} holds {header['format']} {header['version']}: it has no weights to read"
                )
            arrays = {name: file[name] for name in file.files if name != "header"}
        # A tree without leaves leaves no trace in the file.
        variables = {"params": {}, "batch_stats": {}} | unflatten_dict(arrays, sep="/")
        config, scheme = from_dict(Config, header["config"]), Scheme.from_dict(header["scheme"])
        return config, scheme, variables, header["step"], header["info"]
    except LapjaxError:
        raise
    except OSError as error:
        raise LapjaxError(
            f"cannot read {path}: {error.strerror or error}; give a file that is there"
        ) from error
    except Exception as error:  # what zipfile, numpy and json raise depends on where the damage is
        raise LapjaxError(
            f"{path} is not a file of lapjax's weights, or only a part of one: write it again"
        ) from error
