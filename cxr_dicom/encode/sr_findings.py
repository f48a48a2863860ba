"""The findings report of a study: first for its reader, then for machines, and last where it all comes from.

Its title is not that of a measurement report, so OHIF shows it as text. Each image has one group:
Slicer makes a row of it and a column of each number. Where the images do not fit into one table, further reports
have the rest (`report_parts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import highdicom.sr as hd
from pydicom import Dataset
from pydicom.uid import EnhancedSRStorage

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.dicom.codes import private
from cxr_dicom.encode import results
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.codes import CALLS, NO_UNITS, PROBABILITY_SCHEME, coding_scheme_items
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head, spacing_text
from cxr_dicom.encode.identity import Reference, derived_uid, part_identity, series_of_part, study_identity
from cxr_dicom.encode.numbers import is_line, is_of_structure
from cxr_dicom.encode.report_parts import most_rows, parts
from cxr_dicom.encode.source import about_study
from cxr_dicom.encode.sr_document import evidence, report_document
from cxr_dicom.encode.sr_summary import Section, ranked, summary
from cxr_dicom.encode.succession import Succession, chain, succeed
from cxr_dicom.records import (
    MANUFACTURER,
    Code,
    Finding,
    ImageAnalysis,
    ModelInfo,
    ObjectKind,
    Reason,
    SiteOperatingPoint,
    Skipped,
    StoredInstance,
    StudyAnalysis,
    WayWord,
)

SERIES_NUMBER = 9009
TITLE = private("FINDINGS", "Chest Radiograph AI Findings Report")

_OPERATING_POINT = Code(value="111071", scheme="DCM", meaning="CAD Operating Point")
_NETWORK_OUTPUT = private("NETWORK_OUTPUT", "Network output before calibration")
_EVALUATIONS = Code(value="C0034375", scheme="UMLS", meaning="Qualitative Evaluations")
_PROVENANCE = private("PROVENANCE", "Provenance")
_MODEL = private("MODEL", "Model")
_ANALYSIS = private("ANALYSIS", "Analysis of image")
_ANALYSED = private("ANALYSED", "Analysed")
_NOT_ANALYSED = private("NOT_ANALYSED", "Not analysed")
_CONTENT = private("CONTENT", "Content of the picture against its header")
_DOUBTFUL = private("DOUBTFUL", "No plausible frontal chest")
_WAYS = {
    WayWord.MIRRORED: private("MIRRORED", "Mirrored, or heart on the right"),
    WayWord.TURNED_90: private("TURNED_90", "Turned by 90 degrees clockwise"),
    WayWord.TURNED_180: private("TURNED_180", "Upside down"),
    WayWord.TURNED_270: private("TURNED_270", "Turned by 90 degrees counterclockwise"),
    WayWord.INVERTED: private("INVERTED", "Inverted: dense is dark"),
}
_FURTHER = "Coded numbers and calls of further images. The findings report of the study has all in words."
_FOR_MACHINES = "Coded numbers, then coded calls; the sections above say them with their names."
_NOT_REPORTED = {Reason.OWN_OUTPUT, Reason.DUPLICATE_INSTANCE, Reason.WRONG_SOP_CLASS, Reason.NOT_DICOM}


def findings_reports(study: StudyAnalysis, settings: Settings) -> Iterator[Encoded]:
    """Yield the report of a study, and further ones where its table does not hold all images; none without images.

    The first has all that is said and cites the further ones, which have only groups.
    """
    if not study.images:
        return
    skipped = {skip.instance: skip for skip in study.skipped if skip.instance and skip.reason not in _NOT_REPORTED}
    columns = _columns_of(study)
    heads = {analysis: [column.key for column in columns[analysis]] for analysis in columns}
    first, *rest = parts(heads, most_rows(study.images, settings))
    further = [_further(study, number, part, columns, settings) for number, part in enumerate(rest, start=2)]
    models = _models(study.images)
    cited = [*results.results(study, settings), *(place.reference for place, _ in further)]
    summed = summary(study, skipped.values())
    notes = [tree.summary(NOT_FOR_CLINICAL_USE), *map(_section, summed)]
    sections = [
        tree.container(_EVALUATIONS, _outcomes(study, skipped)),
        tree.container(_PROVENANCE, _provenance(study, models, cited, settings)),
    ]
    groups = [_group(analysis, study, columns[analysis]) for analysis in first]
    root = tree.report(TITLE, [analysis.image for analysis in study.images], models, groups, notes, sections)
    content = repr((summed, [reference.identity.sop_instance_uid for reference in cited]))
    identity = study_identity(ObjectKind.FINDINGS_REPORT, study.images, settings, content)
    instances = [*(analysis.image.instance for analysis in study.images), *skipped]
    elsewhere = {series_of_part(study, number) for number in range(2, len(study.earlier) + 2)}
    before = chain(study.earlier, ObjectKind.FINDINGS_REPORT, *(instance.sop_instance_uid for instance in instances))
    before = [report for report in before if report.identity.series_instance_uid not in elsewhere]
    place = succeed(Reference(EnhancedSRStorage, identity), before)
    yield _report(study.images, place, settings, root, evidence(instances, cited))
    yield from (encoded for _, encoded in further)


def _further(
    study: StudyAnalysis,
    number: int,
    images: Sequence[ImageAnalysis],
    columns: Mapping[ImageAnalysis, Sequence[_Column]],
    settings: Settings,
) -> tuple[Succession, Encoded]:
    """The report with the groups of images that have no room in the table of the first."""
    identity = part_identity(study, number, images, settings)
    before = chain(
        study.earlier, ObjectKind.FINDINGS_REPORT, *(a.image.instance.sop_instance_uid for a in study.images)
    )
    series = [report for report in before if report.identity.series_instance_uid == identity.series_instance_uid]
    place = succeed(Reference(EnhancedSRStorage, identity), series)
    groups = [_group(analysis, study, columns[analysis]) for analysis in images]
    notes = map(tree.summary, (NOT_FOR_CLINICAL_USE, _FURTHER))
    root = tree.report(TITLE, [analysis.image for analysis in images], _models(images), groups, notes)
    cited = evidence(analysis.image.instance for analysis in images)
    return place, _report(images, place, settings, root, cited, f" {number}")


def _report(
    images: Sequence[ImageAnalysis],
    place: Succession,
    settings: Settings,
    root: hd.ContentItem,
    cited: Dataset,
    number: str = "",
) -> Encoded:
    head = Head(
        reference=place.reference,
        image=about_study([analysis.image for analysis in images]),
        models=_models(images),
        settings=settings,
        modality="SR",
        series_number=SERIES_NUMBER,
        series_description=f"Findings{number}; not for clinical use",
    )
    dataset = report_document(head, root, cited, place.predecessor)
    dataset.CodingSchemeIdentificationSequence += coding_scheme_items(MANUFACTURER, PROBABILITY_SCHEME)
    sources = tuple(analysis.image.instance.sop_instance_uid for analysis in images)
    return Encoded(ObjectKind.FINDINGS_REPORT, dataset, sources, None)


def _models(images: Iterable[ImageAnalysis]) -> list[ModelInfo]:
    return list({p.model.name: p.model for analysis in images for p in analysis.predictions}.values())


def _section(section: Section) -> hd.ContentItem:
    return tree.container(section.heading, [*map(tree.summary, section.lines), *map(_section, section.sections)])


# --- measurements --------------------------------------------------------------------------------


class _Column(NamedTuple):
    """A number of an image, and what distinguishes it from the others."""

    key: tuple[str, Code, Code]  # model, quantity and unit
    item: hd.ContentItem


def _columns_of(study: StudyAnalysis) -> dict[ImageAnalysis, list[_Column]]:
    """The numbers of each image, that with most numbers first, all in its order."""
    columns = {analysis: list(_columns(analysis)) for analysis in study.images}
    ordered = sorted(columns, key=lambda analysis: -len(columns[analysis]))
    keys = list(dict.fromkeys(column.key for analysis in ordered for column in columns[analysis]))
    return {analysis: sorted(columns[analysis], key=lambda column: keys.index(column.key)) for analysis in ordered}


def _group(analysis: ImageAnalysis, study: StudyAnalysis, columns: Sequence[_Column]) -> hd.ContentItem:
    image = analysis.image
    number = f" {study.images.index(analysis) + 1}" if len(study.images) > 1 else ""
    return tree.group(
        derived_uid("analysis", image.instance.sop_instance_uid),
        f"{image.view or 'Frontal'} chest radiograph{number}",
        [
            tree.comment(_FOR_MACHINES),
            *(column.item for column in columns),
            *_evaluations(analysis),
            tree.source(image.instance),
        ],
    )


def _evaluations(analysis: ImageAnalysis) -> Iterator[hd.ContentItem]:
    """What was called, and what could not be measured."""
    for finding, model in ranked(analysis):
        reasons = [_site_point(finding.site_point)] if finding.site_point else []
        if finding.is_withheld and analysis.content:
            reasons.append(f"No call: {analysis.content.sentence}.")
        yield tree.call(finding.code, CALLS[finding.call], model, tuple(reasons))
    for prediction in analysis.predictions:
        for statement in prediction.statements:
            rule = tree.reason(f"Rule on {statement.measurement}: {statement.rule}")
            yield tree.statement(
                statement.concept, CALLS[statement.call], [*tree.algorithm_name(prediction.model), rule]
            )
        for measurement in prediction.measurements:
            if measurement.value is None:
                yield tree.failure(measurement.code, f"Not measurable: {measurement.reason}")


def _site_point(site: SiteOperatingPoint) -> str:
    """Say that an operating point is not the model's own."""
    upstream = "none" if site.upstream is None else f"{site.upstream:.6g}"
    calibrated = "" if site.probability is None else f"; calibrated on images of this site: {site.probability:.4f}"
    return f"Site operating point, file SHA-256 {site.sha256}; the model's own: {upstream}{calibrated}"


