import pytest

from cxr_dicom.records import EncodedObject, ObjectKind
from cxr_dicom.synthetic import radiograph
from tests.deliver.helpers import Waiting
from tests.service_helpers import free_port, listening


@pytest.fixture
def spool(tmp_path):
    """Give a ledger with three objects that wait for the destination ``pacs``, and what carries them."""
    images = [radiograph(32, 32, seed=seed) for seed in range(3)]
    with listening(tmp_path / "spool", listener={"port": free_port()}) as here:
        objects = []
        for image in images:
            path = here.spool.folder / "objects" / f"{image.SOPInstanceUID}.dcm"
            image.save_as(path, enforce_file_format=True)
            objects.append(
                EncodedObject(
                    path=path,
                    kind=ObjectKind.SECONDARY_CAPTURE,
                    sop_class_uid=image.SOPClassUID,
                    sop_instance_uid=image.SOPInstanceUID,
                    series_instance_uid=image.SeriesInstanceUID,
                    source_sop_instance_uids=(),
                    model=None,
                )
            )
        yield Waiting(here, images[0].StudyInstanceUID, objects)
