"""STOW-RS of several objects in a request: each has its own receipt, and no trouble of one is that of another."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmread

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.deliver.destinations import dicomweb
from cxr_dicom.deliver.trust import Trust
from cxr_dicom.deliver.upload import Part, Upload
from cxr_dicom.errors import ConnectionFailedError, ImageError
from cxr_dicom.synthetic import radiograph
from tests.deliver.helpers import STORED, item, response, uids_of, web
from tests.service_helpers import as_object


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Give four objects of a study."""
    return written(tmp_path_factory.mktemp("objects"), 4)


def written(folder, count, *, study="2.25.7", more=0):
    return [encoded(folder, radiograph(16, 16, seed=seed, StudyInstanceUID=study), more) for seed in range(count)]


def encoded(folder, image, more=0):
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = (
        f"{image.SOPInstanceUID}.{image.StudyInstanceUID}"[-60:].strip(".")
    )
    image.PixelData += bytes(more)
    path = folder / f"{image.SOPInstanceUID}.dcm"
    image.save_as(path, enforce_file_format=True)
    return as_object(path, image)


def destination(port, **more):
    table = {"kind": "dicomweb", "name": "pacs", "url": f"http://127.0.0.1:{port}/dicom-web", "timeout_seconds": 5}
    settings = Settings.model_validate({"destinations": [table | more]})
    return build_destination(settings.destinations[0], lambda uid: None)


def told(receipts):
    return {each.sop_instance_uid: str(each.delivery_status) for each in receipts}


def sent(objects, answers, finds=lambda uid: False):
    """Return the receipts, and the objects of each request."""
    with web(answers, finds=finds) as (port, posts):
        return told(destination(port).send(objects)), [uids_of(post) for post in posts]


def all_accepted(objects):
    return dict.fromkeys(uids(objects), "accepted")


def all_but(bad, reason):
    """Answer that all objects of a request are stored but these."""

    def answer(number, post):
        those = uids_of(post)
        stored, failed = [item(u) for u in those if u not in bad], [item(u, reason=reason) for u in those if u in bad]
        return 202, {}, response(stored, failed)

    return answer


def uids(objects):
    return [each.sop_instance_uid for each in objects]


def test_the_objects_of_a_study_go_in_one_request_as_they_are(objects):
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        receipts = list(destination(port).send(objects))
    assert told(receipts) == all_accepted(objects)
    assert {each.status for each in receipts} == {"HTTP 200 0x0000"}
    (post,) = posts
    assert uids_of(post) == uids(objects)
    assert all(each.path.read_bytes() in post for each in objects)
    assert int(posts.heads[0]["Content-Length"]) == len(post)


def test_each_study_has_a_request_of_its_own(objects, tmp_path):
    others = written(tmp_path, 3, study="2.25.8")
    received, requests = sent([*objects, *others], lambda n, post: (200, {}, STORED))
    assert received == all_accepted([*objects, *others])
    assert requests == [uids(objects), uids(others)]


def test_a_request_has_bounds(objects, tmp_path, monkeypatch):
    monkeypatch.setattr(dicomweb, "_AT_ONCE", 3)
    assert [len(each) for each in sent(objects, lambda n, post: (200, {}, STORED))[1]] == [3, 1]
    large = written(tmp_path, 5, more=1 << 20)
    monkeypatch.setattr(dicomweb, "_AT_ONCE", 16)
    monkeypatch.setattr(dicomweb, "_AT_ONCE_BYTES", 2 << 20)
    assert [len(each) for each in sent(large, lambda n, post: (200, {}, STORED))[1]] == [2, 2, 1]


