import pytest

from cxr_dicom.encode.common import write
from cxr_dicom.encode.objects import parametric_map
from cxr_dicom.ingest.folder import scan
from cxr_dicom.select import select
from cxr_dicom.synthetic import radiograph
from tests import painted
from tests.deliver.helpers import Waiting
from tests.service_helpers import as_object, free_port, listening


@pytest.fixture
def spool(tmp_path):
    """Give a ledger with three objects that wait for the destination ``pacs``, and what carries them."""
    images = [radiograph(32, 32, seed=seed) for seed in range(3)]
    with listening(tmp_path / "spool", listener={"port": free_port()}) as here:
        objects = []
        for image in images:
            path = here.spool.folder / "objects" / f"{image.SOPInstanceUID}.dcm"
            image.save_as(path, enforce_file_format=True)
            objects.append(as_object(path, image))
        yield Waiting(here, images[0].StudyInstanceUID, objects)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give an object on the disk."""
    return _object(tmp_path_factory.mktemp("object"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Give an object that no buffer of a socket holds."""
    return _object(tmp_path_factory.mktemp("object"), more=16 << 20)


@pytest.fixture
def deflated(tmp_path):
    """A parametric map on the disk."""
    source = tmp_path / "source.dcm"
    radiograph(96, 80).save_as(source, enforce_file_format=True)
    (study,), _ = scan([source])
    (image,) = select(study, painted.settings().select).images
    encoder = parametric_map.build(painted.settings())
    (encoded,) = encoder.encode(painted.study(painted.analysis(image)))
    return write(encoded, tmp_path / "objects")


def _object(folder, more=0):
    image = radiograph(16, 16)
    image.PixelData += bytes(more)
    path = folder / "object.dcm"
    image.save_as(path, enforce_file_format=True)
    return as_object(path, image)
