"""STOW-RS: what comes by it lies in the spool before the answer says so, and nothing that is sent costs more."""

import gzip
import http.client
import io
import json
import socket
import threading
import time
import zlib
from contextlib import contextmanager

import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_dicom import synthetic
from cxr_dicom.config.web import Right
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.records import MANUFACTURER
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool, SpoolFullError
from cxr_dicom.web import guard
from cxr_dicom.web.application import Web
from cxr_dicom.web.dicomweb.holdings import SpoolHoldings
from cxr_dicom.web.dicomweb.pages import DicomWeb
from cxr_dicom.web.dicomweb.store import Store
from cxr_dicom.web.visitors import Visitors
from tests.service_helpers import free_port, settings
from tests.web import helpers

TOKEN = "t" * 40
STUDIES = "/dicom-web/studies"
BOUNDARY = "b" * 20
KIND = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
FAILED, STORED, OTHERS = "00081198", "00081199", "0008119A"


@contextmanager
def storing(folder, assembly=None, **web):
    folder.mkdir(parents=True)
    tokens = folder / "tokens"
    tokens.write_text(f"gateway {','.join((Right.SEND, Right.LOOK_AT_PATIENTS))} {TOKEN}\nlooker look {'l' * 40}\n")
    tokens.chmod(0o600)
    told = settings(
        folder / "spool",
        web={"port": free_port(), "tokens_file": tokens, "max_upload_mb": 4, "max_upload_files": 5} | web,
        listener={"max_instance_mb": 1},
        assembly=assembly or {},
    )
    spool, ledger = Spool(told), Ledger(told.spool.folder)
    assembly = Assembly(told.assembly)
    intake = Intake(spool, ledger, assembly, AuditTrail(spool.folder), told.listener.sop_classes)
    shown = (*DicomWeb(SpoolHoldings(ledger)).pages(), *Store(told, intake).pages())
    with helpers.served(
        Web(name="x", settings=told.web, visitors=Visitors(told.web), pages=shown, port=told.web.port)
    ) as client:
        client.ledger, client.spool, client.assembly = ledger, spool, assembly
        yield client
    ledger.close()


@pytest.fixture
def client(tmp_path):
    with storing(tmp_path / "x") as client:
        yield client
        assert not list((client.spool.folder / "part").iterdir()), "nothing half stays"


def image(number=1, study="1.2.826.0.7", **values):
    made = synthetic.radiograph(64, 64)
    made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.1"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{number}"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def file_of(dataset, *, enforce_file_format=True):
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=enforce_file_format)
    return buffer.getvalue()


def body(*files, kind="application/dicom", end=f"\r\n--{BOUNDARY}--\r\n", before=""):
    parts = [f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + content for content in files]
    return before.encode() + b"\r\n".join(parts) + end.encode()


def send(client, content, path=STUDIES, token=TOKEN, content_type=KIND, **headers):
    given = {"authorization": f"Bearer {token}", "content-type": content_type} | headers
    return client.ask("POST", path, content, sec_fetch_site=None, **given)


def reasons(answer, sequence=FAILED):
    return [item["00081197"]["Value"][0] for item in json.loads(answer.text)[sequence]["Value"]]


def sources(client):
    return sorted((client.spool.folder / "sources").glob("*/*"))


def trail(client):
    return [json.loads(line) for line in (client.spool.folder / "audit.jsonl").read_text().splitlines()]


# --- what is taken -------------------------------------------------------------------------------


def test_dicomweb_client_stores_finds_and_gets_the_same_bytes(client):
    sent = [image(1), image(2), image(1, study="1.2.826.0.8")]
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    web = DICOMwebClient(f"http://127.0.0.1:{client.port}/dicom-web", session=session, chunk_size=10_000)
    said = web.store_instances(sent)
    assert [item.ReferencedSOPInstanceUID for item in said.ReferencedSOPSequence] == [
        each.SOPInstanceUID for each in sent
    ]
    assert "FailedSOPSequence" not in said
    posted = [bytes(128) + b"DICM" + file_of(each, enforce_file_format=False) for each in sent]  # it sends no preamble
    assert sorted(path.read_bytes() for path in sources(client)) == sorted(posted)
    found = web.search_for_studies()
    assert {each["0020000D"]["Value"][0] for each in found} == {"1.2.826.0.7", "1.2.826.0.8"}
    (again,) = web.retrieve_study("1.2.826.0.8")
    assert again == sent[2]
    url = said.ReferencedSOPSequence[2].RetrieveURL
    answer = session.get(url, headers={"Accept": "application/dicom"})
    assert answer.content == posted[2]


