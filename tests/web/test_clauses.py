"""DICOMweb by the clauses of PS3.18 and RFC 9110, raw and by dicomweb-client: what is accepted, found and told."""

import email
import email.policy
import json
from urllib.parse import quote, urlencode

import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset

from tests.web.test_store import TOKEN, body, file_of, image, send, sources, storing

JSON = "application/dicom+json"
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY = "1.2.826.0.7"
INSTANCE = f"/dicom-web/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"


def ordered(number):
    """An image that was asked for as a scheduled step."""
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = f"STEP{number}", "P"
    return image(number, RequestAttributesSequence=[item], Modality="DX", AccessionNumber=f"A{number}")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with storing(tmp_path_factory.mktemp("clauses") / "x") as client:
        sent = (ordered(1), ordered(2), image(1, study="1.2.826.0.8", Modality="CR"))
        assert send(client, body(*map(file_of, sent))).status == 200
        yield client


def ask(client, path, method="GET", **headers):
    return client.ask(method, path, sec_fetch_site=None, authorization=f"Bearer {TOKEN}", **headers)


def found(client, path, **keys):
    answer = ask(client, f"/dicom-web/{path}?{urlencode(keys)}")
    return json.loads(answer.text) if answer.status == 200 else answer.status


def values(results, tag):
    return sorted(each[tag]["Value"][0] for each in results)


# --- what is accepted (RFC 9110 12.5.1, PS3.18 8.7) ----------------------------------------------


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        (JSON, 200),
        ("application/json", 200),
        ("application/*", 200),
        (f"{JSON}; charset=utf-8", 200),
        (f"text/html;q=0.9, {JSON};q=0.1", 200),
        ('text/plain; x="a,b;c", */*;q=0.1', 200),
        ("application/dicom+xml", 406),
        ('multipart/related; type="application/dicom+xml"', 406),
        ("text/*", 406),
        (f"{JSON};q=0", 406),
        ("*/*;q=0", 406),
        (f"{JSON};q=nonsense", 200),
        ("/", 406),
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", ["/dicom-web/studies", f"{INSTANCE}/metadata"], ids=["search", "metadata"])
def test_json_is_had_by_who_accepts_it(client, path, accept, status):
    answer = ask(client, path, accept=accept)
    assert answer.status == status
    if status == 200:
        assert answer.headers["content-type"] == JSON
    assert ask(client, f"{path}?accept={quote(accept or JSON)}", accept="text/html").status == status


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/dicom", f"application/dicom; transfer-syntax={EXPLICIT}"),
        ("application/*", f"application/dicom; transfer-syntax={EXPLICIT}"),
        ("*/*;q=0.1, application/dicom", f"application/dicom; transfer-syntax={EXPLICIT}"),
        (f'application/dicom; transfer-syntax="{EXPLICIT}"', f"application/dicom; transfer-syntax={EXPLICIT}"),
        ("*/*", "multipart/related"),
        ('Multipart/Related; Type="application/dicom"; transfer-syntax=*', "multipart/related"),
        ('application/dicom;q=0.2, multipart/related; type="application/dicom";q=0.8', "multipart/related"),
        ("application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50", None),
        ('multipart/related; type="image/jpeg"', None),
        ("application/dicom;q=0", None),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_instance_is_had_in_the_form_that_is_welcome_most(client, accept, kind):
    answer = ask(client, INSTANCE, accept=accept)
    assert answer.status == (200 if kind else 406)
    if kind:
        assert answer.headers["content-type"].startswith(kind)
        content = answer.content if kind != "multipart/related" else parts(answer)[0].get_payload(decode=True)
        assert content == next(path.read_bytes() for path in sources(client) if path.stem.startswith(f"{STUDY}.1.1"))


def parts(answer):
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    return email.message_from_bytes(head + answer.content, policy=email.policy.HTTP).get_payload()


def test_each_part_says_what_it_is_and_nothing_may_be_kept(client):
    answer = ask(client, f"/dicom-web/studies/{STUDY}", accept='multipart/related; type="application/dicom"')
    assert [each["content-type"].replace('"', "") for each in parts(answer)] == [
        f"application/dicom; transfer-syntax={EXPLICIT}"
    ] * 2
    assert answer.headers["cache-control"] == "no-store"
    frames = ask(client, f"{INSTANCE}/frames/1", accept="application/octet-stream")
    assert frames.headers["content-type"] == f"application/octet-stream; transfer-syntax={EXPLICIT}"
    assert len(frames.content) == 64 * 64 * 2


