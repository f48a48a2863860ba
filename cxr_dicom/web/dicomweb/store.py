"""Store (STOW-RS, PS3.18 10.5): a third door into the intake, as durable, as strict and as bounded as C-STORE."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio
from pydicom import Dataset
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from cxr_dicom.config import Settings
from cxr_dicom.config.web import Right
from cxr_dicom.dicom.files import read_header
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import IDENTITY, is_uid
from cxr_dicom.ingest.intake import STATUS, TRANSFER_SYNTAXES, Intake, Refusal, Refusals, RefusedError
from cxr_dicom.records import StoredInstance
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.spool import Part, PartFile, SpoolError
from cxr_dicom.system import telemetry
from cxr_dicom.system.words import PROCESSING_FAILURE
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.application import Asked, Page
from cxr_dicom.web.dicomweb import media
from cxr_dicom.web.dicomweb.metadata import attributes
from cxr_dicom.web.dicomweb.pages import ROOT, accept_of, root_of
from cxr_dicom.web.dicomweb.parts import Parts, Whole, is_single

_COMES_AGAIN = (PROCESSING_FAILURE, STATUS[Refusal.NO_SPACE])
_RETRY_SECONDS = 60  # after which a sender may find room on the disk
_META = b"\2\0"  # group of file meta information, which follows the preamble (PS3.10 7.1)
_PREAMBLE = bytes(128) + b"DICM"
_Reference = tuple[str, str]  # SOP Class UID and SOP Instance UID


@dataclass(kw_only=True)
class _Outcome:
    """What became of the parts of one request."""

    root: str
    stored: list[StoredInstance] = field(default_factory=list)
    failed: list[tuple[_Reference | None, int]] = field(default_factory=list)  # None: not known what it is
    refusals: Refusals = field(default_factory=Refusals)
    is_read: bool = False  # to its end

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.stored) + len(self.failed)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it has to come again: all that was sent is here, or is never wanted."""
        return self.is_read and all(reason not in _COMES_AGAIN for _, reason in self.failed)

    def status(self) -> int:
        """Return the status of a request that was read to its end (PS3.18 table 10.5.3-1)."""
        if not self.failed:
            return 200
        if self.stored:
            return 202
        has_room = any(reason != STATUS[Refusal.NO_SPACE] for _, reason in self.failed)
        return 409 if has_room else 503

    def answer(self, status: int, text: str = "") -> Response:
        """Answer with the Store Instances Response Module (PS3.18 annex I); ``text`` says why it was not read on."""
        headers = {} if status in (200, 202, 409) else {"Connection": "close"}
        if status == 503:
            headers["Retry-After"] = str(_RETRY_SECONDS)
        if not self.count:
            return Response(text, status, media_type="text/plain", headers=headers)
        if text:
            headers["Warning"] = f'299 cxr-dicom "{text}"'
        content = json.dumps(attributes(self._dataset()), allow_nan=False)
        return Response(content, status, media_type=media.JSON, headers=headers)

    def _dataset(self) -> Dataset:
        made = Dataset()
        studies = {each.study_instance_uid for each in self.stored}
        made.RetrieveURL = f"{self.root}/studies/{studies.pop()}" if len(studies) == 1 else None
        named = [(each, reason) for each, reason in self.failed if each]
        others = [reason for each, reason in self.failed if not each]
        if self.stored:
            made.ReferencedSOPSequence = [self._stored(each) for each in self.stored]
        if named:
            made.FailedSOPSequence = [_failed(reason, reference) for reference, reason in named]
        if others:
            made.OtherFailuresSequence = [_failed(reason) for reason in others]
        return made

    def _stored(self, stored: StoredInstance) -> Dataset:
        item = _referenced(stored.sop_class_uid, stored.sop_instance_uid)
        series = f"{self.root}/studies/{stored.study_instance_uid}/series/{stored.series_instance_uid}"
        item.RetrieveURL = f"{series}/instances/{stored.sop_instance_uid}"
        return item


