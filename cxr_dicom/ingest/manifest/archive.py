"""Studies of a DICOMweb server: found by QIDO-RS, fetched by WADO-RS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.config.service import DicomwebArchive, HttpAccess
from cxr_dicom.errors import ConnectionFailedError, FetchError, ImageError
from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy
from cxr_dicom.ingest.folder import read_instance
from cxr_dicom.ingest.manifest import locations
from cxr_dicom.ingest.manifest.attempts import tried
from cxr_dicom.ingest.manifest.entries import MODALITIES, Entry

if TYPE_CHECKING:
    from cxr_dicom.ingest.archives.dicomweb import Dicomweb

_MAX_BYTES = 512 << 20  # of one instance


def entries(access: HttpAccess, query: Mapping[str, str]) -> list[Entry]:
    """Ask for the studies that a query matches.

    Raises
    ------
    FetchError
        If the server does not answer as it should.
    """
    archive = _archive(access)
    studies = tried(access.url, lambda: list(archive.matching(query, MODALITIES)))
    return [_entry(access, study) for study in studies]


def _entry(access: HttpAccess, study: RemoteStudy) -> Entry:
    only_radiographs = set(study.modalities) <= set(MODALITIES)
    return Entry(
        key=study.study_instance_uid,
        sources=(locations.dicomweb(access.url, study.study_instance_uid),),
        instances=study.instances if only_radiographs else None,
        modalities=tuple(sorted(study.modalities)),
    )


def fetch(sources: Iterable[str], folder: Path, access: HttpAccess | None) -> dict[Path, str]:
    """Fetch the radiographs of studies, series and instances, and say where each file is from.

    Raises
    ------
    FetchError
        If one cannot be fetched, or there is none.
    """
    files: dict[Path, str] = {}
    for source in sources:
        base, uids = locations.split_dicomweb(source)
        is_ours = access is not None and access.url.rstrip("/") == base
        archive = _archive(access if access and is_ours else HttpAccess(url=base))
        images = tried(source, partial(_images, archive, uids))
        if not images:
            raise FetchError(f"{source}: expected images of modality {' or '.join(MODALITIES)}, found none")
        for image in images:
            path = folder / f"{len(files):06}"
            tried(source, partial(archive.fetch, image, partial(_write, path)))
            files[path] = base
    return files


def _archive(access: HttpAccess) -> Dicomweb:
    from cxr_dicom.ingest.archives.dicomweb import Dicomweb

    access_fields = access.model_dump(include=set(HttpAccess.model_fields), exclude_unset=True)
    return Dicomweb(DicomwebArchive(kind="dicomweb", name="origin", **access_fields), _MAX_BYTES)


def _images(archive: Dicomweb, uids: list[str]) -> list[RemoteInstance]:
    study, *below = uids
    images = archive.instances(RemoteStudy(study_instance_uid=study), MODALITIES)
    return [image for image in images if [image.series_instance_uid, image.sop_instance_uid][: len(below)] == below]


def _write(path: Path, chunks: Iterable[bytes], image: RemoteInstance) -> None:
    """Write a file, which must be the image that was asked for.

    Raises
    ------
    ConnectionFailedError
        If it is another one, or none.
    """
    with path.open("wb") as file:
        file.writelines(chunks)
    try:
        found = read_instance(path)
    except ImageError as error:
        raise ConnectionFailedError("WRONG_ANSWER", str(error)) from error
    asked = (image.study_instance_uid, image.sop_instance_uid)
    if found is None or (found.study_instance_uid, found.sop_instance_uid) != asked:
        raise ConnectionFailedError("WRONG_ANSWER", "expected the image that was asked for, got another")
