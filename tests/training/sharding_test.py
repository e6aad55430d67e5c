"""One step under every placement on four simulated devices, and one training by two processes on this machine."""

import os
import pathlib
import pickle
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from lapjax.checkpoints.run import RunDirectory
from lapjax.errors import LapjaxError
from lapjax.training import sharding

SCRIPT = pathlib.Path(__file__).parents[1] / "placements.py"
CASES = ["poster, supervised", "batch norm, supervised", "batch norm, game"]
LIMIT_S = 500  # a minute or two on a machine that does nothing else


def processes(*commands, devices, **environment):
    """Runs scripts beside each other, each with simulated devices; none outlives the test."""
    settings = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    environment = os.environ | settings | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | environment
    started = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *map(str, command)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        for process in started:
            said, _ = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    out = tmp_path_factory.mktemp("steps") / "found"
    processes(["steps", out], devices=4)
    return pickle.loads(out.read_bytes())


def assert_close(found, expected, *, rounding=0.0):
    """Equal to 1e-5 of each leaf's largest value, and to `rounding`."""
    for name, value in expected.items():
        atol = 1e-5 * np.abs(value).max(initial=0) + rounding
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=atol, err_msg=name)


def moments(state, player, moment):
    """The first moments of one player's Adam, or the roots of its second ones: in proportion to its gradient."""
    found = {name: leaf for name, leaf in state.items() if f".{player}." in name and f".{moment}[" in name}
    return {name: np.sqrt(leaf) if moment == "nu" else leaf for name, leaf in found.items()}


def assert_gradients_close(found, expected, players):
    """By Adam's moments, not by parameters: those hide a gradient that is too large by the number of devices."""
    for player in players:
        for moment in ("mu", "nu"):
            one = moments(expected, player, moment)
            largest = max(np.abs(leaf).max() for leaf in one.values())
            assert largest > 1e-6
            # Some biases change nothing, so that their gradients are what rounding leaves of the others.
            assert_close(moments(found, player, moment), one, rounding=1e-5 * largest)


@pytest.mark.parametrize("kind", ["jit", "pmap"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_and_statistics_are_those_of_one_device(steps, case, kind):
    found, expected = steps[case, kind], steps[case, "one"]
    assert found["state"].keys() == expected["state"].keys()
    assert_close(found["metrics"], expected["metrics"])
    assert_gradients_close(
        found["state"], expected["state"], ["generator", "discriminator"][: 1 + ("game" in case)]
    )
    statistics = {name: leaf for name, leaf in expected["state"].items() if ".batch_stats" in name}
    assert len(statistics) == (6 if "batch norm" in case else 0)
    assert_close(found["state"], statistics)
    assert found["state"][".step"] == 4


@pytest.mark.parametrize("kind", ["jit", "pmap"])
@pytest.mark.parametrize("case", CASES)
def test_every_device_works_on_its_part_and_has_the_same_state(steps, case, kind):
    assert steps[case, kind]["copies"] == {4} and steps[case, kind]["agreed"]
    assert steps[case, kind]["reduces"] and not steps[case, "one"]["reduces"]


@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_streamed_batches_are_placed_like_resident_ones(steps, kind):
    found, expected = steps["streamed", kind], steps["batch norm, supervised", "one"]
    assert_close(found["metrics"], expected["metrics"])
    assert_gradients_close(found["state"], expected["state"], ["generator"])


@pytest.mark.parametrize("kind", ["jit", "pmap"])
def test_a_batch_that_does_not_divide_is_refused(steps, kind):
    assert steps["refused", kind] == (
        "unlabelled_batch_size 6 does not divide over 4 devices: choose a multiple"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training by two processes of one device each, and by one process of two."""
    folder = tmp_path_factory.mktemp("trained")
    pack = tiny.write_pack(folder)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    for name in ("two", "one"):
        (folder / name).mkdir()
    two = [["train", folder / "two", pack, coordinator, 2, index] for index in range(2)]
    processes(*two, devices=1, **cache)
    processes(["train", folder / "one", pack], devices=2, **cache)
    return folder


def found(folder, count, index):
    return pickle.loads((folder / {1: "one", 2: "two"}[count] / f"found-{count}-{index}").read_bytes())


def checkpoint(run, which="last"):
    step, tree = RunDirectory(run).restore(which)
    return step, {
        jax.tree_util.keystr(p): np.asarray(v) for p, v in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_two_processes_train_what_one_does(trained):
    for which in ("last", "best"):
        (step, two), (same_step, one) = (
            checkpoint(trained / name / "whole", which) for name in ("two", "one")
        )
        assert step == same_step and two.keys() == one.keys()
        for name, leaf in one.items():
            np.testing.assert_allclose(two[name], leaf, rtol=1e-4, atol=1e-6, err_msg=name)
    outcomes = [found(trained, 2, index)["whole"] for index in range(2)] + [found(trained, 1, 0)["whole"]]
    assert all(outcome.finished and outcome.steps == 12 for outcome in outcomes)
    assert outcomes[0].best_nme == outcomes[1].best_nme == pytest.approx(outcomes[2].best_nme, rel=1e-4)


def test_the_first_process_alone_keeps_the_run(trained):
    listed = {
        name: sorted(path.name for path in (trained / name / "whole").iterdir()) for name in ("one", "two")
    }
    assert listed["one"] == listed["two"]
    logs = {name: (trained / name / "whole" / "metrics.jsonl").read_text().splitlines() for name in listed}
    assert len(logs["one"]) == len(logs["two"]) == found(trained, 2, 0)["reported"]
    assert found(trained, 2, 1)["reported"] == 0


def test_processes_stop_together_and_resume(trained):
    for index in range(2):
        stopped, resumed = (found(trained, 2, index)[name] for name in ("stopped", "resumed"))
        assert (stopped.step, stopped.stopped) == (6, 15) and resumed.finished
        assert resumed.best_nme == pytest.approx(found(trained, 2, index)["whole"].best_nme, rel=1e-6)
    whole, parts = (checkpoint(trained / "two" / name)[1] for name in ("whole", "parts"))
    for name, leaf in whole.items():
        np.testing.assert_array_equal(parts[name], leaf, err_msg=name)


def test_what_the_first_process_cannot_do_every_process_says(trained):
    for index in range(2):
        said = found(trained, 2, index)
        assert said["failed"] == "process 0 cannot: “so”"
        assert "holds a run already" in said["again"]
        assert "pmap is for one process" in said["pmap"]
        assert said["shared"] == 7
        assert said["agreed"] == (1, None)


def test_part_of_the_place_of_a_process_is_refused():
    with pytest.raises(LapjaxError, match="--coordinator HOST:PORT, --processes N and --process-index I"):
        sharding.start_processes("localhost:1234", 2)


def test_processes_that_cannot_meet_say_so(monkeypatch):
    def fail(*_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(
        LapjaxError, match=r"cannot join the other processes \(coordinator_address .*start all"
    ):
        sharding.start_processes()
