"""One HTML page about one run or several side by side, with every figure inside it: it opens offline."""

import base64
import functools
import html
import io
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from lapjax import metrics
from lapjax.checkpoints.run import Run, load_run
from lapjax.errors import LapjaxError
from lapjax.evaluation import calibrate, robustness
from lapjax.evaluation.evaluate import config_conditions, match, predict, view
from lapjax.files import replacing
from lapjax.metrics import scoring, uncertainty
from lapjax.samples import Samples
from lapjax.visualization import charts, galleries, plots, training_curves

__all__ = ["report", "write_report"]

# Limits of the boxes that a run is shown instead of the true ones: what, and how far.
_STRESS = {
    "shift": ("box shifted per axis, up to (% of its side)", (0, 0.05, 0.1, 0.15)),
    "scale": ("box scaled, up to (%)", (0, 0.05, 0.1, 0.15, 0.2)),
    "rotation": ("face turned, up to (degrees)", (0, 10, 20, 30)),
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
img { max-width: 100%; display: block; margin: .6rem 0; } p.said { color: #555; font-size: .9rem; max-width: 46rem; }
"""


def report(runs: Mapping[str, str | os.PathLike], samples: Samples, *, shown: int = 4) -> str:
    """The page as HTML.

    Args:
      runs: run directories, by the name that the page gives them; all of the scheme of `samples`.
      samples: labelled, of a split that no run has learned from.
      shown: how many faces are drawn.

    Raises:
      LapjaxError: no runs, or as `load_run` and `predict`.
    """
    if not runs:
        raise LapjaxError("report: name at least one run directory")
    loaded = {name: load_run(path) for name, path in runs.items()}
    matched, facts = {}, {}
    for name, run in loaded.items():
        guess = predict(run, samples)
        matched[name] = match(run, samples, conditions=config_conditions(run.config), guess=guess)
        if run.calibration is not None:
            facts[name] = calibrate.points(run, samples, guess=guess)
    scores = {name: scoring.score(one) for name, one in matched.items()}
    trusted = {name: calibrate.assess(loaded[name], samples, facts=known) for name, known in facts.items()}
    errors = {
        name: metrics.image_nme(one.prediction, one.truth, one.visible, one.box, one.scheme)
        for name, one in matched.items()
    }
    few = samples.take(_spread(np.mean(list(errors.values()), axis=0), shown))
    views = {name: view(run, few) for name, run in loaded.items()}
    parts = [
        _head(samples, next(iter(scores.values()))),
        _runs_table(loaded, scores),
        _section("Cumulative errors", _charts([lambda ax: plots.ced(ax, errors)])),
        _section(
            "Points",
            _picture(galleries.points_figure(views, samples.scheme)),
            "Filled: predicted. White: true. Yellow: the miss between them. From the best to the worst faces of the split.",
        ),
        _section(
            "Points with their scale",
            _picture(galleries.points_figure(views, samples.scheme, truth=False)),
            "The half-axes of each ellipse are the raw Laplace scales b_x and b_y.",
        ),
        _section(
            "Heatmaps",
            _picture(
                galleries.heatmaps_figure(
                    views,
                    face=len(few) // 2,
                    chosen=galleries.telling_landmarks(samples.scheme),
                    names=samples.scheme.names,
                )
            ),
            "Of one face. Blue: the mean of the map, which is the predicted point. White ring: the true point.",
        ),
        _trust_section(trusted, facts, samples),
        _stress_section(loaded, samples, errors),
        _section("Training", _picture(training_curves.training_curves(_logs(runs)))) if _logs(runs) else "",
    ]
    title = ", ".join(map(html.escape, runs))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>lapjax: {title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{''.join(parts)}</body>\n</html>\n"
    )


def write_report(path: str | os.PathLike, page: str) -> None:
    """Writes the page beside its place and renames it there.

    Raises:
      LapjaxError: it cannot be written.
    """
    with replacing(path, "cannot write {path}: {reason}; choose another --out") as part:
        part.write_text(page, encoding="utf-8")


def _spread(values, count) -> np.ndarray:
    """Indices of faces from the best to the worst, evenly spaced."""
    order = np.argsort(values)
    return order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]


def _head(samples, result) -> str:
    said = result["conditions"]
    terms = (
        f" Terms of the images: {html.escape(str(samples.meta['terms']))}."
        if samples.meta.get("terms")
        else ""
    )
    return (
        f'<p class="said">{html.escape(str(said["dataset"]))}, split {html.escape(str(said["split"]))}, {len(samples)} images; '
        f"boxes: {said['box']}; errors in percent of the {said['normaliser'].replace('_', '-')} distance; intervals are "
        f"95 % bootstrap intervals over the images, and hold no difference between trainings.{terms}</p>\n"
    )


def _runs_table(runs: Mapping[str, Run], scores) -> str:
    rows = []
    for name, run in runs.items():
        result, config = scores[name], run.config
        primary = result["conditions"]["normaliser"]
        low, high = result["intervals"]["nme"][primary]
        rows.append(
            [
                name,
                f"{config.model.network}, {config.model.input_size} px",
                config.loss.name + (" + D" if config.game.adversary else ""),
                f"{config.epochs:g} epochs, seed {config.seed}, {run.info['labelled']} faces",
                f"{result['nme'][primary]:.2f} ({low:.2f} to {high:.2f})",
                f"{result['failure_rate']['8']:.1f}",
                f"{result['auc']['8']:.3f}",
                f"{result['scale_mean']:.2f}",
            ]
        )
    heads = ["run", "network", "loss", "trained", "NME", "failures > 8 %", "AUC 8 %", "mean b, input px"]
    parts = next(iter(scores.values()))["parts"]
    table = _table(heads, rows)
    if parts:
        rows = [[name, *(f"{scores[name]['parts'][part]:.2f}" for part in parts)] for name in runs]
        table += _table(["NME of", *parts], rows)
    return _section("Errors", table)


def _trust_section(trusted, facts, samples) -> str:
    levels, covered, said, sparse, failed = calibrate.LEVELS, {}, {}, {}, {}
    for name, known in facts.items():
        covered[name] = trusted[name]["laplace"]["observed"]
        said[name] = uncertainty.reliability(known.confidence, known.close, samples.visible)
        sparse[name] = uncertainty.sparsification(100 * known.error, 100 * known.doubt, samples.visible)
        doubt = metrics.visible_mean(known.doubt, samples.visible)
        failed[name] = (doubt, known.nme > np.quantile(known.nme, 0.9))
    if not trusted:
        said = "None of these runs has a calibration: <code>lapjax calibrate DIR</code> fits one on held-out faces."
        return _section("Confidence", f"<p>{said}</p>")
    rows = []
    for name, worth in trusted.items():
        radius, ranking = worth["radius"], worth["ranking"]["calibrated"]
        low, high = radius["interval"]
        weakest = min(radius["parts"], key=radius["parts"].get) if radius["parts"] else None
        auroc = ranking["failure_auroc"]["90th percentile"]
        rows.append(
            [
                name,
                f"{100 * radius['overall']:.1f} % ({100 * low:.1f} to {100 * high:.1f})",
                f"{weakest} {100 * radius['parts'][weakest]:.1f} %" if weakest else "-",
                f"{radius['mean_percent']:.2f} %",
                f"{worth['confidence']['calibration_error']:.3f}",
                f"{ranking['spearman']:.3f}",
                f"{ranking['ause']:.3f}",
                "-" if auroc is None else f"{auroc['value']:.3f}",
            ]
        )
    level = f"{100 * next(iter(trusted.values()))['radius']['level']:g} %"
    heads = [
        "run",
        f"inside the {level} radius",
        "weakest part",
        "mean radius",
        "calibration error",
        "rank correlation",
        "AUSE",
        "failure AUROC",
    ]
    pictures = _charts(
        [
            lambda ax: charts.intervals(ax, levels, covered),
            lambda ax: charts.reliability(ax, said),
            lambda ax: charts.sparsification(ax, sparse),
            lambda ax: charts.failures(ax, failed),
        ]
    )
    note = (
        "Raw Laplace intervals against their level; the calibrated confidence against what came true; the error left once "
        "the least certain points are gone (dotted: the best possible order); finding the tenth of the images with the "
        "largest NME by the mean calibrated scale."
    )
    return _section("Confidence", _table(heads, rows) + pictures, note)


def _stress_section(runs, samples, errors) -> str:
    def nme(name, run, **limit):
        if not any(limit.values()):  # the true box
            return float(errors[name].mean())
        return float(robustness.stressed_nme(run, samples, draws=1, **limit).mean())

    def curve(kind, limits):
        return {name: [nme(name, run, **{kind: limit}) for limit in limits] for name, run in runs.items()}

    found = {kind: (what, limits, curve(kind, limits)) for kind, (what, limits) in _STRESS.items()}
    pictures = _charts(
        [
            functools.partial(
                charts.stress,
                limits=limits if kind == "rotation" else [100 * limit for limit in limits],
                nme=nme,
                what=what,
            )
            for kind, (what, limits, nme) in found.items()
        ]
    )
    return _section("Other boxes", pictures, "Boxes drawn at random up to each limit, one a face.")


def _logs(runs) -> dict:
    files = {name: pathlib.Path(path) / "metrics.jsonl" for name, path in runs.items()}
    return {name: file for name, file in files.items() if file.exists()}


def _section(title: str, body: str, note: str = "") -> str:
    said = f'<p class="said">{note}</p>\n' if note else ""
    return f"<h2>{html.escape(title)}</h2>\n{body}{said}"


def _table(heads, rows) -> str:
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>\n"

    return f"<table>\n{line(heads, 'th')}{''.join(line(row, 'td') for row in rows)}</table>\n"


@plots.styled
def _charts(draw) -> str:
    """Square charts in a row, two by two where there are four."""
    from matplotlib.figure import Figure

    across = 2 if len(draw) == 4 else len(draw)
    down = -(-len(draw) // across)
    cell = plots.COLUMN / max(2, across)
    figure = Figure(figsize=(across * cell, down * cell * 0.9), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax, one in zip(axes, draw, strict=True):
        one(ax)
    return _picture(figure)


def _picture(figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">\n'
