"""From nothing to a picture in a few minutes: LaplaceKL beside SAM on faces that lapjax draws itself.

    python -m lapjax.cli.quickstart [--out quickstart]

Draws the toy faces (once), trains a small network with each loss under the same budget, evaluates both on the test
split, prints one table and leaves quickstart/quickstart.png and quickstart/quickstart.json.
"""

import argparse
import pathlib
import shutil
import sys

import numpy as np

from lapjax.cpu import with_huge_pages
from lapjax.errors import LapjaxError

LOSSES = {"LaplaceKL": "toy-laplacekl", "SAM": "toy-sam"}
LANDMARK = 48  # the mouth corner at the image's left in the 68-point scheme


def main(argv: list[str] | None = None) -> int:
    """Runs the quickstart; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="quickstart", help="where data, runs and the picture go")
    parser.add_argument("--epochs", type=float, help="passes over the 1,200 faces (default: the recipe's)")
    arguments = parser.parse_args(argv)
    try:
        quickstart(pathlib.Path(arguments.out), epochs=arguments.epochs)
    except LapjaxError as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 2
    return 0


def quickstart(out: pathlib.Path, *, epochs: float | None = None) -> dict:
    """Prepares, trains, evaluates and draws into `out`; returns {loss: result of evaluate}.

    Raises:
      LapjaxError: `out` cannot be written, or a training was stopped.
    """
    from rich.console import Console

    from lapjax import data
    from lapjax.checkpoints.run import load_run
    from lapjax.config import override
    from lapjax.evaluation.evaluate import config_conditions, evaluate
    from lapjax.metrics.scoring import write_json
    from lapjax.recipes import get_recipe

    console = Console()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LapjaxError(f"cannot write {out}: {error.strerror}; choose another --out") from error
    pack = _draw_faces(out / "toy_faces.npz", console)
    runs, results = {}, {}
    test = data.load_dataset(pack, "test")
    for name, recipe in LOSSES.items():
        changes = {"dataset": str(pack)} | ({} if epochs is None else {"epochs": epochs})
        config = override(get_recipe(recipe), **changes)
        directory = out / recipe
        shutil.rmtree(directory, ignore_errors=True)
        _train(config, directory, name, console)
        runs[name] = load_run(directory)
        conditions = config_conditions(config) | {"train_faces": runs[name].info["labelled"]}
        results[name] = evaluate(runs[name], test, conditions=conditions)
    write_json(out / "quickstart.json", results)
    console.print(_table(results))
    picture = _draw(out / "quickstart.png", runs, test)
    console.print(f"The picture: [bold]{picture}[/bold]")
    return results


def _draw_faces(pack: pathlib.Path, console) -> pathlib.Path:
    """The toy faces as a pack, drawn unless a whole one is there."""
    from lapjax import data
    from lapjax.cli.progress import counting
    from lapjax.datasets import toy_faces

    splits = ("train", "validation", "test")
    if pack.exists():
        try:
            if set(data.pack_splits(pack)) == set(splits):
                return pack
        except LapjaxError:
            pack.unlink()
    total, drawn, samples = sum(toy_faces.SPLITS[split] for split in splits), 0, {}
    with counting("drawing faces", console=console) as progress:
        for split in splits:
            samples[split] = toy_faces.generate(
                split, progress=lambda done, _, before=drawn: progress(before + done, total)
            )
            drawn += len(samples[split])
    data.write_pack(pack, samples)
    return pack


def _train(config, directory, name, console) -> None:
    from lapjax.cli.progress import training
    from lapjax.training.train import train

    with training(name, console=console) as report:
        outcome = train(config, directory, report=report)
    if not outcome.finished:
        raise LapjaxError(f"stopped at step {outcome.step}: start it again, it takes a few minutes")


def _table(results: dict):
    from rich.table import Table

    table = Table(
        title="toy faces, test split",
        caption="NME: percent of the inter-ocular distance; spread: mean b in input px and percent. One seed each.",
    )
    for head in ("loss", "NME", "failures > 8 %", "spread b, px", "spread b, %"):
        table.add_column(head, justify="left" if head == "loss" else "right")
    for name, result in results.items():
        table.add_row(
            name,
            f"{result['nme']['inter_ocular']:.2f}",
            f"{result['failure_rate']['8']:.1f} %",
            f"{result['scale_mean']:.2f}",
            f"{result['scale_mean_percent']:.1f}",
        )
    return table


def _draw(path: pathlib.Path, runs: dict, samples) -> pathlib.Path:
    """Four test faces under both losses: points, and the heatmap of one landmark."""
    from lapjax.evaluation.evaluate import view
    from lapjax.visualization import plots

    few = samples.take(np.arange(0, len(samples), max(1, len(samples) // 4))[:4])
    views = {name: view(run, few) for name, run in runs.items()}
    seen = next(iter(views.values()))
    figure = plots.spread_figure(
        seen.images,
        seen.truth,
        {
            name: plots.Guess(part.points, part.probability[..., LANDMARK], part.scale)
            for name, part in views.items()
        },
        landmark=LANDMARK,
        landmark_name="a mouth corner",
        errors={name: part.nme for name, part in views.items()},
        segments=few.scheme.segments,
    )
    return plots.save(figure, path)


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
