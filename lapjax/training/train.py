"""Training a run: its faces are read and everything is checked, then the loop has it until it ends or is told to stop."""

import contextlib
import functools
import math
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lapjax import data
from lapjax.checkpoints import pretrained
from lapjax.checkpoints.run import Run, RunDirectory, load_run, saved_step
from lapjax.config import Config, override
from lapjax.data import augment, batches
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import check_crop
from lapjax.evaluation.pseudo_labels import mean_heatmaps
from lapjax.images import join_terms
from lapjax.metrics.scoring import truth
from lapjax.samples import Samples
from lapjax.training.loop import Loop, Outcome, image_errors, run
from lapjax.training.material import Material
from lapjax.training.sharding import Placement, on_first

__all__ = ["Outcome", "train", "train_together"]


def _load(config: Config, data_dir, scheme, read=None) -> Material:
    read = read or data.load_dataset

    def load(name, split, limit=None, option=None, scheme=None, drawn=False):
        probe = read(name, split, data_dir=data_dir, limit=1, scheme=scheme, encoded=True)
        count = data.splits(name, data_dir=data_dir)[split]
        if limit is not None and count < limit:
            raise LapjaxError(
                f"{name} has {count:,} faces in its split {split}, fewer than the {limit:,} that the run asks for: "
                f"name a larger set, or say --{option} {count}"
            )
        drawn = drawn and limit is not None
        encoded = drawn or (limit or count) * math.prod(probe.images.shape[1:]) > batches.RESIDENT_LIMIT
        first = None if drawn else limit
        samples = read(name, split, data_dir=data_dir, limit=first, scheme=scheme, encoded=encoded)
        if drawn:
            samples = samples.take(data.order(config.seed, 0, count, count=count)[:limit])
        check_crop(config.model, samples)
        return samples

    labelled = load(config.dataset, config.train_split, config.train_limit, "train-limit", scheme, drawn=True)
    if not labelled.scheme.count:
        raise LapjaxError(
            f"{config.dataset} has no landmarks: train on a labelled set, and name this one with --unlabelled"
        )
    validation = load(config.dataset, config.validation_split, scheme=scheme)
    try:  # what cannot be measured is refused now, not at the first validation
        image_errors(truth(validation), validation)
    except LapjaxError as error:
        raise LapjaxError(f"{config.dataset}, split {config.validation_split}: {error}") from error
    unlabelled = None
    if config.uses_unlabelled:
        unlabelled = load(
            config.unlabelled, config.unlabelled_split, config.unlabelled_limit, "unlabelled-limit"
        )
        if config.semi.method == "labels":
            if unlabelled.scale is None:
                raise LapjaxError(
                    f"{config.unlabelled} has no labels of trained models: write some with "
                    f"`lapjax label RUN... --dataset {config.unlabelled} --out labelled.npz` and name that file"
                )
            if unlabelled.scheme != labelled.scheme:
                raise LapjaxError(
                    f"{config.unlabelled} is labelled by the scheme {unlabelled.scheme.name} and {config.dataset} by "
                    f"{labelled.scheme.name}: label it with models of that scheme"
                )
    return Material(labelled, validation, unlabelled)


