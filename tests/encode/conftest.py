"""Encode what was painted, and look at the data sets."""

import importlib

import pytest

from cxr_dicom import synthetic
from cxr_dicom.encode.common import write


@pytest.fixture
def image(selected):
    """A DX image whose Rows x Columns is a multiple of 8."""
    return selected(synthetic.radiograph(96, 80))


@pytest.fixture
def encoded():
    """Return the objects of one kind, not yet written."""

    def encode(kind, study, settings):
        return list(importlib.import_module(f"cxr_dicom.encode.objects.{kind}").build(settings).encode(study))

    return encode


@pytest.fixture
def written(encoded, tmp_path):
    """Return the objects of one kind as written files, read again."""
    import pydicom

    def encode(kind, study, settings, folder="out"):
        objects = [write(each, tmp_path / folder) for each in encoded(kind, study, settings)]
        return [pydicom.dcmread(each.path) for each in objects]

    return encode
