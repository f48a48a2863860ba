"""STOW-RS that is cut off, or never begins: what is learned of the server from that, and what is not."""

import os
import ssl
import time

import pytest
from pydicom import dcmread

from cxr_dicom.deliver.destinations import dicomweb
from cxr_dicom.errors import ConnectionFailedError
from tests.deliver.helpers import STORED, uid_of, uids_of, web
from tests.deliver.raw_peer import peer
from tests.deliver.test_together import all_accepted, destination, told, uids, written
from tests.service_helpers import certificate, free_port


def stalls(connection):
    connection.recv(1 << 12)
    time.sleep(3)


def ends_without_a_word(connection):
    connection.recv(1 << 12)
    os.close(connection.detach())


@pytest.mark.parametrize("serve", [stalls, ends_without_a_word])
@pytest.mark.parametrize("is_secure", [True, False], ids=["TLS", "plain"])
def test_a_connection_that_fails_in_the_middle_of_an_object_is_no_outage(large, tmp_path, serve, is_secure):
    """It may be the object's trouble: an outage would never be."""
    ca, key = certificate(tmp_path, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ca, key)

    def answer(connection, _):
        with context.wrap_socket(connection, server_side=True) if is_secure else connection as opened:
            serve(opened)

    with peer(answer) as port:
        url = f"http{'s' if is_secure else ''}://localhost:{port}"
        pacs = destination(port, url=url, ca=ca, timeout_seconds=1)
        with pytest.raises(ConnectionFailedError, match="BROKEN_OFF"):
            list(pacs.send([large]))


def test_what_was_cut_off_goes_again_to_a_server_that_answers_no_query(tmp_path):
    def answer(number, post):
        if number == 0:
            raise ConnectionAbortedError
        return 200, {}, STORED

    def hang_up(uid):
        raise ConnectionAbortedError

    objects = written(tmp_path, 3)
    with web(answer, finds=hang_up) as (port, posts):
        pacs = destination(port)
        with pytest.raises(ConnectionFailedError):
            list(pacs.send(objects))
        assert told(pacs.send(objects)) == all_accepted(objects)
    assert [len(uids_of(post)) for post in posts] == [3, 1, 1, 1]


# --- what says nothing of a server ---------------------------------------------------------------


def test_a_server_that_was_down_is_sent_all_as_if_it_had_not_been(deflated, tmp_path):
    """Several in a request, deflated, and none is asked for: nothing had been sent."""
    study = dcmread(deflated.path, stop_before_pixels=True).StudyInstanceUID
    studies = [written(tmp_path, 2, study=uid) for uid in (study, "2.25.8", "2.25.9")]
    studies[0].append(deflated)
    asked, port = [], free_port()
    pacs = destination(port, deflated=True)
    for objects in studies:
        with pytest.raises(ConnectionFailedError, match="UNREACHABLE"):
            list(pacs.send(objects))
    with web(lambda n, post: (200, {}, STORED), finds=asked.append, port=port) as (_, posts):
        for objects in studies:
            assert told(pacs.send(objects)) == all_accepted(objects)
    assert [uids_of(post) for post in posts] == [uids(objects) for objects in studies]
    assert deflated.path.read_bytes() in posts[0]
    assert not asked


def test_a_file_of_ours_that_shrinks_keeps_no_other_study_apart(tmp_path, monkeypatch):
    *short, last = [written(tmp_path, 2, study=f"2.25.{n}") for n in range(4)]
    as_it_is = dicomweb.as_it_is
    cut = {study[0].path for study in short}

    def cut_later(path):
        part = as_it_is(path)
        if path in cut:
            path.write_bytes(path.read_bytes()[:-1])
        return part

    monkeypatch.setattr(dicomweb, "as_it_is", cut_later)
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        pacs = destination(port)
        for study in short:
            assert told(pacs.send(study))[study[1].sop_instance_uid] == "accepted"
        assert told(pacs.send(last)) == all_accepted(last)
    assert uids_of(posts[-1]) == uids(last)


def test_a_redirect_is_no_proof_that_the_form_is_understood(made):
    """A server of single files, which was moved at first."""

    def answer(number, post):
        if number == 0:
            return 302, {"Location": "http://127.0.0.1/login"}, None
        return (415, {}, None) if post.startswith(b"--") else (409, {}, None)

    with web(answer) as (port, posts):
        pacs = destination(port)
        with pytest.raises(ConnectionFailedError, match="302"):
            list(pacs.send([made]))
        list(pacs.send([made]))
    assert not posts[-1].startswith(b"--")
    assert uid_of(posts[0]) == made.sop_instance_uid
