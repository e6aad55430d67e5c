"""Prepared samples: square chips around the objects of a set, with their landmarks, boxes and names. No JAX."""

import dataclasses
from collections.abc import Callable

import numpy as np

from lapjax.errors import LapjaxError
from lapjax.images import read_image
from lapjax.schemes import Scheme

__all__ = ["COLUMNS", "EncodedChips", "Samples"]

COLUMNS = ("landmarks", "visible", "box", "image_to_chip", "name", "subset")


class EncodedChips:
    """Chips that stay encoded until one is asked for: the `images` of a `Samples` too big to sit decoded in memory.

    Indexing with an integer decodes one chip, (S, S, 3) uint8; with a slice or an array it selects without decoding;
    `np.asarray` decodes them all.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, read: Callable[[int], bytes], rows: np.ndarray, size: int):
        """Chips of a store.

        Args:
          read: gives the encoded bytes of one row of the store.
          rows: (N,) int, the rows of this set in its order.
          size: the chips' side S in px.
        """
        self._read, self._rows, self._size = read, np.asarray(rows), size

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self._size, self._size, 3

    def stored(self, index: int) -> bytes:
        """The bytes of one chip as they are stored."""
        return self._read(int(self._rows[index]))

    def __getitem__(self, index):
        if not isinstance(index, int | np.integer):
            return EncodedChips(self._read, self._rows[index], self._size)
        chip = read_image(self.stored(int(index)), name=f"chip {index}")
        if chip.shape != self.shape[1:]:
            raise LapjaxError(f"chip {index} is {chip.shape}, not {self.shape[1:]}: prepare the data again")
        return chip

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        chips = np.empty(self.shape, np.uint8)
        for index in range(len(self)):
            chips[index] = self[index]
        return chips if dtype is None else chips.astype(dtype, copy=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """N prepared faces with K landmarks; `samples.take(indices)` is a part of them.

    Attributes:
      images: (N, S, S, 3) uint8 chips, or `EncodedChips` of that shape.
      landmarks: (N, K, 2) float32, chip px, zeros where not visible.
      visible: (N, K) bool.
      box: (N, 4) float32, image px: min x, min y, max x, max y.
      image_to_chip: (N, 2, 3) float32, chip = M @ [x, y, 1].
      name: (N,) str.
      subset: (N,) str, "" where a set has none.
      scheme: what the K landmarks are.
      meta: dataset, split, chip_size, chip_factor, quality, terms and unlabelled.
      scale: (N, K) float32, chip px, how sure the labels are where models gave them (`label`); None where
        people did. A run reads it of its `unlabelled` faces; labels of its own `dataset` count as people's.

    Raises:
      LapjaxError: columns of different lengths or shapes, or a K that is not the scheme's.

    Examples:
      >>> import lapjax
      >>> samples = lapjax.load_dataset("toy_faces", "test", limit=5)
      >>> len(samples.take(slice(2))), samples.scheme.count
      (2, 68)
    """

    images: np.ndarray | EncodedChips
    landmarks: np.ndarray
    visible: np.ndarray
    box: np.ndarray
    image_to_chip: np.ndarray
    name: np.ndarray
    subset: np.ndarray
    scheme: Scheme
    meta: dict
    scale: np.ndarray | None = None

    def __post_init__(self):
        count, points, size = len(self.images), self.scheme.count, self.images.shape[1]
        expected = {
            "images": (count, size, size, 3),
            "landmarks": (count, points, 2),
            "visible": (count, points),
            "box": (count, 4),
            "image_to_chip": (count, 2, 3),
            "name": (count,),
            "subset": (count,),
        }
        if self.scale is not None:
            expected["scale"] = (count, points)
        for column, shape in expected.items():
            found = getattr(self, column).shape
            if tuple(found) != shape:
                raise LapjaxError(
                    f"{column} has shape {tuple(found)}, not {shape}, for {count} faces of scheme {self.scheme.name}"
                    f" with {points} landmarks: give the scheme that the data was labelled with"
                )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices) -> "Samples":
        """The faces at `indices` (a slice, integers or a mask), in that order; encoded chips stay encoded."""
        return dataclasses.replace(
            self, images=self.images[indices], **{name: getattr(self, name)[indices] for name in self.columns}
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are there, beside the images."""
        return COLUMNS if self.scale is None else (*COLUMNS, "scale")
