"""What sharding_test.py runs in processes of their own: a step under every placement, a training over processes.

python placements.py steps OUT
python placements.py train FOLDER PACK [COORDINATOR PROCESSES INDEX]
"""

import functools
import pathlib
import pickle
import sys

import flax.linen as nn
import jax
import numpy as np
import tiny

from lapjax import data
from lapjax.config import Augmentation, Config, Game, Model, Optimiser
from lapjax.errors import LapjaxError
from lapjax.networks import Norm, Separable
from lapjax.samples import Samples
from lapjax.training import game
from lapjax.training.sharding import Placement, agree, from_first, on_first, start_processes
from lapjax.training.train import train

BATCH, FACES = 8, 4
SEED = np.int64(0)


class OneBlock(nn.Module):
    """What the fast network is made of, once: batch norm over all devices and a depthwise convolution, at stride 4."""

    landmarks: int
    axis: str | None

    @nn.compact
    def __call__(self, images, *, train=False):
        b, h, w, c = images.shape
        x = images.reshape(b, h // 4, 4, w // 4, 4, c).mean((2, 4))
        x = Norm(axis=self.axis)(nn.Dense(6, use_bias=False)(x), train=train)
        return nn.Dense(self.landmarks)(Separable(6, axis=self.axis)(x, train=train))


def make_one_block(model, landmarks, *, axis=None):
    return OneBlock(landmarks, axis)


# The generator, its kind, whether D plays, whether crops are augmented.
CASES = {
    "poster, supervised": (game.make_generator, "poster", False, False),
    "batch norm, supervised": (make_one_block, "fast", False, False),
    "batch norm, game": (make_one_block, "fast", True, True),
}


def labelled_faces():
    """Faces of which each device has another number of labels."""
    samples = tiny.samples(12, scheme="five")
    visible = np.random.default_rng(0).random(samples.visible.shape) < 0.6
    return Samples(**{**vars(samples), "visible": visible})


def take_step(case, placement, *, source=data.Resident):
    """A step of `case`: the state and metrics on the host, whether devices agree, and the program."""
    game.make_generator, network, adversary, augmented = CASES[case]
    config = Config(
        model=Model(network=network, width=1 / 64, input_size=32, crop=1.25),
        game=Game(adversary=adversary, features=(4,), weight=1.0),
        unlabelled="faces",
        augment=Augmentation(enabled=augmented),
        optimiser=Optimiser(weight_decay=0.0),
        batch_size=BATCH,
        unlabelled_batch_size=FACES,
    )
    samples, unlabelled, sent = labelled_faces(), None, None
    players = game.Players(config, 5, samples.scheme.flip, 10, tiny.FACTOR, tiny.FACTOR, placement.axis)
    if source is data.Resident:
        source = functools.partial(source, put=placement.put)
    labelled = source(samples, BATCH, 0)
    if adversary:
        unlabelled = source(tiny.samples(16, scheme="none"), FACES, 1)
        sent = unlabelled.send(3)
    state = placement.put(some_state(players))
    call = placement.compile(players, labelled, unlabelled)
    program = call.lower(state, labelled.send(3), sent, SEED).compile()
    after, metrics = program(state, labelled.send(3), sent, SEED)
    copies = [
        [np.asarray(shard.data) for shard in leaf.addressable_shards] for leaf in jax.tree.leaves(after)
    ]
    return {
        "state": flat(placement.one(after)),
        "metrics": flat(placement.one(metrics)),
        "agreed": all(np.array_equal(leaf[0], other) for leaf in copies for other in leaf[1:]),
        "copies": {len(leaf) for leaf in copies},
        "reduces": "all-reduce" in program.as_text(),
    }


def some_state(players):
    """A state of noise at step 3, its moments empty: compiling `game.init` for every case would take as long again."""
    rng = np.random.default_rng(0)

    def fill(path, leaf):
        name = jax.tree_util.keystr(path)
        if "stats" in name or "opt_state" in name:
            return np.full(leaf.shape, "stats" in name, leaf.dtype)
        inputs = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 9
        return (rng.normal(0, 1.5, leaf.shape) / np.sqrt(inputs)).astype(leaf.dtype)

    shapes = jax.eval_shape(lambda: game.init(jax.random.key(0), players))
    return jax.tree_util.tree_map_with_path(fill, shapes).replace(step=np.int32(3))


def flat(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def steps():
    placements = {
        "one": Placement("jit", jax.devices()[:1]),
        "jit": Placement("jit"),
        "pmap": Placement("pmap"),
    }
    found = {(case, kind): take_step(case, place) for case in CASES for kind, place in placements.items()}
    for kind in ("jit", "pmap"):
        found["streamed", kind] = take_step("batch norm, supervised", placements[kind], source=data.Streamed)
        try:
            placements[kind].check(batch_size=8, unlabelled_batch_size=6)
        except LapjaxError as error:
            found["refused", kind] = str(error)
    return found


def trainings(folder, pack):
    """A run of its own length; in several processes one stopped by the last of them and resumed, and one refused."""
    config = tiny.config(pack)
    reported = []
    run = functools.partial(train, config, log_every=2)
    found = {"whole": run(folder / "whole", report=reported.append), "reported": len(reported)}
    if jax.process_count() == 1:
        return found
    index = jax.process_index()
    found["shared"] = from_first(np.float32(index + 7))
    found["agreed"] = agree(index or None), agree(None)

    def fail():
        raise LapjaxError(f"process {index} cannot: “so”")

    found["failed"] = refused(lambda: on_first(fail))
    found["again"] = refused(lambda: run(folder / "whole"))
    found["pmap"] = refused(lambda: Placement("pmap"))
    # The last process alone is asked to stop, at a step where they do not ask each other.
    found["stopped"] = run(folder / "parts", stop=lambda step: 15 if index and step == 5 else None)
    found["resumed"] = run(folder / "parts", resume=True)
    return found


def refused(action):
    try:
        action()
    except LapjaxError as error:
        return str(error)


def main(command, out, *rest):
    out = pathlib.Path(out)
    if command == "steps":
        out.write_bytes(pickle.dumps(steps()))
        return
    pack, *where = rest
    if where:
        start_processes(where[0], int(where[1]), int(where[2]))
    found = trainings(out, pack)
    (out / f"found-{jax.process_count()}-{jax.process_index()}").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
