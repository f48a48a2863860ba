"""Which report of an earlier result a changed one takes the place of (PS3.3 C.17.2).

The reports about one thing are a chain: each names the one before it, and its UID says so. A report
that says what the last one says is the last one, with the predecessor that it always had.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cxr_dicom.encode.identity import Identity, Reference, derived_uid
from cxr_dicom.records import WrittenObject


class Succession(NamedTuple):
    """A report, and the one that it takes the place of."""

    reference: Reference
    predecessor: Reference | None


def chain(earlier: Iterable[WrittenObject], kind: str, *source_sop_instance_uids: str) -> list[Reference]:
    """Return the earlier reports of ``kind`` that cover no images but these, the oldest first."""
    return [
        Reference(encoded.sop_class_uid, Identity(encoded.series_instance_uid, encoded.sop_instance_uid))
        for encoded in earlier
        if encoded.kind == kind and set(encoded.source_sop_instance_uids) <= set(source_sop_instance_uids)
    ]


def succeed(report: Reference, before: list[Reference]) -> Succession:
    """Place a report after those that were written before it, unless it is the last of them.

    Parameters
    ----------
    report
        As identified by what it says, without a predecessor.
    """
    if not before:
        return Succession(report, None)
    last, its_predecessor = before[-1], before[-2] if len(before) > 1 else None
    if _after(report, its_predecessor) == last:
        return Succession(last, its_predecessor)
    return Succession(_after(report, last), last)


def _after(report: Reference, predecessor: Reference | None) -> Reference:
    if predecessor is None:
        return report
    uid = derived_uid("successor", report.identity.sop_instance_uid, predecessor.identity.sop_instance_uid)
    return report._replace(identity=report.identity._replace(sop_instance_uid=uid))
