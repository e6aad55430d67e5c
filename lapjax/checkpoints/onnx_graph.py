"""A trained generator as an ONNX graph: crops as bytes in; points, scale, radius and confidence out.

The graph is written down from the parameter tree, layer by layer, for both networks of `networks`: convolutions in
ONNX's own layout (N, C, H, W), batch norm folded into them, then the decoder of `heatmaps` and the formula of
`calibration`.
"""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lapjax.calibration.scale import GRID_SHARE, LEAST, Calibration
from lapjax.config import Model
from lapjax.errors import LapjaxError

__all__ = ["EPSILON", "HALF", "build"]

# The oldest that has all of it, and the file format of its time: onnxruntime 1.12 and later read it.
_OPSET, _IR_VERSION = 17, 8
EPSILON = 1e-5  # of flax's batch norm
HALF = 127.5  # of the range of bytes
_LETTERS = string.ascii_letters


def build(
    model: Model,
    variables,
    count: int,
    *,
    precision: str = "float32",
    calibration: Calibration | None = None,
    ranges: Sequence[tuple[float, float]] = (),
    watched: bool = False,
) -> onnx.ModelProto:
    """The graph of a trained generator with input side S.

    Inputs: `images` (N, S, S, 3) uint8 RGB, and with a calibration `box_size` (N,) float32, sqrt(w * h) of each face's
    box in input px. Outputs, in input px: `points` and `scale` (N, K, 2), and with a calibration `radius` and
    `confidence` (N, K). N is free.

    Args:
      model: what the variables are of.
      variables: {"params", "batch_stats"} of the generator.
      count: of landmarks, K.
      precision: "float32"; "float16", in which weights are kept but not computed; or "int8": weights with one scale
        an output channel, activations with one for all.
      calibration: of the model.
      ranges: for int8, the least and the largest value of each activation, in the order of the graph.
      watched: give these activations as outputs too, after the others, so that their ranges can be measured.

    Raises:
      LapjaxError: int8 without ranges, or a network whose graph nobody has written.
    """
    if precision == "int8" and not ranges:
        raise LapjaxError(
            "int8 needs the ranges of the activations: build the graph watched, and run it on faces"
        )
    graph = _Graph(precision, ranges)
    network = {"fast": _fast, "poster": _poster}.get(model.network)
    if network is None:
        raise LapjaxError(
            f"the network {model.network} has no graph in checkpoints/onnx_graph.py: add one, or export with --format jax"
        )
    maps = network(
        graph, _unit(graph, "images"), variables["params"], variables.get("batch_stats", {}), model
    )
    cells = model.input_size // model.stride
    points, scale = _decode(graph, maps, cells, model.stride, model.beta)
    inputs = {"images": (TensorProto.UINT8, ["N", model.input_size, model.input_size, 3])}
    outputs = {"points": (points, ["N", count, 2]), "scale": (scale, ["N", count, 2])}
    if calibration is not None:
        radius, confidence = _calibrate(graph, points, scale, calibration)
        inputs["box_size"] = (TensorProto.FLOAT, ["N"])
        outputs |= {"radius": (radius, ["N", count]), "confidence": (confidence, ["N", count])}
    if watched:
        outputs |= {f"activation_{i}": (name, [None] * 4) for i, name in enumerate(graph.settled)}
    return graph.finish(inputs, outputs)


