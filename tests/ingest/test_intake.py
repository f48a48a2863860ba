"""The one door of the service: what is taken is a file and a row, and what is not has its reason."""

import json
from io import BytesIO

import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.intake import Intake, Refusal, RefusedError
from cxr_dicom.records import MANUFACTURER
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import settings


class Door:
    def __init__(self, folder, **tables):
        made = settings(folder, **tables)
        self.spool, self.ledger = Spool(made), Ledger(made.spool.folder)
        audit = AuditTrail(self.spool.folder)
        self.intake = Intake(self.spool, self.ledger, Assembly(made.assembly), audit, made.listener.sop_classes)

    def store(self, dataset, uid=None, **more):
        content = dataset if isinstance(dataset, bytes) else content_of(dataset)
        uid = uid or dataset.SOPInstanceUID
        return self.intake.store(
            lambda: self.spool.write_part([content]), sender="MODALITY", sop_instance_uid=uid, **more
        )

    def trail(self):
        lines = (self.spool.folder / "audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def files(self):
        return [path for name in ("part", "sources") for path in (self.spool.folder / name).rglob("*.dcm")]


def content_of(dataset):
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def door(tmp_path):
    made = Door(tmp_path)
    yield made
    made.ledger.close()


def test_what_is_taken_is_a_file_and_a_row(door):
    image = radiograph(32, 32)
    stored = door.store(image)
    assert stored.path.read_bytes() == content_of(image)
    assert door.ledger.studies.knows(image.SOPInstanceUID)
    (line,) = door.trail()
    assert (line["action"], line["outcome"], line["sender"]) == ("instance_received", "new", "MODALITY")


def changed(**attributes):
    image = radiograph(32, 32)
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    return image


REFUSED = {
    "no DICOM": (b"expected a UID", "1.2", Refusal.UNREADABLE),
    "cut off in its header": (content_of(radiograph(32, 32))[:400], "1.2", Refusal.UNREADABLE),
    "a path for a UID": (changed(StudyInstanceUID="../../etc"), None, Refusal.INVALID_UID),
    "a UID too long": (changed(StudyInstanceUID="1" * 65), None, Refusal.INVALID_UID),
    "no UID": (changed(SeriesInstanceUID=""), None, Refusal.INVALID_UID),
    "another class": (changed(SOPClassUID=SecondaryCaptureImageStorage), None, Refusal.WRONG_SOP_CLASS),
    "another instance": (radiograph(32, 32), "1.2.3", Refusal.UID_MISMATCH),
    "our own": (changed(Manufacturer=MANUFACTURER), None, Refusal.OWN_OUTPUT),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("content", "uid", "refusal"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_taken_has_its_reason_and_leaves_nothing(door, content, uid, refusal):
    with pytest.raises(RefusedError) as refused:
        door.store(content, uid)
    assert refused.value.refusal is refusal
    assert (door.files(), door.ledger.stories.summaries()) == ([], [])
    (line,) = door.trail()
    assert (line["action"], line["reason"]) == ("instance_refused", refusal)


def test_an_image_of_another_study_stays_there(door):
    door.store(radiograph(32, 32))
    with pytest.raises(RefusedError) as refused:
        door.store(changed(StudyInstanceUID="1.2.3"))
    assert refused.value.refusal is Refusal.OTHER_STUDY
    assert len(door.files()) == 1


def test_a_full_disk_is_told(tmp_path):
    door = Door(tmp_path, spool={"min_free_mb": 10**9})
    with pytest.raises(RefusedError) as refused:
        door.store(radiograph(32, 32))
    assert refused.value.refusal is Refusal.NO_SPACE
    door.ledger.close()
