"""Build a model from a table."""

import pytest

from cxr_dicom.infer import build_models
from tests.service_helpers import as_loaded


def settings(*tables, **models):
    names = tuple(table["name"] for table in tables)
    return as_loaded({"models": {"names": names, "device": "cpu", "own": tables, **models}})


@pytest.fixture
def build():
    def make(table, **models):
        (model,) = build_models(settings(table, **models))
        return model

    return make