class _Graph:
    """Nodes and weights as they are added; what adds one gives the name of its result."""

    def __init__(self, precision, ranges):
        self._precision, self._ranges = precision, list(ranges)
        self._nodes, self._weights, self._steps, self._biases = [], [], {}, {}
        self._named = 0
        self.settled = []

    def node(self, op: str, *inputs, **attributes) -> str:
        """Adds an operator of ONNX; an input that is no name becomes a float32 constant."""
        names = [name if isinstance(name, str) else self.constant(name) for name in inputs]
        result = self._name()
        self._nodes.append(helper.make_node(op, names, [result], **attributes))
        return result

    def _name(self) -> str:
        """A short one: there are hundreds, and the file is to be small."""
        self._named += 1
        rest, first = divmod(self._named - 1, len(_LETTERS))
        return _LETTERS[first] + (_LETTERS[rest - 1] if rest else "")

    def constant(self, value, kind: type[np.generic] = np.float32) -> str:
        name = self._name()
        self._weights.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def convolve(self, x: str, kernel, bias, *, stride: int = 1, pads=None, groups: int = 1) -> str:
        """A convolution with a flax kernel (n, n, inputs of a group, outputs); by default zeros keep the size."""
        kernel, bias = np.asarray(kernel, np.float32).transpose(3, 2, 0, 1), np.asarray(bias, np.float32)
        size = kernel.shape[-1]
        attributes: dict[str, Any] = {"strides": [stride] * 2} if stride > 1 else {}
        if size > 1:
            attributes["pads"] = pads or [size // 2] * 4
        if groups > 1:
            attributes["group"] = groups
        if x in self._steps:
            weights = self._in_levels(kernel, bias, self._steps[x])
        elif self._precision == "float32":
            weights = [self.constant(kernel), self.constant(bias)]
        else:
            # onnxruntime casts them once, when it loads the file, and computes in float32, as CPUs do it fast.
            weights = [self.node("Cast", self.constant(kernel, np.float16), to=TensorProto.FLOAT)]
            weights.append(self._name())
            self._biases[weights[-1]] = bias
        return self.node("Conv", x, *weights, **attributes)

    def _in_levels(self, kernel, bias, step):
        """The kernel as int8 with one step an output channel; the bias as int32 in steps of their products."""
        steps = np.maximum(np.abs(kernel).max(axis=(1, 2, 3)) / 127, 1e-12)
        # A channel whose kernel is all but nothing would have a bias beyond 32 bits.
        steps = np.maximum(steps, np.abs(bias) / (step * 2**30))
        levels, fine = np.round(kernel / steps[:, None, None, None]), steps * step
        return [
            self.node("DequantizeLinear", self.constant(value, kind), self.constant(unit), axis=0)
            for value, unit, kind in ((levels, steps, np.int8), (np.round(bias / fine), fine, np.int32))
        ]

    def settle(self, x: str) -> str:
        """Marks an activation as one that int8 rounds to 256 levels, and does so once the ranges are known."""
        self.settled.append(x)
        if not self._ranges:
            return x
        low, high = self._ranges[len(self.settled) - 1]
        low, high = min(low, 0.0), max(high, 1e-6)
        step = (high - low) / 255
        unit, zero = self.constant(step), self.constant(round(-low / step), np.uint8)
        x = self.node("DequantizeLinear", self.node("QuantizeLinear", x, unit, zero), unit, zero)
        self._steps[x] = step
        return x

    def _all_biases(self):
        """The biases kept as float16, in one constant: dozens of small ones would cost more than their numbers."""
        if not self._biases:
            return []
        whole = self.constant(np.concatenate(list(self._biases.values())), np.float16)
        sizes = self.constant([len(bias) for bias in self._biases.values()], np.int64)
        cast = self._name()
        return [
            helper.make_node("Cast", [whole], [cast], to=TensorProto.FLOAT),
            helper.make_node("Split", [cast, sizes], list(self._biases)),
        ]

    def finish(self, inputs: dict, outputs: dict) -> onnx.ModelProto:
        """The model, checked, with its inputs {name: (type, shape)} and its outputs {name: (result, shape)}."""
        names = {}
        for name, (x, _) in outputs.items():
            if x in names:  # one result under two names
                self._nodes.append(helper.make_node("Identity", [x], [name]))
            else:
                names[x] = name
        nodes = self._all_biases() + self._nodes
        for node in nodes:
            for ends in (node.input, node.output):
                ends[:] = [names.get(end, end) for end in ends]
        graph = helper.make_graph(
            nodes,
            "lapjax",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, (_, shape) in outputs.items()
            ],
            self._weights,
        )
        model = helper.make_model(
            graph,
            producer_name="lapjax",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET)],
        )
        onnx.checker.check_model(model)
        return model


