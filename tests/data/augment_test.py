"""Random crops against drawn dots, plain indexing and the ranges that the configuration promises."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lapjax import geometry
from lapjax.config import Augmentation, Model
from lapjax.data import augment

CHIP, FACTOR, SIZE, N = 48, 1.8, 32, 6
MODEL = Model(network="poster", input_size=SIZE, crop=1.25)
FLIP = (1, 0, 2)
STILL = {"colour": 0.0, "grey": 0.0, "blur": 0.0, "occlusion": 0.0}
WILD = Augmentation(colour=1.5, grey=0.5, blur=0.5, occlusion=1.0)
NOTHING = Augmentation(rotation=0.0, scale=0.0, shift=0.0, flip=False, **STILL)

# Optimising what runs once would take most of the time.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
augmented = quick(augment.augment, static_argnames=("model", "chip_factor", "config", "flip"))


def dots():
    """Chips with three landmarks, each a soft dot in a colour of its own."""
    landmarks = np.random.default_rng(0).uniform(14, 33, (N, 3, 2)).astype(np.float32)
    y, x = np.mgrid[:CHIP, :CHIP]
    squared = (x[..., None] - landmarks[:, None, None, :, 0]) ** 2
    squared = squared + (y[..., None] - landmarks[:, None, None, :, 1]) ** 2
    chips = np.round(255 * np.exp(-squared / (2 * 1.5**2))).astype(np.uint8)
    return {"chips": chips, "landmarks": landmarks, "visible": np.ones((N, 3), bool)}


def noise(count=N, points=3):
    rng = np.random.default_rng(1)
    return {
        "chips": rng.integers(0, 256, (count, CHIP, CHIP, 3), np.uint8),
        "landmarks": rng.uniform(12, 36, (count, points, 2)).astype(np.float32),
        "visible": rng.random((count, points)) < 0.8,
    }


def random_crops(samples, seed=0, *, config=WILD, flip=FLIP, places=None):
    places = np.arange(len(samples["chips"])) if places is None else places
    return augmented(
        jax.random.key(seed),
        **samples,
        model=MODEL,
        chip_factor=FACTOR,
        config=config,
        flip=flip,
        places=jnp.asarray(places),
    )


def plain(samples, model=MODEL, chip_factor=FACTOR):
    return augment.crop(*map(jnp.asarray, samples.values()), model=model, chip_factor=chip_factor)


def centroids(images):
    """The centre of light of each colour, (b, 3, 2)."""
    light = (np.asarray(images, np.float64) + 1) / 2
    light /= light.sum((1, 2), keepdims=True)
    places = np.arange(images.shape[1])
    return np.stack([np.einsum("bhwc,w->bc", light, places), np.einsum("bhwc,h->bc", light, places)], axis=-1)


def mirrored(crops):
    matrices = np.asarray(crops.chip_to_input)
    return np.linalg.det(matrices[..., :2]) < 0


def moves(crops):
    """What augmentation does to input px after the plain crop, mirroring undone: angle, scale, shift of the centre."""
    base = np.asarray(augment.crop_matrices(CHIP, FACTOR, MODEL), np.float64)
    back = np.array([[-1.0, 0, SIZE - 1], [0, 1, 0]])
    matrices = np.asarray(crops.chip_to_input, np.float64)
    matrices = np.where(mirrored(crops)[:, None, None], geometry.compose(back, matrices), matrices)
    change = geometry.compose(matrices, geometry.invert(base))
    centre = np.full((1, 2), (SIZE - 1) / 2)
    angle = np.arctan2(change[:, 1, 0], change[:, 0, 0])
    return np.rad2deg(angle), geometry.linear_scale(change), (geometry.apply(change, centre) - centre)[:, 0]


def test_the_plain_crop_is_the_square_around_the_landmark_box():
    # A chip shows FACTOR boxes, so the box is the chip's centre, CHIP / FACTOR wide.
    centre, half = (CHIP - 1) / 2, CHIP / FACTOR / 2
    box = np.array([centre - half, centre - half, centre + half, centre + half])
    expected = geometry.crop_matrix(box, factor=MODEL.crop, size=SIZE)
    np.testing.assert_allclose(augment.crop_matrices(CHIP, FACTOR, MODEL), expected, atol=1e-5)


def test_a_crop_of_the_whole_chip_at_its_own_size_is_the_chip():
    samples = noise()
    crops = plain(samples, Model(input_size=CHIP, crop=FACTOR))
    np.testing.assert_allclose(crops.images, samples["chips"] / 127.5 - 1, atol=1e-5)
    shown = samples["visible"][..., None]
    np.testing.assert_allclose(crops.landmarks, np.where(shown, samples["landmarks"], 0), atol=1e-4)
    np.testing.assert_array_equal(crops.visible, samples["visible"])


def test_beyond_the_chip_its_edges_repeat():
    samples, margin = noise(), CHIP // 2
    crops = plain(samples, Model(input_size=2 * CHIP, crop=2 * FACTOR))
    margins = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    expected = np.pad(samples["chips"] / 127.5 - 1, margins, mode="edge")
    np.testing.assert_allclose(crops.images, expected, atol=1e-4)


def test_a_crop_between_pixels_is_bilinear():
    # Half the chip's pixels: each lies in the middle of four.
    samples = noise()
    crops = plain(samples, Model(input_size=CHIP * 2 // 3, crop=FACTOR * 4 / 3))
    means = samples["chips"].reshape(N, CHIP // 2, 2, CHIP // 2, 2, 3).mean((2, 4)) / 127.5 - 1
    np.testing.assert_allclose(crops.images[:, 4:-4, 4:-4], means, atol=1e-4)


@pytest.mark.parametrize("flip", [None, FLIP])
def test_drawn_dots_are_where_the_landmarks_say(flip):
    samples, seen = dots(), set()
    config = Augmentation(**STILL)
    for seed in range(4):
        crops = random_crops(samples, seed, config=config, flip=flip)
        well_inside = ((crops.landmarks > 5) & (crops.landmarks < SIZE - 6)).all(-1) & crops.visible
        colours = centroids(crops.images)
        mirror = mirrored(crops)
        colours[mirror] = colours[mirror][:, list(FLIP)]
        assert well_inside.mean() > 0.5
        np.testing.assert_allclose(colours[well_inside], crops.landmarks[well_inside], atol=0.06)
        seen |= set(mirror)
    assert seen == ({False} if flip is None else {False, True})


def test_points_go_back_exactly():
    samples = noise()
    for seed in range(4):
        crops = random_crops(samples, seed)
        back = geometry.apply(geometry.invert(crops.chip_to_input), crops.landmarks)
        mirror = mirrored(crops)[:, None]
        truth = np.where(mirror[..., None], samples["landmarks"][:, list(FLIP)], samples["landmarks"])
        labelled = np.where(mirror, samples["visible"][:, list(FLIP)], samples["visible"])
        assert crops.visible.any() and not (np.asarray(crops.visible) & ~labelled).any()
        np.testing.assert_allclose(np.asarray(back)[crops.visible], truth[crops.visible], atol=1e-3)


def test_labels_that_lean_keep_their_side_in_the_mirror():
    samples, lean = dots(), 0.03
    samples["landmarks"] = samples["landmarks"] + np.float32([lean * CHIP / FACTOR, 0])
    still = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, **STILL}
    for known in (lean, 0.0):
        crops = random_crops(samples, config=Augmentation(mirror_lean=known, **still))
        seen = centroids(crops.images)
        order = np.where(mirrored(crops)[:, None], FLIP, np.arange(3))
        offset = np.asarray(crops.landmarks) - np.take_along_axis(seen, order[..., None], axis=1)
        side = np.where(mirrored(crops) & (known == 0), -1, 1)[:, None]
        assert len(set(side.ravel())) == (1 if known else 2)
        np.testing.assert_allclose(
            offset[..., 0], np.broadcast_to(side * lean * SIZE / 1.25, (N, 3)), atol=0.06
        )
        np.testing.assert_allclose(offset[..., 1], 0, atol=0.06)


def test_points_that_leave_the_crop_are_masked():
    samples = noise()
    edge = (CHIP - 1) / 2 - CHIP / FACTOR * MODEL.crop / 2  # the crop's left border in chip px
    samples["visible"][:] = True
    samples["landmarks"][0] = [[edge + 0.01, 20], [edge - 0.01, 20], [20, CHIP - 1]]
    crops = plain(samples)
    np.testing.assert_array_equal(crops.visible[0], [True, False, False])
    np.testing.assert_array_equal(crops.landmarks[0, 1:], 0)
    assert crops.landmarks[0, 0, 0] == pytest.approx(-0.5, abs=0.02)


def test_missing_landmarks_may_be_nan():
    samples = noise()
    hidden = ~samples["visible"]
    assert hidden.any()
    poisoned = samples | {"landmarks": np.where(hidden[..., None], np.nan, samples["landmarks"])}
    chex.assert_trees_all_equal(random_crops(samples), random_crops(poisoned))
    chex.assert_trees_all_equal(plain(samples), plain(poisoned))


def test_without_augmentation_it_is_the_plain_crop():
    samples = noise()
    chex.assert_trees_all_close(
        random_crops(samples, config=Augmentation(enabled=False)), plain(samples), atol=1e-6
    )
    crops, expected = random_crops(samples, config=NOTHING), plain(samples)
    chex.assert_trees_all_close(crops, expected, atol=1e-4)


def test_a_face_is_augmented_by_its_place_in_the_global_batch():
    samples = noise()
    whole = random_crops(samples)
    order = np.array([3, 1, 5, 0, 4, 2])
    shuffled = random_crops({name: column[order] for name, column in samples.items()}, places=order)
    chex.assert_trees_all_equal(shuffled, jax.tree.map(lambda leaf: leaf[order], whole))
    shard = random_crops({name: column[2:4] for name, column in samples.items()}, places=np.array([2, 3]))
    chex.assert_trees_all_close(shard, jax.tree.map(lambda leaf: leaf[2:4], whole), atol=1e-5)
    default = augmented(
        jax.random.key(0), **samples, model=MODEL, chip_factor=FACTOR, config=WILD, flip=FLIP, places=None
    )
    chex.assert_trees_all_close(default, whole, atol=1e-5)


def test_every_place_and_every_key_has_its_own_augmentation():
    samples = {name: np.repeat(column[:1], N, axis=0) for name, column in noise().items()}
    first, second = random_crops(samples, 0), random_crops(samples, 1)
    matrices = np.concatenate([first.chip_to_input, second.chip_to_input]).reshape(2 * N, -1)
    assert len(np.unique(matrices.round(4), axis=0)) == 2 * N
    chex.assert_trees_all_equal(first, random_crops(samples, 0))


def test_geometry_stays_within_its_limits_and_fills_them():
    config = Augmentation(rotation=30, rotation_probability=0.7, scale=0.2, shift=0.06, **STILL)
    place = functools.partial(_place, config=config)
    crops = quick(place)(jnp.arange(400))
    angle, scale, shift = moves(crops)
    assert np.abs(angle).max() <= 30.01 and np.abs(angle).max() > 27
    assert 0.6 < (np.abs(angle) > 1e-3).mean() < 0.8
    assert np.abs(np.log(scale)).max() <= 0.2001 and np.log(scale).min() < -0.18 < 0.18 < np.log(scale).max()
    assert np.abs(shift).max() <= 0.0601 * SIZE and (np.abs(shift).max(0) > 0.055 * SIZE).all()
    for values in (angle, np.log(scale), shift[:, 0], shift[:, 1]):
        assert abs(values.mean()) < 0.1 * np.abs(values).max()
    assert 0.42 < mirrored(crops).mean() < 0.58


def _place(places, config):
    """Crops of one-point faces without looking at their pixels."""
    count = len(places)
    return augment.augment(
        jax.random.key(5),
        jnp.zeros((count, CHIP, CHIP, 3), jnp.uint8),
        jnp.full((count, 3, 2), (CHIP - 1) / 2),
        jnp.ones((count, 3), bool),
        model=MODEL,
        chip_factor=FACTOR,
        config=config,
        flip=FLIP,
        places=places,
    )._replace(images=jnp.zeros((count, 1, 1, 3)))


def test_images_stay_in_range_and_change_with_each_option():
    samples = noise()
    still = random_crops(samples, config=NOTHING).images
    for change in ({"colour": 1.5}, {"grey": 1.0}, {"blur": 1.0}, {"occlusion": 1.0}):
        config = Augmentation(rotation=0.0, scale=0.0, shift=0.0, flip=False, **STILL | change)
        images = np.asarray(random_crops(samples, config=config).images)
        assert images.dtype == np.float32
        assert images.min() >= -1 and images.max() <= 1, change
        differs = np.abs(images - np.asarray(still)).max(-1) > 1e-3
        (name,) = change
        if name == "grey":
            np.testing.assert_allclose(images, images.mean(-1, keepdims=True).repeat(3, -1), atol=1e-5)
        elif name == "blur":
            assert (images.std((1, 2)) < 0.7 * np.asarray(still).std((1, 2))).all()
        elif name == "occlusion":
            # A box: what it covers are whole rows of whole columns, 1/10 to 1/2 of a side unless cut by the border.
            for face in differs:
                rows, columns = face.any(1), face.any(0)
                assert face[np.ix_(rows, columns)].mean() > 0.97
                assert rows.sum() <= SIZE // 2 + 1 and columns.sum() <= SIZE // 2 + 1
        else:
            assert differs.mean() > 0.9


def test_a_grey_image_stays_grey_under_colour_changes():
    config = Augmentation(**STILL | {"grey": 1.0, "colour": 0.5})
    images = np.asarray(random_crops(noise(), config=config).images)
    np.testing.assert_allclose(images, images[..., :1].repeat(3, -1), atol=1e-5)


def test_the_scale_of_labels_grows_with_the_crop_and_swaps_in_the_mirror():
    """What a chip px is in the input, per landmark: each crop's own enlargement, left and right exchanged."""
    samples = noise()
    sure = np.tile(np.float32([1, 2, 3]), (N, 1))
    config = Augmentation(**STILL)
    crops = augmented(
        jax.random.key(0),
        **samples,
        model=MODEL,
        chip_factor=FACTOR,
        config=config,
        flip=FLIP,
        places=jnp.arange(N),
        label_scale=sure,
    )
    expected = np.where(mirrored(crops)[:, None], sure[:, FLIP], sure)
    matrices = np.asarray(crops.chip_to_input)
    enlarged = np.sqrt(np.abs(np.linalg.det(matrices[:, :, :2])))
    np.testing.assert_allclose(crops.scale, expected * enlarged[:, None], rtol=1e-5)
    assert 0 < mirrored(crops).sum() < N
    plainly = augment.augment(
        jax.random.key(0),
        *map(jnp.asarray, samples.values()),
        model=MODEL,
        chip_factor=FACTOR,
        config=Augmentation(enabled=False),
        flip=FLIP,
        label_scale=jnp.asarray(sure),
    )
    np.testing.assert_allclose(plainly.scale, sure * SIZE / (CHIP * MODEL.crop / FACTOR), rtol=1e-5)
    assert random_crops(samples).scale is None


def test_unlabelled_faces_have_no_points():
    samples = noise(points=0)
    for crops in (random_crops(samples, flip=(1, 0, 2)), plain(samples)):
        chex.assert_shape(crops.images, (N, SIZE, SIZE, 3))
        chex.assert_shape(crops.landmarks, (N, 0, 2))
        chex.assert_shape(crops.visible, (N, 0))
    # The same images as with labels: what is drawn does not depend on the points.
    labelled = random_crops(noise() | {"chips": samples["chips"]})
    chex.assert_trees_all_equal(random_crops(samples).images, labelled.images)
