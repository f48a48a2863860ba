"""Peers that are not well: relays in front of real servers, that behave as their `mode` says at the time."""

import contextlib
import http.client
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

WELL = "well"
_DATA, _RELEASE = 4, 5  # types of PDU (PS3.8 9.3)
_LOGIN = b"<!DOCTYPE html><html><title>Sign in</title><form method=post>Your session has ended.</form></html>"
_MOST_SECONDS = 20.0  # that a connection is held open for nothing
_DRIP_SECONDS = 1.0  # for each byte
_OF_ONE_LEG = ("connection", "host", "accept-encoding")  # headers that are not passed on
_KEYS = ("includefield", "limit", "offset")  # of a search, that are no filter


class DicomRelay:
    """Between a DICOM client and the server at ``target``.

    Modes: ``down`` (nothing listens), ``silent`` (takes the connection and says nothing), ``garbage`` (answers by a
    page), ``drip`` (a byte a second), ``never closes`` (does not hear a release), ``cut`` (breaks off while it is sent
    to), ``lost`` (stores, and breaks off before it says so).
    """

    modes = ("down", "silent", "garbage", "drip", "never closes", "cut", "lost")

    def __init__(self, target: int, address: str = "127.0.0.1") -> None:
        self._target = target
        self._address = address
        self._server = socket.create_server((address, 0))
        self.port: int = self._server.getsockname()[1]
        self._mode = WELL
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    @property
    def mode(self) -> str:
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        was, self._mode = self._mode, mode
        if mode == "down":
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        elif was == "down":
            self._server = socket.create_server((self._address, self.port))
            threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        mode = self.mode
        with client, contextlib.suppress(OSError):
            client.settimeout(_MOST_SECONDS)
            if mode == "silent":
                while client.recv(65536):
                    pass
            elif mode == "garbage":
                client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n" + _LOGIN)
            else:
                with socket.create_connection(("127.0.0.1", self._target), 5) as server:
                    server.settimeout(_MOST_SECONDS)
                    back = threading.Thread(target=self._back, args=(server, client, mode), daemon=True)
                    back.start()
                    self._forth(client, server, mode)
                    back.join(_MOST_SECONDS)

    def _forth(self, client: socket.socket, server: socket.socket, mode: str) -> None:
        """Pass on what the client says; at its end, the server is told too."""
        try:
            for pdu in _pdus(client):
                if mode == "cut" and pdu[0] == _DATA:
                    server.sendall(pdu[: len(pdu) // 2])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                if mode != "never closes" or pdu[0] != _RELEASE:
                    server.sendall(pdu)
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

    def _back(self, server: socket.socket, client: socket.socket, mode: str) -> None:
        """Pass on what the server says."""
        with contextlib.suppress(OSError):
            for pdu in _pdus(server):
                if mode == "lost" and pdu[0] == _DATA:
                    break
                for piece in [bytes([byte]) for byte in pdu] if mode == "drip" else [pdu]:
                    client.sendall(piece)
                    time.sleep(_DRIP_SECONDS if mode == "drip" else 0)
            client.shutdown(socket.SHUT_RDWR)


def _pdus(connection: socket.socket):
    """Yield whole PDUs until the end."""
    stream = connection.makefile("rb")
    while len(head := stream.read(6)) == 6:
        yield head + stream.read(struct.unpack(">L", head[2:])[0])


class WebRelay:
    """Between a DICOMweb client and the server at ``target``.

    Modes: ``down``, ``404`` (a proxy that deploys), ``login`` (a page, with status 200), ``redirect``, ``bad gateway``,
    ``busy`` (503 with Retry-After), ``drip`` (a byte a second), ``wrong filter`` (searches find everything),
    ``doubled`` (each match of a search twice), ``empty receipt`` (stores, and says ``{}``), ``lost`` (stores, and
    closes).
    """

    modes = (
        *("down", "404", "login", "redirect", "bad gateway", "busy", "drip", "wrong filter", "doubled"),
        *("empty receipt", "lost"),
    )

    def __init__(self, target: int) -> None:
        self.mode = WELL
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = _MOST_SECONDS

            def do_GET(self) -> None:
                relay._answer(self, target)

            def do_POST(self) -> None:
                relay._answer(self, target)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def verify_request(self, request: object, client_address: object) -> bool:
                return relay.mode != "down"  # closed at once: a port that a dead proxy still has

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _answer(self, handler: BaseHTTPRequestHandler, target: int) -> None:
        mode = self.mode
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        said = {
            "404": (404, {}, b"404 page not found\n"),
            "login": (200, {"Content-Type": "text/html"}, _LOGIN),
            "redirect": (302, {"Location": "https://login.example/"}, b""),
            "bad gateway": (502, {}, _LOGIN),
            "busy": (503, {"Retry-After": "7"}, b""),
        }.get(mode)
        status, headers, content = said or _passed_on(handler, target, body, mode)
        if mode == "lost" and handler.command == "POST":
            handler.close_connection = True
            return
        if mode == "empty receipt" and handler.command == "POST":
            status, content = 200, b"{}"
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        for piece in [bytes([byte]) for byte in content] if mode == "drip" else [content]:
            handler.wfile.write(piece)
            time.sleep(_DRIP_SECONDS if mode == "drip" else 0)


def _passed_on(
    handler: BaseHTTPRequestHandler, target: int, body: bytes, mode: str
) -> tuple[int, dict[str, str], bytes]:
    url = urlsplit(handler.path)
    is_search = handler.command == "GET" and url.path.endswith(("/studies", "/series", "/instances"))
    query = parse_qsl(url.query)
    if mode == "wrong filter" and is_search:
        query = [(key, value) for key, value in query if key in _KEYS]
    upstream = http.client.HTTPConnection("127.0.0.1", target, timeout=_MOST_SECONDS)
    try:
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in _OF_ONE_LEG}
        upstream.request(handler.command, f"{url.path}?{urlencode(query)}", body or None, headers)
        answer = upstream.getresponse()
        content = answer.read()
    except OSError:
        return 502, {}, b""
    finally:
        upstream.close()
    if mode == "doubled" and is_search and answer.status == 200:
        found = json.loads(content)
        content = json.dumps([each for each in found for _ in range(2)]).encode()
    return answer.status, {"Content-Type": answer.getheader("Content-Type") or "text/plain"}, content
