"""``cxr-dicom demo --network``: modality, service and archive on this machine, and a study on its way."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.service.service import Service
    from cxr_dicom.synthetic.archive import Archive

_FINAL = frozenset({"COMMITTED", "IGNORED", "HELD", "DEAD"})
_TIMEOUT_SECONDS = 300


def show(out: Path, samples: Mapping[Path, str]) -> int:
    """Send the samples through a service to an archive, print what happens, and return the exit code.

    Parameters
    ----------
    out
        Folder of the spool.
    samples
        Files, and what each is.
    """
    from cxr_dicom.service.service import Service
    from cxr_dicom.store.spool import Spool
    from cxr_dicom.synthetic.archive import Archive
    from cxr_dicom.system import telemetry

    telemetry.configure(-1)
    port = _free_port()
    with Archive(report_to=(("127.0.0.1", port), "CXRDICOM")) as archive:
        settings = _settings(out, port, archive.port)
        spool = Spool(settings)
        spool.lock()
        click.echo(f"archive ARCHIVE on 127.0.0.1:{archive.port}; loading models for CXRDICOM on 127.0.0.1:{port}")
        service = Service(settings, spool)
        try:
            sent = {path: _send(path, port) for path in samples}
            for path, status in sent.items():
                click.echo(f"sent {path.name} by C-STORE: 0x{status:04X}")
            _watch(service)
            return _print_stories(service, archive, samples)
        finally:
            service.stop()
            spool.unlock()


def _settings(out: Path, port: int, archive_port: int) -> Settings:
    from cxr_dicom.config import Settings

    return Settings.model_validate(
        {
            "spool": {"folder": out / "spool", "min_free_mb": 100},
            "listener": {"port": port},
            "assembly": {"quiet_seconds": 1},
            "destinations": [
                {
                    "kind": "dicom",
                    "name": "archive",
                    "address": "127.0.0.1",
                    "port": archive_port,
                    "ae_title": "ARCHIVE",
                    "verify": "commitment",
                }
            ],
        }
    )


def _send(path: Path, port: int) -> int:
    """Send a file as a modality does; return the status."""
    from pydicom import dcmread
    from pynetdicom.presentation import build_context

    from cxr_dicom.config.service import DicomAccess
    from cxr_dicom.dicom.private_parts import send_files_byte_for_byte
    from cxr_dicom.system.network import association

    access = DicomAccess(address="127.0.0.1", port=port, ae_title="CXRDICOM", calling_ae_title="MODALITY")
    meta = dcmread(path, stop_before_pixels=True).file_meta
    with association(access, [build_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)]) as opened:
        send_files_byte_for_byte()
        return int(opened.send_c_store(path).Status)


def _watch(service: Service) -> None:
    """Print each change of a study's state until all are at their end."""
    states: dict[str, str] = {}
    until = time.monotonic() + _TIMEOUT_SECONDS
    while not (states and _FINAL.issuperset(states.values())) and time.monotonic() < until:
        service.tick()
        for row in service.ledger.stories.summaries():
            uid, state = row["study_instance_uid"], row["state"]
            if states.get(uid) != state:
                states[uid] = state
                click.echo(f"{time.strftime('%H:%M:%S')} study {uid}: {state} {row['reason']}".rstrip())
        time.sleep(0.1)


def _print_stories(service: Service, archive: Archive, samples: Mapping[Path, str]) -> int:
    from pydicom import dcmread
    from rich.console import Console
    from rich.table import Table

    table = Table("Sent", "", "Outcome", "Made, and what the archive said; or why not")
    names = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in samples}
    stories = [service.ledger.stories.show(row["study_instance_uid"]) for row in service.ledger.stories.summaries()]
    for story in filter(None, stories):
        for image in story["instances"]:
            path = names[image["sop_instance_uid"]]
            about = [
                object_row for object_row in story["objects"] if image["sop_instance_uid"] in object_row["sources"]
            ]
            made = "\n".join(
                f"{_words(object_row['kind'])}: {object_row['deliveries'][0]['state']}" for object_row in about
            )
            why = f"{image['reason']}: {image['detail']}" if image["reason"] else made
            table.add_row(path.name, samples[path], image["outcome"], why)
    console = Console()
    console.print(table)
    objects = [object_row for story in stories if story for object_row in story["objects"]]
    committed = all(delivery["state"] == "committed" for object_row in objects for delivery in object_row["deliveries"])
    arrived = {object_row["sop_instance_uid"] for object_row in objects} == set(archive.received)
    console.print(f"{len(archive.received)} objects are in the archive. Not for clinical use.", highlight=False)
    return 0 if objects and committed and arrived else 3


def _words(name: str) -> str:
    return name.replace("_", " ")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
