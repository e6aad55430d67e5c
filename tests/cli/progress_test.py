import io
import re

import pytest
from rich.console import Console

from lapjax.cli import progress

LINES = [
    {"step": 20, "steps": 60, "epoch": 1.0, "loss": 3.5, "images_per_second": 95.4, "seconds_left": 740.0},
    {"step": 40, "steps": 60, "epoch": 2.0, "loss": 2.5, "images_per_second": 95.4, "seconds_left": 30.0},
    {"step": 40, "steps": 60, "epoch": 2.0, "nme": 12.345, "validation_scale": 1.75},
    {"step": 60, "steps": 60, "epoch": 3.0, "loss": 1.5, "images_per_second": 95.4, "seconds_left": 0.0},
]


def said(**options):
    file = io.StringIO()
    with progress.training("name", console=Console(file=file, width=100, **options)) as report:
        for line in LINES:
            report(line)
    return file.getvalue()


def test_without_a_terminal_a_line_now_and_then(monkeypatch):
    assert said().splitlines() == [
        "step 20/60  loss 3.500  95 images/s  12 min left",
        "epoch    2.0  step     40  loss   2.500  validation NME  12.35 %, b  1.75 px",
    ]
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    assert len(said().splitlines()) == 4


def test_on_a_terminal_a_bar_and_a_line_a_validation():
    text = said(force_terminal=True, color_system=None)
    assert "epoch    2.0  step     40  loss   2.500  validation NME  12.35 %, b  1.75 px" in text
    assert "60/60 loss 1.500  NME 12.35 %  95 images/s  0 s left" in text


def test_counting():
    file = io.StringIO()
    with progress.counting("reading", console=Console(file=file, width=100, force_terminal=True)) as count:
        count(3, 7)
    assert "3/7" in file.getvalue()
    file = io.StringIO()
    with progress.counting("reading", console=Console(file=file)) as count:
        count(3, 7)
    assert file.getvalue().strip() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (740, "12 min"), (11_100, "3 h 05 min")]
)
def test_duration(seconds, text):
    assert progress.duration(seconds) == text


def test_nothing_wraps_or_is_cut_in_80_columns():
    numbers = {"loss": 123.456, "images_per_second": 1234.5, "seconds_left": 43_500.0}
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    with progress.training("fast-medium-laplacekl+d-10k", console=console) as report:
        report({"step": 101_234, "steps": 123_456, "epoch": 120.0, **numbers})
        report({"step": 101_234, "steps": 123_456, "epoch": 120.0, "nme": 123.456, "validation_scale": 12.75})
    lines = [line for line in re.split(r"[\r\n]+|\x1b\[[0-9;?]*[A-Za-z]", file.getvalue()) if line.strip()]
    assert max(map(len, lines)) <= 80
    assert any(
        "101234/123456 loss 123.456  NME 123.46 %  1234 images/s  12 h 05 min" in line for line in lines
    )
    assert any(
        line.startswith("epoch  120.0  step 101234  loss 123.456  validation NME 123.46 %") for line in lines
    )
