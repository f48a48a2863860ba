"""The work that an engine gives to its workers: one entry at a time, each to a state on the disk.

A state that is still valid is returned without any work.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from cxr_dicom.cohort import states
from cxr_dicom.cohort.delivery import Delivery
from cxr_dicom.cohort.finished import Done, summarise
from cxr_dicom.cohort.options import Options, Tools
from cxr_dicom.cohort.processing import process, without_result
from cxr_dicom.cohort.reuse import reconsidered
from cxr_dicom.cohort.states import State
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.export import build_exporters
from cxr_dicom.infer import resolve, strangers
from cxr_dicom.ingest.manifest import Entry
from cxr_dicom.records import Reason
from cxr_dicom.system import atomic, wants, watch

MAX_CRASHES = 3  # of worker processes at one entry; then it is set aside

_building = threading.Lock()  # two items of one worker must not load the models twice


def check(settings: Settings, options: Options) -> None:
    """Refuse options with which no entry could be processed.

    Raises
    ------
    SettingsError
        If a format or the destination does not exist, or a format needs a library that is missing.
    """
    build_exporters(options.also, settings)
    _delivery(settings, options)


class EntryTask:
    """Processes entries into an output folder; see `cohort.engine.Task`.

    What ``auto`` stands for is decided here, once, where the run was started: a worker without those weights ends the
    run, for with what it has itself one run would have two kinds of results.

    Parameters
    ----------
    owner
        A file that is there as long as the session that started the run owns ``out``. Workers that it left behind on
        other machines see that it is gone, and write nothing more. None: nobody looks.
    """

    def __init__(self, *, settings: Settings, out: Path, options: Options, owner: Path | None = None) -> None:
        self._names = resolve(settings)
        self._strangers = strangers(settings, settings.models.names)
        self._settings = settings
        self._out = out
        self._options = options
        self._owner = owner

    def __call__(self, item: Entry) -> Done:
        """Process one entry to its state."""
        watch.pause()  # loading takes its time, and is no entry's fault
        with _building:  # errors end the run: they are about the settings, not about this entry
            tools = self._tools
        watch.begin()
        try:
            self._expect_owned()
            return self._answer(item, tools)
        except OSError as error:  # where no state can be written, no entry can be done
            wants.raise_if_lacking(error, self._out)
            raise CxrDicomError(f"{self._out}: {error.strerror or type(error).__name__}") from error

    @property
    def stage_seconds(self) -> float:
        """How long a worker may be at one stage of an entry."""
        return self._settings.service.study_seconds

    @property
    def memory_mb(self) -> int | None:
        """Bound of a worker's address space."""
        return self._settings.service.worker_memory_mb

    def interrupt(self, item: Entry) -> None:
        """Forget an attempt that the user interrupted."""
        states.reset_attempts(self._out, item.key)

    def close(self) -> None:
        """Release the memory of the models."""
        if "_tools" in self.__dict__:
            self._tools.pipeline.close()

    @cached_property
    def _tools(self) -> Tools:
        from cxr_dicom.pipeline import Pipeline

        atomic.share(self._settings.files.shared)  # a worker is a process of its own

        if (here := strangers(self._settings, self._settings.models.names)) != self._strangers:
            raise SettingsError(f"a worker has other packages: expected {self._strangers}, found {here}")
        return Tools(
            out=self._out,
            settings=self._settings,
            options=self._options,
            pipeline=Pipeline(self._settings, self._names),
            exporters=build_exporters(self._options.also, self._settings),
            delivery=_delivery(self._settings, self._options),
        )

    def _answer(self, item: Entry, tools: Tools) -> Done:
        earlier = states.load(self._out, item.key)
        entry, held = reconsidered(item, earlier, tools)
        if held is None:
            return summarise(self._attempt(entry, earlier, tools))
        if held is not earlier:
            self._save(held, earlier)
        states.reset_attempts(self._out, item.key)  # killed after its state was written, before it was counted as ended
        return summarise(held, is_reused=True)

    def _attempt(self, entry: Entry, earlier: State | None, tools: Tools) -> State:
        with states.attempt(self._out, entry.key) as crash_count:
            if crash_count < MAX_CRASHES:
                state = process(entry, earlier, tools)
            else:
                limit = f"was ended after {self.stage_seconds:g} s at one stage (service.study_seconds)"
                detail = f"its worker process died, or {limit}, {MAX_CRASHES} times"
                state = without_result(entry, earlier, tools, Reason.WORKER_DIED, detail)
            state = replace(state, host=socket.gethostname())
            self._save(state, earlier)
        return state

    def _save(self, state: State, earlier: State | None) -> None:
        self._expect_owned()
        states.save(self._out, state, earlier)

    def _expect_owned(self) -> None:
        if self._owner and not self._owner.is_file():
            raise CxrDicomError(f"{self._out} was taken over by another run; what this one has finished is kept")


def _delivery(settings: Settings, options: Options) -> Delivery | None:
    return None if options.destination is None else Delivery(settings, options.destination)
