"""A small PACS over HTTP that answers as it is told: faithful where nothing is told, and each lie in one place."""

import copy
import json
import threading
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qsl, urlsplit

from cxr_dicom.config.service import DicomwebArchive
from cxr_dicom.ingest.archives.dicomweb import Dicomweb
from cxr_dicom.synthetic import radiograph

STUDY = {
    "0020000D": "StudyInstanceUID",
    "00080020": "StudyDate",
    "00080030": "StudyTime",
    "00080050": "AccessionNumber",
    "00100020": "PatientID",
}
SERIES = {"0020000D": "StudyInstanceUID", "0020000E": "SeriesInstanceUID", "00080060": "Modality"}
IMAGE = {"0020000E": "SeriesInstanceUID", "00080018": "SOPInstanceUID", "00080016": "SOPClassUID"}
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
KEYS = {"StudyDate", "StudyTime", "AccessionNumber", "PatientID", "StudyInstanceUID", "ModalitiesInStudy"}


class Pacs:
    """Attributes are what a test changes.

    Attributes
    ----------
    keys
        Matching keys that it honours.
    cap
        It gives at most so many matches, in all pages together, as Orthanc's LimitFindResults does.
    lie
        Takes a path and its parameters; gives status, headers and body in place of the true answer, or None.
    change
        Takes and gives the items of an answer.
    """

    def __init__(self, images):
        self.images = images
        self.keys = set(KEYS)
        self.cap = None
        self.lie = lambda path, parameters, headers: None
        self.change = lambda items: items
        self.asked = []

    def answer(self, path, parameters, headers):
        self.asked.append((path, parameters))
        if told := self.lie(path, parameters, headers):
            return told
        parts = path.strip("/").split("/")
        if len(parts) == 6:
            return self.file(parts[5])
        below = [each for each in self.images if len(parts) < 2 or each.StudyInstanceUID == parts[1]]
        if parts[-1] == "studies":
            return self.page(self.studies(parameters), parameters)
        if parts[-1] == "series":
            return self.page(items(SERIES, below, "SeriesInstanceUID"), parameters)
        return self.page(items(IMAGE, [each for each in below if each.SeriesInstanceUID == parts[3]]), parameters)

    def studies(self, parameters):
        asked = {key: value for key, value in parameters.items() if key in self.keys}
        found = [each for each in self.images if all(matches(each, key, value) for key, value in asked.items())]
        by_study = {}
        for each in self.images:
            by_study.setdefault(each.StudyInstanceUID, []).append(each)
        told = items(STUDY, found, "StudyInstanceUID")
        for item in told:
            own = by_study[item["0020000D"]["Value"][0]]
            item["00080061"] = {"vr": "CS", "Value": sorted({each.Modality for each in own})}
            item["00201208"] = {"vr": "IS", "Value": [len(own)]}
        return told[: self.cap]

    def page(self, found, parameters):
        start = int(parameters.get("offset", 0))
        end = start + int(parameters.get("limit", len(found)))
        body = json.dumps(self.change(found[start:end])).encode()
        return 200, {"Content-Type": "application/dicom+json"}, body

    def file(self, uid):
        (image,) = (each for each in self.images if each.SOPInstanceUID == uid)
        return 200, {"Content-Type": MULTIPART}, multipart(encoded(image))


def encoded(image):
    file = BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


def multipart(content, head=b"Content-Type: application/dicom\r\n"):
    return b"--b\r\n" + head + b"\r\n" + content + b"\r\n--b--\r\n"


def items(tags, images, unique="SOPInstanceUID"):
    by_uid = {each[unique].value: each for each in images}
    return [
        {tag: {"vr": "UI", "Value": [str(each.get(name))]} for tag, name in tags.items() if each.get(name)}
        for each in by_uid.values()
    ]


def matches(image, key, wanted):
    value = image.Modality if key == "ModalitiesInStudy" else str(image.get(key, ""))
    if key in ("StudyDate", "StudyTime") and "-" in wanted:
        first, last = wanted.split("-")
        return first <= value and (not last or value <= last)
    return fnmatchcase(value, wanted)


def studies(many, per_day=20):
    """Give studies of one image of 16 by 16 pixels, over days and hours."""
    plain = radiograph(16, 16)
    for number in range(many):
        image = copy.deepcopy(plain)
        for name, value in {
            "StudyInstanceUID": f"1.2.{number + 1}",
            "SeriesInstanceUID": f"1.2.{number + 1}.1",
            "SOPInstanceUID": f"1.2.{number + 1}.1.1",
            "StudyDate": f"202601{1 + number // per_day:02}",
            "StudyTime": f"{8 + number % per_day % 12:02}{number % 60:02}00",
            "AccessionNumber": f"A{number}",
            "PatientID": f"P{number}",
        }.items():
            setattr(image, name, value)
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        yield image


@contextmanager
def serving(pacs):
    """Run it; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urlsplit(self.path)
            status, headers, body = pacs.answer(url.path, dict(parse_qsl(url.query)), self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@contextmanager
def asked(pacs):
    """Yields our client of it."""
    with serving(pacs) as url:
        yield Dicomweb(DicomwebArchive(kind="dicomweb", name="pacs", url=url, timeout_seconds=5), 1 << 20)
