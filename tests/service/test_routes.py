"""Which destinations a study goes to: every rule that is given has to pass."""

from dataclasses import replace
from pathlib import Path

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.config.service import Rules
from cxr_dicom.records import InstanceResult, Outcome, Presence, StudyResult
from cxr_dicom.service.routes import applies, routes
from cxr_dicom.synthetic import radiograph
from tests.painted import analysis


@pytest.fixture
def done(selected):
    """A processed image of modality CR from ER, with pleural effusion called present."""
    image = selected(radiograph(160, 128, modality="CR"))
    image = replace(image, instance=replace(image.instance, sender="ER"))
    return InstanceResult(
        path=Path("x"), outcome=Outcome.PROCESSED, instance=image.instance, image=image, analysis=analysis(image)
    )


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({}, True),
        ({"modalities": ("CR", "DX")}, True),
        ({"modalities": ("DX",)}, False),
        ({"senders": ("ER",)}, True),
        ({"senders": ("WARD",)}, False),
        ({"findings": ("pleural_effusion",)}, True),
        ({"findings": ("hernia",)}, False),
        ({"modalities": ("CR",), "senders": ("WARD",)}, False),
    ],
)
def test_each_rule_has_to_pass(done, rules, passes):
    assert applies(Rules(**rules), [done]) is passes


def test_what_is_absent_is_no_finding(done):
    called = {each.name: each.call for part in done.analysis.predictions for each in part.findings}
    absent = next(name for name, call in called.items() if call is not Presence.PRESENT)
    assert not applies(Rules(findings=(absent,)), [done])


def test_an_image_that_was_not_processed_opens_no_way(done):
    settings = Settings(
        destinations=[
            {"kind": "folder", "name": "all", "path": "/x", "rules": {"kinds": ["segmentation"]}},
            {"kind": "folder", "name": "er", "path": "/y", "rules": {"senders": ["ER"]}},
        ]
    )
    study = StudyResult(study_instance_uid="1.2", job_key="k", instances=(done,))
    assert [(each.destination, each.verify, set(each.kinds)) for each in routes(study, settings)] == [
        ("all", False, {"segmentation"}),
        ("er", False, set()),
    ]
    failed = replace(study, instances=(replace(done, outcome=Outcome.FAILED),))
    assert [each.destination for each in routes(failed, settings)] == ["all"]