def train(
    config: Config,
    out: str | os.PathLike,
    *,
    resume: bool = False,
    data_dir: str | os.PathLike | None = None,
    scheme: Any = None,
    log_every: int = 20,
    report: Callable[[dict], None] | None = None,
    stop: Callable[[int], int | None] | None = None,
    read: Callable[..., Samples] | None = None,
) -> Outcome:
    """Trains a generator, alone, in the game or with models' labels besides, into a run directory.

    Several processes (`sharding.start_processes`) call it alike; the first alone reads and writes the run directory.

    Args:
      config: the run; `recipes.get_recipe` has one for every row of the poster's tables.
      out: the run directory, made when missing.
      resume: continue the run that is there, from its last checkpoint; on a CPU, of as many threads, it ends bit-identical to one
        that was never stopped. Where there is none yet, start.
      data_dir: where prepared sets are, see `data.data_directory`.
      scheme: for a TFDS set that lapjax did not prepare.
      log_every: steps between lines of metrics.jsonl; a resumed game needs the same to be bit-identical.
      report: called with every logged line, on the first process.
      stop: asked before each step with its number, besides SIGINT and SIGTERM; a signal's number ends the run with a
        checkpoint. Several processes stop together, at a multiple of `log_every`, when one is asked.
      read: in place of `load_dataset`, such as one that remembers where a process trains several runs on the same faces.

    Raises:
      LapjaxError: bad data or options, before anything is written; a directory in use or of another run; a loss that
        is not finite (names the step; the last good checkpoint stays); a disk that is full (likewise).

    Examples:
      Of a network too small for more than showing how:

      >>> import lapjax
      >>> samples = {s: lapjax.load_dataset("toy_faces", s, limit=16) for s in ("train", "validation")}
      >>> lapjax.data.write_pack("few.npz", samples)
      >>> config = lapjax.override(
      ...     lapjax.get_recipe("toy-laplacekl"), dataset="few.npz", epochs=1.0, evaluate_every=1.0, batch_size=8,
      ...     model={"channels": 2, "blocks": (1, 1, 1), "input_size": 32},
      ... )
      >>> outcome = lapjax.train(config, "runs/example")
      >>> outcome.finished, outcome.steps
      (True, 2)
    """
    (outcome,) = train_together(
        [config],
        [out],
        resume=resume,
        data_dir=data_dir,
        scheme=scheme,
        log_every=log_every,
        report=report and (lambda _, line: report(line)),
        stop=stop,
        read=read,
    )
    return outcome


def train_together(
    configs: Sequence[Config],
    outs: Sequence[str | os.PathLike],
    *,
    resume: bool = False,
    data_dir: str | os.PathLike | None = None,
    scheme: Any = None,
    log_every: int = 20,
    report: Callable[[int, dict], None] | None = None,
    stop: Callable[[int], int | None] | None = None,
    read: Callable[..., Samples] | None = None,
) -> list[Outcome]:
    """Trains several seeds of a run at once, in one program on one device: a small network leaves most of a GPU idle.

    Each is the run that `train` makes of it, but for rounding, in its own run directory; they stop, go on and fail
    together. On two CPU cores it takes 5 to 15 % longer than one after the other.

    Args:
      configs: the runs, alike but for their seeds and the names of their faces.
      outs: their run directories.
      resume: as of `train`; all of them stand at the same step then.
      data_dir: as of `train`, likewise `scheme`, `log_every`, `stop` and `read`.
      report: called with the place of a run and every line it logs.

    Returns:
      How each ended.

    Raises:
      LapjaxError: as `train`; or the runs differ in more, stand at different steps, are placed on several devices, or
        have more chips than the device can hold.
    """
    report = report or (lambda place, line: None)
    if not configs or len(configs) != len(outs):
        raise LapjaxError(f"{len(configs)} runs and {len(outs)} run directories: give one for each")
    own = ("seed", "dataset", "unlabelled")
    first = {name: getattr(configs[0], name) for name in own}
    if any(override(config, **first) != configs[0] for config in configs):
        raise LapjaxError("these runs differ in more than their seeds and faces: train them one by one")
    how = {"data_dir": data_dir, "scheme": scheme, "log_every": log_every, "read": read}
    prepared = [
        _prepare(config, out, functools.partial(report, place), **how)
        for place, (config, out) in enumerate(zip(configs, outs, strict=True))
    ]
    if len(prepared) > 1:
        _check_alike(prepared, outs)
    return _run(prepared, resume, stop)


def _check_alike(prepared, outs) -> None:
    for loop, *_ in prepared:
        if loop.placement.kind != "jit" or len(loop.placement.devices) > 1:
            raise LapjaxError(
                "several runs in one program need one device and placement jit: train them one by one"
            )
        if not all(
            isinstance(source, data.Resident) for source in (loop.labelled, loop.unlabelled) if source
        ):
            raise LapjaxError("these runs have more chips than the device can hold: train them one by one")
    described = [{"scheme": scheme.name, **info} for _, _, (_, scheme, info) in prepared]
    first = described[0]
    for out, ours in zip(outs, described, strict=True):
        for what, value in ours.items():
            if value != first[what]:
                raise LapjaxError(
                    f"{out} has {what} {value!r} and {outs[0]} {first[what]!r}: train these runs one by one"
                )
    steps = {out: saved_step(out) for out in outs}
    if len(set(steps.values())) > 1:
        stand = ", ".join(f"{out} at {step}" for out, step in steps.items())
        raise LapjaxError(f"these runs stand at different steps ({stand}): train them one by one")


