"""A run that is stopped, killed or out of disk goes on as if nothing had happened; a hopeless one says where."""

import contextlib
import dataclasses
import errno
import importlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import (
    compiler,  # noqa: F401  (a fixture of the module)
    log,
)

from lapjax import data
from lapjax.checkpoints.run import RunDirectory, load_run
from lapjax.config import override, to_dict
from lapjax.data import batches
from lapjax.errors import LapjaxError
from lapjax.training import loop, step
from lapjax.training.loop import Loop
from lapjax.training.train import train

MODULE = importlib.import_module("lapjax.training.train")  # `lapjax.train` is the function


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Trainings of this process with the same players share their compiled step."""
    known, programs = MODULE.Placement.compile, {}

    def compiled(self, players, labelled, unlabelled=None, *, measure=False, steps=1):
        key = players, unlabelled is None, measure, steps
        if key not in programs:
            programs[key] = known(self, players, labelled, unlabelled, measure=measure, steps=steps)
        return programs[key]

    MODULE.Placement.compile = compiled
    yield programs
    MODULE.Placement.compile = known


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return tiny.write_pack(tmp_path_factory.mktemp("data"))


def run(config, out, *, resume=False, stop_at=None, **options):
    """Trains, stopping before the step numbered `stop_at`."""
    stop = (lambda step: signal.SIGTERM if step == stop_at else None) if stop_at is not None else None
    return train(config, out, resume=resume, stop=stop, **{"log_every": 2} | options)


def contents(out):
    """Both checkpoints with their steps, and the log without its times."""
    with contextlib.closing(RunDirectory(out)) as place:
        found = {which: place.restore(which) for which in ("last", "best")}
    return found, [{key: line[key] for key in line.keys() - tiny.TIMES} for line in log(out)]


def assert_same_run(a, b):
    (trees, lines), (others, other_lines) = contents(a), contents(b)
    tiny.assert_same(trees, others)
    assert lines == other_lines


@pytest.fixture(scope="module")
def whole(pack, tmp_path_factory):
    """A run of 12 steps that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    lines = []
    outcome = run(tiny.config(pack), out, report=lines.append)
    assert outcome.finished and (outcome.step, outcome.steps, outcome.stopped) == (12, 12, None)
    assert lines == log(out)
    assert outcome.best_nme == min(line["nme"] for line in lines if "nme" in line)
    return out


def test_what_a_run_leaves(whole):
    lines = log(whole)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12]
    validated = {line["step"]: line["nme"] for line in lines if "nme" in line}
    assert list(validated) == [3, 6, 9, 12]
    assert [line["epoch"] for line in lines if "nme" in line] == [0.5, 1.0, 1.5, 2.0]
    assert all(
        line["images_per_second"] > 0 and 0 <= line["host_share"] <= 1 for line in lines if "loss" in line
    )
    # Compiling takes seconds and is no part of the rate: the first line is not far behind the others.
    rates = [line["images_per_second"] for line in lines if "loss" in line]
    assert rates[0] > np.median(rates) / 20
    assert load_run(whole).step == min(validated, key=validated.get)
    assert load_run(whole, which="last").step == 12
    info = load_run(whole).info
    assert (info["labelled"], info["validation"], info["unlabelled"], info["terms"]) == (24, 7, 0, "none")


def test_the_logged_nme_is_that_of_the_checkpoint(whole, pack):
    from lapjax.evaluation.evaluate import evaluate

    trained = load_run(whole)
    result = evaluate(trained, data.load_dataset(pack, "validation"))
    logged = [line["nme"] for line in log(whole) if "nme" in line and line["step"] == trained.step]
    assert logged == [pytest.approx(result["nme"]["inter_ocular"], rel=1e-6)]


def test_fewer_labels_are_drawn_by_the_seed(pack):
    def names(**changes):
        return MODULE._load(tiny.config(pack, **changes), None, None).labelled.name.tolist()

    every = names()
    few, more = names(train_limit=5), names(train_limit=9)
    assert len(set(few)) == 5 and more[:5] == few and set(more) < set(every)
    assert set(names(train_limit=5, seed=1)) != set(few) != set(every[:5])


