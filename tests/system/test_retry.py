import random

import pytest

from cxr_dicom.records import DeliveryStatus
from cxr_dicom.system import retry


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (0x0000, DeliveryStatus.ACCEPTED),
        (0xB000, DeliveryStatus.WARNING),
        (0xB006, DeliveryStatus.WARNING),
        (0xB007, DeliveryStatus.WARNING),
        *((code, DeliveryStatus.WARNING) for code in (0xB00A, 0xB100, 0xBFFF, 0x0001, 0x0107, 0x0116)),  # by class
        *((code, DeliveryStatus.ACCEPTED) for code in (0x0111, 0xB00E)),  # there already
        *((code, DeliveryStatus.FAILED) for code in (0xB00F, 0xFE00, 0xFF00, 0xFF01, 0x0210, 0x0211, 0x0213)),
        *((code, DeliveryStatus.REFUSED) for code in (0xC0DE, 0xA800, 0x0002, 0x0212, 0xD000, 0xFFFF, -1, 0x10000)),
        (0x0118, DeliveryStatus.UNSUPPORTED),
        (0xA700, DeliveryStatus.FAILED),
        (0xA7FF, DeliveryStatus.FAILED),
        (0x0110, DeliveryStatus.FAILED),
        (0xA900, DeliveryStatus.REFUSED),
        (0xC001, DeliveryStatus.REFUSED),
        (0x0122, DeliveryStatus.UNSUPPORTED),
        (0x0124, DeliveryStatus.REFUSED),
    ],
)
def test_dimse_status(status, answer):
    assert retry.answer_of_dimse(status) is answer


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        *((200, "accepted"), (202, "accepted"), (299, "accepted"), (300, "refused")),
        *((408, "failed"), (425, "failed"), (429, "failed"), (500, "failed"), (503, "failed")),
        *((199, "refused"), (400, "refused"), (415, "unsupported"), (499, "refused")),
    ],
)
def test_http_status(status, answer):
    assert retry.answer_of_http(status) == answer


def test_which_http_status_is_about_the_object():
    about = {status for status in range(300, 600) if retry.is_about_the_object(status)}
    assert about == {400, 409, 413, 415, 422, 500}


def test_pauses_grow_from_one_second_to_a_quarter_of_an_hour():
    pauses = [retry.pause_after(attempts, random.Random(attempts)) for attempts in range(1, 40)]
    nominal = [min(2.0**n, 900) for n in range(39)]
    assert all(n / 2 <= pause <= n for pause, n in zip(pauses, nominal, strict=True))
    assert len({retry.pause_after(20, random.Random(seed)) for seed in range(5)}) == 5


def test_chance_is_that_of_the_source_that_was_given():
    pauses = {retry.pause_after(20, random.Random(5)) for _ in range(5)}
    decisions = {retry.decide(attempts=20, first_attempt_at=0, now=50, jitter=random.Random(5)) for _ in range(5)}
    assert decisions == {retry.RetryAt(time=50 + pause) for pause in pauses}
    assert len(decisions) == 1


def test_a_day_of_failures_is_given_up():
    early = retry.decide(attempts=90, first_attempt_at=1000, now=87399)
    late = retry.decide(attempts=91, first_attempt_at=1000, now=87400)
    assert isinstance(early, retry.RetryAt)
    assert late == retry.GiveUp(reason="91 attempts failed in 24 hours")


def test_a_place_that_does_not_answer_is_never_given_up():
    assert isinstance(retry.decide(attempts=10**6, first_attempt_at=0, now=10**9, is_outage=True), retry.RetryAt)


def test_retry_after_is_honoured_within_reason():
    asked = retry.decide(attempts=1, first_attempt_at=0, now=0, retry_after=120)
    shameless = retry.decide(attempts=1, first_attempt_at=0, now=0, retry_after=1e9)
    assert asked == retry.RetryAt(time=120)
    assert shameless == retry.RetryAt(time=retry.LONGEST_ASKED_PAUSE)


def test_a_clock_stepped_back_does_not_stop_the_retries():
    assert retry.is_due(None, 0)
    assert retry.is_due(10, 10)
    assert not retry.is_due(11, 10)
    assert not retry.is_due(10 + retry.LONGEST_ASKED_PAUSE, 10)
    assert retry.is_due(11 + retry.LONGEST_ASKED_PAUSE, 10)
    assert retry.is_due(1e9, 10)
