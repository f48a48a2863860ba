"""When is a study complete? When it has been quiet for a while and nobody is still sending it.

Only the time since the last image counts, on a clock that nobody can step: after a restart every
open study is given a full quiet period anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from cxr_dicom.config.service import AssemblySettings


@dataclass
class _Open:
    first: float
    last: float
    senders: set[Hashable] = field(default_factory=set)  # associations that sent of it and are open


class Assembly:
    """The open studies and who sends them; safe to share between threads.

    Parameters
    ----------
    settings
        Table ``[assembly]``.
    clock
        Seconds that only go forward.
    """

    def __init__(self, settings: AssemblySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._guard = threading.Lock()

    def arrived(self, study_instance_uid: str, sender: Hashable | None = None) -> None:
        """Record an image; ``sender`` is its association, until `left`."""
        now = self._clock()
        with self._guard:
            study = self._open.setdefault(study_instance_uid, _Open(first=now, last=now))
            study.last = now
            if sender is not None:
                study.senders.add(sender)

    def left(self, sender: Hashable) -> None:
        """Record the end of an association: its studies are quiet from now on."""
        now = self._clock()
        with self._guard:
            for study in self._open.values():
                if sender in study.senders:
                    study.senders.discard(sender)
                    study.last = now

    def due(self, receiving: Iterable[str]) -> list[str]:
        """Return which of the studies that are RECEIVING are complete."""
        now, due = self._clock(), []
        with self._guard:
            watched = {uid: self._open.get(uid) or _Open(first=now, last=now) for uid in receiving}
            for uid, study in watched.items():
                is_quiet = not study.senders and now - study.last >= self._settings.quiet_seconds
                if is_quiet or now - study.first >= self._settings.at_most_seconds:
                    due.append(uid)
            unwatched = {uid: study for uid, study in self._open.items() if self._is_fresh(study, now)}
            self._open = {uid: study for uid, study in {**unwatched, **watched}.items() if uid not in due}
        return due

    def _is_fresh(self, study: _Open, now: float) -> bool:
        """Whether a study that is not RECEIVING, say because it runs, may soon be so again."""
        return bool(study.senders) or now - study.last < self._settings.quiet_seconds
