import json
import socket
import ssl
import stat
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, SecondaryCaptureImageStorage
from pynetdicom import _config
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from cxr_dicom.errors import SettingsError
from cxr_dicom.records import MANUFACTURER
from cxr_dicom.synthetic import radiograph, stored_as
from tests.service_helpers import associated, certificate, free_port, listening, send, wait_for


@pytest.fixture
def image():
    return radiograph(64, 48)


def data_set_bytes(file):
    """Return what stands after the file meta information."""
    file.seek(132)
    dcm = dcmread(BytesIO(b"\0" * 128 + b"DICM" + file.read()), stop_before_pixels=True)
    file.seek(0)
    content = file.read()
    return content[132 + 12 + dcm.file_meta.FileMetaInformationGroupLength :]


def test_echo(tmp_path):
    with listening(tmp_path) as here, associated(here.port, Verification) as association:
        assert association.send_c_echo().Status == 0x0000


def test_an_instance_is_stored_as_it_came_before_success(tmp_path, image):
    compressed = stored_as(image, JPEG2000Lossless)
    with listening(tmp_path / "spool") as here:
        assert send(here.port, compressed) == [0x0000]
        (path,) = here.files()
        original = BytesIO()
        compressed.save_as(original, enforce_file_format=True)
        with path.open("rb") as file:
            assert data_set_bytes(file) == data_set_bytes(original)
        assert dcmread(path).file_meta.TransferSyntaxUID == JPEG2000Lossless
        assert here.ledger.studies.knows(image.SOPInstanceUID)
        assert here.files("part") == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(here.spool.folder.stat().st_mode) == 0o700
        assert "instance_received" in here.audit()
        assert "SYNTHETIC" not in here.audit().upper()


def test_the_same_image_twice_is_one_file_and_two_successes(tmp_path, image):
    with listening(tmp_path) as here:
        assert send(here.port, image, image) == [0x0000, 0x0000]
        assert len(here.files()) == 1


def test_an_image_of_another_study_with_the_same_uid_is_refused_and_takes_nothing_away(tmp_path, image):
    first, other = deepcopy(image), deepcopy(image)
    other.StudyInstanceUID = "1.2.3"
    with listening(tmp_path) as here:
        assert send(here.port, first, other, first) == [0x0000, 0xC001, 0x0000]
        (path,) = here.files()
        assert dcmread(path).StudyInstanceUID == first.StudyInstanceUID
        (study,) = here.ledger.stories.summaries()
        assert (study["study_instance_uid"], study["instances"]) == (first.StudyInstanceUID, 1)
        assert path.is_file()
        assert "OTHER_STUDY" in here.audit()
        here.spool.delete(here.ledger.stories.forget(first.StudyInstanceUID))
        assert send(here.port, other) == [0x0000]


def test_of_two_studies_that_send_the_same_uid_at_once_one_is_refused(tmp_path, image):
    others = [deepcopy(image) for _ in range(8)]
    for number, each in enumerate(others):
        each.StudyInstanceUID = f"1.2.{number}"
    with listening(tmp_path) as here, ThreadPoolExecutor(len(others)) as senders:
        statuses = list(senders.map(lambda each: send(here.port, each)[0], others))
        assert sorted(statuses) == [0x0000] + [0xC001] * 7
        (path,) = here.files()
        (study,) = here.ledger.stories.summaries()
        assert study["study_instance_uid"] == others[statuses.index(0x0000)].StudyInstanceUID == path.parent.name


def test_an_open_association_keeps_its_study_open(tmp_path, image):
    with listening(tmp_path, assembly={"quiet_seconds": 0.1}) as here:
        with associated(here.port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID)) as association:
            association.send_c_store(image)
            time.sleep(0.3)
            assert here.assembly.due([image.StudyInstanceUID]) == []
        wait_for(lambda: here.assembly.due([image.StudyInstanceUID]) == [image.StudyInstanceUID])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"StudyInstanceUID": "../../etc"}, 0xC000),
        ({"StudyInstanceUID": None}, 0xC000),
        ({"StudyInstanceUID": "1." * 5_000_000}, 0xC000),
        ({"SeriesInstanceUID": "1/2"}, 0xC000),
        ({"Manufacturer": MANUFACTURER}, 0x0124),
    ],
    ids=["path in uid", "no uid", "10 MB uid", "slash", "own output"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_taken_is_refused_and_leaves_nothing(tmp_path, image, changes, status):
    for keyword, value in changes.items():
        if value is None:
            del image[keyword]
        else:
            setattr(image, keyword, value)
    with listening(tmp_path) as here:
        assert send(here.port, image) == [status]
        assert here.files() + here.files("part") == []
        assert here.ledger.stories.summaries() == []


def test_a_data_set_that_is_not_what_was_announced_is_refused(tmp_path, image, monkeypatch):
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)  # the sender reads nothing but the file meta
    with listening(tmp_path) as here:
        announced = BytesIO()
        image.save_as(announced, enforce_file_format=True)
        image.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        path = tmp_path / "other.dcm"
        path.write_bytes(
            announced.getvalue().replace(image.SOPInstanceUID.encode(), b"9" * len(image.SOPInstanceUID), 1)
        )
        other = dcmread(path)
        with associated(here.port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID)) as association:
            answer = association.send_c_store(path)  # takes the UIDs of the request from the file meta information
        assert other.file_meta.MediaStorageSOPInstanceUID != other.SOPInstanceUID
        assert answer.Status == 0xA900


