"""An experiment goes on where it was left, keeps each record once, and reads a test set only when it is told to."""

import csv
import dataclasses
import json
import shutil
import signal
import subprocess
import sys

import jax
import pytest
import tiny
from jax.experimental.compilation_cache import compilation_cache
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax import data
from lapjax.checkpoints.run import load_run
from lapjax.config import override
from lapjax.errors import LapjaxError
from lapjax.evaluation.evaluate import evaluate
from lapjax.experiments import collect, grids, reproduce
from lapjax.experiments import trials as cells_module
from lapjax.experiments.grids import Cell
from lapjax.experiments.records import Place, read_results
from lapjax.files import holding


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """A labelled pack, and one of faces without labels."""
    folder = tmp_path_factory.mktemp("packs")
    splits = {
        "train": tiny.samples(8),
        "validation": tiny.samples(5, "validation"),
        "test": tiny.samples(6, "test"),
    }
    data.write_pack(folder / "faces.npz", splits)
    data.write_pack(folder / "others.npz", {"train": tiny.samples(6, scheme="none")})
    return folder / "faces.npz", folder / "others.npz"


def cells(make):
    """A teacher and its student, and one that is not trained unless it is named."""
    base = tiny.config(make.source.dataset, unlabelled=None, epochs=1.0, seed=make.seed)
    told = {"unlabelled": make.source.unlabelled, "unlabelled_limit": 6, "unlabelled_split": "train"}
    return [
        make.cell("alone", [("alone", "x")], base),
        make.cell(
            "student",
            [("student", "x")],
            override(base, **told, semi={"method": "labels"}),
            teacher=f"alone-s{make.seed}",
        ),
        make.cell("rare", [("rare", "x")], override(base, loss={"name": "sam"}), extra=True),
    ]


@pytest.fixture
def run(packs, tmp_path, monkeypatch):
    monkeypatch.setitem(grids.EXPERIMENTS, "two", cells)
    said = []

    def call(**options):
        where = {"results": tmp_path / "results", "runs": tmp_path / "runs"}
        samples = {"dataset": packs[0], "unlabelled": packs[1], "seeds": 1}
        return reproduce.reproduce("two", **(where | samples | options), report=said.append)

    call.said, call.results, call.runs = said, tmp_path / "results", tmp_path / "runs" / "two"
    return call


