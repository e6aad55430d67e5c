"""What an export costs: file sizes, parity, NME from the original photographs, milliseconds a face, time to start.

    python benchmarks/export.py runs/a runs/b --data-dir data --photographs ~/300w --out files

    python benchmarks/export.py --table      # writes the table of docs/deployment.md from results/export.json

Exports each run to ONNX at every precision, measures it on the validation split of its set, whose photographs are
found by their names, and then times all files in turn within this process, so that other load meets them alike.
"""

import argparse
import functools
import itertools
import json
import pathlib
import statistics
import subprocess
import sys

import numpy as np
from photographs import Photographs, in_turn
from readme import table, write_between
from reads import RESULTS

import lapjax
from lapjax.checkpoints.run import load_run
from lapjax.metrics import scoring

START = """
import time; wall, cpu = time.perf_counter(), time.process_time()
import lapjax, numpy
lapjax.Localizer.load({!r})(numpy.zeros((300, 300, 3), numpy.uint8), box=(80, 80, 200, 210))
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
STARTS = 3


def write_table() -> None:
    """One row a file."""
    files = json.loads((RESULTS / "export.json").read_text())["files"]
    heads = ["file", "bytes", "points off, input px: mean, max", "NME, prepared", "NME, photographs"]
    heads += ["ms a face", "whole call"]
    rows = []
    for name, found in files.items():
        off = found["parity"]["points_px"]
        cells = [
            name,
            f"{found['bytes']:,}",
            f"{off['mean']:.2g}, {off['max']:.2g}",
            f"{found['parity']['nme']['file']:.3f}",
            f"{found['photographs_nme']:.3f}",
            f"{found['network_ms']['median']:.2f}",
            f"{found['call_ms']['median']:.2f}",
        ]
        rows.append(cells)
    write_between("export", table(heads, rows), page="docs/deployment.md")


def locate(localizer, image, box):
    """A whole call."""
    return localizer(image, box=box)


def main() -> None:
    """Measures, prints and keeps one record a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=pathlib.Path)
    parser.add_argument("--data-dir", type=pathlib.Path)
    parser.add_argument("--photographs", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--table", action="store_true", help="write the table of docs/deployment.md and stop")
    parser.add_argument("--repeats", type=int, default=300)
    options = parser.parse_args()
    if options.table:
        write_table()
        return
    if not (options.runs and options.photographs and options.out):
        parser.error("name run directories, --photographs and --out")

    localizers, calls, files = {}, {}, {}
    for run in options.runs:
        config = load_run(run).config
        where = {"data_dir": options.data_dir, "folder": options.photographs}
        photographs = Photographs(config.dataset, config.validation_split, **where)
        for precision in ("float32", "float16", "int8"):
            path = options.out / f"{run.name}.{precision}.onnx"
            calibrated = (run / "calibration.json").exists()
            done = lapjax.export(
                run, path, precision=precision, calibrated=calibrated, data_dir=options.data_dir
            )
            localizer = localizers[path.name] = lapjax.Localizer.load(path)
            calls[path.name] = itertools.cycle(photographs)
            points = np.array([localizer(image, box=box).points for image, box in photographs])
            error = photographs.error(points)
            files[path.name] = {
                "bytes": done.size,
                "photographs_nme": float(error.mean()),
                "parity": done.card.parity,
                "calibrated": calibrated,
            }
            print(path.name, files[path.name])

    works = {}
    for name, localizer in localizers.items():
        size = localizer.card.model.input_size
        crop = np.full((1, size, size, 3), 100, np.uint8)
        works[name, "network"] = functools.partial(localizer._engine, crop, np.ones(1))
        works[name, "call"] = lambda at=localizer, samples=calls[name]: locate(at, *next(samples))
    spent = in_turn(works, options.repeats)
    for name in localizers:
        files[name] |= {
            f"{kind}_ms": {"least": min(spent[name, kind]), "median": statistics.median(spent[name, kind])}
            for kind in ("network", "call")
        }
        code = START.format(str(options.out / name))
        starts = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            for _ in range(STARTS)
        ]
        wall, cpu = zip(*(map(float, start.split()) for start in starts), strict=True)
        files[name]["first_result_s"] = {"wall": wall, "cpu": cpu}
        print(name, {key: value for key, value in files[name].items() if "ms" in key or "_s" in key})
    scoring.write_json(RESULTS / "export.json", {"threads": 1, "repeats": options.repeats, "files": files})


if __name__ == "__main__":
    main()
