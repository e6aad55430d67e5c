"""What a file says of itself: complete, plain JSON, and refused when it is not lapjax's."""

import dataclasses
import json
import subprocess

import pytest
import tiny

from lapjax.checkpoints import model_card
from lapjax.checkpoints.run import Run
from lapjax.config import override
from lapjax.errors import LapjaxError
from lapjax.schemes import SCHEMES, Scheme

_MADE = model_card.Card(
    "run", tiny.FAST, tiny.EYES, tiny.calibration(tiny.FAST), "int8", {"terms": "none"}, {"faces": 3}
)


def run_of(**changes):
    variables = tiny.variables(tiny.POSTER)
    config = tiny.config("sets/tiny.npz", model=vars(tiny.POSTER))
    info = {"labelled": 24, "terms": "for research"}
    known = tiny.calibration(tiny.POSTER)
    return dataclasses.replace(Run(config, tiny.EYES, variables, 7, info, known), **changes)


def test_a_card_comes_back():
    properties = _MADE.to_properties()
    assert all(isinstance(value, str) for value in properties.values())
    assert model_card.Card.from_properties(properties, "x") == _MADE
    bare = dataclasses.replace(_MADE, calibration=None, parity=None)
    assert model_card.Card.from_properties(bare.to_properties(), "x") == bare


def test_a_built_in_scheme_goes_by_its_names():
    made = dataclasses.replace(_MADE, scheme=SCHEMES["five"], calibration=None)
    scheme = json.loads(made.to_properties()["scheme"])
    assert scheme == {"name": "five", "names": list(SCHEMES["five"].names)}
    assert model_card.Card.from_properties(made.to_properties(), "x").scheme == SCHEMES["five"]
    namesake = dataclasses.replace(made, scheme=Scheme("five", ("a", "b")))
    assert model_card.Card.from_properties(namesake.to_properties(), "x") == namesake


def test_usage_says_what_goes_in_and_what_comes_out():
    usage = json.loads(_MADE.to_properties()["usage"])
    assert usage.keys() == {"images", "points", "scale", "box_size", "radius", "confidence"}
    for part in ("uint8 (N, 32, 32, 3)", "RGB", "1.4 * max(w, h)", "0 to 255"):
        assert part in usage["images"]
    assert "90 %" in usage["radius"] and "5 %" in usage["confidence"]
    bare = dataclasses.replace(_MADE, calibration=None)
    assert json.loads(bare.to_properties()["usage"]).keys() == {"images", "points", "scale"}


def test_describe_a_run():
    made = model_card.describe(run_of(), name="a", precision="float16")
    assert (made.name, made.model, made.scheme, made.precision) == ("a", tiny.POSTER, tiny.EYES, "float16")
    said = made.provenance
    assert (said["data"], said["terms"], said["info"]) == ("tiny.npz train", "for research", {"labelled": 24})
    assert "inter_ocular" in said["metric"] and "true" in said["box"]
    trained = said["training"]
    assert (said["step"], trained["seed"], trained["loss"]["name"]) == (7, 0, "laplace_kl")
    assert trained["dataset"] == "tiny.npz"
    assert not {"model", "game", "semi", "unlabelled", "start"} & trained.keys()
    game = override(run_of().config, game={"adversary": True})
    trained = model_card.describe(run_of(config=game), name="a").provenance["training"]
    assert trained["game"]["adversary"] and trained["unlabelled"] == "tiny.npz"
    assert len(said["weights_sha256"]) == 64
    assert model_card.describe(run_of(), name="a", calibrated=False).calibration is None
    assert model_card.describe(run_of(calibration=None), name="a").calibration is None


def test_the_hash_is_of_the_weights():
    other = tiny.variables(tiny.POSTER)
    other["params"]["Conv_0"]["bias"][0] += 1e-6
    hashes = [
        model_card.describe(run, name="a").provenance["weights_sha256"]
        for run in (run_of(), run_of(step=9), run_of(variables=other))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_training_in_bfloat16_is_exported_in_float32():
    run = run_of(config=tiny.config("x.npz", model=vars(tiny.POSTER) | {"dtype": "bfloat16"}))
    assert model_card.describe(run, name="a").model == tiny.POSTER


def test_calibration_numbers_are_short():
    made = model_card.describe(run_of(), name="a").calibration
    exact = tiny.calibration(tiny.POSTER)
    assert made.offset == pytest.approx(exact.offset, rel=1e-5)
    assert max(len(repr(number)) for number in made.offset) <= 9


def test_the_commit_is_that_of_lapjax_own_checkout(tmp_path, monkeypatch):
    package = tmp_path / "lapjax" / "checkpoints"
    package.mkdir(parents=True)
    monkeypatch.setattr(model_card, "__file__", str(package / "model_card.py"))
    assert model_card.commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    (package / "model_card.py").write_text("a")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert model_card.commit() == head[:16]
    (package / "model_card.py").write_text("b")
    assert model_card.commit() == f"{head[:16]}-dirty"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lapjax": None}, "x.onnx was not written by lapjax"),
        ({"lapjax": "2"}, r"x.onnx: .*\(format 2, and this version reads 1\); export it again"),
        ({"scheme": None}, "x.onnx: its metadata cannot be used .*export it again"),
        ({"scheme": "[]"}, "x.onnx: its metadata cannot be used"),
        ({"model": '{"network": "slow"}'}, "cannot be used .*choose one of fast, poster"),
        ({"calibration": '{"format": 1}'}, "cannot be used .*missing"),
        ({"provenance": "{"}, "cannot be used"),
    ],
)
def test_refused(change, message):
    properties = _MADE.to_properties() | change
    properties = {name: value for name, value in properties.items() if value is not None}
    with pytest.raises(LapjaxError, match=message):
        model_card.Card.from_properties(properties, "x.onnx")
