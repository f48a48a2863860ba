"""What an archive lists of a study: series and instances, compared with what was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from cxr_dicom.errors import FetchError
from cxr_dicom.ingest.archive import RemoteInstance
from cxr_dicom.ingest.doubts import Doubts
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.ingest.matching import Item, Keys, Verdict, judge

_SMALLEST_CAP = 10  # instances; what lists fewer leaves none out
_COUNT = re.compile(r"(\d{1,9})(\.0*)?", re.ASCII)


def first(item: Item, keyword: str) -> str:
    """Return the first value, or an empty text."""
    return next(iter(item.get(keyword, ())), "")


def counted(item: Item, keyword: str) -> int | None:
    """Return a number that an archive states, or None where it states none."""
    found = _COUNT.fullmatch(first(item, keyword))
    return int(found[1]) if found else None


def wanted_series(found: Iterable[Item], study: str, modalities: Sequence[str], doubts: Doubts) -> Iterator[Item]:
    """Yield the series of a study with one of the modalities, or with none that the archive tells.

    Raises
    ------
    FetchError
        At the end, if one cannot be read.
    """
    unreadable = 0
    for item in _theirs(found, {"StudyInstanceUID": study}, doubts):
        if (modality := first(item, "Modality")) and modality.upper() not in modalities:
            continue
        if is_uid(first(item, "SeriesInstanceUID")):
            yield item
        else:
            unreadable += 1
    if unreadable:
        raise FetchError(f"expected a Series Instance UID in each item of the answer, found none in {unreadable}")


def listed(found: Iterable[Item], study: str, series: Item, doubts: Doubts) -> Iterator[RemoteInstance]:
    """Yield the instances of a series.

    Raises
    ------
    FetchError
        At the end, if one cannot be read, or fewer are listed than the archive says there are.
    """
    series_uid = first(series, "SeriesInstanceUID")
    uids, unreadable = set(), 0
    for item in _theirs(found, {"StudyInstanceUID": study, "SeriesInstanceUID": series_uid}, doubts):
        if is_uid(uid := first(item, "SOPInstanceUID")):
            uids.add(uid)
            yield RemoteInstance(
                study_instance_uid=study,
                series_instance_uid=series_uid,
                sop_instance_uid=uid,
                sop_class_uid=first(item, "SOPClassUID"),
            )
        else:
            unreadable += 1
    stated = counted(series, "NumberOfSeriesRelatedInstances") or 0
    if unreadable:
        raise FetchError(f"expected a SOP Instance UID in each item of the answer, found none in {unreadable}")
    if _SMALLEST_CAP <= len(uids) < stated:
        raise FetchError(f"expected {stated} instances of a series, as the archive says, it lists {len(uids)}")


def _theirs(found: Iterable[Item], asked: Keys, doubts: Doubts) -> Iterator[Item]:
    """Yield what does not contradict the UIDs that were asked for; they need not be returned."""
    for item in found:
        verdict, keyword = judge(asked, item)
        if verdict is Verdict.FOREIGN:
            doubts.say(f"the archive lists what does not match {keyword}; it is left out")
        else:
            yield item
