"""The examples in the docstrings of the public names run, in one folder, as a reader would type them."""

import doctest
import inspect
import types
import warnings

import pytest

import lapjax
from lapjax.errors import TermsWarning

# Constants and the namespaces of pure functions, whose examples are in the documentation.
PLAIN = {name for name in lapjax.__all__ if isinstance(getattr(lapjax, name), types.ModuleType | str)}
NAMES = [name for name in lapjax.__all__ if name not in PLAIN]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_what_it_takes_and_raises_and_has_an_example(name):
    page = inspect.getdoc(getattr(lapjax, name))
    assert ">>> " in page
    if inspect.isfunction(getattr(lapjax, name)) and name not in ("list_recipes", "list_pretrained"):
        assert "Raises:" in page


@pytest.mark.parametrize("name", sorted(PLAIN - {"__version__"}))
def test_a_namespace_says_what_is_in_it(name):
    assert len(inspect.getdoc(getattr(lapjax, name)).splitlines()[0]) > 20


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("ignore", TermsWarning)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL, verbose=False
    )
    for name in NAMES:
        thing = getattr(lapjax, name)
        (test, *_) = doctest.DocTestFinder(recurse=False).find(
            thing, f"lapjax.{name}", module=False, globs={}
        )
        lines = []
        runner.run(test, out=lines.append)
        assert test.examples, name
        assert not lines, "".join(lines)