CASES = {
    # Augmentation, batch statistics and the moving average are all state.
    "supervised": ({"model": {"network": "fast"}, "augment": {"enabled": True}}, (5,), 2),
    # Stopped in the supervised warm-up, and in the game; at every step with the gradients' norms.
    "game": ({"game": {"adversary": True}}, (1, 7), 1),
    "labels": ({"semi": {"method": "labels"}, "unlabelled_split": "told"}, (5,), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_resuming_is_bit_identical(pack, tmp_path, case):
    changes, stops, log_every = CASES[case]
    config = tiny.config(pack, **changes)
    run(config, tmp_path / "whole", log_every=log_every)
    for stop in stops:
        outcome = run(config, tmp_path / "parts", resume=stop != stops[0], stop_at=stop, log_every=log_every)
        assert (outcome.step, outcome.stopped, outcome.finished) == (stop, signal.SIGTERM, False)
    assert run(config, tmp_path / "parts", resume=True, log_every=log_every).finished
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    (_, state), _ = contents(tmp_path / "whole")[0].values()
    assert bool(state["generator"]["batch_stats"]) == (case == "supervised")
    assert bool(state["discriminator"]["params"]) == (case == "game")
    if case == "game":
        assert {"d_loss", "gradient_norm_adversarial", "d_heldout_accuracy"} <= set().union(
            *log(tmp_path / "whole")
        )


@pytest.mark.parametrize("changes", [{}, {"game": {"adversary": True}}])
def test_several_steps_a_call_are_the_same_steps(pack, tmp_path, changes):
    """Across the lines of the log, the validations and the beginning of the game."""
    calls = []
    known = Loop._next

    def counted(loop, state, at):
        steps = known(loop, state, at)
        calls.append((at, steps.count))
        return steps

    config = tiny.config(pack, evaluate_every=1.0, **changes)
    run(config, tmp_path / "one", log_every=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_next", counted)
        run(override(config, dispatch=2), tmp_path / "two", log_every=4)
    assert calls == [(at, 2) for at in range(0, 12, 2)]
    # Adam makes much of the last digits of parameters that hardly matter: what is measured is the same.
    lines, others = contents(tmp_path / "one")[1], contents(tmp_path / "two")[1]
    known = {"gradient_norm_supervised", "gradient_norm_semi", "gradient_norm_adversarial"}
    for line, other in zip(lines, others, strict=True):
        assert {name: other[name] for name in line.keys() - known} == pytest.approx(
            {name: line[name] for name in line.keys() - known}, rel=1e-3, abs=1e-5
        )


def test_a_finished_run_resumes_to_itself(whole, pack):
    before = contents(whole)
    outcome = run(tiny.config(pack), whole, resume=True)
    assert outcome.finished and outcome.best_nme == min(line["nme"] for line in log(whole) if "nme" in line)
    tiny.assert_same(contents(whole), before)


@pytest.mark.parametrize("stop", [0, 3])
def test_stopping_where_there_is_nothing_new_to_save(whole, pack, tmp_path, stop):
    """Before the first step, and right after a validation."""
    out = tmp_path / "run"
    for resume in (False, True):
        assert run(tiny.config(pack), out, stop_at=stop, resume=resume).step == stop
    assert (out / "last").exists() == (stop > 0)
    run(tiny.config(pack), out, resume=True)
    assert_same_run(whole, out)


def test_chips_that_stay_encoded_train_alike(whole, pack, tmp_path, monkeypatch):
    loaded = []

    def load(*args, encoded, limit, **options):
        loaded.append((args[1], encoded, limit))
        return known(*args, encoded=encoded, limit=limit, **options)

    known = data.load_dataset
    monkeypatch.setattr(data, "load_dataset", load)
    monkeypatch.setattr(batches, "RESIDENT_LIMIT", 10 * 48 * 48 * 3)
    run(tiny.config(pack), tmp_path / "run")
    # Each split is looked at first; 24 chips are more than the limit, 7 are not.
    assert loaded == [
        ("train", True, 1),
        ("train", True, None),
        ("validation", True, 1),
        ("validation", False, None),
    ]
    assert_same_run(whole, tmp_path / "run")


def script(config, out, environment, body):
    """A process that trains `config` at `out`; `body` is Python that may use `options`."""
    program = f"""
import json, os, signal, sys, threading, time
from lapjax.config import Config, from_dict
from lapjax.training.train import train
config, out = from_dict(Config, json.loads(sys.argv[1])), sys.argv[2]
options = {{"log_every": 2}}
{body}
outcome = train(config, out, resume=True, **options)
print(outcome.step, outcome.stopped)
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(to_dict(config)), str(out)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Every logged line takes a while, so that there is time for a signal.
SLOW = "options['report'] = lambda line: (print('line', flush=True), time.sleep(0.2))"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_process_cleanly(whole, pack, tmp_path, compiler, number):  # noqa: F811
    child = script(tiny.config(pack), tmp_path, compiler, SLOW)
    assert child.stdout.readline() == "line\n", child.stderr.read()
    child.send_signal(number)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    step, stopped = out.split()[-2:]
    assert 0 < int(step) < 12 and int(stopped) == number
    with contextlib.closing(RunDirectory(tmp_path)) as place:
        assert place.latest("last") == int(step)
    run(tiny.config(pack), tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_signals_are_answered_at_the_next_step_and_given_back(pack, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def once(line):
        if line["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    outcome = run(tiny.config(pack), tmp_path, report=once)
    assert outcome.stopped == signal.SIGINT and outcome.step < 12
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_does_not_wait(pack, tmp_path):
    def twice(line):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run(tiny.config(pack), tmp_path, report=twice)
    assert run(tiny.config(pack), tmp_path, resume=True).finished


# Dies by its own kill -9 a moment after the n-th thing it does to a file of the run.
KILL = """
left, delay = {count}, {delay}
def hook(event, args):
    global left
    if event.partition(".")[0] in ("open", "os", "shutil") and args and out in str(args[0]):
        left -= 1
        if left == 0:
            kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(delay, kill).start() if delay else kill()
sys.addaudithook(hook)
options["report"] = lambda line: print(left, flush=True)
"""


def test_killed_at_any_moment_it_resumes(whole, pack, tmp_path, compiler):  # noqa: F811
    """Again and again, most often while a checkpoint is being written, replaced or dropped."""
    config, chance = tiny.config(pack), random.Random(0)
    killed = 0
    for count in (10, 60, 120, 180):
        delay = chance.choice([0, 0, 0.001, 0.005])
        child = script(
            config, tmp_path, compiler, KILL.format(count=chance.randint(count // 2, count), delay=delay)
        )
        _, err = child.communicate(timeout=120)
        assert child.returncode in (0, -signal.SIGKILL), err
        assert "WARNING" not in err
        killed += child.returncode != 0
    assert killed >= 3
    assert run(config, tmp_path, resume=True).finished
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("file", ["best", "metrics.jsonl", "last"])
def test_killed_between_two_files_of_one_save(whole, pack, tmp_path, monkeypatch, file):
    """After validating step 6, just before the file is written."""

    class Killed(Exception):
        pass

    def save(self, which, step, tree):
        if (which, step) == (file, 6):
            raise Killed
        known_save(self, which, step, tree)

    def write(self, line):
        if file == "metrics.jsonl" and line["step"] == 6 and "nme" in line:
            raise Killed
        known_write(self, line)

    known_save, known_write = RunDirectory.save, Loop._write
    monkeypatch.setattr(RunDirectory, "save", save)
    monkeypatch.setattr(Loop, "_write", write)
    with pytest.raises(Killed):
        run(tiny.config(pack), tmp_path)
    monkeypatch.undo()
    run(tiny.config(pack), tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def scripted(monkeypatch, nmes):
    """Validations find these NMEs, one after the other."""
    nmes = iter(nmes)
    validate = Loop._validate
    monkeypatch.setattr(
        Loop,
        "_validate",
        lambda self, host: (nme := next(nmes), validate(self, host)[1] | {"nme": nme}),
    )


def test_the_best_stays_the_best_after_a_resume(pack, tmp_path, monkeypatch):
    scripted(monkeypatch, [9.0, 5.0, 7.0, 6.0])
    assert run(tiny.config(pack), tmp_path, stop_at=7).best_nme == 5.0
    outcome = run(tiny.config(pack), tmp_path, resume=True)
    assert outcome.finished and outcome.best_nme == 5.0
    assert load_run(tmp_path).step == 6


def test_a_best_that_was_never_settled_is_taken_back(pack, tmp_path, monkeypatch):
    """On hardware that does not repeat itself, what was killed may not come again: here 4.0 is gone for good."""
    scripted(monkeypatch, [5.0, 4.0])
    save = RunDirectory.save

    def killed(self, which, step, tree):
        if (which, step) == ("last", 6):
            raise KeyboardInterrupt
        save(self, which, step, tree)

    monkeypatch.setattr(RunDirectory, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tiny.config(pack), tmp_path)
    assert load_run(tmp_path).step == 6
    monkeypatch.undo()
    scripted(monkeypatch, [8.0, 4.5, 6.0])
    assert run(tiny.config(pack), tmp_path, resume=True, stop_at=6).best_nme == 5.0
    assert load_run(tmp_path).step == 3
    assert run(tiny.config(pack), tmp_path, resume=True).best_nme == 4.5
    assert load_run(tmp_path).step == 9


def test_a_run_stopped_before_its_first_validation_has_a_last_checkpoint_alone(pack, tmp_path):
    run(tiny.config(pack), tmp_path, stop_at=2)
    with pytest.raises(LapjaxError, match="no best checkpoint yet: .* or ask for its last checkpoint"):
        load_run(tmp_path)
    assert load_run(tmp_path, which="last").step == 2


def test_a_half_written_log_line(whole, pack, tmp_path):
    run(tiny.config(pack), tmp_path, stop_at=7)
    with open(tmp_path / "metrics.jsonl", "a") as lines:
        lines.write('{"steps": 12, "step": 8, "lo')
    run(tiny.config(pack), tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_lines_of_a_run_that_never_saved(whole, pack, tmp_path):
    """Killed before its first checkpoint it starts over, and so does its log."""
    run(tiny.config(pack), tmp_path, stop_at=0)
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss": 1.0}\n')
    run(tiny.config(pack), tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_nan_names_the_step_and_keeps_the_last_good_checkpoint(pack, tmp_path, programs, monkeypatch):
    """The eighth step's loss is NaN, and with it all parameters, however seldom it is looked at."""
    programs.clear()
    monkeypatch.setattr(
        step, "target_scale", lambda loss, step, total: jnp.where(step == 7, jnp.nan, loss.target_scale)
    )
    problem = "not finite at step 8: the last good checkpoint, of step 6, is in .*last"
    for log_every in (1, 5, 100):
        out = tmp_path / str(log_every)
        with pytest.raises(LapjaxError, match=problem):
            run(tiny.config(pack), out, log_every=log_every)
        for which in ("best", "last"):
            trained = load_run(out, which=which)
            assert trained.step <= 6
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.variables))
        assert "NaN" not in (out / "metrics.jsonl").read_text()
        assert all(line["step"] < 8 for line in log(out))
    programs.clear()


def test_a_learning_rate_that_diverges(pack, tmp_path):
    config = tiny.config(pack, optimiser={"learning_rate": 1e38, "clip": 0.0}, evaluate_every=2.0)
    with pytest.raises(LapjaxError, match=r"not finite at step \d+: no checkpoint had been saved before it"):
        run(config, tmp_path)
    assert not (tmp_path / "last").exists()


def test_a_discriminator_that_diverges_alone_is_not_saved(pack, tmp_path, monkeypatch):
    one = MODULE.Placement.one

    def lost(self, tree):
        host = one(self, tree)
        if host.step < 6:
            return host
        spoilt = jax.tree.map(lambda leaf: leaf * np.nan, host.discriminator.params)
        return host.replace(discriminator=host.discriminator.replace(params=spoilt))

    monkeypatch.setattr(MODULE.Placement, "one", lost)
    with pytest.raises(LapjaxError, match="not finite at step 6: the last good checkpoint, of step 3"):
        run(tiny.config(pack, game={"adversary": True}), tmp_path, log_every=1)


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_at_the_log(whole, pack, tmp_path, monkeypatch):
    run(tiny.config(pack), tmp_path, stop_at=5)
    monkeypatch.setattr(loop, "open", full, raising=False)
    with pytest.raises(
        LapjaxError, match="cannot write .*metrics.jsonl: No space left on device; free some space"
    ):
        run(tiny.config(pack), tmp_path, resume=True)
    monkeypatch.undo()
    run(tiny.config(pack), tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_a_full_disk_stops_at_a_checkpoint(whole, pack, tmp_path, monkeypatch):
    run(tiny.config(pack), tmp_path, stop_at=5)
    mkdir = pathlib.Path.mkdir

    def no_more(self, *args, **options):
        return full() if str(tmp_path) in str(self) and "tmp" in self.name else mkdir(self, *args, **options)

    monkeypatch.setattr(pathlib.Path, "mkdir", no_more)
    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(
        LapjaxError, match="cannot save a checkpoint .*free some space and continue with --resume"
    ):
        run(tiny.config(pack), tmp_path, resume=True)
    monkeypatch.undo()
    with contextlib.closing(RunDirectory(tmp_path)) as place:
        assert place.latest("last") == 5
    run(tiny.config(pack), tmp_path, resume=True)
    assert_same_run(whole, tmp_path)


def test_one_training_at_a_time(pack, tmp_path):
    refused = []

    def again(line):
        with pytest.raises(LapjaxError, match="in use by another training") as caught:
            run(tiny.config(pack), tmp_path, resume=True)
        refused.append(caught)

    run(tiny.config(pack), tmp_path, report=again, stop_at=3, log_every=100)
    assert refused


def test_another_run_is_not_resumed(whole, pack, tmp_path):
    with pytest.raises(LapjaxError, match="holds a run already"):
        run(tiny.config(pack), whole)
    with pytest.raises(LapjaxError, match=r"differs in optimiser.learning_rate \(0.001 there, 0.5 now\)"):
        run(tiny.config(pack, optimiser={"learning_rate": 0.5}), whole, resume=True)


def test_other_faces_under_the_same_name_are_another_run(tmp_path):
    path = tiny.write_pack(tmp_path)
    run(tiny.config(path), tmp_path / "run", stop_at=0)
    data.write_pack(path, {"train": tiny.samples(20), "validation": tiny.samples(7, "validation")})
    with pytest.raises(LapjaxError, match=r"data.labelled \(24 there, 20 now\)"):
        run(tiny.config(path), tmp_path / "run", resume=True)


def test_starting_from_a_trained_run(whole, pack, tmp_path):
    trained = load_run(whole)
    config = tiny.config(pack, start=str(whole))
    assert run(config, tmp_path / "a", stop_at=0).step == 0
    run(config, tmp_path / "a", resume=True)
    info = RunDirectory(tmp_path / "a").read()[2]
    assert info["start_terms"] == trained.terms
    losses = {
        name: json.loads((place / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        for name, place in (("from it", tmp_path / "a"), ("fresh", whole))
    }
    assert losses["from it"] < losses["fresh"]


def test_starting_where_one_cannot(whole, pack, tmp_path):
    for changes, problem in [
        ({"start": str(tmp_path / "none")}, "no file or run directory .*none"),
        (
            {"start": str(whole), "model": {"network": "fast"}},
            "cannot start from .*: it is of another network",
        ),
        (
            {"start": str(whole), "model": {"width": 1 / 32}},
            "Conv_0.bias has shape .*model.channels and model.width",
        ),
    ]:
        with pytest.raises(LapjaxError, match=problem):
            run(tiny.config(pack, **changes), tmp_path / "b")
        assert not (tmp_path / "b").exists()


def test_learning_the_heatmaps_of_a_trained_run(whole, pack, tmp_path):
    semi = {"method": "heatmaps", "models": (str(whole),)}
    config = tiny.config(pack, semi=semi)
    run(config, tmp_path / "a", stop_at=6)
    run(config, tmp_path / "a", resume=True)
    info = RunDirectory(tmp_path / "a").read()[2]
    assert info["teacher_terms"] == load_run(whole).terms
    # Who starts as the teacher makes its heatmaps already, but for the batch.
    same = override(config, start=str(whole), optimiser={"learning_rate": 1e-9})
    run(same, tmp_path / "b", log_every=1)
    far, near = (tiny.log(tmp_path / each)[0]["semi_loss"] for each in "ab")
    assert abs(near) < 1e-4 < far


def test_heatmaps_that_cannot_be_learned(whole, pack, tmp_path):
    semi = {"method": "heatmaps", "models": (str(whole),)}
    five = tiny.write_pack(tmp_path, scheme="five")
    for config, problem in [
        (
            tiny.config(pack, semi=semi | {"models": (str(whole), str(tmp_path / "none"))}),
            "no file or run directory .*none",
        ),
        (tiny.config(pack, semi=semi, model={"crop": 1.25}), "has model.crop 1.4 and this run 1.25"),
        (tiny.config(pack, semi=semi, model={"network": "fast"}), "has model.stride 1 and this run 4"),
        (tiny.config(five, semi=semi), "is of the scheme eyes and .* of five"),
    ]:
        with pytest.raises(LapjaxError, match=problem):
            run(config, tmp_path / "b")
        assert not (tmp_path / "b").exists()


def hide_an_eye(samples):
    visible = samples.visible.copy()
    visible[2, 0] = False
    return dataclasses.replace(samples, visible=visible)


BAD = {
    "no landmarks": (
        {"train": tiny.samples(8, scheme="none")},
        {},
        "has no landmarks: train on a labelled set",
    ),
    "narrow chips": ({"train": tiny.samples(8, factor=1.2)}, {}, "crops 1.4 landmark boxes .* show 1.2"),
    "no validation": ({"train": tiny.samples(8)}, {}, "no split 'validation'"),
    "hidden eye": (
        {"train": tiny.samples(8), "validation": hide_an_eye(tiny.samples(7))},
        {},
        "split validation: image 2: an eye landmark is not visible",
    ),
    "unlabelled": (
        {"train": tiny.samples(8), "validation": tiny.samples(7)},
        {"game": {"adversary": True}},
        "no split 'unlabelled'",
    ),
    "fewer labelled": (
        {"train": tiny.samples(8), "validation": tiny.samples(7)},
        {"train_limit": 9},
        "has 8 faces in its split train, fewer than the 9 .*: name a larger set, or say --train-limit 8",
    ),
    "fewer unlabelled": (
        {
            "train": tiny.samples(8),
            "validation": tiny.samples(7),
            "unlabelled": tiny.samples(5, scheme="none"),
        },
        {"game": {"adversary": True}, "unlabelled_limit": 70},
        "has 5 faces in its split unlabelled, fewer than the 70 .*--unlabelled-limit 5",
    ),
    "labels of nobody": (
        {
            "train": tiny.samples(8),
            "validation": tiny.samples(7),
            "unlabelled": tiny.samples(5, scheme="none"),
        },
        {"semi": {"method": "labels"}},
        "has no labels of trained models: write some with `lapjax label RUN",
    ),
    "labels of another scheme": (
        {
            "train": tiny.samples(8),
            "validation": tiny.samples(7),
            "unlabelled": dataclasses.replace(
                tiny.samples(5, scheme="five"), scale=np.ones((5, 5), np.float32)
            ),
        },
        {"semi": {"method": "labels"}},
        "labelled by the scheme five and .* by eyes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_refused_before_anything_is_written(tmp_path, case):
    splits, changes, problem = BAD[case]
    data.write_pack(tmp_path / "bad.npz", splits)
    with pytest.raises(LapjaxError, match=problem):
        run(tiny.config(tmp_path / "bad.npz", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()
