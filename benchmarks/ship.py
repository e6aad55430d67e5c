"""What ships: the choices behind it, the trainings, and the files in lapjax/checkpoints/pretrained_files.

    python benchmarks/ship.py selection face-68-tiny face-68 --data-dir DIR --runs DIR      # trains, on validation

    python benchmarks/ship.py --install --data-dir DIR --runs DIR --photographs ~/300w      # reads the common test set

    python benchmarks/ship.py --table                                                       # writes the tables of README.md and docs/results.md

Cells that are there already are skipped, what was cut off goes on; one JSON a cell under results/ship. `--install` takes
of every shipped network the seed with the lowest validation error, exports it in float16, measures each seed's file on
the original photographs of the common set, and writes lapjax/checkpoints/pretrained_files with its record models.json.
"""

import argparse
import hashlib
import json
import pathlib
import statistics
import tempfile
import warnings

import numpy as np
from foundation import run, whole
from photographs import Photographs
from readme import spread, table, write_between
from reads import RESULTS, log_read

import lapjax
from lapjax import metrics
from lapjax.checkpoints.run import load_run
from lapjax.config import override
from lapjax.cpu import with_huge_pages
from lapjax.errors import TermsWarning
from lapjax.evaluation.calibrate import calibrate
from lapjax.networks import parameter_count
from lapjax.recipes import get_recipe

MODELS = pathlib.Path(lapjax.__file__).parent / "checkpoints" / "pretrained_files"
# Name -> the group of cells whose best seed it is, and the set whose test split says how good it is.
SHIPPED = {
    "face-68-tiny": ("face-68-tiny", "the300w"),
    "face-68": ("face-68-taught", "the300w"),
    "face-68-large": ("face-68-large", "the300w"),
    "toy-68": ("toy-68", "toy_faces"),
}
SEEDS = 3

SAID = {
    "more-labels": "30 epochs from the 100-epoch net, crop of 1.25 boxes, 16 faces labelled by four nets a step besides",
    "more": "60 epochs from it, no other faces: as many images",
    "more-weak-128": "40 epochs from it, weak augmentation, 128 px",
    "face-68-s0": "80 epochs from it, likewise",
    "further-128": "30 epochs more of that one",
    "face-68-taught-s0": "the same, beside 16 LFW faces a step and the mean heatmaps of three such nets",
    "small-ten": "small: 10 channels, blocks 2, 5, 5, 112 px, labelled faces besides, moderate augmentation",
    "small-sixteen": "small: 16 channels, blocks 2, 2, 2, 128 px, weak augmentation",
}


def cells(runs) -> dict[str, dict]:
    """Group -> name -> configuration; `runs` holds those of benchmarks/foundation.py, where some start."""

    def trained(name):
        return str(pathlib.Path(runs) / name)

    then = whole("fast-medium-laplacekl")
    more = override(
        then,
        model={"crop": 1.25},
        optimiser={"learning_rate": 4e-3},
        start=trained("fast-medium-laplacekl-s0"),
    )
    labelled = {"unlabelled": "lfw-labelled.npz", "semi": {"method": "labels"}}
    medium, small = get_recipe("fast-medium-laplacekl"), get_recipe("fast-small-laplacekl")
    further = override(medium, optimiser={"learning_rate": 4e-3})
    selection = {
        "more-labels": override(more, epochs=30.0, **labelled),
        "more": override(more, epochs=60.0),
        "more-weak-128": override(further, epochs=40.0, start=trained("fast-medium-laplacekl-s0")),
        "further-128": override(further, epochs=30.0, start=trained("face-68-s0")),
        "small-ten": override(then, epochs=30.0, model={"crop": 1.25, "channels": 10}, **labelled),
        "small-sixteen": override(small, epochs=30.0),
    }
    drawn = {"blocks": (2, 2, 2), "input_size": 96, "crop": 1.25}
    toy = override(get_recipe("toy-laplacekl"), model=drawn, epochs=48.0)
    large = get_recipe("fast-large-laplacekl")
    coarse = override(large, epochs=80.0, model={"input_size": 112})
    return {
        "selection": selection,
        "face-68-tiny": {
            f"face-68-tiny-s{seed}": override(small, seed=seed, epochs=200.0) for seed in range(SEEDS)
        },
        "face-68": {
            f"face-68-s{seed}": override(
                further, epochs=80.0, seed=seed, start=trained(f"fast-medium-laplacekl-s{seed}")
            )
            for seed in range(SEEDS)
        },
        # What the three together know, which is more than each, goes into each.
        "face-68-taught": {
            f"face-68-taught-s{seed}": override(
                further,
                epochs=30.0,
                seed=seed,
                start=trained(f"face-68-s{seed}"),
                unlabelled="lfw",
                unlabelled_limit=10_000,
                semi={"method": "heatmaps", "models": tuple(f"face-68-s{each}" for each in range(SEEDS))},
            )
            for seed in range(SEEDS)
        },
        # The first half of its training at 112 px, in half the time.
        "face-68-large-112": {
            f"face-68-large-112-s{seed}": override(coarse, seed=seed) for seed in range(SEEDS)
        },
        "face-68-large": {
            f"face-68-large-s{seed}": override(
                large,
                epochs=45.0,
                seed=seed,
                optimiser={"learning_rate": 4e-3},
                start=trained(f"face-68-large-112-s{seed}"),
            )
            for seed in range(SEEDS)
        },
        "toy-68": {"toy-68-s0": toy},
    }


