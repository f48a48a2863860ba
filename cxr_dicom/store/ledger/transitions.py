"""The legal ways of a study from state to state; the table in ``docs/operations.md`` is checked against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cxr_dicom.records import StudyState

_NEW_IMAGE = "a new image came"
_REPROCESS = "`jobs reprocess`"

TRANSITIONS: Mapping[StudyState, Mapping[StudyState, str]] = {  # from, to, and when
    StudyState.RECEIVING: {
        StudyState.COMPLETE: "all of it is proved to be here, it was quiet for long enough, or `jobs complete`",
    },
    StudyState.COMPLETE: {
        StudyState.RUNNING: "a worker claimed it",
        StudyState.RECEIVING: _NEW_IMAGE,
        StudyState.HELD: "its workers died, or were ended, too often",
    },
    StudyState.RUNNING: {
        StudyState.ENCODED: "its result has objects",
        StudyState.IGNORED: "its result has none: nothing is eligible",
        StudyState.DEAD: "its result has none: what is eligible failed",
        StudyState.COMPLETE: "it failed in a way that may pass, its worker died, or the service was stopped",
        StudyState.RECEIVING: "its result came after a new image",
    },
    StudyState.ENCODED: {
        StudyState.SENT: "every destination took every object",
        StudyState.COMMITTED: "and those that were asked keep them",
        StudyState.DEAD: "an object was refused, for good or for `retry.give_up_hours`",
        StudyState.RECEIVING: _NEW_IMAGE,
        StudyState.COMPLETE: _REPROCESS,
    },
    StudyState.SENT: {
        StudyState.COMMITTED: "destinations said that they keep the objects",
        StudyState.ENCODED: "a destination does not have what it took, `jobs withdraw`, or `jobs resend`",
        StudyState.DEAD: "an object was not kept for `retry.give_up_hours`",
        StudyState.RECEIVING: _NEW_IMAGE,
        StudyState.COMPLETE: _REPROCESS,
    },
    StudyState.COMMITTED: {
        StudyState.ENCODED: "`jobs resend`",
        StudyState.SENT: "an object of an earlier result was taken, and its commitment is still to come",
        StudyState.RECEIVING: _NEW_IMAGE,
        StudyState.COMPLETE: _REPROCESS,
    },
    StudyState.IGNORED: {
        StudyState.COMPLETE: "`jobs retry` or `jobs reprocess`",
        StudyState.RECEIVING: _NEW_IMAGE,
    },
    StudyState.HELD: {
        StudyState.COMPLETE: "`jobs retry` or `jobs reprocess`",
    },
    StudyState.DEAD: {
        StudyState.COMPLETE: "`jobs retry`, where there are no objects, or `jobs reprocess`",
        StudyState.ENCODED: "`jobs retry`, where objects were refused",
        StudyState.RECEIVING: _NEW_IMAGE,
    },
}


def is_legal(origin: StudyState, target: StudyState) -> bool:
    """Whether a study may go from one state to another, or stay where it is."""
    return target is origin or target in TRANSITIONS[origin]


def origins(target: StudyState) -> tuple[StudyState, ...]:
    """Return the states from which ``target`` is legal, itself included."""
    return tuple(state for state in StudyState if is_legal(state, target))


def expect_legal(origin: Iterable[StudyState], target: StudyState) -> None:
    """Check the ways that the code is about to take.

    Raises
    ------
    ValueError
        If one is not in the table.
    """
    for state in origin:
        if not is_legal(state, target):
            legal = ", ".join(TRANSITIONS[state])
            raise ValueError(f"expected {state} to become one of {legal}, got {target}")
