"""The BINARY twin of a label map is valid and consistent with its source."""

import pytest

from cxr_dicom import synthetic
from cxr_dicom.dicom.files import read_whole
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.binary_fallback import binary_fallback_of
from cxr_dicom.encode.common import write
from tests import painted, validators


@pytest.fixture(scope="module", params=["viewer", "strict"])
def geometry(request):
    return request.param


@pytest.fixture(scope="module", params=["CR", "DX"])
def analysis(request, chest_image):
    return painted.analysis(chest_image(synthetic.radiograph(97, 81, modality=request.param)))


@pytest.fixture(scope="module")
def binary_fallback(analysis, encode, geometry, tmp_path_factory):
    """The twins of two lungs, and of the heart."""
    label_maps = encode(painted.study(analysis), "seg", geometry=geometry)
    folder = tmp_path_factory.mktemp("twins")
    return [
        write(
            Encoded(each.kind, binary_fallback_of(read_whole(each.path)), each.source_sop_instance_uids, each.model),
            folder,
        )
        for each in label_maps
    ]


def test_dciodvfy_finds_no_error(binary_fallback, validate):
    assert len(binary_fallback) == 2
    assert validate(each.path for each in binary_fallback) == {}


def test_dcentvfy_finds_no_error_beside_the_source(analysis, binary_fallback):
    paths = [*(each.path for each in binary_fallback), analysis.image.instance.path]
    assert validators.errors(validators.dcentvfy(paths)) == []
