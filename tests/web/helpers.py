"""An output folder with hostile words, its pages on a real port, and a client that is a browser or worse."""

import http.client
import json
from contextlib import contextmanager
from types import SimpleNamespace
from urllib.parse import urlencode

from pydicom import dcmread

from cxr_dicom.cohort.states import State
from cxr_dicom.results.schema import Row
from cxr_dicom.web import view
from cxr_dicom.web.guard import cookie_name
from cxr_dicom.web.server import Server
from tests.kept import keep
from tests.service_helpers import free_port

HOSTILE = "<script>alert(1)</script>'\"&{{7*7}}"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def row(number=1, *, outcome="processed", study=None, **more):
    study = study or f"1.2.826.0.{number}"
    return (
        dict.fromkeys(Row.__required_keys__)
        | {
            "path": f"secret/DOE^JOHN-{number}.dcm",
            "study_instance_uid": study,
            "series_instance_uid": f"{study}.1",
            "sop_instance_uid": f"{study}.1.1",
            "outcome": outcome,
            "reason": None if outcome == "processed" else "NOT_FRONTAL",
            "detail": "",
            "view": "PA",
            "models": [],
            "scores": {},
            "measurements": {},
            "statements": {},
            "boxes": {},
            "detections": {},
            "objects": [],
            "exports": [],
            "warnings": [],
            "seconds": {},
        }
        | more
    )


def object_row(path):
    """Return what a row says of an object."""
    head = dcmread(path, stop_before_pixels=True)
    return {
        "path": path.name,
        "kind": "segmentation",
        "sop_class_uid": head.SOPClassUID,
        "sop_instance_uid": head.SOPInstanceUID,
        "series_instance_uid": head.SeriesInstanceUID,
    }


def write_out(folder, rows):
    (folder / ".cxr-dicom").mkdir(parents=True, exist_ok=True)
    with (folder / "results.jsonl").open("w") as file:
        file.writelines(json.dumps(each) + "\n" for each in rows)
    return folder


def write_state(folder, row, figures):
    figures = {row["sop_instance_uid"]: figures}
    keep(folder, State(key=row["study_instance_uid"], stamp="", job_key="", rows=[row], figures=figures))


@contextmanager
def shown(folder):
    """Serve the pages of an output folder."""
    with served(view.pages_of(folder, free_port())) as client:
        yield client


@contextmanager
def served(web):
    server = Server(web.application(), "127.0.0.1", web.port)
    try:
        yield Client(web)
    finally:
        server.stop()


class Client:
    """Asks as a browser does, on one of our own pages, unless told otherwise."""

    def __init__(self, web):
        self.web, self.port = web, web.port
        self.host = f"127.0.0.1:{web.port}"
        self.cookie = ""

    def enter(self):
        answer = self.post("/enter", token=self.web.visitors.link_token)
        assert answer.status == 303, answer.text
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return self

    @property
    def form_token(self):
        session = self.cookie.removeprefix(f"{cookie_name(self.port)}=")
        visitor = self.web.visitors.recognise({}, session, "127.0.0.1")
        return self.web.visitors.form_token(visitor)

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, headers=(), **fields):
        given = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{self.host}"} | dict(headers)
        return self.ask("POST", path, urlencode(fields), **given)

    def ask(self, method, path, body=None, **headers):
        """Ask; ``headers`` have underscores for hyphens, and None leaves one out."""
        sent = {"host": self.host, "cookie": self.cookie or None, "sec-fetch-site": "same-origin"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None and "content-length" not in sent:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body.encode() if isinstance(body, str) else body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        text = content.decode("utf-8", "replace")
        return SimpleNamespace(status=answer.status, headers=found, text=text, content=content)