def _unit(graph, images):
    """Bytes (N, S, S, 3) as [-127.5, 127.5] (N, 3, S, S); the first kernel has the factor that is missing to [-1, 1]."""
    x = graph.node("Cast", graph.node("Transpose", images, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    return graph.node("Sub", x, HALF)


def _fast(graph, x, params, stats, model):
    """`networks.FastGenerator`. The stem stays in floating point: it is small, and bytes are no levels of [-1, 1]."""

    def relu(x):
        return graph.settle(graph.node("Relu", x))

    def dense(x, name):
        return graph.convolve(x, params[name]["kernel"][None, None], params[name]["bias"])

    blocks = iter(range(len(params)))

    def separable(x, stride=1, residual=True):
        name = f"Separable_{next(blocks)}"
        own, means = params[name], stats[name]
        channels = own["depthwise"].shape[-1]
        kernel, bias = _folded(own["depthwise"][:, :, None], own["Norm_0"], means["Norm_0"])
        y = relu(graph.convolve(x, kernel, bias, stride=stride, groups=channels))
        kernel, bias = _folded(own["Dense_0"]["kernel"][None, None], own["Norm_1"], means["Norm_1"])
        y = graph.convolve(y, kernel, bias)
        if stride == 1 and kernel.shape[-1] == channels:
            y = graph.node("Add", graph.settle(y), x)
        return relu(y)

    stem = params["Dense_0"]["kernel"]
    kernel, bias = _folded(stem.reshape(3, 3, 3, -1), params["Norm_0"], stats["Norm_0"])
    x = relu(graph.convolve(x, kernel / HALF, bias, stride=2, pads=[0, 0, 1, 1]))
    skips = []
    for count in model.blocks:
        for index in range(count):
            x = separable(x, 2 if index == 0 else 1)
        skips.append(x)
    for name, skip in (("Dense_1", skips[1]), ("Dense_2", skips[0])):
        x = graph.settle(_doubled(graph, graph.settle(dense(x, name)), "nearest"))
        x = separable(graph.settle(graph.node("Add", x, skip)))
    return dense(separable(x), "Dense_3")


def _poster(graph, x, params, stats, _model):
    """`networks.Generator`."""

    def convolve(x, name, gain=1.0):
        return leaky(graph.convolve(x, gain * np.asarray(params[name]["kernel"]), params[name]["bias"]))

    def dense(x, name):
        return graph.convolve(x, params[name]["kernel"][None, None], params[name]["bias"])

    def leaky(x):
        return graph.settle(graph.node("LeakyRelu", graph.settle(x), alpha=0.1))

    skips = []
    for index in range(4):
        x = convolve(x, f"Conv_{index}", 1.0 if index else 1 / HALF)
        skips.append(x)
        x = graph.settle(graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    x = convolve(convolve(x, "Conv_4"), "Conv_5")
    for index, skip in enumerate(reversed(skips)):
        x = graph.settle(_doubled(graph, leaky(dense(x, f"Dense_{index}")), "linear"))
        x = convolve(graph.settle(graph.node("Concat", x, skip, axis=1)), f"Conv_{index + 6}")
    return dense(leaky(dense(leaky(dense(x, "Dense_4")), "Dense_5")), "Dense_6")


def _folded(kernel, norm, stats):
    """A kernel (..., outputs) and a bias that do what the kernel and the batch norm after it did."""
    norm, stats = norm["BatchNorm_0"], stats["BatchNorm_0"]
    gain = np.asarray(norm["scale"]) / np.sqrt(np.asarray(stats["var"]) + EPSILON)
    return np.asarray(kernel) * gain, np.asarray(norm["bias"]) - np.asarray(stats["mean"]) * gain


def _doubled(graph, x, mode):
    """Twice the height and the width: "nearest" repeats, "linear" has half-pixel centres and repeats the edges."""
    how = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"coordinate_transformation_mode": "half_pixel"},
    }
    return graph.node("Resize", x, "", [1.0, 1.0, 2.0, 2.0], mode=mode, **how[mode])


def _decode(graph, maps, cells, stride, beta):
    """`heatmaps.estimate`: the points and the scale of logits (N, K, cells, cells), both (N, K, 2)."""
    if beta != 1:
        maps = graph.node("Mul", maps, beta)
    shape = graph.constant([0, 0, cells**2], np.int64)
    flat = graph.node("Softmax", graph.node("Reshape", maps, shape), axis=-1)
    shape = graph.constant([0, 0, cells, cells], np.int64)
    probability = graph.node("Reshape", flat, shape)
    # The marginals along x and along y, (N, K, 2, cells).
    along = [graph.node("ReduceSum", probability, graph.constant([axis], np.int64)) for axis in (2, 3)]
    shape = graph.constant([0, 0, 1, cells], np.int64)
    margins = graph.node("Concat", along[0], graph.node("Reshape", along[1], shape), axis=2)
    places = stride * (np.arange(cells) + 0.5) - 0.5
    points = graph.node("MatMul", margins, places[:, None])
    distance = graph.node("Abs", graph.node("Sub", places, points))
    last = graph.constant([3], np.int64)
    scale = graph.node("ReduceSum", graph.node("Mul", margins, distance), last, keepdims=0)
    return graph.node("Squeeze", points, last), scale


def _calibrate(graph, points, scale, calibration):
    """`Calibration.apply` in input px: the radius and the confidence, both (N, K)."""
    node, known = graph.node, calibration
    square = node("Mul", scale, scale)
    if known.stride:
        place = node("Add", node("Div", points, float(known.stride)), 0.5 / known.stride - 0.5)
        fraction = node("Mod", place, 1.0, fmod=1)  # no point lies left of the first cell
        grid = node("Mul", node("Mul", fraction, node("Sub", 1.0, fraction)), 2.0 * known.stride)
        square = node("Relu", node("Sub", square, node("Mul", node("Mul", grid, grid), GRID_SHARE)))
    b = node("Sqrt", node("Add", node("ReduceMean", square, axes=[2], keepdims=0), LEAST**2))
    # The mean b of each facial part, and of the image. Types are the small ones, for the file's sake.
    groups, place, counts = np.unique(known.group, return_inverse=True, return_counts=True)
    group = node("Cast", graph.constant(place, np.uint8), to=TensorProto.INT64)
    members = node("OneHot", group, graph.constant(len(groups), np.int64), graph.constant([0, 1]), axis=-1)
    part = node("Gather", node("MatMul", b, node("Div", members, counts)), group, axis=1)
    image = node("ReduceMean", b, axes=[1], keepdims=1)
    # The expected error, as a product of powers: in the unit in which the confidence is one of it alone.
    shape, unit = known.weibull
    error = np.exp(known.offset) * unit / known.tolerance
    for value, weight in zip((b, part, image), known.weights, strict=True):
        error = node("Mul", node("Pow", value, weight), error)
    quantile = np.asarray(known.quantile)[groups] * known.tolerance / unit
    radius = node("Mul", error, node("Gather", quantile, group))
    reach = node("Div", node("Unsqueeze", "box_size", graph.constant([1], np.int64)), error)
    return radius, node("Sub", 1.0, node("Exp", node("Neg", node("Pow", reach, shape))))
