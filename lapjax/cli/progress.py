"""How far along: live bars on a terminal, plain lines into a file or a pipe. All of it goes to stderr."""

import contextlib
import time
from collections.abc import Callable, Iterator

__all__ = ["counting", "training"]

PLAIN_EVERY_S = 10.0


@contextlib.contextmanager
def counting(what: str, *, console=None) -> Iterator[Callable[[int, int], None]]:
    """Yields `progress(done, total)`, as `prepare` calls it.

    Args:
      what: is being done, a few words.
      console: a `rich.console.Console`; one on stderr by default.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = console or _stderr()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def training(name: str, *, console=None) -> Iterator[Callable[[dict], None]]:
    """Yields `report(line)`, as `train` calls it: a bar with loss, NME, images/s and time left, a line a validation.

    Args:
      name: of the run, a word or two.
      console: a `rich.console.Console`; one on stderr by default.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    from rich.table import Column

    console = console or _stderr()
    if not console.is_terminal:
        yield _Plain(console)
        return
    console.print(name, highlight=False)
    # In 80 columns the bar gives way, not the numbers.
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[said]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as bars:
        task = bars.add_task(name, total=None, said="reading data, compiling")
        known = {}

        def report(line):
            known.update(line)
            if "nme" in line:
                bars.console.print(_validation(line, known), highlight=False)
            bars.update(task, completed=line["step"], total=line["steps"], said=_numbers(known))

        yield report


class _Plain:
    """A line a validation, and one of the others every few seconds."""

    def __init__(self, console):
        self._console, self._known, self._due = console, {}, 0.0

    def __call__(self, line: dict) -> None:
        self._known.update(line)
        if "nme" in line:
            self._say(_validation(line, self._known))
        elif time.monotonic() >= self._due:
            self._say(f"step {line['step']}/{line['steps']}  {_numbers(self._known)}")
            self._due = time.monotonic() + PLAIN_EVERY_S

    def _say(self, text):
        self._console.print(text, highlight=False, soft_wrap=True)


def _stderr():
    from rich.console import Console

    return Console(stderr=True)


def _numbers(known: dict) -> str:
    parts = []
    if "loss" in known:
        parts.append(f"loss {known['loss']:.3f}")
    if "nme" in known:
        parts.append(f"NME {known['nme']:.2f} %")
    if "images_per_second" in known:
        parts += [f"{known['images_per_second']:.0f} images/s", f"{duration(known['seconds_left'])} left"]
    return "  ".join(parts)


def _validation(line: dict, known: dict) -> str:
    loss = f"loss {known['loss']:7.3f}  " if "loss" in known else ""
    return (
        f"epoch {line['epoch']:6.1f}  step {line['step']:>6}  {loss}"
        f"validation NME {line['nme']:6.2f} %, b {line['validation_scale']:5.2f} px"
    )


def duration(seconds: float) -> str:
    """Seconds for a reader: "42 s", "12 min", "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
