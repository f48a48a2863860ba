"""The words: what is said in one term everywhere, in code, ledger, results and docs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MANUFACTURER = "cxr-dicom"  # in every object that this package writes; selection knows its own output by it


class Outcome(StrEnum):
    """What became of one input."""

    PROCESSED = "processed"  # results were made
    SKIPPED = "skipped"  # not eligible; the reason says why
    FAILED = "failed"  # eligible, but something broke; the reason says what


class Reason(StrEnum):
    """Why an input has no results. Stable; each is explained in ``docs/reasons.md``."""

    NOT_DICOM = "NOT_DICOM"
    NOT_WRAPPED = "NOT_WRAPPED"
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
    CONTRADICTORY_IDENTITY = "CONTRADICTORY_IDENTITY"
    INVALID_ATTRIBUTES = "INVALID_ATTRIBUTES"
    MATRIX_TOO_LARGE = "MATRIX_TOO_LARGE"
    UNDECODABLE_TRANSFER_SYNTAX = "UNDECODABLE_TRANSFER_SYNTAX"
    CORRUPT_PIXEL_DATA = "CORRUPT_PIXEL_DATA"
    NO_MODELS = "NO_MODELS"
    NOT_A_CHEST_CONTENT = "NOT_A_CHEST_CONTENT"
    WRONG_WAY_ROUND = "WRONG_WAY_ROUND"
    MODEL_FAILED = "MODEL_FAILED"
    ENCODING_FAILED = "ENCODING_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    WORKER_DIED = "WORKER_DIED"
    FETCH_FAILED = "FETCH_FAILED"
    DELIVERY_FAILED = "DELIVERY_FAILED"
    DESTINATION_UNREACHABLE = "DESTINATION_UNREACHABLE"


class Presence(StrEnum):
    """What a model says of a finding at its operating point."""

    PRESENT = "present"
    ABSENT = "absent"
    INDETERMINATE = "indeterminate"  # no operating point, or a picture that allows no call


class WayWord(StrEnum):
    """How a picture is stored against what its header says."""

    MIRRORED = "mirrored"  # right and left have changed places, or the heart is on the right
    TURNED_90 = "turned_90"  # clockwise: the head points to the right
    TURNED_180 = "turned_180"  # upside down
    TURNED_270 = "turned_270"  # the head points to the left
    INVERTED = "inverted"  # dense is dark


class SpacingSource(StrEnum):
    """Where the millimetres of an image come from."""

    CALIBRATED = "calibrated"  # Pixel Spacing with a Pixel Spacing Calibration Type
    PIXEL_SPACING = "pixel_spacing"  # Pixel Spacing, calibration not stated
    IMAGER_PIXEL_SPACING = "imager_pixel_spacing"  # at the detector, not corrected for magnification
    NONE = "none"  # nothing usable: lengths are in pixels


class ObjectKind(StrEnum):
    """The kinds of DICOM objects that this package writes; encoders of other packages add theirs, see `kind_of`."""

    SEGMENTATION = "segmentation"
    MEASUREMENT_REPORT = "measurement_report"
    STRUCTURE_REPORT = "structure_report"
    DETECTION_REPORT = "detection_report"
    FINDINGS_REPORT = "findings_report"
    PARAMETRIC_MAP = "parametric_map"
    SECONDARY_CAPTURE = "secondary_capture"
    PRESENTATION_STATE = "presentation_state"
    KEY_OBJECT_SELECTION = "key_object_selection"


def kind_of(encoder: str) -> str:
    """Return the kind of the objects of another package's encoder: its name in the settings, with underscores."""
    return encoder.replace("-", "_")


def object_kind(text: str) -> str:
    """Read a kind back from where it was written down: a word of ours, else that of another package's encoder."""
    return ObjectKind(text) if text in set(ObjectKind) else text


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


class DeliveryStatus(StrEnum):
    """What a destination said about one object."""

    ACCEPTED = "accepted"
    WARNING = "warning"  # accepted, but changed or with a remark
    COMMITTED = "committed"  # it will keep it
    REFUSED = "refused"  # never again the same way
    UNSUPPORTED = "unsupported"  # refused because of its SOP class; another one may be taken
    LEFT_OUT = "left_out"  # refused because of its SOP class, and nobody asked for it by name
    FAILED = "failed"  # not now: try again


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.8)."""

    value: str  # Code Value, e.g. "80891009"
    scheme: str  # Coding Scheme Designator, e.g. "SCT"
    meaning: str  # Code Meaning, for people
    equivalent: Code | None = field(default=None, repr=False)  # the same in another scheme, where somebody says so
