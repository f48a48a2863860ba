"""``run.json``: what ran, when, on what, and with which totals.

A session is recorded when it starts. One that was killed has no end.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from cxr_dicom import __version__
from cxr_dicom.cohort.delivery import DestinationDownError
from cxr_dicom.cohort.engine import EngineDescription
from cxr_dicom.cohort.session import Part
from cxr_dicom.cohort.tally import Tally, add_seconds, rounded, utc
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.config import RESULT_TABLES, Settings
from cxr_dicom.errors import WantError
from cxr_dicom.ingest.folder import STATE_FOLDER
from cxr_dicom.ingest.manifest import Manifest
from cxr_dicom.records import Outcome, Reason
from cxr_dicom.results.rows import path_text
from cxr_dicom.system import atomic

_KEEP_SECONDS = 30.0  # at most so much of a session that is killed is not known
_LIBRARIES = ("torch", "torchxrayvision", "pydicom", "highdicom", "numpy")


class RunRecord:
    """The record of an output folder, and of one more session there.

    Parameters
    ----------
    out
        The output folder. The sessions that its record has are kept; those of parts are taken from theirs.
    part
        Whose record it is; None: of all.
    """

    def __init__(
        self, out: Path, tally: Tally, manifest: Manifest, settings: Settings, part: Part | None = None
    ) -> None:
        self._out = out
        self._path = _of_part(out, part) if part else out / "run.json"
        self._part = part
        self._tally = tally
        self._manifest = manifest
        self._settings = settings
        self._earlier = _read(self._path)
        if part is None:
            own = [each for each in self._earlier.get("sessions", ()) if "part" not in each]
            of_parts = (_read(path).get("sessions", ()) for path in sorted((out / STATE_FOLDER).glob("part-*.json")))
            sessions = sorted([*chain.from_iterable(of_parts), *own], key=lambda each: str(each.get("started")))
            self._earlier |= {"sessions": sessions} if sessions else {}
        self._crew: Callable[[], Sequence[Worker]] = tuple
        self._written_at = 0.0  # when it was written last, on the clock that only goes forward

    @contextmanager
    def session(self, engine: Callable[[], EngineDescription]) -> Iterator[None]:
        """Record the session while the block runs, and how it ended if it did not end well."""
        self._crew = lambda: engine().crew
        self._earlier = self._earlier or self._content(engine(), [])
        self._keep()
        try:
            yield
        except BaseException as error:
            with suppress(OSError):
                self._keep(ended=utc(), stopped_by=_code(error))
            raise

    def progress(self) -> None:
        """Record how far the session is, now and then."""
        if time.monotonic() - self._written_at > _KEEP_SECONDS:
            self._keep()

    def finish(self, engine: EngineDescription) -> dict[str, Any]:
        """Write the totals, and return the record."""
        content = self._content(engine, self._sessions(ended=utc()))
        self._write(content)
        self._earlier = {**content, "sessions": content["sessions"][:-1]}
        return content

    def sum_up(self, engine: EngineDescription) -> dict[str, Any]:
        """Write the totals of all parts, and return the record; nothing was done but to add up."""
        content = self._content(engine, list(self._earlier.get("sessions", ())))
        self._write(content)
        return content

    @property
    def unfinished_parts(self) -> list[int]:
        """Those of the same division that have not gone through this very list with these settings."""
        parts = self._part.all() if self._part else ()
        return [part.number for part in parts if not self._is_finished(_read(_of_part(self._out, part)))]

    def _is_finished(self, record: dict[str, Any]) -> bool:
        try:
            latest, about = record["sessions"][-1], (record["manifest"]["digest"], record["settings_digest"])
            is_whole = bool(latest["ended"]) and latest["stopped_by"] is None
            return is_whole and about == (self._manifest.digest, self._settings.digest)
        except (LookupError, TypeError):
            return False

    def _keep(self, **end: str) -> None:
        """Write the session; until it ends, all else is about the run before it."""
        self._write({**self._earlier, "sessions": self._sessions(**end)})
        self._written_at = time.monotonic()

    def _write(self, content: dict[str, Any]) -> None:
        with atomic.open_text(self._path) as file:
            json.dump(content, file, indent=1)

    def _sessions(self, ended: str | None = None, stopped_by: str | None = None) -> list[dict[str, Any]]:
        own = self._tally.session() | ({"part": str(self._part)} if self._part else {})
        own["machines"] = machines(self._crew(), self._tally.by_host)
        return [*self._earlier.get("sessions", ()), {**own, "ended": ended, "stopped_by": stopped_by}]

    def _content(self, engine: EngineDescription, sessions: list[dict[str, Any]]) -> dict[str, Any]:
        tally, settings, manifest = self._tally, self._settings, self._manifest
        stages: dict[str, float] = {}
        for session in sessions:
            add_seconds(stages, session.get("seconds_per_stage", {}))
        return {
            "package_version": __version__,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
            "platform": {"system": platform.system(), "machine": platform.machine()},
            "device": ", ".join(sorted(tally.devices)) or None,
            "engine": engine.as_dict(),
            "models": [{"name": n, "version": v, "weights_sha256": digest} for n, v, digest in tally.models],
            "settings": settings.model_dump(
                mode="json", include=set(RESULT_TABLES), exclude={"models": {"folder", "mirror"}}
            ),
            "settings_digest": settings.digest,
            "started_in": _started_in(self._out),
            "manifest": {"kind": manifest.kind, "digest": manifest.digest, "entries": len(manifest.entries)},
            "totals": {
                **{str(outcome): tally.images[outcome] for outcome in Outcome},
                "objects": tally.objects,
                "studies": tally.studies,
            },
            "reasons": dict(sorted(tally.by_reason().items())),
            "sessions": sessions,
            "seconds_per_stage": rounded(stages),
        }


def _of_part(out: Path, part: Part) -> Path:
    return out / STATE_FOLDER / f"part-{part.number}-of-{part.of}.json"


def machines(crew: Sequence[Worker], studies: Mapping[str, int]) -> list[dict[str, Any]]:
    """Say which machines took part, what each did, and why one was refused."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for worker in crew:
        machine = found.setdefault(
            (worker.host, worker.node),
            {
                "host": worker.host,
                "workers": 0,
                "studies": studies.get(worker.host, 0),
                "processor": worker.processor or None,
                "instruction_set": worker.instruction_set or None,
                "refused": None,
            },
        )
        machine["workers"] += not worker.refused
        machine["refused"] = worker.refused or machine["refused"]
    return [found[name] for name in sorted(found)]


def _read(path: Path) -> dict[str, Any]:
    """Return an earlier record; an empty one where there is none, or none that this version understands."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {**content, "sessions": list(content["sessions"])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _started_in(out: Path) -> str:
    """Return the folder of this process as a path from `out`, so that both can be moved together."""
    here = Path.cwd()
    try:
        return path_text(Path(os.path.relpath(here, out.resolve())))
    except ValueError:  # another drive
        return path_text(here)


def _code(error: BaseException) -> str:
    if isinstance(error, DestinationDownError):
        return Reason.DESTINATION_UNREACHABLE
    if isinstance(error, WantError):
        return "WANT"
    return "INTERRUPTED" if isinstance(error, KeyboardInterrupt) else "ERROR"
