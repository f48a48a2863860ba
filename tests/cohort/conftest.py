"""A pipeline that is built once for the tests of a file, whose models take seconds to load."""

import pytest

from cxr_dicom.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline(request):
    built = Pipeline(request.module.SETTINGS)
    yield built
    built.close()
