"""What a slow file system, as one over a network, costs a cohort whose studies are finished.

`run` again on finished studies of one small image, in one process, with OUT on this disk, and with a pause of 1 ms at
every call to the system that is about a path in OUT, or reads or writes an open file. Networks are not loaded.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks._harness import Plan, Row, folder, in_turn, ratios
from benchmarks.growth import write_images
from cxr_dicom.cohort import reuse, session
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.journal import Reader, writing
from cxr_dicom.cohort.options import Options, Tools
from cxr_dicom.cohort.states import State, changed_at
from cxr_dicom.config import Settings
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.manifest import Entry, Manifest
from cxr_dicom.records import Outcome, Reason, Skipped
from cxr_dicom.results.rows import skipped_row
from cxr_dicom.results.schema import ObjectRow

STUDIES, OBJECTS = 2000, 5
DELAY = 0.001  # seconds
_ABOUT_PATHS = ("stat", "lstat", "open", "scandir", "listdir", "unlink", "replace", "mkdir", "utime", "link")
_ABOUT_OPEN_FILES = ("read", "write", "fsync", "ftruncate")
_PICTURE = f"data:image/jpeg;base64,{'A' * 8000}"


class NoNetworks:
    """What is asked of a pipeline where nothing is computed."""

    identity = ("none",)
    models = ()

    def __init__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Have nothing to give back."""


def measure(plan: Plan) -> Iterator[Row]:
    """Yield rows of the time until all are known to be finished, and of the tables and the report."""
    studies = 20 if plan.is_quick else STUDIES
    settings = Settings.model_validate({"models": {"names": ["offline-anatomy"], "device": "cpu"}})
    with folder() as place, patch("cxr_dicom.pipeline.Pipeline", NoNetworks):
        write_images(place / "images", studies)
        found = manifest.read(str(place / "images"))
        finish(found, place / "out", settings)
        again(found, place / "out", settings, 0.0)  # imports
        ways = [lambda delay=delay: again(found, place / "out", settings, delay) for delay in (DELAY, 0.0)]
        pairs = in_turn(*ways, plan.repeats)
        for number, what in enumerate(("known to be finished", "tables and report")):
            row = f"slow disk: {what}, {studies} studies, 1 ms of delay, against none"
            yield ratios(row, [(slow[number], fast[number]) for slow, fast in pairs], at_most=2.0)


def finish(found: Manifest, out: Path, settings: Settings) -> None:
    """Leave what a run leaves, with empty objects."""
    tools = Tools(
        out=out,
        states=Reader(out),
        settings=settings,
        options=Options(),
        pipeline=NoNetworks(),  # type: ignore[arg-type]
        exporters=(),
        delivery=None,
    )
    with session.hold(out) as own, writing(out, own.number, ()) as journal:
        for entry in found.entries:
            journal.save(_finished(entry, tools))


def _finished(entry: Entry, tools: Tools) -> State:
    (instance,) = entry.study.instances if entry.study else ()
    made = [_object(entry.key, number) for number in range(OBJECTS)]
    (tools.out / entry.key).mkdir()
    for about in made:
        (tools.out / about["path"]).touch()
    skipped = Skipped(path=instance.path, reason=Reason.NOT_FRONTAL, detail="", instance=instance)
    row = skipped_row(skipped, tools.settings)
    row |= {"outcome": str(Outcome.PROCESSED), "reason": None, "objects": made}
    return State(
        key=entry.key,
        stamp=reuse.stamp(entry, tools),
        job_key="",
        rows=[row],
        figures={instance.sop_instance_uid: [{"title": "Anatomy", "source": _PICTURE}]},
        folders={entry.key: changed_at(tools.out / entry.key)},
    )


def _object(key: str, number: int) -> ObjectRow:
    uid = f"{key}.9.{number}"
    return {
        "path": f"{key}/segmentation-{uid}.dcm",
        "kind": "segmentation",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
        "sop_instance_uid": uid,
        "series_instance_uid": f"{key}.9",
    }


def again(found: Manifest, out: Path, settings: Settings, delay: float) -> tuple[float, float]:
    """Run once more; return the seconds until all are known to be finished, and from there to the end."""
    known = 0.0

    def note(progress: cohort_run.Progress) -> None:
        nonlocal known
        known = time.perf_counter()

    with patch.object(cohort_run, "FIGURES_UP_TO", 0), pausing(out, delay):
        begun = time.perf_counter()
        tally = cohort_run.run(found, out, settings, Here(), report_progress=note)
        ended = time.perf_counter()
    if tally.computed:
        raise RuntimeError(f"expected {len(found.entries)} finished studies, {tally.computed} were not")
    return known - begun, ended - known


@contextmanager
def pausing(out: Path, delay: float) -> Iterator[None]:
    """Pause at each call to the system that is about ``out``, or an open file."""
    with ExitStack() as stack:
        for name in _ABOUT_PATHS if delay else ():
            stack.enter_context(patch.object(os, name, _slow(getattr(os, name), str(out), delay)))
        for name in _ABOUT_OPEN_FILES if delay else ():
            stack.enter_context(patch.object(os, name, _slow(getattr(os, name), "", delay)))
        if delay:
            stack.enter_context(patch.object(io, "open", _slow(io.open, str(out), delay)))
        yield


def _slow(call: Callable[..., Any], below: str, delay: float) -> Callable[..., Any]:
    @wraps(call)
    def slow(*arguments: Any, **options: Any) -> Any:
        about = arguments[0] if arguments else ""
        if not below or (isinstance(about, str | os.PathLike) and os.fspath(about).startswith(below)):
            time.sleep(delay)
        return call(*arguments, **options)

    return slow
