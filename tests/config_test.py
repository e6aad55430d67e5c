"""Recipes and options: through JSON and back, ranges, and errors that name the field and the nearest."""

import dataclasses
import json

import pytest

from lapjax import config
from lapjax.config import Augmentation, Config, Game, Loss, Model, Optimiser, Semi
from lapjax.errors import LapjaxError
from lapjax.recipes import RECIPES


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_survive_json(name):
    text = json.dumps(config.to_dict(RECIPES[name]))
    found = config.from_dict(Config, json.loads(text))
    assert found == RECIPES[name]
    assert hash(found) == hash(RECIPES[name])  # tuples, not JSON's lists


def test_every_field_survives_json():
    made = Config(
        model=Model("poster", 0.25, 16, (1, 2, 3), 96, 1.3, 2.0, 0.2, "bfloat16"),
        loss=Loss("gaussian_kl", "q||p", "sum", 0.5, 2.0, 8.0, 0.3),
        game=Game(True, 0.1, 0.5, "with", "literal", "gaussian", 2.0, 0.1, 1.0, 1e-3, (8, 16)),
        semi=Semi("none", 0.5, 0.25),
        augment=Augmentation(False, 1.0, 0.1, 0.3, 0.2, False, 0.05, 0.4, 0.5, 0.6, 0.7),
        optimiser=Optimiser(0.1, 5, 0.2, 0.3, 0.0, 0.5),
        **{
            "dataset": "a.npz",
            "train_split": "a",
            "validation_split": "b",
            "train_limit": 7,
            "unlabelled": "c",
            "start": "e",
        },
        **{"unlabelled_split": "d", "unlabelled_limit": 8, "batch_size": 9, "unlabelled_batch_size": 10},
        **{"epochs": 0.5, "seed": 3, "evaluate_every": 2.5, "placement": "pmap"},
    )
    default = Config()
    for part in ("model", "loss", "game", "augment", "optimiser"):
        same = [
            field.name
            for field in dataclasses.fields(getattr(made, part))
            if getattr(getattr(made, part), field.name) == getattr(getattr(default, part), field.name)
        ]
        assert same == [], part
    assert config.from_dict(Config, json.loads(json.dumps(config.to_dict(made)))) == made


def test_the_teachers_survive_json():
    made = Config(unlabelled="a", semi=config.Semi("heatmaps", 0.5, 0.25, ("b", "c")))
    found = config.from_dict(Config, json.loads(json.dumps(config.to_dict(made))))
    assert found == made and hash(found) == hash(made)


def test_missing_fields_take_their_defaults():
    assert config.from_dict(Config, {}) == Config()
    assert config.from_dict(Config, {"loss": {"name": "sam"}}) == Config(loss=Loss(name="sam"))


