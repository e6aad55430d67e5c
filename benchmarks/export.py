"""What an export costs: file sizes, parity, NME from the original photographs, milliseconds a face, time to start.

    python benchmarks/export.py runs/a runs/b --data-dir data --photographs ~/300w --out /tmp/files

Exports each run to ONNX at every precision, measures it on the validation split of its set, whose photographs are
found by their names, and then times all files in turn within this process, so that other load meets them alike.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

import lapjax
from lapjax import metrics
from lapjax.checkpoints import load_run
from lapjax.images import read_image

START = """
import time; wall, cpu = time.perf_counter(), time.process_time()
import lapjax, numpy
lapjax.Localizer.load({!r})(numpy.zeros((300, 300, 3), numpy.uint8), box=(80, 80, 200, 210))
print(f"{{time.perf_counter() - wall:.2f}} s, of which {{time.process_time() - cpu:.2f}} s on the CPU")
"""


def main():
    """Prints one line a measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--data-dir", type=pathlib.Path)
    parser.add_argument("--photographs", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--repeats", type=int, default=300)
    options = parser.parse_args()

    localizers, calls = {}, []
    for run in options.runs:
        config = load_run(run).config
        faces = lapjax.load(config.dataset, config.validation_split, data_dir=options.data_dir)
        images = [read_image(_photograph(options.photographs / name)) for name in faces.name]
        calls = list(zip(images, faces.box, strict=True))
        for precision in ("float32", "float16", "int8"):
            path = options.out / f"{run.name}.{precision}.onnx"
            calibrated = (run / "calibration.json").exists()
            done = lapjax.export(
                run, path, precision=precision, calibrated=calibrated, data_dir=options.data_dir
            )
            localizer = localizers[path.name] = lapjax.Localizer.load(path)
            points = np.array([localizer(image, box=box).points for image, box in calls])
            error = metrics.image_nme(points, lapjax.truth(faces), faces.visible, faces.box, faces.scheme)
            print(
                f"{path.name}: {done.size:,} bytes, NME from photographs {error.mean():.4f}, {done.card.parity}"
            )

    spent = {name: ([], []) for name in localizers}
    for index in range(options.repeats):
        image, box = calls[index % len(calls)]
        for name, localizer in localizers.items():
            size = localizer.card.model.input_size
            crop = np.full((1, size, size, 3), index % 256, np.uint8)
            for spot, work in enumerate(
                [lambda: localizer._engine(crop, np.ones(1)), lambda: localizer(image, box=box)]  # noqa: B023
            ):
                work()
                start = time.perf_counter()
                work()
                spent[name][spot].append(1e3 * (time.perf_counter() - start))
    for name, (network, call) in spent.items():
        print(
            f"{name}: network {min(network):.3f} ms at best, {statistics.median(network):.3f} in the median; "
            f"whole call {min(call):.3f} and {statistics.median(call):.3f}"
        )
    for name in localizers:
        code = START.format(str(options.out / name))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        print(f"{name}: from import to the first result {done.stdout.strip()}")


def _photograph(stem: pathlib.Path) -> pathlib.Path:
    found = [path for path in (stem.with_name(stem.name + end) for end in (".jpg", ".png")) if path.exists()]
    if not found:
        raise SystemExit(f"no photograph {stem}.jpg or .png: give --photographs the folder that was prepared")
    return found[0]


if __name__ == "__main__":
    main()
