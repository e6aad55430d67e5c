"""The import layers of the house: a module imports its own layer and those before, never in a circle."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

SHELL = ["options", "measuring", "using", "experiments", "commands"]

# Everything under datasets/ is `datasets`. A new room finds its place here first.
LAYERS = [
    [
        "errors",
        "files",
        "pages",
        "config",
        "recipes",
        "grids",
        "samples",
        "schemes",
        "geometry",
        "images",
        "cpu",
        "shipped",
    ],
    ["heatmaps", "losses", "metrics", "statistics", "convolutions"],
    ["calibration", "confidence", "conformal", "card", "graph", "engines"],
    ["networks"],
    ["packs", "data", "augment", "datasets"],
    ["scoring", "submissions"],
    ["supervision", "semi"],
    ["game", "step", "sharding"],
    ["weights", "checkpoints", "evaluate", "restoring"],
    ["boxes", "labelling", "stress", "trust", "material", "loop", "train", "living"],
    ["plots", "curves", "charts", "galleries", "progress", "tables", "export", "localizer"],
    ["quickstart", "report", "records", "cells", "harvest", "reproduce", "findings"],
    SHELL,
    ["cli"],
    ["__main__"],
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}

# What a machine that trains from a pack, or one that predicts, need not have.
OPTIONAL = {
    "array_record",
    "beartype",
    "grain",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "tensorflow_datasets",
    "tyro",
}
WITHOUT_JAX = {
    *LAYERS[0],
    "calibration",
    "confidence",
    "conformal",
    "metrics",
    "statistics",
    "packs",
    "data",
    "datasets",
    "scoring",
    "submissions",
    "tables",
    "card",
    "graph",
    "engines",
    "living",
    "localizer",
}
PURE = {"heatmaps", "losses", "metrics", "statistics", "geometry", "convolutions"}


def sources():
    """Dotted name -> syntax tree of every module of the package."""
    files = {f"lapjax.{path.stem}": path for path in (ROOT / "lapjax").glob("*.py")}
    for path in (ROOT / "datasets").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(["lapjax", *parts])] = path
    # The package's own face lists the public names of every layer.
    del files["lapjax.__init__"]
    return {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in files.items()}


def imports(tree, modules):
    """The modules of lapjax that a tree names in its imports, those inside functions included."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from lapjax import x` names a module where lapjax.x is one, else a name within lapjax.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module for name in inner]
        else:
            continue
        found.update(name for name in names if name.split(".")[0] == "lapjax")
    return found


def third_party(nodes):
    """The top-level packages that import statements name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def room(module):
    return module.split(".")[1]


def climbs(graph):
    """The imports from a lower layer into a higher one."""
    return [
        f"{module} (layer {RANK[room(module)]}) imports {other} (layer {RANK[room(other)]})"
        for module, others in graph.items()
        for other in others
        if RANK[room(other)] > RANK[room(module)]
    ]


TREES = sources()
GRAPH = {module: imports(tree, TREES) for module, tree in TREES.items()}


def test_every_module_has_a_layer():
    assert {room(module) for module in TREES} <= set(RANK)


def test_imports_name_modules_that_exist():
    assert set().union(*GRAPH.values()) <= set(TREES)


def test_imports_never_climb():
    assert climbs(GRAPH) == []


def test_nothing_imports_in_a_circle():
    tuple(graphlib.TopologicalSorter(GRAPH).static_order())


def test_a_climb_is_seen_wherever_it_hides():
    lines = ["from lapjax import cli", "import lapjax.cli", "from lapjax.cli import main"]
    for line in [*lines, *(f"def f():\n    {line}" for line in lines)]:
        assert climbs({"lapjax.losses": imports(ast.parse(line), {"lapjax.cli": None})}), line


@pytest.mark.parametrize("module", sorted(TREES))
def test_heavy_packages_are_imported_where_they_are_used(module):
    # Loaded by TFDS itself, by the shell, and by an export to ONNX.
    if module.endswith("builder") or room(module) in [*SHELL, "graph"]:
        return
    assert not OPTIONAL & set(third_party(TREES[module].body))


def test_what_prediction_needs_imports_no_jax():
    for module, tree in TREES.items():
        if room(module) in WITHOUT_JAX:
            assert not {"jax", "flax", "jaxtyping", "optax"} & set(third_party(tree.body)), module


def test_mathematics_is_pure():
    for module in PURE:
        used = set(third_party(ast.walk(TREES[f"lapjax.{module}"])))
        assert not {"flax", "optax", "os", "io", "pathlib", "json"} & used, module


def test_no_tensorflow_and_no_postponed_annotations():
    for module, tree in TREES.items():
        used = set(third_party(ast.walk(tree)))
        assert "tensorflow" not in used, module
        assert "__future__" not in used, f"{module}: jaxtyping reads annotations when a function is defined"
