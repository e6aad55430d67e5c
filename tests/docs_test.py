"""README.md and docs/: their code runs, the commands and options that they name exist, and their links lead somewhere.

A Python block after `<!-- run -->` is run; the blocks of a page share their names, as a reader's session does. The word
after the colon in `<!-- run: photo -->` names what has to lie in the folder where it runs.
"""

import contextlib
import functools
import importlib
import io
import pathlib
import re
import shlex
import tomllib

import numpy as np
import pytest
from PIL import Image

from lapjax.cli.doors import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# A training of the pages, made short enough for a test.
SHORTER = {
    "epochs=60.0": 'epochs=0.5, evaluate_every=0.5, model={"input_size": 32, "channels": 4, "blocks": (1, 1, 1)}, augment={"enabled": False}'
}


def blocks(page, language):
    """The fenced blocks of a language: what is said on the line before it, and the text."""
    found = re.findall(rf"(?:<!-- ([^\n]*?) -->\n)?```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    return [(said, text) for said, text in found]


def photo(folder):
    """A drawn face as photo.jpg."""
    from lapjax.datasets import toy_faces

    Image.fromarray(toy_faces.draw(7)[0]).save(folder / "photo.jpg", quality=95)


def mice(folder):
    """A folder of 40 pictures with three points each."""
    (folder / "mice").mkdir(exist_ok=True)
    random, rows = np.random.default_rng(0), ["path,x0,y0,x1,y1,x2,y2"]
    for index in range(40):
        name, points = f"{index:02}.png", random.uniform(20, 76, (3, 2))
        Image.fromarray(random.integers(0, 255, (96, 96, 3), np.uint8)).save(folder / "mice" / name)
        rows.append(",".join([name, *(f"{value:.1f}" for value in points.ravel())]))
    (folder / "mice" / "points.csv").write_text("\n".join(rows))


NEEDED = {"photo": photo, "mice": mice}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_its_code_runs(page, tmp_path, monkeypatch):
    told = [(said, text) for said, text in blocks(page, "python") if said.partition(":")[0] == "run"]
    monkeypatch.chdir(tmp_path)
    session = {}
    for said, text in told:
        if needed := said.partition(": ")[2]:
            NEEDED[needed](tmp_path)
        for long, short in SHORTER.items():
            text = text.replace(long, short)
        exec(compile(text, page.name, "exec"), session)


def test_most_pages_have_code_that_runs():
    running = [page for page in PAGES if any(said.startswith("run") for said, _ in blocks(page, "python"))]
    assert len(running) >= 6


@functools.cache
def cli_main():
    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"][
        "lapjax"
    ].partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def options(*command):
    """The options that a command's help names; fails where there is no such command or recipe."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        assert not cli_main()([*command, "--help"]), out.getvalue()
    return set(re.findall(r"--[a-z0-9][a-z0-9.-]*", out.getvalue()))


def calls(page):
    """The words of every `lapjax COMMAND ...` of a page's shell blocks and its inline code."""
    text = "\n".join(text for _, text in blocks(page, "sh"))
    inline = re.findall(
        r"`(lapjax [a-z]+[^`]*)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    )
    for line in [*text.replace("\\\n", " ").splitlines(), *inline]:
        with contextlib.suppress(ValueError):  # an apostrophe in a comment
            words = shlex.split(line, comments=True)
            if words[:1] == ["lapjax"] and len(words) > 1 and words[1].islower():
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_its_commands_exist(page, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for command, *rest in calls(page):
        recipe = rest[:1] if command == "train" and rest and re.match("[a-z]", rest[0]) else []
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        unknown = given - options(command, *recipe) - {"--help"}
        assert not unknown, f"{page.name}: lapjax {command} has no {', '.join(sorted(unknown))}"


def test_all_commands_are_on_the_page_of_the_api():
    listed = re.findall(
        r"^\| `lapjax ([a-z]+)` \|", (ROOT / "docs" / "api" / "index.md").read_text(), re.MULTILINE
    )
    assert listed == list(COMMANDS)


def headings(page):
    """The anchors of a page, as Python-Markdown and GitHub make them of its headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(
            r"[-\s]+",
            "-",
            re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()).strip().lower(),
        )


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_its_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        if re.match("https?:|mailto:", target):
            continue
        place, _, anchor = target.partition("#")
        file = page.parent / place if place else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in headings(file), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_tables_that_commands_write_have_both_markers(page):
    text = page.read_text()
    opened = re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE)
    assert [name for name in opened if name != "run"] == re.findall(r"^<!-- /(\w+) -->$", text, re.MULTILINE)


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    for page in PAGES[1:]:
        assert f" {page.relative_to(ROOT / 'docs')}\n" in nav


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
