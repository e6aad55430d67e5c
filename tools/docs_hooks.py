"""What `mkdocs build` does to the pages beyond Markdown; mkdocs.yml names this file under `hooks`.

- The home page is README.md, and contributing.md and changelog.md are the files of the root: written once.
- Equations, `$...$` and `$$...$$`, become MathML, which browsers draw without a script.
- `::: lapjax.NAME` of a public name finds the module that defines it; `::: modules WING` lists a wing's modules and
  `::: contents WING` documents them.
"""

import ast
import pathlib
import re
from html import unescape

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

ROOT = pathlib.Path(__file__).resolve().parents[1]
FROM_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_PUBLIC = re.compile(r"^::: lapjax\.(\w+)$", re.MULTILINE)
_WING = re.compile(r"^::: (modules|contents) (\w+)$", re.MULTILINE)
_EQUATION = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_page_markdown(markdown, page, **_):
    """Before Markdown is read."""
    place = page.file.src_uri
    if place in FROM_ROOT:
        markdown = _of_root(FROM_ROOT[place])
    names = public_names()
    markdown = _PUBLIC.sub(lambda found: _defined(found[1], names, place), markdown)
    return _WING.sub(lambda found: _wing(found[1], found[2], place), markdown)


def on_page_content(html, **_):
    """After Markdown became HTML."""
    return _EQUATION.sub(_mathml, html)


def public_names() -> dict[str, str]:
    """Public name -> the module under lapjax that defines it, as lapjax/__init__.py lists them."""
    tree = ast.parse((ROOT / "lapjax" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        value = getattr(node, "value", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Dict):
            table = ast.literal_eval(value)
            if "Localizer" in table:
                return table
    raise PluginError("lapjax/__init__.py has no dict of the public names and their modules")


def _defined(name, names, place) -> str:
    if name in names:
        module = names[name].removeprefix("lapjax.")
        # In a checkout lapjax.datasets lies beside lapjax/, where it is found by its folder's name.
        return f"::: {module if module.startswith('datasets.') else f'lapjax.{module}'}.{name}"
    if (ROOT / "lapjax" / f"{name}.py").exists():
        return f"::: lapjax.{name}"
    raise PluginError(f"{place}: lapjax/__init__.py does not list {name}")


def _wing(what, wing, place) -> str:
    """A wing's modules: as a list, each with the first sentence of its docstring, or all that they define."""
    files = sorted(path for path in (ROOT / "lapjax" / wing).glob("*.py") if path.stem != "__init__")
    if not files:
        raise PluginError(f"{place}: lapjax/{wing}/ has no modules")
    if what == "contents":
        return "\n\n".join(
            f"::: lapjax.{wing}.{path.stem}\n    options:\n      show_root_full_path: true" for path in files
        )
    return "\n".join(f"- `lapjax.{wing}.{path.stem}`: {_first_sentence(path)}" for path in files)


def _first_sentence(path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[.:])\s", " ".join(doc.split()), maxsplit=1)[0].rstrip(":")


def _of_root(name) -> str:
    """A page of the root, with its links as seen from docs/."""
    path = ROOT / name
    if not path.exists():
        raise PluginError(f"{name} is not there, and a page of the site is made of it")

    def link(found):
        image, text, target = found.groups()
        if target.startswith("docs/"):
            return f"{image}[{text}]({target.removeprefix('docs/')})"
        # What lies outside docs/ is not part of the site.
        return found[0] if re.match(r"https?:|#|mailto:", target) else text

    return _LINK.sub(link, path.read_text(encoding="utf-8"))


def _mathml(found) -> str:
    tag, text = found[1], unescape(found[2]).strip()
    return convert(text[2:-2].strip(), display="block" if tag == "div" else "inline")
