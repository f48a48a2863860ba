"""Searches for studies, series and instances (QIDO-RS, PS3.18 10.6)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.tag import Tag

from cxr_dicom.dicom.files import values
from cxr_dicom.errors import ImageError
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.dicomweb.holdings import Held, Holdings
from cxr_dicom.web.dicomweb.metadata import Json, attributes

PAGE = 100  # results of one answer, where fewer are not asked for
MOST = 500
_MAX_KEYS = 64  # of one request
_MAX_ITEMS = 100  # of a sequence that are compared
_MAX_DEPTH = 3
_MAX_READ = 2000  # studies whose headers are read for one search

_STUDY = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "TimezoneOffsetFromUTC"),
    *("StudyDescription", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"),
)
_SERIES = (
    *("StudyInstanceUID", "Modality", "TimezoneOffsetFromUTC", "SeriesDate", "SeriesTime", "SeriesDescription"),
    *("SeriesInstanceUID", "SeriesNumber", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    "RequestAttributesSequence",
)
_INSTANCE = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "TimezoneOffsetFromUTC"),
    *("InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
)
_OF_ALL = ("StudyDate", "AccessionNumber", "PatientName", "PatientID", "Modality")  # beside those, of all studies
_OPTIONS = ("limit", "offset", "includefield", "fuzzymatching", "accept")
_LISTS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for."""

    keys: Mapping[str, str]  # keyword, or those of a sequence and of what it holds with a dot -> what a value is like
    more: Sequence[str]  # keywords of attributes that are wanted beside the usual
    has_all: bool  # every attribute is wanted
    is_fuzzy: bool
    limit: int
    offset: int

    @classmethod
    def of(cls, items: Sequence[tuple[str, str]]) -> Query:
        """Read the query of an address.

        Raises
        ------
        NotAnsweredError
            If it cannot be understood.
        """
        if len(items) > _MAX_KEYS:
            raise NotAnsweredError(400, f"Expected at most {_MAX_KEYS} parameters.")
        options = [(name, value) for name, value in items if name in _OPTIONS]
        given = dict(options)
        fields = [field for name, value in options if name == "includefield" for field in value.split(",")]
        return cls(
            keys={_path(name): value for name, value in items if name not in _OPTIONS and value},
            more=[_keyword(field.partition(".")[0]) for field in fields if field and field != "all"],
            has_all="all" in fields,
            is_fuzzy=given.get("fuzzymatching") == "true",
            limit=min(_number(given, "limit", PAGE), MOST),
            offset=_number(given, "offset", 0),
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """One page of results."""

    results: Sequence[Json]
    has_more: bool


class Searches:
    """Searches in what is held."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def studies(self, query: Query, root: str) -> Found:
        """Search for studies."""
        return _page((self._study(uid, query, root) for uid in self._wanted(query)), query)

    def series(self, study: str, query: Query, root: str) -> Found:
        """Search for series of a study, or of all."""
        usual = _SERIES if study else _OF_ALL + _SERIES
        studies = [study] if study else self._wanted(query)
        return _page((_series(group, usual, query, root) for uid in studies for group in self._groups(uid)), query)

    def instances(self, study: str, series: str, query: Query, root: str) -> Found:
        """Search for instances of a study, of one of its series, or of all."""
        usual = _INSTANCE if study else _OF_ALL + _INSTANCE
        studies = [study] if study else self._wanted(query)
        found = (each for uid in studies for each in self._holdings.instances(uid, series))
        return _page((_instance(each, usual, query, root) for each in found), query)

    def _wanted(self, query: Query) -> Iterator[str]:
        """Return the studies that are looked at; where there are many, none are for what only headers say."""
        uids = query.keys.get("StudyInstanceUID")
        wanted = iter(dict.fromkeys(re.split(r"[,\\]", uids))) if uids else self._holdings.studies()
        first = list(islice(wanted, _MAX_READ + 1))
        if len(first) > _MAX_READ and any(key != "StudyInstanceUID" for key in query.keys):
            raise NotAnsweredError(413, f"Of more than {_MAX_READ} studies, these are found by StudyInstanceUID only.")
        return chain(first, wanted)

    def _groups(self, study: str) -> Iterable[list[Held]]:
        """Return the instances of each series of a study."""
        groups: dict[str, list[Held]] = {}
        for each in self._holdings.instances(study):
            groups.setdefault(each.series, []).append(each)
        return groups.values()

    def _study(self, uid: str, query: Query, root: str) -> Json | None:
        instances = self._holdings.instances(uid)
        first = _read(instances[:1], _STUDY, query)
        if first is None:
            return None
        modalities = {str(each) for held in instances for each in _values(held, "Modality")}
        first.ModalitiesInStudy = sorted(modalities)
        first.InstanceAvailability = "ONLINE"
        first.RetrieveURL = f"{root}/studies/{uid}"
        first.NumberOfStudyRelatedSeries = len({each.series for each in instances})
        first.NumberOfStudyRelatedInstances = len(instances)
        return attributes(first) if _matches(first, query) else None


def _series(group: Sequence[Held], usual: Sequence[str], query: Query, root: str) -> Json | None:
    made = _read(group, usual, query)
    if made is None:
        return None
    made.InstanceAvailability = "ONLINE"
    made.RetrieveURL = f"{root}/studies/{group[0].study}/series/{group[0].series}"
    made.NumberOfSeriesRelatedInstances = len(group)
    return attributes(made) if _matches(made, query) else None


def _instance(held: Held, usual: Sequence[str], query: Query, root: str) -> Json | None:
    made = _read([held], usual, query)
    if made is None:
        return None
    made.InstanceAvailability = "ONLINE"
    made.RetrieveURL = f"{root}/studies/{held.study}/series/{held.series}/instances/{held.uid}"
    return attributes(made) if _matches(made, query) else None


def _read(instances: Sequence[Held], usual: Sequence[str], query: Query) -> Dataset | None:
    """Read what a search tells and asks of the first instance that can be read."""
    asked = (path.partition(".")[0] for path in query.keys)
    keywords = () if query.has_all else tuple(dict.fromkeys((*usual, *query.more, *asked)))
    for held in instances:
        try:
            dataset = held.header(keywords).dataset
        except ImageError:
            continue
        for keyword in usual:
            if keyword not in dataset and dictionary_VR(keyword) != "SQ":
                setattr(dataset, keyword, None)
        return dataset
    return None


def _values(held: Held, keyword: str) -> Iterable[object]:
    try:
        return values(held.header((keyword,)).dataset, keyword)
    except ImageError:
        return ()


def _page(results: Iterator[Json | None], query: Query) -> Found:
    found = list(islice((each for each in results if each is not None), query.offset, query.offset + query.limit + 1))
    return Found(results=found[: query.limit], has_more=len(found) > query.limit)


def _matches(dataset: Dataset, query: Query) -> bool:
    return all(_is_like(dataset, keyword, wanted) for keyword, wanted in query.keys.items())


def _is_like(dataset: Dataset, path: str, wanted: str) -> bool:
    """Whether a value matches: one of a list of UIDs, a range, wildcards or the value itself (PS3.4 C.2.2.2)."""
    keyword, _, inner = path.partition(".")
    if inner:
        items = (item for item in values(dataset, keyword) if isinstance(item, Dataset))
        return any(_is_like(item, inner, wanted) for item in islice(items, _MAX_ITEMS))
    vr = dictionary_VR(keyword)
    is_like: Callable[[str], bool]
    if keyword in _LISTS or vr == "UI":
        is_like = re.split(r"[,\\]", wanted).__contains__
    elif vr in ("DA", "TM", "DT") and "-" in wanted:
        first, _, last = wanted.partition("-")
        is_like = lambda value: first <= value and (not last or value[: len(last)] <= last)  # noqa: E731
    elif vr == "PN":
        pattern = _pattern(wanted.lower())
        is_like = lambda value: pattern.fullmatch(value.lower()) is not None  # noqa: E731
    else:
        exact = _pattern(wanted)
        is_like = lambda value: exact.fullmatch(value) is not None  # noqa: E731
    return any(is_like(str(value)) for value in values(dataset, keyword))


def _pattern(wanted: str) -> re.Pattern[str]:
    """Read `*` and `?` only as wildcards; what follows each other counts once, so that no text takes long."""
    return re.compile(fnmatch.translate(re.sub(r"\*+", "*", wanted[:128]).replace("[", "[[]")))


def _path(name: str) -> str:
    """Return the keywords of an attribute, or of one within sequences, with dots (PS3.18 8.3.4.1)."""
    parts = name.split(".")
    keywords = [_keyword(part) for part in parts[:_MAX_DEPTH]]
    if len(parts) > _MAX_DEPTH or any(dictionary_VR(keyword) != "SQ" for keyword in keywords[:-1]):
        raise NotAnsweredError(400, f"Expected an attribute, or one within at most {_MAX_DEPTH - 1} sequences.")
    return ".".join(keywords)


def _keyword(name: str) -> str:
    """Return the keyword of an attribute that is given by it, or by its tag."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        keyword = keyword_for_tag(Tag(int(name, 16)))
    else:
        keyword = name if tag_for_keyword(name) is not None else ""
    if not keyword:
        raise NotAnsweredError(400, "Expected keywords or tags of attributes that the standard has.")
    return keyword


def _number(given: Mapping[str, str], name: str, otherwise: int) -> int:
    text = given.get(name, "")
    if text and not re.fullmatch(r"[0-9]{1,9}", text):
        raise NotAnsweredError(400, f"Expected a number as {name}.")
    return int(text) if text else otherwise
