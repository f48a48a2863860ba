"""A destination that is down, for how long soever: what waits is not given up, and the log stays short."""

import logging

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.errors import ConnectionFailedError, SettingsError
from cxr_dicom.records import DeliveryStatus
from cxr_dicom.service.courier import Courier
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger.places import Place as Kind
from cxr_dicom.system import retry, telemetry
from tests.service.test_courier import UIDS, here  # noqa: F401 - a fixture
from tests.store.ledger.helpers import STUDY, state

DAY = 86400.0
GONE = ConnectionFailedError("UNREACHABLE", "PACS at pacs.example:104: connection refused: nothing listens there")
TROUBLES = [
    (GONE, "PACS at pacs.example:104: connection refused: nothing listens there"),
    (ConnectionFailedError("TIMEOUT", "no whole answer in 60 s"), "TIMEOUT: no whole answer in 60 s"),
    (ConnectionFailedError("HTTP 404", "Not Found", http_status=404), "HTTP 404: Not Found"),
    (ConnectionFailedError("REJECTED", "its AE title is not PACS"), "REJECTED: its AE title is not PACS"),
    (RecursionError("Doe^Jane"), "UNEXPECTED: RecursionError at test_courier.py:"),
    (SettingsError("token_command vault: CalledProcessError"), "token_command vault: CalledProcessError"),
]


class Always:
    """A list of answers without an end."""

    def __init__(self, said):
        self._said = said

    def pop(self, index):
        return self._said


def rounds(here, until):  # noqa: F811
    """Carry at each time at which something is due, until a time."""
    while here.now < until and state(here.ledger) not in ("DEAD", "SENT", "COMMITTED"):
        due = [due for (due,) in here.deliveries("next_attempt_at") if due is not None]
        here.now = max(here.now + 1.0, min(due, default=here.now))
        here.courier.carry()


@pytest.mark.parametrize(("trouble", "detail"), TROUBLES, ids=lambda value: str(value)[:20])
def test_all_outages_look_alike(here, trouble, detail):  # noqa: F811
    here.place.answers["send"] = [trouble]
    here.courier.carry()
    assert (
        here.deliveries("state", "status", "attempts", "next_attempt_at") == [("waiting", "UNREACHABLE", 1, 1001.0)] * 3
    )
    assert all(told.startswith(detail) for (told,) in here.deliveries("detail"))
    (outage,) = here.ledger.places.out()
    assert (outage.kind, outage.name) == (Kind.DESTINATION, "pacs")


def test_an_outage_of_days_gives_up_nothing(here):  # noqa: F811
    here.place.answers["send"] = Always(GONE)
    rounds(here, 2 * DAY)
    assert here.deliveries("state", "status") == [("waiting", "UNREACHABLE")] * 3
    assert all(attempts > 150 for (attempts,) in here.deliveries("attempts"))  # each quarter of an hour
    here.place.answers["send"] = []
    here.now += retry.LONGEST_PAUSE
    here.courier.carry()
    assert state(here.ledger) == "SENT"


def test_refusals_count_and_outages_between_them_do_not(here):  # noqa: F811
    busy = Always(DeliveryStatus.FAILED)
    here.place.answers["send"] = busy
    rounds(here, 0.5 * DAY)
    here.place.answers["send"] = Always(GONE)
    rounds(here, 3 * DAY)
    here.place.answers["send"] = busy
    rounds(here, 3.3 * DAY)
    assert state(here.ledger) == "ENCODED"
    rounds(here, 5 * DAY)
    assert state(here.ledger) == "DEAD"
    assert here.now == pytest.approx(3.5 * DAY + 1000, abs=3 * retry.LONGEST_PAUSE)


def test_attempts_that_come_late_in_an_outage_do_not_count_either(here):  # noqa: F811
    """A courier that is busy elsewhere asks ten minutes after it could."""
    here.courier = Courier(here.place, here.ledger, AuditTrail(here.folder), here.courier._spool, give_up_after=3600)
    here.place.answers["send"] = Always(GONE)
    here.courier.carry()
    for _ in range(16):
        here.now = max(due for (due,) in here.deliveries("next_attempt_at")) + 600
        here.courier.carry()
    here.place.answers["send"] = Always(DeliveryStatus.FAILED)
    here.now += 1500
    here.courier.carry()
    assert here.deliveries("state", "status") == [("waiting", "0x0000")] * 3
    rounds(here, DAY)
    assert state(here.ledger) == "DEAD"


