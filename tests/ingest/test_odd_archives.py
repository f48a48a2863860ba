"""Archives as trackers of others describe them, over HTTP and by DIMSE: nothing is lost, and the cause is told."""

import json
import struct
from contextlib import suppress

import pytest

from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.archive import IncompleteAnswerError, RemoteInstance
from tests.deliver.raw_peer import element, pdu, read_pdu
from tests.deliver.raw_peer import peer as raw
from tests.ingest.pacs import MULTIPART, Pacs, asked, encoded, multipart, studies
from tests.ingest.test_dicomweb_archive import JSON, fetched, found, images, uids
from tests.ingest.test_query_retrieve import client

IMAGE = RemoteInstance(study_instance_uid="1.2.1", series_instance_uid="1.2.1.1", sop_instance_uid="1.2.1.1.1")


def matching(pacs, parameters):
    return len(pacs.studies({key: value for key, value in parameters.items() if key not in ("limit", "offset")}))


@pytest.mark.parametrize("status", [413, 400])
def test_a_server_that_refuses_wide_questions_is_asked_narrow_ones(status):
    """As dcm4chee-arc with Query Max Number of Results (its issue 4487): 413 and not one match."""
    pacs = Pacs(list(studies(45)))

    def narrow(path, parameters, headers):
        if path == "/studies" and matching(pacs, parameters) > 14:
            return status, {}, b"too many results"
        return None

    pacs.lie = narrow
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)
        assert archive.check() == "answers QIDO-RS"


def test_a_server_that_refuses_every_question_is_told_soon():
    pacs = Pacs(list(studies(3)))
    pacs.lie = lambda *_: (413, {}, b"not today")
    with asked(pacs) as archive:
        with pytest.raises(ConnectionFailedError, match=r"HTTP 413: Request Entity Too Large \(not today\)"):
            found(archive)
        assert len(pacs.asked) < 60
        with pytest.raises(ConnectionFailedError, match="HTTP 413"):
            archive.check()


def test_a_server_that_wants_a_key_is_there():
    pacs = Pacs(list(studies(3)))
    pacs.lie = lambda path, parameters, headers: (
        None if set(parameters) & pacs.keys or path != "/studies" else (400, {}, b"at least one key is needed")
    )
    with asked(pacs) as archive:
        assert archive.check() == "answers QIDO-RS"


@pytest.mark.parametrize("between", ["\\\\", ",", ", "])
def test_modalities_in_one_value_are_read(between):
    """Proxies from C-FIND to QIDO-RS write DX\\SR as one text."""
    pacs = Pacs(list(studies(3)))
    pacs.change = lambda items: [{**each, "00080061": {"vr": "CS", "Value": [f"SR{between}DX"]}} for each in items]
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)


@pytest.mark.parametrize(
    ("warning", "is_whole"),
    [
        ('299 pacs "The fuzzymatching parameter is not supported. Only literal matching has been performed."', True),
        ('199 - "old", 299 pacs: "There are 9 additional results that can be requested"', False),
    ],
)
def test_a_warning_is_of_more_unless_it_says_what_else(warning, is_whole):
    pacs = Pacs(list(studies(1)))
    true = pacs.page
    pacs.page = lambda items, parameters: (200, {**JSON, "Warning": warning}, true(items, parameters)[2])
    with asked(pacs) as archive:
        if is_whole:
            assert set(found(archive)) == uids(pacs)
        else:
            with pytest.raises(ConnectionFailedError, match="INCOMPLETE"):
                found(archive)


@pytest.mark.parametrize("liked", ["application/dicom", "no quotes"])
def test_an_image_that_is_refused_twice_is_asked_for_as_the_server_likes_it(liked):
    pacs = Pacs(list(studies(1)))

    def picky(path, parameters, headers):
        if path.count("/") == 6 and headers["Accept"].startswith("multipart"):
            return 406, {}, b""
        return None

    pacs.lie = picky
    if liked == "application/dicom":
        pacs.file = lambda uid: (200, {"Content-Type": "application/dicom"}, encoded(pacs.images[0]))
    with asked(pacs) as archive:
        for _ in range(2):
            assert fetched(archive, pacs) == [encoded(pacs.images[0])]
    assert len([path for path, _ in pacs.asked if path.count("/") == 6]) == 4


def test_a_search_that_wants_plain_json_gets_it():
    """As dcm4chee-arc before its issue 621, and proxies of others."""
    pacs = Pacs(list(studies(2)))
    refused = []

    def picky(path, parameters, headers):
        if headers["Accept"] != "application/dicom+json":
            return None
        refused.append(path)
        return 406, {}, b"application/json only"

    pacs.lie = picky
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)
        assert len(images(archive, pacs)) == 1
    assert refused == ["/studies"]


def in_xml(item):
    """Write an item of DICOM JSON in XML of the Native DICOM Model (PS3.19 A.1)."""
    attributes = (
        f'<DicomAttribute tag="{tag}" vr="UI">'
        + "".join(f'<Value number="{n}">{value}</Value>' for n, value in enumerate(element["Value"], 1))
        + "</DicomAttribute>"
        for tag, element in item.items()
    )
    return f'<?xml version="1.0"?><NativeDicomModel>{"".join(attributes)}</NativeDicomModel>'.encode()


