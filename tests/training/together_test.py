"""Several seeds in one program are the runs that each would have been alone."""

import dataclasses
import functools
import signal

import jax
import numpy as np
import pytest
import tiny
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax import data
from lapjax.checkpoints.run import RunDirectory
from lapjax.config import override
from lapjax.errors import LapjaxError
from lapjax.training.train import train, train_together

SEEDS = 0, 5


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return tiny.write_pack(tmp_path_factory.mktemp("data"))


def runs(pack, folder, **changes):
    """Two seeds' configurations and where they go."""
    base = tiny.config(pack, **{"epochs": 1.0} | changes)
    return [override(base, seed=seed) for seed in SEEDS], [folder / f"s{seed}" for seed in SEEDS]


@pytest.mark.parametrize(
    "changes",
    [
        {"game": {"adversary": True, "warmup": 0.0}, "augment": {"enabled": True}},
        {"semi": {"method": "teacher"}, "dispatch": 2},
    ],
    ids=["game", "lesson"],
)
def test_they_are_the_runs_of_each_alone(pack, tmp_path, changes):
    configs, outs = runs(pack, tmp_path / "together", evaluate_every=1.0, **changes)
    said = []
    outcomes = train_together(
        configs, outs, log_every=8, report=lambda place, line: said.append((place, line))
    )
    for place, (config, out, outcome) in enumerate(zip(configs, outs, outcomes, strict=True)):
        alone = tmp_path / f"alone{place}"
        wanted = train(config, alone, log_every=8)
        assert (outcome.step, outcome.finished) == (wanted.step, True)
        assert outcome.best_nme == pytest.approx(wanted.best_nme, rel=1e-3)
        lines = tiny.log(out)
        assert lines == [line for where, line in said if where == place]
        for line, other in zip(lines, tiny.log(alone), strict=True):
            names = {name for name in line if "gradient_norm_" not in name} - tiny.TIMES
            assert {name: line[name] for name in names} == pytest.approx(
                {name: other[name] for name in names}, rel=2e-3, abs=1e-4
            )
    first, second = (tiny.log(out)[-1]["nme"] for out in outs)
    assert first != second


def test_labels_of_their_own(pack, tmp_path):
    """Each seed draws its own few faces; what is told of the unlabelled ones may differ as well."""
    configs, outs = runs(pack, tmp_path, train_limit=6, unlabelled_split="told", semi={"method": "labels"})
    told = data.load_dataset(pack, "told")
    other = tmp_path / "other.npz"
    data.write_pack(other, {"told": dataclasses.replace(told, landmarks=told.landmarks + 1)})
    configs[1] = override(configs[1], unlabelled=str(other))
    train_together(configs, outs, log_every=1)
    for place, (config, out) in enumerate(zip(configs, outs, strict=True)):
        alone = tmp_path / f"alone{place}"
        train(config, alone, log_every=1)
        assert tiny.log(out)[0]["loss"] == pytest.approx(tiny.log(alone)[0]["loss"], rel=1e-4)


def test_they_stop_and_go_on_together(pack, tmp_path):
    configs, outs = runs(pack, tmp_path / "parts")
    asked = []

    def stop(step):
        asked.append(step)
        return signal.SIGTERM if len(asked) == 4 else None

    for outcome in train_together(configs, outs, log_every=2, stop=stop):
        assert (outcome.step, outcome.stopped) == (3, signal.SIGTERM)
    assert all(outcome.finished for outcome in train_together(configs, outs, resume=True, log_every=2))
    wholes = [tmp_path / f"whole{place}" for place in range(2)]
    train_together(configs, wholes, log_every=2)
    for out, whole in zip(outs, wholes, strict=True):
        (_, state), (_, wanted) = (RunDirectory(path).restore("last") for path in (out, whole))
        jax.tree.map(np.testing.assert_array_equal, state, wanted)


def test_what_cannot_be_trained_together(pack, tmp_path):
    configs, outs = runs(pack, tmp_path)
    with pytest.raises(LapjaxError, match="2 runs and 1 run directories"):
        train_together(configs, outs[:1])
    with pytest.raises(LapjaxError, match="more than their seeds"):
        train_together([configs[0], override(configs[1], batch_size=8)], outs)
    fewer = tmp_path / "fewer.npz"
    data.write_pack(
        fewer, {split: data.load_dataset(pack, split, limit=5) for split in ("train", "validation")}
    )
    with pytest.raises(LapjaxError, match=r"s5 has labelled 5 and .*s0 24: train these runs one by one"):
        train_together([configs[0], override(configs[1], dataset=str(fewer))], outs)
    with pytest.raises(LapjaxError, match="need one device and placement jit"):
        train_together([override(config, placement="pmap") for config in configs], outs)
    assert not any(out.exists() for out in outs)
    train(configs[0], outs[0], stop=lambda step: signal.SIGTERM if step == 3 else None)
    with pytest.raises(LapjaxError, match=r"different steps \(.*s0 at 3, .*s5 at 0\)"):
        train_together(configs, outs, resume=True)


def test_chips_that_do_not_fit_are_refused(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "source", functools.partial(data.source, resident=False))
    configs, outs = runs(pack, tmp_path)
    with pytest.raises(LapjaxError, match="more chips than the device can hold"):
        train_together(configs, outs)
