"""From the wire to the spool without a detour: each fragment of a C-STORE data set is written as it comes.

pynetdicom gathers a message in memory, copies it several times on the way, and gives it to another thread. Here only
one PDU is in memory, the digest is computed as it passes, and the thread that read an image takes it and answers. What
is no C-STORE request goes through pynetdicom: echoes and reports of storage commitment, which have a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, N_EVENT_REPORT
from pynetdicom.pdu_primitives import P_DATA

from cxr_dicom.ingest import command
from cxr_dicom.ingest.command import StoreRequest
from cxr_dicom.ingest.intake import Refusal, RefusedError
from cxr_dicom.ingest.upper_layer import LOOK_SECONDS, ProtocolError, UpperLayer
from cxr_dicom.store.spool import Part, PartFile, Spool

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from typing_extensions import Buffer

MOST_HELD = 1 << 16  # bytes in memory of a command set, and of a data set that is no image
_COMMAND, _LAST = 1, 2  # bits of the message control header (PS3.8 E.2)
_NOT_IN_A_DATA_SET = (b"\0\0", b"\2\0", b"\0\2")  # groups 0 and 2 in either byte order: they would say how to read it

OnStore = Callable[["Association", StoreRequest, Callable[[], Part]], tuple[int, str]]


class _Held(BytesIO):
    """What is gathered in memory, but not without end."""

    def write(self, fragment: Buffer, /) -> int:
        if self.tell() + len(memoryview(fragment)) > MOST_HELD:
            raise ProtocolError(f"sent more than {MOST_HELD} bytes where no image is expected")
        return super().write(fragment)


class DataSetFile:
    """The data set of a C-STORE request, which becomes a file as it comes.

    Parameters
    ----------
    transfer_syntax
        Of its presentation context.
    """

    def __init__(self, spool: Spool, request: StoreRequest, transfer_syntax: str) -> None:
        self.request = request
        self._spool = spool
        self._head = request.file_head(transfer_syntax)
        self._part: PartFile | None = None
        self._beginning = b""  # of the data set: the group of its first element
        self._problem: Exception | None = None

    def write(self, fragment: memoryview) -> None:
        """Take a fragment; `finish` reports what went wrong."""
        if self._problem:
            return
        try:
            if len(self._beginning) < 2:
                self._beginning += bytes(fragment[: 2 - len(self._beginning)])
            if self._part is None:
                self._part = self._spool.begin()
                self._part.write(b"".join((self._head, fragment)))
            else:
                self._part.write(fragment)
        except Exception as error:  # the sender must learn of it, and here it would end the thread
            self._problem = error
            self.drop()

    def finish(self) -> Part:
        """Return the file, which is on the disk and the caller's.

        Raises
        ------
        SpoolError
            If it could not be written.
        RefusedError
            If there is no data set, or it begins with what belongs into the file meta information.
        """
        if self._problem:
            raise self._problem
        if self._part is None:
            raise RefusedError(Refusal.UNREADABLE, "expected a data set, found none")
        if self._beginning in _NOT_IN_A_DATA_SET:
            raise RefusedError(Refusal.UNREADABLE, "expected a data set, found elements of group 0 or 2 in it")
        file, self._part = self._part, None
        return file.finish()

    def drop(self) -> None:
        """Delete the file, unless it was handed over."""
        if self._part:
            self._part.drop()
            self._part = None


class _Message:
    """What has come of a message: its command, then its data set, in one presentation context (PS3.8 annex E)."""

    def __init__(self, context_id: int) -> None:
        self.context_id = context_id
        self.command = _Held()
        self.has_command = False  # all of it
        self.image: DataSetFile | None = None  # the data set of a C-STORE request
        self.held = _Held()  # that of any other
        self.is_whole = False

    def expect(self, context_id: int, control: int) -> None:
        """Expect a value that may come now: a second command would leave the file of the first one open."""
        is_command = bool(control & _COMMAND)
        if self.is_whole or is_command is self.has_command or context_id != self.context_id:
            raise ProtocolError("sent values that are not one command and then its data set, in one context")


class FileProvider(DIMSEServiceProvider):
    """pynetdicom's reader of messages, with a way of its own for C-STORE.

    Parameters
    ----------
    on_store
        Takes an image: called with the association, the request, and what gives the file; returns status and Error
        Comment of the answer. It raises nothing.
    """

    def __init__(self, association: Association, spool: Spool, on_store: OnStore) -> None:
        super().__init__(association)
        self._spool = spool
        self._on_store = on_store
        self._coming: _Message | None = None

    @property
    def upper_layer(self) -> UpperLayer:
        """The reader of the PDUs."""
        found: UpperLayer = self.dul  # type: ignore[assignment]
        return found

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun and is not yet whole."""
        return self._coming is not None

    def take(self, values: Sequence[tuple[int, memoryview]]) -> None:
        """Read what one PDU brought, and serve a C-STORE request that is whole.

        Any other message waits for the association's thread, one at a time.

        Parameters
        ----------
        values
            Presentation context ID, and message control header with a fragment (PS3.8 E.2).

        Raises
        ------
        ProtocolError
            If this is no request that we serve.
        """
        try:
            for context_id, value in values:
                self._coming = self._coming or _Message(context_id)
                self._coming.expect(context_id, value[0])
                self._add(self._coming, value)
            message = self._coming
            if message is None or not message.is_whole:
                return
            other = None if message.image else _other(message)
        except ProtocolError:
            raise
        except Exception as error:  # ours, pydicom's and pynetdicom's of all kinds
            raise ProtocolError("sent a message that cannot be read") from error
        self._coming = None
        self.upper_layer.begin_message()
        if message.image:
            self._store(message.image)
        else:
            self._hand_on(message.context_id, other)

    def get_msg(self, block: bool = False) -> Any:
        """Give the next message to the association's thread, which comes back when it has served the last one."""
        found = super().get_msg(block)
        if found[1] is None and self.msg_queue.empty():
            self.upper_layer.answered()
            if self.upper_layer.news.wait(LOOK_SECONDS):
                self.upper_layer.news.clear()
                found = super().get_msg(block)
        return found

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send an answer."""
        super().send_msg(primitive, context_id)
        self.upper_layer.answered()

    def close(self) -> None:
        """Delete what the end of the association leaves unfinished."""
        if self._coming and self._coming.image:
            self._coming.image.drop()
        self._coming = None

    def _add(self, message: _Message, value: memoryview) -> None:
        """Add a fragment to its message."""
        is_last, fragment = bool(value[0] & _LAST), value[1:]
        if message.has_command:
            (message.image or message.held).write(fragment)
            message.is_whole = is_last
            return
        message.command.write(fragment)
        if is_last:
            values = command.elements(message.command.getvalue())
            message.has_command, message.is_whole = True, not command.has_data_set(values)
            if command.number(values, command.COMMAND_FIELD) == command.STORE_REQUEST:
                message.image = self._image(values, message.context_id)

    def _image(self, values: Mapping[int, bytes], context_id: int) -> DataSetFile:
        request = StoreRequest.read(values, context_id)
        return DataSetFile(self._spool, request, self._transfer_syntax(context_id))

    def _transfer_syntax(self, context_id: int) -> str:
        """Return the transfer syntax of an accepted presentation context."""
        for context in self.assoc.accepted_contexts:
            if context.context_id == context_id:
                return str(context.transfer_syntax[0])
        raise ProtocolError("used a presentation context that was not accepted")

    def _store(self, image: DataSetFile) -> None:
        """Take an image and answer, in the thread that read it: nothing more is read meanwhile."""
        with self.upper_layer.at_work():
            status, comment = self._on_store(self.assoc, image.request, image.finish)
            image.drop()
            self.upper_layer.send_command(image.request.context_id, image.request.answer(status, comment))

    def _hand_on(self, context_id: int, request: Any) -> None:
        """Give a message to the association's thread."""
        if isinstance(request, C_CANCEL):  # of an operation that we do not offer
            return
        if not isinstance(request, C_ECHO | N_EVENT_REPORT) or not request.is_valid_request:
            raise ProtocolError("sent a message that is no C-ECHO, C-STORE or N-EVENT-REPORT request, or lacks a part")
        self._transfer_syntax(context_id)
        self.msg_queue.put((context_id, request))
        self.upper_layer.received()  # after it, for only the other thread's next look clears what it was late to see


def _other(message: _Message) -> Any:
    """Let pynetdicom read a message that is no C-STORE request."""
    values = P_DATA()
    for control, held in ((_COMMAND | _LAST, message.command), (_LAST, message.held)):
        values.presentation_data_value_list.append((message.context_id, bytes([control]) + held.getvalue()))
    read = DIMSEMessage()
    read.decode_msg(values)
    return read.message_to_primitive()
