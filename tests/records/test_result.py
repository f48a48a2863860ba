"""An input without a result has one form, wherever it was given up."""

from dataclasses import fields
from pathlib import Path

from cxr_dicom.records import InstanceResult, Outcome, Reason, Skipped, StoredInstance

INSTANCE = StoredInstance(
    path=Path("in/0.dcm"),
    study_instance_uid="1.2",
    series_instance_uid="1.2.3",
    sop_instance_uid="1.2.3.4",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
)


def test_what_was_skipped_is_told_in_full_and_nothing_beside_it():
    skipped = Skipped(
        path=INSTANCE.path,
        reason=Reason.MODEL_FAILED,
        detail="expected one thing, found another",
        outcome=Outcome.FAILED,
        instance=INSTANCE,
    )
    told = InstanceResult.without(skipped)
    assert all(getattr(told, field.name) is getattr(skipped, field.name) for field in fields(Skipped))
    assert (told.analysis, told.objects) == (None, ())


def test_it_is_no_failure_unless_it_is_said():
    skipped = Skipped(path=INSTANCE.path, reason=Reason.NOT_FRONTAL, detail="")
    assert InstanceResult.without(skipped).outcome is Outcome.SKIPPED
