"""The contract between the poller and an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.plugins import ARCHIVES

if TYPE_CHECKING:
    from cxr_dicom.config.service import ArchiveTable as Described
    from cxr_dicom.config.service import ListenerSettings


class IncompleteAnswerError(ConnectionFailedError):
    """An archive answered, and there is reason to believe that it has more than it says; raised after what it said."""

    def __init__(self, detail: str) -> None:
        super().__init__("INCOMPLETE", detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteStudy:
    """A study that an archive has."""

    study_instance_uid: str
    study_date: str = ""  # YYYYMMDD, or empty
    instances: int | None = None  # as the archive states; None: it does not state it
    modalities: tuple[str, ...] = ()  # of its series, as far as the archive states them


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteInstance:
    """An instance that an archive has."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str = ""  # empty: the archive does not state it


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyQuery:
    """Which studies to look for; exactly one field is given."""

    since: str | None = None  # Study Date YYYYMMDD, inclusive
    study_instance_uid: str | None = None
    accession_number: str | None = None

    def keys(self) -> dict[str, str]:
        """Return the key of a query, by keyword, and what it has to match."""
        if self.study_instance_uid:
            return {"StudyInstanceUID": self.study_instance_uid}
        if self.accession_number:
            return {"AccessionNumber": self.accession_number}
        return {"StudyDate": f"{self.since}-"}


Store = Callable[[Iterable[bytes], RemoteInstance], None]


class Archive(Protocol):
    """An archive that can be queried for studies. It is built by ``build(table, listener)``.

    An implementation must return valid UIDs of what was asked for, and instances as the archive has them, whole or not
    at all. A failure of the archive is a `ConnectionFailedError`, of one study or instance a `FetchError`; no error
    text holds anything of the patient.
    The module's ``SETTINGS`` is the table of settings, a `config.service.ArchiveTable` with a ``kind`` of its name.
    """

    name: str

    def studies(self, query: StudyQuery, modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Yield the studies with one of the modalities, each once.

        Raises
        ------
        IncompleteAnswerError
            At the end, if the archive is known to have more.
        """

    def instances(self, study: RemoteStudy, modalities: Sequence[str]) -> Iterator[RemoteInstance]:
        """Yield the instances of a study's series with one of the modalities."""

    def fetch(self, instance: RemoteInstance, store: Store) -> None:
        """Have an instance sent, to ``store`` or to our own listener.

        Raises
        ------
        FetchError
            If the archive answers but does not deliver it.
        """

    def check(self) -> str:
        """Return a few words that confirm that the archive answers.

        Raises
        ------
        CxrDicomError
            If it does not.
        """


def build_archive(described: Described, listener: ListenerSettings) -> Archive:
    """Make the archive that a table ``[[poller.archives]]`` describes.

    Parameters
    ----------
    described
        The table.
    listener
        Our own listener, to which an archive may send.
    """
    from cxr_dicom.ingest.foreign import ForeignArchive

    choice = ARCHIVES.choose("poller.archives.kind", described.kind)
    archive: Archive = choice.build("poller.archives.kind", described, listener)
    return archive if choice.is_ours else ForeignArchive(archive, described.name, choice)
