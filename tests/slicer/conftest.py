"""The module for 3D Slicer: its library from the folder of the extension, and one real run that it shows."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from tests import ROOT

sys.path.insert(0, str(ROOT / "slicer" / "CXR" / "CXR"))


@pytest.fixture(scope="session")
def program():
    found = shutil.which("cxr-dicom", path=sysconfig.get_path("scripts"))
    assert found, "cxr-dicom is not installed"
    return Path(found)


@pytest.fixture(scope="session")
def results(program, real, tmp_path_factory):
    """What cxr-dicom says of the real radiograph, whose Pixel Spacing is 0\\0, and of an extremity."""
    from CXRLib import analysis

    slicers_own = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "LD_PRELOAD": ""}
    return analysis.analyse(
        program,
        [real("RG1_UNCR.dcm"), real("RG3_UNCR.dcm")],
        tmp_path_factory.mktemp("slicer") / "out",
        models="offline-anatomy,lung-opacity",
        environment={**os.environ, **slicers_own},
    )
