"""The foundation's accuracy runs on 300W: one JSON a finished cell under results/foundation/.

    python benchmarks/foundation.py selection final --data-dir DIR --runs DIR

    python benchmarks/foundation.py --table          # writes the tables of docs/results.md from those files

Runs the named groups of cells one after the other, skips what has its JSON, resumes what was cut off. Numbers are of
the validation split; the common test set is read by `--common`, once, at the end, and that is logged in
results/test_reads.jsonl.
"""

import argparse
import json
import pathlib

from readme import spread, table, write_between
from reads import RESULTS, log_read

from lapjax import data
from lapjax.checkpoints.model_card import commit
from lapjax.checkpoints.run import load_run
from lapjax.config import Augmentation, override
from lapjax.cpu import with_huge_pages
from lapjax.evaluation.evaluate import config_conditions, evaluate
from lapjax.metrics.scoring import write_json
from lapjax.recipes import get_recipe
from lapjax.training.train import train

FAST, POSTER = "fast-medium", "poster-1_4"


# The augmentation of the first cells; the recipes' is weaker since `moderate-augmentation` won.
STRONG = {"rotation": 30.0, "scale": 0.2, "occlusion": 0.4, "blur": 0.2, "colour": 0.3}
WEAK = {"rotation": 15.0, "scale": 0.1, "occlusion": 0.0, "blur": 0.0, "colour": 0.15}


SAID = {
    "pq-t1.2": "KL(p‖q), t = 1.2 px, learning rate 8e-3, batches of 32, strong augmentation",
    "sam": "the same with SAM",
    "lr4e-3": "learning rate 4e-3",
    "sam-lr4e-3": "learning rate 4e-3, SAM",
    "init": "depthwise kernels drawn as their true fan-in asks",
    "pq-t2": "t = 2 px",
    "qp-t8-1.2": "KL(q‖p), t falling from 8 to 1.2 px",
    "sixty-epochs": "60 epochs",
    "moderate-augmentation": "moderate augmentation",
    "batch16": "batches of 16",
    "batch16-moderate": "both",
    "batch16-moderate-sam": "both, SAM",
    "balance1": "both, forces of easy and hard points evened",
    "balance0.5": "both, half evened",
    "nll": "both, the likelihood (t to 0)",
    "batch16-weak": "both, weaker augmentation still",
    "crop1.25": "both, crop of 1.25 boxes instead of 1.4",
    "crop1.6": "both, crop of 1.6 boxes",
    "no-flip": "both, no mirroring",
    "lean": "both, mirrored labels moved back by twice 0.005 boxes: **the recipe**",
    "crop1.25-lean": "the recipe, crop of 1.25 boxes",
    "crop1.25-weak": "that one, weak augmentation",
    "crop1.25-128": "that one, 128 px",
    "crop1.25-oriented": "that one, scales along each heatmap's principal axes instead of x and y",
    "crop1.25-dropout": "that one, dropout 0.1",
    "crop1.25-weak-longer": "weak augmentation, 60 epochs: as many images as the next two",
    "crop1.25-weak-points": "weak augmentation, 16 LFW faces a step besides: points and scales of a large net of 80 epochs",
    "crop1.25-weak-heatmaps": "weak augmentation, 16 LFW faces a step besides: the whole heatmaps of that net",
    "labels": "the recipe, 16 LFW faces a step besides, labelled by four of the 100-epoch nets",
    "labels-crop1.25": "the same, crop of 1.25 boxes",
}


def foundation(config):
    """The fast recipe as it was then: 112 px, a wider crop, stronger augmentation. benchmarks/ship.py has what followed."""
    known = vars(Augmentation()) | {"mirror_lean": config.augment.mirror_lean}
    return override(config, model={"input_size": 112, "crop": 1.4}, augment=known)


def whole(name: str):
    """A recipe as it was then, at its full length."""
    return override(foundation(get_recipe(name)), epochs=100.0)


