"""lapjax finds landmarks in images with tiny networks that know how sure they are: every point comes
with a Laplace scale b in pixels. It trains on any landmark scheme, with few labels and, in a game
against a discriminator D, many unlabelled images.

Commands (`lapjax COMMAND --help` says what each takes):

  prepare    a folder of photos becomes a prepared set of square chips, or one pack file
  train      a recipe becomes a trained run: the network alone, or in the game against D
  calibrate  fits a run's confidence on held-out faces (train does so where the set has some)
  evaluate   the errors of a run on a split, or of anyone's predictions, as a table and as JSON
  compare    which of two is better on the same images, and how sure that is
  report     one page about one run or several: errors, faces, confidence, training
  export     a run as one file that runs without JAX, or as a JAX program
  locate     the points of one face in a photograph, from such a file or a run
  models     the trained networks that come with lapjax; their names do wherever a run is asked for
  boxes      the boxes that a run finds in unlabelled faces, to prepare them again
  label      the points that trained runs find in unlabelled faces, to train others on
  recipes    the recipes: networks, sizes, losses and what to expect
  reproduce  the experiments of the paper and what followed them, as tables and figures

From photos to a number:

  lapjax prepare the300w --source ~/300w
  lapjax train fast-medium-laplacekl --out runs/a
  lapjax train fast-medium-laplacekl --out runs/a --resume          # after Ctrl-C or a crash
  lapjax evaluate runs/a --dataset the300w --split common --json runs/a/common.json

With unlabelled faces, and other options than the recipe's:

  lapjax prepare face_folder --source ~/lfw --name lfw --box 99,89,102
  lapjax train fast-medium-laplacekl+d-10k --out runs/b --epochs 40 --loss.direction "q||p"

As one small file, and used:

  lapjax export runs/a --precision float16 --out a.onnx
  lapjax locate a.onnx photo.jpg --box 120 80 260 240

Anyone's points, by the same ruler, and whether the difference is one:

  lapjax evaluate --predictions theirs.npz --dataset the300w --split common --per-image theirs.csv
  lapjax evaluate runs/a --dataset the300w --split common --per-image ours.csv
  lapjax compare ours.csv theirs.csv

With nothing at hand, on faces that lapjax draws:

  lapjax train toy-laplacekl --out runs/toy
  lapjax evaluate runs/toy --split test

Prepared sets lie in --data-dir, else in $LAPJAX_DATA_DIR, else in ~/.cache/lapjax.
Exit status: 0 done; 2 bad input, said in one line; 130 or 143 stopped by Ctrl-C or SIGTERM, a
training only after it has saved.

All of it is a few lines of Python too: lapjax.prepare, lapjax.train, lapjax.load_run,
lapjax.evaluate, lapjax.export, lapjax.Localizer.
"""

import functools
import importlib
import inspect
import os
import signal
import sys
import textwrap
import warnings

from lapjax.errors import LapjaxError, LapjaxWarning, nearest
from lapjax.recipes import get_recipe

__all__ = ["main"]

# Command -> the module that has it.
COMMANDS = {
    "prepare": "data",
    "train": "training",
    "calibrate": "evaluation",
    "evaluate": "evaluation",
    "compare": "evaluation",
    "report": "evaluation",
    "export": "deployment",
    "locate": "deployment",
    "models": "deployment",
    "boxes": "data",
    "label": "data",
    "recipes": "training",
    "reproduce": "experiments",
}
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
        print(f"lapjax: this command needs {error.name}: `pip install lapjax[train]`", file=sys.stderr)
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
        print(__doc__.strip())
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        hint = nearest(command, COMMANDS, form="did you mean {!r}?") or f"choose one of {', '.join(COMMANDS)}"
        raise LapjaxError(f"unknown command {command!r}: {hint}")
    import tyro

    _quiet()
    function = chosen = function_of(command)
    if command == "train":
        function = functools.partial(function, config=get_recipe(_recipe(rest)))
    try:
        description = _description(chosen)
        return tyro.cli(function, prog=f"lapjax {command}", description=description, args=rest) or 0
    except SystemExit as end:
        return end.code


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
    text = inspect.getdoc(function).partition("\n\nArgs:")[0]
    # tyro unwraps lines that begin with a letter and doubles empty ones.
    return textwrap.indent(text.replace("\n\n", "\n"), "  ")


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
