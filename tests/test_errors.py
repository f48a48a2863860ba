"""Errors cross processes: a worker's error ends the run in the parent, with its own words."""

import pickle

import pytest

from cxr_dicom.errors import ConnectionFailedError, ImageError, WeightsError
from cxr_dicom.ingest.intake import Refusal, RefusedError
from cxr_dicom.records import Reason


@pytest.mark.parametrize(
    "error",
    [
        WeightsError("missing"),
        ImageError(Reason.UNREADABLE, "gone"),
        RefusedError(Refusal.NO_SPACE, "full"),
        ConnectionFailedError("TIMEOUT", "no answer", 5.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_on_the_other_side(error):
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
