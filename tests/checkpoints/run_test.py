"""A run's directory is whole whatever happens to it, and says what is wrong with it."""

import errno
import fcntl
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

from lapjax import files
from lapjax.checkpoints.run import RunDirectory, load_run
from lapjax.config import override, to_dict
from lapjax.errors import LapjaxError
from lapjax.schemes import anonymous

CONFIG = tiny.config("tiny.npz")
INFO = {"labelled": 24, "chip_size": 48, "chip_factor": 1.8}
TREE = {"a": np.arange(5, dtype=np.float32), "empty": {}}


def opened(path, *, config=CONFIG, scheme=tiny.EYES, info=INFO, resume=False):
    return RunDirectory(path).open_for_training(config, scheme, info, resume=resume)


def make(path, config=CONFIG, steps=(3,)):
    """A run with a checkpoint of both kinds at each of the steps; its last state."""
    state = tiny.state(config)
    with opened(path, config=config) as run:
        for step in steps:
            run.save("best", step, state.average)
            run.save("last", step, state)
    return state


def steps(path, which):
    return sorted(int(item.name) for item in (path / which).iterdir())


def edit(path, change):
    """Changes a run's config.json."""
    content = json.loads((path / "config.json").read_text())
    change(content)
    (path / "config.json").write_text(json.dumps(content))


