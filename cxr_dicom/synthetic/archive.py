"""A small archive in this process: C-ECHO, C-STORE and storage commitment, for tests and for the demo.

It is a real peer on a real port of this machine, not a mock; it keeps what it receives in memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

SUCCESS = 0x0000
_ACCEPTED = (SUCCESS, 0xB000)
_NO_SUCH_INSTANCE = 0x0112  # Failure Reason, PS3.3 C.14.1.1
_ALL_COMMITTED, _SOME_FAILED = 1, 2  # Event Type ID, PS3.4 J.3.3

Address = tuple[str, int]


class Archive:
    """Use it as a context manager.

    Parameters
    ----------
    port
        0 takes a free one.
    sop_classes
        What it takes; empty: every storage SOP class.
    answer
        Gives the status of the n-th C-STORE, counted from 0.
    report_to
        Address and AE title of the listener that reports of storage commitment go to; None: it
        takes on no commitment.

    Attributes
    ----------
    received
        By SOP Instance UID: the data sets as they came, one for each time.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        sop_classes: Sequence[str] = (),
        answer: Callable[[int], int] = lambda number: SUCCESS,
        report_to: tuple[Address, str] | None = None,
    ) -> None:
        self.received: dict[str, list[bytes]] = {}
        self.ae_title = "ARCHIVE"
        self._answer = answer
        self._report_to = report_to
        self._requests = 0
        entity = AE(self.ae_title)
        entity.add_supported_context(Verification)
        for sop_class in sop_classes or [str(context.abstract_syntax) for context in AllStoragePresentationContexts]:
            entity.add_supported_context(sop_class)
        if report_to:
            entity.add_supported_context(StorageCommitmentPushModel)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._commit)]
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        if server is None:
            raise RuntimeError("expected a server, pynetdicom gave none")
        self._server = server
        self.port: int = server.server_address[1]

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        status = self._answer(self._requests)
        self._requests += 1
        if status in _ACCEPTED:
            uid = str(event.request.AffectedSOPInstanceUID)
            self.received.setdefault(uid, []).append(event.encoded_dataset(include_meta=False))
        return status

    def _commit(self, event: Any) -> tuple[int, None]:
        request = event.action_information
        threading.Thread(target=self._report, args=(request,), daemon=True).start()
        return SUCCESS, None

    def _report(self, request: Dataset) -> None:
        """Say on an association of our own what is kept (PS3.4 J.3.3)."""
        if self._report_to is None:
            return
        (address, port), title = self._report_to
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        kept = [item for item in request.ReferencedSOPSequence if item.ReferencedSOPInstanceUID in self.received]
        lost = [item for item in request.ReferencedSOPSequence if item.ReferencedSOPInstanceUID not in self.received]
        report.ReferencedSOPSequence = kept
        for item in lost:
            item.FailureReason = _NO_SUCH_INSTANCE
        if lost:
            report.FailedSOPSequence = lost
        entity = AE(self.ae_title)
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate(address, port, ae_title=title, ext_neg=[role])
        if association.is_established:
            association.send_n_event_report(
                report,
                _SOME_FAILED if lost else _ALL_COMMITTED,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
            association.release()
