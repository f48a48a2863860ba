"""How long a reader waits: from C-STORE's last byte to the results in Orthanc, against the pipeline alone.

The service and its archive are processes of their own, as in a hospital. What is waited for on purpose,
``quiet_seconds``, does not count. The pipeline alone reads the same image from the disk and writes the same objects.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, evt

from benchmarks._harness import ROOT, Missing, Plan, Row, folder, in_turn, ratios
from cxr_dicom import synthetic
from tests.integration import rig

ROW = "waiting: C-STORE's last byte to results in Orthanc by {}, less quiet_seconds, against the pipeline"
QUIET_SECONDS, PATIENCE = 1.0, 120.0
ASKING_SECONDS = 0.02  # between two questions to Orthanc, each of which takes time from what is measured
IMAGES, SHAPE = 5, (2000, 1700)
MODELS = ("offline-anatomy", "lung-opacity")
Serving = Callable[[Path, rig.Archive], AbstractContextManager[int]]


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each way into the archive."""
    count, shape = (2, (256, 256)) if plan.is_quick else (IMAGES, SHAPE)
    with folder() as place:
        for number in range(count):
            images = [synthetic.radiograph(*shape, seed=number, study=str(number))]
            synthetic.write_study(place / "images" / str(number), images)
        for way, make in WAYS.items():
            row = ROW.format(way)
            try:
                asked = partial(waited, place, partial(serving, make))
                pairs = in_turn(asked, lambda: plan.apart(alone, str(place)), plan.repeats)
            except rig.MissingError as error:
                yield Missing(row, str(error))
                continue
            yield ratios(row, pairs, at_most=1.3)


def waited(place: Path, serving: Serving, images: str = "images") -> float:
    """Seconds until all objects of an image are in Orthanc, by the median of all images but the first."""
    with _orthanc(place) as archive, serving(place, archive) as port:
        spent, objects = [], 0
        for path in sorted((place / images).rglob("*.dcm")):
            last_byte = _send(port, dcmread(path))
            if not spent:  # how many objects an image gets is not known yet: nothing comes any more
                objects = _settled(archive)
                expected = objects
                spent.append(0.0)
                continue
            expected += objects
            time.sleep(QUIET_SECONDS)
            while (there := _instances(archive)) < expected:
                if time.perf_counter() - last_byte > PATIENCE:
                    raise RuntimeError(f"expected {expected} objects in Orthanc, found {there}")
                time.sleep(ASKING_SECONDS)
            spent.append(time.perf_counter() - last_byte - QUIET_SECONDS)
    return median(spent[1:])


def alone(place: str) -> float:
    """Be the process of the pipeline: seconds for an image, by the median of all but the first."""
    from cxr_dicom.ingest.folder import scan
    from cxr_dicom.pipeline import Pipeline

    out = Path(place) / "out"
    studies, _ = scan([Path(place) / "images"])
    pipeline = Pipeline(_settings(place))
    spent = []
    for study in studies:
        start = time.perf_counter()
        pipeline.process(study, out / study.study_instance_uid)
        spent.append(time.perf_counter() - start)
    return median(spent[1:])


def _settings(place: str) -> Any:
    from cxr_dicom.config import Settings

    return Settings.model_validate({"models": {"names": MODELS}}).decided(service=True)


@contextmanager
def _orthanc(place: Path) -> Iterator[rig.Archive]:
    made = place / "orthanc"
    made.mkdir(exist_ok=True)
    with rig.orthanc(made) as archive:
        for study in json.loads(_get(f"{archive.url}/studies")):  # of the measurement before
            urllib.request.urlopen(urllib.request.Request(f"{archive.url}/studies/{study}", method="DELETE")).close()
        yield archive


def by_stow(archive: rig.Archive) -> str:
    """Describe Orthanc as a DICOMweb destination."""
    return f'kind = "dicomweb"\nurl = "{archive.url}/dicom-web/"'


def by_stow_deflated(archive: rig.Archive) -> str:
    """Describe Orthanc as a DICOMweb destination that takes deflated objects as they are."""
    return f"{by_stow(archive)}\ndeflated = true"


def by_store(archive: rig.Archive) -> str:
    """Describe Orthanc as a C-STORE destination."""
    about = f'address = "127.0.0.1"\nport = {archive.dicom_port}\nae_title = "{archive.ae_title}"'
    return f'kind = "dicom"\n{about}'


WAYS = {"STOW-RS": by_stow, "STOW-RS with deflated = true": by_stow_deflated, "C-STORE": by_store}


@contextmanager
def serving(make: Callable[[rig.Archive], str], place: Path, archive: rig.Archive) -> Iterator[int]:
    """Run the service with the destination that ``make`` describes; yield its port."""
    port, spool = rig.free_port(), place / f"spool-{time.monotonic_ns()}"
    settings = f"""
        [spool]
        folder = "{spool}"
        min_free_mb = 0
        [listener]
        port = {port}
        [assembly]
        quiet_seconds = {QUIET_SECONDS}
        [models]
        names = {json.dumps(MODELS)}
        [[destinations]]
        name = "orthanc"
    """
    path = place / "cxr-dicom.toml"
    path.write_text(f"{settings}\n{make(archive)}\n")
    command = [sys.executable, "-m", "cxr_dicom", "serve", "--config", str(path)]
    with (place / "serve.log").open("w") as log, subprocess.Popen(command, cwd=ROOT, stderr=log) as process:
        try:
            while "listener_started" not in (place / "serve.log").read_text():
                if process.poll() is not None:
                    raise RuntimeError("the service ended")
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def _send(port: int, image: Dataset) -> float:
    """Send an image; return when its last byte went."""
    sent = [0.0]
    entity = AE("MODALITY")
    entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    note = [(evt.EVT_DATA_SENT, lambda event: sent.append(time.perf_counter()))]
    association = entity.associate("127.0.0.1", port, ae_title="CXRDICOM", evt_handlers=note)
    if association.send_c_store(image).get("Status") != 0:
        raise RuntimeError("the image was not taken")
    last_byte = sent[-1]
    association.release()
    return last_byte


def _settled(archive: rig.Archive) -> int:
    """Wait until objects came and no more do; return their number."""
    count, since = 0, time.monotonic()
    while count == 0 or time.monotonic() - since < 3:
        now = _instances(archive)
        if now != count:
            count, since = now, time.monotonic()
        time.sleep(0.05)
    return count


def _instances(archive: rig.Archive) -> int:
    return int(json.loads(_get(f"{archive.url}/statistics"))["CountInstances"])


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())
