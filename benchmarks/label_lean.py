"""Do labels sit to one side of what they mark? Mirrored patches around mirrored landmarks say so, without any network.

    python benchmarks/label_lean.py --data-dir DIR [--dataset the300w] [--json FILE]

Around each landmark the mean patch of all training faces is laid over the mirrored mean patch around its mirror
landmark. Were labels unbiased, both would show the same thing in the same place; labels that sit d px to the right put
it 2 d px apart. The median over the corners of the eyes, in sides of the landmark box, is what
`augment.mirror_lean` wants.
"""

import argparse
import json
import pathlib

import numpy as np

from lapjax import data

REACH = 12  # px of the chip around a landmark
STEPS = np.arange(-4, 4.01, 0.05)  # px by which the two patches are shifted


def patch(image, point, side):
    """The (25, 25) neighbourhood of a point, bilinear; `side` -1 mirrors it."""
    across = np.arange(-REACH, REACH + 1)
    limit = len(image) - 1.001
    x, y = np.meshgrid(np.clip(point[0] + side * across, 0, limit), np.clip(point[1] + across, 0, limit))
    left, top = x.astype(int), y.astype(int)
    fx, fy = x - left, y - top
    upper = image[top, left] * (1 - fx) + image[top, left + 1] * fx
    lower = image[top + 1, left] * (1 - fx) + image[top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy


def lean(images, points, landmark, mirror) -> float:
    """How far right of its mark a landmark sits, chip px."""
    pairs = list(zip(images, points, strict=True))
    here = np.mean([patch(image, where[landmark], 1) for image, where in pairs], axis=0)
    there = np.mean([patch(image, where[mirror], -1) for image, where in pairs], axis=0)
    across = np.arange(-REACH, REACH + 1)

    def apart(step):
        inside = np.abs(across + step) <= REACH
        moved = np.stack([np.interp(across[inside] + step, across, row) for row in there])
        difference = here[:, inside] - moved
        return difference.var()

    return float(STEPS[np.argmin([apart(step) for step in STEPS])] / 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="the300w")
    parser.add_argument("--data-dir")
    parser.add_argument("--json")
    args = parser.parse_args()
    samples = data.load_dataset(args.dataset, "train", data_dir=args.data_dir)
    scheme = samples.scheme
    images = np.asarray(samples.images).astype(np.float32).mean(axis=-1)
    chosen = [i for i, name in enumerate(scheme.names) if name.endswith(("outer", "inner"))]
    box = images.shape[1] / samples.meta["chip_factor"]
    found = {scheme.names[i]: lean(images, samples.landmarks, i, scheme.flip[i]) / box for i in chosen}
    for name, value in found.items():
        print(f"{name:24} {value:+.4f} boxes")
    middle = float(np.median(list(found.values())))
    print(f"median {middle:+.4f} boxes over {len(samples)} faces")
    if args.json:
        result = {"dataset": args.dataset, "images": len(samples), "median": middle, "landmarks": found}
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
