"""Many studies: scan the inputs, process each study once, write the results.

Studies are independent, so worker processes share nothing but the output folder. A study that was
finished before with the same job key is taken from its state. A worker that dies takes only its own
study with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cxr_dicom import report, results, telemetry
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.records import Outcome, Skipped, Study
from cxr_dicom.results import Row, StudyState

RESULT_FILES = ("results.jsonl", "results.csv", "report.html")


@dataclass(frozen=True, kw_only=True)
class StudyDone:
    """One study of a run is finished."""

    study_instance_uid: str
    rows: list[Row]
    is_reused: bool = False  # taken from its state, nothing was computed


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is."""

    done: int  # studies
    total: int
    latest: StudyDone | None = None  # None at the start


def run(
    paths: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    jobs: int = 1,
    force: bool = False,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> list[Row]:
    """Process every study in ``paths`` and write objects, result files and report to ``out``.

    Parameters
    ----------
    paths
        Files and folders.
    out
        Output folder; made when missing.
    settings
        The same for every study.
    jobs
        Number of worker processes; 1 works in this process.
    force
        Process again what is finished.
    tell
        Called at the start and after every study.

    Returns
    -------
    list of dict
        The rows of ``results.jsonl``: one per input, in its order.

    Raises
    ------
    SettingsError, WeightsError
        If the pipeline cannot be built.
    CxrDicomError
        If ``out`` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        studies, skipped = _inputs(paths, out)
        telemetry.event("scan_done", studies=len(studies), skipped=len(skipped), jobs=jobs)
        tell(Progress(done=0, total=len(studies)))
        rows = [results.skipped_row(each, settings) for each in skipped]
        with closing(process(studies, out, settings, jobs=jobs, force=force)) as finished:
            for done, study in enumerate(finished, start=1):
                rows.extend(study.rows)
                telemetry.event("study_done", study_instance_uid=study.study_instance_uid, **_counts(study.rows))
                tell(Progress(done=done, total=len(studies), latest=study))
        rows.sort(key=lambda row: (row["path"], row["sop_instance_uid"] or ""))
        _write(rows, out)
        telemetry.event("run_done", **_counts(rows))
    except OSError as error:
        raise CxrDicomError(f"{error.filename or out}: {error.strerror or type(error).__name__}") from error
    return rows


def process(
    studies: Sequence[Study], out: Path, settings: Settings, *, jobs: int = 1, force: bool = False
) -> Generator[StudyDone, None, None]:
    """Process ``studies``, each to its state in ``out``; yield them as they finish."""
    worker = _Worker(settings=settings, out=out, force=force)
    jobs = min(jobs, len(studies))
    if jobs > 1:
        yield from _in_processes(studies, worker, jobs)
        return
    try:
        for study in studies:
            yield worker(study)
    finally:
        worker.close()


def _inputs(paths: Sequence[Path], out: Path) -> tuple[list[Study], list[Skipped]]:
    """Scan ``paths`` without what an earlier run wrote to ``out``."""
    scanned, skipped = scan(paths)
    home = _real(out)
    written = {home / name for name in RESULT_FILES}
    for study in scanned:
        is_inside = any(_real(each.path).is_relative_to(home) for each in study.instances)
        if is_inside and (state := results.load_state(out, study.study_instance_uid)):
            written |= {home / path for path in state.object_paths()}
    studies = [
        replace(study, instances=tuple(each for each in study.instances if _real(each.path) not in written))
        for study in scanned
    ]
    return [study for study in studies if study.instances], [s for s in skipped if _real(s.path) not in written]


def _real(path: Path) -> Path:
    """Follow links, as ``Path.resolve`` does, which before Python 3.13 gives up on a loop."""
    return Path(os.path.realpath(path))


class _Worker:
    """Does one study after the other, with one pipeline that is built when the first study needs it."""

    def __init__(self, *, settings: Settings, out: Path, force: bool) -> None:
        self.settings = settings
        self.out = out
        self.force = force

    @cached_property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.settings)

    def __call__(self, study: Study) -> StudyDone:
        uid = study.study_instance_uid
        pipeline = self.pipeline  # its errors end the run: they are about the settings, not about this study
        try:
            job_key = pipeline.job_key(study)
            if not self.force and (state := self._finished(study, job_key)):
                return StudyDone(study_instance_uid=uid, rows=state.rows, is_reused=True)
            state = self._process(study, job_key)
            results.save_state(self.out, state)
        except Exception as error:  # one bad study never stops a run
            telemetry.failure("study", error, study_instance_uid=uid)
            return self.failed(study, telemetry.safe_description(error))
        return StudyDone(study_instance_uid=uid, rows=state.rows)

    def failed(self, study: Study, detail: str) -> StudyDone:
        rows = results.failed_rows(study, detail, self.settings)
        return StudyDone(study_instance_uid=study.study_instance_uid, rows=rows)

    def close(self) -> None:
        if "pipeline" in self.__dict__:
            self.pipeline.close()

    def _finished(self, study: Study, job_key: str) -> StudyState | None:
        state = results.load_state(self.out, study.study_instance_uid)
        return state.at(study) if state and state.is_answer_to(study, job_key, self.out) else None

    def _process(self, study: Study, job_key: str) -> StudyState:
        result = self.pipeline.process(study, results.study_folder(self.out, study.study_instance_uid), job_key)
        return StudyState(
            study_instance_uid=study.study_instance_uid,
            job_key=result.job_key,
            rows=results.study_rows(result, self.settings, self.out),
            figures={
                each.instance.sop_instance_uid: report.figures(each.analysis)
                for each in result.instances
                if each.instance and each.analysis
            },
        )


# --- worker processes ----------------------------------------------------------------------------

_worker_of_process: _Worker


def _in_processes(studies: Sequence[Study], worker: _Worker, jobs: int) -> Iterator[StudyDone]:
    waiting = deque(studies)
    while waiting:
        suspects = yield from _until_a_worker_dies(waiting, worker, jobs)
        for study in suspects:  # alone, so that only the study that kills its worker is lost
            if (yield from _until_a_worker_dies(deque([study]), worker, 1)):
                yield worker.failed(study, "the worker process died, possibly for lack of memory")


def _until_a_worker_dies(waiting: deque[Study], worker: _Worker, jobs: int) -> Generator[StudyDone, None, list[Study]]:
    """Process what is ``waiting``; return the studies that were at work when a worker died."""
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(worker, max(1, _cores() // jobs), telemetry.configuration()),
    )
    at_work: dict[Future[StudyDone], Study] = {}
    try:
        while waiting or at_work:
            while waiting and len(at_work) < jobs:
                future = pool.submit(_work, waiting[0])  # it stays waiting when the pool is broken by now
                at_work[future] = waiting.popleft()
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                yield future.result()
                del at_work[future]
    except BrokenProcessPool:
        return list(at_work.values())
    except BaseException:  # Ctrl-C or a wrong setting: do not wait for studies at work; states are whole or absent
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _start(worker: _Worker, threads: int, log: tuple[int, bool] | None) -> None:
    global _worker_of_process
    _worker_of_process = worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)  # before torch is imported
    telemetry.configure_as(log)


def _work(study: Study) -> StudyDone:
    return _worker_of_process(study)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- result files --------------------------------------------------------------------------------


def _write(rows: list[Row], out: Path) -> None:
    results.write_jsonl(out / "results.jsonl", rows)
    results.write_csv(out / "results.csv", rows)
    report.write(out / "report.html", rows, lambda uid: _figures(out, uid))


def _counts(rows: list[Row]) -> dict[str, int]:
    return {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in Outcome}


def _figures(out: Path, study_instance_uid: str) -> dict[str, list[report.Figure]]:
    state = results.load_state(out, study_instance_uid)
    return state.figures if state else {}
