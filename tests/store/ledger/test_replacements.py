"""What goes in the place of a refused object, and reports of storage commitment."""

from dataclasses import replace

import pytest

from cxr_dicom.records import DeliveryStatus, EncodedObject, ObjectKind, Receipt
from cxr_dicom.store.ledger import Dispatch
from cxr_dicom.system import retry
from tests.store.ledger.helpers import STUDY, claimed, instance, result, say, sent, state

LABEL_MAP, BINARY = "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.66.4"


def unsupported(uid="9.1", destination="pacs"):
    return Receipt(
        sop_instance_uid=uid,
        destination=destination,
        delivery_status=DeliveryStatus.UNSUPPORTED,
        status="0x0122",
        detail="a twin goes instead",
    )


def twin_of(ledger, uid="9.1"):
    return EncodedObject(
        path=ledger.folder / f"twin-{uid}.dcm",
        kind=ObjectKind.SEGMENTATION,
        sop_class_uid=BINARY,
        sop_instance_uid=f"{uid}.7",
        series_instance_uid="8",
        source_sop_instance_uids=("1.2.3.1.1",),
        model="m",
    )


def deliveries(ledger):
    return {
        (each["sop_instance_uid"], row["destination"]): (row["state"], row["status"], row["detail"], row["verify"])
        for each in ledger.stories.show(STUDY)["objects"]
        for row in each["deliveries"]
    }


@pytest.mark.parametrize("verify", [False, True])
def test_a_twin_takes_the_place_of_what_a_destination_does_not_know(ledger, verify):
    sent(ledger, "pacs", "other", verify=verify)
    ledger.deliveries.replace(unsupported(), twin_of(ledger))
    assert deliveries(ledger) == {
        ("9.1", "pacs"): ("replaced", "0x0122", "a twin goes instead", verify),
        ("9.1", "other"): ("waiting", "", "", verify),
        ("9.1.7", "pacs"): ("waiting", "", "", verify),
    }
    (due,) = ledger.deliveries.due("pacs")
    assert due.object == twin_of(ledger)
    assert due.study_instance_uid == STUDY
    made = ledger.stories.show(STUDY)["objects"][1]
    assert (made["twin_of"], made["job_id"]) == ("9.1", ledger.stories.show(STUDY)["jobs"][0]["id"])
    assert ("deliveries_total", {"destination": "pacs", "answer": "unsupported"}, 1.0) in ledger.stories.figures()
    say(ledger, DeliveryStatus.ACCEPTED, destination="other")
    say(ledger, DeliveryStatus.ACCEPTED, uid="9.1.7")
    assert state(ledger) == "SENT"


def test_a_twin_whose_file_is_gone_gets_its_new_one_and_one_that_is_there_stays(ledger):
    sent(ledger, "pacs", "other")
    ledger.deliveries.replace(unsupported(), twin_of(ledger))
    ledger.deliveries.replace(unsupported(destination="other"), replace(twin_of(ledger), path=ledger.folder / "new"))
    assert ledger.deliveries.due("other")[0].object.path == ledger.folder / "twin-9.1.dcm"
    with ledger.transaction() as connection:
        connection.execute("UPDATE objects SET path = NULL WHERE sop_instance_uid = '9.1.7'")
        connection.execute("UPDATE deliveries SET state = 'waiting' WHERE sop_instance_uid = '9.1'")
    ledger.deliveries.replace(unsupported(), replace(twin_of(ledger), path=ledger.folder / "new"))
    assert ledger.deliveries.due("other")[0].object.path == ledger.folder / "new"


def test_nothing_takes_the_place_of_what_is_forgotten_or_withdrawn(ledger):
    ledger.deliveries.replace(unsupported(), twin_of(ledger))
    sent(ledger, "pacs")
    ledger.deliveries.withdraw("pacs")
    ledger.deliveries.replace(unsupported(), twin_of(ledger))
    assert list(deliveries(ledger)) == [("9.1", "pacs")]
    assert not [name for name, *_ in ledger.stories.figures() if name == "deliveries_total"]


