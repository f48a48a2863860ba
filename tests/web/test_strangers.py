"""Connections that strangers hold, what other programs of the machine leave, folders of others."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.web import connections, folder, guard, server
from cxr_dicom.web.site import Search
from tests.service_helpers import wait_for
from tests.web import helpers
from tests.web.test_guard import USER, proxied


@pytest.fixture
def out(tmp_path):
    return helpers.write_out(tmp_path / "out", [helpers.row(1), helpers.row(2)])


@pytest.fixture
def client(out):
    with helpers.shown(out) as client:
        yield client


# --- connections that are held -------------------------------------------------------------------

HELD = {
    "answered": "GET /enter HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "answered before its body": "GET /enter HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60000\r\n\r\nx",
    "body": "POST /enter HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 60000\r\n\r\nx",
}


@pytest.mark.parametrize("kind", HELD)
def test_strangers_cannot_hold_all_connections(out, monkeypatch, kind):
    monkeypatch.setattr(connections, "MAX_WAITING", 4)
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 12)
    with helpers.shown(out) as client:
        client.enter()
        held = []
        try:
            for _ in range(20):
                peer = socket.create_connection(("127.0.0.1", client.port), timeout=20)
                peer.sendall(HELD[kind].format(host=client.host).encode())
                held.append(peer)
                time.sleep(0.02)  # so that each is more than a connection before the next one comes
            assert client.get("/").status == 200
        finally:
            for peer in held:
                peer.close()


def test_a_visitor_whose_body_is_slow_is_not_closed_for_strangers(out, monkeypatch):
    monkeypatch.setattr(connections, "MAX_WAITING", 4)
    with helpers.shown(out) as client:
        client.enter()
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as visitor:
            kind = "Content-Type: application/x-www-form-urlencoded\r\n"
            head = f"Host: {client.host}\r\nOrigin: http://{client.host}\r\nCookie: {client.cookie}\r\n{kind}"
            visitor.sendall(f"POST /enter HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\nx".encode())
            time.sleep(0.1)
            strangers = [socket.create_connection(("127.0.0.1", client.port), timeout=20) for _ in range(10)]
            assert client.get("/").status == 200
            visitor.sendall(b"y")
            assert visitor.recv(100).startswith(b"HTTP/1.1 401")
            for stranger in strangers:
                stranger.close()


def test_who_reads_no_answers_is_closed(client, monkeypatch):
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.3)
    asked = f"GET /static/page.css HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode() * 50
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", client.port))
        peer.setblocking(False)

        def is_closed():
            try:
                peer.send(asked)
            except BlockingIOError:
                return False
            except OSError:
                return True
            return False

        assert wait_for(is_closed, seconds=18)


def test_a_request_that_tells_its_length_twice_is_refused(client):
    answer = client.post("/enter", headers={"transfer-encoding": "chunked", "content-length": "5"})
    assert answer.status == 400


# --- what other programs leave -------------------------------------------------------------------


@pytest.mark.parametrize("foreign", ['x={"a":1}', "a b c", 'pref="not closed', "name=J\u00f6rg", "bad[]=1"])
def test_a_cookie_of_another_program_of_this_machine_locks_nobody_out(client, foreign):
    client.enter()
    assert client.get("/", cookie=f"{foreign}; {client.cookie}").status == 200
    assert client.get("/", cookie=f"{foreign}; {guard.cookie_name(client.port)}=x").status == 401


def test_the_login_of_a_proxy_that_passes_it_on_is_no_token_of_ours():
    with proxied("127.0.0.0/8") as client:
        client.host = "cxr.example"
        asked = {USER.replace("-", "_"): "ada", "authorization": "Basic YWRhOng="}
        assert client.get("/patients", **asked).status == 200
        assert client.ask("POST", "/leave", "", **asked).status == 403, "a browser sends it by itself"
        assert client.get("/patients", **asked | {"authorization": "Bearer x"}).status == 401


def test_an_address_of_ipv4_is_known_on_a_socket_for_both_versions():
    assert guard._peer({"client": ("::ffff:10.1.2.3", 1)}) == "10.1.2.3"


# --- folders of others ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/html", "text/javascript", "image/svg+xml", ""])
def test_a_picture_is_a_picture_whatever_a_folder_says(tmp_path, kind):
    row = helpers.row()
    out = helpers.write_out(tmp_path / "out", [row])
    figures = [{"title": "x", "source": f"data:{each};base64,PGI+"} for each in (kind, "image/png")]
    helpers.write_state(out, row, figures)
    with helpers.shown(out) as client:
        path = f"/studies/{row['study_instance_uid']}/pictures/{row['sop_instance_uid']}"
        assert client.enter().get(f"{path}/0").status == 404
        assert client.get(f"{path}/1").headers["content-type"] == "image/png"


@pytest.mark.parametrize("line", ["[]", "1", '{"study_instance_uid": 1}', "[" * 100_000, json.dumps({"scores": []})])
def test_what_are_no_rows_of_results_are_refused_with_their_file(tmp_path, line):
    helpers.write_out(tmp_path, [])
    (tmp_path / "results.jsonl").write_text(line + "\n")
    with pytest.raises(CxrDicomError, match="expected one row"):
        folder.Folder(tmp_path)


def test_scores_that_are_no_table_are_refused_with_their_file(tmp_path):
    with pytest.raises(CxrDicomError, match="expected one row"):
        folder.Folder(helpers.write_out(tmp_path, [helpers.row(scores=[])]))


def test_a_study_is_never_shown_by_a_row_of_another(out, monkeypatch):
    site = folder.Folder(out)
    first = (out / "results.jsonl").read_text().splitlines(keepends=True)
    monkeypatch.setattr(site, "_fresh", lambda: site._index)  # looked before, reads after it was written anew
    (out / "results.jsonl").write_text("".join(reversed(first)))
    with pytest.raises(CxrDicomError, match="written anew"):
        site.study("1.2.826.0.1")


def test_a_folder_that_was_written_anew_is_read_once_for_all_who_ask(out, monkeypatch):
    site, real, read = folder.Folder(out), folder.Folder._read_index, []

    def slow(self):
        read.append(1)
        time.sleep(0.2)
        return real(self)

    monkeypatch.setattr(folder.Folder, "_read_index", slow)
    helpers.write_out(out, [helpers.row(number) for number in range(3)])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: site.find(Search()).total, range(4)))
    assert found == [3] * 4
    assert len(read) == 1


def test_a_row_that_lacks_a_column_spoils_no_other(tmp_path):
    half = {key: value for key, value in helpers.row(2).items() if key != "measurements"}
    odd = helpers.row(3) | {"scores": {}, "measurements": {"cardiothoracic_ratio": 7}}
    folder_ = helpers.write_out(tmp_path / "out", [helpers.row(1), half, odd])
    with helpers.shown(folder_) as client:
        page = client.enter().get("/studies")
        assert page.status == 200
        assert page.text.count("its rows cannot be read") == 2
        answer = client.get("/studies/1.2.826.0.2")
        assert (answer.status, "measurements" in answer.text) == (422, True)
        assert client.get("/studies/1.2.826.0.1").status == 200


def test_a_row_that_is_being_written_is_not_read_yet_and_one_that_is_damaged_is_told(out, client):
    client.enter()
    whole = json.dumps(helpers.row(3))
    with (out / "results.jsonl").open("a") as file:
        file.write(whole[:100])
    assert "2 studies" in client.get("/studies").text
    with (out / "results.jsonl").open("a") as file:
        file.write(whole[100:] + "\n")
    assert "3 studies" in client.get("/studies").text
    with (out / "results.jsonl").open("a") as file:
        file.write("{\n")
    answer = client.get("/studies")
    assert (answer.status, "cannot be read now" in answer.text) == (503, True)
