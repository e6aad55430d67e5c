"""The log of every reading of the common test set: one line each in results/test_reads.jsonl."""

import datetime
import json
import pathlib

RESULTS = pathlib.Path(__file__).parent.parent / "results"


def log_read(run: str, **more) -> None:
    """Appends the reading of a run, before it happens, and what `more` there is to say of it."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"time": time, "run": run, "split": "common", **more}
    with open(RESULTS / "test_reads.jsonl", "a") as log:
        log.write(json.dumps(line) + "\n")
