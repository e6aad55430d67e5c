"""Prepared samples by name (`loading`), as one file (`packs`), as batches (`batches`) and as augmented crops (`augment`).

What a training reads is here by name: `data.load_dataset`, `data.source`, `data.write_pack`.
"""

from lapjax.data.batches import Resident, Streamed, order, source
from lapjax.data.loading import data_directory, load_dataset, splits
from lapjax.data.packs import pack_splits, read_pack, write_pack

__all__ = [
    "Resident",
    "Streamed",
    "data_directory",
    "load_dataset",
    "order",
    "pack_splits",
    "read_pack",
    "source",
    "splits",
    "write_pack",
]
