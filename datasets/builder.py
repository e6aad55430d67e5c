"""The TFDS builder that all sets of photos share; each set's own builder says what its source folder holds."""

import abc
import collections
import os
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds

from lapjax.datasets import records
from lapjax.datasets.photos import Survey
from lapjax.errors import LapjaxError


class ChipBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Turns a folder of photos into stored chips. Making one checks the folder; `read` checks every image.

    TFDS finds prepared sets by their files; the builders stay out of its registry, where a name would stand for code
    that cannot run without its source folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    TERMS: str  # under which the data may be used, in a sentence, unless the survey says
    CHIP_SIZE = records.CHIP_SIZE

    def __init__(
        self,
        *,
        source: str | os.PathLike,
        chip_size: int | None = None,
        chip_factor: float = records.CHIP_FACTOR,
        quality: int = records.QUALITY,
        data_dir: str | os.PathLike | None = None,
        **options,
    ):
        """Args are those of `lapjax.datasets.prepare.prepare`; `options` go to `survey`.

        Raises:
          LapjaxError: a setting out of range, or whatever `survey` finds wrong.
        """
        chip_size = self.CHIP_SIZE if chip_size is None else chip_size
        if not (isinstance(chip_size, int) and 16 <= chip_size <= 2048):
            raise LapjaxError(f"chip_size {chip_size!r} must be a whole number of pixels from 16 to 2048")
        if not 1 <= chip_factor <= 8:
            raise LapjaxError(f"chip_factor {chip_factor!r} must be from 1, the box itself, to 8")
        if not (isinstance(quality, int) and 1 <= quality <= 100):
            raise LapjaxError(f"quality {quality!r} must be a whole number from 1 to 100")
        self.source = os.path.abspath(os.path.expanduser(source)) if source is not None else None
        self.settings = {"chip_size": chip_size, "chip_factor": float(chip_factor), "quality": quality}
        self.found = self.survey(source, **options)
        self._records: dict[str, list[dict]] = {}
        super().__init__(data_dir=data_dir, file_format="array_record")

    @classmethod
    @abc.abstractmethod
    def survey(cls, source: str | os.PathLike, **options) -> Survey:
        """Finds and checks the photos, annotations and splits of `source` without decoding an image.

        Raises:
          LapjaxError: naming what is wrong and what to do.
        """

    def read(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decodes every photo and makes its record, in memory. Raises as `records.read_records`."""
        splits = self.found.splits
        made, unreadable, notes = records.read_records(
            [photo for photos in splits.values() for photo in photos],
            **self.settings,
            skip_unreadable=self.found.skip_unreadable,
            progress=progress,
        )
        made = iter(made)
        self._records = {
            split: [record for _, record in zip(photos, made, strict=False) if record is not None]
            for split, photos in splits.items()
        }
        assert self.info.metadata is not None  # `_info` gives some
        self.info.metadata.update(
            counts={
                split: dict(sorted(collections.Counter(record["subset"] for record in members).items()))
                for split, members in self._records.items()
            },
            notes=[*self.found.notes, *notes],
            unreadable=unreadable,
        )

    @property
    def nbytes(self) -> int:
        """The bytes of all chips that were read: about what the set will take on disk."""
        return sum(len(record["image"]) for members in self._records.values() for record in members)

    def _info(self) -> tfds.core.DatasetInfo:
        scheme = self.found.scheme
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(records.features(self.settings["chip_size"], scheme.count)),
            metadata=tfds.core.MetadataDict(
                format=records.FORMAT,
                dataset=self.name,
                builder=self.__module__.split(".")[-2],
                source=self.source,
                **self.settings,
                terms=self.found.terms or self.TERMS,
                unlabelled=scheme.count == 0,
                scheme=scheme.to_dict(),
            ),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        if not self._records:
            self.read()
        return {split: self._generate_examples(split) for split in self._records}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        for record in self._records[split]:
            yield record["name"], record
