"""How exactly objects state what networks gave, so that the last bits of a processor are not another result.

With other instruction sets (AVX2, AVX-512) or numbers of threads a network adds up in another order, and its scores
move by about 1e-6. Objects state fewer digits than that: no score is that exact, since a shift of the picture by one
pixel moves it by more. `results.jsonl` has all digits. A score that stands next to a limit of rounding may still be
stated differently (about 1 image in 100 of 18 findings), and then is another result with UIDs of its own.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor, isfinite, log10

from cxr_dicom.records import Detection, Finding, ImageAnalysis, Measurement, Prediction, StudyAnalysis

SCORE_DIGITS = 3  # significant ones of a score, and of what it lacks to 1
VALUE_DIGITS = 4  # significant ones of a number that no outline gives
BOX_PARTS = 100  # of a pixel

_CALLED_FROM = 0.5  # calibrated probability at the operating point


def stated(study: StudyAnalysis) -> StudyAnalysis:
    """Return what objects say of a study: scores, boxes and numbers of networks with the digits that are stated."""
    return replace(study, images=tuple(map(_analysis, study.images)))


def score(value: float, point: float | None = None) -> float:
    """Round a score to `SCORE_DIGITS`, of itself or of what it lacks to 1, whichever is finer.

    Parameters
    ----------
    value
        0 to 1.
    point
        What it was compared with, 0 to 1: the result is at or above it where ``value`` is.
    """
    smaller = min(value, 1 - value)
    if not smaller > 0:
        return value
    places = SCORE_DIGITS - 1 - floor(log10(smaller))
    rounded = round(value, places)
    if point is None or (rounded >= point) == (value >= point):
        return rounded
    unit = 10.0**places
    return (ceil if value >= point else floor)(value * unit) / unit


def _analysis(analysis: ImageAnalysis) -> ImageAnalysis:
    return replace(analysis, predictions=tuple(map(_prediction, analysis.predictions)))


def _prediction(prediction: Prediction) -> Prediction:
    return replace(
        prediction,
        findings=tuple(map(_finding, prediction.findings)),
        measurements=tuple(map(_measurement, prediction.measurements)),
        detections=tuple(map(_detection, prediction.detections)),
    )


def _finding(finding: Finding) -> Finding:
    point, site = finding.operating_point, finding.site_point
    if site is not None and site.probability is not None:
        site = replace(site, probability=score(site.probability))
    return replace(
        finding,
        raw=score(finding.raw, point),
        probability=score(finding.probability, None if point is None else _CALLED_FROM),
        site_point=site,
    )


def _measurement(measurement: Measurement) -> Measurement:
    value = measurement.value
    if value is None or measurement.points or measurement.derived_from or not isfinite(value):
        return measurement  # outlines give whole pixels, the same ones on all processors but for a few
    return replace(measurement, value=float(f"{value:.{VALUE_DIGITS}g}"))


def _detection(detection: Detection) -> Detection:
    left, top, right, bottom = (round(edge * BOX_PARTS) / BOX_PARTS for edge in detection.box)
    return replace(detection, score=score(detection.score), box=(left, top, right, bottom))
