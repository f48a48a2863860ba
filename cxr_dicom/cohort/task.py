"""The work that an engine gives to its workers: one entry at a time, each to a state, which who started them keeps.

A state that is still valid is returned without any work.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile

from cxr_dicom.cohort import states
from cxr_dicom.cohort.delivery import Delivery
from cxr_dicom.cohort.finished import Answer, Done, summarise
from cxr_dicom.cohort.journal import Reader
from cxr_dicom.cohort.options import Options, Tools
from cxr_dicom.cohort.place import expect_of_study
from cxr_dicom.cohort.processing import process, without_result
from cxr_dicom.cohort.reuse import reconsidered
from cxr_dicom.cohort.roll_call import Roll
from cxr_dicom.cohort.states import State
from cxr_dicom.cohort.worker import Worker, this_machine
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError, PlaceError, SettingsError, WantError
from cxr_dicom.export import build_exporters
from cxr_dicom.infer import model_infos, resolve, strangers, weights
from cxr_dicom.infer.batches import building_for
from cxr_dicom.infer.batches.client import Client
from cxr_dicom.ingest.folder import STATE_FOLDER
from cxr_dicom.ingest.manifest import Entry
from cxr_dicom.records import Reason
from cxr_dicom.system import atomic, wants, watch
from cxr_dicom.system.loading import loading

_PROBE = 2**20  # bytes, for which there has to be room
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
        self._roll: Roll | None = None
        self._client: Client | None = None

    def __call__(self, item: Entry, *, is_last: bool = True) -> Answer:
        """Process one entry to its state; trouble that may be of this machine is kept only where it ``is_last``."""
        watch.pause()  # loading takes its time, and is no entry's fault
        with _building:  # errors end the run: they are about the settings, not about this entry
            tools = self._tools
        watch.begin()
        try:
            return self._answer(item, tools, is_last=is_last)
        except OSError as error:  # where no state can be written, no entry can be done
            wants.raise_if_lacking(error, self._out)
            raise PlaceError(f"{self._out}: {error.strerror or type(error).__name__}") from error

    def call_roll(self, items: Sequence[Entry]) -> None:
        """Write down what is here, for every worker to compare."""
        infos = model_infos(self._settings)
        models = [(infos[name], weights.digest(infos[name], self._settings)) for name in self._names]
        self._roll = Roll.call(self._out, items, models, _files(self._settings, self._options))

    def end_roll(self) -> None:
        """Remove what was written for it."""
        if self._roll:
            self._roll.end()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Keep one process with the networks for all workers, where these are to be computed in batches."""
        if self._settings.models.batch == 1:
            yield
            return
        from cxr_dicom.infer.batches.supervisor import Supervisor

        with Supervisor(self._settings, self._names) as supervisor:
            self._client = supervisor.client
            yield

    def report(self) -> Worker:
        """Load the models, and say what is on this machine."""
        if self._roll:
            self._roll.take_credentials()
        with _building:
            models = self._tools.pipeline.models
        loaded = tuple((model.info.name, model.info.version, model.info.weights_sha256) for model in models)
        return self._roll.answer(loaded) if self._roll else this_machine(loaded)

    def refusal(self, worker: Worker) -> str:
        """Say why a worker may not take part."""
        return self._roll.refusal(worker) if self._roll else ""

    def raise_if_here_too(self, error: PlaceError) -> None:
        """Raise a want of room where the parent has none either: the disk is that of all."""
        if not isinstance(error, WantError):
            return
        try:
            with TemporaryFile(dir=self._out / STATE_FOLDER) as probe:
                probe.write(bytes(_PROBE))
                probe.flush()
                atomic.sync_open(probe.fileno())
        except OSError as found:
            wants.raise_if_lacking(found, self._out)

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
        states.forgive(self._out, item.key)

    def close(self) -> None:
        """Release the memory of the models."""
        if "_tools" in self.__dict__:
            self._tools.pipeline.close()

    @cached_property
    @loading()
    def _tools(self) -> Tools:
        from cxr_dicom.pipeline import Pipeline

        atomic.share(self._settings.files.shared)  # a worker is a process of its own

        if (here := strangers(self._settings, self._settings.models.names)) != self._strangers:
            raise SettingsError(f"a worker has other packages: expected {self._strangers}, found {here}")
        with building_for(self._client):
            pipeline = Pipeline(self._settings, self._names)
        return Tools(
            out=self._out,
            states=Reader(self._out),
            settings=self._settings,
            options=self._options,
            pipeline=pipeline,
            client=self._client,
            exporters=build_exporters(self._options.also, self._settings),
            delivery=_delivery(self._settings, self._options),
        )

    def _answer(self, item: Entry, tools: Tools, *, is_last: bool) -> Answer:
        earlier = tools.states.state(item.place) if item.place else None
        entry, held = reconsidered(item, earlier, tools)
        if held is None:
            return self._attempt(entry, earlier, tools, is_last=is_last)
        done = summarise(held, is_reused=True)
        return Answer(done=done) if held is earlier else self._new(done, held, earlier)

    def _attempt(self, entry: Entry, earlier: State | None, tools: Tools, *, is_last: bool) -> Answer:
        self._expect_owned()
        with states.attempt(self._out, entry.key, entry.uids) as attempt:
            if attempt.earlier < MAX_CRASHES:
                state = process(entry, earlier, tools, attempt.note)
                state = state if is_last else expect_of_study(state, entry)
            else:
                limit = f"was ended after {self.stage_seconds:g} s at one stage (service.study_seconds)"
                detail = f"its worker process died, or {limit}, {MAX_CRASHES} times"
                state = without_result(entry, earlier, tools, Reason.WORKER_DIED, detail)
            state = replace(state, host=socket.gethostname())
            self._expect_owned()
        return self._new(summarise(state), state, earlier, is_repeated=attempt.is_repeated)

    def _new(self, done: Done, state: State, earlier: State | None, *, is_repeated: bool = False) -> Answer:
        obsolete = (earlier.file_paths() if earlier else set()) - state.file_paths()
        return Answer(done=done, state=state, obsolete=frozenset(obsolete), is_repeated=is_repeated)

    def _expect_owned(self) -> None:
        if self._owner and not self._owner.is_file():
            raise CxrDicomError(f"{self._out} was taken over by another run; what this one has finished is kept")


def _files(settings: Settings, options: Options) -> dict[str, Path]:
    """Return the files that the settings of this run name, by the name of the setting."""
    tables = {"archive": options.access} | {
        f"destination {table.name}": table for table in settings.destinations if table.name == options.destination
    }
    found = {f"{name}, {key}": value for name, table in tables.items() for key, value in table or ()}
    return {name: value for name, value in found.items() if isinstance(value, Path)}


def _delivery(settings: Settings, options: Options) -> Delivery | None:
    return None if options.destination is None else Delivery(settings, options.destination)
