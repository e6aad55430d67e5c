"""Every public module, class, function and method says what it is, over the package list of setup.cfg."""

import ast
import configparser
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def packages():
    """Package -> folder, as setup.cfg has them: an editable install hides lapjax.datasets from pkgutil."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    roots = dict(
        map(str.strip, line.split("=")) for line in config["options"]["package_dir"].split("\n") if line
    )
    folders = {}
    for package in config["options"]["packages"].split():
        base = max((name for name in roots if f"{package}.".startswith(f"{name}.")), key=len)
        folders[package] = ROOT.joinpath(roots[base], *package.removeprefix(base).split(".")[1:])
    return folders


FILES = sorted(path for folder in packages().values() for path in folder.glob("*.py"))


def undocumented(tree):
    """The public definitions of a module or class body that have no docstring; a property may go without."""
    missing = [] if ast.get_docstring(tree) or not tree.body else [getattr(tree, "name", "the module")]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            missing += [name if name == node.name else f"{node.name}.{name}" for name in undocumented(node)]
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            property_ = any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
            missing += [] if property_ or ast.get_docstring(node) else [node.name]
    return missing


def test_setup_cfg_lists_every_package():
    found = {path.parent for root in ("lapjax", "datasets") for path in (ROOT / root).rglob("__init__.py")}
    assert set(packages().values()) == found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_documented(path):
    assert undocumented(ast.parse(path.read_text())) == []


def test_a_missing_docstring_is_seen():
    source = "class A:\n    def f(self): pass\n    def _g(self): pass\ndef h(): pass\ndef _i(): pass"
    assert undocumented(ast.parse(source)) == ["the module", "A", "A.f", "h"]
