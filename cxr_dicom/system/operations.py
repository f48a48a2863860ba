"""What is common to the operations of an association: C-ECHO, and an answer that does not come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from cxr_dicom.config.service import DicomAccess
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.system import words
from cxr_dicom.system.network import ContextsRejectedError, association
from cxr_dicom.system.requestor import LATE, MAX_ANSWER, operation

ABORTED = "ABORTED"  # status of a peer that ended an association before its answer


def echo(access: DicomAccess) -> str:
    """Say in a few words that a peer answers.

    Raises
    ------
    ConnectionFailedError
        If it does not.
    """
    seconds = access.timeout_seconds
    try:
        with association(access, [build_context(Verification)]) as opened, asking(opened, "C-ECHO", seconds):
            begin = time.monotonic()
            answer = opened.send_c_echo()
            if "Status" not in answer:
                raise no_answer(opened, "C-ECHO", seconds, time.monotonic() - begin)
            status = int(answer.Status)
    except ContextsRejectedError:  # it is there, and that was the question
        return "accepts associations, and knows no C-ECHO"
    return f"answers C-ECHO with 0x{status:04X}, {words.of_dimse(status)}" if status else "answers C-ECHO"


@contextmanager
def asking(opened: Association, what: str, seconds: float, most_bytes: int = MAX_ANSWER) -> Iterator[None]:
    """Ask a peer and read what it answers, within the bounds of `operation`.

    Parameters
    ----------
    what
        Name of the operation: ``C-STORE``.

    Raises
    ------
    ConnectionFailedError
        If the peer ended the association before, or its answers make no sense.
    """
    with operation(opened, seconds, most_bytes):
        try:
            yield
        except (
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:  # lengths, syntaxes, kinds
            raise ConnectionFailedError("UNEXPECTED", f"the answers to {what} cannot be read") from error
        except RuntimeError as error:  # pynetdicom: the peer ended the association a moment ago, and nothing was sent
            raise ConnectionFailedError(ABORTED, "the peer ended the association") from error


def no_answer(opened: Association, what: str, seconds: float, waited: float) -> ConnectionFailedError:
    """Return the error of an operation that was not answered.

    Parameters
    ----------
    what
        Its name: ``C-STORE``.
    seconds, waited
        Its time limit, and what it took.
    """
    remark = getattr(opened.dul.socket, "remark", "")
    if remark and remark != LATE:
        return ConnectionFailedError(ABORTED, f"no answer to {what}: the peer {remark}")
    if waited < seconds and not remark:
        return ConnectionFailedError(ABORTED, f"no answer to {what}: the peer ended the association")
    return ConnectionFailedError("TIMEOUT", f"no answer to {what} in {seconds:.0f} s")
