"""What was kept long enough is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, time
from functools import partial
from pathlib import Path

from cxr_dicom.config import Settings
from cxr_dicom.service import recovery
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import telemetry

_DISCARDED_SECONDS = 3600.0  # a worker may still read a file that another one took the place of


def housekeep(settings: Settings, spool: Spool, ledger: Ledger) -> None:
    """Delete what was kept long enough, and what another file took the place of."""
    kept, stories = settings.retention, ledger.stories
    for table, days in (("instances", kept.sources_days), ("objects", kept.objects_days)):
        _expire(ledger, spool, partial(stories.expired, days, table=table), partial(stories.drop_files, table=table))
    reference = _reference(settings, ledger)
    for uid in _expire(ledger, spool, partial(stories.expired, kept.rows_days, kept=reference), stories.forget):
        telemetry.event("study_forgotten", study_instance_uid=uid)
    recovery.delete_discarded(spool, ledger, older_than_seconds=_DISCARDED_SECONDS)


def _reference(settings: Settings, ledger: Ledger) -> tuple[float, float] | None:
    """Return begin and end of the reference period, in seconds since 1970; None before there is an image."""
    period = settings.monitor.period(ledger.observations.first())
    if period is None:
        return None
    begin, over = (datetime.combine(day, time.min, UTC).timestamp() for day in period)
    return begin, over


def _expire(
    ledger: Ledger, spool: Spool, expired: Callable[..., list[str]], drop: Callable[[str], Iterable[Path]]
) -> list[str]:
    """Delete the files that ``drop`` gives of each study that is ``expired``; return the studies.

    An image that comes meanwhile waits for one study to be deleted, and not for all of them.
    """
    studies = []
    for uid in expired():
        with ledger.transaction():
            if expired(study_instance_uid=uid):  # still: no image came since
                spool.delete(drop(uid))
                studies.append(uid)
    return studies