def install(args) -> None:
    """Exports, measures and writes what ships."""
    groups = cells(args.runs)
    known = json.loads((MODELS / "models.json").read_text()) if (MODELS / "models.json").exists() else {}
    for name in args.cells or SHIPPED:
        found = {}
        for cell in groups[SHIPPED[name][0]]:
            record = RESULTS / "ship" / f"{cell}.json"
            if record.exists():
                found[cell] = json.loads(record.read_text())
        if not found:
            print(f"{name}: not trained yet")
            continue
        best = min(found, key=lambda cell: found[cell]["nme"]["inter_ocular"])
        seeds = {cell: _measure(name, cell, args) for cell in found}
        file = MODELS / f"{name}.onnx"
        MODELS.mkdir(exist_ok=True)
        file.write_bytes(seeds[best].pop("content"))
        for said in seeds.values():
            said.pop("content", None)
        known[name] = _describe(name, file, best, seeds)
        order = sorted(known.items(), key=lambda item: item[1]["bytes"])
        (MODELS / "models.json").write_text(json.dumps(dict(order), indent=1) + "\n")
        print(name, json.dumps(known[name]["nme"]), known[name]["bytes"])


def _measure(name, cell, args) -> dict:
    """A seed's float16 file and its errors on the photographs of the test split."""
    directory = pathlib.Path(args.runs) / cell
    if not (directory / "calibration.json").exists():
        calibrate(directory, data_dir=args.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"{name}.onnx"
        card = lapjax.export(directory, path, precision="float16", data_dir=args.data_dir, name=name).card
        content = path.read_bytes()
        localizer = lapjax.Localizer.load(path)
    dataset = SHIPPED[name][1]
    photographed = dataset == "the300w"
    test = args.split if photographed else "test"
    if test == "common":
        log_read(cell, by="benchmarks/ship.py", precision="float16", through="file")
    folder = args.photographs if photographed else None
    taken = Photographs(dataset, test, data_dir=args.data_dir, folder=folder)
    samples, found = taken.samples, [localizer(image, box=box) for image, box in taken]
    points, radius = np.array([each.points for each in found]), np.array([each.radius for each in found])
    error = taken.error(points)
    inside = metrics.point_errors(points, lapjax.truth(samples)) <= radius
    return {
        "nme": float(error.mean()),
        "failures_over_8": float(100 * (error > 8).mean()),
        "radius_holds": float(100 * inside[samples.visible].mean()),
        "validation_nme": card.parity["nme"]["file"],
        "images": len(samples),
        "split": test,
        "content": content,
    }


def _describe(name, file, best, seeds) -> dict:
    content = file.read_bytes()
    localizer = lapjax.Localizer.load(file)
    card, chosen, dataset = localizer.card, seeds[best], SHIPPED[name][1]
    values = [said["nme"] for said in seeds.values()]
    return {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": parameter_count(load_run(file).variables["params"]),
        "landmarks": len(localizer.names),
        "scheme": card.scheme.name,
        "input_size": card.model.input_size,
        "precision": card.precision,
        "terms": None if dataset == "toy_faces" else card.provenance["terms"],  # of others
        "nme": {
            "percent": round(chosen["nme"], 4),
            "normaliser": metrics.primary_normaliser(card.scheme),
            "dataset": dataset,
            "split": chosen["split"],
            "images": chosen["images"],
            "box": "tight box of the true landmarks",
            "through": "this file, on the original photographs" if dataset == "the300w" else "this file",
            "train_faces": card.provenance["info"]["labelled"],
            "seeds": [round(value, 4) for value in values],
            "mean": round(statistics.mean(values), 4),
            "standard_deviation": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        },
        "failures_over_8_percent": round(chosen["failures_over_8"], 2),
        "radius_holds_percent": round(chosen["radius_holds"], 2),
        "chosen": f"{best}, the lowest of {len(seeds)} on the validation split: {chosen['validation_nme']:.3f}",
    }


def write_tables() -> None:
    """The table of what ships in README.md, and that of the choices in docs/results.md."""
    rows = []
    for name, said in json.loads((MODELS / "models.json").read_text()).items():
        nme = said["nme"]
        where = "300W common" if nme["dataset"] == "the300w" else "drawn faces"
        rows.append(
            [
                f"`{name}`",
                f"{said['bytes']:,}",
                f"{said['parameters']:,}",
                f"{said['input_size']} px",
                f"{nme['percent']:.2f}",
                spread(nme["seeds"], 2) + f" ({len(nme['seeds'])})",
                f"{said['failures_over_8_percent']:.1f} %",
                f"{said['radius_holds_percent']:.1f} %",
                where,
            ]
        )
    heads = ["name", "bytes", "parameters", "input", "NME", "mean of the seeds", "failures > 8 %"]
    write_between("shipped", table([*heads, "inside the 90 % radius", "measured on"], rows))
    rows = []
    for name, said in SAID.items():
        record = RESULTS / "ship" / f"{name}.json"
        if record.exists():
            rows.append([said, f"{json.loads(record.read_text())['nme']['inter_ocular']:.2f}"])
    write_between("choices", table(["choice, validation, one seed", "NME"], rows), page="docs/results.md")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "cells", nargs="*", metavar="CELL", help="groups or cells; with --install, shipped names"
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", default="runs", help="where the run directories are")
    parser.add_argument("--photographs", type=pathlib.Path, help="the folder that 300W was prepared from")
    parser.add_argument(
        "--install", action="store_true", help="write lapjax/checkpoints/pretrained_files from finished runs"
    )
    parser.add_argument("--split", choices=("common", "validation"), default="common", help="to measure on")
    parser.add_argument("--table", action="store_true", help="write the tables and stop")
    args = parser.parse_args()
    if args.table:
        write_tables()
        return
    if args.install:
        if args.photographs is None:
            parser.error("--install measures on photographs: name their folder with --photographs")
        install(args)
        return
    groups = cells(args.runs)
    names = {name: config for group in groups.values() for name, config in group.items()}
    chosen = {}
    for cell in args.cells:
        if cell not in groups and cell not in names:
            parser.error(f"no such cell: {cell}; there are {', '.join([*groups, *names])}")
        chosen |= groups.get(cell) or {cell: names[cell]}
    if not chosen:
        parser.error(f"name cells to run: {', '.join([*groups, *names])}")
    for name, config in chosen.items():
        print(f"== {name}", flush=True)
        run(name, config, args, folder="ship")


if __name__ == "__main__":
    with_huge_pages()
    warnings.simplefilter("ignore", TermsWarning)
    main()
