"""From the wire to the spool without a detour: each fragment of a C-STORE data set is written as it comes.

pynetdicom gathers a message in memory, and copies it several times on the way. Here only one PDU is
in memory, the digest is computed as it passes, and after the last fragment only the sync is left. All that is no
image, command sets and reports of storage commitment, has a few kilobytes.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, C_STORE, N_EVENT_REPORT
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.pdu_primitives import P_DATA

from cxr_dicom.ingest.intake import Refusal, RefusedError
from cxr_dicom.ingest.upper_layer import LOOK_SECONDS, ProtocolError, UpperLayer
from cxr_dicom.store.spool import Part, PartFile, Spool, SpoolError

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from typing_extensions import Buffer

MOST_HELD = 1 << 16  # bytes in memory of a command set, and of a data set that is no image
_NOT_IN_A_DATA_SET = (b"\0\0", b"\2\0", b"\0\2")  # groups 0 and 2 in either byte order: they would say how to read it
_PREAMBLE = bytes(128) + b"DICM"


class _Held(BytesIO):
    """What is gathered in memory, but not without end."""

    def write(self, fragment: Buffer, /) -> int:
        if self.tell() + len(memoryview(fragment)) > MOST_HELD:
            raise ProtocolError(f"sent more than {MOST_HELD} bytes where no image is expected")
        return super().write(fragment)


class DataSetFile(_Held):
    """The data set of one message: that of a C-STORE request becomes a file, any other stays in memory."""

    def __init__(self, provider: FileProvider) -> None:
        super().__init__()
        self._provider = provider
        self._part: PartFile | None = None
        self._beginning = b""  # of the data set: the group of its first element
        self._problem: Exception | None = None

    def write(self, fragment: Buffer, /) -> int:
        """Take a fragment; `finish` reports what went wrong."""
        message = self._provider.message
        if not isinstance(message, C_STORE_RQ):
            return super().write(fragment)
        try:
            if self._part is None and self._problem is None:
                self._part = self._provider.begin(self)
                self._part.write(_PREAMBLE + encode_file_meta(self._provider.file_meta(message)))
            if len(self._beginning) < 2:
                self._beginning += bytes(memoryview(fragment)[: 2 - len(self._beginning)])
            if self._part:
                self._part.write(fragment)
        except Exception as error:  # the sender must learn of it, and here it would end the thread
            self._problem = error
            self.drop()
        return len(memoryview(fragment))

    def finish(self) -> Part:
        """Return the file, which is on the disk.

        Raises
        ------
        SpoolError
            If it could not be written, or the connection was closed meanwhile.
        RefusedError
            If there is no data set, or it begins with what belongs into the file meta information.
        """
        if self._problem:
            raise self._problem
        if self._part is None:
            raise RefusedError(Refusal.UNREADABLE, "expected a data set, found none")
        if not self._provider.hand_over(self):
            raise SpoolError("expected an open connection, found it closed")
        if self._beginning in _NOT_IN_A_DATA_SET:
            self._part.drop()
            raise RefusedError(Refusal.UNREADABLE, "expected a data set, found elements of group 0 or 2 in it")
        return self._part.finish()

    def drop(self) -> None:
        """Delete the file."""
        if self._part:
            self._part.drop()
            self._part = None


class FileProvider(DIMSEServiceProvider):
    """pynetdicom's reader of messages, with `DataSetFile` for what it takes into memory."""

    def __init__(self, association: Association, spool: Spool) -> None:
        super().__init__(association)
        self._spool = spool
        self._unfinished: set[DataSetFile] = set()
        self._context: int | None = None  # of the message that comes
        self._has_command = False  # all of it

    @property
    def upper_layer(self) -> UpperLayer:
        """The reader of the PDUs."""
        found: UpperLayer = self.dul  # type: ignore[assignment]
        return found

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Read what one PDU brought; a message that is whole waits for the association's thread, one at a time.

        Raises
        ------
        ProtocolError
            If this is no request that we serve.
        """
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.encoded_command_set = _Held()
            self.message.data_set = DataSetFile(self)
            self._context, self._has_command = None, False
        self._expect_order(primitive)
        try:
            if not self.message.decode_msg(primitive, self.assoc):
                return
            request = self.message.message_to_primitive()
        except ProtocolError:
            raise
        except Exception as error:  # pydicom's and pynetdicom's of all kinds
            raise ProtocolError("sent a message that cannot be read") from error
        context, self.message = self.message.context_id, None
        self.upper_layer.begin_message()
        if isinstance(request, C_CANCEL):  # of an operation that we do not offer
            return
        if not isinstance(request, C_ECHO | C_STORE | N_EVENT_REPORT) or not request.is_valid_request:
            raise ProtocolError("sent a message that is no C-ECHO, C-STORE or N-EVENT-REPORT request, or lacks a part")
        if context is None or context not in {each.context_id for each in self.assoc.accepted_contexts}:
            raise ProtocolError("used a presentation context that was not accepted")
        self.msg_queue.put((context, request))
        self.upper_layer.received()  # after it, for only the other thread's next look clears what it was late to see

    def _expect_order(self, primitive: P_DATA) -> None:
        """Expect values as those of one message: its command, then its data set, in one context (PS3.8 annex E).

        A second command would leave the file of the first one open, and make another message of it.
        """
        is_over = False
        for context, value in primitive.presentation_data_value_list:
            is_command, is_last = bool(value[0] & 1), bool(value[0] & 2)
            if self._context is None:
                self._context = context
            if is_over or is_command is self._has_command or context != self._context:
                raise ProtocolError("sent values that are not one command and then its data set, in one context")
            self._has_command = self._has_command or is_last
            is_over = is_last and not is_command

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

    def begin(self, data_set: DataSetFile) -> PartFile:
        """Open a file, which is deleted with the association unless it is handed over."""
        part = self._spool.begin()
        self._unfinished.add(data_set)
        return part

    def hand_over(self, data_set: DataSetFile) -> bool:
        """Leave a file to the caller; return whether it still exists."""
        try:
            self._unfinished.remove(data_set)
        except KeyError:
            return False
        return True

    def file_meta(self, message: Any) -> Any:
        """Make the file meta information of a C-STORE request."""
        syntaxes = {context.context_id: context.transfer_syntax[0] for context in self.assoc.accepted_contexts}
        command = message.command_set
        return create_file_meta(
            sop_class_uid=UID(str(command.get("AffectedSOPClassUID", ""))),  # of two, both: the intake finds others
            sop_instance_uid=UID(str(command.get("AffectedSOPInstanceUID", ""))),
            transfer_syntax=syntaxes.get(message.context_id, UID("")),
        )

    def close(self) -> None:
        """Delete what the end of the association leaves unfinished."""
        while self._unfinished:
            self._unfinished.pop().drop()
