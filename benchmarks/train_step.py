"""The train step's throughput on this machine, what huge pages and the depthwise convolution's own gradient add, and
the same network in PyTorch where that is installed.

    python benchmarks/train_step.py [--recipe fast-medium-laplacekl] [--rounds 3] [--json FILE]
    python benchmarks/train_step.py --peer [--json FILE]       # ours beside PyTorch, both without augmentation

Each setting runs in a process of its own, the settings alternating over the rounds; the median is printed with its
ratio to the plainest setting. `outside` is the share of the wall time of a loop over steps (batch, send, dispatch)
that the compiled step alone, called on one fixed batch, does not need.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "XLA's grouped convolution": {"huge_pages": False, "depthwise": "grouped"},
    "shifts, differentiated by JAX": {"huge_pages": False, "depthwise": "autodiff"},
    "shifts, gradient written out": {"huge_pages": False, "depthwise": "ours"},
    "the same with huge pages": {"huge_pages": True, "depthwise": "ours"},
}
BESIDE = {
    "PyTorch, compiled, float32": {"torch": "float32"},
    "ours, float32": {"huge_pages": True, "depthwise": "ours", "bare": True},
    "PyTorch, compiled, bfloat16": {"torch": "bfloat16"},
    "PyTorch, compiled, float32, huge pages": {"torch": "float32", "huge_pages": True},
    "ours, bfloat16": {"huge_pages": True, "depthwise": "ours", "bare": True, "dtype": "bfloat16"},
}
STEPS, PAIRS = 8, 8


def measure(recipe: str, *, depthwise="ours", bare=False, dtype="float32", torch=None) -> dict:
    """Images/s of a recipe's step in this process, on synthetic chips; `bare` without augmentation."""
    if torch:
        from torch_peer import images_per_second

        from lapjax.recipes import get_recipe

        config = get_recipe(recipe)
        return {
            "images_per_second": images_per_second(config.model, config.batch_size, torch),
            "outside_percent": 0.0,
        }
    import functools

    import jax
    import numpy as np

    from lapjax import convolutions, data, networks
    from lapjax.config import override
    from lapjax.recipes import get_recipe
    from lapjax.samples import Samples
    from lapjax.schemes import get_scheme
    from lapjax.training import game, sharding

    if depthwise == "grouped":
        networks.depthwise = convolutions._grouped
    elif depthwise == "autodiff":
        networks.depthwise = lambda images, kernel, *, stride: convolutions._shifted_sum(
            images, kernel, stride
        )
    config, scheme = override(get_recipe(recipe), model={"dtype": dtype}), get_scheme("300w")
    if bare:
        config = override(config, augment={"enabled": False})
    random = np.random.default_rng(0)
    count = 256
    samples = Samples(
        images=random.integers(0, 256, (count, 192, 192, 3), np.uint8),
        landmarks=random.uniform(45, 145, (count, 68, 2)).astype(np.float32),
        visible=np.ones((count, 68), bool),
        box=np.tile(np.float32([35, 35, 124, 124]), (count, 1)),
        image_to_chip=np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)),
        name=np.array([str(i) for i in range(count)]),
        subset=np.full(count, "noise"),
        scheme=scheme,
        meta={
            "dataset": "noise",
            "split": "train",
            "chip_size": 192,
            "chip_factor": 1.8,
            "unlabelled": False,
        },
    )
    placement = sharding.Placement()
    source = data.source(samples, config.batch_size, 0, put=placement.put)
    players = game.Players(config, scheme.count, scheme.flip, 1000, 1.8)
    step = placement.compile(players, source)
    state = placement.put(game.init(jax.random.key(0), players))
    fixed, seed = source.send(0), np.int64(0)
    state, metrics = step(state, fixed, None, seed)

    def loop(send):
        nonlocal state
        jax.block_until_ready(state)
        start = time.perf_counter()
        for index in range(STEPS):
            state, metrics = step(state, send(index), None, seed)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    pairs = [(loop(source.send), loop(functools.partial(lambda sent, _: sent, fixed))) for _ in range(PAIRS)]
    # The shortest of each: what others take from the machine only ever adds.
    whole, compiled = (min(column) for column in zip(*pairs, strict=True))
    return {
        "images_per_second": STEPS * config.batch_size / whole,
        "outside_percent": 100 * max(0.0, 1 - compiled / whole),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="fast-medium-laplacekl")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("--peer", action="store_true", help="ours beside PyTorch")
    parser.add_argument("--setting", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.setting:
        print(json.dumps(measure(args.recipe, **args.setting)))
        return
    settings = BESIDE if args.peer else SETTINGS
    found = {name: [] for name in settings}
    for _ in range(args.rounds):
        for name, setting in settings.items():
            environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
            if setting.get("huge_pages"):
                environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
            own = {key: value for key, value in setting.items() if key != "huge_pages"}
            command = [sys.executable, __file__, "--recipe", args.recipe, "--setting", json.dumps(own)]
            output = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            ).stdout
            found[name].append(json.loads(output.splitlines()[-1]))
    result = {"recipe": args.recipe, "rounds": args.rounds, "cores": os.cpu_count(), "settings": {}}
    base = None
    for name, rounds in found.items():
        rate = statistics.median(item["images_per_second"] for item in rounds)
        outside = statistics.median(item["outside_percent"] for item in rounds)
        base = base or rate
        result["settings"][name] = {
            "images_per_second": rate,
            "ratio": rate / base,
            "outside_percent": outside,
        }
        print(f"{name:32} {rate:7.1f} images/s   x{rate / base:4.2f}   outside {outside:4.1f} %")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
