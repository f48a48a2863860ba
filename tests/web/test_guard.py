"""Attacks on the pages: foreign pages, foreign names, strangers, bodies and clients without end."""

import re
import socket
import time

import pytest

from cxr_dicom.config.web import Right, WebSettings
from cxr_dicom.web import connections, guard
from cxr_dicom.web.application import Page, Web
from cxr_dicom.web.visitors import Visitors
from tests.service_helpers import free_port, wait_for
from tests.web import helpers

USER = "x-remote-user"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return helpers.write_out(tmp_path_factory.mktemp("out"), [helpers.row()])


@pytest.fixture
def client(out):
    with helpers.shown(out) as client:
        yield client


def of_settings(**settings):
    """Serve one page to look at and one form, both of which say who asked."""
    settings = WebSettings(port=free_port(), **settings)

    def said(asked):
        return asked.render("studies.html.jinja", **EMPTY | {"further": asked.visitor.name})

    pages = [
        Page(path="/look", right=Right.LOOK, handler=said),
        Page(path="/patients", right=Right.LOOK_AT_PATIENTS, handler=said),
        Page(path="/act", right=Right.OPERATE, handler=said, method="POST"),
    ]
    web = Web(name="test", settings=settings, visitors=Visitors(settings), pages=pages, port=settings.port)
    return helpers.served(web)


EMPTY = {
    "listing": type("L", (), {"lines": (), "total": 0})(),
    "search": type("S", (), {"uid": "", "word": ""})(),
    "words": {},
    **dict.fromkeys(("has_files", "is_by_number", "is_whole"), False),
}


def test_a_stranger_sees_nothing(client):
    for path in ("/", "/studies", "/studies/1.2.826.0.1", "/studies/1.2.826.0.1/objects/1.2"):
        answer = client.get(path)
        assert answer.status == 401, path
        assert "1.2.826" not in answer.text


def test_the_link_lets_in_by_a_cookie_that_no_script_reads_and_no_other_site_sends(client):
    answer = client.post("/enter", token=client.web.visitors.link_token)
    assert answer.status == 303
    assert answer.headers["location"] == "/"
    assert re.search(r"(?i)HttpOnly", answer.headers["set-cookie"])
    assert re.search(r"(?i)SameSite=Strict", answer.headers["set-cookie"])
    assert client.web.visitors.link_token not in answer.headers["set-cookie"]
    assert "1.2.826.0.1" in client.enter().get("/").text


def test_a_wrong_token_or_cookie_does_not_let_in(client):
    assert client.post("/enter", token="x" * 43).status == 401
    client.cookie = f"{guard.cookie_name(client.port)}={'x' * 43}"
    assert client.get("/").status == 401


@pytest.mark.parametrize("others", [("x" * 43,), ("",), ("a", "b", '"')], ids=repr)
def test_a_cookie_of_our_name_that_another_program_set_keeps_nobody_out(client, others):
    own = client.enter().cookie
    theirs = [f"{guard.cookie_name(client.port)}={each}" for each in others]
    for cookies in ([own, *theirs], [*theirs, own]):
        client.cookie = "; ".join(cookies)
        assert client.get("/").status == 200
    client.cookie = "; ".join(theirs)
    assert client.get("/").status == 401


def test_who_leaves_must_enter_again(client):
    client.enter()
    assert client.post("/leave").status == 303
    assert client.get("/").status == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_what_a_foreign_page_asks_is_refused_though_the_browser_sends_the_cookie(client, site):
    assert client.enter().get("/").status == 200
    assert client.get("/", sec_fetch_site=site).status == 403
    assert client.get("/", sec_fetch_site="none").status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1.evil.example"]
)
def test_a_foreign_origin_is_refused(client, origin):
    client.enter()
    assert client.get("/", origin=origin).status == 403
    assert client.post("/leave", headers={"origin": origin}).status == 403
    assert client.get("/").status == 200, "still in"


def test_a_form_without_its_origin_is_refused(client):
    assert client.post("/leave", headers={"origin": None}).status == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1.evil.example:{port}", "{port}", ""])
def test_a_name_that_was_bound_to_this_address_is_refused(client, host):
    answer = client.enter().get("/", host=host.format(port=client.port))
    assert answer.status == 421
    assert "1.2.826" not in answer.text


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_our_own_names_are_answered(client, name):
    assert client.enter().get("/", host=f"{name}:{client.port}").status == 200


def test_a_form_that_no_page_of_ours_made_is_refused():
    with of_settings() as client:
        client.enter()
        assert client.post("/act").status == 403
        assert client.post("/act", form_token="0" * 64).status == 403
        assert client.post("/act", form_token=client.form_token).status == 200
        other = helpers.Client(client.web).enter()
        assert client.post("/act", form_token=other.form_token).status == 403, "made for another session"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(client, method):
    assert client.enter().ask(method, "/").status == 405


def test_every_answer_forbids_to_keep_frame_and_run_anything(client):
    client.enter()
    for path in ("/", "/nothing", "/static/page.css", "/enter"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store", path
        assert "'unsafe" not in headers["content-security-policy"], path
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert "server" not in headers


@pytest.mark.parametrize("path", ["/", "/enter", "/studies/1.2.826.0.1"])
def test_no_page_has_a_script_or_a_style_in_it(client, path):
    text = client.enter().get(path).text
    assert not re.findall(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|javascript:", text)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../application.py",
        "/static/%2e%2e%2fapplication.py",
        "/studies/..%2f..%2fetc",
        "/studies/1.2.826.0.1/objects/..%2f..%2fresults.jsonl",
        "/studies/1.2.826.0.1/pictures/1/999999999999999999999",
    ],
)
def test_no_path_leads_out(client, path):
    assert client.enter().get(path).status == 404