# --- a server that does not take all ------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 202, 409])
def test_what_is_refused_among_others_is_told_by_itself(objects, status):
    bad = objects[1].sop_instance_uid

    def answer(number, post):
        those = uids_of(post)
        return (
            status,
            {},
            response(
                stored=[item(uid) for uid in those if uid != bad],
                failed=[item(bad, reason=0xA700 if len(those) > 1 else 0xC122)],
            ),
        )

    received, requests = sent(objects, answer)
    assert received == all_accepted(objects) | {bad: "refused"}
    assert requests == [uids(objects), [bad]]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((400, b"<html>"), (413, None), (415, None), (422, None), (500, b"no"), (409, None), (202, {}), (200, None)),
        (200, {"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}),  # as Orthanc says nothing at all
        (409, response(failed=[item(reason=0xC122)])),  # nobody's
        (200, b"[" * 100_000),
    ],
)
def test_a_request_that_fails_as_a_whole_is_followed_by_single_ones(objects, status, body):
    answer = lambda n, post: (200, {}, STORED) if len(uids_of(post)) == 1 else (status, {}, body)  # noqa: E731
    asked = []
    received, requests = sent(objects, answer, finds=asked.append)
    assert received == all_accepted(objects)
    assert asked == ([] if status in (400, 413, 415, 422) else uids(objects))
    assert requests[-4:] == [[uid] for uid in uids(objects)]
    assert len(requests) == 6 if status == 415 else 5


def lies(those):
    """Say something wrong of all but the last object, and of one that was never sent."""
    first, second, third, last = those
    both = response(stored=[item(second)], failed=[item(second, reason=0xC122)])
    stored = [item("2.25.99"), item(first + "1"), item(third, reason=7) | {"00081155": 7}, item(last)]
    return [both, response(stored=stored, failed=[item(reason=0xA900), item("2.25.98", reason=0xA900)])]


def test_what_an_answer_lies_about_is_asked_for_and_sent_again(objects):
    asked = []
    answer = lambda n, post: (200, {}, lies(uids_of(post)) if n == 0 else STORED)  # noqa: E731
    received, requests = sent(objects, answer, finds=lambda uid: asked.append(uid) or uid == uids(objects)[2])
    assert received == all_accepted(objects)
    assert asked == uids(objects)[:3]
    assert requests == [uids(objects), *([uid] for uid in uids(objects)[:2])]


def test_an_answer_to_fewer_leaves_the_others_to_be_asked_for(objects):
    answer = lambda n, post: (200, {}, response(stored=[item(uid) for uid in uids_of(post)[:2]]))  # noqa: E731
    received, requests = sent(objects, answer)
    assert received == all_accepted(objects)
    assert [len(each) for each in requests] == [4, 1, 1]


def test_what_was_cut_off_in_the_middle_is_asked_for_one_by_one(objects):
    """The server keeps two objects and hangs up; nobody knows which."""
    there, asked = set(), []

    def answer(number, post):
        if number == 0:
            there.update(uids_of(post)[:2])
            raise ConnectionAbortedError
        return 200, {}, STORED

    with web(answer, finds=lambda uid: asked.append(uid) or uid in there) as (port, posts):
        pacs = destination(port)
        with pytest.raises(ConnectionFailedError, match="BROKEN_OFF"):
            list(pacs.send(objects))
        received = told(pacs.send(objects))
    assert received == all_accepted(objects)
    assert asked == uids(objects)
    assert [uids_of(post) for post in posts] == [uids(objects), *([uid] for uid in uids(objects)[2:])]


@pytest.mark.parametrize("status", [302, 401, 403, 404, 429, 501, 503, 504])
def test_trouble_of_the_server_is_no_answer_to_an_object_and_they_go_singly_next(objects, status):
    with web(lambda n, post: (200 if n else status, {"Retry-After": "7"}, STORED)) as (port, posts):
        pacs = destination(port)
        with pytest.raises(ConnectionFailedError) as trouble:
            list(pacs.send(objects))
        assert (trouble.value.http_status, trouble.value.retry_after) == (status, 7)
        assert told(pacs.send(objects)) == all_accepted(objects)
    assert [len(uids_of(post)) for post in posts] == [4, 1, 1, 1, 1]


