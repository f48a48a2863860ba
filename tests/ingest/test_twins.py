"""Two files of one instance: the one that cannot be used does not stand in front of the one that can."""

import shutil
from dataclasses import replace

import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, RLELossless

from cxr_dicom import synthetic
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.folder import scan
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.records import Reason
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool
from tests import service_helpers


def without_pixels(dataset):
    del dataset.PixelData


def native_and_short(dataset):
    dataset.PixelData = dataset.PixelData[:-100]


def compressed(syntax, keep):
    def damage(dataset):
        whole = synthetic.stored_as(dataset, syntax)
        frame = get_frame(whole.PixelData, 0, number_of_frames=1)
        dataset.PixelData = encapsulate([frame[: int(keep * len(frame))]])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = syntax

    return damage


DAMAGE = {
    "no pixels": without_pixels,
    "too short": native_and_short,
    "half of JPEG 2000": compressed(JPEG2000Lossless, 0.5),
    "half of RLE": compressed(RLELossless, 0.5),
}


@pytest.fixture(params=DAMAGE.values(), ids=DAMAGE)
def twins(request, tmp_path):
    """The paths of a damaged file, and of the whole one."""
    whole = synthetic.radiograph(64, 48)
    (tmp_path / "in").mkdir()
    whole.save_as(tmp_path / "in" / "b", enforce_file_format=True)
    damaged = dcmread(tmp_path / "in" / "b")
    request.param(damaged)
    damaged.save_as(tmp_path / "in" / "a", enforce_file_format=True)
    return tmp_path / "in" / "a", tmp_path / "in" / "b"


def test_a_folder_gives_the_whole_one(twins):
    damaged, whole = twins
    ((study,), (skipped,)) = scan([damaged.parent])
    assert [each.path for each in study.instances] == [whole]
    assert (skipped.path, skipped.reason) == (damaged, Reason.DUPLICATE_INSTANCE)
    assert "later file" in skipped.detail


def test_so_it_does_the_other_way_round(twins):
    damaged, whole = twins
    first, last = whole.with_name("0"), damaged
    whole.rename(first)
    ((study,), (skipped,)) = scan([last.parent])
    assert ([each.path for each in study.instances], skipped.path) == ([first], last)


def test_a_list_gives_the_whole_one(twins, tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in twins))
    found = manifest.read(str(tmp_path / "list.txt"))
    assert [each.path for entry in found.entries for each in entry.study.instances] == [twins[1]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0)], ids=str)
def test_the_service_keeps_the_whole_one(twins, tmp_path, order):
    settings = service_helpers.settings(tmp_path / "spool")
    spool, ledger = Spool(settings), Ledger(settings.spool.folder)
    intake = Intake(spool, ledger, Assembly(settings.assembly), AuditTrail(spool.folder), settings.listener.sop_classes)
    try:
        for each in order:
            content = twins[each].read_bytes()
            uid = str(dcmread(twins[each], specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
            intake.store(lambda content=content: spool.write_part([content]), sender="TEST", sop_instance_uid=uid)
        assert ledger.studies.path_of(uid).read_bytes() == twins[1].read_bytes()
    finally:
        ledger.close()


def test_equal_twins_are_not_decoded(twins, monkeypatch):
    damaged, whole = twins
    shutil.copy(whole, whole.with_name("c"))
    damaged.unlink()
    monkeypatch.setattr("cxr_dicom.ingest.folder.is_whole", None)
    ((study,), (skipped,)) = scan([whole.parent])
    assert (study.instances[0].path, skipped.path) == (whole, whole.with_name("c"))
    assert replace(skipped.instance, path=whole) == study.instances[0]
