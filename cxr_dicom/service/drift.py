"""Once a day `monitor` looks at the ledger of the running service: a line in the log for each alarm, and gauges.

It looks in a process of its own: its statistics take as much memory as all the rest of the service, and their computing
would keep the listener waiting.
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.config.service import MonitorSettings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.service.health import Figure
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.system import telemetry

if TYPE_CHECKING:
    from cxr_dicom.results.monitor import Report

_PAUSE_SECONDS = 600.0


class DriftWatch:
    """Compares each finished day and week with the reference period of the settings."""

    def __init__(self, ledger: Ledger, settings: MonitorSettings) -> None:
        self._ledger, self._settings = ledger, settings
        self._report: Report | None = None
        self._looked: date | None = None

    def run(self, until: threading.Event) -> None:
        """Look once a day until the event is set; a locked ledger does not end it."""
        while not until.wait(_PAUSE_SECONDS):
            try:
                self.look()
            except (CxrDicomError, OSError, BrokenProcessPool) as error:
                telemetry.failure("drift", error)

    def look(self, today: date | None = None) -> Report | None:
        """Compare the last day and week, if that was not yet done today; None where there is too little to compare."""
        day = today or datetime.now(UTC).date()
        if day == self._looked:
            return self._report
        self._report = self._compared(day)
        self._looked = day
        for alarm in self._report.alarms if self._report else ():
            telemetry.event("drift_alarm", level=logging.WARNING, reason=f"{alarm.what}, since {alarm.since}")
        return self._report

    def _compared(self, day: date) -> Report | None:
        period = self._settings.period(self._ledger.observations.first())
        if period is None or day <= period[1]:
            return None
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as apart:
            return apart.submit(_monitored, self._ledger.folder, self._settings, day).result()

    def figures(self) -> Iterator[Figure]:
        """Yield what the last look found; nothing before there is enough to compare."""
        report = self._report
        if report is None:
            return
        yield "drift_tests", {}, float(report.tests)
        yield "drift_alarms", {}, float(len(report.alarms))
        for alarm in report.alarms:
            yield "drift_alarm", {"what": alarm.what, "since": alarm.since}, 1.0
        for figure in report.figures:
            if figure["psi"] is not None:
                labels = {"what": figure["what"], "window_days": str(figure["window_days"])}
                yield "drift_stability_index", labels, figure["psi"]


def _monitored(folder: Path, settings: MonitorSettings, day: date) -> Report | None:
    """Do as `monitor` with the ledger of a spool folder; None where there is too little to compare."""
    from cxr_dicom.results.monitor import NotEnoughError, monitor, wanted

    ledger = Ledger(folder, create=False)
    try:
        return monitor(wanted(ledger, settings, until=day), settings, until=day)
    except NotEnoughError:
        return None
    finally:
        ledger.close()