def test_a_damaged_file_holds_up_no_other(objects, tmp_path):
    broken = replace(objects[1], path=tmp_path / "broken.dcm")
    broken.path.write_bytes(objects[1].path.read_bytes()[:-100])
    gone = replace(objects[2], path=tmp_path / "gone.dcm")
    received, requests = sent([objects[0], broken, gone, objects[3]], lambda n, post: (200, {}, STORED))
    assert received == all_accepted(objects) | dict.fromkeys(uids(objects[1:3]), "failed")
    assert requests == [[objects[0].sop_instance_uid, objects[3].sop_instance_uid]]


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [
        (b"\x20\x00\x0d\x00UI", b"\x20\x00\x0e\x00UI"),
        (b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00Ui"),
        (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008\\1.2.1\0"),
    ],
    ids=["no Study Instance UID", "no known VR", "two transfer syntaxes"],
)
def test_a_header_with_a_damaged_byte_holds_up_no_other(objects, tmp_path, whole, damaged):
    bad = replace(objects[1], path=tmp_path / "bad.dcm")
    bad.path.write_bytes(objects[1].path.read_bytes().replace(whole, damaged, 1))
    received, requests = sent([objects[0], bad, *objects[2:]], lambda n, post: (200, {}, STORED))
    assert received == all_accepted(objects) | {bad.sop_instance_uid: "failed"}
    assert requests == [[uid for uid in uids(objects) if uid != bad.sop_instance_uid]]


def test_a_refusal_of_an_object_whose_name_cannot_be_read_is_one(objects, tmp_path):
    bad = replace(objects[1], path=tmp_path / "bad.dcm")
    bad.path.write_bytes(objects[1].path.read_bytes().replace(b"\x10\x00\x10\x00PN", b"\x10\x00\x10\x00PT", 1))
    assert sent([bad], lambda n, post: (400, {}, b"no"))[0] == {bad.sop_instance_uid: "refused"}


def test_a_file_that_shrinks_while_it_is_sent_is_told_and_the_others_arrive(objects, tmp_path, monkeypatch):
    short = replace(objects[1], path=tmp_path / "short.dcm")
    content = short_content = objects[1].path.read_bytes()
    short.path.write_bytes(content)
    read = dicomweb._read

    def cut(encoded):
        found = read(encoded)
        if encoded is short:
            short.path.write_bytes(short_content[:-1])
        return found

    stat = type(short.path).stat
    monkeypatch.setattr(dicomweb, "_read", cut)
    monkeypatch.setattr(
        type(short.path), "stat", lambda path, **more: stat(objects[1].path if path == short.path else path, **more)
    )
    received, _ = sent([objects[0], short, *objects[2:]], lambda n, post: (200, {}, STORED))
    assert received == all_accepted(objects) | {short.sop_instance_uid: "failed"}


def test_what_a_receipt_that_could_not_be_kept_is_about_is_asked_for(spool, monkeypatch):
    """The ledger is locked when the second of three receipts comes."""
    asked, seen, record = [], [], spool.ledger.deliveries.record

    def locked(receipt, **more):
        seen.append(receipt.sop_instance_uid)
        if len(seen) == 2:
            raise OSError("database is locked")
        record(receipt, **more)

    with web(lambda n, post: (200, {}, STORED), finds=lambda uid: asked.append(uid) or True) as (port, posts):
        courier = spool.web(port)
        monkeypatch.setattr(spool.ledger.deliveries, "record", locked)
        with pytest.raises(OSError, match="locked"):
            courier.carry()
        assert spool.states() == ["delivered", "waiting", "waiting"]
        courier.carry()
    assert (spool.states(), len(posts)) == (["delivered"] * 3, 1)
    assert sorted(asked) == sorted({*spool.uids} - {seen[0]})


# --- what is learned ----------------------------------------------------------------------------


def test_a_server_that_never_takes_several_is_left_alone_with_it(tmp_path):
    studies = [written(tmp_path, 2, study=f"2.25.{n}") for n in range(5)]
    with web(lambda n, post: (200, {}, STORED) if len(uids_of(post)) == 1 else (400, {}, None)) as (port, posts):
        pacs = destination(port)
        for study in studies:
            assert told(pacs.send(study)) == all_accepted(study)
    assert [len(uids_of(post)) for post in posts] == [2, 1, 1] * 3 + [1, 1] * 2


def test_a_server_whose_answers_name_nothing_gets_several_as_long_as_a_query_finds_them(tmp_path):
    studies = [written(tmp_path, 2, study=f"2.25.{n}") for n in range(5)]
    with web(lambda n, post: (200, {}, {}), finds=lambda uid: True) as (port, posts):
        pacs = destination(port)
        for study in studies:
            assert told(pacs.send(study)) == all_accepted(study)
    assert [len(uids_of(post)) for post in posts] == [2] * 5


def test_an_object_that_is_always_refused_does_not_keep_the_others_apart(tmp_path):
    studies = [written(tmp_path, 3, study=f"2.25.{n}") for n in range(5)]
    bad = {study[0].sop_instance_uid for study in studies}

    with web(all_but(bad, 0xC122)) as (port, posts):
        pacs = destination(port)
        for study in studies:
            assert told(pacs.send(study)) == all_accepted(study) | {study[0].sop_instance_uid: "refused"}
    assert [len(uids_of(post)) for post in posts] == [3, 1] * 5


def test_a_sop_class_that_is_not_taken_goes_by_itself_until_it_is(tmp_path):
    studies = [written(tmp_path, 3, study=f"2.25.{n}") for n in range(4)]
    bad = {study[0].sop_instance_uid for study in studies[:2]}
    studies = [[replace(study[0], sop_class_uid="1.2.3"), *study[1:]] for study in studies]

    with web(all_but(bad, 0x0122)) as (port, posts):
        pacs = destination(port)
        verdicts = [told(pacs.send(study))[study[0].sop_instance_uid] for study in studies]
    assert verdicts == ["unsupported", "unsupported", "accepted", "accepted"]
    assert [len(uids_of(post)) for post in posts] == [3, 1, 1, 2, 1, 2, 3]


def test_a_server_of_single_files_gets_single_files(objects):
    """As Azure's, which takes a file without multipart too."""
    with web(lambda n, post: (415, {}, None) if post.startswith(b"--") else (200, {}, named(post))) as (port, posts):
        pacs = destination(port)
        assert told(pacs.send(objects)) == all_accepted(objects)
        first = len(posts)
        assert told(pacs.send(objects)) == all_accepted(objects)
    assert posts[first:] == [each.path.read_bytes() for each in objects]


def named(file):
    return response(stored=[item(str(dcmread(BytesIO(file)).SOPInstanceUID))])


def test_trust_ends_with_three_failures_in_a_row_and_comes_back_after_an_hour():
    now = [0.0]
    trust = Trust(lambda: now[0])
    for was_right in (False, False, True, False, False):
        trust.note(was_right=was_right)
    assert trust.holds
    trust.note(was_right=False)
    now[0] = 3599
    assert not trust.holds
    now[0] = 3600
    assert trust.holds
    trust.note(was_right=False)
    assert trust.holds


# --- in the service -----------------------------------------------------------------------------


def test_who_stops_in_the_middle_of_an_answer_loses_no_receipt(spool):
    stop = threading.Event()
    stop.set()
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        spool.web(port).carry(stop)
    assert (spool.states(), len(posts)) == (["delivered"] * 3, 1)


@pytest.mark.parametrize(("stated", "sent"), [(10, 6), (6, 6), (4, 4)], ids=["shrunk", "as it was", "grown"])
def test_no_more_of_a_file_is_sent_than_was_stated(stated, sent):
    """What follows would be the next request of the connection."""
    upload = Upload([Part(stated, lambda: iter([b"ab", b"cd", b"ef"]))], "application/dicom")
    found = b""
    with nullcontext() if stated == 6 else pytest.raises(ImageError, match="another length"):
        while piece := upload.read():
            found += piece
    assert (len(upload), len(found)) == (stated, sent)
