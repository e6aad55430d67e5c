"""Which source of confidence is best: b of several losses, heatmap peak and entropy, spread under other boxes.

    python benchmarks/confidence.py RUN... --data-dir DIR [--split validation] [--out results/confidence]

    python benchmarks/confidence.py --table      # writes the tables of docs/confidence.md

Every source is calibrated alike, on the calibration split, and measured on another: the rank correlation with the
error, AUSE, finding failures and covered points. One JSON a run. `--split common` reads the common test set, which is
logged in results/test_reads.jsonl.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics

import jax
import jax.numpy as jnp
import numpy as np
from readme import spread, table, write_between
from reads import RESULTS, log_read

from lapjax import data, heatmaps, metrics
from lapjax.calibration import conformal
from lapjax.checkpoints.run import load_run
from lapjax.cpu import with_huge_pages
from lapjax.data import augment
from lapjax.evaluation import calibrate, robustness
from lapjax.evaluation.evaluate import heatmap_logits, predict
from lapjax.metrics import scoring, uncertainty

BATCH = 32


def peaks_and_entropies(run, samples) -> tuple[np.ndarray, np.ndarray]:
    """The largest probability of each heatmap and its entropy in nats, (N, K) each."""
    model, factor = run.config.model, samples.meta["chip_factor"]

    @jax.jit
    def look(chips):
        crops = augment.crop(chips, *augment.no_landmarks(chips), model=model, chip_factor=factor)
        maps = heatmap_logits(model, run.variables, crops.images)
        probability = heatmaps.softmax(maps, beta=model.beta)
        entropy = -(probability * jnp.log(probability + 1e-20)).sum((1, 2))
        return probability.max((1, 2)), entropy

    found = [
        look(jnp.asarray(np.asarray(samples.images[i : i + BATCH]))) for i in range(0, len(samples), BATCH)
    ]
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def sources(run, samples, guess) -> dict[str, tuple[np.ndarray, int]]:
    """Name -> an uncertainty (N, K, 2) in place of b, and the stride of the grid to free it of (0: none)."""
    peak, entropy = peaks_and_entropies(run, samples)
    spread = robustness.move_spread(run, samples)
    one = {
        # The side of a square that holds as much: both behave as lengths.
        "heatmap peak": peak**-0.5,
        "heatmap entropy": np.exp(entropy / 2),
        "spread under other boxes": spread,
    }
    stride = run.config.model.stride
    return {
        "b": (guess.scale, 0),
        "b, freed of the grid": (guess.scale, stride),
        **{name: (np.repeat(value[..., None], 2, axis=-1), 0) for name, value in one.items()},
    }


def measure(run, calibration_faces, samples, seen, facts) -> dict:
    """Source -> its numbers, raw and calibrated, on `faces`, of which `seen` is predicted and `facts` are known."""
    held = predict(run, calibration_faces)
    held_error = metrics.point_errors(held.points, scoring.truth(calibration_faces))
    visible = samples.visible
    distances = metrics.normalisers(scoring.truth(samples), samples.box, samples.scheme, visible=visible)
    unit = distances[metrics.primary_normaliser(samples.scheme)][:, None]
    covered, hidden = robustness.cover(samples)
    under = predict(run, covered)
    held_sources, seen_sources, covered_sources = (
        sources(run, part, guess)
        for part, guess in ((calibration_faces, held), (samples, seen), (covered, under))
    )
    found = {}
    for name, (value, stride) in seen_sources.items():
        fitted = conformal.fit(
            held.input_points,
            held_sources[name][0],
            held_error,
            input_to_image=held.input_to_image,
            scheme=samples.scheme,
            stride=stride,
            visible=calibration_faces.visible,
        )

        def calibrated(guess, value, fitted=fitted):
            said = fitted.apply(
                guess.input_points,
                value,
                input_to_image=guess.input_to_image,
                box_size=distances["box"],
            )
            return said.scale / unit

        doubt, doubt_covered = calibrated(seen, value), calibrated(under, covered_sources[name][0])
        raw = value.mean(axis=-1) * seen.input_to_image[:, None] / unit
        found[name] = {
            "raw": calibrate.rank(facts.error, raw, facts.nme, visible),
            "calibrated": calibrate.rank(facts.error, doubt, facts.nme, visible)
            | {"covered_auroc": uncertainty.auroc(doubt_covered, hidden, visible)},
        }
    return found


def write_table() -> None:
    """What the calibrated confidence is worth, then the sources of it beside each other."""
    results: dict[tuple[str, str], list[dict]] = {}
    for split in ("common", "validation"):
        for file in sorted((RESULTS / "confidence").glob(f"*-{split}.json")):
            result = json.loads(file.read_text())
            model, _, seed = result["run"].rpartition("-s")
            if seed.isdigit():
                results.setdefault((split, model), []).append(result)
    shipped = {
        "inside the 90 % radius": lambda r: 100 * r["shipped"]["radius"]["overall"],
        "mean radius": lambda r: r["shipped"]["radius"]["mean_percent"],
        "calibration error": lambda r: 100 * r["shipped"]["confidence"]["calibration_error"],
        "NME grows": lambda r: r["other_boxes"]["growth_percent"],
    }
    ranked = {
        "rank correlation, raw": (lambda r: r["raw"]["spearman"], 3),
        "calibrated": (lambda r: r["calibrated"]["spearman"], 3),
        "AUSE": (lambda r: r["calibrated"]["ause"], 3),
        "covered points": (lambda r: r["calibrated"]["covered_auroc"], 2),
    }
    heads = ["model", "mean b", "inside the 90 % radius", "weakest part", "mean radius", "calibration error"]
    heads += ["rank correlation", "AUSE", "failures > 8 %", "worst tenth", "NME grows under other boxes"]
    rows = {"common": [], "validation": []}
    for (split, model), seeds in results.items():
        parts = {
            part: statistics.mean(r["shipped"]["radius"]["parts"][part] for r in seeds)
            for part in seeds[0]["shipped"]["radius"]["parts"]
        }
        weakest = min(parts, key=parts.get)
        said = {name: spread([read(r) for r in seeds], 1) + " %" for name, read in shipped.items()}
        ranking = [r["shipped"]["ranking"]["calibrated"] for r in seeds]
        cells = [
            model,
            spread([r["scale_mean"] for r in seeds], 2) + " px",
            said["inside the 90 % radius"],
            f"{weakest} {100 * parts[weakest]:.1f} %",
            said["mean radius"],
            said["calibration error"],
            spread([r["spearman"] for r in ranking], 3),
            spread([r["ause"] for r in ranking], 3),
            *(_failures(seeds, which) for which in ("8", "90th percentile")),
            said["NME grows"],
        ]
        rows[split].append(cells)
    write_between("confidence", table(heads, rows["common"]), page="docs/confidence.md")
    write_between("validation", table(heads, rows["validation"]), page="docs/confidence.md")
    compared = []
    for (split, model), seeds in results.items():
        if split == "common":  # sources are compared where they are chosen
            continue
        for source in seeds[0]["sources"]:
            found = [r["sources"][source] for r in seeds]
            numbers = [spread([read(r) for r in found], digits) for read, digits in ranked.values()]
            worst = [r["calibrated"]["failure_auroc"]["90th percentile"]["value"] for r in found]
            compared.append([source, model, *numbers, spread(worst, 2)])
    heads = ["source", "model", *ranked, "worst tenth"]
    write_between("sources", table(heads, compared), page="docs/confidence.md")


def _failures(seeds, which) -> str:
    """The AUROC of the calibrated scale, with the outermost ends of the bootstrap intervals of its seeds."""
    found = [r["shipped"]["ranking"]["calibrated"]["failure_auroc"][which] for r in seeds]
    found = [one for one in found if one]
    if not found:
        return "none"
    low, high = min(one["interval"][0] for one in found), max(one["interval"][1] for one in found)
    return f"{spread([one['value'] for one in found], 2)} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=pathlib.Path, metavar="RUN")
    parser.add_argument("--data-dir")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "confidence")
    parser.add_argument("--shipped", action="store_true", help="what ships alone, not the other sources")
    parser.add_argument("--table", action="store_true", help="write the tables of the pages and stop")
    args = parser.parse_args()
    if args.table:
        write_table()
        return
    if not args.runs:
        parser.error("name run directories")
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.runs:
        run = load_run(path)
        if args.split == "common":
            log_read(path.name, by="benchmarks/confidence.py")
        held, samples = (
            data.load_dataset(run.config.dataset, split, data_dir=args.data_dir)
            for split in ("calibration", args.split)
        )
        run = dataclasses.replace(run, calibration=calibrate.calibrate(run, held))
        boxes = robustness.stressed_nme(run, samples, shift=0.1, scale=0.15)
        seen = predict(run, samples)
        facts = calibrate.points(run, samples, guess=seen)
        plain = facts.nme
        result = {
            "run": path.name,
            "split": args.split,
            "scale_mean": float(seen.scale.mean()),
            "sources": {} if args.shipped else measure(run, held, samples, seen, facts),
            "shipped": calibrate.assess(run, samples, facts=facts),
            "other_boxes": {
                "shift": 0.1,
                "scale": 0.15,
                "draws": len(boxes),
                "nme": float(boxes.mean()),
                "plain_nme": float(plain.mean()),
                "growth_percent": float(100 * (boxes.mean() / plain.mean() - 1)),
            },
        }
        scoring.write_json(args.out / f"{path.name}-{args.split}.json", result)
        print(f"{path.name}, {args.split}: NME grows by {result['other_boxes']['growth_percent']:.1f} %")
        for name, numbers in result["sources"].items():
            kinds = [f"{kind} {numbers[kind]['spearman']:.3f}" for kind in ("raw", "calibrated")]
            best = numbers["calibrated"]
            auroc = best["failure_auroc"]["90th percentile"]["value"]
            print(
                f"  {name:26} rank {', '.join(kinds)}  AUSE {best['ause']:.3f}  failures {auroc:.3f}  "
                f"covered {best['covered_auroc']:.3f}"
            )


if __name__ == "__main__":
    with_huge_pages()
    main()
