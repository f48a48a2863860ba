"""Command sets of C-STORE as bytes: what pynetdicom makes of the same, byte for byte."""

import struct

import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from cxr_dicom.ingest import command
from cxr_dicom.ingest.command import StoreRequest
from tests.raw_peer import DX, store_command
from tests.raw_peer import command as encoded

REQUEST = StoreRequest(context_id=3, message_id=258, sop_class_uid=DX.decode(), sop_instance_uid="1.2.34")


def read(content):
    return StoreRequest.read(command.elements(content), 3)


def element(group, number, value):
    return struct.pack("<HHL", group, number, len(value)) + value


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
@pytest.mark.parametrize(
    ("status", "comment"), [(0, ""), (0xA700, "NO_SPACE"), (0xC000, "UNREADABLE"), (0xC000, "INVALID_UID")]
)
def test_an_answer_is_that_of_pynetdicom(uid, status, comment):
    other = C_STORE()
    other.MessageIDBeingRespondedTo = 258
    other.AffectedSOPClassUID, other.AffectedSOPInstanceUID = DX.decode(), uid
    other.Status = status
    if comment:
        other.ErrorComment = comment
    message = C_STORE_RSP()
    message.primitive_to_message(other)
    (sent,) = message.encode_msg(3, 0)
    ours = StoreRequest(context_id=3, message_id=258, sop_class_uid=DX.decode(), sop_instance_uid=uid)
    assert sent.presentation_data_value_list == [(3, b"\3" + ours.answer(status, comment))]


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_the_head_of_a_file_is_that_of_pynetdicom(uid):
    meta = create_file_meta(
        sop_class_uid=UID(DX.decode()), sop_instance_uid=UID(uid), transfer_syntax=ExplicitVRLittleEndian
    )
    ours = StoreRequest(context_id=3, message_id=1, sop_class_uid=DX.decode(), sop_instance_uid=uid)
    assert ours.file_head(str(ExplicitVRLittleEndian)) == bytes(128) + b"DICM" + encode_file_meta(meta)


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_a_request_is_read(priority):
    assert read(store_command("1.2.34", MessageID=258, Priority=priority)) == REQUEST


def test_a_priority_may_be_missing_and_elements_of_other_groups_mean_nothing():
    content = command.elements(store_command("1.2.34", MessageID=258))
    del content[0x0700]
    assert StoreRequest.read(content, 3) == REQUEST
    assert read(store_command("1.2.34", MessageID=258) + element(2, 0x1000, b"1.5\0")) == REQUEST


@pytest.mark.parametrize(
    "content",
    [
        store_command("1.2.3", Priority=3),
        store_command("1" * 65),
        store_command(""),
        encoded(1, AffectedSOPInstanceUID="1.2.3"),
        element(0, 0x0002, DX + b"\0") + element(0, 0x1000, b"1.2.3\0"),
        element(0, 0x0002, DX + b"\0") + element(0, 0x1000, b"1.2.3\0") + element(0, 0x0110, b"\1"),
        store_command("1.2.3")[:-1],
        store_command("1.2.3") + b"\0\0\0\1\0\0\0",
        store_command("1.2.3") + struct.pack("<HHL", 0, 0x1001, 1),
    ],
    ids=["priority", "long", "empty", "no class", "no ID", "half an ID", "cut off", "half a head", "beyond the end"],
)
def test_what_is_missing_or_not_as_the_standard_wants_is_an_error(content):
    with pytest.raises((ValueError, struct.error)):
        read(content)


def test_a_uid_of_64_characters_is_one():
    assert read(store_command("1." * 31 + "12")).sop_instance_uid == "1." * 31 + "12"


@pytest.mark.parametrize(("kind", "follows"), [(0x0101, False), (0x0001, True), (0x0102, True)])
def test_whether_a_data_set_follows(kind, follows):
    values = command.elements(store_command("1.2.3", CommandDataSetType=kind))
    assert command.has_data_set(values) is follows


def test_of_several_numbers_the_first_counts():
    assert command.number({1: b"\2\1\5\0"}, 1) == 258
