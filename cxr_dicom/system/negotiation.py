"""Association requests and answers as peers write them, put into the form that the standard wants (PS3.8 9.3, annex D).

pynetdicom reads only the latter. DCMTK and Orthanc take the former too, so peers get away with it: titles and UIDs
padded with NUL, items of unknown types (which PS3.8 9.3.1 wants ignored), long or accented version names.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence

from pynetdicom.presentation import PresentationContext

_REQUEST, _ACCEPTANCE, _REJECTION = 0x01, 0x02, 0x03  # PDU types
_RESULTS, _SOURCES, _DIAGNOSTICS = (1, 2), (1, 2, 3), (1, 2, 3, 7)  # of a rejection, PS3.8 9.3.4
_NO_REASON = 1
_NOT_SUPPORTED = 3  # result of a context: its abstract syntax is not (PS3.8 9.3.3.2)
_HEAD, _ITEM_HEAD, _CONTEXT_HEAD = 6, 4, 4  # bytes
_VERSION, _TITLES, _VARIABLE = slice(6, 8), slice(10, 42), 74  # of the protocol; both AE titles; where items begin
_APPLICATION_CONTEXT, _CONTEXTS, _USER_INFORMATION = 0x10, (0x20, 0x21), 0x50
_UIDS = (_APPLICATION_CONTEXT, 0x30, 0x40, 0x52)  # items that are one UID
_MAXIMUM_LENGTH, _IMPLEMENTATION_CLASS, _ROLE = 0x51, 0x52, 0x54
_VERSION_NAME, _MOST_OF_VERSION_NAME = 0x55, 16  # PS3.7 D.3.3.2
_FIXED_LENGTHS = {0x51: 4, 0x53: 4}
_KNOWN = frozenset(
    {*_CONTEXTS, *_UIDS, _USER_INFORMATION, _VERSION_NAME, *_FIXED_LENGTHS, 0x54, 0x56, 0x57, 0x58, 0x59}
)

_UID = re.compile(rb"[0-9.]{1,64}")
_UNKNOWN = b"2.25.0"  # stands for what is no UID; nobody offers it

MOST_CONTEXTS = 128  # odd numbers from 1 to 255 (PS3.8 9.3.2.2)
MOST_SYNTAXES = 64  # of a context; there are some 50 transfer syntaxes
LEAST_PDU_LENGTH = 64  # bytes that a peer must take at once


def plain(pdu: bytes | bytearray) -> bytearray:
    """Return a PDU about an association in the form that the standard wants; anything else as it is.

    Which names, contexts and roles it proposes or accepts does not change. What cannot be read is left to the reader.
    """
    if len(pdu) == _HEAD + 4 and pdu[0] == _REJECTION:
        return bytearray(pdu[:7]) + _reasons(*pdu[7:])
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


def _reasons(result: int, source: int, diagnostic: int) -> bytes:
    """Return those of a rejection; codes that the standard does not have mean that no reason is given."""
    known = diagnostic if source in _SOURCES and diagnostic in _DIAGNOSTICS else _NO_REASON
    return bytes([result if result in _RESULTS else _RESULTS[0], source if source in _SOURCES else _SOURCES[0], known])


def served(request: bytes | bytearray, offered: Container[bytes]) -> tuple[bytearray, list[bytes]]:
    """Return an A-ASSOCIATE-RQ PDU as `plain` does, with nothing in it but what an acceptor of images needs.

    Of the user information stay the maximum length, the implementation class and the roles. Extended negotiation,
    user identity and an asynchronous window are not offered by us, so no answer to them is owed (PS3.7 D.3.3).

    Parameters
    ----------
    offered
        Abstract syntaxes that may be accepted.

    Returns
    -------
    request
        Without the presentation contexts of other abstract syntaxes: senders propose up to 128, most of them in vain.
    declined
        The items of the answer for those contexts; see `answered`.

    Raises
    ------
    ValueError
        If it cannot be taken apart, asks for more contexts than there are numbers, or takes only tiny PDUs.
    """
    if len(request) < _VARIABLE:
        raise ValueError(f"expected an association request, found {len(request)} bytes")
    asked = bytearray(request[:_VARIABLE])
    asked[_VERSION] = bytes([0, asked[_VERSION][1] & 1])  # a peer that has several versions names them all (9.3.2)
    asked[_TITLES] = _text(bytes(asked[_TITLES]))
    for start in (_TITLES.start, _TITLES.start + 16):  # empty and backslash: PS3.8 9.3.2, PS3.5 6.2
        title = bytes(asked[start : start + 16]).strip().replace(b"\\", b"?")
        asked[start : start + 16] = (title or b"?").ljust(16)
    declined: list[bytes] = []
    items = b"".join(_needed(bytes(request[_VARIABLE:]), offered, declined))
    asked[2:_HEAD] = (_VARIABLE + len(items) - _HEAD).to_bytes(4, "big")
    return asked + items, declined


def answered(acceptance: bytes, declined: Sequence[bytes]) -> bytes:
    """Return an A-ASSOCIATE-AC PDU with more results of presentation contexts, in the order of their IDs."""
    first, *results, last = (_item(kind, value) for kind, value in _items(acceptance[_VARIABLE:]))
    items = b"".join([first, *sorted([*results, *declined], key=lambda result: result[_ITEM_HEAD]), last])
    length = (_VARIABLE + len(items) - _HEAD).to_bytes(4, "big")
    return acceptance[:2] + length + acceptance[_HEAD:_VARIABLE] + items


def refusal(contexts: Iterable[PresentationContext]) -> str:
    """Say why a peer takes none of these presentation contexts (PS3.8 9.3.3.2)."""
    reasons = {1: "it does not want it", 3: "SOP class not supported", 4: "transfer syntax not supported"}
    found = dict.fromkeys(reasons.get(context.result or 0, "no reason given") for context in contexts)
    return " or ".join(found) or "another transfer syntax than was proposed"


def _needed(content: bytes, offered: Container[bytes], declined: list[bytes]) -> Iterator[bytes]:
    contexts, information = 0, b""
    for kind, value in _items(content):
        if kind == _APPLICATION_CONTEXT:
            yield _item(kind, _uid(value))
        elif kind == _CONTEXTS[0]:
            contexts += 1
            if contexts > MOST_CONTEXTS:
                raise ValueError(f"expected at most {MOST_CONTEXTS} presentation contexts, found more")
            head, (abstract, *transfer) = value[:_CONTEXT_HEAD], _syntaxes(value[_CONTEXT_HEAD:])
            if abstract in offered or not _is_odd(head):
                yield _item(kind, head + _item(0x30, abstract) + b"".join(_item(0x40, each) for each in transfer))
            else:
                declined.append(_item(_CONTEXTS[1], bytes([head[0], 0, _NOT_SUPPORTED, 0]) + _item(0x40, transfer[0])))
        elif kind == _USER_INFORMATION:
            information = value
    yield _item(_USER_INFORMATION, b"".join(_user_information(information)))


def _is_odd(head: bytes) -> bool:
    """Whether a context has an ID that is one (PS3.8 9.3.2.2)."""
    return len(head) == _CONTEXT_HEAD and head[0] % 2 == 1


def _syntaxes(content: bytes) -> list[bytes]:
    """Return one abstract syntax, and the transfer syntaxes."""
    found = list(_items(content))
    abstract = [value for kind, value in found if kind == 0x30] or [b""]
    transfer = [value for kind, value in found if kind == 0x40] or [b""]
    return [_uid(each) for each in (abstract[0], *transfer[:MOST_SYNTAXES])]


def _user_information(content: bytes) -> Iterator[bytes]:
    found = dict(_items(content))
    length = found.get(_MAXIMUM_LENGTH, b"")
    longest = int.from_bytes(length, "big") if len(length) == 4 else 0  # 0: as long as you like (PS3.8 D.1)
    if 0 < longest < LEAST_PDU_LENGTH:
        raise ValueError(f"expected a peer that takes {LEAST_PDU_LENGTH} bytes at once, found {longest}")
    yield _item(_MAXIMUM_LENGTH, longest.to_bytes(4, "big"))
    yield _item(_IMPLEMENTATION_CLASS, _uid(found.get(_IMPLEMENTATION_CLASS, b"")))
    for value in [value for kind, value in _items(content) if kind == _ROLE][:MOST_CONTEXTS]:
        uid, roles = _uid(value[2:-2]), value[-2:]
        is_whole = int.from_bytes(value[:2], "big") == len(value) - 4
        if is_whole and set(roles) <= {0, 1} and any(roles):
            yield _item(_ROLE, len(uid).to_bytes(2, "big") + uid + roles)


def _item(kind: int, value: bytes) -> bytes:
    return bytes([kind, 0]) + len(value).to_bytes(2, "big") + value


def _uid(value: bytes) -> bytes:
    value = value.strip(b" \0")
    return value if _UID.fullmatch(value) else _UNKNOWN


def _joined(content: bytes) -> bytes:
    """Put the items of ``content`` together again, without those of unknown types."""
    return b"".join(
        _item(kind, value)
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
    start = 0
    while start < len(content):
        value = start + _ITEM_HEAD
        end = value + int.from_bytes(content[start + 2 : value], "big")
        if len(content) < end:
            raise ValueError(f"expected an item of {end - start} bytes, found {len(content) - start}")
        yield content[start], content[value:end]
        start = end


def _value(kind: int, found: bytes) -> bytes:
    if kind == _USER_INFORMATION:
        return _joined(found)
    if kind in _CONTEXTS:
        return found[:_CONTEXT_HEAD] + _joined(found[_CONTEXT_HEAD:])
    if kind in _UIDS:
        return _uid(found)
    if kind == _VERSION_NAME:
        return _text(found).strip()[:_MOST_OF_VERSION_NAME].strip()
    return found


def _text(found: bytes) -> bytes:
    """Return printable ASCII of the same length: blanks for NUL, question marks for the rest."""
    return bytes(byte if 0x20 <= byte < 0x7F else 0x20 if byte == 0 else 0x3F for byte in found)
