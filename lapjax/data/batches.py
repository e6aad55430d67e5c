"""Batches of samples as a pure function of the step.

`source` turns samples into batches: global position p of the stream is sample `order(...)[p]`, every epoch a permutation
keyed by (seed, epoch), batches running on across the border, so that resuming needs the step alone and every host agrees.
Two sources deliver the same rows: `Resident` keeps all chips on the device and gathers them inside the jitted step,
`Streamed` decodes a batch at a time through grain.
"""

import functools

import numpy as np

from lapjax.errors import LapjaxError
from lapjax.samples import Samples

__all__ = ["RESIDENT_LIMIT", "Resident", "Streamed", "order", "source"]

RESIDENT_LIMIT = 2 << 30  # bytes of decoded chips


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count).astype(np.int32)


def order(seed: int, start: int, size: int, *, count: int) -> np.ndarray:
    """The faces at positions start .. start + size - 1 of the endless stream over `count` faces, (size,) int32.

    Every epoch is a permutation of all faces drawn from (seed, epoch) alone.
    """
    pieces, stop = [], start + size
    while start < stop:
        epoch, first = divmod(start, count)
        piece = _permutation(seed, epoch, count)[first : first + stop - start]
        pieces.append(piece)
        start += len(piece)
    return np.concatenate(pieces)


def _check(samples: Samples, batch_size: int, seed: int) -> None:
    if not len(samples):
        raise LapjaxError("no faces to draw batches from: choose a split that has some")
    if batch_size < 1:
        raise LapjaxError(f"batch_size {batch_size} must be at least 1")
    if seed < 0:
        raise LapjaxError(f"seed {seed} must not be negative")


def _labels(samples: Samples) -> dict[str, np.ndarray]:
    """The columns that training reads."""
    labels = {"landmarks": samples.landmarks.astype(np.float32), "visible": samples.visible}
    return labels if samples.scale is None else labels | {"scale": samples.scale.astype(np.float32)}


def _rows(array, offset, count):
    """`count` rows of a batch from `offset`, which may be traced."""
    import jax

    return jax.lax.dynamic_slice_in_dim(array, offset, count)


class Resident:
    """Batches gathered on the device from chips that all lie there as uint8.

    `send(step)` goes into the jitted step as an argument: the same device arrays every time, and the batch's (B,)
    int32 indices. `gather` runs inside.
    """

    device_axes = {"faces": 0, "indices": None}
    """Where `put` added an axis of devices, the axis of each part of what `send` gives (pmap's `in_axes`)."""

    def __init__(self, samples: Samples, batch_size: int, seed: int, *, put=None):
        """`put` places the pytree of arrays, by default `jax.device_put`: give one that replicates for a mesh."""
        import jax

        _check(samples, batch_size, seed)
        self._count, self._batch_size, self._seed = len(samples), batch_size, seed
        self._faces = (put or jax.device_put)({"images": np.asarray(samples.images), **_labels(samples)})

    def send(self, step: int, steps: int = 1) -> dict:
        """What `gather` needs: the device arrays of all N faces and the indices of this step's batch.

        Of several steps the indices are (steps, B), and `gather` takes one row of them.
        """
        start, size = int(step) * self._batch_size, self._batch_size
        indices = order(self._seed, start, steps * size, count=self._count)
        return {"faces": self._faces, "indices": indices if steps == 1 else indices.reshape(steps, size)}

    def gather(self, sent: dict, offset=0, count: int | None = None, *, row=None) -> dict:
        """Faces `offset` .. `offset + count - 1` of a batch, all by default; pure, for use under jit.

        Of several steps `row` says which.

        Returns:
            images (b, S, S, 3) uint8, landmarks (b, K, 2) float32 chip px and visible (b, K) bool; where models gave
            the labels also scale (b, K) float32 chip px.
        """
        import jax
        import jax.numpy as jnp

        batch = sent["indices"] if row is None else sent["indices"][row]
        indices = _rows(batch, offset, count or self._batch_size)
        return jax.tree.map(lambda column: jnp.take(column, indices, axis=0), sent["faces"])


class Streamed:
    """The same batches as `Resident`, decoded a few steps ahead on threads by grain, for sets that do not fit."""

    device_axes = None
    """As of `Resident`: the whole batch goes to every device."""

    def __init__(self, samples: Samples, batch_size: int, seed: int, *, threads: int = 4, ahead: int = 4):
        try:
            import grain
        except ImportError as error:
            raise LapjaxError(
                "streaming needs grain: `pip install lapjax[train]`, or keep the chips on the device (resident=True)"
            ) from error
        _check(samples, batch_size, seed)
        labels = _labels(samples)

        def face(position: int) -> dict:
            (index,) = order(seed, position, 1, count=len(samples))
            return {
                "images": samples.images[int(index)],
                **{name: column[index] for name, column in labels.items()},
            }

        # 2**60 positions stand for an endless stream that still knows where each batch begins.
        self._batches = grain.MapDataset.range(2**60).map(face).batch(batch_size)
        self._options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        self._batch_size, self._iterator, self._next = batch_size, None, None

    def send(self, step: int) -> dict:
        """The batch of this step as host arrays; steps asked for in order are ready beforehand."""
        step = int(step)
        if self._iterator is None or step != self._next:
            self._iterator = iter(self._batches[step:].to_iter_dataset(self._options))
        batch, self._next = next(self._iterator), step + 1
        return batch

    def gather(self, sent: dict, offset=0, count: int | None = None, *, row=None) -> dict:
        """As `Resident.gather`, of one step alone."""
        import jax

        return jax.tree.map(lambda column: _rows(column, offset, count or self._batch_size), sent)


def source(
    samples: Samples,
    batch_size: int,
    seed: int,
    *,
    resident: bool | None = None,
    limit: int = RESIDENT_LIMIT,
    put=None,
) -> Resident | Streamed:
    """`Resident` when the decoded chips take at most `limit` bytes, else `Streamed`; `resident` decides by hand."""
    if resident is None:
        resident = int(np.prod(samples.images.shape)) <= limit
    return Resident(samples, batch_size, seed, put=put) if resident else Streamed(samples, batch_size, seed)
