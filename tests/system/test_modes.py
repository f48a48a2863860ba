"""What holds patient data is for its owner only, unless the settings share it."""

import os
import stat

import pytest

from cxr_dicom import synthetic
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.engines.local import Local
from cxr_dicom.config import Settings
from cxr_dicom.config.service import FolderDestination
from cxr_dicom.deliver.destinations.folder import build
from cxr_dicom.ingest import manifest
from cxr_dicom.records import EncodedObject, ObjectKind
from cxr_dicom.system import atomic


@pytest.fixture(autouse=True)
def usual():
    before = os.umask(0o022)
    yield
    os.umask(before)
    atomic.share(False)


def modes(folder):
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize(("engine", "is_shared"), [(Local(1), False), (Here(), True)], ids=["private", "shared"])
def test_all_that_run_writes(engine, is_shared, tmp_path):
    synthetic.write_study(tmp_path / "in", [synthetic.radiograph(64, 48)])
    tables = {"models": {"names": ["offline-anatomy"], "device": "cpu"}, "files": {"shared": is_shared}}
    settings = Settings.model_validate(tables | {"select": {"no_lungs": "process"}, "encode": {"objects": ["sr"]}})
    tally = cohort_run.run(manifest.read(str(tmp_path / "in")), tmp_path / "out", settings, engine)
    assert tally.images["processed"] == 1
    private = {(True, 0o700), (False, 0o600)}
    assert modes(tmp_path / "out") == ({(True, 0o755), (False, 0o644)} if is_shared else private)


@pytest.mark.parametrize("is_shared", [False, True], ids=["private", "shared"])
def test_a_folder_destination(is_shared, tmp_path, stored):
    image = synthetic.radiograph(32, 32)
    made = EncodedObject(
        kind=next(iter(ObjectKind)),
        path=stored(image),
        sop_class_uid=image.SOPClassUID,
        sop_instance_uid=image.SOPInstanceUID,
        series_instance_uid=image.SeriesInstanceUID,
        source_sop_instance_uids=(),
        model=None,
    )
    table = FolderDestination(kind="folder", name="x", path=tmp_path / "there", shared=is_shared)
    (receipt,) = build(table, lambda transaction: None).send([made])
    assert receipt.status == "COPIED"
    private = {(True, 0o700), (False, 0o600)}
    assert modes(tmp_path / "there") == ({(True, 0o755), (False, 0o644)} if is_shared else private)
