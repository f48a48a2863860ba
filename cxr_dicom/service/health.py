"""What is wrong with the deliveries and studies of a service, in words for people and in numbers for monitoring."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cxr_dicom.config import Settings
from cxr_dicom.records import StudyState
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.places import Place
from cxr_dicom.store.spool import Spool, SpoolFullError

LATE_SECONDS = 3600.0  # an object that waits for so long is told, although its destination answers

Figure = tuple[str, Mapping[str, str], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What is wrong with one part of the service."""

    text: str
    is_fatal: bool = False  # the part is dead: a new start may help; otherwise a person must look


Problems = Mapping[str, Problem]  # by part; empty when all is well


def problems(ledger: Ledger, settings: Settings) -> dict[str, Problem]:
    """Say what the ledger knows: outages, what waits, what was given up."""
    found = {}
    waiting = {queue.destination: queue for queue in ledger.stories.waiting()}
    outages = {(outage.kind, outage.name): outage for outage in ledger.places.out()}
    named = {destination.name for destination in settings.destinations}
    for name, objects in ledger.deliveries.open().items():
        outage = outages.get((Place.DESTINATION, name))
        oldest = waiting[name].oldest_seconds if name in waiting else 0.0
        text = f"objects that wait for it: {objects}" + (f", the oldest for {duration(oldest)}" if oldest else "")
        if name not in named:
            found[f"destination {name}"] = Problem(text=f"not in the settings; {text}")
        elif outage:
            found[f"destination {name}"] = Problem(text=f"no answer since {when(outage.since)}: {outage.cause}; {text}")
        elif oldest >= LATE_SECONDS:
            found[f"destination {name}"] = Problem(text=f"slow; {text}")
    for archive in settings.poller.archives:
        if outage := outages.get((Place.ARCHIVE, archive.name)):
            found[f"archive {archive.name}"] = Problem(text=f"fails since {when(outage.since)}: {outage.cause}")
    for state in (StudyState.DEAD, StudyState.HELD):
        if count := ledger.stories.counts()[state]:
            found[str(state)] = Problem(
                text=f"studies given up: {count}; `cxr-dicom jobs list --state {state.lower()}` says why"
            )
    if short := ledger.stories.short_of():
        found["machine"] = Problem(text=f"studies that wait for it: {sum(short.values())}; {'; '.join(short)}")
    return found


def storage(spool: Spool, audit: AuditTrail) -> dict[str, Problem]:
    """Say what is wrong with the folder in which all lies."""
    found = {}
    try:
        spool.require_space()
    except SpoolFullError as error:
        found["spool"] = Problem(text=str(error))
    if problem := audit.problem():
        found["audit"] = Problem(text=problem)
    if unknown := spool.set_aside_now():
        text = f"files that the ledger does not know, in {spool.folder / 'unknown'}: {unknown}"
        found["unknown"] = Problem(text=text)
    return found


def figures(ledger: Ledger, settings: Settings) -> Iterator[Figure]:
    """Yield a number for each thing that `problems` tells of, also while all is well."""
    now = time.time()
    waiting = {queue.destination: queue for queue in ledger.stories.waiting()}
    outages = {(outage.kind, outage.name): max(0.0, now - outage.since) for outage in ledger.places.out()}
    for name in sorted({destination.name for destination in settings.destinations} | waiting.keys()):
        wait = waiting.get(name)
        labels = {"destination": name}
        yield "deliveries_waiting", labels, wait.objects if wait else 0
        yield "oldest_undelivered_seconds", labels, round(wait.oldest_seconds, 1) if wait else 0.0
        yield "destination_outage_seconds", labels, round(outages.get((Place.DESTINATION, name), 0.0), 1)
    for archive in settings.poller.archives:
        outage = outages.get((Place.ARCHIVE, archive.name), 0.0)
        yield "archive_outage_seconds", {"archive": archive.name}, round(outage, 1)
    yield "studies_short_of_resources", {}, sum(ledger.stories.short_of().values())


def when(seconds: float) -> str:
    """Write a time as a person of this place reads it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """Write a duration in its largest unit: ``3 h``, ``2 days``."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