def cells() -> dict[str, dict]:
    """Group -> name -> configuration."""
    short = foundation(override(get_recipe(f"{FAST}-laplacekl"), epochs=30.0))
    short = override(short, augment={"mirror_lean": 0.0})
    tight = override(short, augment={"mirror_lean": 0.005}, model={"crop": 1.25})
    first = override(short, batch_size=32, augment=STRONG)
    sam = {"name": "sam"}
    weak = override(tight, augment={"shift": 0.04, **WEAK})
    selection = {
        "lr4e-3": override(first, optimiser={"learning_rate": 4e-3}),
        "sam-lr4e-3": override(first, loss=sam, optimiser={"learning_rate": 4e-3}),
        "pq-t1.2": first,
        "sam": override(first, loss=sam),
        "pq-t2": override(first, loss={"target_scale": 2.0}),
        "qp-t8-1.2": override(first, loss={"direction": "q||p", "target_start": 8.0}),
        "moderate-augmentation": override(short, batch_size=32),
        "batch16": override(short, augment=STRONG),
        "batch16-moderate": short,
        "batch16-moderate-sam": override(short, loss=sam),
        "batch16-weak": override(short, augment=WEAK),
        "crop1.25": override(short, model={"crop": 1.25}),
        "crop1.6": override(short, model={"crop": 1.6}),
        "balance1": override(short, loss={"balance": 1.0}),
        "balance0.5": override(short, loss={"balance": 0.5}),
        "balance1-t2": override(short, loss={"balance": 1.0, "target_scale": 2.0}),
        "no-flip": override(short, augment={"flip": False}),
        "lean": override(short, augment={"mirror_lean": 0.005}),
        "crop1.25-lean": tight,
        "crop1.25-weak": weak,
        "crop1.25-128": override(tight, model={"input_size": 128}),
        "crop1.25-oriented": override(tight, loss={"combine": "oriented"}),
        "crop1.25-dropout": override(tight, model={"dropout": 0.1}),
        # DATA_DIR/lfw-labelled.npz: `lapjax label` of fast-medium-laplacekl-s0, -s1, -s2 and fast-medium-laplacekl+d-10k-s0
        # over `--dataset lfw --limit 10000`.
        **{
            name: override(
                short,
                augment={"mirror_lean": 0.005},
                model={"crop": crop},
                unlabelled="lfw-labelled.npz",
                semi={"method": "labels"},
            )
            for name, crop in (("labels", 1.4), ("labels-crop1.25", 1.25))
        },
        "crop1.25-weak-longer": override(weak, epochs=60.0),
        # RUNS/face-68-large-112-s0 (benchmarks/ship.py) teaches both: the first by DATA_DIR/lfw-told-large.npz, of `lapjax label`
        # over `--dataset lfw --limit 10000`, the second on the same faces as they are augmented.
        "crop1.25-weak-points": override(weak, unlabelled="lfw-told-large.npz", semi={"method": "labels"}),
        "crop1.25-weak-heatmaps": override(
            weak,
            unlabelled="lfw",
            unlabelled_limit=10_000,
            semi={"method": "heatmaps", "models": ("face-68-large-112-s0",)},
        ),
        "nll": override(short, loss={"name": "laplace_nll"}),
    }
    for rate in (1e-3, 3e-3):
        selection[f"poster-lr{rate:g}"] = override(
            get_recipe(f"{POSTER}-laplacekl"),
            epochs=8.0,
            evaluate_every=2.0,
            optimiser={"learning_rate": rate},
        )
    final = {
        f"{FAST}-{loss}-s{seed}": override(whole(f"{FAST}-{loss}"), seed=seed)
        for seed in range(3)
        for loss in ("laplacekl", "sam")
    }
    poster = {f"{POSTER}-{loss}-s0": get_recipe(f"{POSTER}-{loss}") for loss in ("laplacekl", "sam")}
    game = {f"{FAST}-laplacekl+d-10k-s0": whole(f"{FAST}-laplacekl+d-10k")}
    plain = whole(f"{FAST}-laplacekl")
    # Other losses' b as sources of confidence, for benchmarks/confidence.py.
    sources = {
        f"{FAST}-laplacekl-qp-s0": override(plain, loss={"direction": "q||p", "target_start": 8.0}),
        f"{FAST}-nll-s0": override(plain, loss={"name": "laplace_nll"}),
    }
    return {"selection": selection, "final": final, "poster": poster, "game": game, "sources": sources}


