"""Structured reports (TID 1500): measurements of each image, findings of the study."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_dicom.config import Settings
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.records import StudyAnalysis


def build(settings: Settings) -> Encoder:
    """Make the encoder of structured reports."""
    return ReportEncoder(settings)


class ReportEncoder:
    """Two kinds of report, because OHIF loads one with any group that lacks coordinates not at all."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield one measurement report per image, and one findings report."""
        from cxr_dicom.encode.sr_findings import findings_report
        from cxr_dicom.encode.sr_measurements import measurement_report

        for analysis in study.images:
            report = measurement_report(analysis, study.earlier, self._settings)
            if report:
                yield report
        findings = findings_report(study, self._settings)
        if findings:
            yield findings
