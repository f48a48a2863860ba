"""C-STORE: what arrives is what lies on the disk."""

from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.records import EncodedObject, ObjectKind
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import archive


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
    made = EncodedObject(
        path=path,
        kind=ObjectKind.SECONDARY_CAPTURE,
        sop_class_uid=image.SOPClassUID,
        sop_instance_uid=image.SOPInstanceUID,
        series_instance_uid=image.SeriesInstanceUID,
        source_sop_instance_uids=(),
        model=None,
    )
    with archive() as (port, received):
        table = {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
        settings = Settings.model_validate({"destinations": [table]})
        (receipt,) = build_destination(settings.destinations[0], lambda uid: None).send([made])
    assert receipt.delivery_status == "accepted"
    assert received == {image.SOPInstanceUID: [data_set]}