def test_other_sop_classes_and_deflated_get_no_context(tmp_path, image):
    with (
        listening(tmp_path) as here,
        associated(here.port, SecondaryCaptureImageStorage, (image.SOPClassUID, DeflatedExplicitVRLittleEndian)) as a,
    ):
        assert a.is_established is False
        assert len(a.rejected_contexts) == 2


@pytest.mark.parametrize(
    ("listener", "names", "reason"),
    [
        ({}, {"called": "SOMEBODY"}, "called another name than listener.ae_title"),
        ({"calling_ae_titles": ["MODALITY"]}, {"calling": "STRANGER"}, "not in listener.calling_ae_titles"),
    ],
    ids=["wrong called", "unknown calling"],
)
def test_ae_titles_are_enforced_and_the_audit_trail_says_so(tmp_path, listener, names, reason):
    with listening(tmp_path, listener=listener) as here:
        with associated(here.port, Verification, **names) as association:
            assert association.is_rejected
        line = json.loads(wait_for(lambda: here.audit()))
        assert line.pop("time")
        assert line == {
            "action": "association_rejected",
            "sender": names.get("calling", "MODALITY"),
            "address": "127.0.0.1",
            "reason": reason,
        }
        with associated(here.port, Verification) as association:
            assert association.is_established


def test_it_answers_to_several_names_and_keeps_by_which_it_was_called(tmp_path):
    images = [radiograph(64, 48, seed=seed) for seed in range(3)]
    names = ("CXR", "CXR_RESEARCH", "CXRSTAT")
    urgent = {"urgent": {"called_ae_titles": ["CXRSTAT"]}}
    with listening(tmp_path, listener={"ae_title": names[:2]}, assembly=urgent) as here:
        for image, called in zip(images, names, strict=True):
            assert send(here.port, image, called=called) == [0]
        assert send(here.port, images[0], called="CXR_RESEARCH") == [0]  # again: it is here already
        rows = here.ledger.rows("SELECT sop_instance_uid, called_ae_title FROM instances")
        assert dict(map(tuple, rows)) == dict(zip([image.SOPInstanceUID for image in images], names, strict=True))
        for other in ("CXRDICOM", "cxr", "CXR_"):
            with associated(here.port, Verification, called=other) as association:
                assert association.is_rejected


def test_addresses_are_enforced(tmp_path):
    only = {"calling_addresses": ["10.1.2.0/24"]}
    with listening(tmp_path, listener=only) as here, associated(here.port, Verification) as association:
        assert not association.is_established


def test_a_full_disk_is_told_in_a_way_that_makes_the_sender_try_again(tmp_path, image):
    with listening(tmp_path, spool={"min_free_mb": 10**9}) as here:
        assert send(here.port, image) == [0xA700]
        assert here.files() + here.files("part") == []


def test_a_locked_ledger_is_told_likewise(tmp_path, image):
    with listening(tmp_path) as here:
        here.ledger._lock_seconds = 0.1
        with here.ledger.transaction():
            assert send(here.port, image) == [0xA700]
        assert send(here.port, image) == [0x0000]


def test_an_instance_beyond_the_limit_ends_the_association(tmp_path):
    with listening(tmp_path, listener={"max_instance_mb": 1}) as here:
        assert send(here.port, radiograph(1400, 1400)) == [None]
        assert send(here.port, radiograph(64, 48)) == [0x0000]
        assert len(here.files()) == 1


def test_a_pdu_that_claims_four_gigabytes_is_not_read(tmp_path):
    with listening(tmp_path) as here, socket.create_connection(("127.0.0.1", here.port), 5) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + b"\0" * 1000)
        connection.settimeout(5)
        assert _is_closed(connection)


def test_silent_connections_leave_room_for_others_and_are_closed(tmp_path, image):
    listener = {"negotiation_seconds": 1, "idle_seconds": 1, "max_associations": 4}
    with listening(tmp_path, listener=listener) as here:
        silent = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(200)]
        for connection in silent:
            connection.settimeout(10)
        wait_for(lambda: all(_is_closed(connection) for connection in silent))
        for connection in silent:
            connection.close()
        assert send(here.port, image) == [0x0000]


def test_no_more_connections_are_held_than_twice_the_associations_and_eight(tmp_path):
    listener = {"negotiation_seconds": 30, "max_associations": 2}
    with listening(tmp_path, listener=listener) as here:
        taken = []

        def are_all_open():
            while len(taken) < 2 * 2 + 8:
                taken.append(socket.create_connection(("127.0.0.1", here.port)))
            time.sleep(0.2)
            for connection in [each for each in taken if _is_closed_within(0.01, each)]:
                taken.remove(connection)  # while one is handed over it counts twice
            return len(taken) == 2 * 2 + 8

        wait_for(are_all_open)
        one_more = socket.create_connection(("127.0.0.1", here.port))
        assert _is_closed_within(5, one_more)
        assert not any(_is_closed_within(0.01, connection) for connection in taken)
        for connection in (*taken, one_more):
            connection.close()


