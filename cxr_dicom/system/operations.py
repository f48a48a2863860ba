"""What is common to the operations of an association: C-ECHO, and an answer that does not come."""

from __future__ import annotations

from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from cxr_dicom.config.service import DicomAccess
from cxr_dicom.system import words
from cxr_dicom.system.network import ConnectionFailedError, ContextsRejectedError, association
from cxr_dicom.system.requestor import operation

ABORTED = "ABORTED"  # status of a peer that ended an association before its answer


def echo(access: DicomAccess) -> str:
    """Say in a few words that a peer answers.

    Raises
    ------
    ConnectionFailedError
        If it does not.
    """
    try:
        with association(access, [build_context(Verification)]) as opened, operation(opened, access.timeout_seconds):
            answer = opened.send_c_echo()
    except ContextsRejectedError:  # it is there, and that was the question
        return "accepts associations, and knows no C-ECHO"
    if "Status" not in answer:
        raise ConnectionFailedError("TIMEOUT", "no answer to C-ECHO")
    status = int(answer.Status)
    return f"answers C-ECHO with 0x{status:04X}, {words.of_dimse(status)}" if status else "answers C-ECHO"


def no_answer(opened: Association, what: str, seconds: float, waited: float) -> ConnectionFailedError:
    """Return the error of an operation that was not answered.

    Parameters
    ----------
    what
        Its name: ``C-STORE``.
    seconds, waited
        Its time limit, and what it took.
    """
    if remark := getattr(opened.dul.socket, "remark", ""):
        return ConnectionFailedError(ABORTED, f"no answer to {what}: the peer {remark}")
    if waited < seconds:
        return ConnectionFailedError(ABORTED, f"no answer to {what}: the peer ended the association")
    return ConnectionFailedError("TIMEOUT", f"no answer to {what} in {seconds:.0f} s")
