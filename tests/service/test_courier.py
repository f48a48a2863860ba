"""What a courier makes of what its destination says, or of a destination that says nothing."""

import json
import threading
import time

import pytest

from cxr_dicom.deliver.base import receipt
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.records import DeliveryStatus, EncodedObject, InstanceResult, ObjectKind, Outcome, StudyResult
from cxr_dicom.service.breaker import Breaker
from cxr_dicom.service.courier import Courier
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Dispatch, Ledger, LedgerError
from cxr_dicom.store.spool import Spool
from tests.service_helpers import settings
from tests.store.ledger.helpers import STUDY, actions, claimed, instance

UIDS = ("9.1", "9.2", "9.3")


class Place:
    """A destination that answers from a list, keyed by what it is asked: an answer, or trouble that is raised."""

    name = "pacs"

    def __init__(self):
        self.asked = []
        self.answers = {"send": [], "verify": []}

    def _say(self, what, objects):
        self.asked.append((what, [each.sop_instance_uid for each in objects]))
        for each in objects:
            said = self.answers[what].pop(0) if self.answers[what] else DeliveryStatus.ACCEPTED
            if isinstance(said, Exception):
                raise said
            yield receipt(self.name, each, said, "0x0000")

    def send(self, objects):
        return self._say("send", objects)

    def verify(self, objects):
        return self._say("verify", objects)

    def check(self):
        return "is there"


