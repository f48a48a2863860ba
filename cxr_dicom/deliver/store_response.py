"""What the answer to a store request says of its objects (Store Instances Response Module, PS3.18 10.5.3 and annex I).

The answer comes from outside: it may be a page, name other objects, contradict itself, or hold anything that JSON can
hold. What does not clearly say something of the object says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr_dicom.dicom.native_model import dataset_of
from cxr_dicom.records import DeliveryStatus
from cxr_dicom.system import retry
from cxr_dicom.system.reasons import values_of
from cxr_dicom.system.words import PROCESSING_FAILURE

_FAILED, _STORED, _OTHER_FAILURES = "00081198", "00081199", "0008119A"  # sequences
_INSTANCE_UID = "00081155"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"
_PADDING = " \0"

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a store response says of one object."""

    verdict: DeliveryStatus
    reason: int  # Failure Reason or Warning Reason; 0 where there is none


def said_of(uids: Collection[str], content: bytes) -> Mapping[str, Said]:
    """Return what a response says of the objects of a request, whatever media type it is declared as.

    It may be DICOM JSON, or XML of the Native DICOM Model (PS3.19 A.1), which some servers send whatever is accepted.
    A failure without a name is that of the only object; of several, it is nobody's.

    Parameters
    ----------
    uids
        SOP Instance UIDs of all objects of the request.
    content
        Body of the response.

    Returns
    -------
    Mapping
        By SOP Instance UID; without the objects of which it says nothing that is clear.
    """
    try:
        is_xml = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
        body = dataset_of(content) if is_xml else values_of(content)
    except (ValueError, RecursionError):
        return {}
    stored, failed = _named(body, _STORED), _named(body, _FAILED)
    unnamed = [*failed.get(None, ()), *_items(body, _OTHER_FAILURES)] if len(uids) == 1 else []
    said = {uid: _said(stored.get(uid, []), failed.get(uid, []), unnamed) for uid in uids}
    return {uid: each for uid, each in said.items() if each is not None}


def _said(stored: Sequence[Json], failed: Sequence[Json], unnamed: Sequence[Json]) -> Said | None:
    """Judge the items about an object."""
    if stored:
        warning = next(filter(None, (_code(item, _WARNING_REASON) for item in stored)), 0)
        said = Said(verdict=DeliveryStatus.WARNING if warning else DeliveryStatus.ACCEPTED, reason=warning)
        return None if failed else said
    for item in (*failed, *unnamed):
        reason = _code(item, _FAILURE_REASON)
        reason = PROCESSING_FAILURE if reason is None else reason
        verdict = retry.answer_of_dimse(reason)
        is_contradiction = reason == retry.SUCCESS or verdict is DeliveryStatus.WARNING
        return None if is_contradiction else Said(verdict=verdict, reason=reason)
    return None


def _named(body: Any, tag: str) -> Mapping[str | None, Sequence[Json]]:
    """Return the items of a sequence by the object that they name; None: by those that name none."""
    named: dict[str | None, list[Json]] = {}
    for item in _items(body, tag):
        named.setdefault(_text(item, _INSTANCE_UID), []).append(item)
    return named


def _items(body: Any, tag: str) -> Iterator[Json]:
    """Yield the items of a sequence of a data set, or of each of several."""
    for dataset in body if isinstance(body, list) else [body]:
        yield from (item for item in _values(dataset, tag) if isinstance(item, Mapping))


def _values(dataset: Any, tag: str) -> list[Any]:
    attribute = dataset.get(tag) if isinstance(dataset, Mapping) else None
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    return values if isinstance(values, list) else []


def _text(item: Json, tag: str) -> str | None:
    """Return a UID without its padding; None where there is none."""
    values = _values(item, tag)
    return (values[0].strip(_PADDING) or None) if values and isinstance(values[0], str) else None


def _code(item: Json, tag: str) -> int | None:
    """Return an unsigned short; None where there is none, or another value."""
    try:
        code = int(_values(item, tag)[0])
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    return code if 0 <= code <= 0xFFFF else None
