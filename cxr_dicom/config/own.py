"""``[[models.own]]``: a network of your own, told in a table instead of in Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, field_serializer, model_validator

from cxr_dicom.config.table import Table
from cxr_dicom.plugins import MODELS, problem_of_name

FILES = (".onnx", ".pt", ".ts", ".safetensors")
ARCHITECTURES = ("densenet121", "resnet50", "pspnet", "unet")  # that `infer/own/architectures.py` builds
MAX_LABELS = 500
SEPARATE = ("boxes", "scores", "labels")  # as torchvision's detectors name their outputs

Key = Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{0,63})?$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Channels = tuple[Number, ...]


def _line(text: str) -> str:
    """Refuse what a value of an object, or a line of a page, cannot hold (PS3.5 6.1.3 and 6.2)."""
    if not text.isprintable() or "\\" in text:
        raise ValueError(f"expected one line without control characters or a backslash, got {text!a:.80}")
    return text


Line = Annotated[str, AfterValidator(_line)]


def _name(name: str) -> str:
    """Refuse a name that is ours, or that objects and tables cannot hold."""
    if name in MODELS.ours:
        raise ValueError(f"expected a name of your own; {name!r} is a model of this package")
    if wrong := problem_of_name(MODELS, name):
        raise ValueError(wrong)
    return name


_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)  # what Verhoeff does to a digit from one place to the next


def _is_snomed(value: str) -> bool:
    """Whether a code has 6 to 16 digits, of which the last one checks the others (Verhoeff; SNOMED CT TIG 5.5)."""
    if not re.fullmatch(r"[1-9][0-9]{5,15}", value):
        return False
    check = 0
    for place, character in enumerate(reversed(value)):
        digit = int(character)
        for _ in range(place % 8):
            digit = _TURN[digit]
        check = _together(check, digit)
    return check == 0


def _together(one: int, other: int) -> int:
    """The product of two elements of the dihedral group of ten: turns are 0 to 4, mirrors 5 to 9."""
    sign = -1 if one > 4 else 1
    return (one + sign * other) % 5 + 5 * ((one > 4) != (other > 4))


class Label(Table):
    """One output of the network, in its order."""

    name: Key
    """Lower case with underscores, the side first: `left_lung`. Empty: not reported, as a background."""
    code: tuple[Line, Line, Line] | None = None
    """Code Value, Coding Scheme Designator and Code Meaning; default: looked up by the name."""
    radelement: str | None = Field(default=None, pattern="^RDES?[1-9][0-9]{0,6}$")
    """Set or element of RadElement (RSNA and ACR) that says the same; reports have it beside the code."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for text, longest in zip(self.code or (), (16, 16, 64), strict=False):  # SH, SH, LO (PS3.3 8.8)
            if not text.strip() or len(text) > longest:
                raise ValueError(f"code: expected 1 to {longest} characters, got {text!r:.80}")
        if self.code and self.code[1] == "SCT" and not _is_snomed(self.code[0]):
            raise ValueError(f"code: expected an identifier of SNOMED CT, got {self.code[0]!r}, which cannot be one")
        return self


class ScoreLabel(Label):
    """A finding that the network scores."""

    operating_point: float | None = Field(default=None, gt=0, lt=1)
    """A score at or above is called present; without one nothing is."""


class ValueLabel(Label):
    """A number that the network gives."""

    unit: str = Field(default="1", max_length=16, pattern=r"^[!-\[\]-~]+$")
    """UCUM: `mm`, `a` for years, `1` for none."""


class Output(Table):
    """What the network gives. Its first dimension is the image, the second one the labels."""

    tensor: Line | None = None
    """Name of the output (ONNX) or its number from 0 (TorchScript); default: the only one."""


_Labels = TypeVar("_Labels", bound=Sequence[Label])


def _reported(labels: _Labels) -> _Labels:
    names = [label.name for label in labels if label.name]
    if not names:
        raise ValueError("expected a label with a name")
    if len(set(names)) < len(names):
        raise ValueError("expected each name once")
    return labels


class ScoresOutput(Output):
    """A score for each finding."""

    kind: Literal["scores"]
    activation: Literal["none", "sigmoid", "softmax"]
    """`none`: the network gives probabilities."""
    labels: Annotated[tuple[ScoreLabel, ...], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(_reported)]


