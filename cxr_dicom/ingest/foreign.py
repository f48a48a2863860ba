"""An archive of another package, held to what `ingest.archive.Archive` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cxr_dicom.errors import ConnectionFailedError, CxrDicomError, FetchError
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.plugins import Choice
from cxr_dicom.system import telemetry

if TYPE_CHECKING:
    from cxr_dicom.ingest.archive import Archive, RemoteInstance, RemoteStudy, Store, StudyQuery


class ForeignArchive:
    """What it finds has valid UIDs; whatever it raises is trouble with the place, or with one instance."""

    def __init__(self, archive: Archive, name: str, choice: Choice) -> None:
        self.name = name
        self._archive = archive
        self._package = f"{choice.name} of {choice.package}"

    def studies(self, query: StudyQuery, modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Yield the studies with one of the modalities, each once."""
        seen: set[str] = set()
        for study in self._found(lambda: self._archive.studies(query, tuple(modalities)), "study_instance_uid"):
            if study.study_instance_uid not in seen:
                seen.add(study.study_instance_uid)
                yield study

    def instances(self, study: RemoteStudy, modalities: Sequence[str]) -> Iterator[RemoteInstance]:
        """Yield the instances of a study's series with one of the modalities."""
        yield from self._found(lambda: self._archive.instances(study, tuple(modalities)), "sop_instance_uid")

    def fetch(self, instance: RemoteInstance, store: Store) -> None:
        """Have an instance sent."""
        try:
            self._archive.fetch(instance, store)
        except (CxrDicomError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise FetchError(f"{self._package}: {telemetry.safe_description(error)}") from error

    def check(self) -> str:
        """Say in a few words that the place answers."""
        return str(self._tried(self._archive.check))

    def _found(self, act: Callable[[], Any], key: str) -> Iterator[Any]:
        answers = self._tried(lambda: iter(act()))
        while (answer := self._tried(lambda: next(answers, None))) is not None:
            if not is_uid(str(getattr(answer, key, ""))):
                raise ConnectionFailedError(
                    "PLUGIN", f"{self._package}: expected a {key}, got {type(answer).__name__} without"
                )
            yield answer

    def _tried(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (CxrDicomError, KeyboardInterrupt):
            raise
        except BaseException as error:  # not ours: `sys.exit` in it must not end the poller
            raise ConnectionFailedError("PLUGIN", f"{self._package}: {telemetry.safe_description(error)}") from error
