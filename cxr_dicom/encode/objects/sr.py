"""Structured reports (TID 1500): lines and structures of each image, findings of the study."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_dicom.config import Settings
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.encode.report_parts import most_rows
from cxr_dicom.records import StudyAnalysis


def build(settings: Settings) -> Encoder:
    """Make the encoder of structured reports."""
    return ReportEncoder(settings)


class ReportEncoder:
    """Three kinds of report, in the forms that both OHIF and Slicer load."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield, of each model on each image, its lines, structures and boxes; then the findings."""
        from cxr_dicom.encode.sr_detections import detection_reports
        from cxr_dicom.encode.sr_findings import findings_reports
        from cxr_dicom.encode.sr_measurements import measurement_reports, structure_reports

        most = most_rows(study.images, self._settings)
        for analysis in study.images:
            for prediction in analysis.predictions:
                for make in (measurement_reports, structure_reports, detection_reports):
                    yield from make(analysis, prediction, study.earlier, self._settings, most)
        yield from findings_reports(study, self._settings)