def test_what_is_stored_is_in_the_trail_and_waits_for_the_rest_of_its_study(client):
    answer = send(client, body(file_of(image())))
    assert answer.status == 200
    assert json.loads(answer.text)["00081190"]["Value"] == [f"http://{client.host}{STUDIES}/1.2.826.0.7"]
    (line,) = [each for each in trail(client) if each["action"] == "instances_sent"]
    assert (line["by"], line["via"], line["files"], line["failed"]) == ("gateway", "dicomweb", 1, 0)
    story = client.ledger.stories.show("1.2.826.0.7")
    assert (story["state"], story["instances"][0]["sender"]) == ("RECEIVING", "WEB:gateway")
    assert not client.assembly._open["1.2.826.0.7"].senders, "the request has ended"
    assert send(client, body(file_of(image()))).status == 200, "what is known is no failure"


@pytest.mark.parametrize("before", ["", "\r\n", "A preamble is none of ours\r\n"], ids=repr)
@pytest.mark.parametrize("end", [f"\r\n--{BOUNDARY}--", f"\r\n--{BOUNDARY}--\r\n\r\nepilogue"], ids=repr)
def test_odd_but_lawful_bodies_are_read(client, before, end):
    answer = send(client, body(file_of(image()), before=before, end=end))
    assert answer.status == (400 if before.startswith("A") else 200)


def test_a_boundary_across_chunks_of_any_length_is_found(client):
    whole, content = body(file_of(image())), file_of(image())
    for size in (1, 7, 4096):
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        pieces = (whole[i : i + size] for i in range(len(whole) - 600, len(whole), size))
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": KIND, "Transfer-Encoding": "chunked"}
        chunks = [whole[: len(whole) - 600], *pieces]
        connection.request("POST", STUDIES, iter(chunks), headers, encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
    assert [path.read_bytes() for path in sources(client)] == [content]


# --- what is not ---------------------------------------------------------------------------------


def test_each_refusal_has_the_reason_that_c_store_tells(client):
    other = image(3)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    own = image(4, Manufacturer=MANUFACTURER)
    deflated = image(5)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    answer = send(client, body(*(file_of(each) for each in (image(1), other, own, deflated))))
    assert answer.status == 202
    assert reasons(answer) == [0x0122, 0x0124, 0xC122]
    failed = json.loads(answer.text)[FAILED]["Value"]
    assert failed[0]["00081150"]["Value"] == [other.SOPClassUID]
    assert [each["00081155"]["Value"][0][-1] for each in failed] == ["3", "4", "5"]
    assert len(sources(client)) == 1
    (line,) = [each for each in trail(client) if each["action"] == "instance_refused"]
    assert line["reason"] == "WRONG_SOP_CLASS 1, OWN_OUTPUT 1, WRONG_TRANSFER_SYNTAX 1"
    assert (line["times"], line["sender"], line.get("sop_instance_uid")) == (3, "WEB:gateway", None)
    assert send(client, body(file_of(own))).status == 409
    (_, line) = [each for each in trail(client) if each["action"] == "instance_refused"]
    assert (line["reason"], line["sop_instance_uid"]) == ("OWN_OUTPUT", own.SOPInstanceUID), "one has all that is known"


def test_a_study_is_complete_at_the_end_of_a_request_of_who_sends_whole_studies(tmp_path, monkeypatch):
    with storing(tmp_path / "x", assembly={"whole_studies_from": ["WEB:gateway"]}) as client:
        assert send(client, body(file_of(image(1)), file_of(image(2)), end="")).status == 400
        assert client.assembly.due(["1.2.826.0.7"]) == [], "it ended early"
        assert send(client, body(b"words", file_of(image(2)))).status == 202
        assert client.assembly.due(["1.2.826.0.7"]) == ["1.2.826.0.7"], "words are never wanted"
        monkeypatch.setattr(Spool, "keep", lambda *_: 1 / 0)
        assert send(client, body(file_of(image(3)), file_of(image(2)))).status == 202
        assert client.assembly.due(["1.2.826.0.7"]) == [], "an image has to come again"
    with storing(tmp_path / "y", assembly={"whole_studies_from": ["WEB:other", "WEB"]}) as client:
        send(client, body(file_of(image(1))))
        assert client.assembly.due(["1.2.826.0.7"]) == []


def test_what_cannot_be_named_is_among_the_other_failures(client):
    answer = send(client, body(b"no DICOM", b"", file_of(image())[:-9], file_of(image(SOPInstanceUID="1.2.x\0"))))
    assert answer.status == 409
    assert reasons(answer, OTHERS) == [0xC000] * 4
    assert STORED not in json.loads(answer.text)
    assert sources(client) == []


def test_a_uid_with_nul_or_a_path_in_it_names_no_file(client):
    hostile = file_of(image()).replace(b"1.2.826.0.7.1.1\0", b"../../../../../x")
    answer = send(client, body(hostile))
    assert (answer.status, reasons(answer, OTHERS)) == (409, [0xC000])
    assert sources(client) == []


def test_an_image_of_another_study_than_that_of_the_path_is_refused(client):
    answer = send(client, body(file_of(image())), path=f"{STUDIES}/1.2.3")
    assert (answer.status, reasons(answer)) == (409, [0xA900])
    assert send(client, body(file_of(image())), path=f"{STUDIES}/1.2.826.0.7").status == 200
    assert send(client, body(file_of(image())), path=f"{STUDIES}/nothing").status == 400


def test_a_known_uid_in_another_study_stays_where_it_is(client):
    send(client, body(file_of(image())))
    thief = image(study="1.2.826.0.9", SOPInstanceUID="1.2.826.0.7.1.1")
    thief.file_meta.MediaStorageSOPInstanceUID = thief.SOPInstanceUID
    answer = send(client, body(file_of(thief)))
    assert (answer.status, reasons(answer)) == (409, [0xC001])
    assert [dcmread(path).StudyInstanceUID for path in sources(client)] == ["1.2.826.0.7"]


def test_a_part_of_another_type_is_not_looked_at(client):
    mixed = body(file_of(image(1))).removesuffix(f"--{BOUNDARY}--\r\n".encode()) + body(b"{}", kind="application/json")
    answer = send(client, mixed)
    assert (answer.status, reasons(answer, OTHERS)) == (202, [0xC000])


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/dicom+json", 415),
        ("multipart/form-data; boundary=x", 415),
        ("multipart/related; boundary=x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', 415),
        ('multipart/related; type="application/dicom"', 400),
        ('multipart/related; type="application/dicom"; boundary=""', 400),
        (f'multipart/related; type="application/dicom"; boundary={"x" * 201}', 400),
        (f'multipart/related; type="application/dicom"; boundary={"x" * 20}', 400),
        ("", 415),
    ],
)
def test_other_bodies_are_refused(client, content_type, status):
    assert send(client, body(file_of(image())), content_type=content_type).status == status
    assert sources(client) == []


