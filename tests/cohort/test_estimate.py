"""What a cohort will take: counted from headers, and from one trial that is divided by images and workers."""

from dataclasses import replace
from itertools import count

import pytest

from cxr_dicom import synthetic
from cxr_dicom.cohort import estimate as module
from cxr_dicom.cohort.estimate import estimate
from cxr_dicom.config import Settings
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.manifest import Entry

SETTINGS = Settings.model_validate(
    {"models": {"names": ["offline-anatomy"], "device": "cpu"}, "encode": {"objects": ["seg"]}}
)


@pytest.fixture(autouse=True)
def built_once(pipeline, monkeypatch):
    monkeypatch.setattr(module, "Pipeline", lambda settings: pipeline)
    monkeypatch.setattr(pipeline, "close", lambda: None)


@pytest.fixture
def ticking(monkeypatch):
    """Let two seconds pass between any two looks at the clock."""
    ticks = count(0, 2)
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks))


@pytest.fixture
def cohort(tmp_path):
    """Return a manifest of studies with one image each; of these lists the views."""

    def make(*views):
        for number, view in enumerate(views):
            image = synthetic.radiograph(64, 48, study=str(number), seed=number, ViewPosition=view)
            synthetic.write_study(tmp_path / "in" / str(number), [image])
        return manifest.read(str(tmp_path / "in"))

    return make


@pytest.mark.usefixtures("ticking")
def test_what_is_not_here_is_taken_to_be_like_what_is(cohort):
    here = cohort("PA", "LL", "AP", "LL")
    elsewhere = Entry(key="a", sources=("s3://one/1",), instances=6), Entry(key="b", sources=("s3://one/2",))
    found = estimate(replace(here, entries=(*here.entries, *elsewhere)), SETTINGS, workers=4)
    assert (found.looked_at, found.eligible, found.reasons) == (4, 2, {"NOT_FRONTAL": 2})
    assert found.images == round((4 + 6 + 1) / 2), "an entry that does not tell has one"
    assert found.seconds == found.images * 2 / 4
    assert not found.is_synthetic


def test_bytes_are_those_of_the_objects_of_one_image_for_each(cohort, pipeline, tmp_path):
    here = cohort("PA", "PA")
    result = pipeline.process(here.entries[0].study, tmp_path / "out")
    size = sum(made.path.stat().st_size for instance in result.instances for made in instance.objects)
    assert estimate(here, SETTINGS, workers=1).bytes == 2 * size


def test_of_many_studies_some_are_looked_at_from_the_first_to_the_last(cohort, monkeypatch):
    monkeypatch.setattr(module, "LOOKED_AT", 3)
    found = estimate(cohort("PA", "PA", "PA", "LL", "LL", "LL", "LL"), SETTINGS, workers=1)
    assert (found.looked_at, found.eligible) == (3, 1)
    assert found.survey.instances == 7
    assert found.images == 2


@pytest.mark.usefixtures("ticking")
def test_where_no_image_is_eligible_a_typical_one_is_tried(cohort, monkeypatch):
    monkeypatch.setattr(module, "_TYPICAL", (64, 48))
    found = estimate(cohort("LL"), SETTINGS, workers=1)
    assert (found.is_synthetic, found.eligible, found.images, found.seconds, found.bytes) == (True, 0, 0, 0, 0)
    nothing = replace(cohort(), entries=[Entry(key="a", sources=("s3://one/1",), instances=3)])
    found = estimate(nothing, SETTINGS, workers=1)
    assert (found.looked_at, found.images, found.seconds) == (0, 3, 6)
    assert found.bytes > 0
