"""What every test runs under: checked shapes, ranks never promoted, fixed seeds, its share of the cores.

Warnings are errors (pyproject.toml). The hook below must come before the first import of lapjax.
"""

import os
import pathlib
import random

# Linear algebra and XLA start a thread per core each; test processes beside each other share the cores.
os.environ.update(
    dict.fromkeys(
        ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"],
        str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))),
    )
    | {"JAX_PLATFORMS": "cpu"}
    | os.environ
)

import hypothesis
import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
# Where signatures give shapes every call is checked; elsewhere wrong types are to meet lapjax's own errors.
_root = pathlib.Path(__file__).parents[1]
_modules = (_root / "lapjax").rglob("*.py")
install_import_hook(
    [
        ".".join(path.relative_to(_root).with_suffix("").parts)
        for path in _modules
        if "jaxtyping" in path.read_text()
    ],
    "beartype.beartype",
)

# The same examples on every machine; the first call compiles, so that no deadline makes sense.
hypothesis.settings.register_profile(
    "lapjax", deadline=None, derandomize=True, max_examples=20, database=None
)
hypothesis.settings.load_profile("lapjax")


# What trains, or compiles for more than some seconds, by folder or file: `make check` leaves these out.
SLOW = {
    "checkpoints/onnx_graph_test.py",
    "checkpoints/onnx_weights_test.py",
    "checkpoints/run_test.py",
    "cli",
    "data/augment_test.py",
    "deployment/export_test.py",
    "evaluation",
    "examples_test.py",
    "experiments",
    "kept_test.py",
    "networks_test.py",
    "notebooks_test.py",
    "training",
    "visualization/report_test.py",
}


def pytest_collection_modifyitems(items):
    """Marks the tests of SLOW."""
    places = [_root / "tests" / name for name in SLOW]
    for item in items:
        if any(place in (item.path, *item.path.parents) for place in places):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _seed():
    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def rng():
    """A NumPy generator that starts the same in every test."""
    return np.random.default_rng(0)
