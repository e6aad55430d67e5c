import importlib
import subprocess
import sys
import types

import pytest

import lapjax


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", lapjax.__all__)
def test_public_names_resolve(name):
    assert getattr(lapjax, name) is not None
    assert name in dir(lapjax)


def test_import_loads_no_jax():
    uses = "lapjax.LapjaxError, lapjax.get_recipe, lapjax.get_scheme, lapjax.geometry, lapjax.load, lapjax.metrics"
    code = f"import sys, lapjax; dir(lapjax); {uses}; print(sorted({{'jax', 'flax', 'tyro'}} & set(sys.modules)))"
    assert run(code) == "[]\n"


def test_star_import_gives_the_listed_names():
    namespace = {}
    exec("from lapjax import *", namespace)
    assert set(lapjax.__all__) <= namespace.keys()


@pytest.mark.parametrize(
    "first", ["import lapjax.train, lapjax.evaluate", "from lapjax.train import Outcome", "pass"]
)
def test_functions_win_over_their_modules_in_any_order(first):
    kinds = "type(lapjax.train).__name__, type(lapjax.evaluate).__name__, type(lapjax.prepare).__name__"
    code = f"{first}\nimport lapjax\nfrom lapjax import train\nprint(train is lapjax.train, {kinds})"
    assert run(code) == "True function function function\n"
    assert isinstance(importlib.import_module("lapjax.train"), types.ModuleType)


def test_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = lapjax.trian
