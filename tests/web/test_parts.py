"""The headers of parts of a store request are few and short."""

import pytest

from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.dicomweb.parts import Parts

TYPE = "Content-Type: application/dicom"


def read(*headers):
    parts = Parts('multipart/related; type="application/dicom"; boundary=b')
    lines = "\r\n".join(("--b", TYPE, *headers, "", "x", "--b--", ""))
    return list(parts.read(lines.encode()))


@pytest.mark.parametrize("headers", [["X: y"] * 15, [f"X: {'y' * 1000}"]], ids=["16", "1 kB"])
def test_what_a_part_may_have(headers):
    assert read(*headers) == ["application/dicom", b"x", None]


@pytest.mark.parametrize(
    "headers", [["X: y"] * 16, [f"X: {'y' * 1025}"], [f"{'X' * 1025}: y"]], ids=["17", "value", "name"]
)
def test_what_is_more_is_refused(headers):
    with pytest.raises(NotAnsweredError) as refused:
        read(*headers)
    assert refused.value.status == 400
