"""What experts say in an archive: their segmentations, structure sets and reports of the studies of a run.

Any archive of ``[poller]`` can be asked that sends to whoever asks: DICOMweb, C-GET, and those of other packages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from cxr_dicom.config import Settings
from cxr_dicom.config.service import ArchiveTable, QueryRetrieveArchive
from cxr_dicom.errors import CxrDicomError, FetchError, SettingsError
from cxr_dicom.ingest.archive import Archive, RemoteInstance, RemoteStudy, build_archive
from cxr_dicom.ingest.manifest.attempts import tried

MODALITIES = ("SEG", "RTSTRUCT", "SR")
MAX_INSTANCES = 1000  # of a study
_SOP_CLASSES = (
    SegmentationStorage,
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation Storage, which pydicom does not name
    RTStructureSetStorage,
    EnhancedSRStorage,
    ComprehensiveSRStorage,
    Comprehensive3DSRStorage,
)


def fetch(
    described: ArchiveTable,
    settings: Settings,
    studies: Iterable[str],
    folder: Path,
    report_progress: Callable[[str], None] = lambda what: None,
) -> Counter[str]:
    """Fetch what experts say of ``studies`` into ``folder``.

    Parameters
    ----------
    described
        The archive.
    settings
        With the listener, as which C-GET asks.
    studies
        Study Instance UIDs.
    folder
        It is empty, and gets a file for each instance.
    report_progress
        Called with each study.

    Returns
    -------
    Counter
        Why an instance was not given -> instances.

    Raises
    ------
    CxrDicomError
        If the archive does not answer, or can only send to a listener.
    """
    if isinstance(described, QueryRetrieveArchive) and described.retrieve == "move":
        raise SettingsError(f'{described.name}: expected retrieve = "get" or DICOMweb: C-MOVE sends to a listener')
    listener = settings.listener.model_copy(update={"sop_classes": tuple(map(str, _SOP_CLASSES))})
    archive = build_archive(described, listener)
    refused: Counter[str] = Counter()
    number = 0
    for uid in studies:
        report_progress(uid)
        found = tried(described.name, partial(_instances, archive, uid))
        for instance in found:
            path = folder / f"{number:06}.dcm"
            number += 1
            try:
                tried(described.name, partial(archive.fetch, instance, partial(_write, path)))
            except FetchError:
                refused["not given by the archive"] += 1
                path.unlink(missing_ok=True)
                continue
            if not path.exists():
                refused["not sent by the archive"] += 1
    return refused


def _instances(archive: Archive, uid: str) -> Sequence[RemoteInstance]:
    found: list[RemoteInstance] = []
    for instance in archive.instances(RemoteStudy(study_instance_uid=uid), MODALITIES):
        if len(found) == MAX_INSTANCES:
            raise CxrDicomError(f"{uid}: expected at most {MAX_INSTANCES} segmentations and reports, found more")
        found.append(instance)
    return found


def _write(path: Path, chunks: Iterable[bytes], instance: RemoteInstance) -> None:
    with path.open("wb") as file:
        file.writelines(chunks)
