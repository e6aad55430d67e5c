"""The splits of the toy faces: each draws from its own million of indices."""

from collections.abc import Callable

import numpy as np

from lapjax.datasets.toy_faces.scene import draw
from lapjax.errors import LapjaxError, no_split
from lapjax.samples import Samples
from lapjax.schemes import anonymous, get_scheme

SPLITS = {"train": 1200, "validation": 200, "calibration": 200, "test": 300, "unlabelled": 1000}
TERMS = "drawn by lapjax, under lapjax's own licence"
_APART = 1_000_000  # indices between the first faces of two splits


def generate(
    split: str,
    count: int | None = None,
    *,
    seed: int = 0,
    size: int = 160,
    factor: float = 1.8,
    progress: Callable[[int, int], None] | None = None,
) -> Samples:
    """Draws a split: its chip is its image, so `image_to_chip` is the identity.

    Args:
      split: one of `SPLITS`; "unlabelled" comes with K = 0 landmarks.
      count: how many faces, those of `SPLITS` by default; more of them begin with the same ones.
      seed: another seed, other faces.
      size: side of the chips in px.
      factor: side of a chip over the longer side of the tight box of its landmarks.
      progress: called with (done, total) as faces are drawn.

    Raises:
      LapjaxError: no such split, or more faces than a split can have.
    """
    if split not in SPLITS:
        raise no_split("toy_faces", split, SPLITS)
    count = SPLITS[split] if count is None else count
    if not 1 <= count <= _APART:
        raise LapjaxError(f"toy_faces/{split}: count {count} must be from 1 to {_APART}")
    first = _APART * list(SPLITS).index(split)
    images = np.empty((count, size, size, 3), np.uint8)
    landmarks, box = np.empty((count, 68, 2), np.float32), np.empty((count, 4), np.float32)
    for i in range(count):
        images[i], landmarks[i], _, box[i] = draw(first + i, seed=seed, size=size, factor=factor)
        if progress:
            progress(i + 1, count)
    unlabelled = split == "unlabelled"
    scheme = anonymous(0) if unlabelled else get_scheme("300w")
    return Samples(
        images=images,
        landmarks=landmarks[:, : scheme.count],
        visible=np.ones((count, scheme.count), bool),
        box=box,
        image_to_chip=np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)),
        name=np.array([f"{split}/{seed}-{i:06d}" for i in range(count)]),
        subset=np.full(count, "toy"),
        scheme=scheme,
        meta={
            "dataset": "toy_faces",
            "split": split,
            "chip_size": size,
            "chip_factor": factor,
            "quality": 95,
            "terms": TERMS,
            "unlabelled": unlabelled,
        },
    )
