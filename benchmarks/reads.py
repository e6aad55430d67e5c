"""The log of every reading of the common test set: one line each in results/test_reads.jsonl."""

import pathlib

from lapjax.experiments import records

RESULTS = pathlib.Path(__file__).parent.parent / "results"


def log_read(run: str, **more) -> None:
    """Appends the reading of a run, before it happens, and what `more` there is to say of it."""
    records.log_read(RESULTS / "test_reads.jsonl", run, **more)