@pytest.mark.parametrize("line", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
def test_a_server_that_only_knows_xml_is_read(line):
    """Part by part, as PS3.18 8.7.3 has it; one part that cannot be read holds up no other."""
    pacs, spoilt, true = Pacs(list(studies(3))), [], Pacs.page

    def page(items, parameters):
        status, _, body = true(pacs, items, parameters)
        parts = [in_xml(each) for each in json.loads(body)] + [b"<NativeDicomModel><" for _ in spoilt]
        head = b"Content-Type: application/dicom+xml"
        body = b"".join(line.join((b"--b", head, b"", part, b"")) for part in parts) + b"--b--" + line
        return status, {"Content-Type": 'multipart/related; type="application/dicom+xml"; boundary=b'}, body

    pacs.page = page
    pacs.lie = lambda path, parameters, headers: (406, {}, b"XML only") if "json" in headers["Accept"] else None
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)
        assert len(images(archive, pacs)) == 1
        spoilt.append(True)
        with pytest.raises(IncompleteAnswerError, match="cannot be read"):
            found(archive)


def test_an_image_between_lines_as_unix_ends_them_is_taken():
    pacs = Pacs(list(studies(1)))
    content = encoded(pacs.images[0])
    for before in (b"", b"preamble\n"):
        body = before + b"--b\nContent-Type: application/dicom\n\n" + content + b"\n--b--\n"
        pacs.file = lambda uid, body=body: (200, {"Content-Type": MULTIPART}, body)
        with asked(pacs) as archive:
            assert fetched(archive, pacs) == [content]


def test_a_server_of_one_study_a_page_hides_none():
    pacs, true = Pacs(list(studies(4))), Pacs.page
    pacs.page = lambda items, parameters: true(pacs, items, {**parameters, "limit": "1"})
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)


def test_bytes_of_an_image_are_no_reason():
    pacs = Pacs(list(studies(1)))
    pacs.file = lambda uid: (206, {"Content-Type": MULTIPART}, multipart(encoded(pacs.images[0])))
    with asked(pacs) as archive, pytest.raises(FetchError) as failed:
        fetched(archive, pacs)
    assert str(failed.value).endswith("HTTP 206")


# --- DIMSE ---------------------------------------------------------------------------------------


def answering(*pdus, rejects=b"", reads=2):
    """Take the first transfer syntax of each context, but for those with ``rejects``; answer with ``pdus``."""

    def serve(connection, ended):
        connection.sendall(_accepted(pdu(*read_pdu(connection)), rejects))
        with suppress(OSError):
            for _ in range(reads):
                read_pdu(connection)
            for each in pdus:
                connection.sendall(each)
            ended.wait(0.3 if pdus else 0)

    return serve


def _accepted(request, rejects):
    from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

    asked_for = A_ASSOCIATE_RQ()
    asked_for.decode(request)
    primitive = asked_for.to_primitive()
    for context in primitive.presentation_context_definition_list:
        context.result = 3 if rejects and rejects in context.abstract_syntax.encode() else 0
        context.transfer_syntax = context.transfer_syntax[:1]
    primitive.presentation_context_definition_results_list = primitive.presentation_context_definition_list
    primitive.result, primitive.result_source = 0, 1
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(primitive)
    return answer.encode()


def command(field, status):
    elements = element(0x0100, struct.pack("<H", field)) + element(0x0120, struct.pack("<H", 1))
    elements += element(0x0800, struct.pack("<H", 0x0101)) + (b"" if status is None else element(0x0900, status))
    value = b"\1\3" + element(0, struct.pack("<I", len(elements))) + elements
    return pdu(4, struct.pack(">I", len(value)) + value)


@pytest.mark.parametrize("retrieve", ["get", "move"])
@pytest.mark.parametrize(
    ("pdus", "words"),
    [
        ((pdu(7, bytes(4)),), "the peer ended the association"),
        ((pdu(7, b"\0\0\1\x09"),), "the peer ended the association"),
        ((), "the peer closed the connection"),
        ((command(0x8021, None),), "the peer"),
    ],
    ids=["aborts", "aborts oddly", "closes", "no status"],
)
def test_an_archive_that_aborts_did_not_time_out(retrieve, pdus, words, capfd):
    """As Orthanc, asked to move to a destination that it does not know (pynetdicom's issue 430)."""
    with raw(answering(*pdus)) as port, pytest.raises(ConnectionFailedError) as failed:
        client(port, timeout_seconds=2, retrieve=retrieve).fetch(IMAGE, lambda *_: None)
    assert failed.value.status == "ABORTED"
    assert words in str(failed.value)
    assert capfd.readouterr().err == ""


def test_an_archive_without_c_echo_is_there():
    with raw(answering(rejects=b"1.2.840.10008.1.1")) as port:
        assert client(port, timeout_seconds=2).check() == "accepts associations, and knows no C-ECHO"


def test_an_archive_whose_c_echo_fails_says_how():
    with raw(answering(command(0x8030, struct.pack("<H", 0x0211)), reads=1)) as port:
        assert client(port, timeout_seconds=2).check() == "answers C-ECHO with 0x0211, unrecognised operation"