def _columns(analysis: ImageAnalysis) -> Iterator[_Column]:
    """Scores in the order of the summary, then the numbers of no structure; lines have a report of their own."""
    for finding, model in ranked(analysis):
        yield _Column((model.name, finding.code, NO_UNITS), _score(finding, model))
    for prediction in analysis.predictions:
        for measurement in prediction.measurements:
            of_structure = is_of_structure(measurement, prediction, analysis)
            if measurement.value is not None and not is_line(measurement) and not of_structure:
                item = tree.number(
                    measurement.code,
                    measurement.value,
                    measurement.unit,
                    [*tree.modifying_sites(measurement.site), *tree.algorithm_name(prediction.model)],
                )
                yield _Column((prediction.model.name, measurement.code, measurement.unit), item)


def _score(finding: Finding, model: ModelInfo) -> hd.ContentItem:
    """A probability, with the finding and the network as modifiers, and what it was calibrated from."""
    code = finding.code
    quantity = Code(value=code.value, scheme=PROBABILITY_SCHEME, meaning=f"{code.meaning}, probability"[:64])
    point = finding.operating_point
    return tree.number(
        quantity,
        finding.probability,
        NO_UNITS,
        [
            tree.about(code),
            *tree.modifying_sites(finding.site),
            *tree.algorithm_name(model),
            tree.numeric_property(_NETWORK_OUTPUT, finding.raw, NO_UNITS),
            *([] if point is None else [tree.numeric_property(_OPERATING_POINT, point, NO_UNITS)]),
        ],
    )


