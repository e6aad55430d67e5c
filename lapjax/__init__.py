"""lapjax: landmark localisation with tiny networks that know how sure they are.

A picture, and the points in it, each with a radius that holds the true point 90 % of the time (no JAX needed):
    Localizer, list_pretrained

Your own labelled images, as prepared samples of a landmark scheme:
    prepare, load_dataset, Samples, Scheme, get_scheme

A training, and the run that it leaves:
    Config, get_recipe, list_recipes, override, train, load_run

What a run is worth, and how far to trust it:
    predict, evaluate, calibrate, score, compare

A run put to use: as one file, or as a teacher of unlabelled images:
    export, label

The mathematics, pure functions and networks:
    heatmaps, losses, networks, metrics, geometry

Errors name what is wrong and the remedy: LapjaxError. The version is `__version__`.

    import lapjax

    config = lapjax.override(lapjax.get_recipe("fast-medium-laplacekl"), epochs=40.0)
    lapjax.train(config, "runs/a")
    run = lapjax.load_run("runs/a")
    lapjax.export("runs/a", "a.onnx", precision="float16")

    localizer = lapjax.Localizer.load("a.onnx")
    result = localizer("photo.jpg", box=(x0, y0, x1, y1))

Names are loaded when they are first used: `import lapjax` imports no JAX. The wings of the house (`lapjax.training`,
`lapjax.evaluation`, ...) are packages of their own, which say what is in them.
"""

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

__version__ = "0.2.0"

# Public name -> the module that defines it.
_NAMES = {
    "Localizer": "deployment.localizer",
    "list_pretrained": "checkpoints.pretrained",
    "prepare": "datasets.prepare",
    "load_dataset": "data.loading",
    "Samples": "samples",
    "Scheme": "schemes",
    "get_scheme": "schemes",
    "Config": "config",
    "get_recipe": "recipes",
    "list_recipes": "recipes",
    "override": "config",
    "train": "training.train",
    "load_run": "checkpoints.run",
    "predict": "evaluation.evaluate",
    "evaluate": "evaluation.evaluate",
    "calibrate": "evaluation.calibrate",
    "score": "metrics.scoring",
    "compare": "metrics.scoring",
    "export": "deployment.export",
    "label": "evaluation.pseudo_labels",
    "LapjaxError": "errors",
}
_NAMESPACES = ("heatmaps", "losses", "networks", "metrics", "geometry")

# A checker cannot add these up, and reads the imports below instead.
__all__ = [*_NAMES, *_NAMESPACES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

# What type checkers and editors see of the names that `__getattr__` loads; a test compares the two.
if TYPE_CHECKING:
    from lapjax import geometry as geometry
    from lapjax import heatmaps as heatmaps
    from lapjax import losses as losses
    from lapjax import metrics as metrics
    from lapjax import networks as networks
    from lapjax.checkpoints.pretrained import list_pretrained as list_pretrained
    from lapjax.checkpoints.run import load_run as load_run
    from lapjax.config import Config as Config
    from lapjax.config import override as override
    from lapjax.data.loading import load_dataset as load_dataset
    from lapjax.datasets.prepare import prepare as prepare
    from lapjax.deployment.export import export as export
    from lapjax.deployment.localizer import Localizer as Localizer
    from lapjax.errors import LapjaxError as LapjaxError
    from lapjax.evaluation.calibrate import calibrate as calibrate
    from lapjax.evaluation.evaluate import evaluate as evaluate
    from lapjax.evaluation.evaluate import predict as predict
    from lapjax.evaluation.pseudo_labels import label as label
    from lapjax.metrics.scoring import compare as compare
    from lapjax.metrics.scoring import score as score
    from lapjax.recipes import get_recipe as get_recipe
    from lapjax.recipes import list_recipes as list_recipes
    from lapjax.samples import Samples as Samples
    from lapjax.schemes import Scheme as Scheme
    from lapjax.schemes import get_scheme as get_scheme
    from lapjax.training.train import train as train


# What needs the extra [train]; the rest does with NumPy, pillow and onnxruntime.
_TRAINING = {"train", "load_run", "predict", "evaluate", "calibrate", "export", "label"}
_TRAINING |= {"heatmaps", "losses", "networks"}


def __getattr__(name: str):
    if name not in _NAMES and name not in _NAMESPACES:
        raise AttributeError(f"module 'lapjax' has no attribute {name!r}{_moved(name)}")
    try:
        if name in _NAMESPACES:
            return importlib.import_module(f"lapjax.{name}")
        value = getattr(importlib.import_module(f"lapjax.{_NAMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "lapjax").partition(".")[0] == "lapjax":
            raise
        from lapjax.errors import MissingPackage

        missing = MissingPackage(f'lapjax.{name} needs {error.name}: `pip install "lapjax[train]"`')
        missing.name = error.name
        raise missing from None
    globals()[name] = value
    return value


def _moved(name: str) -> str:
    """Where a name went that lapjax 0.1 had at its top, or the nearest name."""
    from lapjax.errors import nearest

    old = {
        "Faces": "lapjax.Samples",
        "RECIPES": "lapjax.list_recipes() and lapjax.get_recipe(name)",
        "anonymous": "lapjax.schemes.anonymous",
        "calibrate_run": "lapjax.calibrate",
        "load": "lapjax.load_dataset",
        "train_together": "lapjax.training.train.train_together",
        "truth": "lapjax.metrics.scoring.truth",
        "view": "lapjax.evaluation.evaluate.view",
    }
    if name in old:
        return f": it is {old[name]} now"
    return nearest(name, __all__, form=", did you mean {!r}?")


def __dir__() -> list[str]:
    """What can be used: help(lapjax) loads all of it, in an install without JAX too."""
    whole = importlib.util.find_spec("jax") is not None
    return sorted(globals().keys() | {name for name in __all__ if whole or name not in _TRAINING})


def _find_datasets() -> None:
    """Makes lapjax.datasets importable in a checkout, where its folder lies beside this one and not in it."""
    here = os.path.dirname(os.path.abspath(__file__))
    folder = os.path.join(os.path.dirname(here), "datasets")
    if os.path.isdir(os.path.join(here, "datasets")):  # installed: an ordinary sub-package
        return
    name = f"{__name__}.datasets"
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None  # it is a file
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    globals()["datasets"] = module  # as an import of it would have done


_find_datasets()
