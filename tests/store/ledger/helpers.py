"""What the tests of the ledger share: an instance that arrives, a study that runs, what a destination says."""

from cxr_dicom.records import EncodedObject, InstanceResult, ObjectKind, Outcome, Receipt, StoredInstance, StudyResult
from cxr_dicom.store.ledger import Dispatch
from cxr_dicom.store.ledger.actions import Actions, Person

STUDY = "1.2.3"


def instance(ledger, sop="1.2.3.1.1", study=STUDY):
    path = ledger.folder / f"{sop}.dcm"
    path.touch()
    return StoredInstance(
        path=path,
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=sop,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        sender="MODALITY",
    )


def result(ledger, claim, *objects, outcome=Outcome.PROCESSED, reason=None, key="key"):
    made = tuple(
        EncodedObject(
            path=ledger.folder / f"{uid}.dcm",
            kind=ObjectKind.SEGMENTATION,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            sop_instance_uid=uid,
            series_instance_uid="9",
            source_sop_instance_uids=("1.2.3.1.1",),
            model="m",
        )
        for uid in objects
    )
    instances = tuple(
        InstanceResult(path=i.path, outcome=outcome, instance=i, reason=reason, objects=made)
        for i in claim.study.instances
    )
    return StudyResult(study_instance_uid=claim.study.study_instance_uid, job_key=key, instances=instances)


def claimed(ledger, name="w", interruptions=9):
    for uid in ledger.studies.uids("RECEIVING"):
        ledger.studies.complete(uid)
    return ledger.studies.claim(name, max_interruptions=interruptions)


def actions(ledger):
    return Actions(ledger, Person(name="anna", via="command"))


def state(ledger, study=STUDY):
    return ledger.stories.show(study)["state"]


def sent(ledger, *destinations, verify=False, objects=("9.1",)):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    dispatches = [Dispatch(destination=name, verify=verify) for name in destinations]
    ledger.studies.finish(claim, result(ledger, claim, *objects), [], dispatches)


def say(ledger, answer, uid="9.1", destination="pacs", **more):
    ledger.deliveries.record(
        Receipt(sop_instance_uid=uid, destination=destination, delivery_status=answer, status="0x0000"), **more
    )
