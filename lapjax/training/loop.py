"""What `train` does once everything is in place: send, step, log, validate, save. All that is computed is in `step.train_step`.

A `Loop` is one run; it asks for its steps, and `run` has them computed: those of one loop, or of several in one program.
"""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lapjax import metrics
from lapjax.checkpoints.run import RunDirectory
from lapjax.config import Config
from lapjax.data import augment
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import predict_variables
from lapjax.metrics.scoring import truth
from lapjax.samples import Samples
from lapjax.training import game
from lapjax.training.material import Material, fresh_state, make_players, sources
from lapjax.training.sharding import Placement, agree, from_first, on_first
from lapjax.training.step import heldout_accuracy

__all__ = ["Loop", "Outcome", "image_errors", "run"]


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


def image_errors(points, samples: Samples) -> np.ndarray:
    """The error of each image in percent, by the scheme's first normaliser, for points (N, K, 2) in image px."""
    return metrics.image_nme(points, truth(samples), samples.visible, samples.box, samples.scheme)


class Steps(NamedTuple):
    """What a loop asks for: the state after some steps, and what was measured."""

    state: game.State
    sent: Any
    """What the labelled source sent, and the unlabelled one, None for supervised steps."""
    sent_unlabelled: Any
    seed: np.integer
    count: int
    measure: bool

    @property
    def arguments(self) -> tuple:
        """Of the compiled program."""
        return self.state, self.sent, self.sent_unlabelled, self.seed

    @property
    def kind(self) -> tuple[int, bool, bool]:
        """Steps of a kind are computed by one program."""
        return self.count, self.sent_unlabelled is not None, self.measure


class Loop:
    """One run from its first or its last step to its end; what `train` says, it does."""

    def __init__(
        self,
        config: Config,
        material: Material,
        *,
        placement: Placement,
        directory: RunDirectory,
        log_every: int,
        report: Callable[[dict], None],
        start: dict | None = None,
        teacher: Callable[[jax.Array], jax.Array] | None = None,
    ):
        """A run that has not begun; nothing is written yet.

        Args:
          config: of the run.
          material: its samples.
          placement: where its steps run.
          directory: its files.
          log_every: steps between logged lines.
          report: called with every logged line.
          start: the variables of the trained network to start from, None for a fresh one.
          teacher: the heatmaps to learn, as of `game.Players`.

        Raises:
          LapjaxError: a start of another network, or several steps a call of chips that are not on the device.
        """
        self.config, self.placement, self.directory = config, placement, directory
        self.log_every, self.report = log_every, report
        self.per_epoch = len(material.labelled) / config.batch_size
        self.steps = max(1, math.ceil(config.epochs * self.per_epoch))
        self.validate_every = max(1, round(config.evaluate_every * self.per_epoch))
        self.players = make_players(config, material, self.steps, placement.axis, teacher)
        self.fresh = fresh_state(self.players, start)
        self.labelled, self.unlabelled = sources(config, material, placement)
        # The other chips lie on the device now: the host keeps those of the validation split alone.
        self.validation = material.validation

        @jax.jit
        def accuracy(params, chips, landmarks, visible):
            factor = self.validation.meta["chip_factor"]
            crops = augment.crop(chips, landmarks, visible, model=config.model, chip_factor=factor)
            return heldout_accuracy(params, crops, self.players)

        self.heldout_accuracy = accuracy

    def run(
        self, asked: Callable[[int], int | None]
    ) -> Generator[Steps, tuple[game.State, dict, bool], Outcome]:
        """Asks for steps, until it is done or `asked`, before each time, gives a signal's number.

        It is sent the state after them, what was measured, and whether their program had to be compiled.
        """
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
            before = time.perf_counter()
            steps = self._next(state, step)
            ready = time.perf_counter()
            self.outside += ready - before
            state, measured, compiled = yield steps
            if compiled:  # which is no part of the rate
                self.mark += time.perf_counter() - ready
            step += steps.count
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

    def _count(self, step) -> int:
        """How many steps the next call takes: `dispatch`, or one where something falls between them.

        A function of the step alone, so that a resumed run takes the same calls.
        """
        count, after = self.config.dispatch, step + self.config.dispatch
        halts = [step - step % every + every for every in (self.log_every, self.validate_every)]
        if step < self.players.warmup_steps:
            halts.append(self.players.warmup_steps)
        return count if step % count == 0 and after <= min(self.steps, *halts) else 1

    def _next(self, state, step) -> Steps:
        count = self._count(step)
        several = {"steps": count} if count > 1 else {}
        unlabelled = self.unlabelled if step >= self.players.warmup_steps else None
        return Steps(
            state,
            self.labelled.send(step, **several),
            None if unlabelled is None else unlabelled.send(step, **several),
            np.int64(self.config.seed),
            count,
            # The norms are measured on the steps that are logged; they cost a second backward pass.
            measure=unlabelled is not None and count == 1 and (step + 1) % self.log_every == 0,
        )

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
        samples = self.validation
        guess = predict_variables(self.config.model, host.average, samples)
        nme = float(image_errors(guess.points, samples).mean())
        line = {"nme": nme, "validation_scale": float(guess.scale.mean())}
        if self.config.game.adversary and int(host.step) > self.players.warmup_steps:
            few = samples.take(slice(self.config.batch_size))
            share = self.heldout_accuracy(
                host.discriminator.params, np.asarray(few.images), few.landmarks, few.visible
            )
            line["d_heldout_accuracy"] = float(share)
        return nme, line


def run(loops: Sequence[Loop], asked: Callable[[int], int | None]) -> list[Outcome]:
    """Trains until all are done or `asked`, before each call of the compiled step, gives a signal's number.

    Args:
      loops: one, or several that differ in their seeds and faces alone and stand at the same step: they take the same
        steps, several runs' at a time.
      asked: called with the number of steps done.
    """
    asked = functools.lru_cache(maxsize=1)(asked)  # one answer for all
    running = [loop.run(asked) for loop in loops]
    results: list = [None] * len(loops)
    programs: dict[tuple, Callable] = {}
    while True:
        wanted, outcomes = [], []
        for each, result in zip(running, results, strict=True):
            try:
                wanted.append(each.send(result))
            except StopIteration as end:
                outcomes.append(end.value)
        if outcomes:
            return outcomes
        kind = wanted[0].kind
        new = kind not in programs
        if new:
            programs[kind] = _compile(loops, *kind)
        results = [(*result, new) for result in programs[kind](wanted)]


def _compile(loops: Sequence[Loop], count: int, plays: bool, measure: bool) -> Callable[[list[Steps]], list]:
    """The program of one kind of steps: what each loop wants in, the next state and metrics of each out."""
    how = {"measure": measure, "steps": count}
    placement = loops[0].placement
    if len(loops) == 1:
        (loop,) = loops
        call = placement.compile(loop.players, loop.labelled, loop.unlabelled if plays else None, **how)
        return lambda wanted: [call(*wanted[0].arguments)]
    players, labelled = [loop.players for loop in loops], [loop.labelled for loop in loops]
    unlabelled = [loop.unlabelled for loop in loops] if plays else None
    together = placement.compile_together(players, labelled, unlabelled, **how)
    return lambda wanted: together(*zip(*(each.arguments for each in wanted), strict=True))
