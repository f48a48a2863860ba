"""Codes of peers in words, from fixed vocabularies, so that nothing of a patient comes in; and text to be shown."""

from __future__ import annotations

SUCCESS, PROCESSING_FAILURE, NO_SUCH_INSTANCE, INVALID_ARGUMENT_VALUE = 0x0000, 0x0110, 0x0112, 0x0115  # PS3.7 C

_DIMSE = {  # PS3.7 C, PS3.18 annex I, and Azure's conformance statement for the last two
    0x0000: "",
    0x0001: "stored, with remarks on attributes",
    0x0106: "invalid attribute value",
    0x0107: "stored, with an attribute list error",
    0x0110: "processing failure",
    0x0111: "is there already",
    0x0112: "no such instance",
    0x0115: "invalid argument value",
    0x0116: "stored, an attribute value was out of range",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xB000: "stored, elements were coerced",
    0xB006: "stored, elements were discarded",
    0xB007: "stored, does not match its SOP class",
    0xC122: "transfer syntax not supported",
    0xFE00: "cancelled",
    0xFF00: "pending, and no final answer",
    0xFF01: "pending, and no final answer",
    0xB00E: "is there already",
    0xB00F: "is being created",
}
_CLASSES = {0xA7: "out of resources", 0xA9: "does not match its SOP class"}  # by the first byte, PS3.4 B.2.3
_BROAD_CLASSES = {0xB: "stored, with a warning", 0xC: "cannot understand"}  # by the first digit


def of_dimse(status: int) -> str:
    """Say what a status of a C-STORE response, or a reason of STOW-RS, means; empty for success."""
    named = _DIMSE.get(status, _CLASSES.get(status >> 8))
    return _BROAD_CLASSES.get(status >> 12, "a status of no known class") if named is None else named


def printable(text: str) -> str:
    """Escape what a terminal would obey; what a peer or a file said may be among it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