@pytest.mark.parametrize("content", [b"", f"--{BOUNDARY}--\r\n".encode(), b"--", b"\r\n" * 1000], ids=repr)
def test_a_body_without_a_part_is_refused(client, content):
    assert send(client, content).status == 400


def test_a_body_that_ends_early_keeps_what_was_whole_and_says_so(client):
    answer = send(client, body(file_of(image(1)), file_of(image(2)), end=""))
    assert answer.status == 400
    stored = json.loads(answer.text)[STORED]["Value"]
    assert [each["00081155"]["Value"] for each in stored] == [["1.2.826.0.7.1.1"]]
    assert len(sources(client)) == 1


def test_who_may_not_send_or_is_a_browser_elsewhere_is_refused(client):
    whole = body(file_of(image()))
    assert send(client, whole, token="x" * 40).status == 401
    assert send(client, whole, token="l" * 40).status == 403
    client.enter()
    assert client.ask("POST", STUDIES, whole, origin=f"http://{client.host}").status == 403
    assert send(client, whole, origin="http://elsewhere.example").status == 403
    assert send(client, whole, accept="text/html").status == 406
    assert sources(client) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_a_machine_may_leave_the_port_out_of_host(client, host):
    answer = send(client, body(file_of(image())), host=host)
    assert answer.status == 200
    assert json.loads(answer.text)["00081190"]["Value"][0].startswith(f"http://{host.lower()}:{client.port}/")
    assert send(client, body(file_of(image())), host="evil.example").status == 421


# --- bounds --------------------------------------------------------------------------------------


