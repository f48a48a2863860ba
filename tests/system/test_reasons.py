"""What a peer says in JSON, and its own words."""

import pytest
import requests

from cxr_dicom.deliver.store_response import said_of
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.ingest.dicom_json import items_of
from cxr_dicom.system import reasons

NOTHINGS = b"[" + b"{}," * 998 + b"[]]"


def answered(content, status=200):
    answer = requests.Response()
    answer.status_code, answer._content = status, content
    answer.headers["Content-Type"] = "application/json"
    return answer


def test_json_of_so_many_values_that_they_fill_the_memory_is_none(monkeypatch):
    monkeypatch.setattr(reasons, "MOST_VALUES", 2 * 998 + 2)
    assert len(reasons.values_of(NOTHINGS)) == len(items_of(answered(NOTHINGS))) == 999
    monkeypatch.setattr(reasons, "MOST_VALUES", 2 * 998 + 1)
    with pytest.raises(ValueError, match="at most 1997 values and brackets, found more"):
        reasons.values_of(NOTHINGS)
    with pytest.raises(ConnectionFailedError, match="expected DICOM JSON"):
        items_of(answered(NOTHINGS))
    assert said_of(["1.2"], NOTHINGS) == {}
    assert reasons.reason_of(answered(NOTHINGS, 500))
