"""C-STORE: what arrives is what lies on the disk, and inflated where the peer does not inflate."""

import socket
import time

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.deliver.plain import plain
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import archive, as_object, storescp

URL = "http://127.0.0.1:9/dicom-web"  # where nobody is


def send(made, port):
    return delivered(made, kind="dicom", address="127.0.0.1", port=port, ae_title="ARCHIVE")


def delivered(made, **table):
    return receipt_of(made, **table).delivery_status


def receipt_of(made, **table):
    (receipt,) = described(**table).send([made])
    return receipt


def described(**table):
    settings = Settings.model_validate({"destinations": [{"name": "pacs", **table}]})
    return build_destination(settings.destinations[0], lambda uid: None)


@pytest.mark.parametrize("missing", ["TCP_NODELAY", "TCP_QUICKACK"])
def test_an_object_waits_for_no_acknowledgement(deflated, tmp_path, monkeypatch, missing):
    """DCMTK holds small packets back and acknowledges late, as every receiver of its kind."""
    set_option = socket.socket.setsockopt

    def without(connection, level, option, *value):
        if (level, option) != (socket.IPPROTO_TCP, getattr(socket, missing)):
            set_option(connection, level, option, *value)

    def seconds(port):
        begin = time.perf_counter()
        assert [
            each.delivery_status
            for each in described(kind="dicom", address="127.0.0.1", port=port, ae_title="ARCHIVE").send(
                [deflated] * 10
            )
        ] == ["accepted"] * 10
        return time.perf_counter() - begin

    with storescp(tmp_path / "there") as port:
        prompt = min(seconds(port) for _ in range(3))
        monkeypatch.setattr(socket.socket, "setsockopt", without)
        assert min(seconds(port) for _ in range(3)) > 2 * prompt


def test_an_object_arrives_byte_for_byte(tmp_path, monkeypatch):
    from pynetdicom import _config

    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", False)  # as in a process that sent nothing yet
    image = radiograph(16, 16)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    path = tmp_path / "object.dcm"
    image.save_as(path, enforce_file_format=True)
    head, content = path.read_bytes()[:132], path.read_bytes()[132:]
    length = 12 + dcmread(path).file_meta.FileMetaInformationGroupLength
    meta, data_set = content[:length], content[length:]
    data_set = b"\x08\0\0\0UL\4\0\1\0\0\0" + data_set  # a group length, which pydicom would not write again
    path.write_bytes(head + meta + data_set)
    made = as_object(path, image)
    with archive() as (port, received):
        assert send(made, port) == "accepted"
    assert received == {image.SOPInstanceUID: [data_set]}


def test_a_peer_that_inflates_gets_a_deflated_object_as_it_lies_on_the_disk(deflated):
    meta = dcmread(deflated.path).file_meta
    begin = 132 + 12 + meta.FileMetaInformationGroupLength
    with archive(contexts=(deflated.sop_class_uid,)) as (port, received):
        assert send(deflated, port) == "accepted"
    assert received == {deflated.sop_instance_uid: [deflated.path.read_bytes()[begin:]]}


def test_a_peer_that_does_not_inflate_gets_the_same_object_inflated(deflated, tmp_path):
    with storescp(tmp_path / "there") as port:
        assert send(deflated, port) == "accepted"
        (path,) = (tmp_path / "there").iterdir()
        arrived = dcmread(path)
    assert arrived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert arrived == dcmread(deflated.path)


def test_a_peer_that_inflates_gets_it_inflated_where_the_settings_say_so(deflated):
    with archive(contexts=(deflated.sop_class_uid,)) as (port, received):
        table = {"kind": "dicom", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
        assert delivered(deflated, deflated=False, **table) == "accepted"
    with plain(deflated.path) as lent:
        meta = dcmread(lent).file_meta
        content = lent.read_bytes()[132 + 12 + meta.FileMetaInformationGroupLength :]
    assert received == {deflated.sop_instance_uid: [content]}


@pytest.mark.parametrize("as_it_is", [True, False])
@pytest.mark.parametrize("kind", ["dicom", "dicomweb"])
def test_a_deflated_object_whose_end_is_missing_is_not_sent(deflated, kind, as_it_is):
    deflated.path.write_bytes(deflated.path.read_bytes()[:-20])
    with archive(contexts=(deflated.sop_class_uid,)) as (port, received):
        table = {"dicom": {"address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}, "dicomweb": {"url": URL}}[kind]
        receipt = receipt_of(deflated, kind=kind, deflated=as_it_is, **table)
    assert (receipt.delivery_status, receipt.status, received) == ("failed", "UNREADABLE", {})


def test_what_is_lent_inflated_has_no_name_that_could_stay(deflated):
    before = set(deflated.path.parent.iterdir())
    with plain(deflated.path) as lent:
        assert dcmread(lent) == dcmread(deflated.path)
        assert set(deflated.path.parent.iterdir()) == before
    assert not lent.exists()
