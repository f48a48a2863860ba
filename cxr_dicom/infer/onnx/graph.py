"""What an ONNX file may be: one graph of standard operators with its weights inside, and bounded results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from cxr_dicom.infer.onnx import activation, wire
from cxr_dicom.infer.onnx.activation import Head
from cxr_dicom.infer.onnx.operators import COUNTING, KEEPING, OPERATORS
from cxr_dicom.infer.onnx.refusal import RefusedError

_DOMAINS = ("", "ai.onnx")  # two names of one
_MOST_NODES = 20_000
_DEEPEST = 4  # graphs within graphs
_MOST_ELEMENTS = 1 << 28  # of one tensor: 1 GB of float32
_MOST_PLACES = 1 << 26  # whole numbers of 64 bits that say where something was found: 512 MB
_SMALL = 4096  # bytes of a weight that may say how large something becomes
_PLAIN: Mapping[int, int] = {  # bytes of an element
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32), 4),
    **dict.fromkeys((TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64), 8),
    **dict.fromkeys((TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16), 2),
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL), 1),
}
_IN_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_ATTRIBUTES = {
    getattr(AttributeProto, kind) for kind in ("FLOAT", "INT", "STRING", "TENSOR", "GRAPH", "FLOATS", "INTS", "STRINGS")
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """What a file takes and gives."""

    input: str
    batch: int  # images that it takes at once
    half: bool  # whether it takes float16
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)  # of the outputs, as computed
    grows: bool = False  # whether it makes results whose size follows from what it sees
    squashed: Mapping[str, str] = field(default_factory=dict)  # outputs that are probabilities, and what made them so
    heads: Mapping[str, Head] = field(default_factory=dict)  # of the outputs that have a class activation map


def with_maps(content: bytes, interface: Interface) -> tuple[bytes, Interface]:
    """Let a graph that was checked give what class activation maps are made of, where it has any."""
    model = ModelProto.FromString(content)
    found = {name: activation.head(model.graph, name) for name in interface.outputs}
    heads = {name: head for name, head in found.items() if head is not None}
    if not heads:
        return content, interface
    for head in heads.values():
        activation.show(model.graph, head.features)
    outputs = tuple(value.name for value in model.graph.output)
    return model.SerializeToString(), replace(interface, heads=heads, outputs=outputs)


def check(content: bytes, channels: int, size: int, *, grows: bool = False) -> Interface:
    """Look at all of a file, and run nothing.

    Parameters
    ----------
    content
        Of the file.
    channels, size
        Of its input, (batch, channels, size, size).
    grows
        Whether it may make results whose size is not known beforehand.

    Raises
    ------
    RefusedError
        If no runtime may see it.
    """
    model = parsed(content)
    try:
        return _checked(model, channels, size, grows)
    except (UnicodeDecodeError, TypeError) as error:  # protobuf gives bytes for what is no UTF-8
        raise RefusedError("found names that are no text") from error


def parsed(content: bytes) -> ModelProto:
    """Read a file whose structure is bounded; nothing more is known of it.

    Raises
    ------
    RefusedError
        If it is none.
    """
    wire.check(content)
    try:
        model: ModelProto = ModelProto.FromString(content)
    except DecodeError as error:
        raise RefusedError("found one that is cut off or damaged") from error
    return model


def _checked(model: ModelProto, channels: int, size: int, grows: bool) -> Interface:
    if not model.HasField("graph") or not model.graph.node:
        raise RefusedError("found none")
    if model.functions:
        raise RefusedError(f"found functions of its own: {_name(model.functions[0].name)}")
    if model.training_info:
        raise RefusedError("found a program for training")
    _expect_operators(model)
    for graph, depth in _graphs(model.graph):
        _expect_plain(graph, depth)
    interface = _interface(model.graph, channels, size)
    unknown, shapes = _unbounded(_skeleton(model, interface, channels, size))
    if unknown and not grows:
        raise RefusedError(f"found {unknown} whose size is not known beforehand: export it with an input of fixed size")
    return replace(
        interface,
        shapes={name: shapes[name] for name in interface.outputs if name in shapes},
        grows=bool(unknown),
        squashed={name: by for name in interface.outputs if (by := activation.squashed_by(model.graph, name))},
    )


def _graphs(graph: GraphProto, depth: int = 0) -> Iterator[tuple[GraphProto, int]]:
    if depth > _DEEPEST:
        raise RefusedError(f"found graphs within graphs, more than {_DEEPEST} deep")
    yield graph, depth
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH or attribute.HasField("g"):
                yield from _graphs(attribute.g, depth + 1)


def _expect_operators(model: ModelProto) -> None:
    count = 0
    for graph, _ in _graphs(model.graph):
        for node in graph.node:
            count += 1
            if node.domain not in _DOMAINS or node.overload:
                raise RefusedError(f"found the operator {_name(node.op_type)} of {_name(node.domain or node.overload)}")
            if node.op_type not in OPERATORS or (node.op_type == "Dropout" and any(node.input[2:])):  # may be chance
                raise RefusedError(f"found the operator {_name(node.op_type)}")
    if count > _MOST_NODES:
        raise RefusedError(f"found {count} operators, more than {_MOST_NODES}")
    if not any(each.domain in _DOMAINS for each in model.opset_import):
        raise RefusedError("found no version of the operators")


def _expect_plain(graph: GraphProto, depth: int) -> None:
    if graph.sparse_initializer:
        raise RefusedError("found sparse weights")
    for tensor in graph.initializer:
        _expect_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            _expect_attribute(node, attribute)


def _expect_attribute(node: NodeProto, attribute: AttributeProto) -> None:
    where = f"{_name(node.op_type)}.{_name(attribute.name)}"
    if attribute.ref_attr_name or attribute.type not in _ATTRIBUTES:
        raise RefusedError(f"found no plain value for {where}")
    if attribute.type == AttributeProto.GRAPH and node.op_type != "If":
        raise RefusedError(f"found a graph for {where}")
    if attribute.HasField("t"):
        _expect_tensor(attribute.t)
    for what in ("graphs", "tensors", "sparse_tensors", "type_protos"):
        if getattr(attribute, what):
            raise RefusedError(f"found {what} for {where}")
    if attribute.HasField("sparse_tensor"):
        raise RefusedError(f"found sparse weights for {where}")


def _expect_tensor(tensor: TensorProto) -> None:
    name = _name(tensor.name)
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise RefusedError(f"found weights in another file for {name}: export them into this one")
    if tensor.data_type not in _PLAIN:
        raise RefusedError(f"found the type {_type(tensor.data_type)} for {name}")
    if any(length < 0 for length in tensor.dims) or tensor.HasField("segment"):
        raise RefusedError(f"found a part of a tensor, or less than nothing, for {name}")
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        stored, needed = len(tensor.raw_data), elements * _PLAIN[tensor.data_type]
    else:
        stored, needed = sum(len(getattr(tensor, field)) for field in _IN_FIELDS), elements
    if stored != needed:
        shape = " x ".join(map(str, tensor.dims))
        raise RefusedError(f"found {stored} bytes or numbers for {name}, whose shape {shape or '()'} needs {needed}")


def input_of(graph: GraphProto) -> tuple[onnx.ValueInfoProto, list[int | None]]:
    """Return the only input of a graph, and its lengths; None for any.

    Raises
    ------
    RefusedError
        If there are several, or none.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise RefusedError(f"found {len(inputs)} inputs, expected one")
    dims = inputs[0].type.tensor_type.shape.dim
    return inputs[0], [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]


