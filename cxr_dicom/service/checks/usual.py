"""Numbers that are allowed and far from what anybody uses; each says what will happen."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from cxr_dicom.config import Settings
from cxr_dicom.service.checks.answer import Check, warning
from cxr_dicom.service.checks.files import accesses

_UNIT_SECONDS = 90  # TimeoutStopSec of the unit in docs/operations.md, and systemd's default
_REST_OF_A_STOP = 10  # seconds for open associations and for the rest
_RADIOGRAPH_MB = 32  # a digital radiograph of 4,000 by 4,000 pixels
_USUAL = (  # key; least, and what happens below it; most, and what happens above it
    ("spool.min_free_mb", 100, "the disk is filled up, and other programs fail", None, ""),
    (
        "service.stop_seconds",
        5,
        "a study at work is always begun anew after a stop",
        _UNIT_SECONDS - _REST_OF_A_STOP,
        f"systemd kills the service after {_UNIT_SECONDS} s, unless its unit has a longer TimeoutStopSec",
    ),
    ("service.study_seconds", None, "", 14400, "a worker that hangs is noticed after hours"),
    ("service.max_interruptions", None, "", 100, "a study on which workers die keeps them from all others"),
    (
        "assembly.quiet_seconds",
        3,
        "a sender's pause between two images parts a study",
        3600,
        "results come after hours",
    ),
    ("assembly.at_most_seconds", 10, "a study is processed before it is sent", 86400, "a study may wait for a day"),
    ("retry.give_up_hours", 1, "an hour in which a destination is full makes studies DEAD", None, ""),
    ("retention.sources_days", None, "", 365, "the disk needs room for the images of a year"),
    ("listener.idle_seconds", 10, "senders that pause are cut off", 3600, "dead connections keep their places"),
    ("listener.negotiation_seconds", 2, "slow senders are turned away", 120, "strangers keep places by waiting"),
    ("listener.min_bytes_per_second", None, "", 1_000_000, "senders on slow lines are cut off"),
    (
        "listener.max_instance_mb",
        _RADIOGRAPH_MB,
        "radiographs of this size are refused",
        4096,
        "one image may fill the disk",
    ),
    ("listener.max_associations", 2, "a second sender is rejected", None, ""),
    ("poller.interval_seconds", 5, "archives are asked without a pause", 86400, "results come after days"),
    ("poller.start_days", None, "", 366, "the first round fetches all radiographs of that time, and processes them"),
    (
        "poller.lookback_days",
        1,
        "what reaches the archive after midnight is never fetched",
        366,
        "each round asks for all of it",
    ),
)
_LEAST_SECONDS, _MOST_SECONDS = 2.0, 900.0  # of one answer


def check(settings: Settings) -> Iterator[Check]:
    """Look at each number, where what it is about is used at all."""
    left_out: tuple[str, ...] = ("listener",) if not settings.listener.enabled else ()
    left_out += ("poller",) if not settings.poller.archives else ()
    for key, least, below, most, above in _USUAL:
        if key.partition(".")[0] in left_out:
            continue
        value = attrgetter(key)(settings)
        if least is not None and value < least:
            yield warning(key, f"{value:g}: {below}")
        if most is not None and value > most:
            yield warning(key, f"{value:g}: {above}")
    for key, access in accesses(settings):
        if access.timeout_seconds < _LEAST_SECONDS:
            yield warning(f"{key}.timeout_seconds", f"{access.timeout_seconds:g}: a busy peer counts as unreachable")
        if access.timeout_seconds > _MOST_SECONDS:
            yield warning(
                f"{key}.timeout_seconds", f"{access.timeout_seconds:g}: one that hangs holds up all behind it"
            )
    if settings.poller.archives and settings.retention.rows_days < settings.poller.lookback_days:
        why = f"what is forgotten after {settings.retention.rows_days:g} days is fetched and processed again"
        yield warning("poller.lookback_days", f"{settings.poller.lookback_days}: more than retention.rows_days, {why}")
    share = settings.listener.max_associations_per_address
    if settings.listener.enabled and share and share > settings.listener.max_associations:
        why = f"more than max_associations = {settings.listener.max_associations}, which counts"
        yield warning("listener.max_associations_per_address", f"{share}: {why}")