NETWORKS = {
    "poster": CONFIG,
    "fast": override(CONFIG, model={"network": "fast"}),
    "game": override(CONFIG, game={"adversary": True}),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_state_comes_back_as_it_was(tmp_path, network):
    """Empty subtrees (no D, no batch statistics) and optax's tuples included."""
    state = make(tmp_path, NETWORKS[network])
    with opened(tmp_path, config=NETWORKS[network], resume=True) as run:
        step, found = run.restore("last", state)
    assert step == 3
    tiny.assert_same(jax.tree.map(np.asarray, found), state)


@pytest.mark.parametrize("which", ["best", "last"])
@pytest.mark.parametrize("network", NETWORKS)
def test_load_run(tmp_path, network, which):
    state = make(tmp_path, NETWORKS[network])
    run = load_run(tmp_path, which=which)
    assert (run.config, run.scheme, run.step, run.info) == (NETWORKS[network], tiny.EYES, 3, INFO)
    tiny.assert_same(run.variables, state.average)
    assert bool(run.variables["batch_stats"]) == (network == "fast")


def test_last_keeps_one_and_best_the_one_before_too(tmp_path):
    make(tmp_path, steps=(3, 6, 9))
    assert steps(tmp_path, "last") == [9]
    assert steps(tmp_path, "best") == [6, 9]
    assert load_run(tmp_path).step == 9


def test_rewind_drops_what_lies_ahead(tmp_path):
    make(tmp_path, steps=(3, 6))
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 2}\n{"step": 3, "nme": 5}\n{"step": 4}\n{"step": 6, "n')
    with opened(tmp_path, resume=True) as run:
        run.rewind(3)
        assert run.latest("best") == 3
        run.save("best", 6, tiny.state(CONFIG).average)
    assert log.read_text() == '{"step": 2}\n{"step": 3, "nme": 5}\n'
    assert steps(tmp_path, "best") == [3, 6]


def test_rewind_before_there_is_anything(tmp_path):
    with opened(tmp_path) as run:
        run.rewind(0)
    assert {item.name for item in tmp_path.iterdir()} == {"run.lock", "config.json"}


def test_a_save_that_orbax_would_skip_is_refused(tmp_path):
    with opened(tmp_path) as run:
        run.save("last", 6, TREE)
        for step in (6, 5):
            with pytest.raises(LapjaxError, match=f"holds step 6 already, so step {step} is not saved"):
                run.save("last", step, TREE)


def test_unfinished_saves_are_cleared_by_the_next_training_alone(tmp_path):
    make(tmp_path)
    left = tmp_path / "last" / "7.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "last" / "3", left)
    assert load_run(tmp_path, which="last").step == 3
    assert left.is_dir()
    with opened(tmp_path, resume=True) as run:
        assert run.latest("last") == 3
        run.save("last", 7, TREE)
    assert steps(tmp_path, "last") == [7]


@pytest.fixture
def small_files():
    """A disk on which no file gets beyond 4 KB, the libraries' own files included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(tmp_path, request):
    with opened(tmp_path) as run:
        run.save("last", 1, TREE)
        request.getfixturevalue("small_files")
        noise = np.random.default_rng(0).random(100_000)
        with pytest.raises(LapjaxError, match="cannot save a checkpoint in .*last.*free some space"):
            run.save("last", 2, {"a": noise})
    with opened(tmp_path, resume=True) as run:
        step, tree = run.restore("last", TREE)
    assert step == 1
    tiny.assert_same(jax.tree.map(np.asarray, tree), TREE)


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def denied(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    "error", [OSError(), ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")]
)
def test_a_save_fails_in_one_line(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    with opened(tmp_path) as run:
        run.save("last", 1, TREE)
        monkeypatch.setattr(ocp.CheckpointManager, "save", fail)
        with pytest.raises(LapjaxError, match="cannot save") as caught:
            run.save("last", 2, TREE)
        assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_no_half_config(tmp_path, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with (
        pytest.raises(LapjaxError, match="config.json: No space left on device; free some space"),
        opened(tmp_path),
    ):
        pass
    assert {item.name for item in tmp_path.iterdir()} == {"run.lock"}
    monkeypatch.undo()
    with opened(tmp_path):
        pass


def test_a_full_disk_keeps_the_log(tmp_path, monkeypatch):
    make(tmp_path)
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 9}\n')
    with opened(tmp_path, resume=True) as run:
        monkeypatch.setattr(pathlib.Path, "write_text", full)
        with pytest.raises(LapjaxError, match="metrics.jsonl: No space"):
            run.rewind(3)
    assert log.read_text() == '{"step": 9}\n'


def test_a_read_only_place(tmp_path, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "mkdir", denied)
    with pytest.raises(LapjaxError, match="cannot write .*run: Permission denied; choose another --out"):
        opened(tmp_path / "run").__enter__()
    monkeypatch.undo()
    monkeypatch.setattr(files, "open", denied, raising=False)
    with pytest.raises(LapjaxError, match="Permission denied; choose another --out"):
        opened(tmp_path).__enter__()


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(LapjaxError, match="cannot write .*run: File exists"):
        opened(tmp_path / "run").__enter__()


def test_a_directory_is_used_by_one_training(tmp_path):
    with opened(tmp_path):
        for resume in (False, True):
            with pytest.raises(LapjaxError, match="in use by another training"):
                opened(tmp_path, resume=resume).__enter__()
        assert RunDirectory(tmp_path).read()[0] == CONFIG
    with opened(tmp_path, resume=True):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", full)
    with pytest.raises(LapjaxError, match="cannot lock .*another file system"):
        opened(tmp_path).__enter__()


def test_a_run_is_not_started_over(tmp_path):
    make(tmp_path)
    with pytest.raises(LapjaxError, match="holds a run already: continue it with --resume"):
        opened(tmp_path).__enter__()
    assert load_run(tmp_path).step == 3


def test_resuming_with_other_options_names_them(tmp_path):
    make(tmp_path)
    other = override(CONFIG, epochs=3.0, optimiser={"learning_rate": 0.5})
    with pytest.raises(LapjaxError) as caught:
        opened(
            tmp_path, config=other, scheme=anonymous(9), info=INFO | {"labelled": 23}, resume=True
        ).__enter__()
    for part in (
        "epochs (2.0 there, 3.0 now)",
        "optimiser.learning_rate (0.001 there, 0.5 now)",
        "the scheme (eyes there, points now)",
        "data.labelled (24 there, 23 now)",
    ):
        assert part in str(caught.value)
    assert "seed" not in str(caught.value)


def test_another_version_may_say_more_of_the_data(tmp_path):
    make(tmp_path)
    with opened(tmp_path, info=INFO | {"new": 1}, resume=True):
        pass


@pytest.mark.parametrize("resume", [False, True])
def test_an_empty_directory_starts(tmp_path, resume):
    # As a run killed before its config.json was in place leaves it.
    (tmp_path / "run.lock").write_text("")
    (tmp_path / ".config.json.part").write_text('{"con')
    with opened(tmp_path, resume=resume):
        pass
    assert {item.name for item in tmp_path.iterdir()} == {"run.lock", "config.json"}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("left", ["last", "best", "metrics.jsonl"])
def test_parts_of_a_run_without_its_config(tmp_path, left, resume):
    (tmp_path / left).mkdir()
    with pytest.raises(LapjaxError, match="no config.json"):
        opened(tmp_path, resume=resume).__enter__()


def test_resuming_where_there_are_other_things(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(LapjaxError, match="no config.json"):
        opened(tmp_path, resume=True).__enter__()


def test_not_a_run(tmp_path):
    with pytest.raises(LapjaxError, match="is not a run: it has no config.json"):
        load_run(tmp_path)
    with opened(tmp_path):
        pass
    for which in ("best", "last"):
        with pytest.raises(LapjaxError, match=f"no {which} checkpoint yet: train it further with --resume"):
            load_run(tmp_path, which=which)
    with pytest.raises(LapjaxError, match='unknown checkpoint \'first\': choose "best" or "last"'):
        load_run(tmp_path, which="first")


@pytest.mark.parametrize("which", ["best", "last"])
@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({"config": {"model": {"width": 1 / 32}}}, r"\(1,\) there and \(2,\)"),
        ({"config": {"model": {"network": "fast"}}}, "none there and"),
        ({"scheme": anonymous(3).to_dict()}, r"\(4,\) there and \(3,\)"),
    ],
)
def test_a_checkpoint_of_another_model(tmp_path, which, change, shape):
    make(tmp_path)

    def merge(content, change):
        for key, value in change.items():
            content[key] = merge(content[key], value) if key in ("config", "model") else value
        return content

    edit(tmp_path, lambda content: merge(content, change))
    with pytest.raises(LapjaxError, match=f"another model than its config.json: .*{shape}"):
        load_run(tmp_path, which=which)


def test_resuming_a_state_of_another_model(tmp_path):
    make(tmp_path)
    wide = override(CONFIG, model={"width": 1 / 32})
    with (
        opened(tmp_path, resume=True) as run,
        pytest.raises(LapjaxError, match="last is of another model than its config.json: .* has shape"),
    ):
        run.restore("last", tiny.state(wide))


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"config": {',
        "[]",
        "3",
        '{"config": [], "scheme": {}, "info": {}}',
        '{"scheme": {}, "info": {}}',
        "\udcff",
    ],
)
def test_a_damaged_config(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LapjaxError, match="config.json is damaged .*restore it or train again"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("place", "field"), [("config", "warp_factor"), ("model", "depth"), ("scheme", "wings")]
)
def test_a_config_of_a_newer_version(tmp_path, place, field):
    make(tmp_path)

    def add(content):
        (content["config"]["model"] if place == "model" else content[place])[field] = 1

    edit(tmp_path, add)
    with pytest.raises(LapjaxError, match=f"config.json cannot be used by this version.*unknown .*'{field}'"):
        load_run(tmp_path)
    with pytest.raises(LapjaxError, match=field):
        opened(tmp_path, resume=True).__enter__()


def test_a_config_of_an_older_version(tmp_path):
    """What it does not say is as it was: the default."""
    make(tmp_path)
    edit(tmp_path, lambda content: content["config"]["loss"].pop("anneal"))
    assert to_dict(load_run(tmp_path).config) == to_dict(CONFIG)


_DAMAGE = """
import pathlib, shutil, sys
import tiny
from lapjax import LapjaxError, load_run

whole, run = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1] + "-damaged")
right = load_run(whole).variables
damages = {
    "missing": lambda file: file.unlink(),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "noise": lambda file: file.write_bytes(b"\\x00\\xff" * file.stat().st_size),
}
for file in sorted(file for file in (whole / "best").rglob("*") if file.is_file()):
    for name, damage in damages.items():
        shutil.copytree(whole, run)
        damage(run / file.relative_to(whole))
        try:
            tiny.assert_same(load_run(run).variables, right)
            print("right", name, file.name)
        except LapjaxError as error:
            assert str(run / "best") in str(error) and "\\n" not in str(error), error
            print("refused", name, file.name)
        shutil.rmtree(run)
"""


def test_a_damaged_checkpoint(tmp_path):
    """Whichever of its files is damaged, and however: one clear error, or the whole model."""
    make(tmp_path / "run")
    # In a process of its own: what tensorstore reads in the background fails after the error has been raised.
    done = subprocess.run(
        [sys.executable, "-c", _DAMAGE, tmp_path / "run"],
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outcomes = [line.split()[0] for line in done.stdout.splitlines()]
    assert outcomes.count("refused") >= 3 and len(outcomes) % 3 == 0, done.stdout
