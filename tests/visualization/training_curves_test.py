"""Training curves: which panels a log gets, and logs in any state."""

import json

import numpy as np
import pytest
from canvas import pixels, titles

from lapjax.errors import LapjaxError
from lapjax.visualization import training_curves


def write_log(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def log_rows(count=200, *, game=False):
    rows = []
    for step in range(count):
        row = {
            "step": step,
            "epoch": step / 10,
            "loss": 2.0 / (1 + step),
            "scale": 3.0,
            "images_per_second": 90.0,
        }
        if step % 20 == 0:
            row["nme"] = 20.0 / (1 + step / 20)
        if game:
            row |= {"d_real_accuracy": 0.7, "d_fake_accuracy": 0.8, "d_real_logit": 1.0, "d_fake_logit": -1.0}
            row |= {"gradient_norm_supervised": 1.0, "gradient_norm_adversarial": 0.01}
        rows.append(row)
    return rows


def test_a_supervised_run_has_no_panels_of_the_game(tmp_path):
    log = write_log(tmp_path / "run" / "metrics.jsonl", log_rows())
    figure = training_curves.training_curves([log])
    assert titles(figure) == ["training loss", "validation NME", "scale b"]
    assert figure.axes[1].get_xlabel() == "epoch"
    np.testing.assert_allclose(figure.axes[1].lines[0].get_xdata(), np.arange(10) * 2.0)
    assert pixels(figure).std() > 5


def test_a_game_beside_a_supervised_run(tmp_path):
    game = write_log(tmp_path / "game" / "metrics.jsonl", log_rows(game=True))
    plain = write_log(tmp_path / "plain" / "metrics.jsonl", log_rows())
    figure = training_curves.training_curves([game, plain])
    assert titles(figure)[3:] == ["accuracy of D", "logits of D", "gradients of G"]
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert legends[0] == ["game", "plain"] and legends[5] == ["supervised", "adversarial"]
    both = training_curves.training_curves({"one": game, "two": game})
    named = [text.get_text() for text in both.axes[4].get_legend().get_texts()]
    assert named == ["one, real", "one, fake", "two, real", "two, fake"]
    styles = {
        (line.get_color(), str(line.get_linestyle()))
        for line in both.axes[4].lines
        if line.get_alpha() is None
    }
    assert len(styles) == 4
    pixels(both)


def test_a_log_may_be_cut_short_lack_epochs_and_hold_no_numbers(tmp_path):
    log = write_log(tmp_path / "metrics.jsonl", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")}])
    log.write_text(log.read_text() + '{"step": 3, "lo')
    figure = training_curves.training_curves({"killed": log})
    (ax,) = figure.axes
    assert ax.get_xlabel() == "step" and list(ax.lines[0].get_xdata()) == [1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot read.*metrics.jsonl"),
        ("", "nothing to draw"),
        ('{"step": 1}\n', "nothing to draw"),
        ("no\n{}\n", "line 1 is not"),
    ],
)
def test_logs_that_cannot_be_drawn(tmp_path, text, match):
    log = tmp_path / "metrics.jsonl"
    if text is not None:
        log.write_text(text)
    with pytest.raises(LapjaxError, match=match):
        training_curves.training_curves([log])
