"""Every type that crosses a stage boundary, in the order of the data. Arrays inside are never written to again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxr_dicom.plane import Grid, Point, Region, Turn

# --- words ---------------------------------------------------------------------------------------

MANUFACTURER = "cxr-dicom"  # in every object that this package writes; selection knows its own output by it


class Outcome(StrEnum):
    """What became of one input."""

    PROCESSED = "processed"  # results were made
    SKIPPED = "skipped"  # not eligible; the reason says why
    FAILED = "failed"  # eligible, but something broke; the reason says what


class Reason(StrEnum):
    """Why an input has no results. Stable; each is explained in ``docs/reasons.md``."""

    NOT_DICOM = "NOT_DICOM"
    UNREADABLE = "UNREADABLE"
    WRONG_SOP_CLASS = "WRONG_SOP_CLASS"
    OWN_OUTPUT = "OWN_OUTPUT"
    DUPLICATE_INSTANCE = "DUPLICATE_INSTANCE"
    FOR_PROCESSING = "FOR_PROCESSING"
    NOT_GRAYSCALE = "NOT_GRAYSCALE"
    MULTI_FRAME = "MULTI_FRAME"
    NOT_FRONTAL = "NOT_FRONTAL"
    NOT_CHEST = "NOT_CHEST"
    UNKNOWN_VIEW = "UNKNOWN_VIEW"
    UNKNOWN_BODY_PART = "UNKNOWN_BODY_PART"
    INVALID_ATTRIBUTES = "INVALID_ATTRIBUTES"
    MATRIX_TOO_LARGE = "MATRIX_TOO_LARGE"
    UNDECODABLE_TRANSFER_SYNTAX = "UNDECODABLE_TRANSFER_SYNTAX"
    CORRUPT_PIXEL_DATA = "CORRUPT_PIXEL_DATA"
    NOT_A_CHEST_CONTENT = "NOT_A_CHEST_CONTENT"
    MODEL_FAILED = "MODEL_FAILED"
    ENCODING_FAILED = "ENCODING_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    WORKER_DIED = "WORKER_DIED"
    FETCH_FAILED = "FETCH_FAILED"
    DELIVERY_FAILED = "DELIVERY_FAILED"
    DESTINATION_UNREACHABLE = "DESTINATION_UNREACHABLE"


class Call(StrEnum):
    """What a model says of a finding at its operating point."""

    PRESENT = "present"
    ABSENT = "absent"
    INDETERMINATE = "indeterminate"  # the model gives no operating point for it


class SpacingSource(StrEnum):
    """Where the millimetres of an image come from."""

    CALIBRATED = "calibrated"  # Pixel Spacing with a Pixel Spacing Calibration Type
    PIXEL_SPACING = "pixel_spacing"  # Pixel Spacing, calibration not stated
    IMAGER_PIXEL_SPACING = "imager_pixel_spacing"  # at the detector, not corrected for magnification
    NONE = "none"  # nothing usable: lengths are in pixels


class ObjectKind(StrEnum):
    """The kinds of DICOM objects that this package writes."""

    SEGMENTATION = "segmentation"
    MEASUREMENT_REPORT = "measurement_report"
    FINDINGS_REPORT = "findings_report"
    PARAMETRIC_MAP = "parametric_map"
    SECONDARY_CAPTURE = "secondary_capture"
    KEY_OBJECT_SELECTION = "key_object_selection"


class StudyState(StrEnum):
    """Where a study of the service is."""

    RECEIVING = "RECEIVING"  # more images may come
    COMPLETE = "COMPLETE"  # waits for a worker
    RUNNING = "RUNNING"  # at work
    ENCODED = "ENCODED"  # objects are on disk, and wait for their destinations
    SENT = "SENT"  # every destination took every object
    COMMITTED = "COMMITTED"  # and said, where asked, that it will keep them
    IGNORED = "IGNORED"  # nothing eligible; the instances have the reasons
    HELD = "HELD"  # stopped, because it was at work each time a worker died
    DEAD = "DEAD"  # given up, with the reason; `jobs retry` is the way back


class Answer(StrEnum):
    """What a destination said about one object."""

    ACCEPTED = "accepted"
    WARNING = "warning"  # accepted, but changed or with a remark
    COMMITTED = "committed"  # it will keep it
    REFUSED = "refused"  # never again the same way
    UNSUPPORTED = "unsupported"  # refused because of its SOP class; another one may be taken
    FAILED = "failed"  # not now: try again


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.8)."""

    value: str  # Code Value, e.g. "80891009"
    scheme: str  # Coding Scheme Designator, e.g. "SCT"
    meaning: str  # Code Meaning, for people