def run(name: str, config, args, *, folder: str = "foundation") -> None:
    """Trains one cell and writes its JSON."""
    file = RESULTS / folder / f"{name}.json"
    if file.exists():
        return
    directory = pathlib.Path(args.runs) / name
    if config.unlabelled and config.unlabelled.endswith(".npz"):
        config = override(config, unlabelled=str(data.data_directory(args.data_dir) / config.unlabelled))
    teachers = tuple(str(pathlib.Path(args.runs) / name) for name in config.semi.models)
    config = override(config, semi={"models": teachers})
    outcome = train(
        config,
        directory,
        resume=(directory / "config.json").exists(),
        data_dir=args.data_dir,
        report=print_line,
    )
    if not outcome.finished:
        raise SystemExit(f"{name} stopped at step {outcome.step}; run this again to go on")
    samples = data.load_dataset(config.dataset, config.validation_split, data_dir=args.data_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record(directory, samples) | {"training_seconds": round(outcome.seconds)})


def record(directory, samples) -> dict:
    """A trained run's errors on a split, with its configuration."""
    trained = load_run(directory)
    conditions = config_conditions(trained.config) | {
        "train_faces": trained.info["labelled"],
        "step": trained.step,
    }
    result = evaluate(trained, samples, conditions=conditions)
    return result | {"commit": commit() or "not a checkout"}


def print_line(line: dict) -> None:
    if "nme" in line or line["step"] % 200 == 0:
        print(
            {key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()},
            flush=True,
        )


def read_common(names, args) -> None:
    """Evaluates finished cells on the common test set and logs the reading."""
    for name in names:
        directory = pathlib.Path(args.runs) / name
        log_read(name, by="benchmarks/foundation.py")
        result = record(directory, data.load_dataset("the300w", "common", data_dir=args.data_dir))
        write_json(RESULTS / "foundation" / f"{name}-common.json", result)
        print(f"{name}: {result['nme']['inter_ocular']:.3f}")


def write_table() -> None:
    """Puts the results that are there between the markers of docs/results.md: finished models, then the choices."""
    groups = cells()
    final = [name for group in ("final", "poster", "game", "sources") for name in groups[group]]
    heads = ["model", "seeds", "epochs", "split", "NME", "failures > 8 %", "AUC 8 %", "mean b, input px"]
    finished, choices = [], []
    for split, suffix in (("common", "-common"), ("validation", "")):
        rows: dict[str, list[dict]] = {}
        for name in final:
            file = RESULTS / "foundation" / f"{name}{suffix}.json"
            if file.exists():
                rows.setdefault(name.rpartition("-s")[0], []).append(json.loads(file.read_text()))
        for name, results in rows.items():
            columns = [name, str(len(results)), f"{results[0]['conditions']['epochs']:g}", split]
            columns += [
                spread([read(result) for result in results], digits)
                for read, digits in (
                    (lambda result: result["nme"]["inter_ocular"], 2),
                    (lambda result: result["failure_rate"]["8"], 1),
                    (lambda result: result["auc"]["8"], 3),
                    (lambda result: result["scale_mean"], 2),
                )
            ]
            finished.append(columns)
    for name, said in SAID.items():
        file = RESULTS / "foundation" / f"{name}.json"
        if file.exists():
            result = json.loads(file.read_text())
            choices.append([said, f"{result['nme']['inter_ocular']:.2f}", f"{result['scale_mean']:.2f}"])
    chosen = table(["choice, 30 epochs, validation, one seed", "NME", "mean b"], choices)
    write_between("results", [*table(heads, finished), "", *chosen], page="docs/results.md")


def main() -> None:
    groups = cells()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {name: config for group in groups.values() for name, config in group.items()}
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"groups ({', '.join(groups)}) or cells")
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", default="runs", help="where the run directories go")
    parser.add_argument(
        "--common", action="store_true", help="read the common test set with finished runs instead"
    )
    parser.add_argument("--table", action="store_true", help="write the tables of docs/results.md and stop")
    args = parser.parse_args()
    if args.table:
        write_table()
        return
    if not args.cells:
        parser.error(f"name cells to run: {', '.join([*groups, *names])}")
    unknown = [name for name in args.cells if name not in groups and name not in names]
    if unknown:
        parser.error(f"no such cell: {', '.join(unknown)}; there are {', '.join([*groups, *names])}")
    chosen = {}
    for cell in args.cells:
        chosen |= groups.get(cell) or {cell: names[cell]}
    if args.common:
        read_common(chosen, args)
        return
    for name, config in chosen.items():
        print(f"== {name}", flush=True)
        run(name, config, args)


if __name__ == "__main__":
    with_huge_pages()
    main()
