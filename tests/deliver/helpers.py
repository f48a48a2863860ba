"""What tests of deliveries share: objects that wait for a destination, and a server that answers as it is told."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.records import InstanceResult, Outcome, StudyResult
from cxr_dicom.service.courier import Courier
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Dispatch
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import send

STORED = object()  # as a body: names what was posted, as PS3.18 10.5.3 wants it


class Waiting:
    def __init__(self, here, study, objects):
        self.ledger, self.folder, self.study = here.ledger, here.spool.folder, study
        self.spool = here.spool
        self.uids = [each.sop_instance_uid for each in objects]
        assert send(here.port, radiograph(32, 32)) == [0]
        here.ledger.studies.complete(study)
        claim = here.ledger.studies.claim("w", max_interruptions=9)
        (instance,) = claim.study.instances
        result = StudyResult(
            study_instance_uid=study,
            job_key="k",
            instances=(
                InstanceResult(
                    path=instance.path, outcome=Outcome.PROCESSED, instance=instance, objects=tuple(objects)
                ),
            ),
        )
        here.ledger.studies.finish(claim, result, [], [Dispatch(destination="pacs", verify=False)])

    def courier(self, **destination):
        made = Settings.model_validate({"destinations": [{"name": "pacs", "timeout_seconds": 1, **destination}]})
        built = build_destination(made.destinations[0], lambda uid: None)
        return Courier(built, self.ledger, AuditTrail(self.folder), self.spool)

    def dicom(self, port, **more):
        return self.courier(kind="dicom", address="127.0.0.1", port=port, ae_title="ARCHIVE", **more)

    def web(self, port, scheme="http", host="127.0.0.1", **more):
        return self.courier(kind="dicomweb", url=f"{scheme}://{host}:{port}/dicom-web", **more)

    def carry(self, made, until, seconds=20):
        end = time.monotonic() + seconds
        while self.states() != until:
            assert time.monotonic() < end, self.states()
            made.carry()
            time.sleep(0.02)

    def states(self):
        story = self.ledger.stories.show(self.study)
        return sorted(each["deliveries"][0]["state"] for each in story["objects"])

    def said(self):
        story = self.ledger.stories.show(self.study)
        return sorted({each["deliveries"][0]["status"] for each in story["objects"]})


def item(uid=None, **codes):
    """Make an item of a store response; ``reason`` is a Failure Reason, ``warning`` a Warning Reason."""
    tags = {"reason": "00081197", "warning": "00081196"}
    made = {tags[name]: {"vr": "US", "Value": [code]} for name, code in codes.items()}
    return made | ({"00081155": {"vr": "UI", "Value": [uid]}} if uid else {})


def response(stored=(), failed=()):
    """Make a Store Instances Response Module in JSON."""
    sequences = {"00081199": stored, "00081198": failed}
    return {tag: {"vr": "SQ", "Value": list(items)} for tag, items in sequences.items() if items}


def failed(reason):
    return response(failed=[item(reason=reason)])


def parts_of(post):
    """Return the data sets of a multipart body."""
    boundary = post.partition(b"\r\n")[0]
    files = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in post.split(boundary)[1:-1]]
    return [dcmread(BytesIO(file)) for file in files]


def uids_of(post):
    """Return the SOP Instance UIDs of a multipart body."""
    return [str(each.SOPInstanceUID) for each in parts_of(post)]


def uid_of(post):
    """Return the SOP Instance UID of the only part of a body."""
    (uid,) = uids_of(post)
    return uid


class Posts(list):
    """The bodies of requests; beside them what each accepts as an answer, and of what kind it is."""

    def __init__(self):
        super().__init__()
        self.heads, self.accepts, self.kinds = [], [], []


@contextmanager
def web(answers, tls=None, finds=lambda uid: False, port=0):
    """Run a server that gives each POST the next answer (status, headers, body); QIDO-RS finds what ``finds`` says."""
    posts = Posts()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self):
            posts.heads.append(self.headers)
            posts.accepts.append(self.headers["Accept"])
            posts.kinds.append(self.headers["Content-Type"])
            posts.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = answers(len(posts) - 1, posts[-1])
            if body is STORED:
                body = response(stored=map(item, uids_of(posts[-1])))
            self._answer(status, headers, body)

        def do_GET(self):
            uid = parse_qs(urlsplit(self.path).query).get("SOPInstanceUID", [""])[0]
            found = finds(uid)
            if not isinstance(found, bytes):
                found = [{"00080018": {"vr": "UI", "Value": [uid]}}] if found else []
            self._answer(200, {"Content-Type": "application/dicom+json"}, found)

        def _answer(self, status, headers, body):
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.002,), daemon=True).start()
    try:
        yield server.server_address[1], posts
    finally:
        server.shutdown()
        server.server_close()
