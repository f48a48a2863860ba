"""What peers write into association requests and answers, read by pynetdicom after `plain`."""

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from cxr_dicom.system.negotiation import answered, plain, served

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


# --- what an acceptor is not asked about -----------------------------------------------------------

CT, DX = b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT = b"1.2.840.10008.1.2.1"


def proposal(*contexts, longest=bytes([0, 0, 64, 0])):
    """Make a request of (context ID, abstract syntax)."""
    items = b"".join(
        item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract) + item(0x40, EXPLICIT) + item(0x40, LITTLE_ENDIAN))
        for number, abstract in contexts
    )
    content = b"\0\1\0\0" + b"ARCHIVE".ljust(16) + b"CXRDICOM".ljust(16) + bytes(32)
    content += item(0x10, UID) + items + item(0x50, item(0x51, longest) + item(0x52, b"1.2.3"))
    return b"\1\0" + len(content).to_bytes(4, "big") + content


def results(made):
    """Return result and transfer syntaxes of an answer by context ID, in its order, as pynetdicom reads them."""
    reader = A_ASSOCIATE_AC()
    reader.decode(bytes(made))
    contexts = reader.to_primitive().presentation_context_definition_results_list
    return [(each.context_id, each.result, [str(uid) for uid in each.transfer_syntax]) for each in contexts]


def test_contexts_that_are_not_offered_are_declined_in_the_order_of_their_ids():
    needed, declined = served(proposal((3, CT), (1, DX), (5, VERIFICATION + b"\0"), (7, b"1.2.3")), {VERIFICATION})
    assert read(needed)[1] == {5: [EXPLICIT.decode(), LITTLE_ENDIAN.decode()]}
    accepted = item(0x40, LITTLE_ENDIAN)
    answer = answered(pdu(0x02).replace(b"\1\0\0\0" + accepted, b"\5\0\0\0" + accepted), declined)
    assert results(answer) == [
        (1, 3, [EXPLICIT.decode()]),
        (3, 3, [EXPLICIT.decode()]),
        (5, 0, [LITTLE_ENDIAN.decode()]),
        (7, 3, [EXPLICIT.decode()]),
    ]
    assert read(answer)[2:] == expected()[2:]


def test_an_answer_to_which_nothing_is_added_stays_as_it_is():
    needed, declined = served(proposal((1, DX)), {DX})
    assert (list(read(needed)[1]), declined) == ([1], [])
    assert answered(pdu(0x02), []) == pdu(0x02)


@pytest.mark.parametrize("number", [0, 2])
def test_an_id_that_is_none_is_left_to_the_reader(number):
    needed, declined = served(proposal((number, CT)), {DX})
    assert (bytes([number, 0, 0, 0]) + item(0x30, CT) in needed, declined) == (True, [])


@pytest.mark.parametrize("longest", [b"", b"\1", bytes(8) + b"\1"])
def test_a_longest_pdu_that_is_no_number_means_any(longest):
    assert read(served(proposal((1, DX), longest=longest), {DX})[0])[2] == 0
