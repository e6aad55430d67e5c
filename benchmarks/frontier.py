"""Error, bytes, parameters, multiplications and milliseconds of everything that runs here: ours at every size and
precision, the poster's network, and peers, in one run.

    python benchmarks/frontier.py runs/face-68-taught-s0 runs/poster-1_4-laplacekl-s0 --data-dir DIR --photographs ~/300w

    python benchmarks/frontier.py --table          # writes the tables of docs/results.md and README.md and docs/frontier.png

Each run is exported at every precision and measured through its files, on the original photographs of 300W's common set,
with boxes from the true landmarks. Milliseconds are medians of one face on one thread, all in turn within one process:
the network with its decoder, without cutting the crop. Peers are those of benchmarks/peers.py that are installed.
"""

import argparse
import json
import pathlib
import statistics
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import onnx
from peers import PEERS, tuned
from photographs import Photographs, in_turn
from readme import table, write_between
from reads import RESULTS, log_read

import lapjax
from lapjax.checkpoints.run import load_run
from lapjax.metrics.scoring import write_json
from lapjax.networks import parameter_count
from lapjax.visualization import plots

PRECISIONS = ("float32", "float16", "int8")
SDM = "Supervised descent"
# The columns of the README's table.
BESIDE = ["network", "bytes", "ms", "NME, common", "failures > 8 %", ""]
# As their authors report them, inter-ocular NME on 300W; none of them was run here.
PUBLISHED = {
    "PIPNet, MobileNetV3 (2021)": {"parameters": 173_000, "common": 4.12},
    "H3R, MobileNetV2 (2020)": {"parameters": 590_000, "full": 4.17},
    "PFLD 1X (2019), other data besides": {"parameters": 730_000, "full": 3.97},
    "LaplaceKL+D, 70K (2019), the poster": {"parameters": 1_872_428, "common": 3.19},
}


def multiplications(file) -> int:
    """Of all convolutions of an ONNX file for one face."""
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
    shapes |= {weight.name: list(weight.dims) for weight in graph.initializer}
    return sum(
        int(np.prod(shapes[node.output[0]][1:])) * int(np.prod(shapes[node.input[1]][1:]))
        for node in graph.node
        if node.op_type == "Conv"
    )


def ours(args, folder) -> dict[str, tuple[dict, lapjax.Localizer]]:
    """The files of every run, by name."""
    made = {}
    for run in args.runs:
        for precision in PRECISIONS:
            path = folder / f"{run.name}.{precision}.onnx"
            done = lapjax.export(run, path, precision=precision, data_dir=args.data_dir, check=False)
            said = {
                "model": run.name,
                "precision": precision,
                "bytes": done.size,
                "parameters": parameter_count(load_run(run).variables["params"]),
                "multiplications": multiplications(path) if precision == "float32" else None,
                "input_size": done.card.model.input_size,
            }
            made[path.stem] = said, lapjax.Localizer.load(path)
    for row, _ in made.values():
        row["multiplications"] = made[f"{row['model']}.float32"][0]["multiplications"]
    return made


def measure(args) -> dict:
    where = {"data_dir": args.data_dir, "folder": args.photographs}
    common, validation = (Photographs("the300w", split, **where) for split in ("common", "validation"))
    training = Photographs("the300w", "train", **where, limit=800)
    rows, timed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        made = ours(args, pathlib.Path(folder))
    for name, (row, localizer) in made.items():
        log_read(name, by="benchmarks/frontier.py", through="file")
        error = common.error(np.array([localizer(image, box=box).points for image, box in common]))
        rows[name] = row | _errors(error)
        size = row["input_size"]
        crop = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        timed[name] = lambda localizer=localizer, crop=crop: localizer._engine(crop, np.ones(1))
        print(name, rows[name], flush=True)
    for kind in PEERS:
        try:
            peer = kind()
        except ImportError as error:
            print(f"{kind.name}: not installed ({error})")
            continue
        change, held = tuned(
            peer,
            validation.images,
            validation.samples,
            (training.images, training.samples),
            lambda points: float(validation.error(points).mean()),
        )
        log_read(kind.name, by="benchmarks/frontier.py")
        error = common.error(
            np.stack([peer.finish(peer.points(image, box, change)) for image, box in common])
        )
        rows[kind.name] = {
            "bytes": peer.file.stat().st_size,
            "parameters": peer.parameters,
            "note": kind.note,
            "box": f"side {change[0]:g} of the longer one, moved by {change[1]:g} of it downwards",
            "validation_nme": held,
        } | _errors(error)
        prepared = peer.prepare(*next(iter(common)), change)
        timed[kind.name] = lambda peer=peer, prepared=prepared: peer.run(prepared)
        print(kind.name, rows[kind.name], flush=True)
    spent = in_turn(timed, args.repeats)
    for name, times in spent.items():
        rows[name] |= {"ms": statistics.median(times), "least_ms": min(times)}
    return rows


