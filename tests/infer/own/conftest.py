"""Build a model from a table."""

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.infer import build_models


def settings(*tables, **models):
    names = tuple(table["name"] for table in tables)
    return Settings.model_validate({"models": {"names": names, "device": "cpu", "own": tables, **models}})


@pytest.fixture
def build():
    def make(table, **models):
        (model,) = build_models(settings(table, **models))
        return model

    return make
