"""Table 2 of the poster, measured here: parameters, bytes and milliseconds at five widths, and the NME of SAM and LaplaceKL.

    python benchmarks/table2.py --measure                                 # sizes and times
    python benchmarks/table2.py sam-1_16 --data-dir DIR --runs DIR        # trains cells, 30 epochs each
    python benchmarks/table2.py --common --data-dir DIR --runs DIR        # reads the common test set with what is trained
    python benchmarks/table2.py --table                                   # writes the README's table

Bytes are of the exported file, calibration left out, in float32 and in float16. Milliseconds are medians of one face on one
onnxruntime thread, decoder included, all widths in turn in one process; random weights take as long as trained ones.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import numpy as np
import onnxruntime
from foundation import record, run
from readme import table, write_between
from reads import RESULTS, log_read

from lapjax import data, game, graph
from lapjax.config import override
from lapjax.cpu import with_huge_pages
from lapjax.networks import parameter_count
from lapjax.recipes import WIDTHS, get_recipe
from lapjax.scoring import write_json

LOSSES = {"sam": "SAM", "laplacekl": "LaplaceKL"}
TRAINED = ("1/16", "1/8", "1/4", "1/2")


def cells() -> dict:
    """Name -> configuration."""
    return {
        f"{loss}-{width.replace('/', '_')}": override(
            get_recipe(f"poster-{width.replace('/', '_')}-{loss}"), epochs=30.0
        )
        for width in TRAINED
        for loss in LOSSES
    }


def measure(repeats: int) -> None:
    """Sizes and times of all widths."""
    sessions, rows = {}, {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for width in WIDTHS:
        model = get_recipe(f"poster-{width.replace('/', '_')}-laplacekl").model
        image = np.zeros((1, model.input_size, model.input_size, 3), np.float32)
        variables = game.make_generator(model, 68).init(jax.random.key(0), image)
        files = {
            precision: graph.build(model, variables, 68, precision=precision).SerializeToString()
            for precision in ("float32", "float16")
        }
        rows[width] = {
            "parameters": parameter_count(variables["params"]),
            **{f"{precision}_bytes": len(content) for precision, content in files.items()},
        }
        sessions[width] = onnxruntime.InferenceSession(
            files["float32"], options, providers=["CPUExecutionProvider"]
        )
    crop = np.random.default_rng(0).integers(0, 256, (1, 80, 80, 3), np.uint8)
    spent = {width: [] for width in sessions}
    for _ in range(repeats):
        for width, session in sessions.items():
            session.run(None, {"images": crop})
            start = time.perf_counter()
            session.run(None, {"images": crop})
            spent[width].append(1e3 * (time.perf_counter() - start))
    for width, times in spent.items():
        rows[width] |= {"ms": statistics.median(times), "least_ms": min(times)}
        print(width, rows[width])
    write_json(RESULTS / "table2" / "sizes.json", {"threads": 1, "repeats": repeats, "widths": rows})


def read_common(args) -> None:
    """Evaluates the finished cells on the common test set and logs the reading."""
    for name in cells():
        if (RESULTS / "table2" / f"{name}.json").exists():
            log_read(name, by="benchmarks/table2.py")
            faces = data.load("the300w", "common", data_dir=args.data_dir)
            result = record(pathlib.Path(args.runs) / name, faces)
            write_json(RESULTS / "table2" / f"{name}-common.json", result)
            print(f"{name}: {result['nme']['inter_ocular']:.3f}")


def write_table() -> None:
    sizes = json.loads((RESULTS / "table2" / "sizes.json").read_text())["widths"]
    rows = []
    for width, said in sizes.items():
        cells = [width, f"{said['parameters']:,}", f"{said['float32_bytes']:,}", f"{said['float16_bytes']:,}"]
        cells.append(f"{said['ms']:.2f}")
        for loss in LOSSES:
            file = RESULTS / "table2" / f"{loss}-{width.replace('/', '_')}-common.json"
            nme = json.loads(file.read_text())["nme"]["inter_ocular"] if file.exists() else None
            cells.append("not measured" if nme is None else f"{nme:.2f}")
        rows.append(cells)
    heads = ["width", "parameters", "bytes, float32", "bytes, float16", "ms"]
    write_between("table2", table([*heads, *(f"{said}, NME" for said in LOSSES.values())], rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = cells()
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(known))
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", default="runs", help="where the run directories are")
    parser.add_argument("--measure", action="store_true", help="measure sizes and times")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--common", action="store_true", help="read the common test set with finished runs")
    parser.add_argument("--table", action="store_true", help="write the README's table")
    args = parser.parse_args()
    unknown = [name for name in args.cells if name not in known]
    if unknown:
        parser.error(f"no such cell: {', '.join(unknown)}; there are {', '.join(known)}")
    for name in args.cells:
        print(f"== {name}", flush=True)
        run(name, known[name], args, folder="table2")
    if args.measure:
        measure(args.repeats)
    if args.common:
        read_common(args)
    if args.table:
        write_table()


if __name__ == "__main__":
    with_huge_pages()
    main()
