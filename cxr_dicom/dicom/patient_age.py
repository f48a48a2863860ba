"""How old a patient was when an image was made, from what its header says."""

from __future__ import annotations

import re
from datetime import date

from pydicom import Dataset

from cxr_dicom.dicom.files import values

_OLDEST_PLAUSIBLE = 125
_AGES_PER_YEAR = {"Y": 1, "M": 12, "W": 52, "D": 365}  # Age String (PS3.5 6.2)
_AGE = re.compile(r"(\d{1,3})\s*([YMWD]?)")
_DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})")  # DA, and how ACR-NEMA wrote it


def completed_years(header: Dataset) -> int | None:
    """Years from Patient's Age, else between the dates of birth and of the image; None where that is not plausible.

    An age without its unit is taken for years. Where the date of birth says less, that counts: a
    child is never taken for an adult because a letter is missing.
    """
    found = _AGE.fullmatch(_text(header, "PatientAge").upper())
    born = _plausible(_since_birth(header))
    if not found:
        return born
    number, unit = int(found[1]), found[2]
    if unit:
        return _plausible(number // _AGES_PER_YEAR[unit])
    stated = _plausible(number)
    return stated if born is None else born if stated is None else min(stated, born)


def is_date(text: str) -> bool:
    """Whether a text is a day of the calendar; 99999999 and 20240230 are none."""
    return _date(text) is not None


def _since_birth(header: Dataset) -> int | None:
    days = (_date(_text(header, keyword)) for keyword in ("AcquisitionDate", "StudyDate"))
    day, birth = next(filter(None, days), None), _date(_text(header, "PatientBirthDate"))
    if day is None or birth is None:
        return None
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def _plausible(years: int | None) -> int | None:
    return years if years is not None and 0 <= years <= _OLDEST_PLAUSIBLE else None


def _date(text: str) -> date | None:
    found = _DATE.fullmatch(text)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def _text(header: Dataset, keyword: str) -> str:
    return " ".join(map(str, values(header, keyword))).strip()
