"""The directions of the house: a room imports its own wing and the wings before it, never in a circle.

A room is a file or a folder (a wing) at the first level of lapjax/; datasets/ is a wing that lies beside lapjax/.
"""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Wings of one line do not import each other. What is in no wing is the root, on which all of them rest.
ORDER = [
    ["root"],
    ["calibration", "datasets"],
    ["data", "metrics"],
    ["checkpoints"],
    ["evaluation"],
    ["training", "deployment", "visualization"],
    ["experiments"],
    ["cli"],
]
RANK = {wing: rank for rank, wings in enumerate(ORDER) for wing in wings}
ROOMS = 30

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
# Rooms and wings of which every module can be imported without JAX.
WITHOUT_JAX = {
    "lapjax.config",
    "lapjax.cpu",
    "lapjax.errors",
    "lapjax.files",
    "lapjax.geometry",
    "lapjax.images",
    "lapjax.recipes",
    "lapjax.samples",
    "lapjax.schemes",
    "lapjax.calibration",
    "lapjax.datasets",
    "lapjax.metrics",
    "lapjax.data.batches",
    "lapjax.data.loading",
    "lapjax.data.packs",
    "lapjax.checkpoints.model_card",
    "lapjax.checkpoints.onnx_graph",
    "lapjax.checkpoints.pretrained",
    "lapjax.checkpoints.runtime",
    "lapjax.deployment.localizer",
    "lapjax.deployment.run_engine",
    "lapjax.cli.tables",
    "lapjax.experiments.grids",
    "lapjax.visualization.markdown",
}
PURE = {"heatmaps", "losses", "geometry", "convolutions", "metrics.normalised_error", "metrics.bootstrap"}
# What reads the options of commands, and what writes ONNX, cannot do without them.
HEAVY = {"lapjax.cli", "lapjax.checkpoints.onnx_graph"}


def sources():
    """Dotted name -> syntax tree of every module of the package."""
    files = {}
    for folder, package in (("lapjax", ()), ("datasets", ("lapjax",))):
        for path in (ROOT / folder).rglob("*.py"):
            files[".".join((*package, *path.relative_to(ROOT).with_suffix("").parts))] = path
    # The package's own face lists the public names of every wing, and runs the command line.
    del files["lapjax.__init__"], files["lapjax.__main__"]
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
            names = [
                name if name in modules else node.module for name in inner if name != "lapjax.__version__"
            ]
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


def wing(module):
    """The wing of a module, "root" where it is in none."""
    first = module.split(".")[1]
    return first if first in RANK else "root"


def climbs(graph):
    """The imports from a wing into one after it, or beside it."""
    return [
        f"{module} ({wing(module)}) imports {other} ({wing(other)})"
        for module, others in graph.items()
        for other in others
        if wing(other) != wing(module) and RANK[wing(other)] >= RANK[wing(module)]
    ]


def within(module, names):
    """Whether a module or a package above it is among names."""
    return any(f"{module}.".startswith(f"{name}.") for name in names)


TREES = sources()
GRAPH = {module: imports(tree, TREES) for module, tree in TREES.items()}


def test_every_folder_is_a_wing_and_the_rooms_are_few():
    folders = {path.parent.name for path in (ROOT / "lapjax").glob("*/__init__.py")}
    assert folders | {"datasets"} == set(RANK) - {"root"}
    files = {path.stem for path in (ROOT / "lapjax").glob("*.py")}
    assert len(folders) + len(files) <= ROOMS


def test_imports_name_modules_that_exist():
    assert set().union(*GRAPH.values()) <= set(TREES)


def test_imports_run_one_way():
    assert climbs(GRAPH) == []


def test_nothing_imports_in_a_circle():
    tuple(graphlib.TopologicalSorter(GRAPH).static_order())


def test_a_climb_is_seen_wherever_it_hides():
    lines = ["from lapjax import cli", "import lapjax.cli", "from lapjax.cli import main"]
    for line in [*lines, *(f"def f():\n    {line}" for line in lines)]:
        assert climbs({"lapjax.losses": imports(ast.parse(line), {"lapjax.cli": None})}), line
    beside = imports(ast.parse("from lapjax.deployment import export"), TREES)
    assert climbs({"lapjax.training.train": beside})


@pytest.mark.parametrize("module", sorted(TREES))
def test_heavy_packages_are_imported_where_they_are_used(module):
    if module.endswith("builder") or within(module, HEAVY):  # builders are loaded by TFDS itself
        return
    assert not OPTIONAL & set(third_party(TREES[module].body))


def test_what_prediction_needs_imports_no_jax():
    for module, tree in TREES.items():
        if within(module, WITHOUT_JAX):
            assert not {"jax", "flax", "jaxtyping", "optax"} & set(third_party(tree.body)), module


def test_mathematics_is_pure():
    for module in PURE:
        used = set(third_party(ast.walk(TREES[f"lapjax.{module}"])))
        assert not {"flax", "optax", "os", "io", "pathlib", "json"} & used, module


def test_orbax_is_called_in_one_file():
    users = {module for module, tree in TREES.items() if "orbax" in set(third_party(ast.walk(tree)))}
    assert users == {"lapjax.checkpoints.run"}


def test_no_tensorflow_and_no_postponed_annotations():
    for module, tree in TREES.items():
        used = set(third_party(ast.walk(tree)))
        assert "tensorflow" not in used, module
        assert "__future__" not in used, f"{module}: jaxtyping reads annotations when a function is defined"
