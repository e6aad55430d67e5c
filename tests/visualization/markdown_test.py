"""Tables for a page: between its markers, and nothing else of it changes."""

import pytest

from lapjax.errors import LapjaxError
from lapjax.visualization import markdown


def test_lines_replace_what_is_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Ä\n<!-- a -->\nold\n<!-- /a -->\nrest <!-- b --><!-- /b -->\n", encoding="utf-8")
    markdown.write_between(page, "a", ["one", "two"])
    expected = "# Ä\n<!-- a -->\none\ntwo\n<!-- /a -->\nrest <!-- b --><!-- /b -->\n"
    assert page.read_text(encoding="utf-8") == expected
    markdown.write_between(page, "a", ["one", "two"])
    assert page.read_text(encoding="utf-8") == expected


def test_a_page_without_markers_stays_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    for text in ("nothing", "<!-- a --> no end", "<!-- /a --> no start"):
        page.write_text(text)
        with pytest.raises(LapjaxError, match="has no markers <!-- a --> and <!-- /a -->"):
            markdown.write_between(page, "a", ["x"])
        assert page.read_text() == text
    with pytest.raises(LapjaxError, match="cannot read .*other.md"):
        markdown.write_between(tmp_path / "other.md", "a", ["x"])


def test_a_table_and_a_spread():
    assert markdown.table(["", "x"], [["a", 1]]) == ["|  | x |", "| --- | --- |", "| a | 1 |"]
    assert markdown.spread([1.234]) == "1.23"
    assert markdown.spread([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
