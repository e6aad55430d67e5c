"""What benchmarks write into the README and docs/, never typed: the lines between <!-- NAME --> and <!-- /NAME -->."""

import statistics

from reads import RESULTS


def write_between(name: str, lines: list[str], *, page: str = "README.md") -> None:
    """Puts lines between a pair of a page's markers."""
    place = RESULTS.parent / page
    before, start, rest = place.read_text().partition(f"<!-- {name} -->")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not start or not end:
        raise SystemExit(f"{page} has lost its markers <!-- {name} --> and <!-- /{name} -->")
    place.write_text("\n".join([before + start, *lines, end + after]))


def table(heads: list, rows: list) -> list[str]:
    """The lines of a Markdown table, from a head and the cells of each row."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (heads, ["---"] * len(heads), *rows)]


def spread(values: list[float], digits: int) -> str:
    """The mean, and the sample standard deviation where there are several seeds."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
