"""What `lapjax evaluate` prints: the tables of a result of `scoring.score`."""

from lapjax import metrics

__all__ = ["table"]


def table(result: dict):
    """A `rich` group of a result: NME by every normaliser, then failures, AUC and parts by the primary one."""
    from rich.console import Group
    from rich.text import Text

    parts = [_by_normaliser(result), _by_subset(result)]
    if "trust" in result:
        parts.append(_trust(result["trust"]))
    return Group(*parts, Text(_conditions(result)))


def _by_normaliser(result):
    """A line for each subset, and the interval of the whole."""
    lines = _table(
        "NME", "images", *(_said(field).replace("-", "-\n") for field in metrics.NORMALISERS), "mean b"
    )
    for name, part in (result["subsets"] | {"all": result}).items():
        nme = [_show(part["nme"][field]) for field in metrics.NORMALISERS]
        lines.add_row(name, str(part["images"]), *nme, _show(part["scale_mean"]))
    intervals = [result["intervals"]["nme"][field] for field in metrics.NORMALISERS]
    lines.add_row(f"all, {_level(result)}", "", *(_interval(ends) for ends in intervals), "", style="dim")
    return lines


def _by_subset(result):
    """A column for each subset: any number of thresholds, whatever parts the scheme has."""
    columns = result["subsets"] | {"all": result}
    by = f"by {_said(result['conditions']['normaliser'])}"
    lines = _table(by, *columns, f"all, {_level(result)}")
    for kind, name, digits in (("failure_rate", "failures over", 2), ("auc", "AUC up to", 3)):
        for key in result[kind]:
            cells = [_show(part[kind][key], digits) for part in columns.values()]
            lines.add_row(f"{name} {key} %", *cells, _interval(result["intervals"][kind][key], digits))
    lines.add_section()
    for name in result["parts"]:
        lines.add_row(f"NME of {name}", *(_show(part["parts"][name]) for part in columns.values()), "")
    return lines


def _trust(worth: dict):
    """What `calibrate.assess` found, a line each."""
    radius, said, rank = worth["radius"], worth["confidence"], worth["ranking"]
    level = f"{100 * radius['level']:g} %"
    lines = _table("confidence", "", "95 %")
    lines.add_row(
        f"points inside their {level} radius",
        f"{100 * radius['overall']:.1f} %",
        _interval([100 * end for end in radius["interval"]], 1),
    )
    for name, share in radius["parts"].items():
        lines.add_row(f"  of the {name}", f"{100 * share:.1f} %", "")
    lines.add_row("mean radius, of the normaliser", f"{radius['mean_percent']:.2f} %", "")
    lines.add_row(
        "points said to be close, and close", f"{100 * said['said']:.1f}, {100 * said['seen']:.1f} %", ""
    )
    lines.add_row("calibration error", f"{said['calibration_error']:.3f}", "")
    lines.add_row("rank correlation with the error", f"{rank['calibrated']['spearman']:.3f}", "")
    lines.add_row("AUSE", f"{rank['calibrated']['ause']:.3f}", "")
    for name, found in rank["calibrated"]["failure_auroc"].items():
        if found is not None:
            over = f"{name} %" if name.replace(".", "").isdigit() else f"its {name}"
            lines.add_row(
                f"AUROC of the {found['failures']} images over {over}",
                f"{found['value']:.3f}",
                _interval(found["interval"], 3),
            )
    return lines


def _table(*heads):
    from rich import box
    from rich.table import Table

    lines = Table(box=box.SIMPLE_HEAD)
    for index, head in enumerate(heads):
        lines.add_column(head, justify="right" if index else "left")
    return lines


def _said(normaliser: str) -> str:
    return normaliser.replace("_", "-")


def _level(result: dict) -> str:
    return f"{100 * result['intervals']['level']:g} %"


def _interval(ends, digits: int = 2) -> str:
    return "-" if ends is None else "–".join(_show(end, digits) for end in ends)


def _show(value, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _conditions(result: dict) -> str:
    said, intervals = result["conditions"], result["intervals"]
    if "predictions" in said:
        own = said["predictions"] == said["truth"]
        against = "its own ground_truth" if own else f"{said['truth']}, matched {said['matched']}"
        lines = [f"{said['predictions']} against {against}."]
    else:
        lines = [f"{said['dataset']} {said['split']}."]
    if "train_faces" in said:
        lines.append(f"Trained on {said['train_faces']} faces of {said['train']}, seed {said['seed']}.")
    lines.append(f"Scheme {said['scheme']}, box: {said['box']}. Percent, but for AUC.")
    if result["scale_mean"] is not None:
        lines.append(f"b is the Laplace scale in {said['scale_unit']}, the mean of b_x and b_y.")
    lines.append(
        f"Intervals: percentile bootstrap over the images, {intervals['samples']:,} draws, seed {intervals['seed']}."
    )
    return "\n".join(lines)
