"""The conformance statement names what the program writes."""

import re
from pathlib import Path

import pytest

import cxr_dicom
from cxr_dicom.encode import common, encoder_names

PACKAGE = Path(cxr_dicom.__file__).parent
STATEMENT = (PACKAGE.parent / "docs" / "conformance.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("code", sorted(set(re.findall(r'private\(\s*"([A-Z_]+)"', SOURCES))))
def test_every_private_code_is_defined(code):
    assert f"`{code}`" in STATEMENT


@pytest.mark.parametrize("name", encoder_names())
def test_every_kind_of_object_is_listed(name):
    assert re.search(rf"\| written \| `{name}` \|", STATEMENT)


def test_the_implementation_is_named():
    assert f"`{common._IMPLEMENTATION_CLASS_UID}`" in STATEMENT
