"""The toy faces as a prepared set, with the same records as any other."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds

from lapjax.datasets.builder import ChipBuilder
from lapjax.datasets.photos import Survey
from lapjax.datasets.toy_faces.sets import SPLITS, TERMS, generate
from lapjax.errors import LapjaxError
from lapjax.images import write_jpeg
from lapjax.schemes import get_scheme


class Builder(ChipBuilder, skip_registration=True):
    """Splits train, validation, calibration, test and unlabelled; drawn, so there is no source folder.

    The records of a set have one shape, so the unlabelled ones hold 68 points, none of them visible.
    """

    RELEASE_NOTES = {"1.0.0": "First release."}
    TERMS = TERMS
    CHIP_SIZE = 160
    pkg_dir_path = tfds.core.Path(__file__).parent

    def __init__(self, *, source: str | os.PathLike | None = None, **settings):
        """`settings` are those of `ChipBuilder`."""
        super().__init__(source=source, **settings)  # pyright: ignore[reportArgumentType]  # drawn: there is none

    @classmethod
    def survey(cls, source: str | os.PathLike | None = None) -> Survey:
        """Nothing to survey. Raises LapjaxError where a source is given."""
        if source is not None:
            raise LapjaxError(f"toy_faces is drawn, not read from {source}: leave the source out")
        return Survey(splits={}, scheme=get_scheme("300w"))

    def read(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Draws every face and encodes it, in memory."""
        self._records, total = {}, sum(SPLITS.values())
        for split in SPLITS:
            done = sum(map(len, self._records.values()))
            samples = generate(
                split,
                size=self.settings["chip_size"],
                factor=self.settings["chip_factor"],
                progress=progress and (lambda drawn, _, done=done: progress(done + drawn, total)),
            )
            labelled = not samples.meta["unlabelled"]
            self._records[split] = [
                {
                    "image": write_jpeg(np.asarray(samples.images[i]), self.settings["quality"]),
                    "landmarks": samples.landmarks[i] if labelled else np.zeros((68, 2), np.float32),
                    "visible": np.full(68, labelled),
                    "box": samples.box[i],
                    "name": str(samples.name[i]),
                    "subset": str(samples.subset[i]),
                    "image_to_chip": samples.image_to_chip[i],
                }
                for i in range(len(samples))
            ]
        counts = {split: {"toy": len(members)} for split, members in self._records.items()}
        assert self.info.metadata is not None  # `_info` gives some
        self.info.metadata.update(counts=counts, notes=[], unreadable=[])
