"""STOW-RS of deflated objects: inflated, unless the settings say that the server takes them as they are."""

import urllib.request
from itertools import cycle

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.deliver.destinations import dicomweb
from cxr_dicom.errors import ConnectionFailedError
from tests.deliver.helpers import STORED, item, parts_of, response, uids_of, web
from tests.deliver.test_together import written
from tests.integration.service.conftest import orthanc  # noqa: F401 - a fixture


def destination(port, *, deflated, **more):
    url = f"http://127.0.0.1:{port}/dicom-web"
    table = {"kind": "dicomweb", "name": "pacs", "url": url, "timeout_seconds": 5, "deflated": deflated, **more}
    return build_destination(Settings.model_validate({"destinations": [table]}).destinations[0], lambda uid: None)


def verdicts(receipts):
    return [str(each.delivery_status) for each in receipts]


def forms(posts):
    """Return for each request which of its objects came deflated."""
    syntaxes = [[each.file_meta.TransferSyntaxUID for each in parts_of(post)] for post in posts]
    return [[each == DeflatedExplicitVRLittleEndian for each in request] for request in syntaxes]


def test_nobody_is_trusted_to_inflate_by_default(deflated):
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        default = Settings.model_validate(
            {"destinations": [{"kind": "dicomweb", "name": "pacs", "url": f"http://127.0.0.1:{port}"}]}
        ).destinations[0]
        assert verdicts(build_destination(default, lambda uid: None).send([deflated])) == ["accepted"]
    (arrived,) = parts_of(posts[0])
    assert arrived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert arrived == dcmread(deflated.path)


@pytest.mark.parametrize("with_another", [True, False])
def test_a_server_that_is_said_to_inflate_gets_the_file(deflated, made, with_another):
    objects = [made, deflated] if with_another else [deflated]
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        assert verdicts(destination(port, deflated=True).send(objects)) == ["accepted"] * len(objects)
    (post,) = posts
    assert all(each.path.read_bytes() in post for each in objects)
    assert post.count(b"Content-Type: application/dicom\r\n") == len(objects)  # Orthanc leaves out what says more


def is_deflated(post):
    return DeflatedExplicitVRLittleEndian.encode() in post  # multipart, or a file by itself


