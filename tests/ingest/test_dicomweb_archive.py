"""DICOMweb servers that lie, over HTTP: what they say is compared with what they were asked."""

import json
from io import BytesIO

import pytest
import requests

from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.archive import IncompleteAnswerError, RemoteStudy, StudyQuery
from cxr_dicom.ingest.dicom_json import items_of
from tests.ingest.pacs import MULTIPART, Pacs, asked, encoded, multipart, studies

ALL = StudyQuery(since="20260101")
JSON = {"Content-Type": "application/dicom+json"}
PAGE = b"<html><head><title>Sign in</title></head><body>Please log in, Doe^Jane</body></html>"
MODALITIES = ("CR", "DX")


@pytest.fixture
def pacs():
    return Pacs(list(studies(3)))


def found(archive, query=ALL):
    return [study.study_instance_uid for study in archive.studies(query, MODALITIES)]


def uids(pacs):
    return {each.StudyInstanceUID for each in pacs.images}


def images(archive, pacs):
    """All that is listed of the first study."""
    study = RemoteStudy(study_instance_uid=pacs.images[0].StudyInstanceUID)
    return [each.sop_instance_uid for each in archive.instances(study, MODALITIES)]


def fetched(archive, pacs):
    kept = []
    study = RemoteStudy(study_instance_uid=pacs.images[0].StudyInstanceUID)
    (image,) = archive.instances(study, MODALITIES)
    archive.fetch(image, lambda chunks, about: kept.append(b"".join(chunks)))
    return kept


def test_what_is_there_is_found_and_fetched(pacs):
    with asked(pacs) as archive:
        (first, *_) = archive.studies(ALL, MODALITIES)
        assert (first.study_date, first.instances, first.modalities) == ("20260101", 1, ("DX",))
        assert set(found(archive)) == uids(pacs)
        assert fetched(archive, pacs) == [encoded(pacs.images[0])]
        assert archive.check() == "answers QIDO-RS"


def test_pages_that_end_early_with_the_modality(caplog):
    """As Orthanc 1.10: with ``ModalitiesInStudy`` there is nothing behind the first page."""
    pacs = Pacs(list(studies(141)))

    def ends_early(path, parameters, headers):
        if "ModalitiesInStudy" in parameters and int(parameters["offset"]):
            return 200, JSON, b"[]"
        return None

    pacs.lie = ends_early
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)
    assert not caplog.messages


def test_a_server_that_caps_all_pages_together():
    pacs = Pacs(list(studies(141)))
    pacs.cap = 50
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)


def test_a_warning_of_more_that_does_not_come_is_an_error(pacs):
    for each in pacs.images:
        each.PatientID, each.StudyTime = "P", "101112"
    pacs.lie = lambda path, parameters, headers: (
        200,
        {**JSON, "Warning": '299 pacs: "There are 97 additional results that can be requested"'},
        pacs.page(pacs.studies(parameters), parameters)[2],
    )
    with asked(pacs) as archive, pytest.raises(IncompleteAnswerError, match="nothing proves"):
        found(archive)


def test_offsets_that_are_ignored_come_to_an_end():
    pacs = Pacs(list(studies(30)))
    page = pacs.page
    pacs.page = lambda items, parameters: page(items, {})
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)


@pytest.mark.parametrize("refused", [{"ModalitiesInStudy"}, {"ModalitiesInStudy", "includefield", "limit", "offset"}])
def test_a_question_that_is_refused_is_asked_more_plainly(refused, caplog):
    """As Google's Healthcare API and others: 400 to keys and parameters that they do not support."""
    pacs = Pacs(list(studies(9)))
    for each in pacs.images[3:]:
        each.Modality = "CT"

    def picky(path, parameters, headers):
        if refused & parameters.keys():
            return 400, {"Content-Type": "text/plain"}, b"unsupported search parameter of 20260101-: ModalitiesInStudy"
        return None

    pacs.lie = picky
    with asked(pacs) as archive:
        assert set(found(archive)) == {each.StudyInstanceUID for each in pacs.images[:3]}
    (told, *_) = (each.fields["reason"] for each in caplog.records)
    assert "HTTP 400: Bad Request (unsupported search parameter of ...: ModalitiesInStudy)); it is asked a p" in told


