"""Association requests and answers as peers write them, put into the form that the standard wants (PS3.8 9.3, annex D).

pynetdicom reads only the latter. DCMTK and Orthanc take the former too, so peers get away with it: titles and UIDs
padded with NUL, items of unknown types (which PS3.8 9.3.1 wants ignored), long or accented version names.
"""

from __future__ import annotations

from collections.abc import Iterator

_REQUEST, _ACCEPTANCE = 0x01, 0x02  # PDU types
_HEAD, _ITEM_HEAD, _CONTEXT_HEAD = 6, 4, 4  # bytes
_TITLES, _VARIABLE = slice(10, 42), 74  # both AE titles; where the items begin
_APPLICATION_CONTEXT, _CONTEXTS, _USER_INFORMATION = 0x10, (0x20, 0x21), 0x50
_UIDS = (_APPLICATION_CONTEXT, 0x30, 0x40, 0x52)  # items that are one UID
_VERSION_NAME, _MOST_OF_VERSION_NAME = 0x55, 16  # PS3.7 D.3.3.2
_FIXED_LENGTHS = {0x51: 4, 0x53: 4}
_KNOWN = frozenset(
    {*_CONTEXTS, *_UIDS, _USER_INFORMATION, _VERSION_NAME, *_FIXED_LENGTHS, 0x54, 0x56, 0x57, 0x58, 0x59}
)


def plain(pdu: bytes | bytearray) -> bytearray:
    """Return an A-ASSOCIATE-RQ or -AC PDU in the form that the standard wants; anything else as it is.

    Which names, contexts and roles it proposes or accepts does not change. What cannot be read is left to the reader.
    """
    if len(pdu) < _VARIABLE or pdu[0] not in (_REQUEST, _ACCEPTANCE):
        return bytearray(pdu)
    try:
        items = _joined(bytes(pdu[_VARIABLE:]))
    except ValueError:
        return bytearray(pdu)
    fixed = bytearray(pdu[:_VARIABLE])
    fixed[_TITLES] = _text(bytes(fixed[_TITLES]))
    fixed[2:_HEAD] = (len(fixed) + len(items) - _HEAD).to_bytes(4, "big")
    return fixed + items


def _joined(content: bytes) -> bytes:
    """Put the items of ``content`` together again, without those of unknown types."""
    return b"".join(
        bytes([kind, 0]) + len(value).to_bytes(2, "big") + value
        for kind, found in _items(content)
        if kind in _KNOWN and len(found) == _FIXED_LENGTHS.get(kind, len(found))
        if (value := _value(kind, found)) or not found
    )


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each item.

    Raises
    ------
    ValueError
        If an item is longer than what holds it.
    """
    while content:
        end = _ITEM_HEAD + int.from_bytes(content[2:_ITEM_HEAD], "big")
        if len(content) < end:
            raise ValueError(f"expected an item of {end} bytes, found {len(content)}")
        yield content[0], content[_ITEM_HEAD:end]
        content = content[end:]


def _value(kind: int, found: bytes) -> bytes:
    if kind == _USER_INFORMATION:
        return _joined(found)
    if kind in _CONTEXTS:
        return found[:_CONTEXT_HEAD] + _joined(found[_CONTEXT_HEAD:])
    if kind in _UIDS:
        return found.strip(b" \0")
    if kind == _VERSION_NAME:
        return _text(found).strip()[:_MOST_OF_VERSION_NAME].strip()
    return found


def _text(found: bytes) -> bytes:
    """Return printable ASCII of the same length: blanks for NUL, question marks for the rest."""
    return bytes(byte if 0x20 <= byte < 0x7F else 0x20 if byte == 0 else 0x3F for byte in found)
