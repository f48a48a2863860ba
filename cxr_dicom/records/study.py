"""What was received, and what of it is eligible. Arrays inside are never written to again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from cxr_dicom.records.plane import Orientation
from cxr_dicom.records.words import Outcome, Reason, SpacingSource


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredInstance:
    """One DICOM instance that lies on this machine, as it came."""

    path: Path  # the file
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    sender: str | None = None  # calling AE title or URL; None for a local file
    called_ae_title: str | None = None  # by which its sender called us
    sha256: str | None = None  # of the file, where it was digested as it came


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenObject:
    """One DICOM instance that this package wrote, perhaps long ago; the file may be gone."""

    kind: str  # an `ObjectKind`, or that of another package's encoder
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    source_sop_instance_uids: tuple[str, ...]  # the images it speaks of


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """The instances of one study that are processed together."""

    study_instance_uid: str
    instances: tuple[StoredInstance, ...]
    beside: tuple[StoredInstance, ...] = ()  # of the same study, on another route: only whose they are is looked at
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
    orientation: Orientation  # from the stored matrix to the standard view
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