REFUSALS = {
    "415": (415, lambda those: None),
    "400": (400, lambda those: None),
    "500": (500, lambda those: b"<html>"),
    "named as failed": (409, lambda those: response(failed=[item(uid, reason=0xC122) for uid in those])),
    "named by nobody": (200, lambda those: {"00081199": {"vr": "SQ"}}),
    "out of resources": (202, lambda those: response(failed=[item(uid, reason=0xA700) for uid in those])),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("with_another", [True, False])
def test_what_is_not_taken_as_it_is_goes_inflated(deflated, made, refusal, with_another):
    status, body = REFUSALS[refusal]
    answer = lambda n, post: (status, {}, body(uids_of(post))) if is_deflated(post) else (200, {}, STORED)  # noqa: E731
    objects = [made, deflated] if with_another else [deflated]
    with web(answer) as (port, posts):
        assert verdicts(destination(port, deflated=True).send(objects)) == ["accepted"] * len(objects)
    arrived = parts_of(posts[-1])[-1]
    assert arrived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert arrived == dcmread(deflated.path)


@pytest.mark.parametrize("with_another", [True, False])
def test_a_server_that_breaks_off_at_what_is_deflated_gets_it_inflated(deflated, made, with_another):
    def answer(number, post):
        if is_deflated(post):
            raise ConnectionAbortedError
        return 200, {}, STORED

    objects = [made, deflated] if with_another else [deflated]
    with web(answer) as (port, posts):
        pacs = destination(port, deflated=True)
        with pytest.raises(ConnectionFailedError):
            list(pacs.send(objects))
        assert verdicts(pacs.send(objects)) == ["accepted"] * len(objects)
    assert forms(posts)[1:] == [[False]] * len(objects)


def test_after_three_refusals_all_goes_inflated_at_once(deflated):
    answer = lambda n, post: (400, {}, None) if is_deflated(post) else (200, {}, STORED)  # noqa: E731
    with web(answer) as (port, posts):
        pacs = destination(port, deflated=True)
        assert [verdicts(pacs.send([deflated])) for _ in range(5)] == [["accepted"]] * 5
    assert forms(posts) == [[True], [False]] * 3 + [[False]] * 2


def test_what_is_wrong_with_the_object_itself_says_nothing_of_the_form(deflated):
    with web(lambda n, post: (400, {}, None)) as (port, posts):
        pacs = destination(port, deflated=True)
        assert [verdicts(pacs.send([deflated])) for _ in range(5)] == [["refused"]] * 5
    assert [each for (each,) in forms(posts)] == [
        form for form, _ in zip(cycle([True, False]), range(10), strict=False)
    ]


def test_orthanc_keeps_what_is_deflated_and_gives_it_to_viewers(deflated, made, orthanc):  # noqa: F811
    """By WADO-RS, which gives Explicit VR Little Endian where nobody asks for another form (PS3.18 8.7.3.4)."""
    there = orthanc()
    receipts = destination(there.http_port, deflated=True, timeout_seconds=20).send([made, deflated])
    assert [each.status for each in receipts] == ["HTTP 200 0x0000"] * 2
    url = f"http://127.0.0.1:{there.http_port}"
    stored = [get(f"{url}/instances/{each}/file") for each in there.get("/instances")]
    assert deflated.path.read_bytes() in stored
    study = dcmread(deflated.path, stop_before_pixels=True).StudyInstanceUID
    path = f"studies/{study}/series/{deflated.series_instance_uid}/instances/{deflated.sop_instance_uid}"
    (arrived,) = parts_of(get(f"{url}/dicom-web/{path}", "multipart/related; type=application/dicom"))
    assert arrived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert arrived == dcmread(deflated.path)


def get(url, accept="*/*"):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        return answer.read()


def test_what_goes_inflated_lies_on_no_disk(deflated, made):
    """Where there is no room for a copy it goes all the same."""
    seen = []

    def answer(number, post):
        seen.append(set(deflated.path.parent.iterdir()))
        return 200, {}, STORED

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    with web(answer) as (port, _), pytest.MonkeyPatch.context() as full:
        full.setattr("tempfile.TemporaryFile", refuse)
        full.setattr("cxr_dicom.deliver.plain.TemporaryFile", refuse)
        assert verdicts(destination(port, deflated=False).send([made, deflated])) == ["accepted"] * 2
    assert seen == [{deflated.path}]


def test_a_deflated_file_that_changes_while_it_is_sent_is_told(deflated, monkeypatch):
    """Its length was declared: what is sent under it has that length, or the connection ends."""
    whole = deflated.path.read_bytes()
    once = dicomweb.in_plain

    def in_plain(path):
        part = once(path)
        path.write_bytes(whole[:-40])
        return part

    monkeypatch.setattr(dicomweb, "in_plain", in_plain)
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        (receipt,) = destination(port, deflated=False).send([deflated])
    assert receipt.status == "UNREADABLE"
    assert all(len(post) < int(head["Content-Length"]) for post, head in zip(posts, posts.heads, strict=False))


@pytest.mark.parametrize(("when", "goes_deflated"), [("before", True), ("before", False), ("while it is sent", False)])
def test_a_deflated_file_that_is_damaged_in_the_middle_holds_up_no_other(
    deflated, tmp_path, monkeypatch, when, goes_deflated
):
    study = dcmread(deflated.path, stop_before_pixels=True).StudyInstanceUID
    first, second, *others = written(tmp_path, 4, study=study)
    once = dicomweb.in_plain

    def damage():
        whole = deflated.path.read_bytes()
        half = len(whole) // 2
        deflated.path.write_bytes(whole[:half] + b"\xff" * (len(whole) - half))

    def damaged_behind(path):
        part = once(path)
        damage()
        return part

    if when == "before":
        damage()
    else:
        monkeypatch.setattr(dicomweb, "in_plain", damaged_behind)
    with web(lambda n, post: (200, {}, STORED)) as (port, _):
        pacs = destination(port, deflated=goes_deflated)
        said = {each.sop_instance_uid: each for each in pacs.send([first, second, deflated, *others])}
    assert said.pop(deflated.sop_instance_uid).detail == "our file: expected a deflated data set, found a damaged one"
    assert {each.status for each in said.values()} == {"HTTP 200 0x0000"}
