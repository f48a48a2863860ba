"""What `/health` and the metrics tell of deliveries and studies, and when a service counts as dead."""

import json
import urllib.error
import urllib.request

import pytest

from cxr_dicom.records import DeliveryStatus, Outcome, Reason
from cxr_dicom.service import health
from cxr_dicom.service.metrics import MetricsServer
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.places import Place
from tests.service_helpers import free_port, settings
from tests.store.ledger.helpers import STUDY, claimed, instance, result, say, sent

SETTINGS = {
    "destinations": [{"name": "pacs", "kind": "folder", "path": "somewhere"}],
    "poller": {"archives": [{"name": "vna", "kind": "dicomweb", "url": "http://127.0.0.1:1/"}]},
}


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path)
    yield made
    made.close()


@pytest.fixture
def told(tmp_path, ledger):
    """A function that returns the problems, and the figures that are not zero."""
    known = settings(tmp_path, **SETTINGS)

    def tell():
        problems = {part: each.text for part, each in health.problems(ledger, known).items()}
        figures = {(name, *labels.values()): value for name, labels, value in health.figures(ledger, known) if value}
        return problems, figures

    return tell


@pytest.fixture
def clock(monkeypatch):
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


def test_all_is_well(told, ledger):
    sent(ledger, "pacs")
    say(ledger, DeliveryStatus.ACCEPTED)
    assert told() == ({}, {})


def test_a_destination_that_does_not_answer_is_named_since_when_and_why(told, ledger, clock):
    sent(ledger, "pacs", objects=("9.1", "9.2"))
    ledger.places.failed(Place.DESTINATION, "pacs", "UNREACHABLE: refused")
    clock[0] += 7200
    ledger.places.failed(Place.DESTINATION, "pacs", "TIMEOUT: no answer")
    problems, figures = told()
    said = f"no answer since {health.when(1_000_000.0)}: TIMEOUT: no answer"
    assert problems == {"destination pacs": f"{said}; objects that wait for it: 2, the oldest for 2 h"}
    assert figures == {
        ("deliveries_waiting", "pacs"): 2,
        ("oldest_undelivered_seconds", "pacs"): 7200,
        ("destination_outage_seconds", "pacs"): 7200,
    }
    ledger.places.answered(Place.DESTINATION, "pacs")
    assert told()[0] == {"destination pacs": "slow; objects that wait for it: 2, the oldest for 2 h"}


def test_an_archive_that_fails_is_named(told, ledger, clock):
    ledger.places.failed(Place.ARCHIVE, "vna", "HTTP 503")
    ledger.places.failed(Place.ARCHIVE, "former", "not in the settings")
    clock[0] += 60
    problems, figures = told()
    assert problems == {"archive vna": f"fails since {health.when(1_000_000.0)}: HTTP 503"}
    assert figures == {("archive_outage_seconds", "vna"): 60}


def test_what_was_given_up_is_counted(told, ledger):
    sent(ledger, "pacs")
    say(ledger, DeliveryStatus.REFUSED)
    ledger.studies.add(instance(ledger, "1.4.1", "1.4"), "aa")
    claimed(ledger)
    ledger.studies.take_back()
    claimed(ledger, interruptions=1)
    assert told()[0] == {
        "DEAD": "studies given up: 1; `cxr-dicom jobs list --state dead` says why",
        "HELD": "studies given up: 1; `cxr-dicom jobs list --state held` says why",
    }


def test_a_machine_that_lacks_memory_is_told_while_it_does(told, ledger):
    ledger.studies.add(instance(ledger), "aa")
    for _ in range(2):  # told while a study waits, and while it is tried again
        claim = claimed(ledger)
        failed = result(ledger, claim, outcome=Outcome.FAILED, reason=Reason.INTERNAL_ERROR)
        ledger.studies.postpone(claim, failed, 0.0, counts=False)
        lacks = "this machine lacks room, memory or permission: INTERNAL_ERROR: "
        assert told() == (
            {"machine": f"studies that wait for it: 1; {lacks}"},
            {("studies_short_of_resources",): 1},
        )
    claim = claimed(ledger)
    assert told()[0]
    ledger.studies.postpone(claim, failed, 0.0)  # another failure
    assert told() == ({}, {})
    assert ledger.stories.show(STUDY)["reason"] == "attempt 1 failed: INTERNAL_ERROR: "


@pytest.mark.parametrize(
    ("problems", "status", "code"),
    [
        ({}, "ok", 200),
        ({"spool": health.Problem(text="full")}, "degraded", 200),
        (
            {"spool": health.Problem(text="full"), "poller": health.Problem(text="stopped", is_fatal=True)},
            "failing",
            503,
        ),
    ],
)
def test_degraded_is_told_from_dead(problems, status, code):
    port = free_port()
    server = MetricsServer(port, list, lambda: problems)
    try:
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = json.load(answer)
        assert (answer.status, body["status"], list(body["problems"])) == (code, status, list(problems))
    finally:
        server.stop()
