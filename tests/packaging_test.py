"""What `pip install .` installs: every file of the packages, and names that are found from any folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = {"lapjax": "lapjax", "datasets": "lapjax/datasets"}


def called(*command, **settings):
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """What the build said, and the wheel's content in a folder, made from a copy: builds leave files behind."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(place)!r})"
    said = called(sys.executable, "-c", build, cwd=source)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place / "installed")
    return said, place / "installed"


@pytest.fixture(params=["the checkout", "elsewhere"])
def python(request, built, tmp_path):
    """Runs Python with the wheel installed, started in a folder; in the checkout ./lapjax comes before it."""
    folder = ROOT if request.param == "the checkout" else tmp_path
    environment = os.environ | {"PYTHONPATH": str(built[1]), "TERM": "dumb", "COLUMNS": "100"}

    def run(*arguments):
        return called(sys.executable, *arguments, cwd=folder, env=environment)

    assert run("-c", "import lapjax; print(lapjax.__file__)").strip() == str(
        (ROOT if folder == ROOT else built[1]) / "lapjax" / "__init__.py"
    )
    return run


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(built):
    wanted = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in SOURCES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    installed = {path.relative_to(built[1]).as_posix() for path in built[1].rglob("*") if path.is_file()}
    assert {name for name in installed if ".dist-info/" not in name} == wanted
    assert "lapjax/py.typed" in wanted


def test_the_build_warns_of_nothing(built):
    lines = [line for line in built[0].splitlines() if "warn" in line.lower() or "deprecat" in line.lower()]
    assert [line for line in lines if "byte-compiling is disabled" not in line] == []


def test_the_names_of_datasets_are_found(python):
    code = "import lapjax; print(lapjax.prepare.__module__); import lapjax.datasets.photos; lapjax.datasets.photos"
    assert python("-c", code).strip() == "lapjax.datasets.prepare"


def test_help_shows_the_public_names(python):
    page = python("-c", "import lapjax; help(lapjax)")
    assert "prepare, load_dataset, Samples, Scheme, get_scheme" in page


def test_the_command_line_runs(python):
    assert "the300w" in python("-m", "lapjax", "prepare", "--help")


def test_the_models_that_come_with_it_load(python):
    code = "import lapjax; print(len(lapjax.Localizer.load('toy-68').names))"
    assert python("-W", "ignore", "-c", code).strip() == "68"