@pytest.fixture(scope="module")
def finished(packs, tmp_path_factory):
    """Both cells, trained once."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(grids.EXPERIMENTS, "two", cells)
        where = {"results": place / "results", "runs": place / "runs"}
        done = reproduce.reproduce(
            "two", **where, dataset=packs[0], unlabelled=packs[1], seeds=1, report=lambda line: None
        )
    assert done == reproduce.Progress(2, 2, 0, None)
    return place


def records(place):
    return json.loads((place / "results" / "two.json").read_text())["cells"]


def test_records_are_the_errors_of_the_runs(finished, packs):
    found = records(finished)
    assert list(found) == ["alone-s0", "student-s0"]
    for name, record in found.items():
        trained = load_run(finished / "runs" / "two" / name)
        samples = data.load_dataset(packs[0], "validation")
        wanted = evaluate(trained, samples)
        assert record["validation"]["nme"] == pytest.approx(wanted["nme"]["inter_ocular"], rel=1e-6)
        assert (record["seed"], record["labelled"], record["steps"]) == (0, 8, 2)
        assert record["seconds"] > 0 and record["commit"] and record["machine"]["devices"] >= 1
    assert found["student-s0"]["unlabelled"] == 6 and found["student-s0"]["teacher"] == "alone-s0"


def test_the_errors_of_the_images_are_beside_them(finished):
    with open(finished / "results" / "two-validation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"validation/{i}" for i in range(5)]
    for name, record in records(finished).items():
        mean = sum(float(row[name]) for row in rows) / len(rows)
        assert mean == pytest.approx(record["validation"]["nme"], abs=1e-3)


def test_a_student_learned_what_its_teacher_says(finished):
    trained = load_run(finished / "runs" / "two" / "student-s0")
    assert trained.config.unlabelled.endswith("student-s0.told.npz")
    assert not list((finished / "runs" / "two").glob("*.npz"))  # not kept
    assert "others" in records(finished)["student-s0"]["config"]["unlabelled"]


def test_what_is_done_is_not_done_again(finished, run, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = (run.results / "two.json").read_bytes()
    assert run() == reproduce.Progress(2, 2, 0, None)
    assert run.said == [] and (run.results / "two.json").read_bytes() == before


def test_out_of_time_it_stops_and_goes_on(run):
    """In whatever moment: before the first step here, after it below."""
    done = run(minutes=1e-9, only="alone*")
    assert (done.done, done.stopped) == (0, signal.SIGALRM)
    assert not (run.results / "two.json").exists()
    assert run(only="alone*").done == 1


def test_a_cell_that_was_cut_off_goes_on(run, monkeypatch):
    train = cells_module.train_together
    monkeypatch.setattr(
        cells_module,
        "train_together",
        lambda *args, **options: train(
            *args, **options | {"stop": lambda step: signal.SIGTERM if step == 1 else None}
        ),
    )
    done = run(only="alone*")
    assert (done.done, done.stopped) == (0, signal.SIGTERM)
    assert (run.runs / "alone-s0" / "last").is_dir() and not (run.results / "two.json").exists()
    monkeypatch.setattr(cells_module, "train_together", train)
    assert run(only="alone*").done == 1
    (record,) = read_results(run.results / "two.json")["cells"].values()
    assert record["resumed"] and record["steps"] == 2


def test_seeds_at_once(run):
    """Those that stand at the same step; a student's teachers first."""
    assert run(seeds=2, only="alone-s1", minutes=0).stopped == signal.SIGALRM
    assert run(seeds=2, together=True) == reproduce.Progress(4, 4, 0, None)
    assert [line for line in run.said if " of 4" in line] == [
        "alone-s0 alone-s1, 2 of 4",
        "student-s0 student-s1, 4 of 4",
    ]
    found = read_results(run.results / "two.json")["cells"]
    assert {name: record["together"] for name, record in found.items()} == dict.fromkeys(found, 2)
    assert found["alone-s0"]["seed"] == 0 and found["alone-s1"]["seed"] == 1
    assert found["alone-s0"]["validation"]["nme"] != found["alone-s1"]["validation"]["nme"]
    assert not list(run.runs.glob("*.npz"))


def test_seeds_share_their_programs(run, packs, tmp_path, monkeypatch):
    """Told where, the compiler keeps them there; else under the run directories, by machine."""
    assert run(seeds=1, only="alone*").done == 1 and not (tmp_path / "runs" / ".compiled").exists()
    folder, known = tmp_path / "other", jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        counts = []
        for seed in range(3):
            where = {"results": folder / "results", "runs": folder / "runs"}
            assert run(seeds=3, only=f"alone-s{seed}", **where).done == 1
            assert jax.config.jax_compilation_cache_dir is None
            counts.append(len(list((folder / "runs" / ".compiled").glob("*/*-cache"))))
    finally:
        jax.config.update("jax_compilation_cache_dir", known)
        compilation_cache.reset_cache()
    assert counts[0] and counts[1] == counts[2]


def test_a_seed_that_is_ahead_goes_on_alone(run, monkeypatch):
    train = cells_module.train_together

    def one_step(*args, **options):
        return train(*args, **options | {"stop": lambda step: signal.SIGTERM if step == 1 else None})

    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "train_together", one_step)
        assert run(seeds=2, only="alone-s1").stopped == signal.SIGTERM
    assert run(seeds=2, only="alone*", together=True).done == 2
    found = read_results(run.results / "two.json")["cells"]
    assert {record["together"] for record in found.values()} == {1}


def test_on_a_cpu_and_for_larger_networks_one_by_one(run, monkeypatch):
    source = grids.Source("x", 8, "y", samples=6)
    first, *others = (cell for cell in grids.grid("two", source, seeds=3) if "alone" in cell.name)
    for network in ("poster", "fast"):
        config = override(first.config, model={"network": network})
        cell = dataclasses.replace(first, config=config)
        for platform, devices in [("cpu", 1), ("gpu", 1), ("gpu", 2)]:
            monkeypatch.setattr(cells_module.jax, "default_backend", lambda platform=platform: platform)
            monkeypatch.setattr(cells_module.jax, "device_count", lambda devices=devices: devices)
            found = cells_module.companions(cell, [cell, *others], None)
            assert len(found) == (3 if (network, platform, devices) == ("fast", "gpu", 1) else 1)