class _Prepared(NamedTuple):
    """A run whose faces are read and whose options are checked, with nothing written yet."""

    loop: Loop
    directory: RunDirectory
    description: tuple
    """Of the run: its configuration, scheme and what is known of its data."""


def _prepare(config: Config, out, report, *, data_dir, scheme, log_every, read) -> _Prepared:
    placement = Placement(config.placement)
    placement.check(batch_size=config.batch_size)
    if config.uses_unlabelled:
        placement.check(unlabelled_batch_size=config.unlabelled_batch_size)
    samples = _load(config, data_dir, scheme, read)
    start = load_run(config.start) if config.start else None
    teachers = [load_run(name) for name in config.semi.models]
    for name, teacher in zip(config.semi.models, teachers, strict=True):
        _check_teacher(name, teacher, config, samples.labelled)
    info = {
        "labelled": len(samples.labelled),
        "validation": len(samples.validation),
        "unlabelled": len(samples.unlabelled) if samples.unlabelled else 0,
        "chip_size": int(samples.labelled.images.shape[1]),
        "chip_factor": samples.labelled.meta["chip_factor"],
        "terms": samples.labelled.meta.get("terms"),
        "unlabelled_terms": samples.unlabelled.meta.get("terms") if samples.unlabelled else None,
        "start_terms": start.terms if start else None,
        "teacher_terms": join_terms(*(teacher.terms for teacher in teachers)),
    }
    directory = RunDirectory(out)
    known = _startable(config, start, samples.labelled) if start else None
    teacher = functools.partial(mean_heatmaps, teachers) if teachers else None
    loop = Loop(
        config,
        samples,
        start=known,
        teacher=teacher,
        placement=placement,
        directory=directory,
        log_every=log_every,
        report=report,
    )
    return _Prepared(loop, directory, (config, samples.labelled.scheme, info))


def _run(prepared: Sequence[_Prepared], resume: bool, stop) -> list[Outcome]:
    with contextlib.ExitStack() as stack:
        for each in prepared:
            opened = each.directory.open_for_training(*each.description, resume=resume)
            on_first(functools.partial(stack.enter_context, opened))
        signals = stack.enter_context(_Signals())
        loops = [each.loop for each in prepared]
        return run(loops, lambda step: signals.number or (stop(step) if stop else None))


def _startable(config: Config, start: Run, samples: Samples):
    """The variables of the run to start from; of a file, whose batch norms are gone, with those of some faces."""
    if pretrained.find(config.start).is_dir():
        return start.variables
    from lapjax.checkpoints.onnx_weights import with_statistics

    few = jnp.asarray(np.asarray(samples.take(slice(64)).images))
    crops = augment.crop(
        few, *augment.no_landmarks(few), model=config.model, chip_factor=samples.meta["chip_factor"]
    )
    return with_statistics(start.config.model, start.variables, crops.images)


def _check_teacher(name: str, teacher: Run, config: Config, samples: Samples) -> None:
    """Refuses a model whose heatmaps are not of the same landmarks and cells."""
    if teacher.scheme != samples.scheme:
        raise LapjaxError(
            f"{name} is of the scheme {teacher.scheme.name} and {config.dataset} of {samples.scheme.name}: "
            "learn the heatmaps of a model of that scheme"
        )
    for field in ("input_size", "crop", "stride"):
        theirs, ours = getattr(teacher.config.model, field), getattr(config.model, field)
        if theirs != ours:
            raise LapjaxError(
                f"{name} has model.{field} {theirs} and this run {ours}: learn the heatmaps of a model of "
                "the same input, or of any model its points (`lapjax label`, --semi.method labels)"
            )


class _Signals:
    """Remembers SIGINT and SIGTERM instead of dying of them, so that the step in hand is finished and saved."""

    def __enter__(self):
        self.number = None
        self._before = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        except ValueError:
            pass  # not the main thread: whoever started it decides
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number, _frame):
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
