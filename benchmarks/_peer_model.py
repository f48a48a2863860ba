"""The model behind a router: the networks and measurements of our pipeline, over HTTP.

``python -m benchmarks._peer_model PORT MODEL...`` takes one radiograph in a form, and answers with findings in JSON.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO

from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation

import cxr_dicom

pipeline = cxr_dicom.Pipeline(models=sys.argv[2:])


class Model(BaseHTTPRequestHandler):
    """Answers one request after the other."""

    def do_POST(self) -> None:
        """Analyse the image."""
        form = self.rfile.read(int(self.headers["Content-Length"]))
        image = dcmread(BytesIO(form.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]))
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        image.Modality = "DX"
        found = pipeline.analyse(image).measurements
        lines = [[name, str(number)] for name, number in found.items()]
        answer = json.dumps({"model": "m", "model_version": "1", "result": "found", "summary_lines": lines}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


HTTPServer(("127.0.0.1", int(sys.argv[1])), Model).serve_forever()
