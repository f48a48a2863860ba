"""``cxr-dicom models add``: the part of a table that says what a network gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxr_dicom.cli._asked import Asked
    from cxr_dicom.infer.own.look import Facts, Output

KINDS = ("scores", "masks", "values", "heatmaps", "boxes", "embeddings")
ACTIVATIONS = ("none", "sigmoid", "softmax", "labels")
LAYOUTS, FORMATS, COORDINATES = ("separate", "rows", "classes"), ("xyxy", "cxcywh"), ("pixels", "fractions")
LABELS = "names in the order of the network, NAME or NAME=OPERATING_POINT, separated by commas; none: not reported"


def output_table(facts: Facts, asked: Asked) -> dict[str, Any]:
    """Make the table ``output``, of what the file says and of what was asked."""
    if (asked.optional("kind") or facts.kind) == "boxes":
        return _boxes(facts, asked, None)
    return _of_one(facts, asked)


def _of_one(facts: Facts, asked: Asked) -> dict[str, Any]:
    from cxr_dicom.infer.own.look import Output

    names = tuple(output.name for output in facts.outputs)
    only = names[0] if len(names) == 1 else facts.output
    tensor = asked.need("tensor", only, "which of its outputs", choices=names)
    unknown = Output(name="", ends_in=None, shape=None)
    output = next((each for each in facts.outputs if each.name == tensor), unknown)
    kind = asked.need("kind", facts.kind or _kind(output), "what it gives", choices=KINDS)
    if kind == "boxes":
        return _boxes(facts, asked, tensor)
    table: dict[str, Any] = {"kind": kind}
    if len(names) > 1:
        table["tensor"] = tensor
    if kind == "embeddings":
        return table | {"width": asked.need("width", output.count, "how many numbers a vector has", convert=int)}
    if kind != "values":
        table["activation"] = asked.need(
            "activation",
            {"sigmoid": "none", "softmax": "none", "labels": "labels"}.get(output.ends_in or ""),
            "what makes probabilities of what it gives",
            choices=ACTIVATIONS if kind in (None, "masks") else ACTIVATIONS[:3],
        )
    count = output.count
    how_many = f"{count} " if count else ""
    labels = asked.need(
        "labels", _known_labels(facts, count), how_many + LABELS, convert=lambda text: _labels(text, count)
    )
    unit = {"unit": asked.optional("unit")} if kind == "values" and asked.optional("unit") else {}
    table["labels"] = [{**label, **unit} for label in labels or ()]
    return table


def _boxes(facts: Facts, asked: Asked, tensor: str | None) -> dict[str, Any]:
    """Make the table of a detector; ``tensor`` is the output that is meant, where that is known."""
    from cxr_dicom.config.own import SEPARATE

    outputs = {output.name: output for output in facts.outputs}
    is_many = len(outputs) >= len(SEPARATE)
    layout = asked.need(
        "layout", "separate" if is_many and tensor is None else None, "layout of its boxes", choices=LAYOUTS
    )
    table: dict[str, Any] = {"kind": "boxes", "layout": layout}
    if layout == "separate":
        known = ",".join(SEPARATE) if outputs.keys() >= set(SEPARATE) else None
        said = asked.need("tensor", known, "its outputs of boxes, scores and labels, with commas", convert=_three)
        table["tensors"] = _three(said) if isinstance(said, str) else said
        scores, count = outputs.get((table["tensors"] or ("", ""))[1]), None
    else:
        only = tensor or (next(iter(outputs)) if len(outputs) == 1 else None)
        name = asked.need("tensor", only, "which of its outputs", choices=tuple(outputs))
        scores = outputs.get(name)
        count = _classes(scores) if layout == "classes" else None
        if len(outputs) > 1:
            table["tensor"] = name
    table["format"] = asked.need("box_format", None, "left, top, right, bottom, or centre and size", choices=FORMATS)
    places = asked.need("coordinates", None, "pixels of the input, or fractions of it", choices=COORDINATES)
    table["normalised"] = places == "fractions"
    ends = scores.ends_in if scores else None
    known = "none" if ends == "sigmoid" else None
    table["activation"] = asked.need("activation", known, "what makes probabilities", choices=("none", "sigmoid"))
    table["labels"] = asked.need(
        "labels", _known_labels(facts, count), LABELS, convert=lambda text: _labels(text, count)
    )
    return table


def _classes(output: Output | None) -> int | None:
    """How many labels rows of 4 + labels have: there are more boxes than labels."""
    sides = output.shape[1:] if output and output.shape and len(output.shape) == 3 else ()
    known = [side for side in sides if side is not None]
    return min(known) - 4 if len(known) == 2 and min(known) > 4 else None


def _three(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if len(names) != 3:
        raise ValueError(f"expected three names with commas between them, got {len(names)}")
    return names


def _kind(output: Output) -> str | None:
    """What an output gives, where only one thing is possible."""
    if output.ends_in == "labels":
        return "masks"
    return "scores" if output.ends_in and output.is_map is False else None


def _known_labels(facts: Facts, count: int | None) -> list[dict[str, Any]] | None:
    """The labels that a file has, where each can be a name here."""
    from cxr_dicom.infer.own.look import is_background, label_key

    if facts.labels is None or count not in (None, len(facts.labels)):
        return None
    names = [label_key(text) for text in facts.labels]
    nameless = [text for text, name in zip(facts.labels, names, strict=True) if not name and not is_background(text)]
    if nameless or len(set(filter(None, names))) < len(list(filter(None, names))) or not any(names):
        return None
    return [{"name": name} for name in names]


def _labels(text: str, count: int | None) -> list[dict[str, Any]]:
    """Read ``pneumothorax=0.42,cavity,``."""
    from cxr_dicom.infer.own.look import is_background, label_key

    labels: list[dict[str, Any]] = []
    for part in text.split(","):
        name, sign, point = part.strip().partition("=")
        if not label_key(name.strip()) and not is_background(name):
            raise ValueError(f"expected a name that begins with a letter, got {name!r}")
        try:
            labels.append({"name": label_key(name.strip()), **({"operating_point": float(point)} if sign else {})})
        except ValueError as error:
            raise ValueError(f"expected a number as operating point, got {point!r}") from error
    if count is not None and len(labels) != count:
        raise ValueError(f"expected {count}, one for each output of the network, got {len(labels)}")
    return labels
