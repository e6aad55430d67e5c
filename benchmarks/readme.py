"""What benchmarks write into the README and docs/: `lapjax.pages` on the pages of this repository."""

from reads import RESULTS

from lapjax import pages
from lapjax.pages import spread, table

__all__ = ["spread", "table", "write_between"]


def write_between(name: str, lines: list[str], *, page: str = "README.md") -> None:
    """Puts lines between a pair of a page's markers."""
    pages.write_between(RESULTS.parent / page, name, lines)
