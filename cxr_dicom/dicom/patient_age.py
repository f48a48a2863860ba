"""How old a patient was when an image was made, from what its header says."""

from __future__ import annotations

from pydicom import Dataset

from cxr_dicom.dicom.files import values

_OLDEST_PLAUSIBLE = 125
_AGES_PER_YEAR = {"Y": 1, "M": 12, "W": 52, "D": 365}  # Age String (PS3.5 6.2)


def completed_years(header: Dataset) -> int | None:
    """Years from Patient's Age, else between the dates of birth and of the image; None where that is not plausible."""
    years = _stated(_text(header, "PatientAge"))
    if years is None:
        days = [date for keyword in ("AcquisitionDate", "StudyDate") if (date := _date(header, keyword))]
        birth = _date(header, "PatientBirthDate")
        years = (days[0] - birth) // 10_000 if days and birth else None
    return years if years is not None and 0 <= years <= _OLDEST_PLAUSIBLE else None


def _stated(text: str) -> int | None:
    number, unit = text[:-1], text[-1:]
    return int(number) // _AGES_PER_YEAR[unit] if number.isdecimal() and unit in _AGES_PER_YEAR else None


def _date(header: Dataset, keyword: str) -> int:
    """The date YYYYMMDD as a number, whose differences are years in the ten thousands; 0 where there is none."""
    text = _text(header, keyword)
    return int(text) if len(text) == 8 and text.isdecimal() else 0


def _text(header: Dataset, keyword: str) -> str:
    return " ".join(map(str, values(header, keyword))).strip()
