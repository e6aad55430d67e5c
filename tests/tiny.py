"""Faces, models and runs that are small enough to train in a test."""

import dataclasses
import importlib
import json

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from lapjax import data, networks
from lapjax.calibration.scale import Calibration, save_calibration
from lapjax.checkpoints.run import CALIBRATION, Run, RunDirectory
from lapjax.config import Config, Model, Optimiser, override
from lapjax.samples import Samples
from lapjax.schemes import SCHEMES, Scheme, anonymous
from lapjax.training import game

CHIP, FACTOR = 48, 1.8
# Both eye distances, and nothing hidden about which point is which.
EYES = Scheme("eyes", ("left", "right", "nose", "chin"), (1, 0, 2, 3), (0, 1), ((0,), (1,)), ((0, 2, 1),))
_QUICK = "jax_disable_most_optimizations"
_FOLDER = "jax_compilation_cache_dir"
_WORTH = "jax_persistent_cache_min_compile_time_secs"
_PLACES = {
    "eyes": [(15, 18), (32, 18), (24, 25), (24, 36)],
    "five": [(16, 18), (31, 18), (24, 25), (18, 32), (30, 32)],
}


def samples(count, split="train", *, scheme="eyes", factor=FACTOR, seed=0) -> Samples:
    """Noise with points near the places of a face; `scheme` "none" has no points."""
    rng = np.random.default_rng((seed, count))
    known = {"eyes": EYES, "five": SCHEMES["five"], "none": anonymous(0)}[scheme]
    places = np.array(_PLACES.get(scheme, np.zeros((0, 2))), np.float32)
    landmarks = (places[None] + rng.normal(0, 1, (count, known.count, 2))).astype(np.float32)
    scale = rng.uniform(0.4, 0.6, (count, 1, 1))
    shift = rng.uniform(-3, 3, (count, 2, 1))
    image_to_chip = np.concatenate([scale * np.eye(2)[None], shift], axis=-1).astype(np.float32)
    on_image = (landmarks - image_to_chip[:, None, :, 2]) / scale
    box = np.tile(np.float32([0, 0, 50, 50]), (count, 1))
    if known.count:
        box = np.concatenate([on_image.min(axis=1), on_image.max(axis=1)], axis=-1).astype(np.float32)
    return Samples(
        images=rng.integers(0, 256, (count, CHIP, CHIP, 3), np.uint8),
        landmarks=landmarks,
        visible=np.ones((count, known.count), bool),
        box=box,
        image_to_chip=image_to_chip,
        name=np.array([f"{split}/{i}" for i in range(count)]),
        subset=np.array(["odd" if i % 2 else "even" for i in range(count)]),
        scheme=known,
        meta={
            "dataset": "tiny",
            "split": split,
            "chip_size": CHIP,
            "chip_factor": factor,
            "quality": 95,
            "terms": "none",
            "unlabelled": scheme == "none",
        },
    )


def write_pack(folder, **options):
    """A pack with the splits train (24), validation (7), unlabelled (16) and told, by models (9)."""
    path = folder / "tiny.npz"
    labelled = {
        split: samples(count, split, **options) for split, count in [("train", 24), ("validation", 7)]
    }
    told = samples(9, "told", **options)
    told = dataclasses.replace(told, scale=np.full(told.visible.shape, 2.0, np.float32))
    data.write_pack(path, labelled | {"unlabelled": samples(16, "unlabelled", scheme="none"), "told": told})
    return path


def config(pack, **changes) -> Config:
    """Twelve steps, validated every third, of the poster's network with one channel."""
    plain = Config(
        model=Model(network="poster", width=1 / 64, channels=2, input_size=32),
        dataset=str(pack),
        unlabelled=str(pack),
        unlabelled_split="unlabelled",
        batch_size=4,
        unlabelled_batch_size=4,
        epochs=2.0,
        evaluate_every=0.5,
        optimiser=Optimiser(warmup_steps=2),
    )
    return override(override(plain, augment={"enabled": False}, game={"features": (4, 8)}), **changes)


