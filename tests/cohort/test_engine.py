"""Which engine does the work, and what each one refuses."""

import pytest

from cxr_dicom.cohort.engine import SMALL, EngineOptions, build_engine, default_engine
from cxr_dicom.errors import SettingsError


@pytest.mark.parametrize(
    ("entries", "workers", "expected"),
    [(0, None, "here"), (SMALL, None, "here"), (SMALL + 1, None, "local"), (1, 1, "local"), (1, 2, "local")],
)
def test_a_few_stay_in_this_process_unless_workers_are_asked_for(entries, workers, expected):
    options = EngineOptions(workers=workers)
    name = default_engine(entries, options)
    assert name == expected == build_engine(name, options).description.name


@pytest.mark.parametrize("asked", [{"address": "auto"}, {"gpus_per_worker": 0.5}])
@pytest.mark.parametrize("entries", [1, SMALL + 1])
def test_the_engine_that_nobody_named_refuses_what_it_has_not(entries, asked):
    options = EngineOptions(**asked)
    with pytest.raises(SettingsError, match="is not for --engine"):
        build_engine(default_engine(entries, options), options)