def _errors(error) -> dict:
    return {
        "nme": float(error.mean()),
        "failures_over_8": float(100 * (error > 8).mean()),
        "images": len(error),
    }


def write_table(record: dict) -> None:
    heads = ["network", "bytes", "parameters", "MACs", "ms", "NME, common", "failures > 8 %", ""]
    rows, beside = [], []
    for name, said in record["rows"].items():
        count, work = said.get("parameters"), said.get("multiplications")
        rows.append(
            [
                name,
                f"{said['bytes']:,}" if said["bytes"] else "",
                f"{count:,}" if count else "",
                f"{work / 1e6:.1f} M" if work else "",
                f"{said['ms']:.2f}" if said["ms"] else "",
                f"{said['nme']:.2f}",
                f"{said['failures_over_8']:.1f} %",
                said.get("note", ""),
            ]
        )
        # The README has one file of each network that ships, and the peers that ran here.
        if "model" not in said or (name.startswith("face-68") and name.endswith("float16")):
            beside.append([cell for head, cell in zip(heads, rows[-1], strict=True) if head in BESIDE])
    for name, said in PUBLISHED.items():
        where = "common" if "common" in said else "full"
        nme = f"{said[where]:.2f}" + ("" if where == "common" else " (full)")
        rows.append([name, "", f"{said['parameters']:,}", "", "", nme, "", "as published, not run here"])
    write_between("frontier", table(heads, rows), page="docs/results.md")
    write_between("peers", table(BESIDE, beside))


def draw(record: dict) -> None:
    """docs/frontier.png: the error against the file's size and against the time."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    models = dict.fromkeys(said["model"] for said in record["rows"].values() if "model" in said)
    sides = (
        (axes[0], "bytes", "file (kB)", (100, 1_000, 10_000, 100_000)),
        (axes[1], "ms", "one face on one thread (ms)", (0.3, 0.5, 1, 2, 4)),
    )
    for ax, key, label, ticks in sides:
        unit = 1e3 if key == "bytes" else 1.0
        for index, model in enumerate(models):
            found = [said for said in record["rows"].values() if said.get("model") == model]
            places = [said[key] / unit for said in found], [said["nme"] for said in found]
            colour = plots.CYCLE[index % len(plots.CYCLE)]
            ax.plot(*places, color=colour, linewidth=0.8, alpha=0.6)
            for mark, said in zip("osv", found, strict=True):
                ax.plot(said[key] / unit, said["nme"], mark, color=colour, markersize=5)
            ax.plot([], [], "o", color=colour, label=model)
        for name, said in record["rows"].items():
            if "model" not in said and said[key]:
                ax.plot(said[key] / unit, said["nme"], "x", color="#555555")
                place = (said[key] / unit, said["nme"])
                apart = {"xytext": (-5, -3), "textcoords": "offset points"}
                ax.annotate(name.partition(",")[0], place, fontsize=7, ha="right", **apart)
        ax.set(xscale="log", xlabel=label, xticks=ticks, xlim=(0.6 * ticks[0], 1.6 * ticks[-1]))
        ax.set_xticklabels([f"{tick:,g}" for tick in ticks])
        ax.minorticks_off()
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("NME on 300W common (%)")
    for mark, precision in zip("osv", PRECISIONS, strict=True):
        axes[1].plot([], [], mark, color="#888888", label=precision)
    axes[1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS.parent / "docs" / "frontier.png", dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=pathlib.Path)
    parser.add_argument("--data-dir", type=pathlib.Path)
    parser.add_argument("--photographs", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--sdm", type=pathlib.Path, help="what benchmarks/sdm.py found")
    parser.add_argument(
        "--table", action="store_true", help="write table and chart from the record, and stop"
    )
    args = parser.parse_args()
    place = RESULTS / "frontier.json"
    if not args.table:
        if not args.runs or args.photographs is None:
            parser.error("name run directories and --photographs")
        # What was trained elsewhere stays; the rest is measured anew.
        known = json.loads(place.read_text())["rows"] if place.exists() else {}
        kept = {name: said for name, said in known.items() if name == SDM}
        write_json(place, {"threads": 1, "repeats": args.repeats, "rows": measure(args) | kept})
    record = json.loads(place.read_text())
    if args.sdm:
        log_read("supervised descent", by="benchmarks/sdm.py")
        found = json.loads(args.sdm.read_text())
        note = "menpofit 0.7.1, trained on the same 1,640 faces"
        record["rows"][SDM] = found["common"] | {"note": note} | dict.fromkeys(("bytes", "ms"))
        write_json(place, record)
    write_table(record)
    draw(record)


if __name__ == "__main__":
    main()
