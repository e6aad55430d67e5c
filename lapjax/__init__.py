"""lapjax: landmark localisation with tiny networks that know how sure they are.

    import lapjax

    config = lapjax.override(lapjax.get_recipe("fast-medium-laplacekl"), epochs=40.0)
    lapjax.train(config, "runs/a")
    trained = lapjax.load_run("runs/a")
    lapjax.export("runs/a", "a.onnx", precision="float16")

    localizer = lapjax.Localizer.load("a.onnx")
    result = localizer("photo.jpg", box=(x0, y0, x1, y1))

Names are loaded when they are first used: `import lapjax` imports no JAX. A function that shares its module's name
(`lapjax.train`, `lapjax.evaluate`, `lapjax.prepare`, `lapjax.export`) is the function; the rest of that module is imported from it,
as in `from lapjax.train import Outcome`.
"""

import importlib
import importlib.util
import os
import sys
import types

# Public name -> the module that defines it.
_NAMES = {
    "Config": "config",
    "RECIPES": "recipes",
    "get_recipe": "recipes",
    "override": "config",
    "LapjaxError": "errors",
    "Scheme": "schemes",
    "anonymous": "schemes",
    "get_scheme": "schemes",
    "Samples": "samples",
    "load": "data",
    "prepare": "datasets.prepare",
    "train": "train",
    "train_together": "train",
    "load_run": "checkpoints",
    "label": "labelling",
    "calibrate": "trust",
    "export": "export",
    "Localizer": "localizer",
    "evaluate": "evaluate",
    "predict": "evaluate",
    "truth": "scoring",
    "view": "evaluate",
    "score": "scoring",
    "compare": "scoring",
}
_MODULES = {
    "augment",
    "boxes",
    "calibration",
    "card",
    "charts",
    "checkpoints",
    "confidence",
    "config",
    "conformal",
    "curves",
    "data",
    "datasets",
    "engines",
    "errors",
    "findings",
    "game",
    "geometry",
    "graph",
    "grids",
    "heatmaps",
    "images",
    "labelling",
    "localizer",
    "losses",
    "metrics",
    "networks",
    "packs",
    "pages",
    "plots",
    "recipes",
    "records",
    "report",
    "reproduce",
    "schemes",
    "scoring",
    "semi",
    "sharding",
    "statistics",
    "stress",
    "submissions",
    "tables",
    "trust",
    "weights",
}

__all__ = sorted(_NAMES.keys() | _MODULES)


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(importlib.import_module(f"lapjax.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"lapjax.{name}")
    raise AttributeError(f"module 'lapjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))


class _Package(types.ModuleType):
    """Keeps `import lapjax.train`, which sets the module on its package, from hiding the function `lapjax.train`."""

    def __setattr__(self, name, value):
        if not (name in _NAMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


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
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


_find_datasets()
