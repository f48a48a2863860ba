"""Numbers as Prometheus reads them."""

import pytest

from cxr_dicom.service.metrics import exposition


@pytest.mark.parametrize("value", [0.0, 1.0, 12_345_678.0, 987_654_321.125])
def test_a_counter_is_exact_however_large_it_is(value):
    (kind, line) = exposition([("received_total", {}, value)]).splitlines()
    assert kind == "# TYPE cxr_dicom_received_total counter"
    assert float(line.split()[-1]) == value


def test_labels_are_quoted():
    (_, line) = exposition([("studies", {"state": 'a"b\\c\nd'}, 2)]).splitlines()
    assert line == r'cxr_dicom_studies{state="a\"b\\c\nd"} 2'
