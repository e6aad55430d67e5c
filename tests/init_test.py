import ast
import inspect
import re
import subprocess
import sys

import pytest

import lapjax


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", lapjax.__all__)
def test_public_names_resolve(name):
    assert getattr(lapjax, name) is not None
    assert name in dir(lapjax)


def test_import_loads_no_jax():
    uses = "lapjax.LapjaxError, lapjax.get_recipe, lapjax.get_scheme, lapjax.geometry, lapjax.load_dataset, lapjax.metrics"
    code = f"import sys, lapjax; dir(lapjax); {uses}; print(sorted({{'jax', 'flax', 'tyro'}} & set(sys.modules)))"
    assert run(code) == "[]\n"


BARE = """
import sys
# An install without the extra [train].
sys.modules.update(dict.fromkeys("jax flax optax orbax scipy onnx grain array_record tensorflow_datasets matplotlib".split()))
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "jax" else find(name, *rest)
import lapjax
"""


def test_without_jax_what_needs_it_says_what_to_install():
    code = (
        BARE
        + """
for name in lapjax.__all__:
    try:
        getattr(lapjax, name)
        assert name not in lapjax._TRAINING, name
    except ImportError as error:
        assert isinstance(error, lapjax.LapjaxError) and name not in dir(lapjax)
        assert str(error) == f'lapjax.{name} needs {error.name}: `pip install "lapjax[train]"`', error
"""
    )
    run(code)


def test_without_jax_the_help_is_whole():
    page = run(BARE + "help(lapjax)")
    assert "The mathematics, pure functions and networks" in page


def test_without_jax_the_commands_have_their_help_and_some_run():
    code = (
        BARE
        + """
from lapjax.cli import main
from lapjax.cli.doors import COMMANDS
for command in COMMANDS:
    assert main.main([command, "--help"]) == 0
assert main.main(["models"]) == 0
assert main.main(["--version"]) == 0
assert main.main(["train", "toy-sam", "--out", "run"]) == 2
"""
    )
    run(code)


def test_star_import_gives_the_listed_names():
    namespace = {}
    exec("from lapjax import *", namespace)
    assert set(lapjax.__all__) <= namespace.keys()


PUBLIC = """
Localizer list_pretrained
prepare load_dataset Samples Scheme get_scheme
Config get_recipe list_recipes override train load_run
predict evaluate calibrate score compare
export label
LapjaxError
heatmaps losses networks metrics geometry
__version__
"""


def test_the_public_names_are_these_and_no_others():
    assert lapjax.__all__ == PUBLIC.split()


def test_type_checkers_see_the_same_names():
    tree = ast.parse(inspect.getsource(lapjax))
    (shown,) = (
        node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )
    found = {alias.name: statement.module for statement in shown.body for alias in statement.names}
    assert found == {name: f"lapjax.{module}" for name, module in lapjax._NAMES.items()} | dict.fromkeys(
        lapjax._NAMESPACES, "lapjax"
    )


def test_help_groups_every_public_name():
    page = run("import lapjax; help(lapjax)")
    head = page.partition("PACKAGE CONTENTS")[0]
    assert all(re.search(rf"\b{name}\b", head) for name in lapjax.__all__)


def test_functions_are_not_hidden_by_the_modules_of_their_names():
    code = "import lapjax.training.train, lapjax.evaluation.calibrate, lapjax, types\n"
    code += "print([n for n in lapjax.__all__ if isinstance(getattr(lapjax, n), types.ModuleType)])"
    assert run(code) == "['heatmaps', 'losses', 'networks', 'metrics', 'geometry']\n"


@pytest.mark.parametrize("name", ["Faces", "load", "calibrate_run", "train_together", "truth", "view"])
def test_a_name_of_version_0_1_says_where_it_went(name):
    with pytest.raises(AttributeError, match=rf"{name}.*: it is lapjax\.\S+ now"):
        getattr(lapjax, name)


def test_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'trian', did you mean 'train'"):
        _ = lapjax.trian