def test_a_tls_handshake_that_falls_silent_is_closed(tmp_path):
    certificate_path, key = certificate(tmp_path, "server")
    tls = {"certificate": certificate_path, "key": key}
    with (
        listening(tmp_path / "spool", listener={"tls": tls, "negotiation_seconds": 1, "idle_seconds": 30}) as here,
        socket.create_connection(("127.0.0.1", here.port)) as connection,
    ):
        connection.settimeout(10)
        assert _is_closed(connection)


def _is_closed_within(seconds, connection):
    connection.settimeout(seconds)
    try:
        return _is_closed(connection)
    except TimeoutError:
        return False


def _is_closed(connection):
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def test_a_stream_that_breaks_off_leaves_nothing(tmp_path, image):
    with listening(tmp_path) as here:
        with associated(here.port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID)) as association:
            raw = association.dul.socket.socket
            raw.sendall(struct.pack(">BBL", 4, 0, 500) + b"\0" * 100)
            raw.shutdown(socket.SHUT_RDWR)
        assert here.files() + here.files("part") == []
        assert send(here.port, image) == [0x0000]


def test_an_image_that_breaks_off_in_the_middle_leaves_nothing(tmp_path, image):
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    request.DataSet = BytesIO(bytes(100_000))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    with listening(tmp_path) as here:
        with associated(here.port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID)) as association:
            (context,) = association.accepted_contexts
            for primitive in list(message.encode_msg(context.context_id, 16_384))[:-1]:
                association.dul.send_pdu(primitive)
            wait_for(lambda: here.files("part"))
            association.abort()
        wait_for(lambda: not here.files("part"))
        assert here.files() == []


@pytest.mark.parametrize(
    "item", [b"\0\0\1\0\1\3data", b"\0\0\0\1\1", b"\0\0"], ids=["too long", "no header", "cut off"]
)
def test_an_item_that_does_not_fill_its_pdu_ends_the_association(tmp_path, image, item):
    with listening(tmp_path) as here:
        with associated(here.port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID)) as association:
            association.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, len(item)) + item)
            wait_for(lambda: association.is_aborted)
        assert send(here.port, image) == [0x0000]


@pytest.mark.parametrize("max_pdu_bytes", [4096, 1 << 20])
def test_an_image_arrives_whole_in_pdus_of_any_size(tmp_path, image, max_pdu_bytes):
    with listening(tmp_path, listener={"max_pdu_bytes": max_pdu_bytes}) as here:
        assert send(here.port, image) == [0x0000]
        (path,) = here.files()
        assert dcmread(path) == image


def test_mutual_tls(tmp_path, image):
    authority = certificate(tmp_path, "authority")
    server, key = certificate(tmp_path, "server", authority=authority)
    client = certificate(tmp_path, "client", authority=authority)
    stranger = certificate(tmp_path, "stranger")
    tls = {"certificate": server, "key": key, "ca": authority[0]}
    with listening(tmp_path / "spool", listener={"tls": tls, "negotiation_seconds": 2}) as here:
        good = ssl.create_default_context(cafile=authority[0])
        good.load_cert_chain(*client)
        stalled = socket.create_connection(("127.0.0.1", here.port))  # never shakes hands, and holds up nobody
        assert send(here.port, image, tls=good) == [0x0000]
        stalled.close()
        for pair in (stranger, None):
            bad = ssl.create_default_context(cafile=authority[0])
            if pair:
                bad.load_cert_chain(*pair)
            with associated(here.port, Verification, tls=bad) as association:
                assert not association.is_established
        with associated(here.port, Verification) as association:
            assert not association.is_established


def test_a_port_that_is_taken_names_the_setting(tmp_path):
    port = free_port()
    with (
        listening(tmp_path / "a", listener={"port": port}),
        pytest.raises(SettingsError, match=r"listener\.port"),
        listening(tmp_path / "b", listener={"port": port}),
    ):
        pass


def test_a_report_of_storage_commitment_is_handed_on(tmp_path):
    information = Dataset()
    information.TransactionUID = "1.2.3"
    information.ReferencedSOPSequence = []
    with listening(tmp_path) as here:
        from pynetdicom import AE, build_role

        entity = AE("PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", here.port, ae_title="CXRDICOM", ext_neg=[role])
        status, _ = association.send_n_event_report(
            information, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        association.release()
        assert status.Status == 0x0000
        assert here.reports[0][0] == "1.2.3"


def test_an_association_that_falls_silent_lets_its_study_go(tmp_path, image):
    tables = {"listener": {"idle_seconds": 0.5}, "assembly": {"quiet_seconds": 0.1}}
    context = (image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    with listening(tmp_path, **tables) as here, associated(here.port, context) as association:
        association.send_c_store(image)
        wait_for(lambda: here.assembly.due([image.StudyInstanceUID]))
