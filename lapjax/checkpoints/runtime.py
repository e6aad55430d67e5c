"""What computes: an ONNX file through onnxruntime or a JAX file, called alike (`living` has the one of a run).

An engine takes `images` (N, S, S, 3) uint8 and `box_size` (N,), sqrt(w * h) of the faces' boxes in input px, and gives
`points` and `scale` (N, K, 2) and, where it is calibrated, `radius` and `confidence` (N, K), lengths in input px.
"""

import io
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from lapjax.checkpoints.model_card import Card
from lapjax.errors import LapjaxError

__all__ = [
    "CARD",
    "FUNCTION",
    "Engine",
    "demand_jax",
    "open_bytes",
    "open_file",
    "read_file",
    "start_session",
]

Engine = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
# What is in a JAX file, which is a zip archive.
CARD, FUNCTION = "card.json", "function.bin"


def open_file(path: str | os.PathLike, *, threads: int = 1) -> tuple[Card, Engine]:
    """The card and the engine of a file that `lapjax export` wrote; its content says of which kind it is.

    Args:
      path: of the file.
      threads: that onnxruntime may use; a tiny network is fastest on one.

    Raises:
      LapjaxError: no such file, or as `open_bytes`.
    """
    return open_bytes(read_file(path), str(path), threads=threads)


def read_file(path: str | os.PathLike) -> bytes:
    """The content of a file.

    Raises:
      LapjaxError: it cannot be read.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise LapjaxError(f"cannot read {path}: {error.strerror or error}; check the path") from error


def open_bytes(content: bytes, name: str, *, threads: int = 1) -> tuple[Card, Engine]:
    """As `open_file`, of a file's content; `name` is what errors call it.

    Raises:
      LapjaxError: neither an ONNX nor a JAX file, one that lapjax did not write, or fewer than one thread.
    """
    if threads < 1:
        raise LapjaxError(f"threads {threads} must be at least 1")
    if content[:2] == b"PK":
        return _open_jax(content, name)
    return _open_onnx(content, name, threads)


def start_session(content: bytes, *, threads: int = 1):
    """An onnxruntime session of an ONNX file's content, on so many threads of the CPU; raises what onnxruntime does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _open_onnx(content, name, threads):
    try:
        session = start_session(content, threads=threads)
        properties = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise LapjaxError(
            f"{name} is no ONNX file that onnxruntime can run, or only a part of one: export or copy it again"
        ) from error
    card = Card.from_properties(properties, name)
    known = {each.name for each in session.get_inputs()}
    outputs = [each.name for each in session.get_outputs()]

    def engine(images, box_size):
        inputs = {"images": images, "box_size": np.asarray(box_size, np.float32)}
        found = session.run(outputs, {key: value for key, value in inputs.items() if key in known})
        return {name: np.asarray(value) for name, value in zip(outputs, found, strict=True)}

    return card, engine


def _open_jax(content, name):
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            properties, function = json.loads(file.read(CARD)), file.read(FUNCTION)
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        raise LapjaxError(
            f"{name} is no model file, or only a part of one: give one that `lapjax export` wrote"
        ) from error
    card = Card.from_properties(properties, name)
    demand_jax(name, "ask for the ONNX file (`lapjax export DIR --format onnx`)")
    import jax.export

    try:
        call = jax.jit(jax.export.deserialize(bytearray(function)).call)
    except Exception as error:  # what flatbuffers and XLA raise depends on where the damage is
        until = card.provenance.get("readable_until")
        since = f" (later versions were promised to read it until {until})" if until else ""
        raise LapjaxError(
            f"{name} cannot be run by this version of JAX{since}: export it again, or use its ONNX file"
        ) from error

    def engine(images, box_size):
        inputs = [images] if card.calibration is None else [images, np.asarray(box_size, np.float32)]
        return {key: np.asarray(value) for key, value in call(*inputs).items()}

    return card, engine


def demand_jax(name: str, otherwise: str) -> None:
    """Raises LapjaxError, saying what needs it and what to do `otherwise`, where JAX is not installed."""
    try:
        import jax.export  # noqa: F401
    except ImportError as error:
        raise LapjaxError(f"{name} needs JAX: `pip install lapjax[train]`, or {otherwise}") from error
