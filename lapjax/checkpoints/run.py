"""A run's directory: its configuration, its lock, its log and its checkpoints (orbax).

    config.json      what the run is, written once
    metrics.jsonl    one line per logged step
    last/, best/     checkpoints: the newest whole state, and the averaged G with the lowest validation NME

Every file is written beside its place and renamed, and at each save `best` is written first and `last` last, so that a
run killed at any moment can be resumed: `rewind` drops what lies ahead of `last`.

Orbax is called here and nowhere else (tests/layers_test.py), and is capped below 1.0 (pyproject.toml): that version puts
another API, known as v1, at its top, where `CheckpointManager`, `args` and handlers are no more. Tried with 0.12.8, where
it is `orbax.checkpoint.experimental.v1`:

    CheckpointManager(folder, options)       training.Checkpointer(folder, preservation_policy=...)
    max_to_keep=n                            training.preservation_policies.LatestN(n)
    save(step, args=StandardSave(tree))      save(step, tree)
    restore(step, args=StandardRestore())    load(step), or load(folder / str(step)) without a Checkpointer
    handler.metadata(...).tree               metadata(step)
    latest_step()                            latest.step

It loads the checkpoints of today unchanged, bit for bit. What it writes lies in `state` where today's lies in `default`,
so that lapjax of today could not read it: whoever changes this file changes the format. And its Checkpointer refuses
`active_processes` in a Context, by which one of several processes writes alone today: that needs another way.
"""

import contextlib
import json
import os
import pathlib
import re
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lapjax.calibration.scale import Calibration, load_calibration
from lapjax.checkpoints import pretrained
from lapjax.checkpoints.npz import read_weights
from lapjax.config import Config, from_dict, to_dict
from lapjax.errors import LapjaxError
from lapjax.files import holding, replacing
from lapjax.images import join_terms
from lapjax.schemes import Scheme

__all__ = ["Run", "RunDirectory", "load_run", "saved_step"]

# Checkpoints kept. A run killed after saving `best` and before `last` goes back to the `best` before.
_KEPT = {"last": 1, "best": 2}
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Run:
    """A trained model: its configuration, its scheme and the averaged generator."""

    config: Config
    scheme: Scheme
    variables: Any
    """{"params", "batch_stats"} of the generator."""
    step: int
    info: dict
    """What was said of the run's data: labelled and unlabelled counts, chips, terms."""
    calibration: Calibration | None = None
    """Of the best model's confidence, once `calibrate` has fitted it."""

    @property
    def terms(self) -> str | None:
        """Of all the faces that it learned from, labelled or not, itself or by way of the models it started or learned from."""
        kinds = ("terms", "unlabelled_terms", "start_terms", "teacher_terms")
        return join_terms(*(self.info.get(kind) for kind in kinds))


def load_run(source: str | os.PathLike, *, which: str = "best") -> Run:
    """The best (by validation NME) or last model of a run directory; or the one of a file, an ONNX file of `export` or the
    weights of `npz.write_weights`.

    Args:
      source: the run directory, the file, or the name of a model that ships with lapjax (`list_pretrained`).
      which: of a run directory: "best" or "last".

    Raises:
      LapjaxError: not a run, no checkpoint yet, a checkpoint of another shape than its configuration, or a file that is
        none of lapjax's.

    Warns:
      TermsWarning: a shipped model's training data bind its use.

    Examples:
      >>> import lapjax
      >>> run = lapjax.load_run("toy-68")
      >>> run.scheme.count, run.config.model.input_size  # px
      (68, 96)
    """
    if which not in _KEPT:
        raise LapjaxError(f'unknown checkpoint {which!r}: choose "best" or "last"')
    directory = pretrained.find(source)
    if not directory.is_dir():
        return _load_file(directory, which)
    from lapjax.networks import variable_shapes

    with contextlib.closing(RunDirectory(directory)) as place:
        config, scheme, info = place.read()
        step, tree = place.restore(which)
    variables = tree if which == "best" else tree["average"]
    _check_shapes(variables, variable_shapes(config.model, scheme.count), place.path)
    file = place.path / CALIBRATION
    known = load_calibration(file) if which == "best" and file.exists() else None
    return Run(config, scheme, variables, step, info, known)


