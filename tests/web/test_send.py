"""What comes from a browser: taken as what comes by C-STORE is, or refused, whatever an archive says of itself."""

import io
import json
import socket
import struct
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.config.web import Right
from cxr_dicom.dicom.codes import WRAPPER
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import telemetry
from cxr_dicom.web.application import Web
from cxr_dicom.web.send import PATH, SendPages
from cxr_dicom.web.uploads import Uploads
from cxr_dicom.web.visitors import ALL_RIGHTS, Visitors
from tests.service_helpers import free_port, settings, wait_for
from tests.web import helpers

MOST_MB = 4


@contextmanager
def sending(folder, rights=ALL_RIGHTS):
    told = settings(folder, web={"port": free_port(), "max_upload_mb": MOST_MB, "max_upload_files": 5})
    spool, ledger = Spool(told), Ledger(told.spool.folder)
    audit = AuditTrail(spool.folder)
    intake = Intake(spool, ledger, Assembly(told.assembly), audit, told.listener.sop_classes)
    visitors = Visitors(told.web, rights)
    pages = SendPages(Uploads(told, intake), ledger).pages()
    with helpers.served(Web(name="x", settings=told.web, visitors=visitors, pages=pages, port=told.web.port)) as client:
        client.ledger, client.folder = ledger, spool.folder
        yield client.enter()
    ledger.close()


@pytest.fixture
def client(tmp_path):
    with sending(tmp_path / "spool") as client:
        yield client


def send(client, content):
    headers = {"origin": f"http://{client.host}", "x-form-token": client.form_token}
    answer = client.ask("POST", PATH, content, **headers)
    assert answer.status == 200, answer.text
    assert not list((client.folder / "part").iterdir()), "nothing half stays"
    return json.loads(answer.text)


def sources(client):
    return sorted((client.folder / "sources").glob("*/*"))


@pytest.fixture(scope="module")
def dicom():
    buffer = io.BytesIO()
    synthetic.radiograph(64, 64).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def png():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as made:
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def test_a_dicom_file_lies_in_the_spool_byte_for_byte(client, dicom):
    (taken,) = send(client, dicom)
    (path,) = sources(client)
    assert path.read_bytes() == dicom
    assert taken["study_instance_uid"] == path.parent.name
    assert not taken["is_made_up"]
    assert client.ledger.stories.show(taken["study_instance_uid"])["instances"][0]["sender"] == "WEB"


def test_a_picture_becomes_a_dicom_image_that_says_so(client, png):
    (taken,) = send(client, png)
    assert taken["is_made_up"]
    (path,) = sources(client)
    assert dcmread(path).Manufacturer == WRAPPER


def test_an_archive_is_unpacked_whatever_its_names_are(client, dicom, png, tmp_path):
    names = ("../../../../evil.dcm", "/etc/evil.png", "readme.txt", "a/")
    taken = send(client, archive(zip(names, (dicom, png, b"words", b""), strict=True)))
    assert [bool(each["study_instance_uid"]) for each in taken] == [True, True, False]
    assert taken[2]["reason"].startswith("UNREADABLE")
    assert len(sources(client)) == 2
    assert not list(tmp_path.rglob("*evil*"))


def test_what_the_listener_refuses_is_refused_with_the_same_reason(client):
    other = synthetic.radiograph(64, 64)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    buffer = io.BytesIO()
    other.save_as(buffer, enforce_file_format=True)
    (taken,) = send(client, buffer.getvalue())
    assert taken["reason"].startswith("WRONG_SOP_CLASS")
    assert sources(client) == []


def test_a_bomb_ends_at_the_bound_and_leaves_nothing(client):
    bomb = archive([("a", bytes(64 << 20))])
    assert len(bomb) < 1 << 20
    (taken,) = send(client, bomb)
    assert taken["reason"].startswith("TOO_LONG")


def test_a_bomb_that_lies_about_its_length_ends_too(client):
    bomb = bytearray(archive([("a", bytes(64 << 20))]))
    place = bomb.rindex(b"PK\x01\x02")
    bomb[place + 24 : place + 28] = struct.pack("<L", 10)
    (taken,) = send(client, bytes(bomb))
    assert taken["reason"].startswith(("TOO_LONG", "UNREADABLE"))
    assert sources(client) == []


def test_a_list_of_files_that_is_too_long_is_not_read(client):
    whole = bytearray(archive([("a", b"")]))
    place = whole.rindex(b"PK\x05\x06")
    whole[place + 12 : place + 16] = struct.pack("<L", 5 << 20)
    (taken,) = send(client, bytes(whole))
    assert taken["reason"] == "TOO_LONG: expected a list of at most 4 MB, found more"