# What a log says of the machine and not of the run.
TIMES = {"images_per_second", "host_share", "seconds_left"}


def log(out) -> list[dict]:
    """The lines that a training logged in its run directory."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def state(config: Config, landmarks: int = EYES.count) -> game.State:
    """A whole state of noise, without compiling anything."""
    players = game.Players(config, landmarks, None, 12, FACTOR)
    shapes = jax.eval_shape(lambda: game.init(jax.random.key(0), players))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: (100 * rng.random(leaf.shape)).astype(leaf.dtype), shapes)


# Both networks, each as small as it gets.
FAST = Model(network="fast", channels=4, input_size=32)
POSTER = Model(network="poster", width=1 / 32, input_size=32, crop=1.25)


def variables(model: Model, landmarks: int = EYES.count, seed: int = 0) -> dict:
    """What a trained generator may look like, without compiling anything: no two channels alike, no map flat."""
    image = jax.ShapeDtypeStruct((1, model.input_size, model.input_size, 3), np.float32)
    shapes = jax.eval_shape(networks.make_generator(model, landmarks).init, jax.random.key(0), image)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        kind = path[-1].key
        fan_in = np.prod(leaf.shape[:2] if kind == "depthwise" else leaf.shape[:-1])
        centre, spread = {"bias": (0, 0.2), "mean": (0, 0.2), "scale": (1, 0.2), "var": (1, 0.2)}.get(
            kind, (0, np.sqrt(2 / fan_in))
        )
        values = centre + spread * rng.normal(size=leaf.shape)
        return np.float32(np.abs(values) + 0.1 if kind == "var" else values)

    drawn = jax.tree_util.tree_map_with_path(draw, dict(shapes))
    last = max(
        (name for name in drawn["params"] if name.startswith("Dense_")), key=lambda name: int(name[6:])
    )
    drawn["params"][last]["kernel"] *= {"fast": 0.5, "poster": 25}[model.network]
    return {"params": drawn["params"], "batch_stats": drawn.get("batch_stats", {})}


def calibration(model: Model, scheme: Scheme = EYES) -> Calibration:
    """A calibration of two groups, no two numbers alike."""
    count = scheme.count
    return Calibration(
        scheme=scheme.name,
        stride=model.stride,
        groups=("even", "odd"),
        group=tuple(i % 2 for i in range(count)),
        offset=tuple(0.1 * i - 0.25 for i in range(count)),
        weights=(0.6, 0.9, -0.4),
        level=0.9,
        quantile=(1.7, 2.2),
        tolerance=0.05,
        weibull=(1.7, 1.1),
        images=20,
    )


def run(model: Model, variables, scheme: Scheme = EYES) -> Run:
    """A trained model that is in memory alone, of any variables."""
    return Run(config("tiny.npz", model=vars(model)), scheme, variables, 0, {})


def save_run(place, model: Model, *, pack="tiny.npz", calibrated: bool = True):
    """A run directory with a best checkpoint of random weights, as if `lapjax train` had made it."""
    known = config(pack, model=vars(model))
    info = {"labelled": 24, "terms": "none"}
    with RunDirectory(place).open_for_training(known, EYES, info, resume=False) as run:
        run.save("best", 3, variables(model))
    if calibrated:
        save_calibration(calibration(model), place / CALIBRATION)
    return place


def assert_same(a, b):
    """The same structure, types and bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape) == (y.dtype, y.shape), path
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module", autouse=True)
def compiler(tmp_path_factory):
    """A module's programs are compiled quickly, and once; the settings as a subprocess's environment."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    kept = {name: getattr(jax.config, name) for name in (_FOLDER, _WORTH)}
    settings = {_QUICK: True, _FOLDER: folder, _WORTH: 0.0}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    # What another module compiled otherwise would differ from a subprocess's in its last digits.
    predictor = importlib.import_module("lapjax.evaluation.evaluate")._predictor
    predictor.cache_clear()
    yield {name.upper(): str(value) for name, value in settings.items()}
    predictor.cache_clear()
    for name, value in {_QUICK: False, **kept}.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
