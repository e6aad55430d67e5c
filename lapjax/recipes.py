"""A name for every row of the poster's tables, for the fast family and for the drawn faces.

`config.override` changes a recipe; how the numbers were chosen is in results/ and the README.
"""

from lapjax.config import Augmentation, Config, Loss, Model, Optimiser, override
from lapjax.errors import LapjaxError, nearest

__all__ = ["FAST_SIZES", "PUBLISHED", "RECIPES", "WIDTHS", "get_recipe", "list_recipes", "published"]

WIDTHS = {"1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0}
FAST_SIZES = {
    "small": {"channels": 16, "blocks": (2, 2, 2), "input_size": 128},
    "medium": {"channels": 24, "blocks": (2, 5, 5), "input_size": 128},
    "large": {"channels": 32, "blocks": (2, 5, 5), "input_size": 160},
}


# Table 1 of the poster as printed there, NME in percent: AFLW, and 300W common, challenging, full; None where it has no number.
# Trained on all of 300W's 3,148 images. The rows of other authors mix normalisers.
PUBLISHED = {
    "SDM, inter-pupil": (5.43, 5.57, 15.40, 7.52),
    "CFSS, inter-pupil": (2.17, 4.36, 7.56, 4.99),
    "RCSR": (None, 4.01, 8.58, 4.90),
    "RCN+ (L+ELT)": (1.59, 4.20, 7.78, 4.90),
    "CPM+SBR": (2.14, 3.28, 7.58, 4.10),
    "SAM": (2.26, 3.48, 7.39, 4.25),
    "SAM+D 10K": (None, 3.34, 7.90, 4.23),
    "SAM+D 30K": (None, 3.41, 7.99, 4.31),
    "SAM+D 50K": (None, 3.41, 8.06, 4.32),
    "SAM+D 70K": (None, 3.34, 8.17, 4.29),
    "LaplaceKL": (1.97, 3.28, 7.01, 4.01),
    "LaplaceKL+D 10K": (None, 3.26, 6.96, 3.99),
    "LaplaceKL+D 30K": (None, 3.29, 6.74, 3.96),
    "LaplaceKL+D 50K": (None, 3.26, 6.71, 3.94),
    "LaplaceKL+D 70K": (None, 3.19, 6.87, 3.91),
}


def published(name: str) -> dict[str, float] | None:
    """What the poster's Table 1 reports for a recipe: NME in percent on 300W's common, challenge and full sets.

    None for every recipe but those of the poster's network at width 1, the only one that its Table 1 has.
    """
    base, _, game = name.partition("+d-")
    loss = {"poster-1-sam": "SAM", "poster-1-laplacekl": "LaplaceKL"}.get(base)
    if loss is None:
        return None
    row = PUBLISHED[f"{loss}+D {game.upper()}" if game else loss]
    return dict(zip(("common", "challenge", "full"), row[1:], strict=True))


def list_recipes() -> list[str]:
    """The names of all recipes, those of one network together, the smallest first.

    Examples:
      >>> import lapjax
      >>> "fast-medium-laplacekl" in lapjax.list_recipes()
      True
    """
    return list(RECIPES)


def get_recipe(name: str) -> Config:
    """The configuration of a named recipe, as `list_recipes` has them.

    Raises:
      LapjaxError: no such recipe; suggests the nearest.

    Examples:
      >>> import lapjax
      >>> lapjax.get_recipe("fast-medium-laplacekl").model.input_size  # px
      128
    """
    if name not in RECIPES:
        hint = nearest(name, RECIPES, cutoff=0.4, form="did you mean {!r}? ")
        raise LapjaxError(f"unknown recipe {name!r}: {hint}`lapjax recipes` lists them all")
    return RECIPES[name]


# 300W's labels sit to the right of what they mark by about 0.9 % of the inter-ocular distance: networks that learn
# mirrored faces too, ours and published ones, predict to the left of them by that much or half of it.
_300W_LEAN = 0.005


def _recipes() -> dict[str, Config]:
    labels = Augmentation(mirror_lean=_300W_LEAN)
    poster = Config(
        model=Model(network="poster", input_size=80, crop=1.25),
        augment=labels,
        epochs=60.0,
    )
    # Small networks underfit: the fewer the disturbances the better, as long as other boxes do no harm.
    weak = override(labels, rotation=15.0, scale=0.1, shift=0.04, colour=0.15, blur=0.0, occlusion=0.0)
    fast = Config(
        model=Model(crop=1.25, input_size=128),
        loss=Loss(target_scale=1.2),
        augment=weak,
        optimiser=Optimiser(learning_rate=8e-3),
        epochs=160.0,
    )
    losses = {"sam": {"name": "sam"}, "laplacekl": {"name": "laplace_kl"}}
    bases = {
        f"poster-{label.replace('/', '_')}": override(poster, model={"width": width})
        for label, width in WIDTHS.items()
    }
    bases |= {f"fast-{label}": override(fast, model=size) for label, size in FAST_SIZES.items()}
    recipes = {}
    for base, config in bases.items():
        for loss, change in losses.items():
            recipes[f"{base}-{loss}"] = override(config, loss=change)
            for count in (10_000, 30_000, 50_000, 70_000):
                recipes[f"{base}-{loss}+d-{count // 1000}k"] = override(
                    config, loss=change, game={"adversary": True}, unlabelled="lfw", unlabelled_limit=count
                )
    recipes["poster-paper-laplacekl"] = override(
        bases["poster-1"], loss={"direction": "q||p"}, augment={"enabled": False}, optimiser={"ema": 0.0}
    )
    toy = override(
        fast,
        dataset="toy_faces",
        batch_size=32,
        epochs=24.0,
        evaluate_every=6.0,
        model={"channels": 16, "input_size": 64, "crop": 1.4},
        augment=vars(Augmentation()),
    )
    for loss, change in losses.items():
        recipes[f"toy-{loss}"] = override(toy, loss=change)
    return recipes


RECIPES = _recipes()
