"""Destination ``folder``: copies below a folder, one folder per study."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cxr_dicom.config.service import FolderDestination
from cxr_dicom.deliver.base import receipt
from cxr_dicom.dicom.files import read_header
from cxr_dicom.errors import SettingsError
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import atomic


class Folder:
    """``<path>/<StudyInstanceUID>/<SOPInstanceUID>.dcm``; a file is there whole or not at all."""

    def __init__(self, settings: FolderDestination) -> None:
        self.name = settings.name
        self._path = settings.path
        self._mode = atomic.FILE_OF_ALL if settings.shared else atomic.FILE_OF_OWNER

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Copy each object durably."""
        for encoded in objects:
            try:
                _copy(encoded.path, self._target(encoded), self._mode)
            except OSError as error:
                yield receipt(self.name, encoded, DeliveryStatus.FAILED, type(error).__name__, error.strerror or "")
            else:
                yield receipt(self.name, encoded, DeliveryStatus.ACCEPTED, "COPIED")

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """See whether the copies are still there."""
        for encoded in objects:
            is_there = self._target(encoded).is_file()
            yield receipt(
                self.name, encoded, DeliveryStatus.COMMITTED if is_there else DeliveryStatus.REFUSED, "FOLDER"
            )

    def check(self) -> str:
        """See whether the folder can be written."""
        parent = next(path for path in (self._path, *self._path.absolute().parents) if path.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise SettingsError(f"destinations.path = {self._path}: cannot be written")
        return "can be written"

    def _target(self, encoded: EncodedObject) -> Path:
        study = str(read_header(encoded.path, ("StudyInstanceUID",)).dataset.StudyInstanceUID)
        return self._path / study / f"{encoded.sop_instance_uid}.dcm"


def build(settings: FolderDestination, open_commitment: Callable[[str], None]) -> Folder:
    """Make the destination."""
    return Folder(settings)


def _copy(origin: Path, target: Path, mode: int) -> None:
    atomic.sweep(target.parent)
    with origin.open("rb") as source, atomic.open_bytes(target, mode) as copy:
        shutil.copyfileobj(source, copy)
