"""When to try again: a status becomes an answer, an answer becomes a decision. Nothing is done here.

The table is that of ``docs/operations.md``: transient troubles are tried again with exponentially
growing, jittered pauses; a refusal is final.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from http import HTTPStatus

from cxr_dicom.records import DeliveryStatus

FIRST_PAUSE = 1.0  # seconds
LONGEST_PAUSE = 900.0  # seconds
LONGEST_ASKED_PAUSE = 3600.0  # seconds that a destination may ask for by Retry-After
GIVE_UP_AFTER = 86400.0  # seconds since the first attempt, without those of outages; unless the settings say otherwise
OUTAGE = "UNREACHABLE"  # status of a receipt that says that the place itself did not answer
PROCESSING_ATTEMPTS = 3  # of a study whose processing failed

SUCCESS = 0x0000
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})  # beside Bxxx (PS3.7 C.1, C.3.6, C.4)
_THERE_ALREADY = frozenset({0x0111, 0xB00E})  # duplicate SOP instance (PS3.7 C.5.8), and Azure's word for it: 45070
_UNSUPPORTED = frozenset({0x0118, 0x0122})  # no such SOP class, SOP class not supported (PS3.7 C.5)
_TRANSIENT_DIMSE = frozenset(
    {
        *(
            0x0110,
            0x0210,
            0x0211,
            0x0213,
        ),  # processing failure, duplicate invocation, unrecognised operation, resources
        *(0xFE00, 0xFF00, 0xFF01),  # cancelled, pending: no final answer to a C-STORE
        0xB00F,  # Azure's 45071: the instance is being created
    }
)
_TRANSIENT_HTTP = frozenset({408, 425, 429})
_ABOUT_THE_OBJECT = frozenset({400, 409, 413, 415, 422, 500})  # any other status of trouble is about the server


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAt:
    """Try again at this time, in seconds of the clock that was given."""

    time: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GiveUp:
    """Do not try again."""

    reason: str


def answer_of_dimse(status: int) -> DeliveryStatus:
    """Classify the status of a C-STORE response, or a Failure Reason of STOW-RS, by its class.

    Classes are those of PS3.7 C; of failures only what may pass by itself is not now: 0xA7xx (PS3.4 B.2.3) and a few
    more. An instance that is there already is a success: the UIDs of objects derive from their content.
    """
    if status == SUCCESS or status in _THERE_ALREADY:
        return DeliveryStatus.ACCEPTED
    if status >> 8 == 0xA7 or status in _TRANSIENT_DIMSE:
        return DeliveryStatus.FAILED
    if status >> 12 == 0xB or status in _WARNINGS:
        return DeliveryStatus.WARNING
    return DeliveryStatus.UNSUPPORTED if status in _UNSUPPORTED else DeliveryStatus.REFUSED


def is_about_the_object(status: int) -> bool:
    """Whether the status code of an HTTP response to a store request says something of what was sent (RFC 9110).

    All others but success (redirects, authentication, no such path, busy, gateways) are about the server, and pass for
    all objects at once when it is put right.
    """
    return 200 <= status < 300 or status in _ABOUT_THE_OBJECT


def answer_of_http(status: int) -> DeliveryStatus:
    """Classify the status code of an HTTP response (RFC 9110)."""
    if 200 <= status < 300:
        return DeliveryStatus.ACCEPTED
    if status >= 500 or status in _TRANSIENT_HTTP:
        return DeliveryStatus.FAILED
    return DeliveryStatus.UNSUPPORTED if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE else DeliveryStatus.REFUSED


def decide(
    *,
    attempts: int,
    first_attempt_at: float,
    now: float,
    retry_after: float | None = None,
    give_up_after: float = GIVE_UP_AFTER,
    is_outage: bool = False,
    jitter: random.Random | None = None,
) -> RetryAt | GiveUp:
    """Say when a transient failure is tried again.

    Parameters
    ----------
    attempts
        Attempts that failed, this one included; at least 1.
    first_attempt_at, now
        Seconds of the same clock. A clock that was stepped back only prolongs the trying.
    retry_after
        Seconds that the destination asked for.
    give_up_after
        Seconds.
    is_outage
        Whether the place did not answer: that ends by itself, and is never given up.
    jitter
        Source of chance; a pause is 50 % to 100 % of its nominal length.
    """
    if now - first_attempt_at >= give_up_after and not is_outage:
        return GiveUp(reason=f"{attempts} attempts failed in {give_up_after / 3600:g} hours")
    pause = pause_after(attempts, jitter)
    if retry_after is not None:
        pause = max(pause, min(retry_after, LONGEST_ASKED_PAUSE))
    return RetryAt(time=now + pause)


def without_absence(first_attempt_at: float, *, due_at: float, now: float, was_outage: bool = False) -> float:
    """Move the first attempt by the time in which nobody asked: the service was off, or a clock was stepped forward.

    An attempt that comes, or ends, later than `LONGEST_PAUSE` after it was due (a place that does not answer is left
    alone for so long) was not made in time by us; what is more than that is no trouble of the destination. After an
    outage nothing is: what counts are refusals.
    """
    return first_attempt_at + max(0.0, now - due_at - (0.0 if was_outage else LONGEST_PAUSE))


def pause_after(attempts: int, jitter: random.Random | None = None) -> float:
    """Return the pause in seconds after so many failed attempts."""
    nominal = min(FIRST_PAUSE * 2 ** min(attempts - 1, 30), LONGEST_PAUSE)
    chance = jitter.uniform if jitter else random.uniform
    return float(nominal * chance(0.5, 1.0))


def is_due(time: float | None, now: float) -> bool:
    """Whether ``time`` has come, or lies further ahead than any pause: then the clock was stepped back."""
    return time is None or time <= now or time > now + LONGEST_ASKED_PAUSE
