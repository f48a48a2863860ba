"""What a body says of an object (PS3.18 10.5.3): nothing, unless it names the object and does not contradict itself."""

import json

import pytest

from cxr_dicom.deliver.store_response import said_of
from cxr_dicom.records import DeliveryStatus
from tests.deliver.helpers import item, response

OURS, OTHER = "2.25.1", "2.25.2"


def said(body):
    found = said_of([OURS], body if isinstance(body, bytes) else json.dumps(body).encode()).get(OURS)
    return found and (found.verdict, found.reason)


@pytest.mark.parametrize(
    "body",
    [
        response(stored=[item(OURS)]),
        [response(stored=[item(OURS)])],
        [response(stored=[item(OTHER)]), response(stored=[item(OURS)])],
        response(stored=[item(OURS), item(OURS)]),
        response(stored=[item(f"{OURS}\0")]),
        response(stored=[item(OURS)], failed=[item(OTHER, reason=0xA900), item(reason=0xC000)]),
        response(stored=[item(OURS, warning=0)]),
        response(stored=[item(OURS, warning=-1)]),
        {"00081190": {"vr": "UR"}, **response(stored=[item(OURS)])},
    ],
)
def test_what_is_named_among_the_stored_is_stored(body):
    assert said(body) == (DeliveryStatus.ACCEPTED, 0)


@pytest.mark.parametrize(
    "body",
    [
        *({}, [], None, True, 7, "text", b"", b"<html><body>Sign in</body></html>", b"\xff\xfe", b"[" * 100_000),
        response(stored=[item(OTHER)]),
        response(stored=[item()]),
        response(stored=[OURS, None, [item(OURS)]]),
        {"00081199": [item(OURS)]},
        {"00081199": {"vr": "SQ", "Value": {"0": item(OURS)}}},
        {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": OURS}}]}},
        {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [[OURS]]}}]}},
        response(failed=[item(OTHER, reason=0xA900)]),
        response(stored=[item(OURS)], failed=[item(OURS, reason=0xA900)]),
        response(failed=[item(OURS, reason=0)]),
        response(failed=[item(OURS, reason=0xB000)]),
    ],
)
def test_what_names_nothing_or_contradicts_itself_says_nothing(body):
    assert said(body) is None


@pytest.mark.parametrize("code", [0xB000, 0xB006, 0xB007, 0xB100, 0x0001])  # AWS has 45312, Azure 1
def test_a_warning_is_told(code):
    assert said(response(stored=[item(OURS, warning=code)])) == (DeliveryStatus.WARNING, code)


@pytest.mark.parametrize("of", [OURS, None])
@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (0x0110, DeliveryStatus.FAILED),
        (0xA700, DeliveryStatus.FAILED),
        (0xA900, DeliveryStatus.REFUSED),
        (0xC122, DeliveryStatus.REFUSED),
        (0x0122, DeliveryStatus.UNSUPPORTED),
        (0x0111, DeliveryStatus.ACCEPTED),
        (45070, DeliveryStatus.ACCEPTED),
        (45071, DeliveryStatus.FAILED),
    ],
)
def test_a_failure_is_that_of_the_only_object_unless_it_names_another(of, code, verdict):
    assert said(response(failed=[item(of, reason=code)])) == (verdict, code)
    assert said({"0008119A": response(failed=[item(reason=code)])["00081198"]}) == (verdict, code)


@pytest.mark.parametrize("code", [-1, 0x10000, 10**30, 1e400, "many", None, [1], {}])
def test_a_reason_that_is_no_code_is_a_failure_of_processing(code):
    assert said(response(failed=[item(OURS, reason=code)])) == (DeliveryStatus.FAILED, 0x0110)
