"""What a line of ``results.jsonl`` holds, key by key: ``docs/results.schema.json`` as types.

Rows stay plain dicts, as JSON gives and takes them; the types cost nothing where a hundred thousand rows pass.
Each key is always there, unless it is marked ``NotRequired``. ``docs/results.md`` says what each one means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NotRequired, TypedDict


class ModelRow(TypedDict):
    """A model that ran."""

    name: str
    version: str
    weights_sha256: str | None  # None for a model without weights


class SiteRow(TypedDict):
    """Where an operating point comes from that is not the model's own."""

    file_sha256: str
    upstream_operating_point: float | None
    probability: float | None  # of the finding among this site's images with such a score


class ScoreRow(TypedDict):
    """The result of one model for one finding."""

    probability: float  # 0 to 1, the operating point at 0.5
    raw: float  # 0 to 1
    operating_point: float | None  # on `raw`
    call: str  # one of `Presence`
    model: str
    site_operating_point: NotRequired[SiteRow]  # only where it is not the model's own


class MeasurementRow(TypedDict):
    """A number, and where it was measured."""

    value: float | None  # None: not measurable, and `reason` says why
    unit: str  # UCUM
    meaning: str
    site: str | None
    laterality: str | None
    points: list[list[float]]  # [column, row] on the matrix as stored
    method: str
    reason: str
    model: str


class StatementRow(TypedDict):
    """A conclusion that a rule drew from a measurement."""

    meaning: str
    call: str  # one of `Presence`
    rule: str
    measurement: str
    model: str


class BoxRow(TypedDict):
    """The extent of a structure."""

    box: list[int]  # left, top, right, bottom in pixels of the matrix as stored
    model: str


class DetectionRow(TypedDict):
    """A finding in a box."""

    box: list[float]  # left, top, right, bottom in pixels of the matrix as stored
    score: float  # 0 to 1
    model: str


class ObjectRow(TypedDict):
    """A DICOM object about the image."""

    path: str  # relative to the output folder
    kind: str  # one of `ObjectKind`
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    sent_as: NotRequired[str]  # UID of the twin that the destination has instead


class ExportRow(TypedDict):
    """A file for training that shows the image."""

    path: str  # relative to the output folder
    kind: str


class HeaderColumns(TypedDict):
    """What the header of an eligible image says; None throughout for one that was not eligible."""

    view: str | None
    modality: str | None
    body_part_examined: str | None
    view_position: str | None
    rows: int | None
    columns: int | None
    spacing_mm: list[float] | None  # between rows, between columns
    patient_age_years: int | None  # 90 for all ages above 89
    patient_sex: str | None
    manufacturer: str | None
    sender: str | None  # AE title, or the URL that it was fetched from


class Made(TypedDict, total=False):  # `__required_keys__` does not see NotRequired in a text
    """Where a row was made, for those who know."""

    host: NotRequired[str]  # name of the machine


class Row(HeaderColumns, Made):
    """Everything about one input."""

    path: str
    study_instance_uid: str | None
    series_instance_uid: str | None
    sop_instance_uid: str | None
    outcome: str  # one of `Outcome`
    reason: str | None  # one of `Reason`; None when processed
    detail: str
    models: list[ModelRow]
    scores: dict[str, ScoreRow]
    measurements: dict[str, MeasurementRow]
    statements: dict[str, StatementRow]
    boxes: dict[str, BoxRow]
    detections: dict[str, list[DetectionRow]]
    objects: list[ObjectRow]
    exports: list[ExportRow]
    content: str | None  # what the pixels say of the picture, as `Content.word`; None where no anatomy was looked for
    warnings: list[str]
    seconds: dict[str, float]  # by stage
    geometry: str
    settings_digest: str
    package_version: str


RowsOf = Callable[[], Iterator[Row]]  # each call reads all rows again, in order: they need not fit in memory
