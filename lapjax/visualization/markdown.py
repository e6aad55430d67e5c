"""Tables of numbers for pages of Markdown: made by commands, put between a page's markers, never typed."""

import os
import pathlib
import statistics
from collections.abc import Sequence

from lapjax.errors import LapjaxError
from lapjax.files import replacing

__all__ = ["spread", "table", "write_between"]


def write_between(page: str | os.PathLike, name: str, lines: Sequence[str]) -> None:
    """Puts lines between the markers <!-- NAME --> and <!-- /NAME --> of a page, in place of what is there.

    Raises:
      LapjaxError: the page cannot be read or written, or has no such markers.
    """
    page = pathlib.Path(page)
    try:
        before, start, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->")
    except OSError as error:
        raise LapjaxError(
            f"cannot read {page}: {error.strerror or error}; name a page that is there"
        ) from error
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not start or not end:
        raise LapjaxError(
            f"{page} has no markers <!-- {name} --> and <!-- /{name} -->: put both where the table goes"
        )
    with replacing(page, "cannot write {path}: {reason}") as part:
        part.write_text("\n".join([before + start, *lines, end + after]), encoding="utf-8")


def table(heads: Sequence, rows: Sequence[Sequence]) -> list[str]:
    """The lines of a Markdown table, from a head and the cells of each row."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (heads, ["---"] * len(heads), *rows)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and the sample standard deviation where there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