def test_head_tells_what_get_would_and_other_methods_are_not_offered(client):
    for path in ("/dicom-web/studies", INSTANCE, f"{INSTANCE}/metadata"):
        head = ask(client, path, method="HEAD")
        assert (head.status, head.content) == (200, b"")
        assert (
            head.headers["content-type"].partition(";")[0]
            == ask(client, path).headers["content-type"].partition(";")[0]
        )
    for method in ("OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"):
        assert ask(client, "/dicom-web/studies", method=method).status == 405


# --- searches (PS3.18 10.6) ----------------------------------------------------------------------


def test_series_and_instances_of_all_studies_are_found(client):
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    web = DICOMwebClient(f"http://127.0.0.1:{client.port}/dicom-web", session=session)
    assert values(web.search_for_series(), "0020000E") == ["1.2.826.0.7.1", "1.2.826.0.8.1"]
    assert values(web.search_for_instances(), "00080018") == [f"{STUDY}.1.1", f"{STUDY}.1.2", "1.2.826.0.8.1.1"]
    assert values(web.search_for_instances(search_filters={"Modality": "CR"}), "00080018") == ["1.2.826.0.8.1.1"]
    assert values(web.search_for_series(search_filters={"StudyInstanceUID": STUDY}), "0020000D") == [STUDY]
    pages = [web.search_for_instances(limit=1, offset=offset) for offset in range(4)]
    assert [len(page) for page in pages] == [1, 1, 1, 0]
    assert len({page[0]["00081190"]["Value"][0].rpartition("/")[2] for page in pages[:3]}) == 3


@pytest.mark.parametrize(
    ("path", "keys", "number"),
    [
        (f"studies/{STUDY}/instances", {"RequestAttributesSequence.ScheduledProcedureStepID": "STEP1"}, 1),
        (f"studies/{STUDY}/instances", {"00400275.00400009": "STEP*"}, 2),
        ("instances", {"RequestAttributesSequence.RequestedProcedureID": "Q"}, 204),
        ("instances", {"Modality.RequestedProcedureID": "Q"}, 400),
        ("instances", {"RequestAttributesSequence." * 9 + "Modality": "Q"}, 400),
        ("series", {"RequestAttributesSequence.": "Q"}, 400),
        ("studies", {"ModalitiesInStudy": "CR"}, 1),
        ("studies", {"AccessionNumber": "A?"}, 1),
        ("studies", {"PatientID": ""}, 2),
        ("studies", {"StudyInstanceUID": f"{STUDY},1.2.826.0.8"}, 2),
        ("studies", {"StudyInstanceUID": "1.9"}, 204),
        ("studies", {"limit": "0"}, 204),
        ("studies", {"offset": "2"}, 204),
        ("studies", {"limit": "-1"}, 400),
        ("studies", {"NoSuchKeyword": "1"}, 400),
    ],
    ids=repr,
)
def test_keys_find_what_they_say(client, path, keys, number):
    results = found(client, path, **keys)
    assert (results if isinstance(results, int) else len(results)) == number


def test_what_a_search_did_not_do_is_a_warning(client):
    answer = ask(client, "/dicom-web/studies?limit=1&fuzzymatching=true&includefield=all")
    assert answer.headers["warning"].count("299 cxr-dicom") == 2
    assert "00080060" in json.loads(answer.text)[0], "all includes what a study does not usually tell"
    assert "warning" not in ask(client, "/dicom-web/studies?fuzzymatching=false&includefield=00080060").headers


# --- store (PS3.18 8.6.1, 10.5) ------------------------------------------------------------------


def test_one_instance_may_be_the_whole_body(tmp_path):
    with storing(tmp_path / "x") as client:
        content = file_of(image())
        answer = send(client, content, content_type="application/dicom")
        assert answer.status == 200
        assert json.loads(answer.text)["00081199"]["Value"][0]["00081155"]["Value"] == [f"{STUDY}.1.1"]
        assert [path.read_bytes() for path in sources(client)] == [content]
        for wrong, status in ((b"", 400), (b"words", 409), (body(content), 409), (content + bytes(2 << 20), 409)):
            assert send(client, wrong, content_type='application/dicom; transfer-syntax="x"').status == status
        assert len(sources(client)) == 1
