"""Is it the study, or the machine that it was tried on? The one place that decides.

What may be the fault of a place is tried on another one before it becomes the reason of a study. Where there is no
other place, or several agree, it is a reason.
"""

from __future__ import annotations

from cxr_dicom.cohort.states import State
from cxr_dicom.errors import PlaceError
from cxr_dicom.ingest.manifest import Entry
from cxr_dicom.records import Reason

_OF_EITHER = frozenset(
    {
        Reason.MODEL_FAILED,  # an accelerator that broke fails all that follows
        Reason.ENCODING_FAILED,  # a file system that went away
        Reason.INTERNAL_ERROR,  # a library that is damaged there
        Reason.FETCH_FAILED,  # no way to the archive, or no credentials
    }
)


def expect_of_study(state: State, entry: Entry) -> State:
    """Return a state that says something of the study.

    Raises
    ------
    PlaceError
        If it may be this machine that is at fault: nothing of it is kept.
    """
    if reasons := [row["reason"] for row in state.rows if _may_be_of_place(row["reason"], entry)]:
        detail = next(row["detail"] for row in state.rows if row["reason"] == reasons[0])
        raise PlaceError(f"{reasons[0]}: {detail}")
    return state


def _may_be_of_place(reason: str | None, entry: Entry) -> bool:
    """A file that was fetched and cannot be read was sent so; one that was listed here could be read here."""
    return reason in _OF_EITHER or (reason == Reason.UNREADABLE and entry.study is not None)