class MasksOutput(Output):
    """A map for each structure, (labels, rows, columns); with `labels`, one map of their numbers."""

    kind: Literal["masks"]
    activation: Literal["none", "sigmoid", "softmax", "labels"]
    """`softmax`: a pixel is of one structure; `labels`: the network gives its number; otherwise they may overlap."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """A pixel is of a structure where its probability is greater; only where they may overlap."""
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(_reported)]


class ValuesOutput(Output):
    """A number for each label; they become measurements."""

    kind: Literal["values"]
    labels: Annotated[tuple[ValueLabel, ...], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(_reported)]


class HeatmapsOutput(Output):
    """A map for each label, (labels, rows, columns); they become parametric maps."""

    kind: Literal["heatmaps"]
    activation: Literal["none", "sigmoid", "softmax"]
    """`none`: the network gives 0 to 1."""
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(_reported)]


class BoxesOutput(Output):
    """Boxes around findings, each with a score."""

    kind: Literal["boxes"]
    layout: Literal["separate", "rows", "classes"]
    """`separate`: outputs for boxes, scores and numbers of labels; `rows`: (boxes, 6), each a box, its score and the
    number of its label; `classes`: (boxes, 4 + labels), each a box and a score for every label."""
    tensors: tuple[Line, Line, Line] = SEPARATE
    """Of `separate`: the names of these outputs, or their numbers."""
    format: Literal["xyxy", "cxcywh"] = "xyxy"
    """`xyxy`: left, top, right, bottom; `cxcywh`: centre, width and height."""
    normalised: bool = False
    """Whether a box is of 0 to 1 over the input; else in its pixels."""
    activation: Literal["none", "sigmoid"] = "none"
    """Of scores."""
    score_threshold: float = Field(default=0.5, gt=0, lt=1)
    """A box is reported, and its finding called present, where its score is at or above; a label may have its own."""
    iou_threshold: float | None = Field(default=None, gt=0, lt=1)
    """Of boxes of one label that overlap by more, the one of highest score stays; default: the network saw to it."""
    max_boxes: int = Field(default=100, ge=1, le=500)
    """Those of highest score are reported."""
    labels: Annotated[tuple[ScoreLabel, ...], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(_reported)]

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.layout == "separate" and self.tensor is not None:
            raise ValueError("tensor: expected `tensors`, the three of the layout `separate`")
        if self.layout != "separate" and self.tensors != SEPARATE:
            raise ValueError(f"tensors: expected `tensor`, for the layout {self.layout} has one output")
        return self

    def threshold(self, label: ScoreLabel) -> float:
        """From which score on a box of a label is reported."""
        return self.score_threshold if label.operating_point is None else label.operating_point


class EmbeddingsOutput(Output):
    """A vector of numbers that mean nothing by themselves; they go into `embeddings.parquet`, and into no object."""

    kind: Literal["embeddings"]
    width: int = Field(ge=1, le=16_384)
    """How many numbers."""


class Input(Table):
    """What the network was trained on."""

    size: int = Field(ge=16, le=4096)
    """Rows and columns."""
    channels: Literal[1, 3] = 1
    """3: the same picture three times."""
    range: tuple[Number, Number]
    """What black and white become, before `mean` and `std`: `[0.0, 1.0]`."""
    mean: Channels = ()
    """Of each channel; subtracted."""
    std: Channels = ()
    """Of each channel; what is left is divided by it."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """`crop`: the square in the middle; `pad`: all of it, framed in black; `stretch`: all of it, made square."""
    resize: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    antialias: bool = True
    """As Pillow and torchvision do; OpenCV does not. Not for `nearest`."""
    intensity: Literal["xrv", "voi", "image"] = "xrv"
    """`xrv`: as `[pixels]` reads it; `voi`: by the VOI LUT or window; `image`: its own darkest to its brightest."""

    transposed: bool = False
    """The network sees columns as rows, as one that was trained on what MONAI's `LoadImage` reads."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range: expected black below white, got {list(self.range)}")
        for key in ("mean", "std"):
            values = getattr(self, key)
            if values and len(values) != self.channels:
                raise ValueError(f"{key}: expected {self.channels} values, one for each channel, got {len(values)}")
        if any(value <= 0 for value in self.std):
            raise ValueError(f"std: expected positive values, got {list(self.std)}")
        return self


class OwnModel(Table):
    """A table of ``[[models.own]]``."""

    name: Annotated[str, AfterValidator(_name)]
    """Its name in `models.names`, and in every object and table."""
    file: Annotated[Path, AfterValidator(Path.absolute)]
    """ONNX (`.onnx`), TorchScript (`.pt`, `.ts`), or weights of one of our architectures (`.safetensors`)."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    """Digest that the file must have; default: that of its first use."""
    architecture: Literal["densenet121", "resnet50", "pspnet", "unet"] | None = None
    """Of a `.safetensors` file, and only of one."""
    input: Input
    output: Annotated[
        ScoresOutput | MasksOutput | ValuesOutput | HeatmapsOutput | BoxesOutput | EmbeddingsOutput,
        Field(discriminator="kind"),
    ]
    licence: Line = Field(min_length=1)
    citation: Line = Field(min_length=1)
    version: Line = Field(default="1", min_length=1, max_length=32)
    title: Line = ""
    """One line for people; default: made from the labels."""
    manufacturer: Line = Field(default="not stated", min_length=1)
    """Who trained it."""
    trained_on: Line = ""
    failures: tuple[Line, ...] = ()
    """Known ones, a sentence each."""

    @field_serializer("file", when_used="json")
    def _named(self, file: Path) -> str:
        """What is written down of a run has its name: where it lies is nobody's business."""
        return file.name

    @model_validator(mode="after")
    def _file(self) -> Self:
        _line(self.file.name)
        if self.file.suffix.lower() not in FILES:
            raise ValueError(f"file: expected one that ends in {', '.join(FILES)}, got {self.file.name!r}")
        if (self.file.suffix.lower() == ".safetensors") != (self.architecture is not None):
            raise ValueError(
                f"architecture: expected one of {', '.join(ARCHITECTURES)} for a .safetensors file, else none"
                f"; got {self.architecture or 'none'} for {self.file.name!r}"
            )
        if self.input.transposed and self.output.kind == "boxes":
            raise ValueError("input.transposed: not for boxes; export the network behind a transposition of its input")
        if getattr(self.output, "activation", "") == "softmax" and len(self.labels) < 2:
            raise ValueError("output: softmax of one label is always 1; expected `sigmoid`, or a label more")
        return self

    @property
    def labels(self) -> tuple[Label, ...]:
        """The outputs, in the order of the network; none of a vector."""
        return () if isinstance(self.output, EmbeddingsOutput) else self.output.labels

    @property
    def meaning(self) -> dict[str, Any]:
        """All that can change a result; the file itself has a digest of its own."""
        later = set() if self.architecture else {"architecture"}  # what came later, where it is not used
        meaning = self.model_dump(mode="json", exclude={"file", "sha256"} | later)
        if not self.input.transposed:
            del meaning["input"]["transposed"]
        for label in meaning["output"].get("labels", ()):
            if label["radelement"] is None:
                del label["radelement"]
        return meaning
