"""Other boxes against crops computed from those boxes, covered points against the pixels that changed."""

import numpy as np
import pytest
import tiny

from lapjax import geometry
from lapjax.config import Model
from lapjax.data import augment
from lapjax.errors import LapjaxError
from lapjax.evaluation import robustness
from lapjax.evaluation.evaluate import Predictions
from lapjax.metrics.scoring import truth

MODEL = Model(network="poster", width=1 / 64, input_size=32, crop=1.4)
RUN = tiny.run(MODEL, {})


@pytest.mark.parametrize("limits", [{"shift": 0.1}, {"scale": 0.15}, {"shift": 0.1, "scale": 0.15}])
def test_a_move_is_the_crop_of_another_box(limits):
    box = np.array([20.0, 30.0, 70.0, 80.0])
    chip = geometry.crop_matrix(box, factor=1.8, size=48)
    plain = np.asarray(augment.crop_matrices(48, 1.8, MODEL), np.float64)
    centre, side = (box[:2] + box[2:]) / 2, box[2] - box[0]
    seen = []
    for change in robustness.moves(MODEL, 8, exact=True, **limits):
        whole = geometry.compose(change, geometry.compose(plain, chip))
        # Which box is it? Its centre lands in the middle of the input, its side says the scale.
        grown = MODEL.input_size / MODEL.crop / geometry.linear_scale(whole) / side
        middle = geometry.apply(geometry.invert(whole), np.full((1, 2), 15.5))[0]
        np.testing.assert_allclose(abs(grown - 1), limits.get("scale", 0), atol=1e-5)
        np.testing.assert_allclose(np.abs(middle - centre) / side, limits.get("shift", 0), atol=1e-5)
        other = np.concatenate([middle - grown * side / 2, middle + grown * side / 2])
        np.testing.assert_allclose(
            whole, geometry.crop_matrix(other, factor=1.4, size=32), rtol=1e-5, atol=1e-4
        )
        seen.append((*np.sign(middle - centre).round(), np.sign(grown - 1)))
    assert len(set(seen)) > 1


def test_random_moves_fill_their_limits():
    changes = robustness.moves(MODEL, 2000, rotation=20.0, scale=0.15, seed=3)
    scales = 1 / geometry.linear_scale(changes)
    angles = np.rad2deg(np.arctan2(changes[:, 1, 0], changes[:, 0, 0]))
    assert (np.abs(scales - 1) <= 0.15).all() and (np.abs(angles) <= 20).all()
    np.testing.assert_allclose([scales.std(), angles.std()], [0.15 / 3**0.5, 20 / 3**0.5], rtol=0.05)
    np.testing.assert_allclose(geometry.apply(changes, np.full((2000, 1, 2), 15.5)), 15.5, atol=1e-9)


@pytest.mark.parametrize("limits", [{"shift": -0.1}, {"scale": 1.0}])
def test_limits_that_make_no_box(limits):
    with pytest.raises(LapjaxError, match="must be at least 0, scale < 1"):
        robustness.moves(MODEL, 1, **limits)


def test_covered_points_lie_under_the_box():
    samples = tiny.samples(6)
    covered, hidden = robustness.cover(samples, extent=0.3)
    changed = (covered.images != samples.images).any(axis=-1)
    assert hidden.any(axis=1).all() and not hidden.all()
    for index in range(6):
        rows, columns = np.nonzero(changed[index])
        x, y = np.round(samples.landmarks[index]).astype(int).T
        inside = (x >= columns.min()) & (x <= columns.max()) & (y >= rows.min()) & (y <= rows.max())
        assert inside[hidden[index]].all()
        assert len(np.unique(covered.images[index][rows.min() + 1, columns.min() + 1 : columns.max()])) == 1
    np.testing.assert_array_equal(covered.landmarks, samples.landmarks)


def test_the_cost_of_other_boxes_and_the_spread_over_them(monkeypatch):
    """A predictor that errs by as many px as its box has moved."""
    samples = tiny.samples(4)

    def predict(run, samples, *, change):
        middle = np.full((len(samples), 1, 2), (run.config.model.input_size - 1) / 2)
        off = geometry.apply(change, middle) - middle
        points = truth(samples) + off
        return Predictions(points, np.ones((4, 4, 2)), np.full(4, 2.0), points)

    monkeypatch.setattr(robustness, "predict", predict)
    calm = robustness.stressed_nme(RUN, samples, draws=2)
    assert calm.shape == (2, 4)
    np.testing.assert_allclose(calm, 0, atol=1e-9)
    costs = [robustness.stressed_nme(RUN, samples, shift=shift).mean() for shift in (0.05, 0.1)]
    np.testing.assert_allclose(costs[1], 2 * costs[0], rtol=1e-6)
    spread = robustness.move_spread(RUN, samples, draws=50)
    # The centre moves uniformly by 3 % of a box's side of 32 / 1.4 px; the predictor's image px are half an input px.
    np.testing.assert_allclose(spread, 0.03 * 32 / 1.4 * (2 / 3) ** 0.5 / 2, rtol=0.2)