def _interface(graph: GraphProto, channels: int, size: int) -> Interface:
    given, shape = input_of(graph)
    kind = given.type.tensor_type
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise RefusedError(f"found an input of {_type(kind.elem_type)}, expected FLOAT")
    expected = (channels, size, size)
    if len(shape) != 4 or any(found not in (None, side) for found, side in zip(shape[1:], expected, strict=True)):
        found = " x ".join("any" if side is None else str(side) for side in shape)
        raise RefusedError(
            f"found an input of {found}, expected (images) x {channels} x {size} x {size} as in input of its table"
        )
    batch = 1 if shape[0] is None else shape[0]
    if not 1 <= batch <= 64:
        raise RefusedError(f"found an input of {batch} images, expected 1 to 64")
    return Interface(
        input=given.name,
        batch=batch,
        half=kind.elem_type == TensorProto.FLOAT16,
        outputs=tuple(value.name for value in graph.output),
    )


def _skeleton(model: ModelProto, interface: Interface, channels: int, size: int) -> ModelProto:
    """Return the graph with its input at its real size, and without the weights that say nothing of sizes."""
    graph = model.graph
    kind = TensorProto.FLOAT16 if interface.half else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(interface.input, kind, (interface.batch, channels, size, size))]
    small = []
    for tensor in graph.initializer:
        if tensor.ByteSize() <= _SMALL:
            small.append(tensor)
        else:
            inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    outputs = [onnx.ValueInfoProto(name=value.name, type=_without_lengths(value.type)) for value in graph.output]
    bare = helper.make_graph(graph.node, "skeleton", inputs, outputs, small)
    return helper.make_model(bare, ir_version=model.ir_version, opset_imports=_standard(model))


