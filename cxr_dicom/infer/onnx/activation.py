"""Class activation maps of a strange network: its last feature map and linear layer, found in the graph.

A score behind a global average and a linear layer is the mean of a map plus a constant (Zhou et al., Learning deep
features for discriminative localization, CVPR 2016). Where an output is made so, the map comes with it; elsewhere
there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

_SAME_NUMBERS = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Cast", "Transpose")
_SQUASHING = ("Sigmoid", "Softmax", "HardSigmoid")
_SAME_ORDER = ("Sigmoid", "Softmax", "Identity", "Flatten", "Reshape", "Squeeze", "Dropout")  # one place remains
_POOLS = ("GlobalAveragePool", "ReduceMean")


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The linear layer behind a global average, of one output."""

    features: str  # the tensor that is averaged: (images, channels, rows, columns)
    weight: Any  # (outputs, channels), float32


def head(graph: GraphProto, output: str) -> Head | None:
    """Find the head that makes ``output``; None where it is made in another way."""
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    linear = _back(made_by, output)
    if linear is not None and linear.op_type == "Add":  # the bias of a MatMul
        (linear,) = [made_by.get(name) for name in linear.input if name not in weights][:1] or [None]
    weight = _weight(linear, weights) if linear is not None else None
    if linear is None or weight is None:
        return None
    pool = _back(made_by, linear.input[0])
    if pool is None or pool.op_type not in _POOLS or not _is_over_places(pool, weights):
        return None
    return Head(features=pool.input[0], weight=weight)


def squashed_by(graph: GraphProto, output: str) -> str:
    """Name the operator that has made probabilities of ``output`` already; empty where none is seen to."""
    by = end(graph, output)
    return by if by in _SQUASHING else ""


def end(graph: GraphProto, output: str) -> str:
    """Name the operator that makes ``output``, behind all that leaves its numbers; the graph may be any yet."""
    node = _back({name: node for node in graph.node for name in node.output}, output, _SAME_NUMBERS)
    return "" if node is None else str(node.op_type)


def show(graph: GraphProto, name: str) -> None:
    """Make a tensor of the graph one of its outputs."""
    if name not in {value.name for value in graph.output}:
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (None, None, None, None)))


def _back(made_by: dict[str, NodeProto], name: str, through: tuple[str, ...] = _SAME_ORDER) -> NodeProto | None:
    """Return what makes a tensor, behind all that leaves its numbers in their order."""
    node, steps = made_by.get(name), len(made_by)
    while node is not None and node.op_type in through and node.input and steps:
        node, steps = made_by.get(node.input[0]), steps - 1  # a graph that was not checked may go round
    return node


def _weight(linear: NodeProto, weights: dict[str, TensorProto]) -> Any:
    """Return (outputs, channels) of a linear layer; None where it is no plain one."""
    if linear.op_type not in ("Gemm", "MatMul") or linear.input[1] not in weights:
        return None
    options = {attribute.name: helper.get_attribute_value(attribute) for attribute in linear.attribute}
    weight = numpy_helper.to_array(weights[linear.input[1]])
    if weight.ndim != 2 or weight.dtype != "float32" or options.get("alpha", 1) != 1 or options.get("transA", 0):
        return None
    return (weight if options.get("transB", 0) else weight.T).copy()


def _is_over_places(pool: NodeProto, weights: dict[str, TensorProto]) -> bool:
    """Whether an average is over rows and columns."""
    if pool.op_type == "GlobalAveragePool":
        return True
    axes = [list(attribute.ints) for attribute in pool.attribute if attribute.name == "axes"]
    axes += [numpy_helper.to_array(weights[name]).ravel().tolist() for name in pool.input[1:] if name in weights]
    return axes in ([[2, 3]], [[-2, -1]], [[-1, -2]], [[3, 2]])