def test_configurations_are_frozen():
    for part in (Config(), Model(), Loss(), Game(), Augmentation(), Optimiser()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, dataclasses.fields(part)[0].name, None)


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        (Model, "network", ["Fast", ""]),
        (Model, "dtype", ["float16"]),
        (Model, "input_size", [16, 40, 113, 0, -32]),
        (Model, "crop", [0.99, -1.0, float("nan")]),
        (Model, "beta", [0.0, -1.0, float("nan")]),
        (Model, "dropout", [1.0, -0.1]),
        (Model, "width", [0.0, 0.001, -1.0]),
        (Model, "channels", [0, -3]),
        (Loss, "name", ["laplacekl"]),
        (Loss, "direction", ["p|q"]),
        (Loss, "combine", ["mean"]),
        (Loss, "balance", [-0.1, 1.1, float("nan")]),
        (Loss, "target_scale", [0.0, -1.0, float("nan")]),
        (Loss, "target_start", [0.0, -8.0]),
        (Loss, "anneal", [0.0, 1.1]),
        (Game, "weight", [-1e-9]),
        (Game, "warmup", [1.0, -0.1]),
        (Game, "order", ["after"]),
        (Game, "form", ["hinge"]),
        (Game, "render", ["cauchy"]),
        (Game, "render_scale", [0.0]),
        (Game, "instance_noise", [-0.1]),
        (Game, "r1", [-1.0]),
        (Game, "learning_rate", [0.0]),
        (Game, "features", [(), (8, 0)]),
        (Augmentation, "rotation", [-1.0]),
        (Augmentation, "scale", [-0.1]),
        (Augmentation, "shift", [-0.1]),
        (Augmentation, "colour", [-0.1]),
        (Augmentation, "rotation_probability", [-0.1, 1.1]),
        (Semi, "method", ["em"]),
        (Semi, "weight", [-0.1]),
        (Semi, "ramp", [-0.1, 1.1, float("nan")]),
        (Augmentation, "grey", [-0.1, 1.1]),
        (Augmentation, "blur", [-0.1, 1.1]),
        (Augmentation, "mirror_lean", [0.11, -0.2, float("nan")]),
        (Augmentation, "occlusion", [-0.1, 1.1]),
        (Optimiser, "learning_rate", [0.0, float("nan")]),
        (Optimiser, "warmup_steps", [-1]),
        (Optimiser, "final", [-0.1, 1.1]),
        (Optimiser, "weight_decay", [-1e-9]),
        (Optimiser, "clip", [-1.0]),
        (Optimiser, "ema", [1.0, -0.1]),
        (Config, "batch_size", [0]),
        (Config, "unlabelled_batch_size", [-1]),
        (Config, "epochs", [0.0, float("nan")]),
        (Config, "evaluate_every", [0.0]),
        (Config, "train_limit", [0]),
        (Config, "unlabelled_limit", [-5]),
        (Config, "seed", [-1, 2**32]),
        (Config, "placement", ["tpu"]),
    ],
    ids=lambda part: getattr(part, "__name__", part if isinstance(part, str) else ""),
)
def test_values_out_of_range_name_their_field(kind, field, values):
    for value in values:
        with pytest.raises(LapjaxError, match=field):
            config.from_dict(kind, {field: value})


@pytest.mark.parametrize(
    "made",
    [
        lambda: Model(width=1 / 64, channels=1, input_size=32, crop=1.0, dropout=0.0),
        lambda: Loss(anneal=1.0, target_scale=1e-3, target_start=1e-3),
        lambda: Game(weight=0.0, warmup=0.0, features=(1,)),
        lambda: Augmentation(rotation=0.0, rotation_probability=1.0, blur=0.0),
        lambda: Optimiser(warmup_steps=0, final=0.0, ema=0.0, clip=0.0),
        lambda: Config(train_limit=1, seed=2**32 - 1, batch_size=1),
    ],
)
def test_the_ends_of_the_ranges_are_allowed(made):
    made()


def test_the_game_needs_unlabelled_faces():
    with pytest.raises(LapjaxError, match="--unlabelled"):
        Config(game=Game(adversary=True))
    assert Config(game=Game(adversary=True), unlabelled="lfw").game.adversary


def test_override_changes_what_it_names_and_nothing_else():
    before = RECIPES["fast-medium-laplacekl"]
    after = config.override(before, epochs=3.0, loss={"name": "sam"}, game={"features": (8,)})
    assert (after.epochs, after.loss.name, after.game.features) == (3.0, "sam", (8,))
    assert (
        config.override(
            after, epochs=before.epochs, loss={"name": "laplace_kl"}, game={"features": before.game.features}
        )
        == before
    )
    with pytest.raises(LapjaxError, match="target_scale"):
        config.override(before, loss={"target_scale": -1.0})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 3}, "'epoch' of Config: did you mean 'epochs'"),
        ({"loss": {"direcion": "q||p"}}, "'direcion' of Loss: did you mean 'direction'"),
        ({"model": {"zzzz": 3}}, "'zzzz' of Model: choose one of network, width"),
        ({"model": {"stride": 2}}, "'stride' of Model"),  # a property is no option
    ],
)
def test_an_unknown_option_suggests_the_nearest(changes, said):
    with pytest.raises(LapjaxError, match=f"unknown option {said}"):
        config.override(Config(), **changes)
    with pytest.raises(LapjaxError, match=f"unknown option {said}"):
        config.from_dict(Config, changes)
