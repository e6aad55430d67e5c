"""The ONNX graph beside the JAX network: every layer, the decoder, the calibration, each precision."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from onnx import numpy_helper
from tiny import compiler  # noqa: F401  (a fixture of the module)

from lapjax.checkpoints import onnx_graph
from lapjax.config import override
from lapjax.evaluation.evaluate import estimate
from lapjax.networks import parameter_count

MODELS = {
    "fast": tiny.FAST,
    "fast, wider and sharper": override(tiny.FAST, channels=6, input_size=48, beta=2.0),
    "poster": tiny.POSTER,
    "poster, narrower": override(tiny.POSTER, width=1 / 64, input_size=48, beta=0.5),
}


def images_of(model, count=3, seed=0):
    """Blobs: noise alone would leave every map flat."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return coarse.repeat(model.input_size // 4, axis=1).repeat(model.input_size // 4, axis=2)


def run(proto, images, box_size=None):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"images": images} | ({} if box_size is None else {"box_size": np.float32(box_size)})
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@functools.cache
def network(model, count=4):
    """Variables, and what JAX says of `images_of`."""
    variables = tiny.variables(model, count)
    say = jax.jit(functools.partial(estimate, model))
    return variables, say(variables, images_of(model).astype(np.float32) / 127.5 - 1)


@pytest.mark.parametrize("name", MODELS)
def test_float32_says_what_the_network_says(name):
    model = MODELS[name]
    variables, expected = network(model)
    found = run(onnx_graph.build(model, variables, 4), images_of(model))
    assert np.ptp(expected.points, axis=(0, 1)).min() > 0.5, "the test would show nothing"
    np.testing.assert_allclose(found["points"], expected.points, atol=1e-3)
    np.testing.assert_allclose(found["scale"], expected.scale, atol=1e-3)


def test_any_number_of_landmarks_and_of_faces():
    variables, expected = network(tiny.FAST, 7)
    proto = onnx_graph.build(tiny.FAST, variables, 7)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    for rows in (slice(1), slice(1, 3)):
        found = run(proto, images_of(tiny.FAST)[rows])
        np.testing.assert_allclose(found["points"], expected.points[rows], atol=1e-3)
    assert run(proto, images_of(tiny.FAST)[:0])["points"].shape == (0, 7, 2)


@pytest.mark.parametrize("stride", [0, 1, 4])
def test_calibration_is_the_same_in_numpy_onnx_and_jax(stride):
    variables, _ = network(tiny.FAST)
    known = dataclasses.replace(tiny.calibration(tiny.FAST), stride=stride)
    proto = onnx_graph.build(tiny.FAST, variables, 4, calibration=known)
    sizes = np.array([6.0, 20.0, 35.0])
    found = run(proto, images_of(tiny.FAST), sizes)
    said = known.apply(found["points"], found["scale"], input_to_image=np.ones(3), box_size=sizes)
    np.testing.assert_allclose(found["radius"], said.radius, rtol=1e-4)
    np.testing.assert_allclose(found["confidence"], said.confidence, atol=1e-5)
    assert 0.05 < np.ptp(said.confidence) < 1
    under_jax = known.formula(
        *(jnp.asarray(found[key]) for key in ("points", "scale")), jnp.asarray(sizes), xp=jnp
    )
    np.testing.assert_allclose(under_jax.radius, said.radius, rtol=1e-4)
    np.testing.assert_allclose(under_jax.confidence, said.confidence, atol=1e-5)


def test_groups_that_no_landmark_is_in():
    known = dataclasses.replace(
        tiny.calibration(tiny.FAST),
        groups=("none", "even", "odd"),
        group=(1, 2, 1, 2),
        quantile=(9.0, 1.7, 2.2),
    )
    variables, _ = network(tiny.FAST)
    found = run(
        onnx_graph.build(tiny.FAST, variables, 4, calibration=known), images_of(tiny.FAST), [10.0] * 3
    )
    same = run(
        onnx_graph.build(tiny.FAST, variables, 4, calibration=tiny.calibration(tiny.FAST)),
        images_of(tiny.FAST),
        [10.0] * 3,
    )
    np.testing.assert_allclose(found["radius"], same["radius"], rtol=1e-6)


@pytest.mark.parametrize("model", [tiny.FAST, tiny.POSTER], ids=["fast", "poster"])
def test_batch_norm_is_folded_and_float16_takes_two_bytes_a_weight(model):
    variables, expected = network(model)
    proto = onnx_graph.build(model, variables, 4, precision="float16")
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    halves = [value for value in proto.graph.initializer if value.data_type == onnx.TensorProto.FLOAT16]
    # Of batch norm's scale and bias one bias is left.
    norms = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"])) // 2
    assert sum(len(half.raw_data) for half in halves) == 2 * (parameter_count(variables["params"]) - norms)
    found = run(proto, images_of(model))
    np.testing.assert_allclose(found["points"], expected.points, atol=0.2)
    assert abs(found["points"] - expected.points).max() > 1e-4


def ranges_of(model, variables):
    watched = run(onnx_graph.build(model, variables, 4, watched=True), images_of(model))
    values = [value for key, value in watched.items() if key.startswith("activation")]
    return [(float(value.min()), float(value.max())) for value in values]


@pytest.mark.parametrize("model", [tiny.FAST, tiny.POSTER], ids=["fast", "poster"])
def test_int8_has_a_step_for_each_channel(model):
    variables, expected = network(model)
    proto = onnx_graph.build(model, variables, 4, precision="int8", ranges=ranges_of(model, variables))
    values = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    kernels = [value for value in values.values() if value.dtype == np.int8]
    # All but the first layer, which stays in floating point.
    assert len(kernels) == sum(node.op_type == "Conv" for node in proto.graph.node) - 1
    for kernel in kernels:
        np.testing.assert_array_equal(np.abs(kernel.astype(int)).max(axis=(1, 2, 3)), 127)
    found = run(proto, images_of(model))
    off = np.abs(found["points"] - expected.points)
    assert 1e-3 < off.mean() < 0.5


def test_int8_with_a_channel_that_is_dead():
    variables = jax.tree.map(np.copy, tiny.variables(tiny.POSTER))
    variables["params"]["Conv_1"]["kernel"][..., 0] = 0
    variables["params"]["Conv_2"]["kernel"][...] = 0
    variables["params"]["Conv_2"]["bias"][...] = 0
    images = jnp.asarray(images_of(tiny.POSTER), jnp.float32) / 127.5 - 1
    expected = estimate(tiny.POSTER, variables, images)
    proto = onnx_graph.build(
        tiny.POSTER, variables, 4, precision="int8", ranges=ranges_of(tiny.POSTER, variables)
    )
    assert abs(run(proto, images_of(tiny.POSTER))["points"] - expected.points).mean() < 0.5