def test_the_hours_are_those_of_the_settings(here):  # noqa: F811
    hours = Settings.model_validate({"retry": {"give_up_hours": 2}}).retry.give_up_hours
    here.courier = Courier(
        here.place, here.ledger, AuditTrail(here.folder), here.courier._spool, give_up_after=hours * 3600
    )
    here.place.answers["send"] = Always(DeliveryStatus.FAILED)
    rounds(here, DAY)
    assert state(here.ledger) == "DEAD"
    assert here.now == pytest.approx(2 * 3600 + 1000, abs=2 * retry.LONGEST_PAUSE)
    assert "attempts failed in 2 hours" in here.ledger.stories.show(STUDY)["reason"]


def breaks_at(here, poison, breaks):  # noqa: F811
    """Let the place break off at one object, and take the others."""

    def send(objects):
        here.place.asked.append(("send", [each.sop_instance_uid for each in objects]))
        for each in objects:
            if each.sop_instance_uid == poison and breaks():
                raise ConnectionFailedError("ABORTED", "the peer ended the association")
            yield from here.place._say("send", [each])

    here.place.send = send


def test_an_object_at_which_a_place_breaks_off_goes_last(here):  # noqa: F811
    breaks_at(here, UIDS[0], lambda: True)
    here.courier.carry()
    assert here.deliveries("status") == [("UNREACHABLE",)] * 3
    here.now += 1.0
    here.courier.carry()
    assert here.deliveries("state") == [("waiting",), ("delivered",), ("delivered",)]


def test_an_object_at_which_a_place_breaks_off_again_and_again_is_given_up(here):  # noqa: F811
    """Others are answered for in between: it is this object's trouble, and no outage."""
    here.place.answers["verify"] = Always(DeliveryStatus.FAILED)
    breaks_at(here, UIDS[0], lambda: True)
    rounds(here, 3 * DAY)
    assert state(here.ledger) == "DEAD"
    assert here.deliveries("state", "status")[0] == ("refused", "ABORTED")


# --- the log -------------------------------------------------------------------------------------


def lines(caplog, *actions):
    found = [(each.getMessage(), each.fields) for each in caplog.records if each.getMessage() in actions]
    return [(action, {**fields}) for action, fields in found]


def test_an_outage_is_one_line_an_hour_and_one_at_its_end(here, caplog):  # noqa: F811
    here.courier._outages = telemetry.Repeats(lambda: here.now)
    here.place.answers["send"] = Always(GONE)
    rounds(here, 1000 + 10 * 3600)
    here.place.answers["send"] = []
    here.now += 900
    here.courier.carry()
    failed = lines(caplog, "delivery_failed")
    assert 9 <= len(failed) <= 11
    assert failed[0][1] == {"destination": "pacs", "error": str(GONE)}
    assert failed[-1][1]["times"] >= 4
    ((_, ended),) = lines(caplog, "delivery_recovered")
    assert (ended["destination"], ended["times"]) == ("pacs", here.place.asked.count(("send", list(UIDS))) - 1)


def test_the_same_refusal_of_many_objects_is_one_line(here, caplog):  # noqa: F811
    here.place.answers["send"] = [DeliveryStatus.REFUSED] * 3
    here.courier.carry()
    assert lines(caplog, "object_not_taken") == [("object_not_taken", {"destination": "pacs", "error": "0x0000"})]


def test_what_changes_is_told_and_numbers_are_no_change(caplog):
    now = [0.0]
    repeats = telemetry.Repeats(lambda: now[0])
    for words in ("timed out after 31 s", "timed out after 34 s", "refused", "timed out after 30 s"):
        repeats.failed("delivery_failed", words, level=logging.ERROR)
    assert [fields["error"] for _, fields in lines(caplog, "delivery_failed")] == ["timed out after 31 s", "refused"]
    now[0] = 60.0
    repeats.ended("delivery_recovered")
    repeats.ended("delivery_recovered")
    assert lines(caplog, "delivery_recovered") == [("delivery_recovered", {"times": 4, "seconds": 60})]


def test_kinds_of_trouble_are_bounded():
    repeats = telemetry.Repeats()
    for number in range(1000):
        repeats.failed("delivery_failed", "x" * number, level=logging.DEBUG)
    assert len(repeats._untold) <= 50
