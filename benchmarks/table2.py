"""Table 2 of the poster, its sizes and times here: parameters, bytes and milliseconds at five widths.

    python benchmarks/table2.py --measure      # sizes and times
    python benchmarks/table2.py --table        # writes the table of docs/results.md

Its errors are those of `lapjax reproduce table2`, 30 epochs, one seed. Bytes are of the exported file, calibration left out, in
float32 and in float16. Milliseconds are medians of one face on one onnxruntime thread, decoder included, all widths in turn in
one process; random weights take as long as trained ones.
"""

import argparse
import functools
import json
import statistics

import jax
import numpy as np
import onnxruntime
from photographs import in_turn
from readme import table, write_between
from reads import RESULTS

from lapjax import networks
from lapjax.checkpoints import onnx_graph
from lapjax.cpu import with_huge_pages
from lapjax.experiments import summary
from lapjax.experiments.grids import LOSSES
from lapjax.experiments.records import read_results
from lapjax.metrics.scoring import write_json
from lapjax.networks import parameter_count
from lapjax.recipes import WIDTHS, get_recipe


def measure(repeats: int) -> None:
    """Sizes and times of all widths."""
    sessions, rows = {}, {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for width in WIDTHS:
        model = get_recipe(f"poster-{width.replace('/', '_')}-laplacekl").model
        image = np.zeros((1, model.input_size, model.input_size, 3), np.float32)
        variables = networks.make_generator(model, 68).init(jax.random.key(0), image)
        files = {
            precision: onnx_graph.build(model, variables, 68, precision=precision).SerializeToString()
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
    spent = in_turn(
        {
            width: functools.partial(session.run, None, {"images": crop})
            for width, session in sessions.items()
        },
        repeats,
    )
    for width, times in spent.items():
        rows[width] |= {"ms": statistics.median(times), "least_ms": min(times)}
        print(width, rows[width])
    write_json(RESULTS / "table2" / "sizes.json", {"threads": 1, "repeats": repeats, "widths": rows})


def write_table() -> None:
    sizes = json.loads((RESULTS / "table2" / "sizes.json").read_text())["widths"]
    known = read_results(RESULTS / "table2.json")
    split = summary.common_split(known)
    errors, rows = summary.numbers(known, split), []
    for width, said in sizes.items():
        cells = [width, f"{said['parameters']:,}", f"{said['float32_bytes']:,}", f"{said['float16_bytes']:,}"]
        cells.append(f"{said['ms']:.2f}")
        for loss in LOSSES.values():
            found = errors.get((width, loss))
            cells.append(f"{found[0]:.2f}" if found else "not measured")
        rows.append(cells)
    heads = ["width", "parameters", "bytes, float32", "bytes, float16", "ms"]
    heads += [f"{said}, NME on {split}" for said in LOSSES.values()]
    write_between("table2", table(heads, rows), page="docs/results.md")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="measure sizes and times")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--table", action="store_true", help="write the table of docs/results.md")
    args = parser.parse_args()
    if not args.measure and not args.table:
        parser.error("say what to do: --measure or --table")
    if args.measure:
        measure(args.repeats)
    if args.table:
        write_table()


if __name__ == "__main__":
    with_huge_pages()
    main()
