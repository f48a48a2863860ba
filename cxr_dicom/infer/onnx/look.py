"""What an ONNX file says of itself, read and not run."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import GraphProto, ModelProto

from cxr_dicom.infer.onnx import activation, graph
from cxr_dicom.infer.onnx.refusal import RefusedError

_LAST = {"Sigmoid": "sigmoid", "HardSigmoid": "sigmoid", "Softmax": "softmax", "ArgMax": "labels"}
_MOST_PROPERTIES = 200
_LONGEST_PROPERTY = 20_000  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Of a file with an input of (images, channels, size, size)."""

    channels: int | None  # None: it says nothing, or any
    size: int | None
    outputs: tuple[str, ...]
    ends_in: dict[str, str | None]  # of an output: sigmoid, softmax, labels (ArgMax), or none of them
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)  # of the outputs, once the input is known
    properties: dict[str, str] = field(default_factory=dict)  # metadata_props
    grows: bool = False  # whether it makes results whose size follows from what it sees, as detectors do


def look(content: bytes, channels: int | None, size: int | None) -> Look:
    """Look into a file.

    Parameters
    ----------
    channels, size
        Of its input, where it leaves that open.

    Raises
    ------
    RefusedError
        If no runtime may see it; asked as soon as its input is known.
    """
    model = graph.parsed(content)
    if not model.HasField("graph"):
        raise RefusedError("found none")
    try:
        found_channels, found_size = _input(model.graph)
        outputs = tuple(value.name for value in model.graph.output)
        ends = {name: _LAST.get(activation.end(model.graph, name)) for name in outputs}
        properties = _properties(model)
    except (UnicodeDecodeError, TypeError) as error:  # protobuf gives bytes for what is no UTF-8
        raise RefusedError("found names that are no text") from error
    channels, size = found_channels or channels, found_size or size
    checked = graph.check(content, channels, size, grows=True) if channels and size else None
    return Look(
        channels=channels,
        size=size,
        outputs=outputs,
        ends_in=ends,
        shapes=dict(checked.shapes) if checked else {},
        properties=properties,
        grows=bool(checked and checked.grows),
    )


def _input(network: GraphProto) -> tuple[int | None, int | None]:
    _, shape = graph.input_of(network)
    if len(shape) != 4:
        what = "more than two dimensions, or a volume" if len(shape) == 5 else f"{len(shape)} dimensions"
        raise RefusedError(f"found an input of {what}, expected (images, channels, rows, columns)")
    _, channels, rows, columns = shape
    if channels not in (None, 1, 3):
        raise RefusedError(f"found an input of {channels} channels, expected 1 or 3")
    if rows and columns and rows != columns:
        raise RefusedError(f"found an input of {rows} x {columns}, expected a square")
    return channels, rows or columns


def _properties(model: ModelProto) -> dict[str, str]:
    found = {each.key: each.value for each in model.metadata_props[:_MOST_PROPERTIES]}
    return {key: value for key, value in found.items() if len(value) <= _LONGEST_PROPERTY}
