"""What the tests of the service share: free ports, settings, a listener with all that is behind it."""

import os
import shutil
import subprocess
import sysconfig
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE

from cxr_dicom.config import Settings
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.records import MANUFACTURER, EncodedObject, InstanceResult, ObjectKind, Outcome, StudyResult
from cxr_dicom.scp import Listener
from cxr_dicom.select import select
from cxr_dicom.service.service import Service
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from cxr_dicom.synthetic.archive import Archive
from cxr_dicom.system import requestor
from tests.integration.rig import free_port, listens


def tool(name):
    """Return the path of a program, or skip; under CI a program that is missing is a failure."""
    own = sysconfig.get_path("scripts")  # pynetdicom brings programs of the same names
    places = [place for place in os.get_exec_path() if place != own]
    path = shutil.which(name, path=os.pathsep.join([*places, "/usr/sbin"]))
    if path is None:
        problem = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    return path


def settings(folder: Path, **tables) -> Settings:
    """Make settings of a service in ``folder``; each table is given as a dict."""
    tables["spool"] = {"folder": folder, "min_free_mb": 0} | tables.get("spool", {})
    tables["listener"] = {"port": free_port()} | tables.get("listener", {})
    return as_loaded(tables)


def as_loaded(tables) -> Settings:
    """Validate settings twice, as `config.load` does: a default then looks like what was set."""
    return Settings.model_validate(Settings.model_validate(tables).model_dump())


def wait_for(condition, seconds=60.0):
    """Wait until ``condition()`` is true, and return its value."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"did not happen within {seconds} s"
        time.sleep(0.05)
    return value


@dataclass
class Listening:
    settings: Settings
    ledger: Ledger
    spool: Spool
    assembly: Assembly
    reports: list
    listener: Listener

    @property
    def port(self):
        return self.settings.listener.port

    def files(self, folder="sources"):
        return sorted((self.spool.folder / folder).glob("*/*" if folder != "part" else "*"))

    def audit(self):
        path = self.spool.folder / "audit.jsonl"
        return path.read_text() if path.exists() else ""


@contextmanager
def listening(folder: Path, **tables):
    """Run a listener and what stands behind it."""
    made = settings(folder, **tables)
    with ExitStack() as stack:
        spool, ledger = Spool(made), Ledger(made.spool.folder)
        stack.callback(ledger.close)
        assembly = Assembly(made.assembly)
        reports = []
        intake = Intake(spool, ledger, assembly, AuditTrail(spool.folder), made.listener.sop_classes)
        listener = Listener(made.listener, intake, assembly, lambda *report: reports.append(report) or True)
        listener.start()
        stack.callback(listener.stop, 0.5)
        yield Listening(
            settings=made, ledger=ledger, spool=spool, assembly=assembly, reports=reports, listener=listener
        )


class _Sender(AE):
    """pynetdicom's, without its race for an answer that comes at once."""

    def _create_socket(self, assoc, *access):
        assoc.__class__, assoc._reactor_checkpoint = requestor._Association, requestor._Turn()
        return super()._create_socket(assoc, *access)


@contextmanager
def associated(port, *contexts, calling="MODALITY", called="CXRDICOM", tls=None):
    """Open an association from a test; it may or may not be established."""
    entity = _Sender(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = 10
    for context in contexts:
        entity.add_requested_context(*context if isinstance(context, tuple) else (context,))
    association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=(tls, "localhost") if tls else None)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def send(port, *datasets, **options):
    """Send data sets by C-STORE and return the statuses."""
    contexts = {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}
    with associated(port, *contexts, **options) as association:
        assert association.is_established
        return [association.send_c_store(dataset).get("Status") for dataset in datasets]


def is_acknowledged(port, dataset):
    """Send a data set to a service that may be killed meanwhile; tell whether it said that it has it."""
    with associated(port, (dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)) as association:
        try:
            return association.is_established and association.send_c_store(dataset).get("Status") == 0x0000
        except (RuntimeError, ValueError):  # killed in between
            return False