def _without_lengths(kind: onnx.TypeProto) -> onnx.TypeProto:
    """What a file says of its outputs is a claim; sizes are computed."""
    bare = onnx.TypeProto()
    bare.tensor_type.elem_type = kind.tensor_type.elem_type
    bare.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in kind.tensor_type.shape.dim)
    return bare


def _standard(model: ModelProto) -> list[onnx.OperatorSetIdProto]:
    return [each for each in model.opset_import if each.domain in _DOMAINS]


def _unbounded(skeleton: ModelProto) -> tuple[str, dict[str, tuple[int | None, ...]]]:
    """Compute the size of every result, and refuse what is too large.

    Returns
    -------
    tuple
        An operator of whose result the size is not known, and may be anything, or an empty text; and the shapes of the
        results.
    """
    try:
        onnx.checker.check_model(skeleton)
        inferred = shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # those of ONNX have no type in common
        raise RefusedError(f"found a graph that does not fit together: {_line(error)}") from error
    shapes: dict[str, tuple[int | None, ...]] = {}
    known: set[str] = set()
    for graph, _ in _graphs(inferred.graph):
        known |= {tensor.name for tensor in graph.initializer}
        shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if not value.type.tensor_type.HasField("shape"):
                continue
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
            elements = math.prod(filter(None, shapes[value.name]))
            if elements > _MOST_ELEMENTS:
                raise RefusedError(f"found a result of {elements} numbers, {_name(value.name)}")
            if None not in shapes[value.name]:
                known.add(value.name)
    bounded = set(known)
    countable = {name for name in known if _most_places(shapes.get(name, ())) <= _MOST_PLACES}
    for graph, _ in _graphs(inferred.graph):
        for node in graph.node:
            results = {name for name in node.output if name}
            is_kept = node.op_type in KEEPING and node.input[0] in bounded
            is_counted = node.op_type in COUNTING and countable.issuperset(node.input[:2])
            is_said = results <= bounded and (node.op_type != "PRelu" or _spreads(node.input, shapes))
            if not (is_kept or is_counted or is_said):
                return str(node.op_type), shapes
            bounded |= results
    return "", shapes


def _spreads(inputs: Sequence[str], shapes: Mapping[str, tuple[int | None, ...]]) -> bool:
    """Whether a slope is spread over a tensor as ONNX has it; ONNX Runtime spreads both, and makes much of little."""
    tensor, slope = (shapes.get(name, (None,)) for name in inputs)
    pairs = zip_longest(reversed(tensor), reversed(slope), fillvalue=1)
    return all(length is not None and across in (1, length) for length, across in pairs)


def _most_places(shape: Sequence[int | None]) -> int:
    """Return how many numbers say where each of a tensor's is: one for each dimension."""
    return len(shape) * int(math.prod(filter(None, shape)))


def _name(text: str) -> str:
    """What stands in a file, as one short line."""
    return ascii(text)[:80]


def _line(error: Exception) -> str:
    """The last line of what a library says, which is the one that says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ascii(lines[-1])[1:-1][:200] if lines else type(error).__name__


def _type(number: int) -> str:
    return TensorProto.DataType.Name(number) if number in TensorProto.DataType.values() else str(number)
