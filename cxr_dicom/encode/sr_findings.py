"""The findings report of a study: everything that was said and cannot be drawn.

Scores, calls, rules, numbers without coordinates, numbers that could not be measured, images that
were not analysed. OHIF shows it as text, because its title is not that of a measurement report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import highdicom.sr as hd
from pydicom.uid import EnhancedSRStorage

from cxr_dicom.config import Settings
from cxr_dicom.dicom.codes import private
from cxr_dicom.encode import results
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.codes import CALLS, NO_UNITS
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head, spacing_text
from cxr_dicom.encode.identity import Reference, derived_uid, study_identity, tracking_uid
from cxr_dicom.encode.segments import SegmentationPlan, plan_segmentations
from cxr_dicom.encode.source import about_study
from cxr_dicom.encode.sr_document import evidence, report_document
from cxr_dicom.encode.succession import chain, succeed
from cxr_dicom.records import (
    ChestImage,
    Code,
    Finding,
    ImageAnalysis,
    Measurement,
    ObjectKind,
    Prediction,
    Presence,
    Reason,
    Skipped,
    Statement,
    StoredInstance,
    StudyAnalysis,
)

SERIES_NUMBER = 9003
TITLE = private("FINDINGS", "Chest Radiograph AI Findings Report")
NO_SCORES = (
    "No finding scores: no classifier ran. Its weights are not part of this package; "
    "'cxr-dicom models pull xrv-densenet121-all' fetches them."
)

_PROBABILITY = Code(value="122157", scheme="DCM", meaning="Probability")
_OPERATING_POINT = Code(value="111071", scheme="DCM", meaning="CAD Operating Point")
_PRESENCE = Code(value="121052", scheme="DCM", meaning="Presence of property")
_NETWORK_OUTPUT = private("NETWORK_OUTPUT", "Network output before calibration")
_ANALYSIS = private("ANALYSIS", "Analysis of image")
_ANALYSED = private("ANALYSED", "Analysed")
_NOT_ANALYSED = private("NOT_ANALYSED", "Not analysed")
_NOT_REPORTED = {Reason.OWN_OUTPUT, Reason.DUPLICATE_INSTANCE, Reason.WRONG_SOP_CLASS, Reason.NOT_DICOM}


def findings_report(study: StudyAnalysis, settings: Settings) -> Encoded | None:
    """Return the report of a study; None when no image of it was analysed."""
    if not study.images:
        return None
    skipped = {skip.instance: skip for skip in study.skipped if skip.instance and skip.reason not in _NOT_REPORTED}
    images = [analysis.image for analysis in study.images]
    models = list({p.model.name: p.model for analysis in study.images for p in analysis.predictions}.values())
    cited = {analysis: list(results.results(analysis, study.earlier, settings)) for analysis in study.images}
    groups = [
        *(group for analysis in study.images for group in _groups(analysis, cited[analysis], settings)),
        *(_not_analysed(instance, skip) for instance, skip in skipped.items()),
    ]
    root = tree.report(TITLE, images, models, groups, _notes(study))
    objects = [reference for references in cited.values() for reference in references]
    content = _content(study, skipped.values(), objects)
    identity = study_identity(ObjectKind.FINDINGS_REPORT, study.images, settings, content)
    instances = [*(image.instance for image in images), *skipped]
    before = chain(study.earlier, ObjectKind.FINDINGS_REPORT, *(each.sop_instance_uid for each in instances))
    place = succeed(Reference(EnhancedSRStorage, identity), before)
    head = Head(
        reference=place.reference,
        image=about_study(images),
        models=models,
        settings=settings,
        modality="SR",
        series_number=SERIES_NUMBER,
        series_description="Findings; not for clinical use",
    )
    dataset = report_document(head, root, evidence(instances, objects), place.predecessor)
    sources = tuple(image.instance.sop_instance_uid for image in images)
    return Encoded(ObjectKind.FINDINGS_REPORT, dataset, sources, None)


def _predictions(study: StudyAnalysis) -> Iterator[tuple[ImageAnalysis, Prediction]]:
    for analysis in study.images:
        for prediction in analysis.predictions:
            yield analysis, prediction


def _plans(analysis: ImageAnalysis, prediction: Prediction, settings: Settings) -> list[SegmentationPlan]:
    """The segmentations that will be written of a prediction."""
    return list(plan_segmentations(analysis, prediction, settings)) if "seg" in settings.encode.objects else []


def _notes(study: StudyAnalysis) -> Iterator[str]:
    yield NOT_FOR_CLINICAL_USE
    if not any(prediction.findings for _, prediction in _predictions(study)):
        yield NO_SCORES


def _content(study: StudyAnalysis, skipped: Iterable[Skipped], objects: Iterable[Reference]) -> str:
    """What the report says beside the predictions."""
    missing = [(skip.instance and skip.instance.sop_instance_uid, str(skip.reason), skip.detail) for skip in skipped]
    cited = [reference.identity.sop_instance_uid for reference in objects]
    return repr((missing, [_remarks(analysis) for analysis in study.images], cited))


def _groups(analysis: ImageAnalysis, cited: Sequence[Reference], settings: Settings) -> Iterator[hd.ContentItem]:
    yield _analysed(analysis, cited)
    for prediction in analysis.predictions:
        image, plans = analysis.image, _plans(analysis, prediction, settings)
        for finding in prediction.findings:
            yield _scored(image, finding, prediction)
        for measurement in prediction.measurements:
            if not results.is_drawn(measurement, prediction):
                yield _measured(image, measurement, prediction, plans)
        for statement in prediction.statements:
            yield _stated(image, statement, prediction)


def _scored(image: ChestImage, finding: Finding, prediction: Prediction) -> hd.ContentItem:
    """A score: probability, network output, operating point, and the call."""
    point = finding.operating_point
    return tree.group(
        tracking_uid(image, prediction.model, finding.name),
        finding.name,
        [
            tree.finding(finding.code),
            *tree.sites(finding.site),
            *tree.algorithm(prediction.model),
            tree.number(_PROBABILITY, finding.probability, NO_UNITS),
            tree.number(_NETWORK_OUTPUT, finding.raw, NO_UNITS),
            *([] if point is None else [_operating_point(point)]),
            _presence(finding.call),
            tree.source(image.instance),
        ],
    )


def _measured(
    image: ChestImage, measurement: Measurement, prediction: Prediction, plans: Sequence[SegmentationPlan]
) -> hd.ContentItem:
    """A number without coordinates of its own, or the reason why there is none."""
    value, code = measurement.value, measurement.code
    structure = results.structure_of(measurement, prediction) if results.is_box(measurement) else ""
    name = structure or measurement.name
    return tree.group(
        tracking_uid(image, prediction.model, name),
        name,
        [
            *tree.sites(measurement.site, measurement.laterality),
            *tree.algorithm(prediction.model),
            tree.failure(code) if value is None else tree.number(code, value, measurement.unit),
            tree.source(image.instance),
            *(tree.segment(plan, structure) for plan in plans if _holds(plan, structure)),
            *([tree.comment(f"Not measurable: {measurement.reason}")] if value is None else []),
        ],
    )


def _stated(image: ChestImage, statement: Statement, prediction: Prediction) -> hd.ContentItem:
    """What a named rule makes of a measurement."""
    return tree.group(
        tracking_uid(image, prediction.model, statement.name),
        statement.name,
        [
            tree.finding(statement.concept),
            *tree.algorithm(prediction.model),
            _presence(statement.call),
            tree.source(image.instance),
            tree.comment(f"Rule on {statement.measurement}: {statement.rule}"),
        ],
    )


def _analysed(analysis: ImageAnalysis, cited: Sequence[Reference]) -> hd.ContentItem:
    """Which models looked at an image, what a reader should know of it, and the objects about it."""
    content = [*map(tree.result, cited), *map(tree.comment, _remarks(analysis))]
    return _outcome(analysis.image.instance, _ANALYSED, content)


def _not_analysed(instance: StoredInstance, skipped: Skipped) -> hd.ContentItem:
    """An image of the study without results, and why."""
    return _outcome(instance, _NOT_ANALYSED, [tree.comment(f"{skipped.reason}: {skipped.detail}")])


def _outcome(instance: StoredInstance, outcome: Code, content: Iterable[hd.ContentItem]) -> hd.ContentItem:
    return tree.group(
        derived_uid("analysis", instance.sop_instance_uid),
        "analysis",
        [tree.evaluation(_ANALYSIS, outcome), tree.source(instance), *content],
    )


def _remarks(analysis: ImageAnalysis) -> list[str]:
    ran = ", ".join(f"{p.model.name} {p.model.version}" for p in analysis.predictions)
    warnings = [*analysis.warnings, *(text for p in analysis.predictions for text in p.warnings)]
    methods = [f"{', '.join(names)}: {method}" for method, names in _methods(analysis).items()]
    return [f"Models: {ran or 'none'}", f"Lengths: {spacing_text(analysis.image)}", *methods, *dict.fromkeys(warnings)]


def _methods(analysis: ImageAnalysis) -> dict[str, list[str]]:
    """How numbers were made, once for all that were made so."""
    methods: dict[str, list[str]] = {}
    for measurement in (m for p in analysis.predictions for m in p.measurements if m.method):
        names = methods.setdefault(measurement.method, [])
        if measurement.code.meaning not in names:
            names.append(measurement.code.meaning)
    return methods


def _holds(plan: SegmentationPlan, structure: str) -> bool:
    """Whether a segment number may be cited: readers and validators know those of BINARY only."""
    return plan.type == "BINARY" and any(mask.structure.name == structure for mask in plan.masks)


@cache
def _operating_point(value: float) -> hd.ContentItem:
    """The threshold of a finding: as many as a network has, the same in every report."""
    return tree.number(_OPERATING_POINT, value, NO_UNITS)


def _presence(call: Presence) -> hd.ContentItem:
    return tree.evaluation(_PRESENCE, CALLS[call])
