"""What a model file says of itself: how to use it, what its points are, how it was trained and on whose data.

A card travels inside the file, as the metadata of an ONNX model or as the card.json of a JAX one, so that the file
needs neither its run nor lapjax to be understood.
"""

import dataclasses
import json
import math
import pathlib

import numpy as np

from lapjax.calibration.scale import Calibration
from lapjax.config import Model, from_dict, to_dict
from lapjax.errors import LapjaxError
from lapjax.schemes import SCHEMES, Scheme

__all__ = ["Card", "commit", "describe"]

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Card:
    """All that a model says of itself.

    Attributes:
      name: of the run it was exported from.
      model: the network and its input.
      scheme: what the landmarks are.
      calibration: of the confidence; None where it has none.
      precision: "float32", "float16" or "int8".
      provenance: data, terms, metric, box rule, the configuration of the training, commit and hash.
      parity: how far the file is from the network, and on which faces that was measured.
    """

    name: str
    model: Model
    scheme: Scheme
    calibration: Calibration | None = None
    precision: str = "float32"
    provenance: dict = dataclasses.field(default_factory=dict)
    parity: dict | None = None

    def to_properties(self) -> dict[str, str]:
        """The card as named JSON values, the format and a description of the inputs and outputs among them."""
        values = {
            "lapjax": FORMAT,
            "name": self.name,
            "usage": _usage(self),
            "model": to_dict(self.model),
            "scheme": _brief(self.scheme),
            "calibration": self.calibration and self.calibration.to_dict(),
            "precision": self.precision,
            "provenance": self.provenance,
            "parity": self.parity,
        }
        return {name: json.dumps(value, separators=(",", ":")) for name, value in values.items()}

    @classmethod
    def from_properties(cls, properties: dict[str, str], file) -> "Card":
        """The card of a file from its properties.

        Raises:
          LapjaxError: lapjax did not write them, or another version did.
        """
        if "lapjax" not in properties:
            raise LapjaxError(
                f"{file} was not written by lapjax: its metadata does not say what its inputs and points are; "
                "give a file that `lapjax export` wrote"
            )
        try:
            values = {name: json.loads(properties[name]) for name in ("lapjax", *_FIELDS)}
            if values["lapjax"] != FORMAT:
                raise LapjaxError(f"format {values['lapjax']}, and this version reads {FORMAT}")
            scheme, known = values["scheme"], values["calibration"]
            built_in = SCHEMES.get(scheme["name"])
            if built_in is None or set(scheme) != {"name", "names"}:
                built_in = Scheme.from_dict(scheme)
            return cls(
                name=values["name"],
                model=from_dict(Model, values["model"]),
                scheme=built_in,
                calibration=None if known is None else Calibration.from_dict(known),
                precision=values["precision"],
                provenance=values["provenance"],
                parity=values["parity"],
            )
        except (LapjaxError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LapjaxError(f"{file}: its metadata cannot be used ({error}); export it again") from error


_FIELDS = tuple(field.name for field in dataclasses.fields(Card))


def describe(run, *, name: str, precision: str = "float32", calibrated: bool = True) -> Card:
    """The card of a `Run`.

    Args:
      run: best loaded with `load_run`.
      name: what to call it.
      precision: of the file that is to be written.
      calibrated: False leaves the calibration out.
    """
    # Here, for importing them takes longer than finding the points of a face.
    from importlib.metadata import version

    from lapjax import metrics

    config, info = run.config, run.info
    provenance = {
        "data": f"{pathlib.Path(config.dataset).name} {config.train_split}",
        "terms": run.terms,
        "metric": f"NME, the mean error over {metrics.primary_normaliser(run.scheme)}",
        "box": "tight box of the landmarks' centres; in measurements, of the true ones",
        "training": _shareable(config),
        "info": {name: value for name, value in info.items() if "terms" not in name},
        "step": run.step,
        "lapjax": version("lapjax"),
        "commit": commit(),
        "weights_sha256": _digest(run.variables),
    }
    # bfloat16 is for training: exported networks compute in float32.
    model = dataclasses.replace(config.model, dtype="float32")
    known = _rounded(run.calibration) if calibrated and run.calibration else None
    return Card(name, model, run.scheme, known, precision, provenance)


def _shareable(config) -> dict:
    """What a training was: without its network, which the card has, what it left off, and this machine's folders."""
    values = to_dict(config)
    del values["model"], values["placement"]
    if not config.game.adversary:
        del values["game"]
    if not config.uses_unlabelled:
        for name in ("semi", "unlabelled", "unlabelled_split", "unlabelled_limit", "unlabelled_batch_size"):
            del values[name]
    for name in ("dataset", "unlabelled", "start"):
        if values.get(name):
            values[name] = pathlib.Path(values[name]).name
    # Absent and None are the same: there is no field whose default is another.
    return {name: value for name, value in values.items() if value is not None}


def _usage(card) -> dict:
    """How to use the file without lapjax."""
    size, factor = card.model.input_size, card.model.crop
    usage = {
        "images": f"uint8 (N, {size}, {size}, 3), RGB, 0 to 255: the square of side {factor:g} * max(w, h) at the centre "
        f"of the face's box, scaled to {size} px, bilinear, antialiased, edges repeated; pixel centres at integers",
        "points": "float32 (N, K, 2), x and y in input px",
        "scale": "float32 (N, K, 2), the Laplace scale b along both, input px",
    }
    if card.calibration is not None:
        usage |= {
            "box_size": "float32 (N,), sqrt(w * h) of the box in input px",
            "radius": f"float32 (N, K), input px: holds the true point {100 * card.calibration.level:g} % of the time",
            "confidence": "float32 (N, K), the probability of an error below "
            f"{100 * card.calibration.tolerance:g} % of sqrt(w * h)",
        }
    return usage


def _brief(scheme) -> dict:
    """A scheme's fields; of one that lapjax knows, the names alone."""
    fields = scheme.to_dict()
    return {key: fields[key] for key in ("name", "names")} if SCHEMES.get(scheme.name) == scheme else fields


def _rounded(calibration: Calibration) -> Calibration:
    """To four digits: what the graph computes with and what the card says are then the same numbers."""

    def four(value):
        if isinstance(value, tuple):
            return tuple(four(part) for part in value)
        return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value

    return dataclasses.replace(
        calibration, **{name: four(value) for name, value in vars(calibration).items()}
    )


def _digest(variables) -> str:
    """The sha256 of all parameters, by name."""
    import hashlib

    digest = hashlib.sha256()

    def add(tree, path):
        if hasattr(tree, "items"):
            for name in sorted(tree):
                add(tree[name], f"{path}/{name}")
        else:
            value = np.ascontiguousarray(tree)
            digest.update(f"{path} {value.dtype.str} {value.shape} ".encode() + value.tobytes())

    add(variables, "")
    return digest.hexdigest()


def commit() -> str | None:
    """The commit of the checkout that lapjax runs from, with `-dirty` where files differ from it; None elsewhere."""
    import subprocess

    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=16", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
