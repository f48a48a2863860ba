import pytest

from cxr_dicom.config_service import Rules
from cxr_dicom.records import (
    Call,
    Code,
    Finding,
    ImageAnalysis,
    InstanceResult,
    ModelInfo,
    Outcome,
    Prediction,
    Statement,
)
from cxr_dicom.testing import radiograph
from cxr_dicom.worker import _applies

CODE = Code(value="1", scheme="99TEST", meaning="test")


def finding(name, call):
    return Finding(name=name, code=CODE, site=None, raw=0.5, probability=0.5, operating_point=0.5, call=call)


@pytest.fixture
def processed(selected):
    """Give a result in which an effusion is present, a nodule absent, and the heart too large."""
    image = selected(radiograph(64, 48))
    model = ModelInfo(
        name="m",
        version="1",
        title="",
        predicts=(),
        input_size=None,
        manufacturer="",
        licence="",
        citation="",
    )
    prediction = Prediction(
        model=model,
        findings=(finding("effusion", Call.PRESENT), finding("nodule", Call.ABSENT)),
        statements=(
            Statement(name="large_heart", concept=CODE, call=Call.PRESENT, rule="over half", measurement="ratio"),
        ),
    )
    analysis = ImageAnalysis(image=image, pixel_sha256="", predictions=(prediction,))
    return [
        InstanceResult(path=image.instance.path, outcome=Outcome.PROCESSED, instance=image.instance, analysis=analysis)
    ]


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({}, True),
        ({"modalities": ["CR", "DX"]}, True),
        ({"modalities": ["CR"]}, False),
        ({"findings": ["effusion"]}, True),
        ({"findings": ["nodule"]}, False),
        ({"findings": ["nodule", "large_heart"]}, True),
        ({"modalities": ["DX"], "findings": ["nodule"]}, False),
        ({"senders": ["MODALITY"]}, False),
    ],
)
def test_every_rule_must_be_met(processed, rules, passes):
    assert _applies(Rules.model_validate(rules), processed) is passes
