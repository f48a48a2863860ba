"""``ensemble``: the mean of the calibrated scores of all classifiers that ran before it.

It is a line in the config, behind the classifiers that it joins, and needs no weights of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from cxr_dicom.config import Settings
from cxr_dicom.errors import ModelError
from cxr_dicom.infer.findings import FINDINGS, names
from cxr_dicom.records import Finding, ModelInfo, Prediction, Presence, Radiograph

OPERATING_POINT = 0.5  # of a calibrated score, by its definition

MODELS = (
    ModelInfo(
        name="ensemble",
        version="1",
        title="Mean of the calibrated scores of the classifiers named before it",
        predicts=names(*FINDINGS),
        input_size=None,
        manufacturer="cxr-dicom",
        licence="Apache-2.0",
        citation="docs/models/README.md",
        trained_on="nothing: what the classifiers before it were trained on counts",
        operating_points="0.5, the mean of the classifiers' own",
        failures=(
            "Each classifier weighs the same, also one that is wrong; a finding that one alone scores is its own.",
        ),
    ),
)


def build(name: str, settings: Settings) -> Ensemble:
    """Make the model; there is nothing to load."""
    return Ensemble()


@dataclass(frozen=True)
class Ensemble:
    """A vote of classifiers, each with the same weight; scores without an operating point have none."""

    info: ModelInfo = MODELS[0]

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Join the scores of ``earlier``.

        Raises
        ------
        ModelError
            If no classifier ran before.
        """
        members: dict[str, list[Finding]] = {}
        for finding in (finding for prediction in earlier for finding in prediction.findings):
            if finding.operating_point is not None:
                members.setdefault(finding.name, []).append(finding)
        if not members:
            raise ModelError("ensemble: no classifier with operating points is named before it in models.names")
        return Prediction(model=self.info, findings=tuple(_mean(findings) for findings in members.values()))

    def close(self) -> None:
        """Nothing to give back."""


def _mean(findings: Sequence[Finding]) -> Finding:
    first, probability = findings[0], fmean(finding.probability for finding in findings)
    return Finding(
        name=first.name,
        code=first.code,
        site=first.site,
        raw=probability,
        probability=probability,
        operating_point=OPERATING_POINT,
        call=Presence.PRESENT if probability >= OPERATING_POINT else Presence.ABSENT,
    )