def certificate(folder: Path, name: str, *, authority=None, expired=False, host="localhost", address="127.0.0.1"):
    """Make a key and a certificate of this machine in PEM with openssl; return (certificate, key)."""
    key, pem, request = folder / f"{name}.key", folder / f"{name}.pem", folder / f"{name}.csr"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{host},IP:{address}"]
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key]
    if authority is None:
        _openssl(*new, "-x509", "-days", "1", "-out", pem, *subject)
        return pem, key
    _openssl(*new, "-out", request, *subject)
    (folder / "index.txt").touch()
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = x\n[x]\ndatabase = {folder}/index.txt\nnew_certs_dir = {folder}\nrand_serial = yes\n"
        "default_md = sha256\npolicy = any\ncopy_extensions = copyall\nunique_subject = no\n"
        "[any]\ncommonName = supplied\n"
    )
    dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"] if expired else ["-days", "1"]
    sign = ["ca", "-batch", "-notext", "-config", folder / "ca.cnf", "-cert", authority[0], "-keyfile", authority[1]]
    _openssl(*sign, "-in", request, "-out", pem, *dates)
    return pem, key


def _openssl(*arguments):
    subprocess.run([tool("openssl"), *arguments], check=True, capture_output=True)


class FastPipeline:
    """Selects as the real pipeline does, and makes one small object per eligible image, without a model."""

    models = ()

    def __init__(self, settings):
        self._settings = settings

    def job_key(self, study):
        return repr(sorted(i.path.name for i in study.instances))

    def process(self, study, folder):
        selection = select(study, self._settings.select)
        results = [
            InstanceResult(
                path=image.instance.path,
                outcome=Outcome.PROCESSED,
                instance=image.instance,
                objects=(_object(image, folder),),
            )
            for image in selection.images
        ]
        results += [
            InstanceResult(
                path=each.path, outcome=each.outcome, instance=each.instance, reason=each.reason, detail=each.detail
            )
            for each in selection.skipped
        ]
        return StudyResult(
            study_instance_uid=study.study_instance_uid,
            job_key=self.job_key(study),
            instances=tuple(results),
            seconds={"select": 0.01},
        )

    def close(self):
        pass


class SlowPipeline(FastPipeline):
    """Takes a while, so that a stop or a kill meets it at work."""

    def process(self, study, folder):
        result = super().process(study, folder)
        time.sleep(0.2)
        return result


def derived_uid(source):
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, source).int}"


def as_object(path, dataset, **other):
    """Return what an encoder says of a file that it wrote."""
    usual = {"kind": ObjectKind.SECONDARY_CAPTURE, "source_sop_instance_uids": (), "model": None}
    return EncodedObject(
        path=path,
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        series_instance_uid=dataset.SeriesInstanceUID,
        **(usual | other),
    )


def _object(image, folder):
    source = image.instance.sop_instance_uid
    made = deepcopy(image.header)
    for group in [each.tag for each in made if each.tag.group == 0x28]:
        del made[group]
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID, made.SeriesInstanceUID = derived_uid(source), derived_uid(f"series {source}")
    made.Modality, made.ConversionType, made.Manufacturer = "OT", "WSD", MANUFACTURER
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = 2
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.add_new("PixelData", "OB", bytes(4))
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{made.SOPInstanceUID}.dcm"
    made.save_as(path, enforce_file_format=True)
    return as_object(path, made, source_sop_instance_uids=(source,))


@contextmanager
def serving(folder: Path, *, build=FastPipeline, **tables):
    """Run a whole service in this process; its workers are processes of their own."""
    tables["assembly"] = {"quiet_seconds": 0.3} | tables.get("assembly", {})
    made = settings(folder, **tables)
    spool = Spool(made)
    spool.lock()
    service = Service(made, spool, build=build)
    end = threading.Event()
    thread = threading.Thread(target=service.run, args=(end,))
    thread.start()
    try:
        yield service
    finally:
        end.set()
        thread.join()
        service.stop()
        spool.unlock()


def state_of(service, study):
    story = service.ledger.stories.show(study)
    return story and story["state"]


def wait_for_state(service, study, *states, seconds=60.0):
    return wait_for(lambda: state_of(service, study) in states, seconds)


@contextmanager
def archive(*, status=0x0000, contexts=(SecondaryCaptureImageStorage,), port=0, report_to=None):
    """Run a small archive in this process; yields (port, received by SOP Instance UID)."""
    answer = status if callable(status) else lambda number: status
    with Archive(port, sop_classes=contexts, answer=answer, report_to=report_to) as running:
        yield running.port, running.received


@contextmanager
def storescp(folder, port=0):
    """DCMTK's archive, which does not know the LABELMAP class unless told."""
    port, program = port or free_port(), tool("storescp")
    folder.mkdir()
    with (folder.parent / "storescp.log").open("w") as log:
        process = subprocess.Popen([program, "-aet", "ARCHIVE", "-od", folder, str(port)], stdout=log, stderr=log)
    try:
        wait_for(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait(10)
