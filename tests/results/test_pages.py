"""Numbers as people write them."""

import pytest

from cxr_dicom.results import pages


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 9, "0%"),
        (9, 9, "100%"),
        (1, 100_000, "<0.1%"),
        (99_999, 100_000, ">99.9%"),
        (1, 16, "6.2%"),
        (1, 3, "33%"),
        (0, 0, "–"),
    ],
)
def test_a_share_never_hides_the_few(part, whole, text):
    assert pages.share(part, whole) == text


@pytest.mark.parametrize(("value", "text"), [(0.456, "0.46"), (12.34, "12.3"), (1234.5, "1,234"), (-123.4, "-123")])
def test_an_amount_has_the_digits_it_deserves(value, text):
    assert pages.amount(value) == text