@pytest.fixture
def siblings(ledger):
    """Two label maps of one job, the second of another model, and a BINARY segmentation of the first."""
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    made = result(ledger, claim, "9.1", "9.2", "9.3")
    label_map, other, binary = made.instances[0].objects
    objects = (
        replace(label_map, sop_class_uid=LABEL_MAP),
        replace(other, sop_class_uid=LABEL_MAP, model="another"),
        binary,
    )
    made = replace(made, instances=(replace(made.instances[0], objects=objects),))
    ledger.studies.finish(claim, made, [], [Dispatch(destination="pacs", verify=False)])
    return binary


def test_a_sibling_says_the_same_of_the_same_images(ledger, siblings):
    assert ledger.deliveries.sibling("9.1", BINARY) == siblings
    assert ledger.deliveries.sibling("9.2", BINARY) is None  # of another model
    assert ledger.deliveries.sibling("9.1", "1.2.840.10008.5.1.4.1.1.30") is None


def test_neither_a_twin_nor_a_file_that_is_gone_is_a_sibling(ledger, siblings):
    ledger.deliveries.replace(unsupported("9.2"), twin_of(ledger, "9.2"))
    assert ledger.deliveries.sibling("9.2", BINARY) is None
    ledger.stories.drop_files(STUDY, "objects")
    assert ledger.deliveries.sibling("9.1", BINARY) is None


def test_a_transaction_of_commitment_is_known_for_a_day(ledger, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    ledger.deliveries.open_commitment("2.25.1", "pacs")
    assert ledger.deliveries.commitment_destination("2.25.1") == "pacs"
    assert ledger.deliveries.commitment_destination("2.25.2") is None
    monkeypatch.setattr("time.time", lambda: 1000.0 + retry.GIVE_UP_AFTER)
    ledger.deliveries.open_commitment("2.25.2", "other")
    assert ledger.deliveries.commitment_destination("2.25.1") == "pacs"
    monkeypatch.setattr("time.time", lambda: 1001.0 + retry.GIVE_UP_AFTER)
    ledger.deliveries.open_commitment("2.25.3", "other")
    assert ledger.deliveries.commitment_destination("2.25.1") is None
    assert ledger.deliveries.commitment_destination("2.25.2") == "other"


def test_the_ledger_says_where_files_lie(ledger):
    sent(ledger)
    assert ledger.studies.path_of("1.2.3.1.1") == ledger.folder / "1.2.3.1.1.dcm"
    assert ledger.studies.path_of("1.2.3.1.2") is None
    assert ledger.stories.paths() == {ledger.folder / "1.2.3.1.1.dcm", ledger.folder / "9.1.dcm"}
    ledger.stories.drop_files(STUDY, "objects")
    assert ledger.stories.paths() == {ledger.folder / "1.2.3.1.1.dcm"}


def test_a_study_whose_twin_was_taken_already_is_settled_by_the_replacement(ledger):
    sent(ledger, "pacs", objects=("9.1", "9.2"))
    say(ledger, DeliveryStatus.ACCEPTED, uid="9.2")
    assert state(ledger) == "ENCODED"
    ledger.deliveries.replace(unsupported(), replace(twin_of(ledger), sop_instance_uid="9.2"))
    assert state(ledger) == "SENT"


def test_a_study_given_up_for_one_destination_is_open_again_when_another_lost_what_it_took(ledger):
    sent(ledger, "pacs", "other", verify=True)
    say(ledger, DeliveryStatus.ACCEPTED)
    say(ledger, DeliveryStatus.REFUSED, destination="other")
    assert state(ledger) == "DEAD"
    lost = replace(unsupported(), delivery_status=DeliveryStatus.REFUSED)
    ledger.deliveries.send_again(lost, retry_at=0.0)
    assert state(ledger) == "ENCODED"
