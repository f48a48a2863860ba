"""Numbers and health for monitoring, on a port of this machine only.

``/metrics`` is in Prometheus' text format. ``/health`` is a JSON object: its status is ``ok``, ``degraded`` when a
person must look, or, with 503 instead of 200, ``failing`` when a part is dead and a new start may help.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cxr_dicom.errors import SettingsError
from cxr_dicom.service.health import Figure, Problems


class MetricsServer:
    """Serves figures and health until `stop`.

    Raises
    ------
    SettingsError
        If the port is taken.
    """

    def __init__(self, port: int, figures: Callable[[], Iterable[Figure]], problems: Callable[[], Problems]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, "text/plain; version=0.0.4", exposition(figures()))
                elif self.path == "/health":
                    found = problems()
                    is_dead = any(problem.is_fatal for problem in found.values())
                    status = "failing" if is_dead else "degraded" if found else "ok"
                    body = {"status": status, "problems": {part: problem.text for part, problem in found.items()}}
                    self._answer(503 if is_dead else 200, "application/json", json.dumps(body))
                else:
                    self._answer(404, "text/plain", "/metrics or /health\n")

            def _answer(self, status: int, kind: str, body: str) -> None:
                content = body.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing: a look at the numbers is no event."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise SettingsError(f"service.metrics_port = {port}: {error.strerror}") from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def exposition(figures: Iterable[Figure]) -> str:
    """Write figures in Prometheus' text format; names that end in ``_total`` are counters."""
    lines: list[str] = []
    previous = ""
    for name, labels, value in sorted(figures, key=lambda figure: (figure[0], sorted(figure[1].items()))):
        if name != previous:
            lines.append(f"# TYPE cxr_dicom_{name} {'counter' if name.endswith('_total') else 'gauge'}")
            previous = name
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in sorted(labels.items()))
        lines.append(f"cxr_dicom_{name}{{{inside}}} {value:.15g}" if inside else f"cxr_dicom_{name} {value:.15g}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
