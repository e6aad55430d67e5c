"""A run back from the ONNX file that it was exported to, so that a file does wherever a trained run is asked for.

The batch norms are folded into the layers there: they come back as the identity, and `with_statistics` makes them work
again for a training that goes on.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np

from lapjax.checkpoints import onnx_graph
from lapjax.checkpoints.model_card import Card
from lapjax.checkpoints.runtime import open_bytes, read_file, start_session
from lapjax.config import Config, Model, from_dict, to_dict
from lapjax.errors import LapjaxError
from lapjax.networks import Norm, landmark_count, make_generator, variable_shapes

__all__ = ["read", "with_statistics"]


def read(path: str | os.PathLike) -> tuple[Card, Config, dict]:
    """The card, the configuration and the variables {"params", "batch_stats"} of a file that `lapjax export` wrote as ONNX.

    The weights are the file's: rounded where its precision is not float32.

    Raises:
      LapjaxError: no such file, or not an ONNX file of lapjax.
    """
    content = read_file(path)
    if content[:2] == b"PK":
        raise LapjaxError(
            f"{path} is a JAX program, whose weights cannot be read: give the run or its ONNX file"
        )
    card, _ = open_bytes(content, str(path))
    try:
        config = from_dict(Config, card.provenance["training"] | {"model": to_dict(card.model)})
    except (LapjaxError, KeyError, TypeError) as error:
        raise LapjaxError(
            f"{path}: its metadata do not say how it was trained ({error}); export it again"
        ) from error
    return card, config, _variables(content, card)


def _variables(content: bytes, card: Card) -> dict:
    import onnx

    model, count = card.model, card.scheme.count
    # The graph of a network whose weights are their own numbers says where each of them went.
    total = 0

    def number(path, leaf):
        nonlocal total
        if path[-1].key in _IDENTITY:
            return np.full(leaf.shape, _IDENTITY[path[-1].key])
        total += leaf.size
        return np.arange(total - leaf.size, total, dtype=np.float64).reshape(leaf.shape)

    numbers = jax.tree_util.tree_map_with_path(number, variable_shapes(model, count))
    places = _layers(onnx_graph.build(model, numbers, count))
    values = _layers(onnx.load_from_string(content))
    weights = np.full(total, np.nan, np.float32)
    for place, value in zip(places, values, strict=True):
        weights[np.rint(place).astype(int)] = value

    def look_up(path, leaf):
        known = path[-1].key in _IDENTITY
        return np.float32(leaf) if known else weights[np.rint(leaf).astype(int)]

    return jax.tree_util.tree_map_with_path(look_up, numbers)


def with_statistics(model: Model, variables: dict, images) -> dict:
    """The same network, whose batch norms do nothing, with norms that have the statistics of images.

    A training normalises by those of its batches, which would change a network whose norms are the identity at once.

    Args:
      model: what the variables are of.
      variables: {"params", "batch_stats"} as `read` gives them.
      images: (B, S, S, 3) in [-1, 1], like those of the training.
    """
    generator = make_generator(model, landmark_count(variables))

    @jax.jit
    def watch(variables, images):
        _, seen = generator.apply(
            variables,
            images,
            capture_intermediates=lambda module, _: isinstance(module, Norm),
            mutable=["intermediates"],
        )

        def moments(out):
            return jnp.mean(out, range(out.ndim - 1)), jnp.var(out, range(out.ndim - 1))

        return jax.tree.map(moments, seen["intermediates"])

    def settle(params, stats, seen):
        if "BatchNorm_0" not in stats:
            made = {name: settle(params[name], stats[name], seen[name]) for name in stats}
            params = {**params, **{name: pair[0] for name, pair in made.items()}}
            return params, {name: pair[1] for name, pair in made.items()}
        mean, var = (np.asarray(value) for value in seen["__call__"][0])
        norm = {"scale": np.sqrt(var + onnx_graph.EPSILON), "bias": mean}
        before = mean - np.asarray(params["BatchNorm_0"]["bias"])
        return {"BatchNorm_0": norm}, {"BatchNorm_0": {"mean": before, "var": var}}

    if not variables["batch_stats"]:
        return variables
    params, stats = settle(variables["params"], variables["batch_stats"], watch(variables, images))
    return {"params": params, "batch_stats": stats}


# Of a batch norm that does nothing.
_IDENTITY = {"scale": 1.0, "mean": 0.0, "var": 1.0 - onnx_graph.EPSILON}


def _layers(proto) -> list[np.ndarray]:
    """The kernels and the biases of all convolutions in their order, as they are computed with."""
    from onnx import helper

    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    names = [name for node in convolutions for name in node.input[1:]]
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = start_session(proto.SerializeToString())
    inputs = {}
    for each in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in each.shape]
        inputs[each.name] = np.zeros(shape, np.uint8 if each.type == "tensor(uint8)" else np.float32)
    found = [np.asarray(value) for value in session.run(names, inputs)]
    found[0] = found[0] * onnx_graph.HALF  # the first kernel takes bytes
    return found
