"""Reports about what was painted."""

import pytest

from cxr_dicom.encode.common import write
from cxr_dicom.records import ObjectKind
from tests import painted
from tests.encode.objects.sr_items import Reports


@pytest.fixture
def reports(encoded, tmp_path):
    """Return the reports of one image, written and read again."""
    import pydicom

    def of(image, analysis=None, skipped=(), **settings):
        study = painted.study(analysis or painted.analysis(image), skipped=skipped)
        made = {kind: [] for kind in ObjectKind}
        for each in encoded("sr", study, painted.settings(**settings)):
            made[each.kind].append(pydicom.dcmread(write(each, tmp_path / "out").path))
        (findings,) = made[ObjectKind.FINDINGS_REPORT]
        return Reports(made[ObjectKind.MEASUREMENT_REPORT], made[ObjectKind.STRUCTURE_REPORT], findings)

    return of
