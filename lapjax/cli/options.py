"""What the options of all commands share: their kinds, the console, and a look at where a file is to go."""

import contextlib
import os
import pathlib
import sys
from typing import Annotated, TypeAlias

import tyro

from lapjax.errors import LapjaxError

__all__ = ["File", "Flag", "Folder", "Name", "Number", "check_place", "console", "say"]

Flag: TypeAlias = tyro.conf.FlagCreatePairsOff[bool]


# Options that may be left out, shown without tyro's `{None}|` and `(default: None)`. Written out, for a checker does not call.
File: TypeAlias = Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Folder: TypeAlias = Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
Name: TypeAlias = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Number: TypeAlias = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")]


def console(*, stderr: bool = False, quiet: bool = False):
    """A `rich` console that does not fold what goes to a file or a pipe into 80 columns."""
    from rich.console import Console

    made = Console(stderr=stderr, quiet=quiet)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 120
    return made


def say(text: str) -> None:
    """Prints sentences, broken between words where a terminal ends; a file gets them as they are."""
    console().print(text, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def check_place(path: pathlib.Path, option: str) -> None:
    """Raises LapjaxError unless a file can be written there, before hours are spent on what it is to hold."""
    if path.is_dir():
        raise LapjaxError(f"{path} is a folder: give {option} the name of a file")
    beside = path.with_name(f".{path.name}.{os.getpid()}.probe")
    try:
        beside.touch()
    except OSError as error:
        raise LapjaxError(
            f"cannot write {path}: {error.strerror or error}; choose another {option}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
