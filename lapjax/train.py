"""The host loop: send a batch, step, log, validate, save. Everything that is computed is in `game.step`."""

import contextlib
import dataclasses
import json
import math
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lapjax import augment, data, game, metrics, shipped
from lapjax.checkpoints import Run, RunDirectory, load_run
from lapjax.config import Config
from lapjax.data import Faces
from lapjax.errors import LapjaxError
from lapjax.evaluate import check_crop, predict
from lapjax.scoring import truth
from lapjax.sharding import Placement, agree, from_first, on_first

__all__ = ["Outcome", "train"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    step: int
    steps: int
    best_nme: float
    """Percent, of the averaged generator on the validation split, by the scheme's first normaliser."""
    stopped: int | None
    """The signal that stopped it early, None when it ran to its end."""
    seconds: float

    @property
    def finished(self) -> bool:
        return self.step == self.steps


@dataclasses.dataclass
class _Faces:
    labelled: Faces
    validation: Faces
    unlabelled: Faces | None


def _load(config: Config, data_dir, scheme, read=data.load) -> _Faces:
    def load(name, split, limit=None, option=None, scheme=None, drawn=False):
        probe = read(name, split, data_dir=data_dir, limit=1, scheme=scheme, encoded=True)
        count = data.splits(name, data_dir=data_dir)[split]
        if limit is not None and count < limit:
            raise LapjaxError(
                f"{name} has {count:,} faces in its split {split}, fewer than the {limit:,} that the run asks for: "
                f"name a larger set, or say --{option} {count}"
            )
        drawn = drawn and limit is not None
        encoded = drawn or (limit or count) * math.prod(probe.images.shape[1:]) > data.RESIDENT_LIMIT
        first = None if drawn else limit
        faces = read(name, split, data_dir=data_dir, limit=first, scheme=scheme, encoded=encoded)
        if drawn:
            faces = faces.take(data.order(config.seed, 0, count, count=count)[:limit])
        check_crop(config.model, faces)
        return faces

    labelled = load(config.dataset, config.train_split, config.train_limit, "train-limit", scheme, drawn=True)
    if not labelled.scheme.count:
        raise LapjaxError(
            f"{config.dataset} has no landmarks: train on a labelled set, and name this one with --unlabelled"
        )
    validation = load(config.dataset, config.validation_split, scheme=scheme)
    try:  # what cannot be measured is refused now, not at the first validation
        _errors(truth(validation), validation)
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
    return _Faces(labelled, validation, unlabelled)


def _errors(points, faces: Faces) -> np.ndarray:
    return metrics.image_nme(points, truth(faces), faces.visible, faces.box, faces.scheme)


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
    read: Callable[..., Faces] = data.load,
) -> Outcome:
    """Trains a generator, alone, in the game or with models' labels besides, into a run directory.

    Several processes (`sharding.start_processes`) call it alike; the first alone reads and writes the run directory.

    Args:
      config: the run; `recipes.get_recipe` has one for every row of the poster's tables.
      out: the run directory, made when missing.
      resume: continue the run that is there, from its last checkpoint; on a CPU it ends bit-identical to one that was
        never stopped. Where there is none yet, start.
      data_dir: where prepared sets are, see `data.data_directory`.
      scheme: for a TFDS set that lapjax did not prepare.
      log_every: steps between lines of metrics.jsonl; a resumed game needs the same to be bit-identical.
      report: called with every logged line, on the first process.
      stop: asked before each step with its number, besides SIGINT and SIGTERM; a signal's number ends the run with a
        checkpoint. Several processes stop together, at a multiple of `log_every`, when one is asked.
      read: in place of `data.load`: one that remembers, where a process trains several runs on the same faces.

    Raises:
      LapjaxError: bad data or options, before anything is written; a directory in use or of another run; a loss that
        is not finite (names the step; the last good checkpoint stays); a disk that is full (likewise).
    """
    placement = Placement(config.placement)
    placement.check(batch_size=config.batch_size)
    if config.uses_unlabelled:
        placement.check(unlabelled_batch_size=config.unlabelled_batch_size)
    faces = _load(config, data_dir, scheme, read)
    start = load_run(config.start) if config.start else None
    info = {
        "labelled": len(faces.labelled),
        "validation": len(faces.validation),
        "unlabelled": len(faces.unlabelled) if faces.unlabelled else 0,
        "chip_size": int(faces.labelled.images.shape[1]),
        "chip_factor": faces.labelled.meta["chip_factor"],
        "terms": faces.labelled.meta.get("terms"),
        "unlabelled_terms": faces.unlabelled.meta.get("terms") if faces.unlabelled else None,
        "start_terms": start.terms if start else None,
    }
    directory = RunDirectory(out)
    loop = _Loop(config, faces, start, placement, directory, log_every, report or (lambda line: None))
    opened = directory.open_for_training(config, faces.labelled.scheme, info, resume=resume)
    with contextlib.ExitStack() as stack:
        on_first(lambda: stack.enter_context(opened))
        signals = stack.enter_context(_Signals())
        return loop.run(lambda step: signals.number or (stop(step) if stop else None))


