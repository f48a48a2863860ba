"""Others that do the same job: from C-STORE's last byte to the results in Orthanc, less the quiet time of both.

dicom-ai-router takes CT alone, so it gets the pixels as CT. It sends them to a model over HTTP, here the same
networks, and makes a text report and a picture; cxr-dicom makes six objects.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from pydicom.uid import CTImageStorage

from benchmarks import waiting
from benchmarks._harness import ROOT, Missing, Plan, Row, folder, in_turn, ratios
from benchmarks.waiting import IMAGES, MODELS, QUIET_SECONDS, SHAPE
from cxr_dicom import synthetic
from tests.integration import rig

ROW = "peers: C-STORE's last byte to results in Orthanc, against dicom-ai-router with the same networks"


def measure(plan: Plan) -> Iterator[Row]:
    """Yield the row."""
    if find_spec("airouter") is None:
        yield Missing(ROW, "pip install dicom-ai-router")
        return
    count, shape = (2, (256, 256)) if plan.is_quick else (IMAGES, SHAPE)
    with folder() as place:
        for number in range(count):
            image = synthetic.radiograph(*shape, seed=number, study=str(number))
            synthetic.write_study(place / "images" / str(number), [image])
            image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
            image.Modality = "CT"
            synthetic.write_study(place / "as_ct" / str(number), [image])
        try:
            pairs = in_turn(
                lambda: waiting.waited(place, partial(waiting.serving, waiting.by_stow)),
                lambda: waiting.waited(place, routing, "as_ct"),
                plan.repeats,
            )
        except rig.MissingError as error:
            yield Missing(ROW, str(error))
            return
        yield ratios(ROW, pairs, at_most=1)


@contextmanager
def routing(place: Path, archive: rig.Archive) -> Iterator[int]:
    """Run the router and its model; yield the router's port."""
    port, model = rig.free_port(), rig.free_port()
    router = {
        "ae_title": "CXRDICOM",
        "port": port,
        "study_quiet_seconds": QUIET_SECONDS,
        "workdir": str(place / f"router-{time.monotonic_ns()}"),
        "bind_address": "127.0.0.1",
    }
    settings = {
        "router": router,
        "pacs": {"ae_title": archive.ae_title, "host": "127.0.0.1", "port": archive.dicom_port},
        "ai_endpoints": {"model": {"url": f"http://127.0.0.1:{model}/"}},
        "rules": [{"name": "all", "match": {"Modality": "CT"}, "model": "model"}],
        "deid": {},
    }
    path = place / "router.yaml"
    path.write_text(json.dumps(settings))  # which is YAML
    environment = {**os.environ, "AIROUTER_DEID_SALT": "0123456789abcdef" * 4}
    commands = (
        [sys.executable, "-m", "benchmarks._peer_model", str(model), *MODELS],
        [sys.executable, "-m", "airouter", "serve", "--config", str(path)],
    )
    running = [subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) for command in commands]
    try:
        for listening in (model, port):
            _wait_for(listening)
        yield port
    finally:
        for process in running:
            process.terminate()
            process.wait()


def _wait_for(port: int, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until:
            raise RuntimeError("the router or its model does not listen")
        time.sleep(0.1)