# --- bodies and clients without end --------------------------------------------------------------


def test_a_body_of_a_gigabyte_is_refused_unread(client):
    assert client.post("/enter", headers={"content-length": str(2**30)}).status == 413
    assert client.post("/enter", headers={"content-length": "-1"}).status in (400, 413)


def test_a_body_that_does_not_say_how_long_it_is_ends_at_the_bound(client):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as peer:
        kind = b"Content-Type: application/x-www-form-urlencoded\r\n"
        peer.sendall(head(client) + kind + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 100:
                peer.sendall(chunk)
                sent += 1
                time.sleep(0.01)
        except OSError:
            pass
        assert sent < 100
    assert client.get("/enter").status == 200


def test_a_body_that_dribbles_is_given_up(client, monkeypatch):
    monkeypatch.setattr(guard, "PIECE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as peer:
        peer.sendall(head(client) + b"Content-Length: 100\r\n\r\nx")
        assert b" 408 " in peer.recv(1000).splitlines()[0]


def test_a_body_may_not_last_for_ever_though_pieces_come(client, monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as peer:
        peer.sendall(head(client) + b"Content-Length: 100\r\n\r\n")
        until, answer = time.monotonic() + 15, b""
        peer.settimeout(0.1)
        while not answer and time.monotonic() < until:
            try:
                peer.sendall(b"x")
                answer = peer.recv(1000)
            except TimeoutError:
                continue
        assert b" 408 " in answer


def test_500_slow_clients_hold_nobody_up_and_are_closed(client, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 3.0)
    client.enter()
    slow = []
    try:
        for _ in range(500):
            peer = socket.create_connection(("127.0.0.1", client.port), timeout=20)
            peer.sendall(b"GET / HTTP/1.1\r\nHost: ")
            slow.append(peer)
        assert client.get("/").status == 200
        assert wait_for(lambda: all(is_closed(peer) for peer in slow), seconds=20)
    finally:
        for peer in slow:
            peer.close()


def head(client):
    return f"POST /enter HTTP/1.1\r\nHost: {client.host}\r\nOrigin: http://{client.host}\r\n".encode()


def is_closed(peer):
    peer.setblocking(False)
    try:
        return peer.recv(100) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


# --- machines and proxies ------------------------------------------------------------------------


def test_a_machine_shows_its_token_and_has_its_rights_only(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"# who\nscheduler operate,look {'t' * 40}\n")
    tokens.chmod(0o600)
    with of_settings(tokens_file=tokens) as client:
        bearer = {"authorization": f"Bearer {'t' * 40}", "sec_fetch_site": None}
        assert client.get("/look", **bearer).status == 200
        assert client.get("/patients", **bearer).status == 403
        assert client.ask("POST", "/act", "", **bearer).status == 200, "no form token: no browser sends this by itself"
        assert client.get("/look", authorization=f"Bearer {'u' * 40}").status == 401
        assert client.get("/look", authorization=f"Basic {'t' * 40}").status == 401


@pytest.mark.parametrize(
    ("line", "mode"), [("a look short", 0o600), ("a fly " + "t" * 40, 0o600), ("a look " + "t" * 40, 0o644)]
)
def test_a_file_of_tokens_that_cannot_be_trusted_is_refused(tmp_path, line, mode):
    tokens = tmp_path / "tokens"
    tokens.write_text(line)
    tokens.chmod(mode)
    with pytest.raises(Exception, match=r"web\.tokens_file") as refused:
        Visitors(WebSettings(tokens_file=tokens))
    assert "t" * 40 not in str(refused.value)


def proxied(*addresses):
    rights = {"ada": ("look-at-patients",), "*": ("look",)}
    return of_settings(hosts=("cxr.example",), proxy={"header": USER, "addresses": addresses, "rights": rights})


def test_a_proxy_says_who_somebody_is():
    with proxied("127.0.0.0/8") as client:
        client.host = "cxr.example"
        assert client.get("/patients", x_remote_user="ada").status == 200
        assert client.get("/look", x_remote_user="ada").status == 200, "who looks at patients may look"
        assert client.get("/patients", x_remote_user="bob").status == 403
        assert client.get("/look", x_remote_user="bob").status == 200
        assert client.get("/look").status == 401
        assert client.get("/look", x_remote_user="<b>").status == 401
        assert client.post("/act", headers={USER: "ada"}).status == 403


def test_a_header_of_an_address_that_is_not_listed_is_not_believed():
    with proxied("192.0.2.1/32") as client:
        assert client.get("/look", x_remote_user="ada").status == 401


def test_from_the_network_only_the_proxy_is_answered():
    settings = WebSettings(hosts=("cxr.example",), proxy={"header": USER, "addresses": ("192.0.2.1/32",)})
    stands = guard.Guard(None, settings, Visitors(settings), 1)
    assert stands._is_expected({"client": ("192.0.2.1", 1)})
    assert stands._is_expected({"client": ("127.0.0.1", 1)})
    assert not stands._is_expected({"client": ("192.0.2.2", 1)})


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", "::"])
def test_the_network_without_a_proxy_is_refused(address):
    with pytest.raises(ValueError, match=r"web\.address: expected an address of this machine only"):
        WebSettings(port=1, address=address)


def test_the_pages_are_off_by_default():
    assert WebSettings().port is None
