"""Finds the command, runs it, and turns what went wrong into a line and an exit status."""

import functools
import importlib
import inspect
import itertools
import os
import shutil
import signal
import sys
import textwrap
import warnings

from lapjax import __version__
from lapjax.cli.doors import COMMANDS, DOORS
from lapjax.errors import LapjaxError, LapjaxWarning, nearest
from lapjax.recipes import get_recipe

__all__ = ["function_of", "main"]

_HEAD = """\
lapjax finds named points in images, each with a radius that says how far it may
be off, and trains small networks to find yours. `lapjax COMMAND --help` says
what a command takes.
"""
_TAIL = """\
Begin with one of these:

  lapjax locate face-68 photo.jpg --box 120 80 260 240
  lapjax prepare folder --source mice --points mice/points.csv --name mice
  lapjax train fast-small-laplacekl --dataset mice --out runs/mice
  lapjax train toy-laplacekl --out runs/toy       # faces that lapjax draws
  lapjax train toy-laplacekl --out runs/toy --resume       # after a Ctrl-C

  --version                           says which lapjax this is
  --print-completion SHELL            a script that completes with the Tab key:
                                      eval "$(lapjax --print-completion bash)"

Data sets lie in --data-dir, else in $LAPJAX_DATA_DIR, else in ~/.cache/lapjax.
Exit status: 0 done; 2 bad input, said in one line; 130 stopped by Ctrl-C and
143 by SIGTERM, a training only after it has saved.
"""
_HELP = ("-h", "--help")
# What takes long enough to be worth huge pages.
_COMPUTING = {"train", "evaluate", "calibrate", "boxes", "label", "report", "reproduce"}
_show_warning = warnings.showwarning


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Args:
      argv: the arguments; None takes the process's own, whose signals and memory settings are then set up too.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if argv is None:
        signal.signal(signal.SIGTERM, _terminate)
        warnings.showwarning = _note
        if _COMPUTING.intersection(arguments[:1]):
            from lapjax.cpu import with_huge_pages

            with_huge_pages()
    try:
        return _run(arguments)
    except LapjaxError as error:
        print(f"lapjax: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "lapjax").partition(".")[0] == "lapjax":
            raise
        print(f'lapjax: this command needs {error.name}: `pip install "lapjax[train]"`', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lapjax: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read the output has enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def function_of(command: str):
    """The function of a command, whose signature is its options."""
    return getattr(importlib.import_module(f"lapjax.cli.{COMMANDS[command]}"), command)


def _terminate(number, _frame):
    # Unwinds, so that nothing half-written stays behind; the default would not.
    print("lapjax: terminated", file=sys.stderr)
    sys.exit(128 + number)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in _HELP:
        print(_page())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"lapjax {__version__}")
        return 0
    if arguments[0] == "--print-completion":
        from lapjax.cli import completion

        print(completion.script(*arguments[1:2], run=main))
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        kind = "option" if command.startswith("-") else "command"
        near = nearest(
            command, [*COMMANDS, "--help", "--version", "--print-completion"], form="did you mean {!r}?"
        )
        raise LapjaxError(f"unknown {kind} {command!r}: {near or '`lapjax --help` lists them'}")
    import tyro

    _quiet()
    function = chosen = function_of(command)
    if command == "train":
        function = functools.partial(function, config=get_recipe(_recipe(rest)))
    try:
        description = _description(chosen)
        return tyro.cli(function, prog=f"lapjax {command}", description=description, args=rest) or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def _page() -> str:
    """What `lapjax --help` says."""
    doors = [
        "\n".join([door, "", *(f"  {command:<11}{said}" for command, (_, said) in commands.items()), ""])
        for door, commands in DOORS.items()
    ]
    return "\n".join([_HEAD, *doors, _TAIL]).rstrip()


def _recipe(arguments: list[str]) -> str:
    """The recipe that gives the other options their defaults; for `lapjax train --help`, the one of the example."""
    first = arguments[0] if arguments else ""
    if first in _HELP:
        return "fast-medium-laplacekl"
    if not first or first.startswith("-"):
        raise LapjaxError(
            "name the recipe first, `lapjax train RECIPE --out DIR`; `lapjax recipes` lists them"
        )
    return first


def _description(function) -> str:
    """What a command's docstring says before its options: paragraphs filled to the terminal, indented lines kept."""
    text = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0]
    width = min(shutil.get_terminal_size().columns, 100) - 2
    lines = []
    for indented, block in itertools.groupby(text.splitlines(), lambda line: line.startswith(" ")):
        if indented:
            lines += block
            continue
        # tyro doubles empty lines.
        for paragraph in "\n".join(block).split("\n\n"):
            lines += textwrap.wrap(paragraph.strip(), width - 2, break_on_hyphens=False)
    return textwrap.indent("\n".join(lines), "  ")


def _note(message, category, *rest) -> None:
    if issubclass(category, LapjaxWarning):
        _say_once(f"note: {message}")
    else:
        _show_warning(message, category, *rest)


@functools.cache  # a training reads the same faces several times
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def _quiet() -> None:
    # Orbax logs every save through absl, which would tear the progress bar.
    try:
        from absl import logging
    except ModuleNotFoundError:
        return
    logging.set_verbosity(logging.ERROR)
