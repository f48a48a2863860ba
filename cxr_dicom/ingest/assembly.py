"""When is a study complete? When all of it is proved to be here, or it is quiet for a while and nobody is sending it.

Only the time since the last image counts, on a clock that nobody can step: after a restart every
open study is given a full quiet period anew. An image that comes after a proof makes its study run again.
"""

from __future__ import annotations

import math
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
    is_whole: bool = False  # nothing more will come, as far as anybody can tell


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
        self.settings = settings
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._guard = threading.Lock()
        self._proved = threading.Event()
        self._next = math.inf  # when the next study is complete, if nothing comes

    def arrived(self, study_instance_uid: str, sender: Hashable | None = None, *, is_whole: bool = False) -> None:
        """Record an image.

        Parameters
        ----------
        sender
            Its association, until `left`.
        is_whole
            Whether this image proves that all of its study is here.
        """
        now = self._clock()
        with self._guard:
            study = self._open.setdefault(study_instance_uid, _Open(first=now, last=now))
            study.last, study.is_whole = now, is_whole
            if sender is not None:
                study.senders.add(sender)
        if is_whole:
            self._proved.set()

    def left(self, sender: Hashable, *, sent_all: bool = False) -> None:
        """Record the end of an association: its studies are quiet from now on.

        Parameters
        ----------
        sent_all
            Whether it was to send all of its studies, and was released.
        """
        now = self._clock()
        with self._guard:
            for study in self._open.values():
                if sender in study.senders:
                    study.senders.discard(sender)
                    study.last = now
                    study.is_whole |= sent_all and not study.senders
        if sent_all:
            self._proved.set()

    def due(self, receiving: Iterable[str]) -> list[str]:
        """Return which of the studies that are RECEIVING are complete."""
        now, due = self._clock(), []
        with self._guard:
            watched = {uid: self._open.get(uid) or _Open(first=now, last=now) for uid in receiving}
            self._next = math.inf
            for uid, study in watched.items():
                ends = self._ends(study)
                if ends <= now:
                    due.append(uid)
                else:
                    self._next = min(self._next, ends)
            unwatched = {uid: study for uid, study in self._open.items() if self._is_fresh(study, now)}
            self._open = {uid: study for uid, study in {**unwatched, **watched}.items() if uid not in due}
        return due

    def wait(self, seconds: float) -> None:
        """Wait until a study may be complete, at most so long."""
        self._proved.wait(max(0.0, min(seconds, self._next - self._clock())))
        self._proved.clear()

    def _ends(self, study: _Open) -> float:
        """Return when a study is complete, if nothing more comes."""
        if study.is_whole:
            return study.last
        quiet = math.inf if study.senders else study.last + self.settings.quiet_seconds
        return min(quiet, study.first + self.settings.at_most_seconds)

    def _is_fresh(self, study: _Open, now: float) -> bool:
        """Whether a study that is not RECEIVING, say because it runs, may soon be so again."""
        return bool(study.senders) or now - study.last < self.settings.quiet_seconds