# --- ingest --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredInstance:
    """One DICOM instance that lies on this machine, as it came."""

    path: Path  # the file
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    sender: str | None = None  # calling AE title or URL; None for a local file


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenObject:
    """One DICOM instance that this package wrote, perhaps long ago; the file may be gone."""

    kind: ObjectKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    source_sop_instance_uids: tuple[str, ...]  # the images it speaks of


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """The instances of one study that are processed together."""

    study_instance_uid: str
    instances: tuple[StoredInstance, ...]
    earlier: tuple[WrittenObject, ...] = ()  # what was written of it before, oldest first; `run` knows of none


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """An input that gives no results, and why. A value, never an exception."""

    path: Path
    reason: Reason
    detail: str  # expected and actual, without patient data
    outcome: Outcome = Outcome.SKIPPED
    instance: StoredInstance | None = None  # None when the file is not readable as DICOM
    image: ChestImage | None = None  # when it was eligible, and something else stood in the way


# --- select --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Spacing:
    """Distance between pixel centres."""

    rows_mm: float  # between rows, that is along a column; mm, or 1.0 when the source is NONE
    columns_mm: float  # between columns, that is along a row
    source: SpacingSource

    @property
    def is_physical(self) -> bool:
        """Whether lengths may be stated in millimetres."""
        return self.source is not SpacingSource.NONE


@dataclass(frozen=True, kw_only=True, eq=False)
class ChestImage:
    """An eligible image: a frontal chest radiograph for presentation, pixels not yet decoded."""

    instance: StoredInstance
    header: Dataset  # the data set without its pixel data, as received
    view: str  # View Position: "PA", "AP", or "" when unknown
    turn: Turn  # from the stored matrix to the standard view
    spacing: Spacing
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the stored matrix."""
        return int(self.header.Rows), int(self.header.Columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What of a study is processed, and why the rest is not."""

    images: tuple[ChestImage, ...]
    skipped: tuple[Skipped, ...]


# --- infer ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Radiograph:
    """The decoded pixels of a chest image, which all models of a job share."""

    image: ChestImage
    pixels: NDArray[np.float32]  # (rows, columns), standard view, -1024 to 1024, bright = dense
    sha256: str  # of the stored pixel data, encoded as received
    warnings: tuple[str, ...] = ()


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A coded statement about an image with a score."""

    name: str  # stable key, snake_case: "pleural_effusion"
    code: Code
    site: Code | None  # anatomic site, where the finding implies one
    raw: float  # the network's own probability, 0 to 1
    probability: float  # calibrated so that the operating point is at 0.5, 0 to 1
    operating_point: float | None  # threshold on `raw`; None when the model gives none
    call: Call


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


# --- measure -------------------------------------------------------------------------------------


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
    call: Call
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
    warnings: tuple[str, ...] = ()

    def mask(self, name: str) -> Mask | None:
        """Return the mask of the structure ``name``, if this model outlined it."""
        return next((mask for mask in self.masks if mask.structure.name == name), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageAnalysis:
    """One image with everything that was predicted and measured on it."""

    image: ChestImage
    pixel_sha256: str
    predictions: tuple[Prediction, ...]
    preview: Callable[[], NDArray[np.uint8]] | None = None  # makes the source matrix small, bright = dense
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)  # per stage


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyAnalysis:
    """What the encoders turn into DICOM objects."""

    study_instance_uid: str
    images: tuple[ImageAnalysis, ...]
    skipped: tuple[Skipped, ...]
    earlier: tuple[WrittenObject, ...] = ()  # as in `Study`


# --- encode --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedObject(WrittenObject):
    """One with its file, which is written once."""

    path: Path
    model: str | None  # None when it speaks of several


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceResult:
    """What became of one input: a line of ``results.jsonl``, and its pictures."""

    path: Path
    outcome: Outcome
    instance: StoredInstance | None = None
    reason: Reason | None = None
    detail: str = ""
    image: ChestImage | None = None  # None unless eligible
    analysis: ImageAnalysis | None = None  # None unless processed
    objects: tuple[EncodedObject, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyResult:
    """What became of one study."""

    study_instance_uid: str
    job_key: str  # the same key never runs twice unless forced
    instances: tuple[InstanceResult, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)  # of the stages that serve the whole study


# --- deliver -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What one destination said about one object."""

    sop_instance_uid: str
    destination: str  # its name in the config
    answer: Answer
    status: str  # "0x0000", "HTTP 200", or a word: "TIMEOUT"
    detail: str = ""  # without patient data
    retry_after: float | None = None  # seconds, when the destination said so
