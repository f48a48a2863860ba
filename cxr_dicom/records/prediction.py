"""What was predicted and measured on the images of a study. Arrays inside are never written to again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import hypot

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.records.content import Content
from cxr_dicom.records.plane import Grid, Point, Region
from cxr_dicom.records.study import ChestImage, Skipped, WrittenObject
from cxr_dicom.records.words import Code, Presence


@dataclass(frozen=True, kw_only=True, eq=False)
class Radiograph:
    """The decoded pixels of a chest image, which all models of a job share."""

    image: ChestImage
    pixels: NDArray[np.float32]  # (rows, columns), standard view, -1024 to 1024, bright = dense
    sha256: str  # of the stored pixel data, encoded as received
    warnings: tuple[str, ...] = ()
    window: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    """Pixel values, rising, and what the image's VOI LUT or window makes of each: 0 (black) to 1 (white)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """An anatomical structure that a model outlines."""

    name: str  # stable key, snake_case with the side first: "right_lung"
    title: str  # for people: "Right lung"
    category: Code  # Segmented Property Category
    type: Code  # Segmented Property Type
    laterality: Code | None  # modifier of the type; right and left are the patient's
    colour: tuple[int, int, int]  # sRGB, stable across versions


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberError:
    """How far a number of a model was off, where people measured the same."""

    measurement: str  # its name: "cardiothoracic_ratio"
    bias: float  # mean of the model's number minus theirs
    spread: float  # standard deviation of that difference
    against: str  # what it was compared with, and how much of it

    @property
    def root_mean_square(self) -> float:
        """Bias and spread in one number, in the unit of the measurement."""
        return hypot(self.bias, self.spread)

    def __str__(self) -> str:
        """Say it in words."""
        side = "too small" if self.bias < 0 else "too large"
        return (
            f"{abs(self.bias):.3f} {side} on average, standard deviation {self.spread:.3f}, "
            f"root mean square {self.root_mean_square:.3f}, against {self.against}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """What a user must know of one network, its labels and its weights."""

    name: str  # the choice in the config: "xrv-densenet121-all"
    version: str  # of the model, not of this package
    title: str  # one line for people
    predicts: tuple[str, ...]  # stable names of its findings, structures and maps
    input_size: int | None  # side of the square input in pixels; None: any
    manufacturer: str  # who trained it
    licence: str  # SPDX identifier or a short text
    citation: str
    weights_file: str | None = None  # file name; None: nothing to fetch, the package has all
    weights_url: str | None = None  # where `models pull` fetches it
    weights_sha256: str | None = None  # of the file that was loaded; None until it is, or without weights
    errors: tuple[NumberError, ...] = field(default=(), repr=False)  # of the numbers that its outlines give

    def error_of(self, measurement: str) -> NumberError | None:
        """Return what is known of the error of a number, by its name; None when nothing is."""
        return next((error for error in self.errors if error.measurement == measurement), None)

    trained_on: str = field(default="", repr=False)  # data sets; empty: not stated here
    operating_points: str = field(default="", repr=False)  # who chose the thresholds; empty: it has none
    failures: tuple[str, ...] = field(default=(), repr=False)  # known ones, a sentence each


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteOperatingPoint:
    """Where the operating point of a finding comes from, when it is not the model's own."""

    sha256: str  # of the file that `[models] operating_points` names
    upstream: float | None  # the model's own operating point
    probability: float | None  # of the finding among this site's images with such a score; None: not calibrated


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A coded statement about an image with a score."""

    name: str  # stable key, snake_case: "pleural_effusion"
    code: Code
    site: Code | None  # anatomic site, where the finding implies one
    raw: float  # the network's own probability, 0 to 1
    probability: float  # calibrated so that the operating point is at 0.5, 0 to 1
    operating_point: float | None  # threshold on `raw`; None when the model gives none
    call: Presence
    site_point: SiteOperatingPoint | None = None  # None: the operating point is the model's own

    @property
    def is_withheld(self) -> bool:
        """Whether there is no call although there is an operating point: the picture is none that the model knows."""
        return self.call is Presence.INDETERMINATE and self.operating_point is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """A finding in a box."""

    name: str  # that of the finding: "nodule"
    number: int  # among those of the name, from 1, the highest score first
    title: str  # for people
    code: Code
    site: Code | None  # anatomic site, where the finding implies one
    score: float  # the network's own, 0 to 1
    box: tuple[float, float, float, float]  # left, top, right, bottom; points of the source matrix

    @property
    def key(self) -> str:
        """What distinguishes it from the others of its model and image: "nodule_1"."""
        return f"{self.name}_{self.number}"

    @property
    def label(self) -> str:
        """What stands beside the box: what is in it, and its score."""
        return f"{self.title} {self.score:.2f}"

    @property
    def corners(self) -> tuple[Point, ...]:
        """The closed outline in five points, clockwise from the top left."""
        left, top, right, bottom = self.box
        return ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))


@dataclass(frozen=True, kw_only=True, eq=False)
class Mask:
    """The pixels of one structure, on the source matrix as stored."""

    structure: Structure
    region: Region


@dataclass(frozen=True, kw_only=True, eq=False)
class Heatmap:
    """A map of one quantity over the image."""

    name: str  # stable key: "relative_opacity", or the finding's name
    title: str  # for people
    quantity: Code  # what the values are
    definition: str  # how they were made, in one sentence, with the meaning of 0 and 1
    values: NDArray[np.float32]  # (rows, columns) of `grid`, 0 to 1, source orientation
    grid: Grid  # where the values lie on the source matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A number that was measured, and where."""

    name: str  # stable key: "cardiothoracic_ratio"
    code: Code
    value: float | None  # None: not measurable, and `reason` says why
    unit: Code  # UCUM: "mm", "mm2", "{pixels}", "{ratio}", ...
    site: Code | None = None
    laterality: Code | None = None
    points: tuple[Point, ...] = ()  # line (2 points) or closed polygon, on the source matrix
    derived_from: tuple[str, ...] = ()  # names of the measurements that this one was computed from
    method: str = ""  # how, in one sentence
    reason: str = ""  # why it is not measurable


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A qualitative evaluation that a named rule made from a measurement."""

    name: str  # stable key: "cardiothoracic_ratio_over_half"
    concept: Code  # what is evaluated
    call: Presence
    rule: str  # the rule with its threshold, and its source
    measurement: str  # name of the measurement it rests on


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What one model says of one image; each part is possibly empty."""

    model: ModelInfo
    findings: tuple[Finding, ...] = ()
    masks: tuple[Mask, ...] = ()
    heatmaps: tuple[Heatmap, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    statements: tuple[Statement, ...] = ()
    detections: tuple[Detection, ...] = ()  # the highest score first
    embedding: NDArray[np.float32] | None = None  # (width,); for tables, and never in an object
    warnings: tuple[str, ...] = ()
    undecided: float | None = None
    """Pixels of the network that are neither in nor out of a structure (probability 0.1 to 0.9), for each that is
    outlined, of the structure with most of them; None where the model does not tell."""

    def mask(self, name: str) -> Mask | None:
        """Return the mask of the structure ``name``, if this model outlined it."""
        return next((mask for mask in self.masks if mask.structure.name == name), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageAnalysis:
    """One image with everything that was predicted and measured on it."""

    image: ChestImage
    pixel_sha256: str
    predictions: tuple[Prediction, ...]
    content: Content | None = None  # what the pixels say of the picture; None where no anatomy was looked for
    preview: Callable[..., NDArray[np.uint8]] | None = None  # `pictures.preview` of the source matrix, given its size
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)  # per stage


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyAnalysis:
    """What the encoders turn into DICOM objects."""

    study_instance_uid: str
    images: tuple[ImageAnalysis, ...]
    skipped: tuple[Skipped, ...]
    earlier: tuple[WrittenObject, ...] = ()  # as in `Study`
    seconds: Mapping[str, float] = field(default_factory=dict)  # of the stages that serve the whole study
