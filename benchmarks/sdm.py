"""Supervised descent (Xiong and De la Torre, CVPR 2013) by menpofit, trained on the same faces; in an environment of its own.

    python -m venv sdm && sdm/bin/pip install menpofit "scipy<1.14" "numpy<2"      # it needs older ones than we do

    python benchmarks/sdm.py chips.npz --data-dir DIR       # with lapjax: the chips of the splits, as one file
    sdm/bin/python benchmarks/sdm.py chips.npz found.json   # with menpofit: trains, fits, times

The chips are grey, boxes are tight boxes of the true landmarks, as for everyone here. benchmarks/frontier.py takes the
result up with --sdm found.json.
"""

import argparse
import json
import pathlib
import time

import numpy as np


def write_chips(path, data_dir) -> None:
    """train, validation and common as grey chips (N, S, S) uint8 with points (N, 68, 2) in chip px, (x, y)."""
    import lapjax

    arrays = {}
    for split in ("train", "validation", "common"):
        samples = lapjax.load_dataset("the300w", split, data_dir=data_dir)
        arrays[f"{split}_images"] = np.round(np.asarray(samples.images) @ [0.299, 0.587, 0.114]).astype(
            np.uint8
        )
        arrays[f"{split}_points"] = samples.landmarks
    np.savez_compressed(path, **arrays)


def images_of(known, split):
    """menpo images with their landmarks, whose axes are (y, x)."""
    from menpo.image import Image
    from menpo.shape import PointCloud

    for pixels, points in zip(known[f"{split}_images"], known[f"{split}_points"], strict=True):
        image = Image(pixels[None].astype(np.float64) / 255)
        image.landmarks["PTS"] = PointCloud(points[:, ::-1].astype(np.float64))
        yield image


def histograms(pixels):
    """The descriptor of SIFT (4x4 cells of 8 orientations) of a patch (1, 16, 16); menpo has none without cyvlfeat."""
    down, across = np.gradient(pixels[0])
    strength, turn = np.hypot(down, across), np.arctan2(down, across) / (2 * np.pi) * 8 % 8
    low = np.floor(turn).astype(int) % 8
    share = turn - np.floor(turn)
    bins = np.zeros((8, *strength.shape))
    rows, columns = np.indices(strength.shape)
    bins[low, rows, columns] += strength * (1 - share)
    bins[(low + 1) % 8, rows, columns] += strength * share
    cells = bins.reshape(8, 4, 4, 4, 4).sum(axis=(2, 4)).ravel()
    cells = np.minimum(cells / (np.linalg.norm(cells) + 1e-6), 0.2)
    return (cells / (np.linalg.norm(cells) + 1e-6)).reshape(-1, 1, 1)


def measure(path, out) -> None:
    """Trains on train, reports the inter-ocular NME of the other two, and milliseconds a face."""
    from menpo.feature import ndfeature
    from menpofit.sdm import RegularizedSDM

    known = np.load(path)
    start = time.perf_counter()
    fitter = RegularizedSDM(
        list(images_of(known, "train")),
        group="PTS",
        diagonal=100,
        scales=(0.5, 1.0),
        patch_features=ndfeature(histograms),
        patch_shape=(16, 16),
        alpha=10.0,
        n_iterations=[3, 3],
        n_perturbations=5,
        verbose=True,
    )
    result = {"training_seconds": time.perf_counter() - start}
    for split in ("validation", "common"):
        errors, times = [], []
        for image in images_of(known, split):
            truth = image.landmarks["PTS"]
            start = time.perf_counter()
            found = fitter.fit_from_bb(image, truth.bounding_box())
            times.append(1e3 * (time.perf_counter() - start))
            apart = np.linalg.norm(found.final_shape.points - truth.points, axis=1).mean()
            errors.append(100 * apart / np.linalg.norm(truth.points[36] - truth.points[45]))
        result[split] = {
            "nme": float(np.mean(errors)),
            "failures_over_8": float(100 * np.mean(np.array(errors) > 8)),
            "images": len(errors),
            "ms": float(np.median(times)),
        }
    pathlib.Path(out).write_text(json.dumps(result, indent=1) + "\n")
    print(result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chips")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    if args.out:
        measure(args.chips, args.out)
    else:
        write_chips(args.chips, args.data_dir)


if __name__ == "__main__":
    main()