def test_a_browser_that_goes_away_is_no_fault_of_ours(client, monkeypatch):
    told = []
    monkeypatch.setattr(telemetry, "failure", lambda *given, **fields: told.append(given))
    head = f"POST {PATH} HTTP/1.1\r\nHost: {client.host}\r\nCookie: {client.cookie}\r\nOrigin: http://{client.host}\r\n"
    with socket.create_connection(("127.0.0.1", client.port)) as peer:
        peer.sendall(f"{head}X-Form-Token: {client.form_token}\r\nContent-Length: 1000\r\n\r\nabc".encode())
        wait_for(lambda: list((client.folder / "part").iterdir()))
    wait_for(lambda: not list((client.folder / "part").iterdir()))
    assert client.get("/send").status == 200
    assert not told


def test_an_archive_within_an_archive_is_not_opened(client, dicom):
    (taken,) = send(client, archive([("inner.zip", archive([("a.dcm", dicom)]))]))
    assert "archive within an archive" in taken["reason"]
    assert sources(client) == []


def test_more_files_than_the_settings_want_are_refused_before_one_is_read(client, dicom):
    (taken,) = send(client, archive([(f"{n}.dcm", dicom) for n in range(6)]))
    assert taken["reason"].startswith("TOO_LONG")
    assert sources(client) == []


def test_an_archive_that_tells_a_smaller_number_of_files_is_refused_all_the_same(client, dicom):
    content = bytearray(archive([(f"{n}.dcm", dicom) for n in range(6)]))
    place = content.rindex(b"PK\x05\x06")
    content[place + 8 : place + 12] = struct.pack("<2H", 1, 1)
    (taken,) = send(client, bytes(content))
    assert taken["reason"].startswith("TOO_LONG")
    assert sources(client) == []


def test_what_was_taken_of_an_archive_that_is_damaged_further_on_is_told(client, dicom, png):
    content = bytearray(archive([("a.dcm", dicom), ("b.png", png)]))
    content[content.index(b"b.png") + 5 + 8] ^= 0xFF
    taken = send(client, bytes(content))
    assert [bool(each["study_instance_uid"]) for each in taken] == [True, False]
    assert len(sources(client)) == 1


@pytest.mark.parametrize("signature", [b"PK\x06\x07", None])
def test_a_list_of_files_that_is_huge_is_not_read(client, dicom, signature):
    content = bytearray(archive([("a.dcm", dicom)]))
    place = content.rindex(b"PK\x05\x06")
    if signature:  # of an archive whose list says its length elsewhere
        content[place:place] = signature + bytes(16)
    else:
        content[place + 12 : place + 16] = struct.pack("<L", 1 << 30)
    (taken,) = send(client, bytes(content))
    assert taken["reason"].startswith(("TOO_LONG", "UNREADABLE"))
    assert sources(client) == []


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_damaged_archive_is_refused(client, dicom, cut):
    whole = archive([("a.dcm", dicom)])
    (taken,) = send(client, whole[: int(len(whole) * cut)])
    assert taken["reason"].startswith("UNREADABLE")


def test_a_member_with_a_password_is_refused_and_the_others_are_taken(client, dicom, png):
    content = bytearray(archive([("a.png", png), ("b.dcm", dicom)]))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    taken = send(client, bytes(content))
    assert [bool(each["study_instance_uid"]) for each in taken] == [False, True]


def test_a_file_beyond_the_bound_is_refused_unread_or_at_the_bound(client):
    headers = {"origin": f"http://{client.host}", "x-form-token": client.form_token}
    answer = client.ask("POST", PATH, b"", **headers, content_length=str(2**30))
    assert answer.status == 413
    assert not list((client.folder / "part").iterdir())


def test_a_file_that_no_page_of_ours_sends_is_refused(client, dicom):
    headers = {"origin": f"http://{client.host}"}
    assert client.ask("POST", PATH, dicom, **headers).status == 403
    assert sources(client) == []


def test_who_may_not_send_sends_nothing(tmp_path, dicom):
    with sending(tmp_path / "spool", [Right.LOOK, Right.OPERATE]) as client:
        headers = {"origin": f"http://{client.host}", "x-form-token": client.form_token}
        assert client.ask("POST", PATH, dicom, **headers).status == 403
        assert client.get("/send").status == 403
        assert sources(client) == []


def test_who_sent_a_study_says_that_it_is_whole_and_sees_how_far_it_is(client, dicom):
    (taken,) = send(client, dicom)
    path = f"/send/{taken['study_instance_uid']}"
    assert json.loads(client.get(f"{path}/result").text) == {"state": "RECEIVING", "is_finished": False}
    answer = client.post(f"{path}/complete", form_token=client.form_token)
    assert json.loads(answer.text) == {"state": "COMPLETE", "is_finished": False}
    assert client.get("/send/1.2.3/result").status == 404, "of nobody else's study"


def test_every_file_is_a_line_of_the_trail_with_who_sent_it_and_without_its_name(client, png):
    send(client, archive([("DOE^JOHN.png", png)]))
    trail = (client.folder / "audit.jsonl").read_text()
    (line,) = [each for each in map(json.loads, trail.splitlines()) if each["action"] == "file_sent"]
    assert (line["by"], line["via"], line["files"]) == ("link", "page", 1)
    assert "DOE" not in trail
