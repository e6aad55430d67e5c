"""Files that are whole or not there: written beside their place and renamed, and read with an error that says why; and where
prepared data lies.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator

from lapjax.errors import LapjaxError

__all__ = ["data_directory", "holding", "read_json", "replacing"]


def data_directory(data_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Where prepared data lies: `data_dir`, else $LAPJAX_DATA_DIR, else ~/.cache/lapjax."""
    return pathlib.Path(data_dir or os.environ.get("LAPJAX_DATA_DIR") or "~/.cache/lapjax").expanduser()


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike, message: str, *, parents: bool = False, locked: bool = False
) -> Iterator[pathlib.Path]:
    """`with replacing(path, ...) as part`: what the block writes to `part` becomes `path`, or nothing stays.

    Args:
      path: the file, replaced if it is there.
      message: of the error, with {path}, {reason} (of the system, in words) or {error} (the same with its number).
      parents: make missing folders.
      locked: nobody else writes this file, so a part that a killed process left is written over, not left to lie.

    Raises:
      LapjaxError: the block or the rename met an OSError.
    """
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.part" if locked else f".{path.name}.{os.getpid()}.part")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise LapjaxError(message.format(path=path, reason=reason, error=error)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def holding(path: str | os.PathLike, *, wait: bool = False, other: str = "another place") -> Iterator[bool]:
    """`with holding(path) as ours`: a lock that one process holds at a time; the system frees it when its holder dies.

    Args:
      path: of the lock file, which stays.
      wait: until the lock is free; else `ours` says whether it was.
      other: what to choose where there can be no lock.

    Raises:
      LapjaxError: the file cannot be written, or its file system knows no locks.
    """
    import fcntl  # no such thing on Windows, where files are read all the same

    try:
        lock = open(path, "w")  # noqa: SIM115
    except OSError as error:
        raise LapjaxError(f"cannot write {path}: {error.strerror or error}; choose {other}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise LapjaxError(
                f"cannot lock {path}: {error.strerror or error}; choose {other} on another file system"
            ) from error
        yield True


def read_json(path: str | os.PathLike, make: Callable, *, what: str, remedy: str):
    """What `make` makes of the JSON in a file; `what` the file is and the `remedy` are for the errors.

    Raises:
      LapjaxError: no file, no JSON, or contents that `make` refuses.
    """
    try:
        fields = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LapjaxError(f"{what} {path} does not exist; check the path") from error
    except (OSError, ValueError) as error:
        raise LapjaxError(f"{what} {path} cannot be read as JSON ({error}); {remedy}") from error
    try:
        return make(fields)
    except LapjaxError as error:
        raise LapjaxError(f"{path}: {error}") from error
