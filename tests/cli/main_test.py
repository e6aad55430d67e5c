import importlib
import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import lapjax
from lapjax import data, geometry
from lapjax.cli import main
from lapjax.cli.doors import COMMANDS
from lapjax.config import override
from lapjax.datasets.annotations import read_boxes
from lapjax.datasets.toy_faces import SPLITS, generate
from lapjax.metrics import scoring
from lapjax.recipes import RECIPES, get_recipe

# `lapjax.train` is the function; this is its module.
training = importlib.import_module("lapjax.training.train")


@pytest.fixture(autouse=True)
def _terminal(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LAPJAX_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys):
    """Runs a command that is to fail with status 2 and gives what it says."""

    def run(*argv):
        assert main.main(list(argv)) == 2
        out, err = capsys.readouterr()
        assert out == "" and "Traceback" not in err
        return " ".join(err.replace("│", " ").split())

    return run


@pytest.fixture
def trained(monkeypatch):
    """Training that trains nothing: `calls` holds what it was given, `outcome` what it is to return."""

    class Training:
        calls = []
        outcome = training.Outcome(step=9, steps=9, best_nme=4.5, stopped=None, seconds=100.0)

        def __call__(self, config, out, **options):
            self.calls.append((config, out, options))
            return self.outcome

    fake = Training()
    monkeypatch.setattr(training, "train", fake)
    return fake


def run(line):
    return main.main(shlex.split(line))


def small_toy(monkeypatch):
    for split in SPLITS:
        monkeypatch.setitem(SPLITS, split, 3)


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_help_is_a_page(capsys, argv):
    assert main.main(argv) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    assert len(page.splitlines()) <= 50
    assert all(f"\n  {command} " in page for command in COMMANDS)
    assert (
        page.index("I have a picture")
        < page.index("I have labelled images")
        < page.index("I have a paper to write")
    )