# --- what else is said ---------------------------------------------------------------------------


def _outcomes(study: StudyAnalysis, skipped: dict[StoredInstance, Skipped]) -> Iterator[hd.ContentItem]:
    """Which images were analysed, and why others were not."""
    for analysis in study.images:
        yield tree.statement(_ANALYSIS, _ANALYSED, [tree.seen_on(analysis.image.instance)])
        yield from _content(analysis)
    for instance, skip in skipped.items():
        content = [tree.seen_on(instance), tree.reason(f"{skip.reason}: {skip.detail}")]
        yield tree.statement(_ANALYSIS, _NOT_ANALYSED, content)


def _content(analysis: ImageAnalysis) -> Iterator[hd.ContentItem]:
    """What the pixels say against the header, a code for each thing; nothing of a picture that is as declared."""
    content = analysis.content
    if content is None or content.passed:
        return
    for code in [_WAYS[word] for word in content.way.words] or [_DOUBTFUL]:
        about = [tree.seen_on(analysis.image.instance), tree.reason(content.sentence)]
        yield tree.statement(_CONTENT, code, about)


def _provenance(
    study: StudyAnalysis, models: Iterable[ModelInfo], cited: Iterable[Reference], settings: Settings
) -> Iterator[hd.ContentItem]:
    """Networks with weights, settings, methods, and the objects of this result."""
    for model in models:
        yield tree.container(_MODEL, [*tree.algorithm(model), tree.comment(f"{model.title}. {model.citation}")])
    yield tree.comment(f"{MANUFACTURER} {__version__}; settings SHA-256 {settings.digest}")
    spacings = dict.fromkeys(spacing_text(analysis.image) for analysis in study.images)
    yield from (tree.comment(f"Lengths: {text}") for text in spacings)
    yield from (tree.comment(f"{', '.join(names)}: {method}") for method, names in _methods(study).items())
    yield from map(tree.result, cited)


def _methods(study: StudyAnalysis) -> dict[str, list[str]]:
    """How numbers were made, once for all that were made so."""
    methods: dict[str, list[str]] = {}
    for analysis in study.images:
        for measurement in (m for p in analysis.predictions for m in p.measurements if m.method):
            names = methods.setdefault(measurement.method, [])
            if measurement.code.meaning not in names:
                names.append(measurement.code.meaning)
    return methods
