"""Where a step runs: jit over a mesh of all devices (the default, several hosts too), or pmap.

The step itself (`step.train_step`) knows nothing of devices but the name of a pmap axis. Batches are drawn inside the
compiled step, each device taking its own rows of the global batch.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lapjax.errors import LapjaxError
from lapjax.training import game
from lapjax.training.step import train_step

__all__ = ["AXIS", "Placement", "agree", "from_first", "on_first", "start_processes"]

AXIS = "batch"


def start_processes(
    coordinator: str | None = None, processes: int | None = None, index: int | None = None
) -> None:
    """Joins several processes into one run (`jax.distributed`); with no arguments, as the cluster's variables say.

    Call it before anything else touches a device.

    Raises:
      LapjaxError: only some of the three arguments are given, or the processes cannot find each other.
    """
    given = [argument is not None for argument in (coordinator, processes, index)]
    if any(given) and not all(given):
        raise LapjaxError(
            "several processes need --coordinator HOST:PORT, --processes N and --process-index I"
        )
    try:
        jax.distributed.initialize(coordinator, processes, index)
    except (ValueError, RuntimeError) as error:
        raise LapjaxError(
            f"cannot join the other processes ({str(error).splitlines()[0]}): start all of them with the same "
            "--coordinator HOST:PORT and --processes N, and each with its own --process-index"
        ) from error


def from_first(tree):
    """A pytree of arrays as the first process has it, on every process, as NumPy arrays of the same shapes."""
    return multihost_utils.broadcast_one_to_all(tree)


def agree(number: int | None) -> int | None:
    """The largest of the numbers (None: none, else above 0) that the processes bring; all must call it together."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.int32(number or 0)).max()) or None


def on_first(action: Callable[[], object]) -> None:
    """Runs an action on the first process alone, such as writing a file; all must call it together.

    Raises:
      LapjaxError: what the action raised, on every process, so that none waits for the others in vain.
    """
    if jax.process_count() == 1:
        action()
        return
    said, failure = np.zeros(1000, np.uint8), None
    if jax.process_index() == 0:
        try:
            action()
        except LapjaxError as error:
            failure = error
            text = np.frombuffer(str(error).encode()[: len(said)], np.uint8)
            said[: len(text)] = text
    said = bytes(from_first(said)).rstrip(b"\0")
    if failure is not None:
        raise failure
    if said:
        raise LapjaxError(said.decode(errors="replace"))