def test_a_refusal_has_the_server_s_own_words_and_nothing_of_a_patient(pacs):
    body = json.dumps(
        {"Message": "Bad request", "Details": "no index on A1234 of Doe^Jane, born 19700203, <b>sorry</b>"}
    )
    pacs.lie = lambda *_: (400, {"Content-Type": "application/json"}, body.encode())
    with asked(pacs) as archive, pytest.raises(ConnectionFailedError) as failed:
        found(archive, StudyQuery(accession_number="a1234"))
    assert str(failed.value) == "HTTP 400: Bad Request (no index on ... of ... born ... sorry)"


def test_a_key_that_is_dropped_fetches_nothing_foreign(caplog):
    pacs = Pacs(list(studies(21)))
    pacs.keys.remove("AccessionNumber")
    with asked(pacs) as archive:
        assert found(archive, StudyQuery(accession_number="A7")) == [pacs.images[7].StudyInstanceUID]
    (told,) = (each.fields for each in caplog.records)
    assert (told["archive"], told["studies"]) == ("pacs", 20)
    assert told["reason"] == "the archive gives studies that do not match AccessionNumber; they are left out"


@pytest.mark.parametrize(
    "body",
    [PAGE, b"{}", b'{"error": "no"}', b"[" * 100_000, b"null", b"[1, 2", b"\xff\xfe[]"],
    ids=["html", "object", "error", "deep", "null", "half", "utf-16"],
)
def test_what_is_no_dicom_json_is_no_empty_answer(pacs, body):
    pacs.lie = lambda *_: (200, {"Content-Type": "text/html; Doe^Jane"}, body)
    with asked(pacs) as archive, pytest.raises(ConnectionFailedError) as failed:
        found(archive)
    assert str(failed.value) == "HTTP 200: expected DICOM JSON from QIDO-RS, got text/html; ..."
    assert failed.value.http_status == 200


@pytest.mark.parametrize("answer", [(204, {}, b""), (200, JSON, b"[]"), (200, JSON, b"")])
def test_nothing_is_nothing(pacs, answer):
    pacs.lie = lambda *_: answer
    with asked(pacs) as archive:
        assert found(archive) == []


def test_a_head_that_breaks_off_is_no_empty_answer():
    answer = requests.Response()
    answer.status_code, answer.raw = 200, BytesIO()
    with pytest.raises(ConnectionFailedError, match="expected DICOM JSON from QIDO-RS, got nothing that says what it"):
        items_of(answer)


def odd(change):
    def apply(items):
        for item in items:
            change(item)
        return items

    return apply


def padded(item):
    for element in item.values():
        element["Value"] = [f" {value}\0" if isinstance(value, str) else value for value in element["Value"]]


def small_letters(item):
    for tag in list(item):
        item[tag.lower()] = item.pop(tag)


def bare(item):
    for element in item.values():
        element["Value"] = element["Value"][0]


def strange(item):
    item["00201208"] = {"vr": "IS", "Value": [1e400]}
    item["00080030"] = {"vr": "TM", "Value": [[["101112"]], {"Alphabetic": ["x"]}, None, True]}
    item["00100010"] = {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}] * 5000}
    item["0020000"] = item["x"] = item["FFFFFFFF"] = []
    item["00080005"] = "ISO_IR 100"


@pytest.mark.parametrize("change", [padded, small_letters, bare, strange])
def test_json_as_servers_write_it_is_read(pacs, change):
    pacs.change = odd(change)
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)
        assert images(archive, pacs) == [pacs.images[0].SOPInstanceUID]