def test_an_instance_that_is_too_long_is_refused_and_the_next_is_taken(client):
    answer = send(client, body(file_of(image(1)) + bytes(2 << 20), file_of(image(2))))
    assert (answer.status, reasons(answer, OTHERS)) == (202, [0xC000])
    (line,) = [each for each in trail(client) if each["action"] == "instance_refused"]
    assert line["reason"] == "TOO_LONG"


def endless(client, head, piece, most=400):
    """Send a body that never ends; return the answer, or None where the connection was closed."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as peer:
        request = f"POST {STUDIES} HTTP/1.1\r\nHost: {client.host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        peer.sendall(f"{request}Content-Type: {KIND}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for chunk in (head, *([piece] * most)):
                peer.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        except OSError:
            pass
        try:
            return peer.recv(1 << 16)
        except OSError:
            return None


@pytest.mark.parametrize(
    "head",
    [body(b"", end=""), b"", f"--{BOUNDARY}\r\nX-Long: ".encode(), f"--{BOUNDARY}\r\n".encode()],
    ids=["part", "preamble", "header", "headers"],
)
def test_a_body_without_end_ends_at_a_bound(client, head):
    piece = b"X: y\r\n" * 10_000 if head.endswith(b"\r\n") and head.count(b"\n") == 1 else bytes(60_000)
    answer = endless(client, head, piece)
    assert answer is None or answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert sources(client) == []


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("identity, gzip", 415), ("identity", 200)])
def test_a_body_that_is_packed_is_not_taken_and_that_is_told(client, coding, status):
    content = body(file_of(image()))
    answer = send(client, gzip.compress(content) if status == 415 else content, content_encoding=coding)
    assert (answer.status, answer.status == 415 and "Content-Encoding" in answer.text) == (status, status == 415)


def test_a_body_of_a_gigabyte_is_not_read(client):
    answer = send(client, None, content_length=str(1 << 30))
    assert answer.status == 413


def test_more_instances_than_the_bound_end_the_request_and_what_was_stored_is_told(client):
    answer = send(client, body(*(file_of(image(number)) for number in range(1, 9))))
    assert answer.status == 413
    assert len(json.loads(answer.text)[STORED]["Value"]) == len(sources(client)) == 5


def test_a_body_that_dribbles_ends(client, monkeypatch):
    monkeypatch.setattr(guard, "PIECE_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as peer:
        request = f"POST {STUDIES} HTTP/1.1\r\nHost: {client.host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        peer.sendall(f"{request}Content-Type: {KIND}\r\nContent-Length: 99999\r\n\r\n--{BOUNDARY}\r\n\r\nxx".encode())
        assert peer.recv(100).startswith(b"HTTP/1.1 408")


def test_a_sender_that_leaves_leaves_nothing(client):
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as peer:
        request = f"POST {STUDIES} HTTP/1.1\r\nHost: {client.host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        peer.sendall(f"{request}Content-Type: {KIND}\r\nContent-Length: 99999\r\n\r\n".encode())
        peer.sendall(body(file_of(image())[:4000], end=""))
        time.sleep(0.3)
        assert list((client.spool.folder / "part").iterdir()), "it is written as it comes"
    until = time.monotonic() + 5
    while list((client.spool.folder / "part").iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert send(client, body(file_of(image()))).status == 200


def test_a_full_disk_is_told_so_that_the_sender_comes_again(client, monkeypatch):
    def full(self):
        raise SpoolFullError("expected 1 MB free, found 0 MB")

    monkeypatch.setattr(Spool, "require_space", full)
    answer = send(client, body(file_of(image())))
    assert (answer.status, reasons(answer, OTHERS)) == (503, [0xA700])
    assert answer.headers["retry-after"] == "60"


def test_a_bomb_in_a_deflated_instance_is_never_unpacked_beyond_its_bound(client):
    made = image()
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = file_of(made)[:400]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = head[: head.index(b"1.2.840.10008.1.2.1.99") + 22] + packer.compress(bytes(100 << 20)) + packer.flush()
    assert send(client, body(bomb)).status == 409


def test_many_senders_at_once_each_get_their_answer(tmp_path):
    with storing(tmp_path / "x", max_upload_files=50) as client:
        whole = [body(*(file_of(image(n, study=f"1.2.826.0.{s}")) for n in range(1, 4))) for s in range(1, 9)]
        answers = []
        threads = [threading.Thread(target=lambda each=each: answers.append(send(client, each))) for each in whole]
        [each.start() for each in threads]
        [each.join() for each in threads]
        assert [each.status for each in answers] == [200] * 8
        assert len(sources(client)) == 24
