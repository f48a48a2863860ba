"""What the ledger keeps of each image for `monitor`, also one of the version before, until its study is forgotten."""

import sqlite3

import pytest

from cxr_dicom.records import Presence, Reason
from cxr_dicom.records.result import InstanceResult, StudyResult
from cxr_dicom.records.words import Outcome
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.schema import MIGRATIONS
from cxr_dicom.synthetic import radiograph
from tests.painted import analysis, model
from tests.store.ledger.helpers import claimed, instance, say, sent

STUDY = "1.2.3"
PATIENT = {
    "PatientName": "Quixote^Alonso",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19470929",
    "StudyDate": "20261101",
    "AccessionNumber": "ACC-0815",
}


@pytest.fixture
def image(selected):
    device = {"Manufacturer": "Maker\x07", "ManufacturerModelName": "Panel", "StationName": "ROOM1"}
    return selected(radiograph(160, 128, **device, **PATIENT))


def finish(ledger, image, **changes):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    (stored,) = claim.study.instances
    analysed = analysis(image) if image else None
    found = {"outcome": Outcome.PROCESSED, "image": image, "analysis": analysed, **changes}
    made = InstanceResult(path=stored.path, instance=stored, **found)
    ledger.studies.finish(
        claim, StudyResult(study_instance_uid=STUDY, job_key="k", instances=(made,)), [model("painted")]
    )


def test_an_image_is_kept_with_what_was_found_and_nothing_of_the_patient(ledger, image):
    finish(ledger, image)
    (found,) = ledger.observations.between(0, float("inf"))
    assert (found.sender, found.station, found.device, found.view) == ("MODALITY", "ROOM1", "Maker Panel", "PA")
    assert found.scores["pleural_effusion"] == (0.25, Presence.PRESENT)
    assert 0.2 < found.measurements["cardiothoracic_ratio"] < 0.9
    assert found.plausible is False  # the painted spine was not found
    assert found.models == (("painted", "1", model("painted").weights_sha256),)
    assert found.outcome == "processed"
    assert found.delivered_at is None
    (row,) = ledger.rows("SELECT * FROM observations")
    kept = " ".join(map(str, tuple(row)))
    assert not [value for value in PATIENT.values() if value in kept]


def test_a_refused_image_is_kept_with_its_reason(ledger):
    finish(ledger, None, outcome=Outcome.SKIPPED, reason=Reason.NOT_A_CHEST_CONTENT)
    (found,) = ledger.observations.between(0, float("inf"))
    assert (found.reason, found.plausible, found.scores) == ("NOT_A_CHEST_CONTENT", False, {})


def test_it_is_forgotten_with_its_study(ledger, image):
    finish(ledger, image)
    ledger.stories.forget(STUDY)
    assert list(ledger.observations.between(0, float("inf"))) == []


def test_it_is_delivered_when_every_destination_has_all(ledger):
    sent(ledger, "pacs", "other")
    say(ledger, "accepted")
    assert [each.delivered_at for each in ledger.observations.between(0, float("inf"))] == [None]
    say(ledger, "accepted", destination="other")
    (found,) = ledger.observations.between(0, float("inf"))
    assert found.delivered_at >= found.received_at


def test_a_ledger_of_the_version_before_is_brought_up(tmp_path):
    number = next(n for n, each in enumerate(MIGRATIONS) if "CREATE TABLE observations" in each)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    for migration in MIGRATIONS[:number]:
        connection.executescript(migration)
    columns = "study_instance_uid, state, received_at, changed_at"
    connection.execute(f"INSERT INTO studies ({columns}) VALUES ('1', 'SENT', 1, 1)")
    connection.execute(f"PRAGMA user_version = {number}")
    connection.commit()
    connection.close()
    ledger = Ledger(tmp_path)
    assert list(ledger.observations.between(0, float("inf"))) == []
    assert ledger.observations.first() is None
    assert ledger.stories.show("1")["state"] == "SENT"