def test_a_cell_that_another_process_holds_is_left_to_it(run):
    run.runs.mkdir(parents=True)
    with holding(run.runs / "alone-s0.lock") as ours:
        assert ours
        assert run() == reproduce.Progress(0, 2, 1, None)  # its student has to wait
    assert run.said == []


def test_records_of_two_processes_add_up(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    places = [Place("two", "small", tmp_path / "results", tmp_path / "runs", None) for _ in "ab"]
    for name, place in zip("ab", places, strict=True):
        place.keep(name, {"seed": 1}, {"validation": {"validation/0": 1.5, f"validation/{name}": 2.0}})
    assert records(tmp_path).keys() == {"alone-s0", "student-s0", "a", "b"}
    with open(tmp_path / "results" / "two-validation.csv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows["validation/0"]["a"] == rows["validation/0"]["b"] == "1.500"
    assert rows["validation/a"]["a"] == "2.000" and rows["validation/a"]["alone-s0"] == ""


def test_cells_by_name_with_their_teachers(run):
    chosen = grids.choose(grids.grid("two", grids.Source("x", 8, "y", samples=6), seeds=2), "student-s1")
    assert [cell.name for cell in chosen] == ["alone-s1", "student-s1"]
    every = grids.choose(grids.grid("two", grids.Source("x", 8, "y", samples=6), seeds=1), None)
    assert [cell.name for cell in every] == ["alone-s0", "student-s0"]
    with pytest.raises(LapjaxError, match="no cell is called nobody: there are alone, "):
        run(only="nobody")


def test_a_test_split_is_read_once_and_logged(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    where = {"results": tmp_path / "results", "runs": tmp_path / "runs", "report": lambda line: None}
    assert collect.measure("two", "test", **where) == 2
    log = [json.loads(line) for line in (tmp_path / "results" / "test_reads.jsonl").read_text().splitlines()]
    assert [(line["run"], line["split"], line["by"]) for line in log] == [
        (name, "test", "reproduce two") for name in ("alone-s0", "student-s0")
    ]
    assert all(record["test"]["images"] == 6 for record in records(tmp_path).values())
    assert collect.measure("two", "test", **where) == 0
    assert len((tmp_path / "results" / "two-test.csv").read_text().splitlines()) == 7


def test_records_come_without_networks(finished, run, tmp_path):
    """A clone has what was published: who trains a student there trains its teacher again first, once."""
    shutil.copytree(finished / "results", run.results)
    published = records(tmp_path)
    assert run() == reproduce.Progress(2, 2, 0, None) and run.said == []  # nothing is left

    place = Place("two", "small", run.results, tmp_path / "runs", None)
    where = {"results": run.results, "runs": tmp_path / "runs", "report": run.said.append}
    assert collect.measure("two", "test", **where) == 0
    assert "lacks 2 of the networks, not measured on test: alone-s0, student-s0" in run.said.pop()
    assert not (run.results / "test_reads.jsonl").exists()
    out = tmp_path / "out"
    assert {file.name for file in collect.leave("two", out, results=run.results, runs=place.runs)} == {
        "two.json",
        "two-validation.csv",
    }

    place.keep("alone-s0", {"test": {"nme": 1.0}}, {})  # of the network that is gone
    only_alone = {"cells": {"alone-s0": records(tmp_path)["alone-s0"]}}
    (run.results / "two.json").write_text(json.dumps(only_alone))
    assert run(minutes=1e-9).stopped == signal.SIGALRM  # before its first step, and goes on
    assert run() == reproduce.Progress(2, 2, 0, None)
    assert [line for line in run.said if " of 2" in line] == [
        "alone-s0, 1 of 2",
        "alone-s0, 1 of 2",
        "student-s0, 2 of 2",
    ]
    again = records(tmp_path)
    assert again["alone-s0"]["validation"] == published["alone-s0"]["validation"]
    assert again["student-s0"]["validation"] == published["student-s0"]["validation"]
    assert "test" not in again["alone-s0"]
    assert collect.measure("two", "test", **where) == 2


def test_what_is_taken_from_a_borrowed_machine(finished, tmp_path):
    where = {"results": finished / "results", "runs": finished / "runs"}
    files = collect.leave("two", tmp_path / "out", most=3, **where)
    found = records(finished)
    best = min(found, key=lambda name: found[name]["validation"]["nme"])
    assert sorted(file.name for file in files) == sorted([f"{best}.npz", "two.json", "two-validation.csv"])
    taken, own = load_run(tmp_path / "out" / f"{best}.npz"), load_run(finished / "runs" / "two" / best)
    tiny.assert_same(taken.variables, own.variables)
    assert (taken.config, taken.scheme, taken.step, taken.info) == (
        own.config,
        own.scheme,
        own.step,
        own.info,
    )
    assert (tmp_path / "out" / "two.json").read_bytes() == (finished / "results" / "two.json").read_bytes()
    with pytest.raises(LapjaxError, match="has no finished cell"):
        collect.leave("two", tmp_path / "out", results=tmp_path)


def test_bad_requests(run, packs, tmp_path):
    with pytest.raises(LapjaxError, match="has no split train: name a labelled set"):
        data.write_pack(tmp_path / "x.npz", {"other": tiny.samples(3)})
        run(dataset=tmp_path / "x.npz")
    with pytest.raises(LapjaxError, match="two.json has no finished cell"):
        collect.measure("two", "test", results=run.results, runs=run.runs)
    (tmp_path / "file").write_text("")
    with pytest.raises(LapjaxError, match="cannot make .*file.*choose other folders"):
        run(results=tmp_path / "file")
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(LapjaxError, match="it has no cells"):
        read_results(tmp_path / "bad.json")


def test_the_module_is_a_program_too(packs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(grids.EXPERIMENTS, "two", cells)
    monkeypatch.chdir(tmp_path)
    samples = ["--dataset", str(packs[0]), "--unlabelled", str(packs[1])]
    assert reproduce.main(["two", *samples, "--seeds", "1", "--only", "alone*"]) == 0
    assert "1 of 1 cells are done" in capsys.readouterr().out
    assert reproduce.main(["two", "--measure", "test"]) == 0
    assert (tmp_path / "results" / "two-test.csv").exists()
    assert reproduce.main(["tow"]) == 2
    assert "reproduce: " in capsys.readouterr().err


def test_cells_are_frozen():
    with pytest.raises(AttributeError):
        Cell("a", (), None).name = "b"


def test_a_machine_with_jax_and_little_else_runs_it(finished, packs, tmp_path):
    """The imports inside functions too: it measures a finished cell and takes its weights along."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    missing = "tyro beartype grain tensorflow_datasets array_record onnx onnxruntime matplotlib scipy"
    code = f"""
import sys
sys.modules.update(dict.fromkeys({missing.split()!r}))
from lapjax.experiments import collect, reproduce
from lapjax.checkpoints.run import load_run
where = {{"results": "results", "runs": "runs"}}
assert collect.measure("two", "test", **where) == 2
files = collect.leave("two", "out", **where)
assert load_run(files[0]).info["labelled"] == 8
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_faces_are_read_once_for_all_cells(run, packs, monkeypatch):
    """Every set of a cell, twice each, the unlabelled one too."""
    asked = []
    load = data.load_dataset

    def counted(name, split, **options):
        asked.append((str(name), split, options.get("limit"), options.get("encoded")))
        return load(name, split, **options)

    def game(make):
        base = tiny.config(make.source.dataset, epochs=1.0, seed=make.seed, game={"adversary": True})
        base = override(base, unlabelled=make.source.unlabelled, unlabelled_split="train", unlabelled_limit=6)
        return [make.cell("game", [("game", "x")], base)]

    monkeypatch.setitem(grids.EXPERIMENTS, "two", game)
    monkeypatch.setattr(reproduce.data, "load_dataset", counted)
    assert run(seeds=2).done == 2
    train = [each for each in asked if each[1] == "train"]
    assert len(train) == len(set(train)) == 4
