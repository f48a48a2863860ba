"""What the tests of manifests begin with: images in a folder, and a file to list them."""

import pytest

from cxr_dicom import synthetic
from cxr_dicom.ingest.manifest import idc


def small(**attributes):
    return synthetic.radiograph(40, 32, **attributes)


@pytest.fixture
def images(tmp_path):
    """Three images of two studies below ``images``: the second study has the first and the last file."""
    synthetic.write_study(
        tmp_path / "images", [small(study="2", seed=1), small(study="1", seed=2), small(study="2", seed=3)]
    )
    return tmp_path / "images"


@pytest.fixture
def written(tmp_path):
    """Write a manifest and return its path."""

    def write(content, name="cohort"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def no_index(monkeypatch):
    monkeypatch.setattr(idc, "index", lambda: None)
