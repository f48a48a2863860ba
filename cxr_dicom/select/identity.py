"""Whose image it is: images of one Study Instance UID that belong to different patients.

Archives do give one UID to the studies of two patients. Objects that speak of a whole study would
then put the findings of one under the name of the other, so nothing is made of such a study.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from pydicom import Dataset
from pydicom.tag import Tag

from cxr_dicom.dicom.files import values
from cxr_dicom.dicom.text import fits_character_set

_IDENTIFYING = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
_OF_THE_STUDY = (
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "ReferringPhysicianName",
    "PatientAge",
)
_WORD = re.compile(r"[^\s^,.]+")
_NO_DATES = ("00000000", "99999999")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """What an image says of whose it is; an empty text where it says nothing. Holds patient data: never shown."""

    patient_id: str
    issuer: str
    name: tuple[frozenset[str], ...]  # component groups (PS3.5 6.2.1) of words
    birth_date: str
    sex: str

    @classmethod
    def of(cls, header: Dataset) -> Patient:
        """Read who the patient of an image is."""
        found = {keyword: _folded(header, keyword) for keyword in _IDENTIFYING}
        birth_date = found["PatientBirthDate"].replace(".", "")
        return cls(
            patient_id=found["PatientID"],
            issuer=found["IssuerOfPatientID"],
            name=tuple(frozenset(_WORD.findall(group)) for group in found["PatientName"].split("=")),
            birth_date=birth_date if len(birth_date) == 8 and birth_date not in _NO_DATES else "",
            sex=found["PatientSex"],
        )

    def contradictions(self, other: Patient) -> Iterator[str]:
        """Name the attributes in which two images do not speak of one patient; silence contradicts nothing."""
        for name, one, two in (
            ("Patient ID", self.patient_id, other.patient_id),
            ("Issuer of Patient ID", self.issuer, other.issuer),
            ("Patient's Birth Date", self.birth_date, other.birth_date),
            ("Patient's Sex", self.sex, other.sex),
        ):
            if _differ(one, two):
                yield name
        groups = zip(self.name, other.name, strict=False)
        if any(not (one <= two or two <= one) for one, two in groups):  # a second given name, or a title, is no other
            yield "Patient's Name"


def contradiction(headers: Iterable[Dataset]) -> str:
    """Say in which attributes two images of a study do not speak of one patient; empty when all do."""
    patients = dict.fromkeys(map(Patient.of, headers))
    differing = (", ".join(one.contradictions(two)) for one, two in combinations(patients, 2))
    found = next(filter(None, differing), "")
    return f"expected images of one patient under one Study Instance UID, found another {found}" if found else ""


def study_warnings(headers: Sequence[Dataset]) -> Iterator[str]:
    """Name what images of one patient say differently of their study: objects about the whole study leave it out."""
    for keyword in _OF_THE_STUDY:
        if len({_folded(header, keyword) for header in headers} - {""}) > 1:
            yield f"{keyword} differs among the images of the study: reports on the whole study leave it empty"


def identity_warnings(header: Dataset) -> Iterator[str]:
    """Say which identifying texts are not in the declared character set; they are copied byte for byte."""
    odd = [keyword for keyword in ("PatientID", "PatientName") if not fits_character_set(header, Tag(keyword))]
    if odd:
        yield f"{' and '.join(odd)}: bytes do not fit Specific Character Set, kept as they are"


def _folded(header: Dataset, keyword: str) -> str:
    text = "\\".join(map(str, values(header, keyword)))
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _differ(one: str, two: str) -> bool:
    return bool(one.strip() and two.strip()) and one.strip() != two.strip()
