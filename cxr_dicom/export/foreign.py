"""An exporter of another package, held to what `export.base.Exporter` says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.export.base import Exporter
from cxr_dicom.plugins import Choice
from cxr_dicom.records import StudyResult
from cxr_dicom.records.guard import guarded_result
from cxr_dicom.system import telemetry


class ForeignExporter:
    """An exporter of another package. It gets a copy of the result, and writes into the folder of its name."""

    def __init__(self, exporter: Exporter, choice: Choice) -> None:
        self.name = choice.name
        self._exporter = exporter
        self._package = f"{choice.name} of {choice.package}"

    def export(self, result: StudyResult, folder: Path) -> list[Path]:
        """Write the results of one study below ``folder``; return the files."""
        files = self._tried(lambda: list(self._exporter.export(guarded_result(result), folder)))
        inside = folder.resolve()
        for file in files:
            if not isinstance(file, Path) or not file.is_file() or not file.resolve().is_relative_to(inside):
                raise CxrDicomError(
                    f"{self._package}: expected paths of files in its folder, got {type(file).__name__}"
                )
        return [folder / file.resolve().relative_to(inside) for file in files]

    def collect(self, folder: Path) -> None:
        """Finish ``folder`` once all studies are in it."""
        self._tried(lambda: self._exporter.collect(folder))

    def _tried(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (CxrDicomError, KeyboardInterrupt):
            raise
        except BaseException as error:  # not ours: `sys.exit` in it must not end a worker
            raise CxrDicomError(f"{self._package}: {telemetry.safe_description(error)}") from error