class Here:
    """A ledger with three objects for the place, their courier, and a clock that can be moved on."""

    def __init__(self, folder, monkeypatch):
        self.monkeypatch, self.now = monkeypatch, 1000.0
        monkeypatch.setattr("random.uniform", lambda low, high: high)  # no pause is shortened by chance
        monkeypatch.setattr("cxr_dicom.service.courier.Breaker", lambda: Breaker(clock=lambda: self.now))
        monkeypatch.setattr(time, "time", lambda: self.now)
        spool = Spool(settings(folder))
        self.place, self.folder, self.ledger = Place(), spool.folder, Ledger(spool.folder)
        self.courier = Courier(self.place, self.ledger, AuditTrail(spool.folder), spool)
        self.ledger.studies.add(instance(self.ledger), "aa")
        claim = claimed(self.ledger)
        objects = tuple(
            EncodedObject(
                path=spool.folder / f"{uid}.dcm",
                kind=ObjectKind.SECONDARY_CAPTURE,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
                sop_instance_uid=uid,
                series_instance_uid="9",
                source_sop_instance_uids=(),
                model=None,
            )
            for uid in UIDS
        )
        (source,) = claim.study.instances
        made = InstanceResult(path=source.path, outcome=Outcome.PROCESSED, instance=source, objects=objects)
        result = StudyResult(study_instance_uid=STUDY, job_key="k", instances=(made,))
        self.ledger.studies.finish(claim, result, [], [Dispatch(destination="pacs", verify=True)])

    def deliveries(self, *names):
        story = self.ledger.stories.show(STUDY)
        return [tuple(each["deliveries"][0][name] for name in names) for each in story["objects"]]

    def audit(self):
        lines = (self.folder / "audit.jsonl").read_text().splitlines()
        return [(line["action"], line["sop_instance_uid"], line["status"]) for line in map(json.loads, lines)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    made = Here(tmp_path, monkeypatch)
    yield made
    made.ledger.close()


def test_what_is_due_is_sent_and_then_verified(here):
    assert here.courier.name == "pacs"
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 3
    assert here.courier.carry() is True
    assert here.place.asked == [("send", list(UIDS)), ("verify", list(UIDS))]
    assert here.deliveries("state") == [("committed",)] * 3
    assert here.courier.carry() is False
    assert len(here.place.asked) == 2
    assert here.audit() == [
        *(("object_accepted", uid, "0x0000") for uid in UIDS),
        *(("object_committed", uid, "0x0000") for uid in UIDS),
    ]


def test_what_a_destination_does_not_keep_is_sent_again(here):
    here.place.answers["verify"] = [DeliveryStatus.REFUSED, DeliveryStatus.COMMITTED, DeliveryStatus.FAILED]
    assert here.courier.carry()
    assert here.deliveries("state", "next_attempt_at") == [
        ("waiting", 1001.0),
        ("committed", None),
        ("delivered", 1001.0),
    ]
    here.now = 1001.0
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 2
    assert here.courier.carry()
    assert here.place.asked[2] == ("send", ["9.1"])


def test_verifying_alone_is_work_too(here):
    here.courier.carry()  # all are delivered; what the place says of keeping them changes nothing yet
    here.place.asked.clear()
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 3
    assert here.courier.carry() is True
    assert [what for what, _ in here.place.asked] == ["verify"]


@pytest.mark.parametrize(("asked", "pause"), [(None, 1.0), (120.0, 120.0), (1e9, 3600.0)])
def test_a_place_that_breaks_off_keeps_what_it_took_and_is_left_alone(here, asked, pause):
    here.place.answers["send"] = [DeliveryStatus.ACCEPTED, ConnectionFailedError("HTTP 503", "busy", asked)]
    assert here.courier.carry() is True
    assert [what for what, _ in here.place.asked] == ["send"]  # it is not asked to verify now
    assert here.deliveries("state", "status", "detail", "attempts", "next_attempt_at") == [
        ("delivered", "0x0000", "", 0, None),
        ("waiting", "UNREACHABLE", "HTTP 503: busy", 1, 1000.0 + pause),
        ("waiting", "UNREACHABLE", "HTTP 503: busy", 1, 1000.0 + pause),
    ]
    here.now = 1000.0 + pause - 0.5
    assert here.courier.carry() is False
    assert len(here.place.asked) == 1
    here.now = 1000.0 + pause
    assert here.courier.carry() is True
    verified = [("verify", ["9.1", "9.3"]), ("send", ["9.2"])]  # where it broke off goes last
    assert here.place.asked[1:] == [("send", ["9.3"]), *verified]


def test_a_place_that_answers_again_is_as_good_as_new(here):
    gone = ConnectionFailedError("UNREACHABLE", "no")
    here.place.answers["send"] = [gone]
    here.courier.carry()
    here.now = 1001.0
    here.place.answers["send"] = [gone]
    here.courier.carry()
    assert here.deliveries("next_attempt_at") == [(1003.0,)] * 3
    here.now = 1003.0
    here.place.answers = {"send": [DeliveryStatus.ACCEPTED, gone], "verify": []}
    here.courier.carry()
    here.now = 1004.0  # the pause of the place begins with one second again; each object has its own
    here.place.answers = {"send": [], "verify": [DeliveryStatus.COMMITTED]}
    assert here.courier.carry() is True
    assert here.deliveries("state")[0] == ("committed",)


def test_trouble_while_verifying_leaves_delivered_what_was(here):
    here.place.answers["verify"] = [ConnectionFailedError("TIMEOUT", "no answer")]
    assert here.courier.carry() is True
    assert (
        here.deliveries("state", "status", "attempts", "next_attempt_at")
        == [
            ("delivered", "UNREACHABLE", 1, 1001.0),
        ]
        * 3
    )


def test_a_stop_ends_the_batch_after_the_object_that_is_under_way(here):
    stop = threading.Event()
    stop.set()
    assert here.courier.carry(stop) is True
    assert here.deliveries("state", "attempts") == [("delivered", 0), ("waiting", 0), ("waiting", 0)]


def test_a_stop_ends_verifying_after_the_object_that_is_under_way(here):
    here.courier.carry()
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 3
    stop = threading.Event()
    stop.set()
    assert here.courier.carry(stop) is True
    assert here.deliveries("state") == [("committed",), ("delivered",), ("delivered",)]


class Stop(threading.Event):
    """Writes down how long it is waited for, and comes after so many times."""

    def __init__(self, times):
        super().__init__()
        self.waited, self._times = [], times

    def wait(self, timeout=None):
        self.waited.append(timeout)
        if len(self.waited) >= self._times:
            self.set()
        return self.is_set()


class Woken:
    """Stands for what wakes a courier: it rests as `stop` is waited for."""

    def __init__(self, stop):
        self.wait = stop.wait

    def clear(self):
        pass


def run(courier, stop, **more):
    courier.woken = Woken(stop)
    courier.run(stop, **more)


def test_a_courier_that_is_woken_does_not_wait_for_the_end_of_its_pause(here):
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 3
    here.courier.carry()
    here.courier.carry()
    stop, looked = threading.Event(), threading.Semaphore(0)
    carry = here.courier.carry
    here.courier.carry = lambda stop: (carry(stop), looked.release())[0]
    thread = threading.Thread(target=here.courier.run, args=(stop,), kwargs={"pause": 600})
    thread.start()
    assert looked.acquire(timeout=10)
    here.courier.wake()
    assert looked.acquire(timeout=10)
    stop.set()
    here.courier.wake()
    thread.join(10)
    assert not thread.is_alive()


def test_a_courier_rests_only_when_there_is_nothing_to_do(here):
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 3
    stop = Stop(2)
    run(here.courier, stop)
    assert stop.waited == [0.3, 0.3]
    assert here.deliveries("state") == [("committed",)] * 3
    stop = Stop(1)
    run(here.courier, stop, pause=7)
    assert stop.waited == [7]


def test_trouble_of_our_own_does_not_end_a_courier_and_is_not_tried_again_at_once(here, caplog):
    here.place.answers["send"] = [LedgerError("locked")]
    stop = Stop(2)
    run(here.courier, stop)
    assert stop.waited == [5, 0.3]
    assert len(here.place.asked) == 1
    (record,) = (each for each in caplog.records if each.getMessage() == "courier_failed")
    assert record.fields == {"destination": "pacs", "error": "locked"}
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 3
    run(here.courier, Stop(1))
    assert here.deliveries("state", "attempts") == [("committed", 0)] * 3


def test_the_log_says_which_destination_does_not_answer(here, caplog):
    here.place.answers["send"] = [ConnectionFailedError("TIMEOUT", "no answer")]
    here.courier.carry()
    (record,) = (each for each in caplog.records if each.getMessage() == "delivery_failed")
    assert record.fields == {"destination": "pacs", "error": "TIMEOUT: no answer"}


def test_a_stop_that_comes_while_objects_are_sent_ends_the_batch(here):
    stop = threading.Event()
    say, here.place.send = here.place.send, lambda objects: (stop.set(), say(objects))[1]
    run(here.courier, stop)
    assert here.deliveries("state") == [("delivered",), ("waiting",), ("waiting",)]


def test_a_courier_that_is_stopped_does_nothing(here):
    stop = threading.Event()
    stop.set()
    run(here.courier, stop)
    assert here.place.asked == []


def test_a_person_who_wants_it_now_is_not_kept_waiting_by_the_breaker(here):
    here.place.answers["send"] = [ConnectionFailedError("UNREACHABLE", "refused")]
    assert here.courier.carry()
    assert here.courier.carry() is False
    (out,) = here.ledger.places.out()
    assert (out.kind, out.name, out.since, out.cause) == ("destination", "pacs", 1000.0, "UNREACHABLE: refused")
    actions(here.ledger).retry(STUDY)
    here.place.answers["send"] = [ConnectionFailedError("UNREACHABLE", "refused")]
    assert here.courier.carry()  # although the pause lasts
    assert here.courier.carry() is False  # and once only
    here.place.answers["verify"] = [DeliveryStatus.COMMITTED] * 3
    here.now = 1001.0
    actions(here.ledger).retry(STUDY)
    assert here.courier.carry()
    assert here.deliveries("state") == [("committed",)] * 3
    assert here.ledger.places.out() == []


def test_a_place_that_cannot_be_asked_what_it_keeps_takes_objects_at_once_all_the_same(here):
    """A PACS without storage commitment, or whose commitment is out of order, is there."""
    here.place.answers["verify"] = [ConnectionFailedError("CONTEXT_REJECTED", "takes nothing")] * 9
    for _ in range(4):
        here.courier.carry()
        here.now += 900.0
    here.courier.carry()  # it is not to be asked for a quarter of an hour
    (outage,) = here.ledger.places.out()
    assert outage.cause == "verify: CONTEXT_REJECTED: takes nothing"
    here.ledger.deliveries.send_again(receipt("pacs", about("9.1"), DeliveryStatus.REFUSED, "x"), retry_at=here.now)
    here.place.asked.clear()
    here.courier.carry()
    assert here.place.asked == [("send", ["9.1"])]


def about(uid):
    return EncodedObject(
        path=None,
        kind=ObjectKind.SECONDARY_CAPTURE,
        sop_class_uid="1.2",
        sop_instance_uid=uid,
        series_instance_uid="9",
        source_sop_instance_uids=(),
        model=None,
    )


def test_what_is_urgent_overtakes_what_is_left_of_a_batch(here):
    sent = []

    def send(objects):
        for each in objects:
            sent.append(each.sop_instance_uid)
            if sent == ["9.1"]:  # as when an emergency is finished meanwhile
                with here.ledger.transaction() as connection:
                    connection.execute("UPDATE deliveries SET urgent = 1 WHERE sop_instance_uid = '9.3'")
            yield receipt("pacs", each, DeliveryStatus.ACCEPTED, "0x0000")

    here.place.send = send
    here.courier.carry()
    here.courier.carry()
    assert sent == ["9.1", "9.3", "9.2"]