class Store:
    """Takes instances in."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._audit = AuditTrail(intake.ledger.folder)
        self._limiter = anyio.CapacityLimiter(1)  # one instance after the other: the listener comes first

    def pages(self) -> Sequence[Page]:
        """Return the resources."""
        paths = (f"{ROOT}/studies", f"{ROOT}/studies/{{study}}")
        return [Page(path=path, right=Right.SEND, stream=self.receive, method="POST", is_upload=True) for path in paths]

    async def receive(self, asked: Asked) -> Response:
        """Take the parts of a request, and answer when each is durable or refused."""
        outcome = _Outcome(root=root_of(asked))
        try:
            await self._read(asked, outcome)
            outcome.is_read = True
            return outcome.answer(outcome.status())
        except NotAnsweredError as refused:
            return outcome.answer(refused.status, refused.text)
        except ClientDisconnect:
            return outcome.answer(400, "The request ended early.")
        finally:
            self._intake.left(asked.request, asked.visitor.sender, is_whole=outcome.is_whole)
            self._intake.tell(outcome.refusals)
            if outcome.count:
                self._audit.write(
                    "instances_sent",
                    by=asked.visitor.name,
                    via="dicomweb",
                    files=outcome.count,
                    failed=len(outcome.failed),
                )

    async def _read(self, asked: Asked, outcome: _Outcome) -> None:
        """Read the parts, and take each when it is whole."""
        study = asked.request.path_params.get("study")
        if study is not None and not is_uid(study):
            raise NotAnsweredError(400, "Expected a UID in the path.")
        media.expect_json(accept_of(asked))
        if asked.request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise NotAnsweredError(415, "Expected no Content-Encoding.")  # it may unpack to anything
        kind = asked.request.headers.get("content-type", "")
        parts, incoming = Whole() if is_single(kind) else Parts(kind), None
        try:
            async for chunk in asked.request.stream():
                for event in parts.read(chunk):
                    if incoming is None or isinstance(event, str):
                        incoming = self._begin(str(event), outcome)
                    elif event is None:
                        take = partial(self._take, asked, incoming, study, outcome)
                        await anyio.to_thread.run_sync(take, limiter=self._limiter)
                        incoming = None
                    else:
                        incoming.write(event)
            if isinstance(parts, Whole) and incoming:
                await anyio.to_thread.run_sync(
                    partial(self._take, asked, incoming, study, outcome), limiter=self._limiter
                )
                incoming = None
        finally:
            if incoming:
                incoming.drop()
        if not parts.is_whole or not outcome.count:
            raise NotAnsweredError(400, "Expected parts, and the boundary after the last of them.")

    def _begin(self, media_type: str, outcome: _Outcome) -> _Incoming:
        most = self._settings.web.max_upload_files
        if outcome.count >= most:
            raise NotAnsweredError(413, f"Expected at most {most} instances in a request.")
        return _Incoming(self._intake, media_type, self._settings.listener.max_instance_mb)

    def _take(self, asked: Asked, incoming: _Incoming, study: str | None, outcome: _Outcome) -> None:
        """Store one part, and note what became of it."""
        reference: _Reference | None = None
        try:
            reference = incoming.finish()
            instance = self._intake.store(
                incoming.part,
                sender=asked.visitor.sender,
                sop_instance_uid=reference[1] if reference else None,
                study_instance_uid=study,
                address=asked.request.client.host if asked.request.client else "",
                association=asked.request,
                refusals=outcome.refusals,
            )
        except RefusedError as error:
            outcome.failed.append((reference, STATUS[error.refusal]))
        except Exception as error:  # the sender must hear something, and the next part may be fine
            telemetry.failure("store", error)
            outcome.failed.append((reference, PROCESSING_FAILURE))
        else:
            outcome.stored.append(instance)


class _Incoming:
    """One part that is being written; what goes wrong is told when it is taken."""

    def __init__(self, intake: Intake, media_type: str, longest: int) -> None:
        self._longest = longest
        self._left = longest << 20
        self._file: PartFile | None = None
        self._part: Part | None = None
        self._problem: Exception | None = None
        self._beginning = b""  # until it is known how the file begins
        if media_type != media.DICOM:
            self._problem = RefusedError(Refusal.UNREADABLE, f"expected parts of {media.DICOM}, found another")
            return
        try:
            self._file = intake.spool.begin()
        except SpoolError as error:
            self._problem = error

    def write(self, data: bytes) -> None:
        """Add to the file."""
        self._left -= len(data)
        if self._file is None:
            return
        try:
            if self._left < 0:
                text = f"expected at most {self._longest} MB (listener.max_instance_mb), found more"
                raise RefusedError(Refusal.TOO_LONG, text)
            if len(self._beginning) < len(_META):
                self._beginning, data = self._begun(self._beginning + data)
            self._file.write(data)
        except (RefusedError, SpoolError) as error:
            self._problem = error
            self.drop()

    @staticmethod
    def _begun(data: bytes) -> tuple[bytes, bytes]:
        """Return what is known of the beginning, and what can be written: some clients send no preamble."""
        if len(data) < len(_META):
            return data, b""
        return _META, _PREAMBLE + data if data.startswith(_META) else data

    def finish(self) -> _Reference | None:
        """Wait until all of it is on the disk; return what it says it is, where that is known."""
        if self._file is None:
            return None
        file, self._file = self._file, None
        try:
            self._part = file.finish()
            header = read_header(self._part.path, IDENTITY)
        except SpoolError as error:
            self._problem = error
            return None
        except ImageError:
            return None  # the intake will find the same
        if header.transfer_syntax not in TRANSFER_SYNTAXES:
            self._problem = RefusedError(
                Refusal.WRONG_TRANSFER_SYNTAX, "expected a transfer syntax of the standard, and not the deflated one"
            )
        found = header.text("SOPClassUID"), header.text("SOPInstanceUID")
        return found if all(map(is_uid, found)) else None

    def part(self) -> Part:
        """Return the file.

        Raises
        ------
        RefusedError, SpoolError
            If there is none, or it is not wanted.
        """
        if self._problem or self._part is None:
            self.drop()
            raise self._problem or RefusedError(Refusal.UNREADABLE, "expected an instance, found none")
        return self._part

    def drop(self) -> None:
        """Delete the file."""
        if self._file:
            self._file.drop()
            self._file = None
        if self._part:
            self._part.path.unlink(missing_ok=True)


def _referenced(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def _failed(reason: int, reference: _Reference | None = None) -> Dataset:
    item = _referenced(*reference) if reference else Dataset()
    item.FailureReason = reason
    return item
