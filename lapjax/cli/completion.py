"""`lapjax --print-completion SHELL`: a script with which the Tab key completes commands, options and names."""

import argparse
import contextlib
import io
import re
from collections.abc import Callable

from lapjax.checkpoints import pretrained
from lapjax.cli.doors import DOORS
from lapjax.errors import LapjaxError
from lapjax.recipes import list_recipes

__all__ = ["script"]

# Command -> what its first word may be, where that is known; None stands for a file.
_FIRST = {
    "train": list_recipes,
    "locate": pretrained.files,
    "evaluate": pretrained.files,
    "calibrate": pretrained.files,
}


def script(shell: str = "", *, run: Callable[[list[str]], int]) -> str:
    """The script for a shell.

    Args:
      shell: bash, zsh or tcsh.
      run: runs a command line, here to read the help of each command.

    Raises:
      LapjaxError: another shell.
    """
    import shtab

    if shell not in shtab.SUPPORTED_SHELLS:
        raise LapjaxError(f"--print-completion {shell}: name your shell, {', '.join(shtab.SUPPORTED_SHELLS)}")
    return shtab.complete(_parser(run), shell=shell)


def _parser(run: Callable[[list[str]], int]) -> argparse.ArgumentParser:
    """All commands with their options, as the help of each lists them."""
    parser = argparse.ArgumentParser(prog="lapjax")
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers(dest="command")
    for door in DOORS.values():
        for command, (_, said) in door.items():
            made = commands.add_parser(command, help=said)
            for option in _options(command, run):
                vars(made.add_argument(option))["complete"] = _FILES
            first = _FIRST.get(command)
            argument = made.add_argument("first", nargs="*", choices=sorted(first()) if first else None)
            if first is None:
                vars(argument)["complete"] = _FILES
    return parser


def _options(command: str, run: Callable[[list[str]], int]) -> list[str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run([command, "--help"])
    return sorted(set(re.findall(r"(?<=[│ ])--[a-z][a-z0-9.-]*(?= )", said.getvalue())) - {"--help"})


# What shtab calls a completion with the names of files.
_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
