"""The findings report in sentences: what was found, what was not looked for, and the ratio with its rule and error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cxr_dicom.dicom.codes import private
from cxr_dicom.encode import results
from cxr_dicom.encode.common import spacing_text
from cxr_dicom.encode.numbers import is_of_structure, structure_numbers
from cxr_dicom.records import (
    Code,
    Finding,
    ImageAnalysis,
    Measurement,
    ModelInfo,
    Prediction,
    Presence,
    Skipped,
    StudyAnalysis,
)

NO_SCORES = (
    "Findings. No classifier ran: its weights are not part of this package, and "
    "'cxr-dicom models pull xrv-densenet121-all' fetches them."
)
_CALLED = {
    Presence.PRESENT: "Present",
    Presence.INDETERMINATE: "Scored without an operating point, so not called",
    Presence.ABSENT: "Not present",
}
_WITHHELD = "Scored and not called, because of the picture (see remarks)"
_ANSWERS = {Presence.PRESENT: "yes", Presence.ABSENT: "no", Presence.INDETERMINATE: "no call"}
_SUMMARY = Code(value="121111", scheme="DCM", meaning="Summary")
_NOT_LOOKED_FOR = private("NOT_LOOKED_FOR", "Not looked for")
_NOT_ANALYSED = private("NOT_ANALYSED", "Not analysed")
_STRUCTURE = private("STRUCTURE", "Structure")
_BOXES = private("BOXES", "Boxes")
_OTHERS = private("OTHERS", "Other measurements")
_REMARKS = private("REMARKS", "Remarks")
_IMAGE = private("IMAGE", "Image")
_MOST_SCORES = 10  # of boxes, in one line
_CALLED_FROM = 0.5  # calibrated probability at the operating point


class Section(NamedTuple):
    """A heading and what stands below it."""

    heading: Code
    lines: tuple[str, ...]
    sections: tuple[Section, ...] = ()


def summary(study: StudyAnalysis, skipped: Iterable[Skipped]) -> list[Section]:
    """Return what a reader reads first; OHIF shows headings and texts, and numbers without their names."""
    sections = [Section(heading, tuple(lines)) for heading, lines in _of_image(study.images[0]) if lines]
    if len(study.images) > 1:
        sections = [
            Section(
                _IMAGE,
                (f"{number} of {len(study.images)}: {analysis.image.view or 'frontal'}.",),
                tuple(Section(heading, tuple(lines)) for heading, lines in _of_image(analysis) if lines),
            )
            for number, analysis in enumerate(study.images, start=1)
        ]
    missing = tuple(f"{skip.reason}: {skip.detail}" for skip in skipped)
    return [*sections, Section(_NOT_ANALYSED, missing)] if missing else sections


def ranked(analysis: ImageAnalysis) -> list[tuple[Finding, ModelInfo]]:
    """Return the findings of all models, those called present first, then by score."""
    found = [(finding, prediction.model) for prediction in analysis.predictions for finding in prediction.findings]
    calls = list(_CALLED)
    return sorted(found, key=lambda pair: (calls.index(pair[0].call), -pair[0].probability))


def _of_image(analysis: ImageAnalysis) -> Iterator[tuple[Code, list[str]]]:
    found = ranked(analysis)
    yield _SUMMARY, list(_findings(found))
    yield _NOT_LOOKED_FOR, ["All findings that are not named above."] if found else [NO_SCORES]
    for prediction in analysis.predictions:
        yield from _ruled(prediction)
    for prediction in analysis.predictions:
        for mask, numbers in structure_numbers(analysis, prediction).items():
            text = "; ".join(f"{number.code.meaning.lower()} {results.shown(number)}" for number in numbers)
            yield _STRUCTURE, [f"{mask.structure.title}: {text}."]
    for prediction in analysis.predictions:
        yield _BOXES, list(_boxes(prediction))
    yield (
        _OTHERS,
        [
            f"{measurement.code.meaning}: {results.shown(measurement)}."
            for prediction in analysis.predictions
            for measurement in prediction.measurements
            if _stands_alone(measurement, prediction, analysis)
        ],
    )
    warnings = dict.fromkeys((*analysis.warnings, *(text for p in analysis.predictions for text in p.warnings)))
    has_lengths = any(
        measurement.points for prediction in analysis.predictions for measurement in prediction.measurements
    )
    yield _REMARKS, [*warnings, *([f"Lengths: {spacing_text(analysis.image)}."] if has_lengths else [])]


def _boxes(prediction: Prediction) -> Iterator[str]:
    """Say of each finding how many boxes it has, and their scores, of which the first are enough."""
    for name in dict.fromkeys(detection.name for detection in prediction.detections):
        of_name = [detection for detection in prediction.detections if detection.name == name]
        scores = ", ".join(f"{detection.score:.2f}" for detection in of_name[:_MOST_SCORES])
        more = f" and {len(of_name) - _MOST_SCORES} more" if len(of_name) > _MOST_SCORES else ""
        yield f"{of_name[0].title}, found {len(of_name)} times by {prediction.model.name}: {scores}{more}."


def _findings(found: Sequence[tuple[Finding, ModelInfo]]) -> Iterator[str]:
    several = len({model.name for _, model in found}) > 1
    withheld = [(finding, model) for finding, model in found if finding.is_withheld]
    for call, title in _CALLED.items():
        texts = [
            _scored(finding, model, several)
            for finding, model in found
            if finding.call is call and not finding.is_withheld
        ]
        if texts or (found and call is Presence.PRESENT and not withheld):
            yield f"{title}: {', '.join(texts) or 'none of the findings that were looked for'}."
    if withheld:
        texts = [_scored(finding, model, several) for finding, model in withheld]
        yield f"{_WITHHELD}: {', '.join(texts)}."


def _scored(finding: Finding, model: ModelInfo, several: bool) -> str:
    by = f" by {model.name}" if several else ""
    point = "" if finding.operating_point is None or finding.is_withheld else f" (from {_CALLED_FROM:.2f})"
    return f"{finding.code.meaning} {finding.probability:.2f}{point}{by}"


def _ruled(prediction: Prediction) -> Iterator[tuple[Code, list[str]]]:
    """A number that a rule was made for, with the rule and what is known of the number's error."""
    for statement in prediction.statements:
        number = next((m for m in prediction.measurements if m.name == statement.measurement), None)
        if number is None or number.value is None:
            continue
        answer = _ANSWERS[statement.call]
        error = prediction.model.error_of(number.name) or "not known for this model"
        yield (
            number.code,
            [
                f"{number.code.meaning} {results.shown(number)}. {statement.concept.meaning}: {answer}. "
                f"Rule: {statement.rule} Error of the number: {error}."
            ],
        )


def _stands_alone(measurement: Measurement, prediction: Prediction, analysis: ImageAnalysis) -> bool:
    """Whether no other line states it: neither a rule's number nor one of a structure. A failure is always stated."""
    ruled = any(statement.measurement == measurement.name for statement in prediction.statements)
    return not ruled and not is_of_structure(measurement, prediction, analysis)