class Placement:
    """Puts arrays on devices and compiles the step for them.

    `kind` is "jit" or "pmap"; `devices` are all of them by default. Under pmap every array of the state has a leading
    device axis; `one` takes a single copy to the host.
    """

    def __init__(self, kind: str = "jit", devices=None):
        self.devices = list(jax.devices() if devices is None else devices)
        self.kind = kind
        if kind == "pmap" and jax.process_count() > 1:
            raise LapjaxError("pmap is for one process: use --placement jit for several")
        self._mesh = Mesh(np.array(self.devices), (AXIS,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._split = NamedSharding(self._mesh, PartitionSpec(AXIS))

    @property
    def axis(self) -> str | None:
        """The name of the pmap axis for `game.Players`, None under jit."""
        return AXIS if self.kind == "pmap" else None

    def check(self, **batch_sizes: int) -> None:
        """Raises LapjaxError unless every batch size divides by the number of devices."""
        for name, size in batch_sizes.items():
            if size % len(self.devices):
                raise LapjaxError(
                    f"{name} {size} does not divide over {len(self.devices)} devices: choose a multiple"
                )

    def put(self, tree):
        """A copy of a pytree on every device."""
        if self.kind == "jit":
            # As NumPy arrays: what lies on a device of one process cannot be put on those of others.
            return jax.device_put(jax.tree.map(np.asarray, tree), self._replicated)
        count = len(self.devices)
        stacked = jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), (count, *np.shape(leaf))), tree)
        return jax.device_put(stacked, self._split)

    def one(self, tree):
        """A pytree that `put` or a step made, as NumPy arrays without a device axis."""

        def fetch(leaf):
            shard = np.asarray(leaf.addressable_data(0))
            return shard[0] if self.kind == "pmap" else shard

        return jax.tree.map(fetch, tree)

    def compile(
        self, players: game.Players, labelled, unlabelled=None, *, measure: bool = False, steps: int = 1
    ):
        """The step over these devices: `call(state, sent, sent_unlabelled, seed) -> (state, metrics)`.

        The seed is no part of the program, so that a compilation cache has it for every seed.

        Args:
          players: of the run, whose `axis` is this placement's.
          labelled: the source of labelled batches (`data.source`); `sent` is what its `send(step)` gives.
          unlabelled: likewise; None compiles supervised training.
          measure: as of `step.train_step`.
          steps: in one call, under jit and over `data.Resident`; `sent` is then `send(step, steps)`, and the metrics
            are (steps,) each.
        """
        count = len(self.devices)
        run = functools.partial(train_step, players=players, measure=measure)
        sizes = players.config.batch_size, players.config.unlabelled_batch_size

        def on_mesh(state, sent, sent_unlabelled, seed, row=None):
            def draw(source, sent):
                return jax.lax.with_sharding_constraint(source.gather(sent, row=row), self._split)

            samples = None if unlabelled is None else draw(unlabelled, sent_unlabelled)
            return run(state, draw(labelled, sent), samples, seed=seed)

        def on_one(state, sent, sent_unlabelled, seed):
            def draw(source, sent, size):
                rows = size // count
                first = jax.lax.axis_index(AXIS) * rows
                return source.gather(sent, first, rows), first + jnp.arange(rows)

            batch, places = draw(labelled, sent, sizes[0])
            samples, face_places = (
                (None, None) if unlabelled is None else draw(unlabelled, sent_unlabelled, sizes[1])
            )
            return run(state, batch, samples, places=places, unlabelled_places=face_places, seed=seed)

        if self.kind == "jit":
            return self._jit(_repeated(on_mesh, steps))
        return jax.pmap(
            on_one,
            AXIS,
            in_axes=(0, labelled.device_axes, None if unlabelled is None else unlabelled.device_axes, None),
            devices=self.devices,
        )

    def compile_together(
        self,
        players: Sequence[game.Players],
        labelled: Sequence,
        unlabelled: Sequence | None = None,
        *,
        measure: bool = False,
        steps: int = 1,
    ):
        """`compile` under jit for several runs that differ in their seeds and faces alone, as one program by vmap.

        Where `compile` takes or makes a function of one thing, here it is a tuple of one of each run.
        """
        run = functools.partial(train_step, players=players[0], measure=measure)

        def on_all(states, sent, sent_unlabelled, seeds, row=None):
            def draw(sources, sent):
                pairs = zip(sources, sent, strict=True)
                return _stack([source.gather(each, row=row) for source, each in pairs])

            samples = None if unlabelled is None else draw(unlabelled, sent_unlabelled)
            step = jax.vmap(lambda state, own, theirs, seed: run(state, own, theirs, seed=seed))
            return step(states, draw(labelled, sent), samples, jnp.stack(seeds))

        repeated = _repeated(on_all, steps)

        def call(states, sent, sent_unlabelled, seeds):
            after, measured = repeated(_stack(states), sent, sent_unlabelled, seeds)
            # The axis of the runs comes after that of the steps.
            axis = 0 if steps == 1 else 1

            def part(i):
                return _take(after, i, 0), _take(measured, i, axis)

            return [part(i) for i in range(len(players))]

        return self._jit(call)

    def _jit(self, call):
        # Donating the state on a CPU gains nothing and warns.
        donate = () if self.devices[0].platform == "cpu" else (0,)
        # Left to itself the compiler may split what it returns, and `one` would take a part for the whole.
        return jax.jit(call, donate_argnums=donate, out_shardings=self._replicated)


def _repeated(step, steps: int):
    """`steps` calls of a step in one, each drawing its batch from another row of what was sent."""
    if steps == 1:
        return step

    def call(state, *rest):
        return jax.lax.scan(lambda state, row: step(state, *rest, row), state, jnp.arange(steps))

    return call


def _stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _take(tree, i: int, axis: int):
    return jax.tree.map(lambda leaf: leaf.take(i, axis), tree)