def test_other_characters_than_utf_8_spoil_nothing(pacs):
    true = pacs.page

    def latin(items, parameters):
        status, headers, body = true(items, parameters)
        return status, headers, body.replace(b'"P0"', '"Müller"'.encode("latin-1"))

    pacs.page = latin
    with asked(pacs) as archive:
        assert set(found(archive)) == uids(pacs)


def test_a_number_of_many_digits_is_none(pacs):
    true = pacs.page
    pacs.page = lambda items, parameters: (
        *true(items, parameters)[:2],
        true(items, parameters)[2].replace(b"[1]", b"[" + b"9" * 9999 + b"]"),
    )
    with asked(pacs) as archive:
        assert [each.instances for each in archive.studies(ALL, MODALITIES)] == [None] * 3


@pytest.mark.parametrize("malformed", [None, 7, [], "1.2", {}, {"0020000D": None}, {"0020000D": {"Value": [{}]}}])
def test_a_malformed_item_holds_up_no_other(pacs, malformed):
    pacs.change = lambda items: [malformed, *items]
    with asked(pacs) as archive:
        got = []
        with pytest.raises(IncompleteAnswerError, match="cannot be read"):
            got.extend(each.study_instance_uid for each in archive.studies(ALL, MODALITIES))
    assert set(got) == uids(pacs)


def test_studies_that_are_repeated_come_once(pacs):
    pacs.change = lambda items: items * 3
    with asked(pacs) as archive:
        assert sorted(found(archive)) == sorted(uids(pacs))


# --- listing -------------------------------------------------------------------------------------


def test_images_of_another_study_are_not_listed(pacs, caplog):
    _, second, _ = pacs.images
    true = pacs.page

    def mixes(items, parameters):
        for item in items:
            if "00080018" in item:
                item["0020000D"] = {"vr": "UI", "Value": [second.StudyInstanceUID]}
        return true(items, parameters)

    pacs.page = mixes
    with asked(pacs) as archive:
        assert images(archive, pacs) == []
    assert [each.fields["reason"] for each in caplog.records] == [
        "the archive lists what does not match StudyInstanceUID; it is left out"
    ]


@pytest.mark.parametrize(("modality", "listed"), [("DX", 1), (" dx ", 1), ("CT", 0), (None, 1)])
def test_a_series_whose_modality_is_not_told_is_looked_into(pacs, modality, listed):
    def change(items):
        for item in items:
            if item.pop("00080060", None) and modality:
                item["00080060"] = {"vr": "CS", "Value": [modality]}
        return items

    pacs.change = change
    with asked(pacs) as archive:
        assert len(images(archive, pacs)) == listed


def test_a_series_of_more_images_than_are_listed_is_not_whole(pacs):
    pacs.images = list(studies(60))
    for each in pacs.images:
        each.StudyInstanceUID, each.SeriesInstanceUID = "1.2.3", "1.2.4"
    true = pacs.page

    def caps(items, parameters):
        for item in items:
            item["00201209"] = {"vr": "IS", "Value": [60]}
        return true(items[:50], parameters)

    pacs.page = caps
    got = []
    with asked(pacs) as archive, pytest.raises(FetchError, match="expected 60 instances of a series, as the archive"):
        got.extend(archive.instances(RemoteStudy(study_instance_uid="1.2.3"), MODALITIES))
    assert len(got) == 50


# --- fetching ------------------------------------------------------------------------------------


