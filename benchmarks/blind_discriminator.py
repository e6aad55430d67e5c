"""Can D tell labelled from unlabelled faces by the images alone? It should be near chance, or the game is about that.

    python benchmarks/blind_discriminator.py --data-dir DIR [--recipe fast-medium-laplacekl+d-10k] [--json FILE]

Trains the recipe's discriminator on crops, augmented as in the game, whose heatmaps are all zero, and prints its
accuracy on faces that it was not trained on. What it finds are differences between the two sets, such as framing,
sharpness, compression and edges, that D would use in the game instead of the heatmaps.
"""

import argparse
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lapjax import data, losses
from lapjax.cpu import with_huge_pages
from lapjax.data import augment
from lapjax.recipes import get_recipe
from lapjax.training import game
from lapjax.training.step import shrink

BATCH, HELD_OUT, LANDMARKS = 32, 500, 68


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="fast-medium-laplacekl+d-10k")
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--json")
    args = parser.parse_args()
    config = get_recipe(args.recipe)
    load = functools.partial(data.load_dataset, data_dir=args.data_dir)
    samples = load(config.unlabelled, config.unlabelled_split, limit=config.unlabelled_limit)
    sides = {
        "labelled": (load(config.dataset, config.train_split), load(config.dataset, config.validation_split)),
        "unlabelled": (samples.take(slice(HELD_OUT, None)), samples.take(slice(HELD_OUT))),
    }
    factors = [side[0].meta["chip_factor"] for side in sides.values()]
    players = game.Players(config, LANDMARKS, None, args.steps, *factors)
    discriminator, optimiser = players.discriminator, players.discriminator_optimiser

    def crops(key, chips, factor):
        made = augment.augment(
            key,
            chips,
            *augment.no_landmarks(chips),
            model=config.model,
            chip_factor=factor,
            config=config.augment,
            flip=(),
        )
        return made.images

    def judge(params, images):
        small = shrink(images, config.model.stride)
        return discriminator.apply({"params": params}, small, jnp.zeros((*small.shape[:3], LANDMARKS)))

    def logits(params, key, chips):
        keys = jax.random.split(key)
        return [judge(params, crops(keys[i], chips[i], factors[i])) for i in range(2)]

    @jax.jit
    def step(params, state, key, chips):
        def loss(params):
            return losses.discriminator_loss(*logits(params, key, chips))

        changes, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, changes), state

    @jax.jit
    def right(params, key, chips):
        real, fake = logits(params, key, chips)
        return (real.mean((1, 2)) > 0).mean(), (fake.mean((1, 2)) < 0).mean()

    side = config.model.input_size // config.model.stride
    params = discriminator.init(
        jax.random.key(0), jnp.zeros((1, side, side, 3)), jnp.zeros((1, side, side, LANDMARKS))
    )["params"]
    state = optimiser.init(params)
    random = np.random.default_rng(0)
    found = []
    count = min(len(unseen) for _, unseen in sides.values())
    held = [np.asarray(unseen.images[:count]) for _, unseen in sides.values()]
    for number in range(args.steps + 1):
        key = jax.random.fold_in(jax.random.key(1), number)
        if number % 100 == 0:
            accuracy = [float(value) for value in right(params, key, held)]
            found.append({"step": number, "labelled": accuracy[0], "unlabelled": accuracy[1]})
            print(
                f"step {number:4}  held-out accuracy: labelled {accuracy[0]:.2f}  unlabelled {accuracy[1]:.2f}"
            )
        chips = [
            np.asarray(side[0].images)[random.integers(0, len(side[0]), BATCH)] for side in sides.values()
        ]
        params, state = step(params, state, key, chips)
    if args.json:
        result = {"recipe": args.recipe, "batch": BATCH, "held_out": found}
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    with_huge_pages()
    main()
