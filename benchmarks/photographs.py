"""What the benchmarks that measure files share: the original photographs of prepared faces, and timing several works in turn."""

import pathlib
import time
from collections.abc import Callable, Mapping

import numpy as np

import lapjax
from lapjax import metrics
from lapjax.images import read_image


def find(stem: pathlib.Path) -> pathlib.Path:
    """The image of that path without its ending; ends the program where there is none."""
    found = [path for path in (stem.with_name(stem.name + end) for end in (".jpg", ".png")) if path.exists()]
    if not found:
        raise SystemExit(f"no photograph {stem}.jpg or .png: give --photographs the folder that was prepared")
    return found[0]


class Photographs:
    """The faces of a split on the images they were cut from, and the error of points on them."""

    def __init__(self, dataset: str, split: str, *, data_dir, folder, limit: int | None = None):
        """`folder` is what the set was prepared from; None takes the chips for the images, as of drawn faces."""
        self.samples = lapjax.load_dataset(dataset, split, data_dir=data_dir, limit=limit)
        self.images = (
            list(self.samples.images)
            if folder is None
            else [read_image(find(pathlib.Path(folder) / stem)) for stem in self.samples.name]
        )

    def __iter__(self):
        """(image, box) of each face."""
        return zip(self.images, self.samples.box, strict=True)

    def error(self, points) -> np.ndarray:
        """NME of each image in percent, for points (N, K, 2) in image px."""
        samples = self.samples
        return metrics.image_nme(points, lapjax.truth(samples), samples.visible, samples.box, samples.scheme)


def in_turn(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every call of each work: all of them in turn, so often, each once before it is timed."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            work()
            start = time.perf_counter()
            work()
            spent[name].append(1e3 * (time.perf_counter() - start))
    return spent
