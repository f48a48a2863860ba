"""What peers write into association requests and answers, read by pynetdicom after `plain`."""

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from cxr_dicom.system.negotiation import plain

UID = b"1.2.840.10008.3.1.1.1"
VERIFICATION, LITTLE_ENDIAN = b"1.2.840.10008.1.1", b"1.2.840.10008.1.2"
READERS = {0x01: A_ASSOCIATE_RQ, 0x02: A_ASSOCIATE_AC}


def item(kind, value):
    return bytes([kind, 0]) + len(value).to_bytes(2, "big") + value


def pdu(kind=0x02, *, pad=b" ", end=b"", version=b"PEER_1", user=b"", more=b""):
    """Make a PDU that accepts, or proposes, Verification."""
    context = item(0x30, VERIFICATION + end) * (kind == 0x01) + item(0x40, LITTLE_ENDIAN + end)
    information = item(0x51, bytes([0, 0, 64, 0])) + item(0x52, b"1.2.3" + end) + item(0x55, version) + user
    items = item(0x10, UID + end) + item(0x1F + kind, b"\1\0\0\0" + context) + item(0x50, information) + more
    content = b"\0\1\0\0" + b"ARCHIVE".ljust(16, pad) + b"CXRDICOM".ljust(16, pad) + bytes(32) + items
    return bytes([kind, 0]) + len(content).to_bytes(4, "big") + content


def read(made):
    """Return what pynetdicom reads: titles, transfer syntaxes by context, maximum length, version name."""
    reader = READERS[made[0]]()
    reader.decode(bytes(made))
    said = reader.to_primitive()
    contexts = said.presentation_context_definition_list or said.presentation_context_definition_results_list
    information = {type(each).__name__: each for each in said.user_information}
    name = information.get("ImplementationVersionNameNotification")
    return (
        (str(said.called_ae_title).strip(), str(said.calling_ae_title).strip()),
        {each.context_id: [str(uid) for uid in each.transfer_syntax] for each in contexts},
        information["MaximumLengthNotification"].maximum_length_received,
        str(information["ImplementationClassUIDNotification"].implementation_class_uid),
        name and str(name.implementation_version_name).strip(),
    )


def expected(name="PEER_1"):
    return (("ARCHIVE", "CXRDICOM"), {1: [LITTLE_ENDIAN.decode()]}, 0x4000, "1.2.3", name)


ODD = {
    "titles padded with NUL": ({"pad": b"\0"}, "PEER_1"),
    "UIDs padded with NUL": ({"end": b"\0"}, "PEER_1"),
    "unknown user item": ({"user": item(0x5A, b"anything")}, "PEER_1"),
    "unknown user item that is empty": ({"user": item(0xFF, b"")}, "PEER_1"),
    "unknown item": ({"more": item(0x60, b"anything")}, "PEER_1"),
    "window of a wrong length": ({"user": item(0x53, b"\0")}, "PEER_1"),
    "version name of 20 characters": ({"version": b"A_VERSION_NAME_OF_20"}, "A_VERSION_NAME_O"),
    "version name with an umlaut": ({"version": "MÜNCHEN".encode("latin-1")}, "M?NCHEN"),
    "version name with an umlaut in UTF-8": ({"version": "MÜNCHEN".encode()}, "M??NCHEN"),
    "version name of NULs": ({"version": bytes(4)}, None),
}


@pytest.mark.parametrize("kind", [0x01, 0x02])
@pytest.mark.parametrize(("odd", "name"), ODD.values(), ids=ODD)
def test_odd_forms_are_read_as_what_they_mean(kind, odd, name):
    assert read(plain(pdu(kind, **odd))) == expected(name)


@pytest.mark.parametrize("kind", [0x01, 0x02])
def test_the_form_of_the_standard_stays_as_it_is(kind):
    assert plain(pdu(kind)) == pdu(kind)
    assert read(pdu(kind)) == expected()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\2",
        pdu()[:70],
        pdu()[:-1],
        pdu() + b"\x50\0\xff\xff",
        b"\4" + pdu()[1:],
        b"HTTP/1.1 400 Bad Request\r\n" * 9,
    ],
)
def test_what_is_broken_is_left_to_the_reader(broken):
    assert plain(broken) == broken


def test_the_odd_forms_are_what_pynetdicom_does_not_read():
    """Or this module may go."""
    unread = []
    for name, (odd, _) in ODD.items():
        try:
            read(pdu(**odd))
        except Exception:  # of many kinds
            unread.append(name)
    assert len(unread) >= 5, unread
