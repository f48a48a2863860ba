"""From the wire to the spool without a detour: each fragment of a C-STORE data set is written as it comes.

pynetdicom gathers a message in memory, and copies it several times on the way. Here only one PDU is
in memory, the digest is computed as it passes, and after the last fragment only the sync is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from cxr_dicom.store.spool import Part, PartFile, Spool, SpoolError

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from typing_extensions import Buffer

_P_DATA_TF = 0x04
_PDU_HEAD = 6  # type, reserved, length (PS3.8 9.3.5)
_ITEM_HEAD = 5  # length, presentation context ID (PS3.8 9.3.5.1)
_PREAMBLE = bytes(128) + b"DICM"


class DataSetFile(BytesIO):
    """The data set of one message: that of a C-STORE request becomes a file, any other stays in memory."""

    def __init__(self, provider: FileProvider) -> None:
        super().__init__()
        self._provider = provider
        self._part: PartFile | None = None
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
        """
        if self._problem:
            raise self._problem
        if self._part is None or not self._provider.hand_over(self):
            raise SpoolError("expected a data set, found none")
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

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Read what one PDU brought."""
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.data_set = DataSetFile(self)
        super().receive_primitive(primitive)

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
            sop_class_uid=UID(command.get("AffectedSOPClassUID", "")),
            sop_instance_uid=UID(command.get("AffectedSOPInstanceUID", "")),
            transfer_syntax=syntaxes.get(message.context_id, UID("")),
        )

    def close(self) -> None:
        """Delete what the end of the association leaves unfinished."""
        while self._unfinished:
            self._unfinished.pop().drop()


class UpperLayer(DULServiceProvider):
    """pynetdicom's reader of PDUs, which copies no data."""

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] != _P_DATA_TF:
            return super()._decode_pdu(bytestream)
        return _Data(memoryview(bytestream)), "Evt10"  # a P-DATA-TF PDU came (PS3.8 9.2.3)


class _Data(P_DATA_TF):
    """A P-DATA-TF PDU whose values are views of what came."""

    def __init__(self, received: memoryview) -> None:
        super().__init__()
        self._values = list(_values(received[_PDU_HEAD:]))

    def to_primitive(self) -> P_DATA:
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self._values)
        return primitive


def _values(items: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield presentation context ID and value of each item.

    Raises
    ------
    ValueError
        If an item is longer than the PDU, or has no control header.
    """
    while items:
        end = 4 + int.from_bytes(items[:4], "big")
        if not _ITEM_HEAD < end <= len(items):
            raise ValueError("expected presentation data value items that fill the PDU, found others")
        yield items[4], items[_ITEM_HEAD:end]
        items = items[end:]