def test_help_shows_commands_that_parse(trained):
    for line in main._page().splitlines():
        if "  lapjax train " in line:
            assert run(line.partition("  #")[0].replace("lapjax", "")) == 0
    assert len(trained.calls) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help(capsys, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main.main([command, "--help"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    documented = inspect.getdoc(main.function_of(command))
    for name in inspect.signature(main.function_of(command)).parameters:
        assert name == "config" or f"\n  {name}: " in documented


def test_train_help_shows_the_values_of_the_recipe(capsys):
    main.main(["train", "toy-sam", "--help"])
    assert f"(default: {get_recipe('toy-sam').epochs})" in capsys.readouterr().out


def test_a_console_script_parses_the_process_arguments():
    done = subprocess.run(
        [sys.executable, "-m", "lapjax", "trian"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr == "lapjax: unknown command 'trian': did you mean 'train'?\n"


def test_the_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"lapjax {lapjax.__version__}\n"


@pytest.mark.parametrize("word", ["--versoin", "--print-completoin"])
def test_an_option_misspelt_before_any_command(capsys, word):
    assert run(word) == 2
    assert f"unknown option '{word}': did you mean '--" in capsys.readouterr().err


def test_an_experiment_misspelt(capsys):
    assert run("reproduce tabel1") == 2
    assert "no experiment 'tabel1': did you mean 'table1'?" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_tab_key_completes_commands_options_and_recipes(capsys, tmp_path):
    assert run("--print-completion bash") == 0
    (tmp_path / "lapjax.sh").write_text(capsys.readouterr().out)
    for words, expected in [
        ("tra", "train"),
        ("evaluate --pred", "--predictions"),
        ("train toy-s", "toy-sam"),
    ]:
        *before, last = words.split()
        script = (
            f"source lapjax.sh; COMP_WORDS=(lapjax {words}); COMP_CWORD={len(before) + 1}; "
            f"_shtab_lapjax lapjax {last} {before[-1] if before else 'lapjax'}; echo ${{COMPREPLY[@]}}"
        )
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
        )
        assert done.stdout.split() == [expected], done.stderr


def test_completion_for_a_shell_that_is_not_known(capsys):
    assert run("--print-completion ksh") == 2
    assert "name your shell, bash, zsh, " in capsys.readouterr().err


def test_the_help_needs_neither_jax_nor_tyro():
    code = "import sys; from lapjax.cli.main import main; main([]); assert not {'jax', 'tyro', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


def test_what_train_takes_reaches_train(trained, capsys):
    argv = (
        "train fast-medium-laplacekl --out run --epochs 40 --seed 1 --loss.direction q||p --model.crop 1.25"
    )
    argv += " --dataset pack.npz --unlabelled lfw --game.adversary --placement pmap --resume --data-dir data"
    assert run(argv) == 0
    config, out, options = trained.calls[0]
    assert config == override(
        get_recipe("fast-medium-laplacekl"),
        epochs=40.0,
        seed=1,
        loss={"direction": "q||p"},
        model={"crop": 1.25},
        dataset="pack.npz",
        unlabelled="lfw",
        game={"adversary": True},
        placement="pmap",
    )
    assert (str(out), options["resume"], str(options["data_dir"])) == ("run", True, "data")
    assert "run: 9 steps in 2 min, best validation NME 4.50 %" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_so(trained, capsys, number):
    trained.outcome = training.Outcome(step=4, steps=9, best_nme=np.inf, stopped=number, seconds=1.0)
    assert main.main(["train", "toy-sam", "--out", "run"]) == 128 + number
    assert capsys.readouterr().out == "saved at step 4 of 9, continue with --resume\n"


def test_several_processes_start_before_training(trained, monkeypatch):
    from lapjax.training import sharding

    monkeypatch.setattr(sharding, "start_processes", lambda *given: trained.calls.append(given))
    argv = "train toy-sam --out run --coordinator localhost:1234 --processes 2 --process-index 0"
    assert run(argv) == 0
    assert trained.calls[0] == ("localhost:1234", 2, 0) and len(trained.calls) == 2


def test_unknown_recipe_and_option_suggest_the_nearest(refused):
    assert "did you mean 'toy-sam'?" in refused("train", "toy-sma", "--out", "run")
    assert "--epochs" in refused("train", "toy-sam", "--out", "run", "--epocs", "3")
    assert "--model.input-size" in refused("train", "toy-sam", "--out", "run", "--model.inputsize", "32")
    assert "--split" in refused("evaluate", "run", "--splits", "test")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("train", "name the recipe first"),
        ("train --out run toy-sam", "name the recipe first"),
        ("train toy-sam", "--out"),
        ("train toy-sam --out run --epochs -3", "epochs -3.0 must be above 0"),
        ("train toy-sam --out run --batch-size many", "'many'"),
        (
            "train toy-sam --out run --loss.name sma",
            "choose one of laplace_kl, laplace_nll, gaussian_kl, sam",
        ),
        ("train toy-sam --out run --game.adversary", "the game needs unlabelled faces"),
        ("train toy-sam --out run --processes 2", "several processes need --coordinator"),
        ("train fast-small-sam --out run", "prepare it with `lapjax prepare`"),
        ("evaluate nowhere", "no file or run directory nowhere"),
        ("evaluate nowhere --json missing/out.json", "cannot write missing/out.json"),
        ("evaluate nowhere --json .", "is a folder"),
        ("evaluate nowhere --per-image missing/a.csv", "cannot write missing/a.csv"),
        ("evaluate nowhere --per-image a.txt", "a table of images is a .csv or a .json file"),
        ("evaluate", "the directory of a run, or --predictions FILE"),
        ("evaluate nowhere --predictions a.npz", "the directory of a run, or --predictions FILE"),
        ("evaluate nowhere --truth a.npz", "--truth goes with --predictions"),
        ("evaluate --predictions a.npz", "say with --scheme what the points are"),
        ("evaluate --predictions a.npz --scheme 300", "unknown scheme '300', did you mean '300w'"),
        ("evaluate --predictions a.npz --scheme 300w", "cannot read a.npz: No such file"),
        ("evaluate --predictions a.npz --scheme 300w --split test", "or --dataset NAME with --split NAME"),
        ("evaluate --predictions a.npz --dataset toy_faces", "or --dataset NAME with --split NAME"),
        ("evaluate --predictions a.npz --truth b.npz --dataset x --split y", "is --truth FILE, or --dataset"),
        ("evaluate --predictions a.npz --scheme 300w --checkpoint last", "--checkpoint goes with a run"),
        ("evaluate nowhere --threshold 8 -3", "thresholds 8, -3: give percentages above 0"),
        ("compare a.csv", "B"),
        ("compare a.csv b.csv", "cannot read a.csv: No such file"),
        ("compare a.csv b.csv --json missing/out.json", "cannot write missing/out.json"),
        ("compare a.csv b.csv --normaliser eyes", "inter_ocular"),
        ("label nowhere --dataset toy_faces --out a.csv", "--out a.csv must end in .npz"),
        ("label nowhere --dataset toy_faces --out missing/a.npz", "cannot write missing/a.npz"),
        ("label nowhere --dataset toy_faces --limit 1 --out a.npz", "no file or run directory nowhere"),
        ("train toy-sam --out run --semi.method labels", "semi.method labels needs more faces"),
        ("train toy-sam --out run --semi.method heatmaps --unlabelled x", "semi.models, whose they are"),
        ("prepare the300w", "no source folder given: say where the images are with --source DIR"),
        ("prepare the300 --source .", "the300w"),
        ("prepare the300w --source nowhere", "nowhere"),
        ("prepare face_folder --source . --points points.csv", "face_folder has no option 'points'"),
        ("prepare toy_faces --source .", "leave the source out"),
        ("prepare toy_faces --limit 3", "name it with --pack FILE"),
        ("prepare lfw --pack lfw.npz", "no prepared set 'lfw'"),
        ("prepare face_folder --name lfw --pack lfw.npz", "`lapjax prepare lfw --pack lfw.npz`"),
        ("prepare toy_faces --pack missing/toy.npz", "cannot write missing/toy.npz"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_made(refused, tmp_path, argv, said):
    assert said in refused(*argv.split())
    assert list(tmp_path.iterdir()) == []


def test_interrupted_anywhere(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupt)
    assert main.main(["train", "toy-sam", "--out", "run"]) == 130
    assert capsys.readouterr().err == "lapjax: interrupted\n"


def test_a_missing_package_is_named(monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "lapjax.networks", raising=False)
    assert refused("recipes") == 'lapjax: this command needs jax: `pip install "lapjax[train]"`'


def test_prepare_and_pack_toy_faces(monkeypatch, capsys, tmp_path):
    small_toy(monkeypatch)
    assert run("prepare toy_faces --chip-size 64") == 0
    assert "toy_faces: 68 points, 64 px chips" in capsys.readouterr().out
    assert run("prepare toy_faces --chip-size 48") == 0
    assert data.load_dataset("toy_faces", "test").images.shape == (3, 48, 48, 3)
    assert run("prepare toy_faces --pack toy.npz --limit 2 --pack-chip-size 32 --pack-quality 80") == 0
    assert "train 2, validation 2, calibration 2, test 2, unlabelled 2; 32 px" in capsys.readouterr().out
    samples = data.load_dataset("toy.npz", "test")
    assert samples.images.shape == (2, 32, 32, 3) and samples.meta["quality"] == 80


def test_prepare_a_folder_and_pack_it_at_once(capsys, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), (i * 40, 100, 50)).save(tmp_path / "photos" / f"{i}.jpg")
    argv = "prepare face_folder --source photos --name lfw --box 20,20,20 --chip-size 32 --pack lfw.npz"
    assert run(argv) == 0
    assert "lfw: unlabelled, 32 px chips" in capsys.readouterr().out
    assert data.splits("lfw") == data.splits("lfw.npz") == {"train": 3}


def test_evaluate_predictions_and_compare_them(monkeypatch, capsys, tmp_path, rng):
    small_toy(monkeypatch)
    samples = generate("test", 3)
    truth, names = scoring.truth(samples), samples.name[::-1]
    for name, spread in (("good", 0.5), ("bad", 5.0)):
        prediction = truth + rng.normal(0, spread, truth.shape)
        np.savez(f"{name}.npz", prediction=prediction[::-1], image=names, scale=np.full((3, 68), spread))
    np.savez("truth.npz", ground_truth=truth, image=samples.name)
    assert run("evaluate --predictions good.npz --dataset toy_faces --split test --per-image good.csv") == 0
    out = capsys.readouterr().out
    assert "good.npz against toy_faces test, matched by image name." in out
    argv = "evaluate --predictions bad.npz --truth truth.npz --scheme 300w --threshold 5 8 12.5"
    assert run(f"{argv} --json bad.json --per-image bad.json.json") == 0
    out = capsys.readouterr().out
    assert "bad.npz against truth.npz" in out and "12.5 %" in out and "5.00" in out
    result = json.loads((tmp_path / "bad.json").read_text())
    assert list(result["auc"]) == ["5", "8", "12.5"] and result["scale_mean"] == pytest.approx(5)
    rows = json.loads((tmp_path / "bad.json.json").read_text())["images"]
    assert np.mean([row["inter_ocular"] for row in rows]) == pytest.approx(result["nme"]["inter_ocular"])
    assert run("compare good.csv bad.json.json --json verdict.json") == 0
    said = " ".join(capsys.readouterr().out.split())
    # With three images even a clear difference is not a sure one: the least p-value is 2 / 2^3.
    assert said.startswith("No sure difference between good.csv and bad.json.json: mean NME ")
    assert "good.csv is better on 100.0 % of the 3 images." in said and "p = 0.25" in said
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert (verdict["a"], verdict["better"], verdict["p_value"]) == ("good.csv", 1, 0.25)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_predictions_are_scored_without_jax(tmp_path):
    points = np.random.default_rng(0).uniform(0, 100, (3, 68, 2))
    np.savez("a.npz", prediction=points + 1, ground_truth=points)
    code = "import sys; from lapjax.cli.main import main; status = main(sys.argv[1:])"
    code += "; assert status == 0 and not {'jax', 'flax', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    argv = [
        sys.executable,
        "-c",
        code,
        *shlex.split("evaluate --predictions a.npz --scheme 300w --json a.json"),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "a.npz against its own ground_truth." in done.stdout


def test_recipes(capsys):
    assert main.main(["recipes"]) == 0
    table = capsys.readouterr().out
    assert "…" not in table
    assert all(name in table for name in RECIPES if "+" not in name)
    assert main.main(["recipes", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == RECIPES.keys()
    # PAPER: the generator's parameters at the five widths, and Table 1.
    counts = {"1_16": 17_408, "1_8": 39_828, "1_4": 128_060, "1_2": 478_092, "1": 1_872_428}
    for width, count in counts.items():
        assert rows[f"poster-{width}-sam"]["parameters"] == count
    assert rows["poster-1-laplacekl+d-70k"]["reported"] == {"common": 3.19, "challenge": 6.87, "full": 3.91}
    assert rows["poster-1-laplacekl+d-70k"]["unlabelled"] == 70_000
    assert rows["fast-small-sam"]["reported"] is None


def test_train_stop_resume_evaluate(tmp_path):
    splits = {split: generate(split, 16, size=64) for split in ("train", "validation", "test")}
    data.write_pack("toy.npz", splits)
    # Two of the three compile the same step; none of them needs it fast.
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }

    def start(*argv):
        argv = [sys.executable, "-m", "lapjax", *argv]
        return subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(process):
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    train = shlex.split(
        "train poster-1_16-laplacekl --out run --dataset toy.npz --batch-size 8 --epochs 100"
        " --evaluate-every 100 --model.input-size 32 --augment.no-enabled"
    )
    process = start(*train)
    assert "loss" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    status, out, err = finish(process)
    assert status == 143, err
    assert out.startswith("saved at step ") and out.endswith(" of 200, continue with --resume\n")

    assert finish(start(*train)) == (
        2,
        "",
        f"lapjax: {tmp_path / 'run'} holds a run already: continue it with --resume, or choose another --out\n",
    )
    status, out, err = finish(start(*train, "--resume"))
    assert status == 0, err
    assert out.startswith("run: 200 steps in ")
    assert "validation NME" in err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 200

    status, out, err = finish(start("evaluate", "run", "--split", "test", "--json", "test.json"))
    assert status == 0, err
    assert "toy_faces test.\n" in out and "box: tight box of the true landmarks" in out
    assert "Trained on 16 faces of toy.npz train, seed 0." in out
    result = json.loads((tmp_path / "test.json").read_text())
    keys = {
        "nme",
        "failure_rate",
        "auc",
        "scale_mean",
        "scale_mean_percent",
        "images",
        "parts",
        "ced",
        "intervals",
        "subsets",
        "conditions",
    }
    assert result.keys() == keys
    assert result["images"] == 16 and result["subsets"].keys() == {"toy"}
    expected = {"split": "test", "train_faces": 16, "step": 200, "checkpoint": "best", "seed": 0}
    assert expected.items() <= result["conditions"].items()
    status, out, err = finish(
        start("label", "run", "--dataset", "toy.npz", "--split", "test", "--limit", "5", "--out", "told.npz")
    )
    assert (status, out) == (0, "told.npz: 5 faces, 68 points each\n"), err
    told = data.load_dataset("told.npz", "train")
    assert (told.scale > 0).all() and told.scheme == splits["test"].scheme
    status, out, err = finish(start("boxes", "run", "--dataset", "told.npz", "--out", "boxes.csv"))
    assert (status, out) == (0, "boxes.csv: 5 boxes\n"), err
    # The model's labels are its points, and the boxes are tight around them.
    points = geometry.apply(geometry.invert(told.image_to_chip), told.landmarks)
    _, found = read_boxes("boxes.csv")
    np.testing.assert_allclose(found[:, :2], points.min(axis=1), atol=0.02)
    np.testing.assert_allclose(found[:, 2:], points.max(axis=1), atol=0.02)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.fixture
def recorded(tmp_path):
    """What two cells of an experiment left."""
    cells = {
        name: {
            "places": [[row, "5 %"]],
            "seed": 0,
            "validation": {"nme": nme},
            "config": {"validation_split": "validation"},
        }
        for name, row, nme in (
            ("supervised-5-s0", "labels alone", 6.0),
            ("teacher-5-s0", "EMA teacher, consistency", 4.5),
        )
    }
    content = {"experiment": "semisupervised", "budget": "small", "cells": cells}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "semisupervised.json").write_text(json.dumps(content))


def test_reproduce_shows_what_is_there(recorded, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- semisupervised --><!-- /semisupervised -->\n")
    argv = ["reproduce", "semisupervised", "--show", "--seeds", "1", "--only", "*-5-s0", "--page", str(page)]
    assert main.main([*argv, "--figure", "a.png"]) == 0
    out = capsys.readouterr().out
    assert "supervised-5-s0                  6.000 % on validation\n" in out
    assert "game-5-s0                        to do\n" in out and "supervised-20-s0" not in out
    assert "| labels alone | EMA" not in out and "-25.0 %" in out
    assert page.read_text().splitlines()[1:-1] == out.splitlines()[-len(page.read_text().splitlines()) + 2 :]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 500


def test_reproduce_hands_over_what_it_takes(monkeypatch, capsys):
    from lapjax.experiments import reproduce

    given = {}

    def call(name, **options):
        given.update(options, name=name)
        return reproduce.Progress(3, 9, 1, signal.SIGTERM)

    monkeypatch.setattr(reproduce, "reproduce", call)
    argv = "reproduce table1 --budget full --dataset a.npz --unlabelled none --only x* --minutes 9 --seeds 2 --together yes"
    assert main.main(argv.split()) == 128 + signal.SIGTERM
    assert capsys.readouterr().out == "3 of 9 cells are done, 1 in other processes\n"
    wanted = {"name": "table1", "budget": "full", "dataset": "a.npz", "unlabelled": None, "only": "x*"}
    assert given["together"] is True
    assert wanted.items() <= given.items() and (given["minutes"], given["seeds"]) == (9.0, 2)


def test_bad_requests_of_reproduce(refused):
    assert "table1" in refused("reproduce", "tabel1")
    assert "has no finished cell" in refused("reproduce", "table1", "--measure", "common")
