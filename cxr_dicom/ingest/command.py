"""The command sets of C-STORE (PS3.7 9.3.1), as bytes: one comes and one goes with each image, of a few elements each.

pynetdicom makes data sets and messages of both, which takes longer than to write the image.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

STORE_REQUEST, _STORE_ANSWER = 0x0001, 0x8001  # Command Field (PS3.7 E.1)
_NO_DATA_SET = 0x0101  # Command Data Set Type
_PRIORITIES = (0, 1, 2)  # medium, high, low
_LONGEST_UID = 64  # PS3.5 6.2
_PREAMBLE = bytes(128) + b"DICM"

# Element numbers of group 0 (PS3.7 E.1).
_GROUP_LENGTH, _SOP_CLASS_UID, COMMAND_FIELD, _MESSAGE_ID, _ANSWERED_ID = 0x0000, 0x0002, 0x0100, 0x0110, 0x0120
_PRIORITY, DATA_SET_TYPE, _STATUS, _ERROR_COMMENT, _SOP_INSTANCE_UID = 0x0700, 0x0800, 0x0900, 0x0902, 0x1000

_ELEMENT = struct.Struct("<HHL")  # group, element, length: implicit VR little endian (PS3.7 6.3.1)


def elements(command: bytes) -> dict[int, bytes]:
    """Return the values of a command set by their element numbers.

    Raises
    ------
    ValueError, struct.error
        If an element is longer than the command set.
    """
    found, at = {}, 0
    while at < len(command):
        group, element, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if length > len(command) - at:
            raise ValueError("expected an element that ends within its command set, found a longer one")
        if group == 0:
            found[element] = command[at : at + length]
        at += length
    return found


def number(values: Mapping[int, bytes], element: int) -> int:
    """Return a number of 16 bits; of several the first.

    Raises
    ------
    ValueError
        If there is none.
    """
    value = values.get(element, b"")
    if len(value) < 2:
        raise ValueError(f"expected element (0000,{element:04X}) of two bytes, found {len(value)}")
    return int.from_bytes(value[:2], "little")


def has_data_set(values: Mapping[int, bytes]) -> bool:
    """Whether a data set follows the command set."""
    return number(values, DATA_SET_TYPE) != _NO_DATA_SET


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRequest:
    """What a C-STORE request says of its image (PS3.7 9.3.1.1); nothing of it is believed."""

    context_id: int  # of the presentation context
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str

    @classmethod
    def read(cls, values: Mapping[int, bytes], context_id: int) -> StoreRequest:
        """Read the elements of a command set.

        Raises
        ------
        ValueError
            If one is missing, too long, or has no value of the standard.
        """
        if _PRIORITY in values and number(values, _PRIORITY) not in _PRIORITIES:
            raise ValueError(f"expected a priority of {_PRIORITIES}, found {number(values, _PRIORITY)}")
        return cls(
            context_id=context_id,
            message_id=number(values, _MESSAGE_ID),
            sop_class_uid=_uid(values, _SOP_CLASS_UID),
            sop_instance_uid=_uid(values, _SOP_INSTANCE_UID),
        )

    def answer(self, status: int, comment: str = "") -> bytes:
        """Return the command set of the answer (PS3.7 9.3.1.2)."""
        content = b"".join(
            (
                _text(_SOP_CLASS_UID, self.sop_class_uid, b"\0"),
                _short(COMMAND_FIELD, _STORE_ANSWER),
                _short(_ANSWERED_ID, self.message_id),
                _short(DATA_SET_TYPE, _NO_DATA_SET),
                _short(_STATUS, status),
                _text(_ERROR_COMMENT, comment, b" ") if comment else b"",
                _text(_SOP_INSTANCE_UID, self.sop_instance_uid, b"\0"),
            )
        )
        return _ELEMENT.pack(0, _GROUP_LENGTH, 4) + len(content).to_bytes(4, "little") + content

    def file_head(self, transfer_syntax: str) -> bytes:
        """Return preamble and file meta information of the image as a file (PS3.10 7.1)."""
        content = b"".join(
            (
                struct.pack("<HH2s2xL2s", 2, 1, b"OB", 2, b"\0\1"),
                _meta(0x0002, b"UI", self.sop_class_uid, b"\0"),
                _meta(0x0003, b"UI", self.sop_instance_uid, b"\0"),
                _meta(0x0010, b"UI", transfer_syntax, b"\0"),
                _meta(0x0012, b"UI", PYNETDICOM_IMPLEMENTATION_UID, b"\0"),
                _meta(0x0013, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION, b" "),
            )
        )
        return _PREAMBLE + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(content)) + content


def _uid(values: Mapping[int, bytes], element: int) -> str:
    value = values.get(element, b"").rstrip(b"\0 ")
    if not 0 < len(value) <= _LONGEST_UID:
        raise ValueError(f"expected a UID in (0000,{element:04X}), found {len(value)} bytes")
    return value.decode("latin-1")


def _short(element: int, value: int) -> bytes:
    return _ELEMENT.pack(0, element, 2) + value.to_bytes(2, "little")


def _text(element: int, text: str, padding: bytes) -> bytes:
    value = _padded(text, padding)
    return _ELEMENT.pack(0, element, len(value)) + value


def _meta(element: int, vr: bytes, text: str, padding: bytes) -> bytes:
    """Frame an element of group 2 in explicit VR little endian."""
    value = _padded(text, padding)
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("latin-1")
    return value + padding * (len(value) % 2)