def _load_file(file, which) -> Run:
    if which != "best":
        raise LapjaxError(f"{file} holds one model: only a run directory has a last one besides the best")
    if file.suffix == ".npz":
        return Run(*read_weights(file))
    from lapjax.checkpoints.onnx_weights import read

    card, config, variables = read(file)
    pretrained.tell_terms(file)
    said = card.provenance
    info = said["info"] | {"terms": said["terms"]}
    return Run(config, card.scheme, variables, said["step"], info, card.calibration)


def _shapes(tree) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf by the words of its path, the same for a dataclass and for a dict of its fields."""
    return {
        ".".join(re.findall(r"\w+", jax.tree_util.keystr(path))): tuple(np.shape(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _check_shapes(found, wanted, path) -> None:
    have, want = _shapes(found), _shapes(wanted)
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            raise LapjaxError(
                f"the checkpoint in {path} is of another model than its config.json: {name} has shape "
                f"{have.get(name, 'none')} there and {want.get(name, 'none')} by config.json; restore the "
                "config.json it was trained with"
            )


class RunDirectory:
    """One run's files. `open_for_training` locks it; the rest reads."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).absolute()
        self._managers: dict[str, ocp.CheckpointManager] = {}
        self._locked = False

    def close(self) -> None:
        """Lets go of the checkpoints; they open again when asked for."""
        for manager in self._managers.values():
            manager.close()
        self._managers.clear()

    def read(self) -> tuple[Config, Scheme, dict]:
        """The configuration, scheme and data description of the run.

        Raises:
          LapjaxError: not a run directory, or one that this version cannot read.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise LapjaxError(
                f"{self.path} is not a run: it has no config.json; name the --out of `lapjax train`"
            )
        try:
            content = json.loads(file.read_text())
            return (
                from_dict(Config, content["config"]),
                Scheme.from_dict(content["scheme"]),
                content["info"],
            )
        except LapjaxError as error:
            raise LapjaxError(
                f"{file} cannot be used by this version of lapjax ({error}): use the version that wrote it, or train again"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LapjaxError(f"{file} is damaged ({error}): restore it or train again") from error

    @contextlib.contextmanager
    def open_for_training(self, config: Config, scheme: Scheme, info: dict, *, resume: bool):
        """Makes or reopens the run and holds its lock.

        Raises:
          LapjaxError: the directory cannot be written, is in use, holds a run already (without `resume`), or holds
            another run (with it).
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LapjaxError(
                f"cannot write {self.path}: {error.strerror or error}; choose another --out"
            ) from error
        with holding(self.path / "run.lock", other="another --out") as ours:
            if not ours:
                raise LapjaxError(
                    f"{self.path} is in use by another training: wait for it, or choose another --out"
                )
            self._begin(config, scheme, info, resume)
            self._locked = True
            try:
                yield self
            finally:
                self._locked = False
                self.close()

    def _begin(self, config, scheme, info, resume) -> None:
        exists = (self.path / "config.json").is_file()
        if exists and not resume:
            raise LapjaxError(
                f"{self.path} holds a run already: continue it with --resume, or choose another --out"
            )
        if exists:
            known, known_scheme, known_info = self.read()
            changed = _differences(to_dict(known), to_dict(config))
            if known_scheme != scheme:
                changed.append(f"the scheme ({known_scheme.name} there, {scheme.name} now)")
            # Another version of lapjax may say more of the data, or less.
            shared = known_info.keys() & info.keys()
            there, now = ({key: of[key] for key in shared} for of in (known_info, info))
            changed += _differences(there, now, "data.")
            if changed:
                raise LapjaxError(
                    f"{self.path} holds another run; it differs in {'; '.join(changed)}. "
                    "Give the options and the data it was started with, or choose another --out"
                )
            return
        # A run killed before its config.json was in place may have left these two.
        found = {item.name for item in self.path.iterdir()} - {"run.lock", ".config.json.part"}
        if found & {"metrics.jsonl", *_KEPT} or (resume and found):
            raise LapjaxError(
                f"{self.path} has files but no config.json, so it is no run to resume or to start: restore its "
                "config.json, or choose another --out"
            )
        content = {"config": to_dict(config), "scheme": scheme.to_dict(), "info": info}
        self._write("config.json", json.dumps(content, indent=2) + "\n")

    def _manager(self, which: str) -> ocp.CheckpointManager:
        if which not in self._managers:
            if self._locked:
                (self.path / which).mkdir(exist_ok=True)
            alone = jax.process_index()
            self._managers[which] = ocp.CheckpointManager(
                self.path / which,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=_KEPT[which],
                    enable_async_checkpointing=False,
                    create=False,
                    # Whoever only reads must leave alone what a training is writing.
                    cleanup_tmp_directories=self._locked,
                    # One of several processes writes what they all hold, and waits for none of the others.
                    multiprocessing_options=ocp.options.MultiprocessingOptions(
                        primary_host=alone, active_processes={alone}
                    ),
                ),
            )
        return self._managers[which]

    def save(self, which: str, step: int, tree) -> None:
        """Saves a pytree of NumPy arrays as the newest checkpoint of `which` and drops the oldest.

        Raises:
          LapjaxError: it cannot be written, or a newer one is there; the one before stays.
        """
        place = self.path / which
        if which == "best":  # a calibration is of one model
            (self.path / CALIBRATION).unlink(missing_ok=True)
        try:
            saved = self._manager(which).save(step, args=ocp.args.StandardSave(tree))
        except (OSError, ValueError, RuntimeError) as error:
            raise LapjaxError(
                f"cannot save a checkpoint in {place} ({_first_line(error)}): free some space and continue with "
                "--resume; the checkpoint before it is whole"
            ) from error
        if not saved:
            raise LapjaxError(
                f"{place} holds step {self.latest(which)} already, so step {step} is not saved: choose another --out"
            )

    def latest(self, which: str) -> int | None:
        """The step of the newest checkpoint, if there is one."""
        return self._manager(which).latest_step() if (self.path / which).is_dir() else None

    def restore(self, which: str, like=None) -> tuple[int, Any]:
        """(step, pytree) of the newest checkpoint, in the structure of `like` when given.

        Raises:
          LapjaxError: there is none, or it is damaged or of another shape.
        """
        step = self.latest(which)
        if step is None:
            other = " or ask for its last checkpoint" if which == "best" and self.latest("last") else ""
            raise LapjaxError(
                f"{self.path} has no {which} checkpoint yet: train it further with --resume{other}"
            )
        cpu = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])

        def describe(leaf):
            return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=cpu)

        try:
            if like is not None:
                # Asked for other shapes, orbax leaves failed tasks behind that complain later.
                with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
                    # It asks for a path of etils, and takes any.
                    stored = handler.metadata(self.path / which / str(step) / "default").tree  # pyright: ignore[reportArgumentType]
                _check_shapes(stored, like, self.path / which)
            args = ocp.args.StandardRestore(None if like is None else jax.tree.map(describe, like))
            return step, self._manager(which).restore(step, args=args)
        except LapjaxError:
            raise
        except Exception as error:  # what orbax and tensorstore raise depends on where the damage is
            raise LapjaxError(
                f"the checkpoint of step {step} in {self.path / which} cannot be read ({_first_line(error)}): it is "
                "damaged or of another model; restore it or train again"
            ) from error

    @property
    def log(self) -> pathlib.Path:
        return self.path / "metrics.jsonl"

    def rewind(self, step: int) -> None:
        """Drops what lies after `step`, where a run goes on: logged lines, a half-written last one, and best checkpoints.

        Raises:
          LapjaxError: the disk is full.
        """
        if self.latest("best") is not None:
            manager = self._manager("best")
            for later in manager.all_steps():
                if later > step:
                    manager.delete(later)
        if not self.log.exists():
            return
        kept = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
        self._write(self.log.name, "".join(kept))

    def _write(self, name: str, text: str) -> None:
        message = "cannot write {path}: {reason}; free some space"
        with replacing(self.path / name, message, locked=True) as part:
            part.write_text(text)


def saved_step(path: str | os.PathLike) -> int:
    """The step of a run's last checkpoint, 0 where there is none."""
    with contextlib.closing(RunDirectory(path)) as directory:
        return directory.latest("last") or 0


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    found = []
    for name in old.keys() | new.keys():
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name} ({a} there, {b} now)")
    return sorted(found)
