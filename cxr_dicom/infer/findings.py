"""The findings that classifiers score, with their codes, by the label that TorchXRayVision gives them.

SCT where SNOMED CT has the concept that the label means; DCM for the terms of chest radiography in
PS3.16; else the private scheme, for labels that training sets define only by their name.
"""

from __future__ import annotations

from dataclasses import dataclass

from cxr_dicom.dicom.codes import HEART, LUNG, private
from cxr_dicom.records import Code


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingType:
    """What a score is about."""

    name: str  # stable key, snake_case
    code: Code
    site: Code | None = None  # anatomic site, where the code itself does not imply it

    @property
    def title(self) -> str:
        """For people."""
        return self.name.replace("_", " ").capitalize()


_PLEURA = Code(value="3120008", scheme="SCT", meaning="Pleura")
_MEDIASTINUM = Code(value="72410000", scheme="SCT", meaning="Mediastinum")


def _snomed(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="SCT", meaning=meaning)


def _dicom(value: str, meaning: str) -> Code:
    return Code(value=value, scheme="DCM", meaning=meaning)


def _type(name: str, code: Code, site: Code | None = None) -> FindingType:
    return FindingType(name=name, code=code, site=site)


FINDINGS = {
    "Atelectasis": _type("atelectasis", _snomed("46621007", "Atelectasis"), LUNG),
    "Consolidation": _type("consolidation", _snomed("95436008", "Lung consolidation")),
    "Infiltration": _type("infiltration", _dicom("112121", "Infiltrate"), LUNG),
    "Pneumothorax": _type("pneumothorax", _snomed("36118008", "Pneumothorax")),
    "Edema": _type("edema", _snomed("19242006", "Pulmonary edema")),
    "Emphysema": _type("emphysema", _snomed("87433001", "Pulmonary emphysema")),
    "Fibrosis": _type("fibrosis", _snomed("51615001", "Fibrosis of lung")),
    "Effusion": _type("pleural_effusion", _snomed("60046008", "Pleural effusion")),
    "Pneumonia": _type("pneumonia", _snomed("233604007", "Pneumonia")),
    "Pleural_Thickening": _type("pleural_thickening", private("PLEURAL_THICK", "Pleural thickening"), _PLEURA),
    "Cardiomegaly": _type("cardiomegaly", _snomed("8186001", "Cardiomegaly"), HEART),
    "Nodule": _type("nodule", _snomed("27925004", "Nodule"), LUNG),
    "Mass": _type("mass", _snomed("4147007", "Mass"), LUNG),
    "Hernia": _type("hernia", private("HERNIA", "Hernia, mostly hiatal")),
    "Lung Lesion": _type("lung_lesion", _snomed("52988006", "Lesion"), LUNG),
    "Fracture": _type("fracture", _snomed("125605004", "Fracture of bone")),
    "Lung Opacity": _type("lung_opacity", _dicom("112001", "Opacity"), LUNG),
    "Enlarged Cardiomediastinum": _type(
        "enlarged_cardiomediastinum", private("ENLARGED_CARDMED", "Enlarged cardiomediastinal silhouette"), _MEDIASTINUM
    ),
}


def names(*labels: str) -> tuple[str, ...]:
    """Stable names of upstream ``labels``; an empty label is an output that was not trained, and is left out."""
    return tuple(FINDINGS[label].name for label in labels if label)