def _startable(config: Config, start: Run, faces: Faces):
    """The variables of the run to start from; of a file, whose batch norms are gone, with those of some faces."""
    if shipped.find(config.start).is_dir():
        return start.variables
    from lapjax.restoring import with_statistics  # needs onnx, which a training without a file need not have

    few = np.asarray(faces.take(slice(64)).images)
    crops = augment.crop(
        few, *augment.no_landmarks(few), model=config.model, chip_factor=faces.meta["chip_factor"]
    )
    return with_statistics(start.config.model, start.variables, crops.images)


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


class _Loop:
    def __init__(self, config, faces, start, placement, directory, log_every, report):
        self.config, self.placement, self.directory = config, placement, directory
        self.log_every, self.report = log_every, report
        per_epoch = len(faces.labelled) / config.batch_size
        self.steps = max(1, math.ceil(config.epochs * per_epoch))
        self.validate_every = max(1, round(config.evaluate_every * per_epoch))
        self.per_epoch = per_epoch
        self.players = game.Players(
            config,
            faces.labelled.scheme.count,
            faces.labelled.scheme.flip,
            self.steps,
            faces.labelled.meta["chip_factor"],
            faces.unlabelled.meta["chip_factor"] if faces.unlabelled else None,
            placement.axis,
        )
        self.fresh = game.init(jax.random.key(config.seed), self.players)
        if start:
            try:
                self.fresh = game.start_from(self.fresh, _startable(config, start, faces.labelled))
            except LapjaxError as error:
                raise LapjaxError(f"cannot start from {config.start}: {error}") from error
        self.compiled: set[Callable] = set()
        self.labelled = data.source(faces.labelled, config.batch_size, config.seed, put=placement.put)
        self.unlabelled = None
        if faces.unlabelled:
            self.unlabelled = data.source(
                faces.unlabelled, config.unlabelled_batch_size, config.seed + 1, put=placement.put
            )
        sources = [source for source in (self.labelled, self.unlabelled) if source]
        if config.dispatch > 1 and not all(isinstance(source, data.Resident) for source in sources):
            raise LapjaxError(
                f"dispatch {config.dispatch} needs all chips on the device, and these are too many: leave it at 1"
            )
        # By the steps of a call, and whether the norms are measured.
        self.supervised = {
            steps: placement.compile(self.players, self.labelled, steps=steps)
            for steps in {1, config.dispatch}
        }
        self.playing = {
            (steps, measure): placement.compile(
                self.players, self.labelled, self.unlabelled, measure=measure, steps=steps
            )
            for steps, measure in {(1, False), (1, True), (config.dispatch, False)}
        }
        # The other chips lie on the device now: the host keeps those of the validation split alone.
        self.validation = faces.validation

        @jax.jit
        def heldout_accuracy(params, chips, landmarks, visible):
            factor = self.validation.meta["chip_factor"]
            crops = augment.crop(chips, landmarks, visible, model=config.model, chip_factor=factor)
            return game.heldout_accuracy(params, crops, self.players)

        self.heldout_accuracy = heldout_accuracy

    def run(self, asked: Callable[[int], int | None]) -> Outcome:
        state = self._begin()
        self.saved = step = int(state.step)
        state = self.placement.put(state)
        self.pending: list[list[tuple[int, dict]]] = []
        window: list[tuple[int, dict]] = []
        start = self.mark = time.perf_counter()
        self.mark_step, self.outside = step, 0.0
        self.signal = stopped = None
        while step < self.steps:
            stopped = self._stopped(asked, step)
            if stopped is not None:
                break
            count = self._steps(step)
            state, measured = self._step(state, step, count)
            step += count
            window.append((step, measured))
            if step % self.log_every == 0 or step == self.steps:
                self.pending.append(window)
                window = []
                # The line before this one is long done: reading it does not wait for the step just sent.
                if len(self.pending) > 1:
                    self._flush(self.pending.pop(0))
            if step % self.validate_every == 0 or step == self.steps:
                self._settle(state, window, step, validate=True)
                window = []
        if stopped is not None and step > self.saved:
            self._settle(state, window, step, validate=False)
        return Outcome(step, self.steps, self.best, stopped, time.perf_counter() - start)

    def _begin(self) -> game.State:
        """A fresh state, or that of the last checkpoint with the log and the best model rewound to it."""
        state, self.best = self.fresh, math.inf
        del self.fresh

        def resume():
            nonlocal state
            if self.directory.latest("last") is not None:
                _, state = self.directory.restore("last", state)
            self.directory.rewind(int(state.step))
            self.best = self._best_so_far()

        on_first(resume)
        state, best = from_first((state, np.float32(self.best)))
        if jax.process_index():
            self.best = float(best)
        return state

    def _stopped(self, asked, step) -> int | None:
        """The signal to stop by. None of several processes may stop alone, so they ask each other now and then."""
        self.signal = self.signal or asked(step)
        if jax.process_count() == 1:
            return self.signal
        return agree(self.signal) if step % self.log_every == 0 else None

    def _steps(self, step) -> int:
        """How many steps the next call takes: `dispatch`, or one where something falls between them.

        A function of the step alone, so that a resumed run takes the same calls.
        """
        count, after = self.config.dispatch, step + self.config.dispatch
        halts = [step - step % every + every for every in (self.log_every, self.validate_every)]
        if step < self.players.warmup_steps:
            halts.append(self.players.warmup_steps)
        return count if step % count == 0 and after <= min(self.steps, *halts) else 1

    def _step(self, state, step, count):
        before = time.perf_counter()
        several = {"steps": count} if count > 1 else {}
        sent, faces, run = self.labelled.send(step, **several), None, self.supervised[count]
        if self.unlabelled is not None and step >= self.players.warmup_steps:
            faces = self.unlabelled.send(step, **several)
            # The norms are measured on the steps that are logged; they cost a second backward pass.
            run = self.playing[count, count == 1 and (step + 1) % self.log_every == 0]
        ready = time.perf_counter()
        self.outside += ready - before
        result = run(state, sent, faces)
        if run not in self.compiled:  # compiling is no part of the rate
            self.compiled.add(run)
            self.mark += time.perf_counter() - ready
        return result

    def _best_so_far(self) -> float:
        lines = self.directory.log.read_text().splitlines() if self.directory.log.exists() else []
        return min((row["nme"] for row in map(json.loads, lines) if "nme" in row), default=math.inf)

    def _check(self, window) -> None:
        """Waits for the steps of a window and raises at the first whose loss or gradient is not finite."""
        checked = [(step, measured["loss"], measured["gradient_norm"]) for step, measured in window]
        for step, *values in jax.device_get(checked):
            if not all(np.isfinite(value).all() for value in values):
                among = (
                    f"one of the {self.config.dispatch} steps up to " if self.config.dispatch > 1 else "step "
                )
                raise self._diverged(f"the loss is not finite at {among}{step}")

    def _diverged(self, what: str) -> LapjaxError:
        kept = self.directory.latest("last")
        rest = "no checkpoint had been saved before it"
        if kept is not None:
            rest = f"the last good checkpoint, of step {kept}, is in {self.directory.path / 'last'}"
        return LapjaxError(
            f"{what}: {rest}; train again with a lower optimiser.learning_rate or optimiser.clip"
        )

    def _flush(self, window) -> None:
        """Waits for the steps since the line before, checks them and logs the last."""
        self._check(window)
        step, measured = window[-1]
        values = {name: float(np.ravel(value)[-1]) for name, value in jax.device_get(measured).items()}
        now = time.perf_counter()
        steps, seconds = step - self.mark_step, max(now - self.mark, 1e-9)
        rate = steps / seconds
        line = {
            "step": step,
            "epoch": step / self.per_epoch,
            **values,
            "images_per_second": rate * self.config.batch_size,
            "host_share": self.outside / seconds,
            "seconds_left": (self.steps - step) / rate,
        }
        self.mark, self.mark_step, self.outside = now, step, 0.0
        on_first(lambda: self._write(line))

    def _write(self, line: dict) -> None:
        line = {"steps": self.steps, **line}
        try:
            with open(self.directory.log, "a") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:
            raise LapjaxError(
                f"cannot write {self.directory.log}: {error.strerror or error}; free some space, then --resume"
            ) from error
        self.report(line)

    def _settle(self, state, window, step, *, validate: bool) -> None:
        """Reads what is pending, validates and saves; raises on anything not finite before anything is saved."""
        for earlier in self.pending:
            self._flush(earlier)
        self.pending.clear()
        self._check(window)
        host = self.placement.one(state)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(host)):
            raise self._diverged(f"a parameter or an optimiser's moment is not finite at step {step}")
        validated = self._validate(host) if validate else None

        def keep():
            if validated is not None:
                nme, line = validated
                if nme < self.best:
                    self.directory.save("best", step, host.average)
                self._write({"step": step, "epoch": step / self.per_epoch, **line})
            self.directory.save("last", step, host)

        on_first(keep)
        if validated is not None:
            self.best = min(self.best, validated[0])
        self.saved = step
        self.mark, self.mark_step, self.outside = time.perf_counter(), step, 0.0

    def _validate(self, host) -> tuple[float, dict]:
        faces = self.validation
        guess = predict(self.config.model, host.average, faces)
        nme = float(_errors(guess.points, faces).mean())
        line = {"nme": nme, "validation_scale": float(guess.scale.mean())}
        if self.config.game.adversary and int(host.step) > self.players.warmup_steps:
            few = faces.take(slice(self.config.batch_size))
            share = self.heldout_accuracy(
                host.discriminator.params, np.asarray(few.images), few.landmarks, few.visible
            )
            line["d_heldout_accuracy"] = float(share)
        return nme, line