def file(pacs):
    return encoded(pacs.images[0])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", PAGE),
        ("multipart/related", multipart(b"")),
        (MULTIPART, PAGE),
        (MULTIPART, multipart(PAGE)),
        (MULTIPART, multipart(b"")),
        (MULTIPART, b"--b--\r\n"),
        (MULTIPART, b"--b\r\n\r\n\r\n--b--"),
        (MULTIPART, b""),
        (f"multipart/related; boundary={'b' * 60_000}", multipart(b"").replace(b"b", b"b" * 60_000)),
        ("application/dicom", PAGE),
        ("application/dicom", b""),
        ("application/dicom+json", b"[]"),
        ("", b"DICM"),
    ],
)
def test_what_is_no_dicom_file_was_not_given(pacs, kind, body):
    pacs.lie = lambda path, *_: (200, {"Content-Type": kind}, body) if path.count("/") == 6 else None
    with asked(pacs) as archive, pytest.raises(FetchError) as failed:
        fetched(archive, pacs)
    assert "Doe" not in str(failed.value)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda content: (MULTIPART, multipart(content)),
        lambda content: (MULTIPART, multipart(content, b"")),
        lambda content: (MULTIPART, b"preamble, which RFC 2046 lets be\r\n" + multipart(content) + b"epilogue"),
        lambda content: (MULTIPART.replace("b", '"b"', 0) + "; charset=utf-8", multipart(content)),
        lambda content: (MULTIPART.upper().replace("=B", "=b"), multipart(content)),
        lambda content: ("application/dicom", content),
        lambda content: ("application/octet-stream", content),
    ],
)
def test_a_file_is_taken_out_of_whatever_it_is_wrapped_in(pacs, wrapped):
    kind, body = wrapped(file(pacs))
    pacs.lie = lambda path, *_: (200, {"Content-Type": kind}, body) if path.count("/") == 6 else None
    with asked(pacs) as archive:
        assert fetched(archive, pacs) == [file(pacs)]


def test_a_server_that_gives_no_image_as_it_keeps_it_is_asked_more_plainly(pacs, caplog):
    def refuses(path, parameters, headers):
        if "transfer-syntax=*" in headers["Accept"]:
            return 406, {"Content-Type": "text/plain"}, b"transfer syntax * is not supported"
        return None

    pacs.lie = refuses
    with asked(pacs) as archive:
        for _ in range(2):
            assert fetched(archive, pacs) == [file(pacs)]
    refused = [path for path, _ in pacs.asked if path.count("/") == 6]
    assert len(refused) == 3  # the second image is asked for plainly at once
    assert "answer_doubted" in caplog.messages


@pytest.mark.parametrize(
    ("status", "error"), [(404, FetchError), (406, FetchError), (410, FetchError), (500, FetchError)]
)
def test_an_image_that_is_refused_is_told_with_the_server_s_words(pacs, status, error):
    pacs.lie = lambda path, *_: (status, {}, b"file is on a tape") if path.count("/") == 6 else None
    with asked(pacs) as archive, pytest.raises(error, match=rf"HTTP {status} \(file is on a tape\)"):
        fetched(archive, pacs)


@pytest.mark.parametrize("status", [503, 429, 401])
def test_a_server_in_trouble_is_told_from_a_missing_image(pacs, status):
    pacs.lie = lambda path, *_: (status, {}, b"") if path.count("/") == 6 else None
    with asked(pacs) as archive, pytest.raises(ConnectionFailedError, match=f"HTTP {status}"):
        fetched(archive, pacs)


def test_a_redirect_of_an_image_is_told_with_its_target(pacs):
    login = {"Location": "https://sso.example/login?study=1.2"}
    pacs.lie = lambda path, *_: (302, login, b"") if path.count("/") == 6 else None
    with asked(pacs) as archive, pytest.raises(ConnectionFailedError, match=r"was sent to https://sso\.example$"):
        fetched(archive, pacs)


def test_a_connection_that_closes_on_one_image_is_not_nobody_there(pacs):
    pacs.file = lambda uid: 1 / 0
    with asked(pacs) as archive, pytest.raises(ConnectionFailedError, match="BROKEN_OFF"):
        fetched(archive, pacs)


def test_an_image_of_more_than_the_bound_is_not_read(pacs):
    pacs.lie = lambda path, *_: (200, {"Content-Type": MULTIPART}, bytes(2 << 20)) if path.count("/") == 6 else None
    with asked(pacs) as archive, pytest.raises(FetchError, match="at most 1 MB"):
        fetched(archive, pacs)
