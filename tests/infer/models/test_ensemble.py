"""The mean of calibrated scores, as a line in the config."""

import pytest

from cxr_dicom.errors import ModelError
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.infer.models import ensemble
from cxr_dicom.records import Finding, Prediction, Presence


def finding(label, probability, threshold=0.1):
    kind = FINDINGS[label]
    return Finding(
        name=kind.name,
        code=kind.code,
        site=kind.site,
        raw=probability / 2,
        probability=probability,
        operating_point=threshold,
        call=Presence.ABSENT,
    )


def predict(*members):
    model = ensemble.build("ensemble", None)
    predictions = [Prediction(model=model.info, findings=findings) for findings in members]
    return {each.name: each for each in model.predict(None, predictions).findings}


def test_scores_are_the_mean_of_those_that_have_an_operating_point():
    found = predict(
        (finding("Mass", 0.8), finding("Edema", 0.2)), (finding("Mass", 0.4), finding("Fracture", 0.9, None)), ()
    )
    assert set(found) == {"mass", "edema"}
    assert found["mass"].probability == pytest.approx(0.6)
    assert found["mass"].call is Presence.PRESENT
    assert found["edema"].probability == pytest.approx(0.2)
    assert found["edema"].call is Presence.ABSENT
    assert found["mass"].operating_point == 0.5


def test_it_joins_real_classifiers(home, dx):
    members = [home.build(name).predict(dx, ()) for name in ("xrv-densenet121-nih", "xrv-densenet121-chex")]
    scores = [{each.name: each.probability for each in member.findings} for member in members]
    joined = {each.name: each for each in ensemble.build("ensemble", None).predict(dx, members).findings}
    assert set(joined) == set(scores[0]) | set(scores[1])
    assert joined["edema"].probability == pytest.approx((scores[0]["edema"] + scores[1]["edema"]) / 2)
    assert joined["hernia"].probability == scores[0]["hernia"]


def test_without_a_classifier_before_it_there_is_an_error():
    with pytest.raises(ModelError, match=r"models\.names"):
        predict(())
