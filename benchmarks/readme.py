"""What benchmarks write into the README and docs/: `lapjax.visualization.markdown` on the pages of this repository."""

from reads import RESULTS

from lapjax.visualization import markdown
from lapjax.visualization.markdown import spread, table

__all__ = ["spread", "table", "write_between"]


def write_between(name: str, lines: list[str], *, page: str = "README.md") -> None:
    """Puts lines between a pair of a page's markers."""
    markdown.write_between(RESULTS.parent / page, name, lines)
