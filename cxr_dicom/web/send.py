"""The Send page: files from a browser, one request each, and the result beside them."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict

import anyio
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from cxr_dicom.config.web import Right
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.records import StudyState
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.actions import ActionRefusedError, Actions, Person
from cxr_dicom.store.spool import Part, SpoolError
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.application import Asked, Page
from cxr_dicom.web.uploads import Uploads

PATH = "/send/file"

_MAX_REMEMBERED = 10_000  # studies that were sent, each of which may be completed by who sent it
_MOVING = (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.RUNNING)


class SendPages:
    """Takes files in, and says what became of them."""

    def __init__(self, uploads: Uploads, ledger: Ledger) -> None:
        self._uploads = uploads
        self._ledger = ledger
        self._audit = AuditTrail(ledger.folder)
        self._sent: OrderedDict[tuple[str, str], None] = OrderedDict()  # visitor and study
        self._limiter = anyio.CapacityLimiter(1)  # one file after the other: the listener comes first

    def pages(self) -> Sequence[Page]:
        """Return the pages."""
        return (
            Page(path="/send", right=Right.SEND, handler=self.show, title="Send"),
            Page(path=PATH, right=Right.SEND, stream=self.receive, method="POST", is_upload=True),
            Page(path="/send/{key}/complete", right=Right.SEND, handler=self.complete, method="POST"),
            Page(path="/send/{key}/result", right=Right.SEND, handler=self.result),
        )

    def show(self, asked: Asked) -> Response:
        """Show the page."""
        return asked.render("send.html.jinja", path=PATH)

    async def receive(self, asked: Asked) -> Response:
        """Take the body of a request, which is one file, and answer when it is durable or refused."""
        try:
            file = self._uploads.begin()
            try:
                async for chunk in asked.request.stream():
                    file.write(chunk)
            except BaseException:
                file.drop()
                raise
            return await anyio.to_thread.run_sync(self._take, asked, file.finish, limiter=self._limiter)
        except SpoolError as error:
            raise NotAnsweredError(507, str(error)) from error
        except ClientDisconnect as error:
            raise NotAnsweredError(400, "The request ended early.") from error

    def complete(self, asked: Asked) -> Response:
        """Close a study, of which the visitor sent all there is."""
        study = self._own(asked)
        with contextlib.suppress(ActionRefusedError):  # it is at work already
            Actions(self._ledger, Person(name=asked.visitor.name, via="page")).complete(study)
        return self.result(asked)

    def result(self, asked: Asked) -> Response:
        """Say how far a study is."""
        study = self._own(asked)
        state = self._ledger.stories.state(study)
        if state is None:
            raise NotAnsweredError(404, "This study is no longer here.")
        return JSONResponse({"state": state, "is_finished": state not in _MOVING})

    def _take(self, asked: Asked, finish: object) -> Response:
        assert callable(finish)  # noqa: S101 - that of the file
        part: Part = finish()
        address = asked.request.client.host if asked.request.client else ""
        taken = self._uploads.take(part, sender=asked.visitor.sender, address=address)
        for each in taken:
            if each.study_instance_uid:
                self._remember(asked, each.study_instance_uid)
        self._audit.write(
            "file_sent",
            by=asked.visitor.name,
            via="page",
            files=len(taken),
            failed=sum(bool(each.reason) for each in taken),
        )
        return JSONResponse([asdict(each) for each in taken])

    def _remember(self, asked: Asked, study: str) -> None:
        self._sent[asked.visitor.name, study] = None
        while len(self._sent) > _MAX_REMEMBERED:
            self._sent.popitem(last=False)

    def _own(self, asked: Asked) -> str:
        study = asked.path("key")
        if not is_uid(study) or (asked.visitor.name, study) not in self._sent:
            raise NotAnsweredError(404, "You did not send this study.")
        return study
