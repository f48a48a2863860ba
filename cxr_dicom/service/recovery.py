"""What a start finds: files that the ledger does not know are taken in again or set aside, never deleted.

A crash leaves such files, and so does a ledger that is missing, older than its files, or made anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cxr_dicom.dicom.pixels import is_whole
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import read_instance
from cxr_dicom.records import StoredInstance, StudyState
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import FILE_NAME, Arrival, Ledger
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import atomic, telemetry
from cxr_dicom.system.digest import sha256

_AT_REST = (None, StudyState.SENT, StudyState.COMMITTED, StudyState.IGNORED)  # nothing will ask for an object again


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """How many files the ledger did not know, and what became of them."""

    taken_in: int
    set_aside: int


def recover(spool: Spool, ledger: Ledger, audit: AuditTrail) -> Found:
    """Let ledger and files agree again; only for the one service that uses the spool, before it does anything.

    An image is taken in as when it came. An object stays where it is while its study may make it again, for the
    bytes may have been sent. All else is set aside.
    """
    spool.clear_parts()
    delete_discarded(spool, ledger)
    unknown = sorted(spool.files() - ledger.stories.paths())
    images = {path: _identified(path) for path in unknown if _kind(spool, path) == "sources"}
    ways = audit.ways({image.sop_instance_uid for image in images.values() if image})
    taken_in, left = 0, []
    for path, instance in images.items():
        sender, called_ae_title = ways.get(instance.sop_instance_uid if instance else "", (None, None))
        if instance and _take_in(ledger, replace(instance, sender=sender, called_ae_title=called_ae_title)):
            audit.write(
                "instance_taken_in",
                study_instance_uid=instance.study_instance_uid,
                sop_instance_uid=instance.sop_instance_uid,
            )
            taken_in += 1
        else:
            left.append(path)
    objects = [path for path in unknown if path not in images]
    left += [path for path in objects if ledger.stories.state(path.parent.name) in _AT_REST]
    for path in left:
        spool.set_aside(path)
    if left:
        telemetry.event("files_set_aside", level=logging.WARNING, files=len(left))
    return Found(taken_in=taken_in, set_aside=len(left))


def delete_discarded(spool: Spool, ledger: Ledger, *, older_than_seconds: float = 0) -> None:
    """Delete the files that the ledger says are nobody's any more."""
    before = time.time() - older_than_seconds
    with ledger.transaction():
        old = [path for path in ledger.stories.discarded() if _modified(path) <= before]
        spool.delete(old)
        ledger.stories.deleted(old)


def rebuild(spool: Spool) -> Found:
    """Put the ledger aside and make a new one of the files; as `recover`, for a spool that is locked.

    Raises
    ------
    CxrDicomError
        If the new one cannot be made.
    """
    suffix = time.strftime(".%Y%m%dT%H%M%S.old", time.gmtime())
    for path in _files_of_ledger(spool.folder):
        atomic.place(path, path.with_name(path.name + suffix))
    ledger = Ledger(spool.folder)
    try:
        return recover(spool, ledger, AuditTrail(spool.folder))
    finally:
        ledger.close()


def _files_of_ledger(folder: Path) -> Iterable[Path]:
    return [path for end in ("", "-wal", "-shm") if (path := folder / f"{FILE_NAME}{end}").exists()]


def _kind(spool: Spool, path: Path) -> str:
    return path.relative_to(spool.folder).parts[0]


def _identified(path: Path) -> StoredInstance | None:
    """Read who an image is; None for what the spool did not write so."""
    try:
        if path.is_symlink() or not path.is_file():
            return None
        instance = read_instance(path)
        if instance is None:
            return None
        instance = replace(instance, sha256=sha256(path))
    except (ImageError, OSError):
        return None
    written = (instance.study_instance_uid, f"{instance.sop_instance_uid}.{(instance.sha256 or '')[:16]}.dcm")
    return instance if (path.parent.name, path.name) == written else None


def _take_in(ledger: Ledger, instance: StoredInstance) -> bool:
    """Add an image to the ledger, unless what the ledger has is newer or better; tell whether it was added."""
    came = ledger.stories.received_at(instance.sop_instance_uid)
    if came is not None:
        kept = ledger.studies.path_of(instance.sop_instance_uid)
        if _modified(instance.path) < came or (kept and is_whole(kept) and not is_whole(instance.path)):
            return False
    return ledger.studies.add(instance, instance.sha256 or "") is Arrival.NEW


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
