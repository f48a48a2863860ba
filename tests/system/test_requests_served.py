"""What an association request becomes before pynetdicom reads it; pynetdicom's own writer and reader are the judges."""

import struct
import time

import pytest
from pynetdicom import AE, build_context, build_role
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE

from cxr_dicom.system import negotiation
from tests.raw_peer import CONTEXTS, USER, VERIFICATION, context, item, pdu, request


class Everything:
    """What an acceptor offers that takes all that is proposed."""

    def __contains__(self, abstract_syntax):
        return True


def served(asked):
    needed, declined = negotiation.served(asked, Everything())
    assert declined == []
    return needed


def read(content):
    decoded = A_ASSOCIATE_RQ()
    decoded.decode(bytes(served(content)))
    return decoded


def test_what_pynetdicom_writes_stays_as_it_is():
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "MODALITY", "CXRDICOM"
    asked.maximum_length_received, asked.implementation_class_uid = 16384, AE().implementation_class_uid
    asked.user_information.append(build_role("1.2.840.10008.1.20.1", scp_role=True))
    offered = [build_context("1.2.840.10008.1.20.1"), build_context(VERIFICATION.decode())]
    for number, each in enumerate(offered):
        each.context_id = 2 * number + 1
    asked.presentation_context_definition_list = offered
    whole = A_ASSOCIATE_RQ()
    whole.from_primitive(asked)
    assert served(whole.encode()) == whole.encode()


@pytest.mark.parametrize(
    ("title", "read_as"),
    [
        (b"MODALITY".ljust(16), "MODALITY"),
        (b"MODALITY".ljust(16, b"\0"), "MODALITY"),
        (b"MODALITY \0 \0", "MODALITY"),
        (b" A B ", "A B"),
        (b"SIXTEEN_LETTERS_", "SIXTEEN_LETTERS_"),
        (bytes(16), "?"),
        (b" " * 16, "?"),
        (b"A\\B\x1b\xd6", "A?B??"),
    ],
)
def test_ae_titles_are_read_whatever_their_padding(title, read_as):
    asked = read(request(calling=title))
    assert asked.calling_ae_title == read_as
    assert read(request(called=title)).called_ae_title == read_as
    assert asked.to_primitive().calling_ae_title == read_as


@pytest.mark.parametrize("length", [0, 64, 65, 1 << 20])
def test_the_maximum_length_and_the_implementation_class_stay(length):
    asked = read(request(user=item(0x51, struct.pack(">L", length)) + item(0x52, b"1.2.3.4\0"))).to_primitive()
    assert asked.maximum_length_received == length
    assert asked.implementation_class_uid == "1.2.3.4"


def test_a_peer_that_says_nothing_of_itself_takes_any_length():
    assert read(request(user=b"")).to_primitive().maximum_length_received == 0
    without = request(user=b"")[:-4]
    assert read(without[:2] + struct.pack(">L", len(without) - 6) + without[6:]).user_information is not None


@pytest.mark.parametrize("roles", [b"\0\1", b"\1\0", b"\1\1"])
def test_roles_stay(roles):
    uid = b"1.2.840.10008.1.20.1"
    (found,) = read(
        request(user=USER + item(0x54, struct.pack(">H", len(uid)) + uid + roles))
    ).user_information.role_selection.values()
    assert (found.scu_role, found.scp_role) == tuple(roles)


@pytest.mark.parametrize(
    "role", [b"", b"\0\3", b"\0\3" + b"1.2\0\1", b"\0\x051.2\0\1", b"\0\x031.2\2\1", b"\0\x031.2\0\0"]
)
def test_what_is_no_role_is_left_out(role):
    found = read(request(user=USER + item(0x54, role))).user_information.role_selection
    assert len(found) == (role == b"\0\3" + b"1.2\0\1")


def test_contexts_keep_their_numbers_and_what_is_no_uid_is_a_syntax_that_nobody_offers():
    asked = read(request(contexts=context(1, VERIFICATION) + context(3, b"x", b"", b"1.2") + context(5, b"1" * 65)))
    found = [(each.context_id, each.abstract_syntax, each.transfer_syntax) for each in asked.presentation_context]
    assert [number for number, _, _ in found] == [1, 3, 5]
    assert [abstract for _, abstract, _ in found] == [VERIFICATION.decode(), "2.25.0", "2.25.0"]
    assert found[1][2] == ["2.25.0", "1.2"]
    assert read(request(contexts=context(1, VERIFICATION, *[b"1.2"] * 100))).presentation_context[0].transfer_syntax


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (request()[:73], "found 73 bytes"),
        (request()[:-1], "bytes, found"),
        (request() + b"\x10\0\0", "4 bytes, found 3"),
        (request(contexts=context(1, VERIFICATION) * 129), "at most 128 presentation contexts"),
        (request(user=item(0x51, struct.pack(">L", 63))), "takes 64 bytes at once, found 63"),
        (request(user=item(0x51, struct.pack(">L", 1))), "takes 64 bytes at once, found 1"),
        (request(user=USER + b"\x52"), "4 bytes, found 1"),
        (request(contexts=item(0x20, b"\1\0\0\0\x30\0\0")), "4 bytes, found 3"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        served(content)


def test_128_contexts_are_read():
    assert len(read(request(contexts=context(1, VERIFICATION) * 128)).presentation_context) == 128


def test_the_time_grows_with_the_bytes():
    def seconds(count):
        content = request(user=USER, more=item(0x99, b"") * count)
        times = []
        for _ in range(5):
            start = time.process_time()
            served(content)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(60_000) < 12 * seconds(10_000)


def test_items_that_nobody_knows_are_left_out():
    more = item(0x55, b"X" * 20) + item(0x58, b"secret") + item(0x99, b"?")
    assert served(request(user=USER + more, more=item(0x77, b"?"))) == served(request(contexts=CONTEXTS))
    assert b"secret" not in served(request(user=USER + more))
    assert served(pdu(1, request()[6:])) == served(request())
